//! What a top-up rests on: what nodes must hold that import it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Image, Record};
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

impl Record {
    /// What an image rests on; nothing where all of it is on the medium, or an older version exported it.
    pub fn rests_on(&self, image: &Image) -> &[Basis] {
        let top_up = self.top_ups.iter().find(|top_up| top_up.sequence == image.sequence);
        top_up.filter(|_| !self.is_whole(image)).map_or(&[], |top_up| &top_up.rests_on)
    }

    /// Notes what the newest export rests on, and forgets what no image rests on any more.
    pub fn note_basis(&mut self, rests_on: Vec<Basis>) {
        self.top_ups.push(TopUp { sequence: self.sequence, rests_on });
        let partial = self.images.iter().filter(|image| !self.is_whole(image));
        let needed: BTreeSet<u64> = partial.map(|image| image.sequence).collect();
        self.top_ups.retain(|top_up| needed.contains(&top_up.sequence) && !top_up.rests_on.is_empty());
    }
}
