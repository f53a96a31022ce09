//! `pannier bake`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::failure::{Ended, Failure};
use super::node::references;
use super::output::Output;
use super::trust::TrustArgs;
use super::{import as said, planned, signals, text};
use crate::bake::{ContainerdProgram, Distribution, Target, archive, bake};
use crate::containerd::Configuration;
use crate::error::{Error, Result, Side};
use crate::image::{Platform, Reference};
use crate::import::Options;
use crate::progress::Run;
use crate::sysroot;
use crate::trust::Admitted;

/// Put images into the directory of a containerd that does not run
///
/// For images of machines: the root directory of containerd is filled while the image is mounted,
/// and pods start at its first boot with nothing left to import. A containerd of its own is started
/// for that, with its state and socket elsewhere, and ended again. It needs root.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pannier bake /media/stick --root /mnt/image/var/lib/containerd --containerd ./containerd
  pannier bake /media/stick --distro k8s --sysroot /mnt/image
  pannier bake /media/stick --distro k3s --sysroot /mnt/image --as archive")]
pub(super) struct Args {
    /// The medium's directory
    medium: PathBuf,
    /// Images to put there [default: all on the medium]
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// containerd's root directory
    #[arg(long, value_name = "DIR", required_unless_present = "distro")]
    root: Option<PathBuf>,
    /// The distribution whose places are used
    #[arg(long, value_name = "NAME")]
    distro: Option<Distro>,
    /// The system that the distribution's places are below
    #[arg(long, value_name = "DIR", requires = "distro", default_value = "/")]
    sysroot: PathBuf,
    /// Fill containerd's root, or leave one archive that the distribution imports when it starts
    #[arg(long = "as", value_name = "HOW", default_value = "root", requires_if("archive", "distro"))]
    how: How,
    /// The machine's own containerd [default: the one in PATH]
    #[arg(long, value_name = "PATH")]
    containerd: Option<PathBuf>,
    /// The snapshotter that CRI uses on that machine [default: what its configuration names, else overlayfs]
    #[arg(long, value_name = "NAME")]
    snapshotter: Option<String>,
    /// The platform of that machine [default: this one's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Let kubelet collect the images when its disk fills up
    #[arg(long)]
    no_pin: bool,
    /// Put the other images there when one fails
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    trust: TrustArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum How {
    Root,
    Archive,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Distro {
    K8s,
    K3s,
    Rke2,
    Microk8s,
    K0s,
    Kubeadm,
}

impl From<Distro> for Distribution {
    fn from(distro: Distro) -> Self {
        match distro {
            Distro::K8s => Self::K8s,
            Distro::K3s => Self::K3s,
            Distro::Rke2 => Self::Rke2,
            Distro::Microk8s => Self::Microk8s,
            Distro::K0s => Self::K0s,
            Distro::Kubeadm => Self::Kubeadm,
        }
    }
}

/// Its containerd is to be ended, and what it mounted unmounted.
const STOPPING: std::time::Duration = std::time::Duration::from_secs(30);

pub(super) fn run(args: &Args, output: &Output) -> Ended {
    let options = Options {
        images: references(&args.images)?,
        unpack: true,
        pin: !args.no_pin,
        repair: false,
        keep_going: args.keep_going,
        discard_layers: false,
    };
    let stop = signals::stop_within(STOPPING)?;
    let reporter = output.reporter();
    let run = Run { reporter: &*reporter, stop: &stop };
    let medium = args.trust.open(&args.medium, output)?;
    output.warn_of_ignored(&medium);
    if args.how == How::Archive {
        return Ok(write_archive(args, &medium, &options.images, run, output)?);
    }
    let target = target(args, output)?;
    output.say(format_args!(
        "{} is filled by {}, containerd {}.",
        target.root.display(),
        target.program.path.display(),
        target.program.version.text,
    ));
    let baked =
        bake(&medium, &target, &options, run, |prepared, node| planned::announce(prepared, node, output))?;
    let summary = baked.summary;
    said::conclude(&summary, None, output)?;
    if !summary.failed.is_empty() {
        return Err(Failure::Partial {
            total: summary.images + summary.failed.len(),
            failed: summary.failed,
        });
    }
    match baked.missing {
        Some((volume, missing)) if !missing.is_empty() => {
            Err(Failure::VolumesMissing { number: volume.number, of: volume.of, missing })
        }
        _ => {
            output.say(format_args!("{} can be moved to its place.", target.root.display()));
            Ok(())
        }
    }
}

/// Leaves an archive in the distribution's folder.
fn write_archive(
    args: &Args,
    medium: &Admitted,
    images: &[Reference],
    run: Run<'_>,
    output: &Output,
) -> Result<()> {
    let distribution =
        args.distro.map(Distribution::from).ok_or_else(|| Error::Usage("say --distro".into()))?;
    let Some(place) = distribution.images() else {
        return Err(Error::Usage(
            "kubeadm has no folder from which archives are imported; bake into the root".into(),
        ));
    };
    let folder = beneath(&args.sysroot, place.folder)?;
    let platform = platform(args)?.unwrap_or_else(Platform::host);
    let written = archive(medium, images, &platform, &folder, place.zstd, run)?;
    if output.json() {
        return output.document(&json!({
            "event": "summary",
            "archive": written.path,
            "bytes": written.size,
            "images": written.images,
        }));
    }
    output.say(format_args!(
        "{} in {}, {}: imported when the distribution starts.",
        text::count(written.images, "image"),
        written.path.display(),
        text::size(written.size),
    ));
    Ok(())
}

fn platform(args: &Args) -> Result<Option<Platform>> {
    let parse = |text: &str| text.parse().map_err(|error| Error::Usage(format!("{error}")));
    args.platform.as_deref().map(parse).transpose()
}

fn target(args: &Args, output: &Output) -> Result<Target> {
    let program = ContainerdProgram::find(args.containerd.as_deref())?;
    let configuration = configuration(args, &program, output)?;
    let root = match (&args.root, args.distro) {
        (Some(root), _) => root.clone(),
        (None, Some(distro)) => {
            let usual = Distribution::from(distro).root();
            beneath(&args.sysroot, configuration.root().unwrap_or(usual))?
        }
        (None, None) => return Err(Error::Usage("say --root or --distro".into())),
    };
    let named = args.snapshotter.as_deref().or(configuration.snapshotter());
    let snapshotter = named.unwrap_or("overlayfs").to_owned();
    let snapshots = configuration.snapshotter_root(&snapshotter);
    let absolute = |path: PathBuf| std::path::absolute(&path).map_err(Error::io(Side::Node, "find", path));
    Ok(Target {
        root: absolute(root)?,
        system: args.sysroot.clone(),
        program,
        snapshots: snapshots.map(|path| absolute(beneath(&args.sysroot, path)?)).transpose()?,
        snapshotter,
        sandbox: configuration.sandbox_image().map(str::to_owned),
        platform: platform(args)?,
    })
}

/// The configuration of the machine's containerd, where a distribution is named and its image has one.
fn configuration(args: &Args, program: &ContainerdProgram, output: &Output) -> Result<Configuration> {
    let Some(distro) = args.distro.filter(|_| args.root.is_none()) else {
        return Ok(Configuration::default());
    };
    let path = Distribution::from(distro).configuration();
    if !beneath(&args.sysroot, path)?.is_file() {
        return Ok(Configuration::default());
    }
    let read = Configuration::read(&args.sysroot, path, Some(&program.version));
    let read = read.map_err(|reason| Error::invalid(Side::Node, "the image's configuration", reason))?;
    let files: Vec<String> = read.files.iter().map(|file| file.display().to_string()).collect();
    output.say(format_args!("As {} says.", files.join(", ")));
    Ok(read)
}

/// A path of the system below `sysroot`, which must look like one: a directory in which an image was
/// not mounted after all would be filled without a word.
fn beneath(sysroot: &Path, path: &Path) -> Result<PathBuf> {
    if !sysroot.join("etc").is_dir() && !sysroot.join("usr").is_dir() {
        let reason = "there is neither etc nor usr in it; is the image mounted?";
        return Err(Error::invalid(Side::Node, sysroot.display(), reason));
    }
    sysroot::resolve(sysroot, path).ok_or_else(|| {
        let reason = format!("links on the way to {} lead round in a circle", path.display());
        Error::invalid(Side::Node, sysroot.display(), reason)
    })
}
