//! The differ: has containerd unpack a layer into a snapshot.

use std::collections::HashMap;

use containerd_client::services::v1 as api;
use containerd_client::types;

use super::{Client, Mounts};
use crate::error::{Error, Result};
use crate::image::{Descriptor, Digest};

impl Client {
    /// Unpacks `layer` into `mounts` and returns the digest of the tar that came out: its diff_id.
    ///
    /// The media type decides which decoder containerd takes, and is ours to choose: compression is
    /// told by the bytes, except under OCI's type of a plain tar (seen on 1.6 to 2.3). `sync_fs`
    /// has the files on disk before the answer, from containerd 1.7.14 on; before, it is ignored.
    /// One long call, minutes for large layers; when it is given up, containerd stops unpacking.
    pub fn apply(&self, layer: &Descriptor, mounts: &Mounts) -> Result<Digest> {
        let diff = types::Descriptor {
            media_type: layer.media_type.to_string(),
            digest: layer.digest.to_string(),
            size: layer.size as i64,
            annotations: HashMap::new(),
        };
        let message = api::ApplyRequest {
            diff: Some(diff),
            mounts: mounts.0.clone(),
            payloads: HashMap::new(),
            sync_fs: true,
        };
        let request = self.request(message);
        let mut differ = api::diff_client::DiffClient::new(self.channel());
        let layer = layer.digest;
        let answer = self.block_on_long(differ.apply(request));
        let answer = answer.map_err(|status| self.failed(format!("unpacking layer {layer}"), status))?;
        let answer = answer.into_inner();
        let found = answer.applied.map(|applied| applied.digest).unwrap_or_default();
        found.parse().map_err(|error| {
            Error::invalid(self.side(), format!("containerd's answer to unpacking {layer}"), error)
        })
    }
}
