//! Opening the source that a command names.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::registry::RegistryArgs;
use crate::containerd::find_socket;
use crate::error::{Result, Side};
use crate::progress::{Reporter, Stop};
use crate::source::registry::Registry;
use crate::source::{ContainerdSource, MediumSource, Source, SourceSpec, open_local};

/// How sources are reached that are no files.
pub(super) struct Access<'a> {
    /// The socket of the containerd that is the source, where it was given.
    pub(super) address: Option<&'a Path>,
    /// Its namespace.
    pub(super) namespace: &'a str,
    /// What was said about registries.
    pub(super) registry: &'a RegistryArgs,
}

impl Access<'_> {
    /// Opens a source; `registries` are those that will be asked.
    pub(super) fn open(
        &self,
        from: &SourceSpec,
        registries: impl FnOnce() -> BTreeSet<String>,
        stop: &Stop,
        reporter: &Arc<dyn Reporter + Send>,
    ) -> Result<Box<dyn Source>> {
        match from {
            SourceSpec::Registry => {
                Ok(Box::new(Registry::new(self.registry.options(&registries(), stop, reporter)?)?))
            }
            SourceSpec::Containerd => {
                let address = find_socket(self.address, false, Side::Source, stop)?;
                Ok(Box::new(ContainerdSource::connect(&address, self.namespace, stop)?))
            }
            SourceSpec::Medium(path) => Ok(Box::new(MediumSource::open(path)?)),
            local => open_local(local, stop),
        }
    }
}
