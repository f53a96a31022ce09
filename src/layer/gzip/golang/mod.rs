//! Go's compress/flate up to Go 1.26.

pub(super) mod block;
mod chain;
mod fast;

use super::Encoder;

/// The encoder of a level from -2 to 9.
pub(super) fn encoder(level: i8) -> Option<Box<dyn Encoder>> {
    Some(match level {
        -2 => Box::new(fast::Pieces::new(fast::Kind::Literals)),
        0 => Box::new(fast::Pieces::new(fast::Kind::Stored)),
        1 => Box::new(fast::Pieces::new(fast::Kind::Fast)),
        level => Box::new(chain::Chain::new(u8::try_from(level).ok()?)?),
    })
}
