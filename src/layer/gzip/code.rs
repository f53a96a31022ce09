//! Canonical Huffman codes, and how a dynamic block describes them (RFC 1951, 3.2.2 and 3.2.7).

use super::bits::Bits;
use super::symbol::{DISTANCES, LENGTHS, Token, distance_symbol, length_symbol};

/// The order in which the lengths of the code-length code are written.
pub(super) const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// A code for each symbol of an alphabet: bits ready to be written, and how many. Length 0: no code.
#[derive(Debug, Clone)]
pub(super) struct Code<const N: usize> {
    pub(super) bits: [u16; N],
    pub(super) lengths: [u8; N],
}

impl<const N: usize> Code<N> {
    /// The canonical code with these lengths.
    pub(super) fn canonical(lengths: [u8; N]) -> Self {
        let mut next = [0u32; 17];
        for &length in &lengths {
            next[usize::from(length) + 1] += u32::from(length > 0);
        }
        for length in 1..17 {
            next[length] = (next[length] + next[length - 1]) << 1;
        }
        // `next[length]` is now the first code of `length`, doubled once for each length below it.
        let mut bits = [0; N];
        for (bits, &length) in bits.iter_mut().zip(&lengths) {
            if length > 0 {
                let code = next[usize::from(length)] as u16;
                next[usize::from(length)] += 1;
                *bits = code.reverse_bits() >> (16 - length);
            }
        }
        Self { bits, lengths }
    }

    /// The bits that so many of each symbol take.
    pub(super) fn cost(&self, counts: &[u32]) -> u64 {
        self.lengths.iter().zip(counts).map(|(&length, &count)| u64::from(length) * u64::from(count)).sum()
    }

    /// Whether every symbol that occurs has a code.
    pub(super) fn covers(&self, counts: &[u32]) -> bool {
        self.lengths.iter().zip(counts).all(|(&length, &count)| length > 0 || count == 0)
    }

    #[inline]
    pub(super) fn put(&self, symbol: usize, out: &mut Bits) {
        out.put(u64::from(self.bits[symbol]), u32::from(self.lengths[symbol]));
    }
}

/// The codes of one block.
#[derive(Debug, Clone)]
pub(super) struct Codes {
    pub(super) lengths: Code<LENGTHS>,
    pub(super) distances: Code<DISTANCES>,
}

impl Codes {
    /// The fixed codes (RFC 1951, 3.2.6).
    pub(super) fn fixed() -> Self {
        // Symbols 286 and 287 take part in the code and come last in their length, so the others' bits stay.
        let lengths = std::array::from_fn(|symbol| match symbol {
            0..=143 => 8,
            144..=255 => 9,
            256..=279 => 7,
            _ => 8,
        });
        let whole: Code<288> = Code::canonical(lengths);
        let lengths = Code {
            bits: std::array::from_fn(|symbol| whole.bits[symbol]),
            lengths: std::array::from_fn(|symbol| whole.lengths[symbol]),
        };
        Self { lengths, distances: Code::canonical([5; DISTANCES]) }
    }

    /// Writes tokens; each symbol must have a code.
    pub(super) fn put(&self, tokens: &[Token], out: &mut Bits) {
        for &token in tokens {
            if !token.is_match() {
                self.lengths.put(token.byte(), out);
                continue;
            }
            let (length, distance) = (token.length(), token.distance());
            let (symbol, extra) = length_symbol(length);
            let code = u64::from(self.lengths.bits[257 + symbol]);
            let bits = u32::from(self.lengths.lengths[257 + symbol]);
            out.put(code | u64::from(length & ((1 << extra) - 1)) << bits, bits + extra);
            let (symbol, extra) = distance_symbol(distance);
            let code = u64::from(self.distances.bits[symbol]);
            let bits = u32::from(self.distances.lengths[symbol]);
            out.put(code | u64::from(distance & ((1 << extra) - 1)) << bits, bits + extra);
        }
    }
}

/// One symbol of the code-length alphabet, with the value of its extra bits.
pub(super) type Run = (u8, u8);

/// Extra bits of a symbol of the code-length alphabet.
fn run_extra(symbol: u8) -> u32 {
    match symbol {
        16 => 2,
        17 => 3,
        18 => 7,
        _ => 0,
    }
}

/// The description of a dynamic block's codes.
#[derive(Debug, Clone)]
pub(super) struct Description {
    code: Code<19>,
    entries: usize,
    runs: Vec<Run>,
    lengths: usize,
    distances: usize,
}

impl Description {
    /// Of `lengths` and `distances` many code lengths that `runs` say. `shorten` gives the code-length code's lengths
    /// from how often each of its symbols occurs.
    pub(super) fn new(
        lengths: usize,
        distances: usize,
        runs: Vec<Run>,
        shorten: impl FnOnce(&[u32; 19]) -> [u8; 19],
    ) -> Self {
        let mut counts = [0; 19];
        for &(symbol, _) in &runs {
            counts[usize::from(symbol)] += 1;
        }
        let code = Code::canonical(shorten(&counts));
        let entries =
            ORDER.iter().rposition(|&symbol| code.lengths[symbol] > 0).map_or(4, |last| (last + 1).max(4));
        Self { code, entries, runs, lengths, distances }
    }

    /// Its length in bits, without the three of the block's head.
    pub(super) fn bits(&self) -> u64 {
        let runs = self.runs.iter().map(|&(symbol, _)| {
            u64::from(self.code.lengths[usize::from(symbol)]) + u64::from(run_extra(symbol))
        });
        14 + 3 * self.entries as u64 + runs.sum::<u64>()
    }

    /// Writes the head of a dynamic block and the description.
    pub(super) fn put(&self, last: bool, out: &mut Bits) {
        out.put(4 | u64::from(last), 3);
        out.put((self.lengths - 257) as u64, 5);
        out.put((self.distances - 1) as u64, 5);
        out.put((self.entries - 4) as u64, 4);
        for &symbol in &ORDER[..self.entries] {
            out.put(u64::from(self.code.lengths[symbol]), 3);
        }
        for &(symbol, extra) in &self.runs {
            self.code.put(usize::from(symbol), out);
            out.put(u64::from(extra), run_extra(symbol));
        }
    }
}

/// The bits that the codes of all symbols take, without extra bits.
pub(super) fn costs(codes: &Codes, lengths: &[u32; LENGTHS], distances: &[u32; DISTANCES]) -> u64 {
    codes.lengths.cost(lengths) + codes.distances.cost(distances)
}
