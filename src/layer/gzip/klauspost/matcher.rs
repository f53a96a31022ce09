//! What the matchers of klauspost's levels 1, 5 and 6 share.

use super::super::input::View;
use super::super::symbol::{LONGEST, Token};

/// Matches reach back less than this.
pub(super) const REACH: usize = 1 << 15;
/// No search begins in so many last bytes of a piece.
const MARGIN: usize = 11;

/// A match: where it begins, where its bytes came from, and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Match {
    pub(super) at: usize,
    pub(super) source: usize,
    pub(super) length: usize,
}

/// The piece at work.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub(super) view: View<'a>,
    pub(super) end: usize,
    /// Matches are not looked for from here on.
    pub(super) limit: usize,
    /// What lies before this is not looked at when a match is extended backwards.
    pub(super) floor: usize,
    /// Bytes before it have tokens.
    pub(super) emitted: usize,
    pub(super) tokens: &'a mut Vec<Token>,
}

impl<'a> Piece<'a> {
    pub(super) fn new(
        view: View<'a>,
        from: usize,
        end: usize,
        floor: usize,
        tokens: &'a mut Vec<Token>,
    ) -> Self {
        Self { view, end, limit: end - MARGIN, floor, emitted: from, tokens }
    }

    /// Whether four bytes are equal within reach.
    #[inline]
    pub(super) fn fits(&self, source: usize, at: usize) -> bool {
        self.near(source, at) && self.view.le32(source) == self.view.le32(at)
    }

    /// Whether a source is within reach.
    #[inline]
    pub(super) fn near(&self, source: usize, at: usize) -> bool {
        at - source < REACH
    }

    /// How long a match is, up to the longest that one token can say.
    #[inline]
    pub(super) fn limited(&self, source: usize, at: usize) -> usize {
        self.view.common(source, at, LONGEST.min(self.end - at))
    }

    /// How long a match is, up to the end of the piece.
    #[inline]
    pub(super) fn long(&self, source: usize, at: usize) -> usize {
        self.view.common(source, at, self.end - at)
    }

    /// Emits a match, extended backwards, and the literals before it. Gives the length it has then.
    #[inline]
    pub(super) fn emit(&mut self, found: Match) -> usize {
        let Match { mut at, mut source, mut length } = found;
        while source > self.floor && at > self.emitted && self.view.at(source - 1) == self.view.at(at - 1) {
            at -= 1;
            source -= 1;
            length += 1;
        }
        self.literals(at);
        let mut left = length;
        while left > LONGEST {
            let part = if left > LONGEST + 3 { LONGEST } else { LONGEST - 3 };
            self.tokens.push(Token::copy(part, at - source));
            left -= part;
        }
        self.tokens.push(Token::copy(left, at - source));
        self.emitted = at + length;
        length
    }

    /// Emits what is left as literals; nothing at all when there was no match.
    pub(super) fn finish(&mut self) {
        if !self.tokens.is_empty() {
            self.literals(self.end);
        }
    }

    #[inline]
    fn literals(&mut self, to: usize) {
        let bytes = self.view.range(self.emitted, to);
        self.tokens.extend(bytes.iter().map(|&byte| Token::literal(byte)));
    }
}

/// One position for each hash.
#[inline]
pub(super) fn hash4(view: View<'_>, at: usize) -> usize {
    (view.le32(at).wrapping_mul(2_654_435_761) >> 17) as usize
}

/// A hash of five bytes, 15 bits.
#[inline]
pub(super) fn hash5(view: View<'_>, at: usize) -> usize {
    ((view.le64(at) << 24).wrapping_mul(889_523_592_379) >> 49) as usize
}

/// A hash of seven bytes, 15 bits.
#[inline]
pub(super) fn hash7(view: View<'_>, at: usize) -> usize {
    ((view.le64(at) << 8).wrapping_mul(58_295_818_150_454_627) >> 49) as usize
}
