//! Values of an export's options.

use crate::layer::Zstd;

/// A compression, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Compression(pub(super) Option<Zstd>);

impl std::str::FromStr for Compression {
    type Err = crate::layer::ZstdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|zstd| Self(Some(zstd))) }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(zstd) => zstd.fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// A registry or path prefix and what takes its place.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Rename {
    pub(in crate::cli) from: String,
    pub(in crate::cli) to: String,
}

impl std::str::FromStr for Rename {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((from, to)) if !from.is_empty() && !to.is_empty() => {
                Ok(Self { from: from.to_owned(), to: to.to_owned() })
            }
            _ => Err("say FROM=TO, such as docker.io=registry.local:5000".into()),
        }
    }
}
