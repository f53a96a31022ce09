//! One gzip member as it is made again.

use flate2::Crc;

use super::bits::Bits;
use super::model::Model;
use super::{Border, Encoder};

/// A member whose content is being written.
#[derive(Debug)]
pub(super) struct Stream {
    encoder: Box<dyn Encoder>,
    bits: Bits,
    crc: Crc,
}

impl Stream {
    /// The member begins with the bytes of `head`. None when the model has no encoder.
    pub(super) fn new(model: Model, head: &[u8]) -> Option<Self> {
        let mut bits = Bits::default();
        bits.bytes.extend_from_slice(head);
        Some(Self { encoder: model.encoder()?, bits, crc: Crc::new() })
    }

    /// Takes a moderate amount of content.
    pub(super) fn write(&mut self, content: &[u8]) {
        self.crc.update(content);
        self.encoder.write(content, &mut self.bits);
    }

    /// Flushes the encoder; false when this one cannot.
    pub(super) fn flush(&mut self) -> bool {
        self.encoder.flush(&mut self.bits)
    }

    /// Ends the member.
    pub(super) fn finish(&mut self) {
        self.encoder.finish(&mut self.bits);
        self.bits.align();
        self.bits.bytes.extend_from_slice(&self.crc.sum().to_le_bytes());
        self.bits.bytes.extend_from_slice(&self.crc.amount().to_le_bytes());
    }

    /// What has been made and not taken.
    pub(super) fn made(&self) -> &[u8] {
        &self.bits.bytes
    }

    /// Takes the first `count` bytes of what has been made away.
    pub(super) fn take(&mut self, count: usize) {
        self.bits.take(count);
    }

    /// The last border at which the encoder can begin anew.
    pub(super) fn border(&self) -> Option<Border> {
        self.encoder.border()
    }
}
