//! How registries are reached: the options of every command that asks one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::image::Reference;
use crate::progress::{Event, Reporter, Stop};
use crate::source::registry::{Login, Notice, Options};

/// Options for registries; proxies come from HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Registries")]
pub(super) struct RegistryArgs {
    /// A login, where `docker login` or `podman login` left none; REGISTRY is needed for several
    #[arg(long, hide_short_help = true, value_name = "[REGISTRY=]USER:PASSWORD")]
    creds: Vec<Creds>,
    /// A file of CA certificates (PEM) to trust beside the system's
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    ca_file: Vec<PathBuf>,
    /// Speak to this registry by plain HTTP, or whatever its certificate says
    #[arg(long, hide_short_help = true, value_name = "REGISTRY")]
    insecure: Vec<String>,
    /// Go through the mirrors in containerd's hosts.toml files, such as /etc/containerd/certs.d
    #[arg(long, hide_short_help = true, value_name = "DIR")]
    hosts_dir: Option<PathBuf>,
    /// How often a request is repeated that failed and may succeed later
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = 5)]
    retries: u32,
    /// How long a connection may be silent
    #[arg(long, hide_short_help = true, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    stall_timeout: u64,
}

/// A login, for a registry or for the only one.
#[derive(Clone, Debug)]
struct Creds {
    registry: Option<String>,
    login: Login,
}

impl FromStr for Creds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |login| Login::parse(login).map_err(|error| error.to_string());
        if let Some((registry, login)) = text.split_once('=')
            && format!("{registry}/x").parse::<Reference>().is_ok_and(|image| image.registry() == registry)
        {
            return Ok(Self { registry: Some(registry.to_owned()), login: parse(login)? });
        }
        Ok(Self { registry: None, login: parse(text)? })
    }
}

impl RegistryArgs {
    /// The library's options; `registries` are those that will be asked.
    pub(super) fn options(
        &self,
        registries: &BTreeSet<String>,
        stop: &Stop,
        reporter: &Arc<dyn Reporter + Send>,
    ) -> Result<Options> {
        let reporter = reporter.clone();
        let mut options = Options {
            retries: self.retries,
            stall: Duration::from_secs(self.stall_timeout),
            ca_files: self.ca_file.clone(),
            insecure: self.insecure.iter().cloned().collect(),
            hosts_dir: self.hosts_dir.clone(),
            stop: stop.clone(),
            notice: Notice::to(move |text| reporter.report(Event::Warning(text))),
            ..Options::default()
        };
        for Creds { registry, login } in &self.creds {
            let registry = match (registry, registries.len()) {
                (Some(registry), _) => registry.clone(),
                // It would be shown to registries that it is not for.
                (None, 2..) => {
                    let reason =
                        "several registries are asked: say which one with --creds REGISTRY=USER:PASSWORD";
                    return Err(Error::Usage(reason.into()));
                }
                (None, _) => registries.first().cloned().unwrap_or_default(),
            };
            options.logins.insert(registry, login.clone());
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_told_from_a_user() {
        let registry = |text: &str| text.parse::<Creds>().unwrap().registry;
        assert_eq!(registry("me:secret"), None);
        assert_eq!(registry("me:sec=ret:x"), None);
        assert_eq!(registry("ghcr.io=me:sec=ret").as_deref(), Some("ghcr.io"));
        assert_eq!(registry("localhost:5000=me:x").as_deref(), Some("localhost:5000"));
        let error = "secretword".parse::<Creds>().unwrap_err();
        assert!(!error.contains("secretword"), "{error}");
    }
}
