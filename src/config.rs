//! What the administrator of a machine has decided: `/etc/pannier/config.toml`.
//!
//! ```toml
//! state-directory = "/var/lib/pannier"      # what a node remembers of the media it took
//!
//! [trust]
//! required = true                           # the default where allowed-signers is given
//! allowed-signers = "/etc/pannier/allowed_signers"
//! threshold = 2                             # so many of them have to sign; 1 is the default
//! lane = "plant-a"                          # media for another lane, or for none, are refused
//!
//! [[trust.policy]]                          # with any rule, what no rule allows is refused
//! signers = ["ops@*"]
//! images = ["registry.k8s.io/*"]
//! files = ["*.snap"]
//!
//! [watch]
//! write-result = true                       # leave what became of a medium on it
//! ```

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::limits::SIGNATURES as MAX_SIGNATURES;
use crate::record::LaneName;

/// The file that is read unless another is named.
pub const DEFAULT: &str = "/etc/pannier/config.toml";
/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The settings of a machine; what the file leaves out has its default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Where the node keeps what it has to remember.
    pub state_directory: PathBuf,
    /// Whose media are taken.
    pub trust: Trust,
    /// What is done about media that are plugged in.
    pub watch: WatchConfig,
}

/// What is done about media that are plugged in: the section `[watch]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct WatchConfig {
    /// Whether what became of a medium is written to it.
    pub write_result: bool,
}

/// Whose media are taken: the section `[trust]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Trust {
    /// Whether a medium has to be signed; where it is not said, exactly if there are allowed signers.
    pub required: Option<bool>,
    /// The signers that count, in OpenSSH's format.
    pub allowed_signers: Option<PathBuf>,
    /// How many of them have to sign, with different keys.
    pub threshold: NonZeroUsize,
    /// The lane that this machine is in.
    pub lane: Option<LaneName>,
    /// Who may bring what; where there is no rule, every signer everything.
    pub policy: Vec<Rule>,
}

/// What some signers may bring: a section `[[trust.policy]]`. Patterns are of `*` and `?`, which stand
/// for any characters, slashes too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rule {
    /// Names of signers.
    pub signers: Vec<String>,
    /// Full names of images, such as `docker.io/library/nginx:1.27`.
    #[serde(default)]
    pub images: Vec<String>,
    /// Names of files beside the images.
    #[serde(default)]
    pub files: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_directory: "/var/lib/pannier".into(),
            trust: Trust::default(),
            watch: WatchConfig::default(),
        }
    }
}

impl Default for Trust {
    fn default() -> Self {
        let threshold = NonZeroUsize::MIN;
        Self { required: None, allowed_signers: None, threshold, lane: None, policy: Vec::new() }
    }
}

impl Trust {
    /// Whether a medium that nobody signed whose signature counts is refused.
    pub fn is_required(&self) -> bool {
        self.required.unwrap_or(self.allowed_signers.is_some())
    }
}

impl Config {
    /// Reads `path`, or where none is named [`DEFAULT`], which may be absent.
    ///
    /// Whatever cannot be read or is not understood is an error: a setting that is passed over could be
    /// the one that keeps something out.
    pub fn read(path: Option<&Path>) -> Result<Self> {
        let at = path.unwrap_or(Path::new(DEFAULT));
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(at)?, MAX_FILE + 1), &mut bytes)?;
            Ok(bytes)
        };
        let bytes = match read() {
            Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            read => read.map_err(|error| Error::Usage(format!("cannot read {}: {error}", at.display())))?,
        };
        Self::parse(&bytes).map_err(|reason| Error::Usage(format!("{}: {reason}", at.display())))
    }

    /// Reads the file's bytes. An unknown key is an error.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() as u64 > MAX_FILE {
            return Err("too long for a configuration".into());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
        let config: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let trust = &config.trust;
        if trust.allowed_signers.is_none() {
            if trust.required == Some(true) {
                return Err("signatures are required, but allowed-signers does not say whose".into());
            }
            if trust.threshold > NonZeroUsize::MIN || !trust.policy.is_empty() {
                return Err(
                    "a threshold and a policy are about signers, but allowed-signers names none".into()
                );
            }
        }
        if trust.threshold.get() > MAX_SIGNATURES {
            return Err(format!("no more than {MAX_SIGNATURES} can sign"));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default() {
        assert_eq!(Config::parse(b"").unwrap(), Config::default());
        assert!(!Config::default().trust.is_required());
    }

    #[test]
    fn allowed_signers_make_signatures_required() {
        let required = |text: &str| Config::parse(text.as_bytes()).unwrap().trust.is_required();
        assert!(required("[trust]\nallowed-signers = '/a'"));
        assert!(required("[trust]\nallowed-signers = '/a'\nrequired = true"));
        assert!(!required("[trust]\nallowed-signers = '/a'\nrequired = false"));
        assert!(!required("[trust]\nrequired = false"));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for bad in [
            "[trust]\nrequird = true",
            "[trust]\nrequired = \"yes\"",
            "[trust]\nrequired = true",
            "[trust]\nthreshold = 2",
            "[trust]\nallowed-signers = '/a'\nthreshold = 0",
            "[trust]\nallowed-signers = '/a'\nthreshold = 17",
            "[trust]\nlane = 'Plant A'",
            "[[trust.policy]]\nsigners = ['*']\nimages = ['*']",
            "[trust]\nallowed-signers = '/a'\n[[trust.policy]]\nimages = ['*']",
            "[trust]\nallowed-signers = '/a'\n[[trust.policy]]\nsigners = ['*']\nimage = ['*']",
            "[turst]\n",
            "state-directory = 3",
            "[trust\n",
        ] {
            assert!(Config::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Config::parse(b"\xff").is_err());
        assert!(Config::parse(&vec![b' '; (1 << 20) + 1]).is_err());
    }
}
