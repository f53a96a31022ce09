//! What a top-up rests on: what nodes must hold that import it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::image::{Digest, Platform};

/// An export that left layers out, or carried some as deltas, and what it counted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopUp {
    /// The sequence of the export: of the images that it exported last, this holds.
    pub sequence: u64,
    /// What was said to be on the nodes.
    pub rests_on: Vec<Basis>,
}

/// Something that tells what nodes hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Basis {
    /// A medium that the nodes have imported.
    Medium {
        /// Its id.
        id: String,
        /// The sequence of its newest export at that time.
        sequence: u64,
    },
    /// An inventory of a node.
    Inventory {
        /// The digest of the file.
        digest: Digest,
        /// When it was taken, by the node's clock (RFC 3339).
        created: String,
        /// What the node runs.
        platform: Platform,
        /// The node's host name, where the inventory has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
    },
}

impl Basis {
    /// Whether it is what an export would have written: what is in it is printed.
    pub(super) fn is_sound(&self) -> bool {
        let text = match self {
            Self::Medium { id, .. } => id,
            Self::Inventory { host: Some(host), .. } if !is_host(host) => return false,
            Self::Inventory { created, .. } => created,
        };
        text.len() <= 40 && text.bytes().all(|b| b.is_ascii_graphic())
    }
}

/// Whether a text may be the name of a host (RFC 1123, 2.1; Linux takes `_` too).
pub(crate) fn is_host(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(legal)
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Medium { id, sequence } => write!(f, "export {sequence} of medium {id}"),
            Self::Inventory { digest, created, platform, host } => {
                let host = host.as_ref().map(|host| format!("{host}, ")).unwrap_or_default();
                write!(f, "the inventory of {host}{created}, {platform}, with digest {digest}")
            }
        }
    }
}
