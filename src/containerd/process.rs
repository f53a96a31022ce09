//! The process behind a socket: its configuration, and its view of the files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::configuration::CONFIGURATION;

/// The process that listens at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// This one.
    Known(u32),
    /// One of another PID namespace, of which nothing can be seen from here.
    Elsewhere,
    /// It cannot be told.
    Unknown,
}

impl Process {
    /// Asks the kernel who listens at `socket`.
    pub fn behind(socket: &Path) -> Self {
        let Ok(stream) = UnixStream::connect(socket) else { return Self::Unknown };
        // The kernel gives the process 0 where it has no number here.
        match rustix::net::sockopt::socket_peercred(&stream) {
            Ok(peer) => Self::Known(peer.pid.as_raw_nonzero().get().unsigned_abs()),
            Err(rustix::io::Errno::SRCH) => Self::Elsewhere,
            Err(_) => Self::Unknown,
        }
    }

    /// The configuration that it was started with, as far as its command line, seen below `system`, tells.
    pub fn configuration(self, system: &Path) -> PathBuf {
        let named = match self {
            Self::Known(pid) => fs::read(system.join(format!("proc/{pid}/cmdline"))).ok(),
            Self::Elsewhere | Self::Unknown => None,
        };
        let named = named.and_then(|line| {
            let words = line.split(|b| *b == 0).filter_map(|word| std::str::from_utf8(word).ok());
            named_configuration(&words.collect::<Vec<_>>())
        });
        named.unwrap_or_else(|| CONFIGURATION.into())
    }

    /// Where a directory of its is seen from here: it may live in another mount namespace, in which the same path
    /// leads elsewhere. `None` where that cannot be known.
    pub fn directory(self, path: &Path) -> Option<PathBuf> {
        let here = || path.is_dir().then(|| path.to_owned());
        let Self::Known(pid) = self else { return if self == Self::Unknown { here() } else { None } };
        let its = Path::new("/proc").join(pid.to_string()).join("root").join(path.strip_prefix("/").ok()?);
        let place = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
        match (place(path), place(&its)) {
            // As one who may not look into another process sees it.
            (_, None) if fs::metadata(format!("/proc/{pid}/root/")).is_err() => here(),
            (_, None) => None,
            (own, theirs) if own == theirs => here(),
            _ => its.is_dir().then_some(its),
        }
    }
}

fn named_configuration(words: &[&str]) -> Option<PathBuf> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--config" | "-c" => return words.next().map(PathBuf::from),
            word => match word.strip_prefix("--config=") {
                Some(path) => return Some(path.into()),
                None => continue,
            },
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_the_one_that_was_named() {
        for words in
            [["c", "--config", "/x"].as_slice(), &["c", "--config=/x"], &["c", "-l", "debug", "-c", "/x"]]
        {
            assert_eq!(named_configuration(words), Some("/x".into()));
        }
        assert_eq!(named_configuration(&["c", "--log-level", "debug"]), None);
    }

    #[test]
    fn a_directory_of_a_process_here_is_where_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let own = Process::Known(std::process::id());
        assert_eq!(own.directory(directory.path()), Some(directory.path().into()));
        assert_eq!(own.directory(&directory.path().join("absent")), None);
        assert_eq!(Process::Elsewhere.directory(directory.path()), None);
    }
}
