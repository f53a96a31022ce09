//! What containerd says about itself: version, plugins, platforms, where its files are.

use std::collections::HashMap;
use std::path::PathBuf;

use containerd_client::services::v1 as api;

use super::Client;
use crate::error::Result;
use crate::image::Platform;

/// A version of containerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// As containerd gives it: `1.6.20~ds1`, `v2.0.5-k3s1`.
    pub text: String,
    /// The numbers at its start; zero where there are none.
    pub numbers: (u32, u32, u32),
}

impl Version {
    /// Reads what builds of all distributions give.
    pub fn parse(text: &str) -> Self {
        let digits = text.trim_start_matches('v');
        let mut numbers = digits
            .splitn(3, '.')
            .map(|part| part.chars().take_while(char::is_ascii_digit).collect::<String>());
        let mut next = || numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let numbers = (next(), next(), next());
        Self { text: text.to_owned(), numbers }
    }

    /// Whether the CRI plugin of this version understands [`super::label::PINNED`].
    ///
    /// containerd pull requests 8792 and 8867: from 1.6.22, and from 1.7.3.
    pub fn honours_pins(&self) -> bool {
        match self.numbers {
            (1, 6, patch) => patch >= 22,
            (1, 7, patch) => patch >= 3,
            (major, ..) => major >= 2,
        }
    }

    /// Whether a layer's files are on the device when this version says that it unpacked it.
    ///
    /// containerd pull request 9401, the field `sync_fs` of an `ApplyRequest`: from 1.7.14.
    pub fn syncs_layers(&self) -> bool {
        self.numbers >= (1, 7, 14)
    }
}

/// A part of containerd.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// Such as `io.containerd.snapshotter.v1`.
    pub kind: String,
    /// Such as `overlayfs`.
    pub id: String,
    /// What it tells about itself, such as `root`.
    pub exports: HashMap<String, String>,
    /// Platforms it works for.
    pub platforms: Vec<Platform>,
    /// Why it cannot be used, if it cannot.
    pub failure: Option<String>,
}

impl Plugin {
    /// The directory it keeps its files in, as containerd sees it.
    pub fn root(&self) -> Option<PathBuf> {
        self.exports.get("root").map(PathBuf::from)
    }
}

impl Client {
    /// containerd's version.
    pub fn version(&self) -> Result<Version> {
        let mut version = api::version_client::VersionClient::new(self.channel());
        let answer = self.call(|| "asking for the version".into(), version.version(self.request(())))?;
        Ok(Version::parse(&answer.version))
    }

    /// All plugins, those that failed to start too.
    pub fn plugins(&self) -> Result<Vec<Plugin>> {
        let mut introspection = api::introspection_client::IntrospectionClient::new(self.channel());
        let request = self.request(api::PluginsRequest { filters: Vec::new() });
        let answer = self.call(|| "listing plugins".into(), introspection.plugins(request))?;
        let platform = |p: containerd_client::types::Platform| Platform {
            os_version: None,
            os: p.os,
            architecture: p.architecture,
            variant: (!p.variant.is_empty()).then_some(p.variant),
        };
        let plugin = |p: api::Plugin| Plugin {
            kind: p.r#type,
            id: p.id,
            exports: p.exports,
            platforms: p.platforms.into_iter().map(platform).collect(),
            failure: p.init_err.map(|status| status.message),
        };
        Ok(answer.plugins.into_iter().map(plugin).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distributions_are_read() {
        for (text, numbers) in [
            ("1.6.20~ds1", (1, 6, 20)),
            ("v2.0.5-k3s1", (2, 0, 5)),
            ("2.1", (2, 1, 0)),
            ("1.7.24~ds1-6", (1, 7, 24)),
            ("dev", (0, 0, 0)),
        ] {
            assert_eq!(Version::parse(text).numbers, numbers, "{text}");
        }
    }

    #[test]
    fn layers_are_brought_to_the_device_since_late_in_1_7() {
        for (text, syncs) in
            [("1.6.36", false), ("1.7.13", false), ("1.7.14", true), ("2.0.0", true), ("dev", false)]
        {
            assert_eq!(Version::parse(text).syncs_layers(), syncs, "{text}");
        }
    }

    #[test]
    fn pins_are_known_since_late_in_the_old_lines() {
        for (text, honours) in
            [("1.6.20", false), ("1.6.22", true), ("1.7.2", false), ("1.7.24", true), ("2.0.0", true)]
        {
            assert_eq!(Version::parse(text).honours_pins(), honours, "{text}");
        }
    }
}
