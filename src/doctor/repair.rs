//! Repairing what is ours to repair: what imports that ended early left behind.

use std::path::Path;

use super::NodeFacts;
use crate::containerd::Client;
use crate::error::{Result, Side};

/// Throws away leases and unfinished blobs of imports that have ended; returns what was thrown away.
///
/// Only what the facts list is touched, none of it another program's. Images stay as they are.
pub fn repair(facts: &NodeFacts, socket: &Path) -> Result<Vec<String>> {
    let Some(containerd) = &facts.containerd else { return Ok(Vec::new()) };
    let client = Client::connect(socket, "k8s.io", Side::Node)?;
    let mut done = Vec::new();
    for ingest in &containerd.left_ingests {
        client.abort(ingest)?;
        done.push(format!("unfinished blob {ingest}"));
    }
    for lease in &containerd.dead_leases {
        client.delete_lease(lease, true)?;
        done.push(format!("lease {lease}"));
    }
    Ok(done)
}
