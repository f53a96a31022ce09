//! Tokens, and the symbols that stand for them in a deflate block (RFC 1951, 3.2.5).

/// The symbol that ends a block.
pub(super) const END: usize = 256;
/// Literal and length symbols that exist.
pub(super) const LENGTHS: usize = 286;
/// Distance symbols that exist.
pub(super) const DISTANCES: usize = 30;
/// The longest match.
pub(super) const LONGEST: usize = 258;

const MATCH: u32 = 1 << 31;

/// One literal byte, or one match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token(u32);

impl Token {
    #[inline]
    pub(super) fn literal(byte: u8) -> Self {
        Self(u32::from(byte))
    }

    /// A match of 3 to 258 bytes that begins 1 to 32768 bytes back.
    #[inline]
    pub(super) fn copy(length: usize, distance: usize) -> Self {
        debug_assert!((3..=LONGEST).contains(&length) && (1..=32768).contains(&distance));
        Self(MATCH | ((length - 3) as u32) << 16 | (distance - 1) as u32)
    }

    #[inline]
    pub(super) fn is_match(self) -> bool {
        self.0 & MATCH != 0
    }

    /// The byte of a literal.
    #[inline]
    pub(super) fn byte(self) -> usize {
        (self.0 & 0xff) as usize
    }

    /// The length of a match, less 3.
    #[inline]
    pub(super) fn length(self) -> u32 {
        (self.0 >> 16) & 0xff
    }

    /// The distance of a match, less 1.
    #[inline]
    pub(super) fn distance(self) -> u32 {
        self.0 & 0x7fff
    }
}

/// The symbol (0 for the code 257) and number of extra bits of a length less 3.
#[inline]
pub(super) fn length_symbol(length: u32) -> (usize, u32) {
    if length == 255 {
        return (28, 0);
    }
    let extra = if length < 8 { 0 } else { 29 - length.leading_zeros() };
    ((extra * 4 + (length >> extra)) as usize, extra)
}

/// The symbol and number of extra bits of a distance less 1.
#[inline]
pub(super) fn distance_symbol(distance: u32) -> (usize, u32) {
    let extra = if distance < 4 { 0 } else { 30 - distance.leading_zeros() };
    ((extra * 2 + (distance >> extra)) as usize, extra)
}

/// Extra bits of a literal or length symbol.
pub(super) fn length_extra(symbol: usize) -> u32 {
    match symbol {
        265..=284 => (symbol as u32 - 261) / 4,
        _ => 0,
    }
}

/// Extra bits of a distance symbol.
pub(super) fn distance_extra(symbol: usize) -> u32 {
    (symbol as u32 / 2).saturating_sub(1)
}

/// How often each symbol occurs in a block.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    pub(super) lengths: [u32; LENGTHS],
    pub(super) distances: [u32; DISTANCES],
}

impl Default for Counts {
    fn default() -> Self {
        Self { lengths: [0; LENGTHS], distances: [0; DISTANCES] }
    }
}

impl Counts {
    pub(super) fn of(tokens: &[Token]) -> Self {
        let mut counts = Self::default();
        for &token in tokens {
            if token.is_match() {
                counts.lengths[257 + length_symbol(token.length()).0] += 1;
                counts.distances[distance_symbol(token.distance()).0] += 1;
            } else {
                counts.lengths[token.byte()] += 1;
            }
        }
        counts
    }

    /// All extra bits of the block's matches.
    pub(super) fn extra(&self) -> u64 {
        let lengths = (257..LENGTHS).map(|s| u64::from(self.lengths[s]) * u64::from(length_extra(s)));
        let distances = (0..DISTANCES).map(|s| u64::from(self.distances[s]) * u64::from(distance_extra(s)));
        lengths.sum::<u64>() + distances.sum::<u64>()
    }

    /// How many tokens are matches.
    pub(super) fn matches(&self) -> u32 {
        self.distances.iter().sum()
    }
}

/// One more than the highest symbol that is used.
pub(super) fn used(counts: &[u32]) -> usize {
    counts.iter().rposition(|&n| n > 0).map_or(0, |highest| highest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_follow_the_tables_of_rfc_1951() {
        let lengths = [
            (3, 257, 0),
            (10, 264, 0),
            (11, 265, 1),
            (12, 265, 1),
            (13, 266, 1),
            (34, 272, 2),
            (35, 273, 3),
            (227, 284, 5),
            (257, 284, 5),
            (258, 285, 0),
        ];
        for (length, symbol, extra) in lengths {
            assert_eq!(length_symbol(length - 3), (symbol - 257, extra), "length {length}");
            assert_eq!(length_extra(symbol), extra, "length {length}");
        }
        let distances = [
            (1, 0, 0),
            (4, 3, 0),
            (5, 4, 1),
            (6, 4, 1),
            (7, 5, 1),
            (9, 6, 2),
            (24577, 29, 13),
            (32768, 29, 13),
            (16385, 28, 13),
        ];
        for (distance, symbol, extra) in distances {
            assert_eq!(distance_symbol(distance - 1), (symbol, extra), "distance {distance}");
            assert_eq!(distance_extra(symbol), extra, "distance {distance}");
        }
    }
}
