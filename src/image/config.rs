//! Image configs: the platform, and the diff_ids that identify the layers.

use serde::Deserialize;

use super::json::{self, Keys};
use super::platform::Loose;
use super::{Digest, Platform};

/// The part of an image config that this tool acts on (OCI image-spec, config.md).
///
/// The config's bytes are always carried as they are; their digest is the image id.
#[derive(Clone, Debug)]
pub struct ImageConfig {
    /// The platform the image is for, where the config names one: some tools leave it empty.
    pub platform: Option<Platform>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(flatten)]
    platform: Loose,
    rootfs: RootFs,
}

#[derive(Clone, Debug, Deserialize)]
struct RootFs {
    #[serde(default, deserialize_with = "super::descriptor::null_is_empty")]
    diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads a config. The error is a sentence without the config's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Raw { platform, rootfs } =
            json::read(bytes, Keys::Config).map_err(|error| format!("not an image config: {error}"))?;
        Ok(Self { platform: platform.platform(), rootfs })
    }

    /// The digests of the uncompressed layers, bottom first.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.rootfs.diff_ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platform_and_diff_ids_are_read_and_the_rest_is_left_alone() {
        let text = format!(
            r#"{{"architecture":"arm64","os":"linux","variant":"v8","config":null,"x":1,
                "rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            Digest::of(b"a")
        );
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.platform.as_ref().unwrap().to_string(), "linux/arm64");
        assert_eq!(config.diff_ids(), [Digest::of(b"a")]);
    }

    #[test]
    fn a_config_may_name_no_platform() {
        let platform = |own: &str| {
            let text = format!(r#"{{{own}"rootfs":{{"type":"layers","diff_ids":[]}}}}"#);
            ImageConfig::parse(text.as_bytes()).unwrap().platform.map(|platform| platform.to_string())
        };
        for own in
            ["", r#""os":"","architecture":"","#, r#""os":null,"architecture":null,"#, r#""os":"linux","#]
        {
            assert_eq!(platform(own), None, "{own}");
        }
        assert_eq!(platform(r#""architecture":"arm64","#).unwrap(), "linux/arm64");
    }

    #[test]
    fn a_config_without_layers_is_one() {
        let text = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":null}}"#;
        assert!(ImageConfig::parse(text.as_bytes()).unwrap().diff_ids().is_empty());
        assert!(ImageConfig::parse(b"{}").is_err());
    }
}
