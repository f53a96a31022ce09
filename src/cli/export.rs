//! `pannier export`.

mod lane;
mod place;
mod report;
mod requests;
mod root_files;
mod values;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build_on::BuildArgs;
use super::failure::{Ended, Failure};
use super::output::Output;
use super::registry::RegistryArgs;
use super::size::Size;
use super::source::Access;
use super::wanted::{self, WantedArgs};
use super::{signals, volumes};
use crate::error::{Error, Result};
use crate::export::{Destinations, Options, Prepared, Referrers, carry_out, prepare, spread};
use crate::image::{Platform, Reference};
use crate::layer::Zstd;
use crate::lists::references::Names;
use crate::medium::Medium;
use crate::progress::{Reporter, Run, Stop};
use crate::record::Level;
use crate::recovery::Percent;
use crate::source::{LocalFiles, NamedPath, Platforms, Source, SourceSpec};
use crate::trust::SigningKey;
use lane::{Expires, LaneSetting};
use requests::{targets, wanted};
use values::Compression;
pub(super) use values::Rename;

/// Fewest bytes of a part: a blob has at most 256 of them, each of which is opened to read it.
const LEAST_PART: u64 = 1 << 20;

/// Write images to a medium as one deduplicated, compressed OCI layout
///
/// Only what the medium lacks is written: layers are compared by their content, whatever tool
/// compressed them. When it is cut off, the same command goes on.
#[derive(Debug, clap::Args)]
#[command(help_template = super::HELP, after_help = "\
Examples:
  pannier export nginx:1.22 ghcr.io/canonical/k8s-snap/pause:3.10 --to /media/stick
  helm template ./chart | pannier export --manifests - --to /media/stick
  pannier export --from oci:./layout --all --to /media/stick
  pannier export --from containerd --list images.txt --to /media/stick
  pannier export --file k8s.snap --file k8s.assert --file core22.snap --to /media/stick
  pannier export --from docker-archive:app.tar --as registry.local/app:1 --to /media/stick
  pannier export --list images.txt --with-pannier --to /media/stick
  pannier export --list images.txt --to /media/stick1 --to /media/stick2")]
pub(super) struct Args {
    #[command(flatten)]
    wanted: WantedArgs,
    /// The medium's directory; may be given several times
    ///
    /// The medium's directory; it is made if it is not there. Given several times, the images are spread over the media
    #[arg(long, value_name = "MEDIUM", required_unless_present = "list_only", help_heading = "Where to")]
    to: Vec<PathBuf>,
    /// Write layers that are longer than SIZE in parts of SIZE, for a medium whose files cannot be as long: FAT32
    #[arg(long, value_name = "SIZE", num_args = 0..=1, require_equals = true, default_missing_value = "4095MiB", help_heading = "Where to", hide_short_help = true)]
    split: Option<Size>,
    /// Spread the images over directories of at most so much, such as 14.5GB
    ///
    /// Spread the images over directories volume-1, volume-2 and so on below --to, of at most so much each, such as 14.5GB
    #[arg(long, value_name = "SIZE", help_heading = "Where to")]
    volumes: Option<Size>,
    /// registry, containerd, oci:DIR, oci-archive:FILE, docker-archive:FILE, medium:DIR
    ///
    /// Where the images are: registry, containerd, oci:DIR, oci-archive:FILE, docker-archive:FILE or medium:DIR
    #[arg(long, value_name = "SOURCE", default_value = "registry", help_heading = "What")]
    from: SourceSpec,
    /// The socket of the containerd that is the source [default: where distributions put it]
    #[arg(
        long,
        short,
        value_name = "SOCKET",
        env = "CONTAINERD_ADDRESS",
        help_heading = "What",
        hide_short_help = true
    )]
    address: Option<PathBuf>,
    /// The namespace of the containerd that is the source
    #[arg(
        long,
        short,
        value_name = "NAME",
        env = "CONTAINERD_NAMESPACE",
        default_value = "k8s.io",
        help_heading = "What",
        hide_short_help = true
    )]
    namespace: String,
    /// Every image that the source lists
    ///
    /// Every image that the source lists, and every file of another medium
    #[arg(long, conflicts_with_all = ["images", "list", "manifests"], help_heading = "What")]
    all: bool,
    /// Such as linux/arm64, or all [default: this machine's]
    ///
    /// A platform such as linux/arm64, or all; may be given several times [default: this machine's]
    #[arg(long, value_name = "PLATFORM", help_heading = "What")]
    platform: Vec<String>,
    /// zstd, zstd:LEVEL, zstd:LEVEL,window=LOG, or none to keep every blob as it is
    #[arg(long, value_name = "HOW", default_value_t = Compression(Some(Zstd::default())), help_heading = "Where to", hide_short_help = true)]
    compression: Compression,
    /// The name for the one image that is asked for, that is there, or that has no full name at the source
    #[arg(long = "as", value_name = "REF", help_heading = "What", hide_short_help = true)]
    rename_to: Option<Reference>,
    /// Carry images under another registry or path; may be given several times
    #[arg(long, value_name = "FROM=TO", help_heading = "What", hide_short_help = true)]
    rename: Vec<Rename>,
    /// Leave out what nodes have: an inventory of one, or medium:DIR
    ///
    /// What the nodes have that the medium is for: a file of `pannier inventory`, or medium:DIR, which all of them
    /// have imported. It is left out, and layers close to it are carried as what differs. May be given several times:
    /// what every inventory has counts
    #[arg(long, value_name = "WHAT", help_heading = "Where to")]
    have: Vec<String>,
    /// Take inventories of --have only if somebody in this file (OpenSSH's format) signed them
    #[arg(long, value_name = "FILE", requires = "have", help_heading = "Trust", hide_short_help = true)]
    inventory_signers: Option<PathBuf>,
    /// Carry every layer whole that the nodes lack
    #[arg(long, help_heading = "Where to", hide_short_help = true)]
    no_delta: bool,
    /// Leave signatures, attestations and SBOMs that refer to the images
    #[arg(long, help_heading = "What", hide_short_help = true)]
    no_referrers: bool,
    /// Fail where a signature, attestation or SBOM is listed and cannot be had [default: carry the image without it]
    #[arg(long, conflicts_with = "no_referrers", help_heading = "What", hide_short_help = true)]
    require_referrers: bool,
    /// Make recovery data, such as 10%
    ///
    /// Make recovery data of everything on the medium, such as 10%, so that `pannier repair` needs no source; none removes them [default: as before]
    #[arg(long, value_name = "PERCENT", help_heading = "Care")]
    recovery: Option<Percent>,
    /// Carry a file as well, such as a snap
    ///
    /// Carry a file as well that an installation needs, such as a snap or a program, under its name or another;
    /// `pannier extract` gets it back. May be given several times
    #[arg(long, value_name = "[NAME=]PATH", help_heading = "What")]
    file: Vec<NamedPath>,
    /// Put this program and a README on the medium
    ///
    /// Put this program and a README at the medium's root, for a node that has neither; PATH is another build, for
    /// another processor [default: this one, if it is linked statically]
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, help_heading = "Where to")]
    with_pannier: Option<Option<PathBuf>>,
    /// Carry the other images when one fails
    #[arg(long, help_heading = "Care")]
    keep_going: bool,
    /// Say what would be done, and write nothing
    #[arg(long, help_heading = "Care")]
    dry_run: bool,
    /// Do not read everything back before it is committed
    #[arg(long, help_heading = "Care", hide_short_help = true)]
    no_verify: bool,
    /// The lane that the medium travels in: only nodes in it take the medium; none for all nodes that are in none [default: as before]
    #[arg(long, value_name = "NAME", help_heading = "Trust", hide_short_help = true)]
    lane: Option<LaneSetting>,
    /// Until when nodes take the medium: 90d, 12w, 2027-01-31
    ///
    /// From when on no node takes the medium, such as 90d, 12w, 2027-01-31 (UTC), or none [default: as before]
    #[arg(long, value_name = "WHEN", help_heading = "Trust")]
    expires: Option<Expires>,
    /// Sign with an SSH key
    ///
    /// Sign the commit record: a private SSH key, or a public one or certificate whose private one is in an agent, in hardware or beside it
    #[arg(long, value_name = "KEY", help_heading = "Trust")]
    sign_key: Option<PathBuf>,
    /// Commit only if reading it back proves that much: V0+, V1 (from the device) or V2 (with 1 GiB of other bytes between)
    #[arg(
        long,
        value_name = "LEVEL",
        conflicts_with = "no_verify",
        help_heading = "Care",
        hide_short_help = true
    )]
    require_verify: Option<Level>,
    #[command(flatten)]
    build_on: BuildArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

impl Args {
    fn referrers(&self) -> Referrers {
        match (self.no_referrers, self.require_referrers) {
            (true, _) => Referrers::Left,
            (_, true) => Referrers::Required,
            _ => Referrers::Carried,
        }
    }

    fn to(&self) -> &Path {
        self.to.first().map_or(Path::new(""), PathBuf::as_path)
    }

    /// Whether a word stands for an image by the bare tag that it has in a layout.
    fn may_be_tag(&self, word: &str) -> bool {
        let layout = matches!(
            self.from,
            SourceSpec::OciDir(_) | SourceSpec::OciArchive(_) | SourceSpec::DockerArchive(_)
        );
        layout
            && !self.wanted.list_only
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b))
    }

    /// Where the images go if to more than one medium.
    fn destinations(&self) -> Result<Option<Destinations>> {
        match (self.volumes, self.to.as_slice()) {
            (None, [_]) => Ok(None),
            (None, media) => {
                let distinct: BTreeSet<&PathBuf> = media.iter().collect();
                if distinct.len() < media.len() {
                    return Err(Error::Usage("one medium is named twice with --to".into()));
                }
                Ok(Some(Destinations::Media(media.to_vec())))
            }
            (Some(Size(size)), [below]) => Ok(Some(Destinations::Below(below.clone(), size))),
            (Some(_), _) => {
                Err(Error::Usage("--volumes goes with one --to, below which it makes directories".into()))
            }
        }
    }
}

pub(super) fn run(args: &Args, output: &Output) -> Ended {
    if let Some(Size(bytes)) = args.split.filter(|size| size.0 < LEAST_PART) {
        return Err(Error::Usage(format!("--split {bytes}: parts have at least {LEAST_PART} bytes")).into());
    }
    if args.require_verify == Some(Level::Replugged) {
        let text =
            "V3 is what `pannier verify --require-verify V3` proves after the medium was plugged in again";
        return Err(Error::Usage(text.into()).into());
    }
    let names = args.wanted.named(|word| args.may_be_tag(word), output)?;
    if args.wanted.list_only && names.tags.is_empty() {
        return Ok(wanted::print(&names.images, output)?);
    }
    let stop = signals::stop()?;
    let reporter = output.reporter();
    if args.wanted.list_only {
        let source = open(args, &names, &stop, &reporter)?;
        return Ok(wanted::print(&args.wanted.look_up(names, &*source)?, output)?);
    }
    let run = Run { reporter: &*reporter, stop: &stop };
    let none = names.images.is_empty() && names.tags.is_empty();
    let only_files = none && !args.all && (!args.file.is_empty() || args.with_pannier.is_some());
    let platforms = platforms(args, !only_files, output)?;
    let program = args.with_pannier.as_ref();
    let program = program.map(|path| root_files::program(path.as_deref(), &platforms)).transpose()?;
    let files: Vec<NamedPath> =
        args.file.iter().cloned().chain(program.iter().map(|p| p.file.clone())).collect();
    let options = Options {
        targets: targets(args, &platforms)?,
        deltas: !args.no_delta,
        platforms,
        compression: args.compression.0,
        verify: !args.no_verify,
        require: args.require_verify,
        keep_going: args.keep_going,
        referrers: args.referrers(),
        recovery: args.recovery.map(|percent| percent.0),
        files: Arc::new(LocalFiles::open(&files, run)?),
        source_files: args.all,
        volume: None,
        split: args.split.map(|size| size.0),
        lane: args.lane.clone().map(|setting| setting.0),
        expires: args.expires.map(|setting| setting.0),
        sign_key: args.sign_key.as_deref().map(SigningKey::read).transpose()?,
        at_root: program.map(|program| program.readme),
    };
    if let SourceSpec::Medium(path) = &args.from {
        args.build_on.ask_source(path, output)?;
    }
    let source = open(args, &names, &stop, &reporter)?;
    let named = args.wanted.look_up(names, &*source)?;
    let named: Vec<Reference> = named.into_iter().map(|named| named.image).collect();
    let wanted = wanted(args, named, &*source)?;
    if wanted.is_empty() && files.is_empty() && (!args.all || source.files().is_empty()) {
        return Err(Error::Usage(
            "nothing is named: give IMAGE, --list FILE, --manifests PATH, --all, or --file PATH".into(),
        )
        .into());
    }
    let Some(destinations) = args.destinations()? else {
        let prepare = |medium: Option<&Medium>| prepare(&*source, medium, args.to(), &wanted, &options, run);
        return to_medium(args, args.to(), &*source, prepare, &options, run, output);
    };
    if wanted.is_empty() || !args.file.is_empty() {
        return Err(Error::Usage(
            "images are spread over media, files are not: export the files to one of the media, by a command of their own".into(),
        )
        .into());
    }
    let spread = spread(&*source, &destinations, &wanted, &options, run)?;
    volumes::announce(&spread, output);
    let mut failed = spread.failed;
    for plan in spread.volumes {
        volumes::begin(&plan, output);
        let options = Options { volume: Some(plan.volume.clone()), source_files: false, ..options.clone() };
        let prepare = |medium: Option<&Medium>| plan.prepare(&*source, medium, &options, run);
        match to_medium(args, &plan.path, &*source, prepare, &options, run, output) {
            Err(Failure::Partial { failed: some, .. }) => failed.extend(some),
            other => other?,
        }
    }
    partial(wanted.len(), failed)
}

fn open(
    args: &Args,
    names: &Names,
    stop: &Stop,
    reporter: &Arc<dyn Reporter + Send>,
) -> Result<Box<dyn Source>> {
    let asked =
        || names.images.iter().map(|named| &named.image).chain(names.tags.iter().map(|t| &t.repository));
    let registries = || asked().map(|image| image.registry().to_owned()).collect();
    let access =
        Access { address: args.address.as_deref(), namespace: &args.namespace, registry: &args.registry };
    access.open(&args.from, registries, stop, reporter)
}

/// Exports to the medium at `path` what `prepare` plans for it.
fn to_medium(
    args: &Args,
    path: &Path,
    source: &dyn Source,
    prepare: impl Fn(Option<&Medium>) -> Result<Prepared>,
    options: &Options,
    run: Run<'_>,
    output: &Output,
) -> Ended {
    let mut existing = Medium::find(path)?;
    place::warn(path, existing.is_some(), output);
    if args.dry_run {
        if let Some(medium) = &mut existing {
            args.build_on.ask(medium, options.sign_key.as_ref(), true, output)?;
        }
        return Ok(report::describe(&prepare(existing.as_ref())?, path, output)?);
    }
    let known = existing.as_ref().and_then(|medium| medium.record()).map(|record| record.medium.clone());
    // A first export that cannot begin leaves nothing behind, not even an empty medium.
    let first = match existing {
        None => Some(prepare(None)?),
        Some(_) => None,
    };
    let mut medium = Medium::create(path)?;
    let lock = output.lock_to_export(&mut medium)?;
    args.build_on.ask(&mut medium, options.sign_key.as_ref(), false, output)?;
    options.split.into_iter().for_each(|bytes| medium.split_at(bytes));
    if known.is_some() && known.as_ref() != medium.record().map(|record| &record.medium) {
        return Err(Error::Swapped { path: path.to_owned() }.into());
    }
    output.warn_of_records(&medium);
    let prepared = match first.filter(|_| medium.record().is_none()) {
        Some(prepared) => prepared,
        None => prepare(Some(&medium))?,
    };
    report::announce(&prepared, path, output);
    let was_signed = medium.has_signature()?;
    let summary = carry_out(source, &mut medium, &lock, prepared, options, run)?;
    report::conclude(&summary, path, args.file.len(), output)?;
    report::signed(&summary, options, was_signed, output);
    partial(summary.images + summary.failed.len(), summary.failed)
}

fn partial(total: usize, failed: Vec<(String, Arc<Error>)>) -> Ended {
    if failed.is_empty() { Ok(()) } else { Err(Failure::Partial { total, failed }) }
}

fn platforms(args: &Args, say: bool, output: &Output) -> Result<Platforms> {
    if args.platform.iter().any(|platform| platform == "all") {
        return Ok(Platforms::All);
    }
    if args.platform.is_empty() {
        let host = Platform::host();
        if say {
            output.say(format_args!("Platform {host}, this machine's; --platform names others."));
        }
        return Ok(Platforms::Only(vec![host]));
    }
    let platforms = args.platform.iter().map(|platform| platform.parse());
    platforms.collect::<Result<_, _>>().map(Platforms::Only).map_err(|error| Error::Usage(error.to_string()))
}
