//! Models of the encoders that made layers' gzip, so that its bytes come back from the tar alone.

mod analyse;
mod bits;
mod code;
mod decoder;
mod golang;
mod header;
mod inflate;
mod input;
mod klauspost;
mod model;
mod package;
mod parallel;
mod recipe;
mod recreate;
mod stream;
mod symbol;
mod zlib;

pub use analyse::analyse;
use bits::Bits;
pub use model::{Form, Model, UnknownModel};
pub use parallel::Parallel;
pub use recipe::{Checkpoint, FLUSHES, MEMBERS, Part, Recipe, RecipeError};
pub use recreate::Recreate;

/// A place between two blocks at which an encoder's state is no more than the input before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Border {
    /// Bytes of input before it.
    input: u64,
    /// How far before it the encoder's window begins.
    window: u32,
    /// Bits of output before it, those of the head among them.
    bit: u64,
}

/// A deflate encoder that does as a known one does.
///
/// Its output depends on the bytes that were written and on nothing else, such as the sizes of the writes. One write
/// should be of moderate size, since its output is held.
trait Encoder: std::fmt::Debug + Send {
    /// Takes more input.
    fn write(&mut self, input: &[u8], out: &mut Bits);

    /// Writes all that was taken, and an empty stored block, as the encoder does when its writer flushes it. False when
    /// it is not known how this one does.
    fn flush(&mut self, _out: &mut Bits) -> bool {
        false
    }

    /// The last border so far at which it can begin anew with nothing but the input before it.
    fn border(&self) -> Option<Border> {
        None
    }

    /// Begins at a border instead of at the beginning, after `before`: the 32 KiB of input that end there. False when
    /// it cannot.
    fn resume(&mut self, _border: Border, _before: &[u8]) -> bool {
        false
    }

    /// The input has ended.
    fn finish(&mut self, out: &mut Bits);
}

#[cfg(test)]
mod tests;
