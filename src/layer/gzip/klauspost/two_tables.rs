//! klauspost's levels 5 and 6: a table by four bytes, and one by seven that has two positions for each hash.

use super::super::input::{View, back, table};
use super::matcher::{Match, Piece, REACH, hash4, hash7};

/// Below this length, level 5 looks for a better match by the end of the one it has.
const SHORT: usize = 30;

/// The tables, and what tells the levels apart.
#[derive(Debug)]
pub(super) struct TwoTables {
    short: Box<[u32; REACH]>,
    /// For each hash the newest position and the one before it.
    long: Box<[u32; 2 * REACH]>,
    six: bool,
    /// How many bytes may differ at the beginning when a match is looked for by its end.
    skip: usize,
}

impl TwoTables {
    pub(super) fn new(six: bool, skip: usize) -> Self {
        Self { short: table(), long: table(), six, skip }
    }

    pub(super) fn forget(&mut self) {
        self.short.fill(0);
        self.long.fill(0);
    }

    pub(super) fn back(&mut self, by: usize) {
        back(&mut self.short[..], by);
        back(&mut self.long[..], by);
    }

    #[inline]
    fn enter_short(&mut self, view: View<'_>, at: usize) -> usize {
        std::mem::replace(&mut self.short[hash4(view, at)], at as u32) as usize
    }

    /// Enters a position and gives the two before it.
    #[inline]
    fn enter_long(&mut self, view: View<'_>, at: usize) -> (usize, usize) {
        let slot = 2 * hash7(view, at);
        let (newest, previous) = (self.long[slot], self.long[slot + 1]);
        self.long[slot] = at as u32;
        self.long[slot + 1] = newest;
        (newest as usize, previous as usize)
    }

    #[inline]
    fn enter(&mut self, view: View<'_>, at: usize) -> (usize, usize) {
        self.enter_short(view, at);
        self.enter_long(view, at)
    }

    pub(super) fn tokens(&mut self, piece: &mut Piece<'_>) {
        let view = piece.view;
        let pace = if self.six { 128 } else { 64 };
        let mut at = piece.emitted;
        let mut repeat = 1;
        loop {
            let next = at + 1 + (at - piece.emitted) / pace;
            if next > piece.limit {
                break;
            }
            let short = self.enter_short(view, at);
            let long = self.enter_long(view, at);
            let Some(found) = self.choose(piece, at, next, short, long, repeat) else {
                at = next;
                continue;
            };
            let found = self.by_end(piece, found);
            repeat = found.at - found.source;
            let length = piece.emit(found);
            at = piece.emitted;
            if next >= at {
                at = next + 1;
            }
            if at >= piece.limit {
                if self.six {
                    for inner in (next + 1..piece.end - 8).step_by(2) {
                        self.enter(view, inner);
                    }
                }
                break;
            }
            if self.six {
                for inner in (next + 1..at - 1).step_by(2) {
                    self.enter(view, inner);
                    self.enter_long(view, inner + 1);
                }
                continue;
            }
            let inner = at - length + 1;
            if inner < at - 1 {
                self.enter(view, inner);
                self.enter_long(view, inner + 1);
                self.enter_short(view, inner + 2);
                for inner in (inner + 4..at - 1).step_by(3) {
                    self.enter_long(view, inner);
                    self.enter_short(view, inner + 1);
                }
            }
            self.enter(view, at - 1);
        }
        piece.finish();
    }

    /// The match that begins at `at` or at `next`, of the candidates that the tables have for `at`. When there is one,
    /// `next` is entered.
    #[inline]
    fn choose(
        &mut self,
        piece: &Piece<'_>,
        at: usize,
        next: usize,
        short: usize,
        long: (usize, usize),
        repeat: usize,
    ) -> Option<Match> {
        let view = piece.view;
        if piece.near(long.0, at) {
            let (newest, previous) = (piece.fits(long.0, at), piece.fits(long.1, at));
            if newest || previous {
                self.enter(view, next);
                let source = match (newest, previous) {
                    (true, true) => {
                        let lengths = (piece.limited(long.0, at), piece.limited(long.1, at));
                        let (source, length) =
                            if lengths.1 > lengths.0 { (long.1, lengths.1) } else { (long.0, lengths.0) };
                        return Some(whole(piece, Match { at, source, length }));
                    }
                    (true, false) => long.0,
                    _ => long.1,
                };
                return Some(Match { at, source, length: piece.long(source, at) });
            }
        }
        if !piece.fits(short, at) {
            return None;
        }
        let mut found = Match { at, source: short, length: piece.limited(short, at) };
        self.enter_short(view, next);
        let (newest, previous) = self.enter_long(view, next);
        if self.six {
            let source = at + 1 - repeat;
            if view.le32(source) == view.le32(at + 1) {
                let length = piece.limited(source, at + 1);
                if length > found.length {
                    return Some(whole(piece, Match { at: at + 1, source, length }));
                }
            }
        }
        if piece.near(newest, next) {
            if let Some(better) = longer(piece, newest, next, found.length) {
                found = better;
                if !self.six {
                    return Some(whole(piece, found));
                }
            }
            found = longer(piece, previous, next, found.length).unwrap_or(found);
        }
        Some(whole(piece, found))
    }

    /// A longer match whose end agrees with that of `found`, or `found`.
    #[inline]
    fn by_end(&self, piece: &Piece<'_>, found: Match) -> Match {
        let end = found.at + found.length;
        if end >= piece.limit || !self.six && found.length >= SHORT {
            return found;
        }
        let slot = 2 * hash7(piece.view, end);
        let at = found.at + self.skip;
        let mut best = found;
        for (number, &position) in self.long[slot..slot + 2].iter().enumerate() {
            // The source would begin at `position - best.length + skip`.
            let (ahead, behind) = (found.at + best.length, position as usize);
            let distance = ahead.wrapping_sub(behind);
            let near = behind < ahead && distance < REACH;
            if number == 0 && behind < ahead && !near || number == 1 && !self.six {
                break;
            }
            if near && at - distance >= piece.floor && at > distance {
                let length = piece.long(at - distance, at);
                if length > best.length {
                    best = Match { at, source: at - distance, length };
                }
            }
        }
        best
    }
}

/// A match at `at` that is longer than `length`.
#[inline]
fn longer(piece: &Piece<'_>, source: usize, at: usize, length: usize) -> Option<Match> {
    if !piece.fits(source, at) {
        return None;
    }
    let found = piece.limited(source, at);
    (found > length).then_some(Match { at, source, length: found })
}

/// The match in full, if it was cut to what one token can say.
#[inline]
fn whole(piece: &Piece<'_>, found: Match) -> Match {
    if found.length == super::super::symbol::LONGEST {
        return Match { length: piece.long(found.source, found.at), ..found };
    }
    found
}
