//! A Huffman code to decode with.

use std::io;

/// Bits of the table that most codes are found in at once.
const FAST: u32 = 10;

/// A Huffman code to decode with.
#[derive(Debug)]
pub(super) struct Decoder {
    /// By the next bits: symbol and length; length 0 for longer codes.
    fast: Vec<(u16, u8)>,
    /// By length: how many codes, and all symbols in the order of their codes.
    counts: [u16; 16],
    symbols: Vec<u16>,
}

impl Decoder {
    pub(super) fn new(lengths: &[u8]) -> io::Result<Self> {
        let mut counts = [0u16; 16];
        for &length in lengths {
            counts[usize::from(length)] += 1;
        }
        counts[0] = 0;
        let mut left = 1i32;
        let mut offsets = [0usize; 17];
        for length in 1..16 {
            left = (left << 1) - i32::from(counts[length]);
            if left < 0 {
                return Err(bad("a code has too many symbols"));
            }
            offsets[length + 1] = offsets[length] + usize::from(counts[length]);
        }
        let mut symbols = vec![0; offsets[16]];
        for (symbol, &length) in lengths.iter().enumerate() {
            if length > 0 {
                symbols[offsets[usize::from(length)]] = symbol as u16;
                offsets[usize::from(length)] += 1;
            }
        }
        let mut fast = vec![(0, 0); 1 << FAST];
        let (mut code, mut place) = (0u32, 0);
        for length in 1..=FAST {
            for _ in 0..counts[length as usize] {
                let first = (code.reverse_bits() >> (32 - length)) as usize;
                for slot in fast[first..].iter_mut().step_by(1 << length) {
                    *slot = (symbols[place], length as u8);
                }
                code += 1;
                place += 1;
            }
            code <<= 1;
        }
        Ok(Self { fast, counts, symbols })
    }

    /// The symbol that `bits` begin with, and its length.
    #[inline]
    pub(super) fn decode(&self, bits: u64) -> io::Result<(usize, u32)> {
        let (symbol, length) = self.fast[bits as usize & ((1 << FAST) - 1)];
        if length > 0 {
            return Ok((usize::from(symbol), u32::from(length)));
        }
        let (mut code, mut first, mut place) = (0u32, 0u32, 0u32);
        for length in 1..16 {
            code |= (bits >> (length - 1)) as u32 & 1;
            let count = u32::from(self.counts[length]);
            if code < first + count {
                return Ok((usize::from(self.symbols[(place + code - first) as usize]), length as u32));
            }
            place += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err(bad("a code that stands for nothing"))
    }
}

pub(super) fn bad(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
