//! The image of pods' sandboxes, without which no pod starts.

use std::path::Path;

use crate::containerd::{Client, Configuration, Process, Version};

/// The image of pods' sandboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// It is there.
    Present(String),
    /// It is not there.
    Missing(String),
    /// Which one it is cannot be told: why.
    Unknown(String),
}

impl Sandbox {
    /// Asks a containerd that serves CRI: 1.x tells which image it is, later ones only in their configuration, which
    /// is read below `system`.
    pub fn of(client: &Client, version: &Version, system: &Path) -> Self {
        let told = client.cri_config().ok().flatten().and_then(|json| {
            let config: serde_json::Value = serde_json::from_str(&json).ok()?;
            config["sandboxImage"].as_str().map(str::to_owned)
        });
        let name = match told.filter(|name| !name.is_empty()) {
            Some(name) => name,
            None => match configured(client, version, system) {
                Ok(name) => name,
                Err(why) => return Self::Unknown(why),
            },
        };
        match client.cri_image(&name) {
            Ok(Some(_)) => Self::Present(name),
            Ok(None) => Self::Missing(name),
            Err(error) => Self::Unknown(error.to_string()),
        }
    }
}

fn configured(client: &Client, version: &Version, system: &Path) -> Result<String, String> {
    let path = Process::behind(client.address()).configuration(system);
    let configuration = Configuration::read(system, &path, Some(version))?;
    let files: Vec<String> = configuration.files.iter().map(|file| file.display().to_string()).collect();
    configuration.sandbox_image().map(str::to_owned).ok_or_else(|| {
        let default = format!("the default of {} is not known here", version.text);
        format!("{} does not name it, and {default}", files.join(", "))
    })
}
