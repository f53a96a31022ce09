//! The bit stream that deflate blocks are written to.

/// Bytes with a last one that is still being filled, least significant bit first (RFC 1951, 3.1.1).
#[derive(Debug, Default)]
pub(super) struct Bits {
    /// The whole bytes so far that nobody has taken.
    pub(super) bytes: Vec<u8>,
    held: u64,
    count: u32,
    /// How many whole bytes have been taken.
    taken: u64,
}

impl Bits {
    /// Appends the low `count` bits of `value`; at most 32, and no bit of `value` above them.
    #[inline]
    pub(super) fn put(&mut self, value: u64, count: u32) {
        debug_assert!(count <= 32 && value >> count == 0);
        self.held |= value << self.count;
        self.count += count;
        if self.count >= 32 {
            self.bytes.extend_from_slice(&(self.held as u32).to_le_bytes());
            self.held >>= 32;
            self.count -= 32;
        }
    }

    /// Takes the first `count` of the whole bytes away.
    pub(super) fn take(&mut self, count: usize) {
        self.taken += count as u64;
        self.bytes.drain(..count);
    }

    /// How many bits have been written.
    pub(super) fn position(&self) -> u64 {
        8 * (self.taken + self.bytes.len() as u64) + u64::from(self.count)
    }

    /// How many bits of the last byte are used, 0 to 7; 0 when no byte is begun.
    pub(super) fn used(&self) -> u32 {
        self.count % 8
    }

    /// Fills the last byte with zeros.
    pub(super) fn align(&mut self) {
        while self.count > 0 {
            self.bytes.push(self.held as u8);
            self.held >>= 8;
            self.count = self.count.saturating_sub(8);
        }
        self.held = 0;
    }

    /// A stored block of at most 65535 bytes.
    pub(super) fn stored(&mut self, content: &[u8], last: bool) {
        self.put(u64::from(last), 3);
        self.align();
        let length = content.len() as u16;
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&(!length).to_le_bytes());
        self.bytes.extend_from_slice(content);
    }

    /// A fixed block with nothing in it.
    pub(super) fn empty_fixed(&mut self, last: bool) {
        self.put(2 | u64::from(last), 10);
    }
}
