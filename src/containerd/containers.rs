//! Containers: what uses an image.

use std::collections::HashMap;

use containerd_client::services::v1 as api;

use super::Client;
use super::client::MAX_MESSAGE;
use crate::error::Result;

/// A container, running or not; pods' sandboxes are some as well.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// The name of the image that it was made from; empty where it has none.
    pub image: String,
    /// What its root filesystem is made with.
    pub snapshotter: String,
    /// The snapshot that is its root filesystem; empty where it is none.
    pub snapshot: String,
    /// All labels.
    pub labels: HashMap<String, String>,
}

impl Client {
    /// Every container of this namespace.
    pub fn list_containers(&self) -> Result<Vec<Container>> {
        let action = || "listing containers".to_owned();
        let mut client = api::containers_client::ContainersClient::new(self.channel())
            .max_decoding_message_size(MAX_MESSAGE);
        // One message each: the list in one message can be larger than is accepted.
        let request = self.request(api::ListContainersRequest { filters: Vec::new() });
        let mut stream = self.call(action, client.list_stream(request))?;
        let mut containers = Vec::new();
        loop {
            match self.block_on(stream.message()) {
                Ok(Some(message)) => containers.extend(message.container.map(|container| Container {
                    id: container.id,
                    image: container.image,
                    snapshotter: container.snapshotter,
                    snapshot: container.snapshot_key,
                    labels: container.labels,
                })),
                Ok(None) => return Ok(containers),
                Err(status) => return Err(self.failed(action(), status)),
            }
        }
    }
}
