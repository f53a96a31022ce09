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
    },
}

impl Basis {
    /// Whether it is what an export would have written: what is in it is printed.
    pub(super) fn is_sound(&self) -> bool {
        let text = match self {
            Self::Medium { id, .. } => id,
            Self::Inventory { created, .. } => created,
        };
        text.len() <= 40 && text.bytes().all(|b| b.is_ascii_graphic())
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Medium { id, sequence } => write!(f, "export {sequence} of medium {id}"),
            Self::Inventory { digest, created, platform } => {
                write!(f, "the inventory of {created}, {platform}, with digest {digest}")
            }
        }
    }
}
