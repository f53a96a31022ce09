//! What a record says of a gzip stream, so that it can be made again from its tar.

use serde::{Deserialize, Serialize};

use super::model::{Model, UnknownModel};

/// Most members of a stream.
pub const MEMBERS: usize = 1 << 16;
/// Most flushes of a stream.
pub const FLUSHES: usize = 1 << 16;

/// How to make a gzip stream again from its tar.
///
/// It is believed for nothing: [`Recreate`](super::Recreate) ends with an error where it and the tar do not go together,
/// and what comes out is the stream only if its digest says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// The length of the stream, in bytes.
    pub size: u64,
    /// The members, in their order.
    pub parts: Vec<Part>,
    /// Positions in the tar, ascending, at which the writer flushed its encoder. Those that an encoder makes of itself
    /// are not among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flushes: Vec<u64>,
    /// Places at which the only member can be begun anew, ascending, so that several processors can make it. Maybe none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<Checkpoint>,
}

/// A place between two blocks at which an encoder's state is no more than the tar before it. As JSON, a list of three
/// numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u32, u64)", into = "(u64, u32, u64)")]
pub struct Checkpoint {
    /// Bytes of the tar before it.
    pub tar: u64,
    /// How far before it the encoder's window begins, in bytes; 0 where the encoder begins a new one.
    pub window: u32,
    /// Bits of the stream before it.
    pub bit: u64,
}

impl From<(u64, u32, u64)> for Checkpoint {
    fn from((tar, window, bit): (u64, u32, u64)) -> Self {
        Self { tar, window, bit }
    }
}

impl From<Checkpoint> for (u64, u32, u64) {
    fn from(checkpoint: Checkpoint) -> Self {
        (checkpoint.tar, checkpoint.window, checkpoint.bit)
    }
}

/// Members, one after the other, that one encoder made with one head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The encoder's name; maybe one that this version does not know.
    pub model: String,
    /// The head of each member (RFC 1952, 2.3), in hexadecimal digits.
    pub head: String,
    /// How many bytes of the tar each member holds.
    pub lengths: Vec<u64>,
}

/// Why a recipe cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// An encoder that only a newer version knows.
    #[error(transparent)]
    Unknown(#[from] UnknownModel),
    /// Numbers that no recipe has.
    #[error("the record of the original gzip is damaged: {0}")]
    Damaged(&'static str),
}

/// Which member: the number of its part, and its own in there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    part: usize,
    within: usize,
}

/// A member, ready to be made.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) model: Model,
    pub(super) head: Vec<u8>,
    pub(super) length: u64,
}

impl Recipe {
    /// The length of the tar, in bytes.
    pub fn tar_size(&self) -> u64 {
        self.lengths().fold(0, u64::saturating_add)
    }

    /// Whether this version can use it: its encoders are known, and its numbers go together.
    pub fn check(&self) -> Result<(), RecipeError> {
        let damaged = |reason| Err(RecipeError::Damaged(reason));
        let members: usize = self.parts.iter().map(|part| part.lengths.len()).sum();
        if members == 0 || members > MEMBERS || self.parts.iter().any(|part| part.lengths.is_empty()) {
            return damaged("it has no members, or too many");
        }
        if self.flushes.len() > FLUSHES
            || !self.flushes.is_sorted()
            || self.flushes.last().is_some_and(|&last| last > self.tar_size())
        {
            return damaged("its flushes are too many, or not in order");
        }
        let (tar, bits) = (self.tar_size(), self.size.saturating_mul(8));
        let ascends = |pair: &[Checkpoint]| pair[0].tar < pair[1].tar && pair[0].bit < pair[1].bit;
        let fits = |last: &Checkpoint| last.tar <= tar && last.bit <= bits;
        if !self.checkpoints.windows(2).all(ascends) || !self.checkpoints.last().is_none_or(fits) {
            return damaged("its checkpoints are not in order");
        }
        for part in &self.parts {
            part.model.parse::<Model>()?;
            if part.head.len() > 2 * super::header::MOST || hex::decode(&part.head).is_err() {
                return damaged("the head of a member is none");
            }
        }
        Ok(())
    }

    /// The member at a place, for a recipe that [`Recipe::check`] has accepted.
    pub(super) fn member(&self, place: Place) -> Result<Option<Member>, RecipeError> {
        let Some(part) = self.parts.get(place.part) else { return Ok(None) };
        let Some(&length) = part.lengths.get(place.within) else { return Ok(None) };
        let head =
            hex::decode(&part.head).map_err(|_| RecipeError::Damaged("the head of a member is none"))?;
        Ok(Some(Member { model: part.model.parse()?, head, length }))
    }

    /// The place after one that has a member.
    pub(super) fn after(&self, place: Place) -> Place {
        match self.parts.get(place.part) {
            Some(part) if place.within + 1 < part.lengths.len() => {
                Place { within: place.within + 1, ..place }
            }
            _ => Place { part: place.part + 1, within: 0 },
        }
    }

    fn lengths(&self) -> impl Iterator<Item = u64> {
        self.parts.iter().flat_map(|part| part.lengths.iter().copied())
    }

    /// Adds a member at the end.
    pub(super) fn push(&mut self, model: Model, head: &[u8], length: u64) {
        let (model, head) = (model.to_string(), hex::encode(head));
        match self.parts.last_mut() {
            Some(part) if part.model == model && part.head == head => part.lengths.push(length),
            _ => self.parts.push(Part { model, head, lengths: vec![length] }),
        }
    }
}
