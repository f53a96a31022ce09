//! Platforms: operating system, architecture and variant, in Go's names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// What an image runs on, such as `linux/amd64` or `linux/arm/v7`.
///
/// Compared and printed in normal form: the variants that mean the default (`arm64/v8`, `amd64/v1`)
/// are left out, `arm` alone means `arm/v7` (containerd, `platforms.Normalize`).
#[derive(Clone, Debug, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// GOOS, such as `linux`.
    pub os: String,
    /// GOARCH, such as `amd64`.
    pub architecture: String,
    /// Such as `v7` for arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The release of the system that it needs, such as `10.0.17763.1`: images for Windows have one.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
}

/// Architectures that stand for a platform on their own: its system is Linux then.
const ARCHITECTURES: [&str; 16] = [
    "386", "aarch64", "amd64", "arm", "arm64", "armel", "armhf", "i386", "i686", "loong64", "mips64le",
    "ppc64le", "riscv64", "s390x", "x86-64", "x86_64",
];

/// A platform as indexes and configs of all kinds have it: any part may be missing, empty or null.
#[derive(Deserialize)]
pub(super) struct Loose {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    #[serde(rename = "os.version")]
    os_version: Option<String>,
}

impl Loose {
    /// `None` where no architecture is named; the system is Linux where none is.
    pub(super) fn platform(self) -> Option<Platform> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Some(Platform {
            architecture: given(self.architecture)?,
            os: given(self.os).unwrap_or_else(|| "linux".into()),
            variant: given(self.variant),
            // Printed, so that it has to be harmless.
            os_version: given(self.os_version).filter(|version| is_word(version)),
        })
    }

    /// Reads the platform of an index's entry; for use in `deserialize_with`.
    pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Platform>, D::Error> {
        Ok(Option::<Self>::deserialize(deserializer)?.and_then(Self::platform))
    }
}

/// The text is not `os/arch` or `os/arch/variant`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform of the form os/arch or os/arch/variant, such as linux/arm64")]
pub struct PlatformError(String);

impl Platform {
    /// The platform of the machine this runs on.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self::linux(architecture)
    }

    /// Linux on this architecture.
    pub fn linux(architecture: &str) -> Self {
        Self { os: "linux".into(), architecture: architecture.into(), variant: None, os_version: None }
    }

    /// Whether an image for `other` is one of those that this asks for: without a release of the
    /// system, those for every release are.
    pub fn asks_for(&self, other: &Self) -> bool {
        self.normal() == other.normal() && (self.os_version.is_none() || self.os_version == other.os_version)
    }

    fn normal(&self) -> (&str, &str, &str) {
        let (os, arch, variant) =
            (self.os.as_str(), self.architecture.as_str(), self.variant.as_deref().unwrap_or(""));
        match (arch, variant) {
            ("x86_64" | "x86-64", "" | "v1") | ("amd64", "v1") => (os, "amd64", ""),
            ("aarch64", "" | "v8" | "8") | ("arm64", "v8" | "8") => (os, "arm64", ""),
            ("arm" | "armhf", "" | "7") => (os, "arm", "v7"),
            ("armel", "") => (os, "arm", "v6"),
            ("i386" | "i686", _) => (os, "386", ""),
            _ => (os, arch, variant),
        }
    }

    /// Whether this names a platform at all: attestations are listed as `unknown/unknown`.
    pub fn is_known(&self) -> bool {
        self.os != "unknown" && self.architecture != "unknown"
    }
}

impl PartialEq for Platform {
    fn eq(&self, other: &Self) -> bool {
        (self.normal(), &self.os_version) == (other.normal(), &other.os_version)
    }
}

impl std::hash::Hash for Platform {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.normal(), &self.os_version).hash(state);
    }
}

impl PartialOrd for Platform {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Platform {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.normal(), &self.os_version).cmp(&(other.normal(), &other.os_version))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (os, architecture, variant) = self.normal();
        f.write_str(os)?;
        if let Some(version) = &self.os_version {
            write!(f, "({version})")?;
        }
        write!(f, "/{architecture}")?;
        if variant.is_empty() { Ok(()) } else { write!(f, "/{variant}") }
    }
}

fn is_word(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/arch`, `os/arch/variant`, an architecture alone, and `os(release)` in front, as containerd
    /// writes it.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let refuse = || PlatformError(text.chars().take(100).collect());
        let parts: Vec<&str> = text.split('/').collect();
        let (os, rest) = match parts.as_slice() {
            [alone] if ARCHITECTURES.contains(&alone.to_ascii_lowercase().as_str()) => ("linux", &parts[..]),
            [os, rest @ ..] if (1..=2).contains(&rest.len()) => (*os, rest),
            _ => return Err(refuse()),
        };
        let (os, os_version) = match os.strip_suffix(')').and_then(|os| os.split_once('(')) {
            Some((os, version)) => (os, Some(version)),
            None => (os, None),
        };
        if ![os].iter().chain(rest).chain(&os_version).all(|part| is_word(part)) {
            return Err(refuse());
        }
        Ok(Self {
            os: os.to_ascii_lowercase(),
            architecture: rest[0].to_ascii_lowercase(),
            variant: rest.get(1).map(|v| v.to_ascii_lowercase()),
            os_version: os_version.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_platform_are_equal() {
        for (a, b) in [
            ("linux/arm64", "linux/arm64/v8"),
            ("linux/amd64", "linux/x86_64"),
            ("linux/amd64", "linux/amd64/v1"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/aarch64", "linux/arm64"),
            ("arm64", "linux/arm64"),
            ("x86_64", "linux/amd64"),
        ] {
            assert_eq!(a.parse::<Platform>().unwrap(), b.parse().unwrap(), "{a} {b}");
        }
        assert_ne!("linux/arm/v6".parse::<Platform>().unwrap(), "linux/arm".parse().unwrap());
        let windows = |text: &str| text.parse::<Platform>().unwrap();
        let old = windows("windows(10.0.17763.1)/amd64");
        assert_eq!(old.to_string(), "windows(10.0.17763.1)/amd64");
        assert!(old != windows("windows(10.0.20348.1)/amd64") && old != windows("windows/amd64"));
        assert!(windows("windows/amd64").asks_for(&old) && !old.asks_for(&windows("windows/amd64")));
        assert_ne!("linux/amd64/v3".parse::<Platform>().unwrap(), "linux/amd64".parse().unwrap());
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for bad in [
            "",
            "linux",
            "windows(1)",
            "windows(/amd64",
            "windows()/amd64",
            "linux/",
            "/amd64",
            "a/b/c/d",
            "linux/am d64",
            "li\nux/amd64",
        ] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?} was accepted");
        }
    }
}
