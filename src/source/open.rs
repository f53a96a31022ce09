//! Which source is meant by `--from`, and the opening of those that are files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Source, docker_archive, oci_archive, oci_dir};
use crate::error::{Error, Result};
use crate::progress::Stop;

/// A source as the person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSpec {
    /// `registry`: the registry that each reference names.
    Registry,
    /// `containerd`: the one on this machine.
    Containerd,
    /// `oci:DIR`: an OCI image layout.
    OciDir(PathBuf),
    /// `oci-archive:FILE`: an OCI image layout in a tar.
    OciArchive(PathBuf),
    /// `docker-archive:FILE`: what `docker save` and `podman save` write.
    DockerArchive(PathBuf),
    /// `medium:DIR`: another medium.
    Medium(PathBuf),
}

const KINDS: &str = "registry, containerd, oci:DIR, oci-archive:FILE, docker-archive:FILE or medium:DIR";

impl FromStr for SourceSpec {
    type Err = Error;

    /// Reads the text only; whether the path is there is seen when it is opened.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |reason: &str| Error::Usage(format!("{text:?} is no source: {reason}"));
        let (kind, path) = match text.split_once(':') {
            None if text == "registry" => return Ok(Self::Registry),
            None if text == "containerd" => return Ok(Self::Containerd),
            Some((kind, path)) => (kind, path),
            None if text.contains(['/', '.']) => {
                return Err(refuse("a path needs its kind in front, as in oci:DIR or docker-archive:FILE"));
            }
            None => return Err(refuse(&format!("there are {KINDS}"))),
        };
        let known = match kind {
            "oci" => Self::OciDir,
            "oci-archive" => Self::OciArchive,
            "docker-archive" => Self::DockerArchive,
            "medium" => Self::Medium,
            "registry" | "containerd" => return Err(refuse(&format!("{kind} stands alone"))),
            "docker" | "http" | "https" => {
                return Err(refuse("a registry is --from registry, and images are given in full"));
            }
            _ => return Err(refuse(&format!("there are {KINDS}"))),
        };
        if path.is_empty() {
            return Err(refuse(&format!("it lacks the path behind {kind}:")));
        }
        Ok(known(path.into()))
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry => f.write_str("registry"),
            Self::Containerd => f.write_str("containerd"),
            Self::OciDir(path) => write!(f, "oci:{}", path.display()),
            Self::OciArchive(path) => write!(f, "oci-archive:{}", path.display()),
            Self::DockerArchive(path) => write!(f, "docker-archive:{}", path.display()),
            Self::Medium(path) => write!(f, "medium:{}", path.display()),
        }
    }
}

/// Opens a layout directory or an archive.
///
/// A compressed archive is decompressed into `TMPDIR` first, which `stop` ends early. Errors: usage
/// for sources that are no layout or archive, and for a path that is of another kind than it was
/// given as, with the kind that it looks like.
pub fn open_local(spec: &SourceSpec, stop: &Stop) -> Result<Box<dyn Source>> {
    let opened = match spec {
        SourceSpec::OciDir(path) => oci_dir::open(path),
        SourceSpec::OciArchive(path) => oci_archive::open(path, stop),
        SourceSpec::DockerArchive(path) => docker_archive::open(path, stop),
        _ => Err(Error::Usage(format!("{spec} is not a layout or an archive"))),
    };
    opened.map_err(|error| match error {
        Error::NotFound { side, what } => Error::NotFound { side, what: with_reference(spec, what) },
        other => other,
    })
}

/// Opens a tar of either kind, which is seen by what is in it. Docker's new form is both, and has more names as
/// Docker's.
pub fn open_archive(path: &Path, stop: &Stop) -> Result<Box<dyn Source>> {
    match docker_archive::open(path, stop) {
        // It has no manifest.json, and an index.json.
        Err(Error::Usage(_)) => oci_archive::open(path, stop),
        other => other,
    }
}

/// skopeo has the image's name behind the path; whoever is used to it is told how it is done here.
fn with_reference(spec: &SourceSpec, what: String) -> String {
    let (SourceSpec::OciDir(path) | SourceSpec::OciArchive(path) | SourceSpec::DockerArchive(path)) = spec
    else {
        return what;
    };
    let text = path.to_string_lossy();
    let split = text.char_indices().filter(|(_, c)| *c == ':').map(|(at, _)| text.split_at(at));
    match split.into_iter().find(|(path, _)| std::path::Path::new(path).exists()) {
        Some((path, name)) => {
            format!("{what} (image names are arguments of their own: {path} and then {})", &name[1..])
        }
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_and_written_alike() {
        for text in
            ["registry", "containerd", "oci:./a", "oci-archive:/b.tar:x", "docker-archive:c", "medium:/mnt/x"]
        {
            assert_eq!(text.parse::<SourceSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_source_is_a_usage_error() {
        for bad in
            ["", "oci", "oci:", "./layout", "docker://nginx", "registry:x", "zip:a", ":a", "containerd:"]
        {
            assert!(matches!(bad.parse::<SourceSpec>(), Err(Error::Usage(_))), "{bad:?}");
        }
    }
}
