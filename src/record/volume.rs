//! A medium that is one of several over which a set is spread.

use serde::{Deserialize, Serialize};

use crate::image::{Digest, Reference};

/// Which of a set's media this is. Each holds whole images; together they hold the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// The set's own id, the same on all of its media: 32 hex digits.
    pub set: String,
    /// Its number, from 1.
    pub number: u32,
    /// How many there are.
    pub of: u32,
    /// The images that are on the others.
    pub elsewhere: Vec<Elsewhere>,
}

/// An image on another medium of the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Elsewhere {
    /// The number of the medium that it is on.
    pub volume: u32,
    /// Its name.
    pub name: Reference,
    /// The image ids of its platforms.
    pub ids: Vec<Digest>,
}
