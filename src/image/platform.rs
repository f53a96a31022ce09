//! Platforms: operating system, architecture and variant, in Go's names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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
}

/// The text is not `os/arch` or `os/arch/variant`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform of the form os/arch or os/arch/variant")]
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
        Self { os: "linux".into(), architecture: architecture.into(), variant: None }
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
        self.normal() == other.normal()
    }
}

impl std::hash::Hash for Platform {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.normal().hash(state);
    }
}

impl PartialOrd for Platform {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Platform {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.normal().cmp(&other.normal())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.normal() {
            (os, arch, "") => write!(f, "{os}/{arch}"),
            (os, arch, variant) => write!(f, "{os}/{arch}/{variant}"),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let legal = |part: &&str| {
            !part.is_empty()
                && part.len() <= 32
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(legal) {
            return Err(PlatformError(text.chars().take(100).collect()));
        }
        Ok(Self {
            os: parts[0].to_ascii_lowercase(),
            architecture: parts[1].to_ascii_lowercase(),
            variant: parts.get(2).map(|v| v.to_ascii_lowercase()),
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
        ] {
            assert_eq!(a.parse::<Platform>().unwrap(), b.parse().unwrap(), "{a} {b}");
        }
        assert_ne!("linux/arm/v6".parse::<Platform>().unwrap(), "linux/arm".parse().unwrap());
        assert_ne!("linux/amd64/v3".parse::<Platform>().unwrap(), "linux/amd64".parse().unwrap());
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for bad in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64", "li\nux/amd64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?} was accepted");
        }
    }
}
