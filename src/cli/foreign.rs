//! What other tools wrote, given where a medium is wanted: layouts and archives.

use std::path::{Path, PathBuf};

use super::output::Output;
use super::trust::TrustArgs;
use crate::error::{Error, Result};
use crate::image::{Platform, Reference};
use crate::import::adopt;
use crate::medium::Medium;
use crate::progress::Run;
use crate::source::{self, ImageRequest, SourceSpec, open_archive, open_local};

/// What was found in the place of a medium.
#[derive(Clone, Debug)]
pub(super) enum Foreign {
    /// A source, as the person named it.
    Named(SourceSpec, PathBuf),
    /// A tar; which kind is seen when it is opened.
    Archive(PathBuf),
}

impl Foreign {
    /// `None` for what is a medium, or nothing at all.
    pub(super) fn find(path: &Path) -> Option<Self> {
        let text = path.to_string_lossy();
        if !path.exists() {
            let spec: SourceSpec = text.parse().ok()?;
            let (SourceSpec::OciDir(inner)
            | SourceSpec::OciArchive(inner)
            | SourceSpec::DockerArchive(inner)) = &spec
            else {
                return None;
            };
            let inner = inner.clone();
            return Some(Self::Named(spec, inner));
        }
        if path.is_file() {
            return Some(Self::Archive(path.to_owned()));
        }
        // A medium that an export has begun has its own directory first.
        let is_layout = path.join("index.json").is_file() && !path.join(".pannier").exists();
        is_layout.then(|| Self::Named(SourceSpec::OciDir(path.to_owned()), path.to_owned()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Named(_, path) | Self::Archive(path) => path,
        }
    }

    /// Reads and proves the images with these names, or all, for a node; nobody has signed them.
    pub(super) fn open(
        &self,
        images: &[String],
        name: Option<&Reference>,
        platform: &Platform,
        trust: &TrustArgs,
        run: Run<'_>,
        output: &Output,
    ) -> Result<Medium> {
        trust.admit_unsigned(self.path(), output)?;
        let source = match self {
            Self::Named(spec, _) => open_local(spec, run.stop)?,
            Self::Archive(path) => open_archive(path, run.stop)?,
        };
        output.say(format_args!(
            "Read from {}, which no export has written: every layer is checked first.",
            source.name()
        ));
        let mut wanted = Vec::new();
        for word in images {
            let by_name = word.parse::<Reference>();
            let there = by_name.as_ref().is_ok_and(|image| source.resolve(image).is_ok());
            let tagged = if there { None } else { source::tagged(&*source, word, name)? };
            wanted.push(match (tagged, by_name) {
                (Some(tagged), _) => tagged,
                (None, Ok(image)) => {
                    let name = name.cloned().unwrap_or_else(|| image.without_redundant_digest());
                    ImageRequest { image, name, descriptor: None }
                }
                (None, Err(error)) => return Err(Error::Usage(error.to_string())),
            });
        }
        if name.is_some() && wanted.len() > 1 {
            return Err(Error::Usage("--as names one image".into()));
        }
        if wanted.is_empty() {
            wanted = match name {
                Some(name) => vec![source::only(&*source, name.clone())?],
                None => source::everything(&*source, None)?,
            };
        }
        adopt(source, self.path(), &wanted, platform, run)
    }
}
