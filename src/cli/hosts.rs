//! `pannier hosts`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::output::Output;
use super::registry::RegistryArgs;
use super::{signals, text};
use crate::containerd::{Client, find_socket};
use crate::error::{Error, Result, Side};
use crate::image::Reference;
use crate::medium::Medium;
use crate::progress::{Reporter, Stop};
use crate::push::plan::Target;
use crate::serve::hosts::{Distribution, HostsFile, Mirror, Setup};
use crate::source::registry::Registry;

/// Largest CA file that is read, in bytes.
const MAX_CA: u64 = 1 << 20;

/// Write what containerd reads to pull from a mirror, for each distribution
///
/// The files are printed, or written below a directory. The mirror is named as the server too, so that no pull
/// waits for a registry that cannot be reached. With a medium, the registries are those of its images, and
/// --check asks the mirror for each of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pannier hosts --mirror http://10.0.0.1:5000 --distribution k8s-snap
  pannier hosts --mirror https://10.0.0.1:5000 --ca mirror-ca.crt --registry ghcr.io --write /
  pannier hosts --mirror http://10.0.0.1:5000 --check /media/stick")]
pub(super) struct Args {
    /// A medium: the registries are those of its images
    medium: Option<PathBuf>,
    /// The mirror's URL, with the path below which its images are, if there is one
    #[arg(long, value_name = "URL")]
    mirror: Mirror,
    /// Whose files: kubeadm (or any containerd), k8s-snap, k8s-charm, k3s, rke2, k0s, microk8s, talos
    #[arg(long, value_name = "NAME", default_value = "kubeadm")]
    distribution: Distribution,
    /// A registry that the mirror stands for [default: those of the medium's images, else any]
    #[arg(long, value_name = "REGISTRY")]
    registry: Vec<String>,
    /// The CA certificate (PEM) that signed the mirror's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The mirror has each registry's images below its name, as `push --with-registry` puts them
    #[arg(long)]
    with_registry: bool,
    /// Write the files below this directory, which is / on a node
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Ask the mirror for each image of the medium
    #[arg(long, requires = "medium")]
    check: bool,
    /// With --check: have this node pull the first image too, which shows that its containerd reads the files
    #[arg(long, requires = "check")]
    pull: bool,
    /// containerd's socket, for --pull [default: kubelet's, or where distributions put it]
    #[arg(long, short = 'a', env = "CONTAINERD_ADDRESS", value_name = "SOCKET")]
    address: Option<PathBuf>,
    #[command(flatten)]
    access: RegistryArgs,
}

pub(super) fn run(args: &Args, output: &Output) -> Result<()> {
    let medium = args.medium.as_deref().map(Medium::open).transpose()?;
    let mut registries: BTreeSet<String> = args.registry.iter().cloned().collect();
    for registry in &registries {
        if !format!("{registry}/x").parse::<Reference>().is_ok_and(|name| name.registry() == registry) {
            return Err(Error::Usage(format!("{registry} is not a registry's name")));
        }
    }
    let names: Vec<Reference> = match &medium {
        Some(medium) => {
            medium.committed()?.images.iter().flat_map(|image| image.names.iter().cloned()).collect()
        }
        None => Vec::new(),
    };
    if registries.is_empty() {
        registries.extend(names.iter().map(|name| name.registry().to_owned()));
    }
    let setup = Setup {
        mirror: args.mirror.clone(),
        registries,
        ca: args.ca.as_deref().map(certificate).transpose()?,
        with_registry: args.with_registry,
    };
    if args.check {
        return check(args, &names, output);
    }
    let (files, notes) = setup.files(args.distribution).map_err(Error::Usage)?;
    match &args.write {
        Some(root) => {
            files.iter().try_for_each(|file| write(root, file, output))?;
            if output.json() {
                output.document(
                    &json!({ "written": files.iter().map(|file| root.join(&file.path)).collect::<Vec<_>>() }),
                )?;
            }
        }
        None if output.json() => {
            let listed: Vec<_> =
                files.iter().map(|file| json!({ "path": file.path, "content": file.content })).collect();
            output.document(&json!({ "files": listed, "notes": notes }))?;
        }
        None => {
            let text: Vec<String> =
                files.iter().map(|file| format!("# {}\n{}", file.path.display(), file.content)).collect();
            output.data(&text.join("\n"))?;
        }
    }
    for note in notes {
        output.say(format_args!("note: {note}"));
    }
    if setup.mirror.scheme == "http" {
        output.say("note: plain http: whoever is on the way can change what tags mean; what is named by digest is proven");
    }
    Ok(())
}

fn certificate(path: &Path) -> Result<String> {
    let size = fs::metadata(path).map_err(Error::io(Side::Here, "read", path))?.len();
    if size > MAX_CA {
        return Err(Error::Usage(format!("{} is too large for a certificate", path.display())));
    }
    let text = fs::read_to_string(path).map_err(Error::io(Side::Here, "read", path))?;
    match text.contains("-----BEGIN CERTIFICATE-----") {
        true => Ok(text),
        false => Err(Error::Usage(format!("{} has no PEM certificate in it", path.display()))),
    }
}

fn write(root: &Path, file: &HostsFile, output: &Output) -> Result<()> {
    let path = root.join(&file.path);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io(Side::Here, "create", folder))?;
    }
    fs::write(&path, &file.content).map_err(Error::io(Side::Here, "write", &path))?;
    output.say(format_args!("Wrote {}.", path.display()));
    Ok(())
}

/// Asks the mirror for each name, as a client without `ns` does.
fn check(args: &Args, names: &[Reference], output: &Output) -> Result<()> {
    let Mirror { scheme, host, path } = &args.mirror;
    let stop: Stop = signals::stop()?;
    let reporter: std::sync::Arc<dyn Reporter + Send> = output.reporter();
    let mut options = args.access.options(&[host.clone()].into(), &stop, &reporter)?;
    if scheme == "http" {
        options.insecure.insert(host.clone());
    }
    options.ca_files.extend(args.ca.clone());
    let registry = Registry::new(options)?;
    let pannier = Target { registry: host.clone(), prefix: path.clone(), with_registry: args.with_registry };
    let mut missing = Vec::new();
    let tagged: Vec<&Reference> = names.iter().filter(|name| name.tag().is_some()).collect();
    for name in &tagged {
        let place = pannier.place(name, crate::image::Digest::of(b""))?;
        let digest = registry.tag(&place)?;
        if output.json() {
            output.document(&json!({ "name": name, "digest": digest }))?;
        }
        match digest {
            Some(digest) => output.say(format_args!("{name}: {digest}")),
            None => {
                output.complain(format_args!("{name}: the mirror has not got it"));
                missing.push(name.to_string());
            }
        }
    }
    match missing.as_slice() {
        [] => {
            if let Some(first) = tagged.first().filter(|_| args.pull) {
                let socket = find_socket(args.address.as_deref(), true, Side::Node, &stop)?;
                Client::connect(&socket, "k8s.io", Side::Node)?.cri_pull(&first.to_string())?;
                output.say(format_args!("This node has pulled {first}."));
            }
            output.say(format_args!("The mirror has all of it: {}.", text::count(tagged.len(), "name")));
            Ok(())
        }
        some => Err(Error::not_found(Side::Registry, some.join(", "))),
    }
}
