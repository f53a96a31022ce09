//! klauspost's level 1.

use super::super::input::{View, back, table};
use super::matcher::{Match, Piece, REACH, hash5};

/// The newest position of each hash.
#[derive(Debug)]
pub(super) struct One(Box<[u32; REACH]>);

impl One {
    pub(super) fn new() -> Self {
        Self(table())
    }

    pub(super) fn forget(&mut self) {
        self.0.fill(0);
    }

    pub(super) fn back(&mut self, by: usize) {
        back(&mut self.0[..], by);
    }

    /// Enters a position and gives the one before it.
    #[inline]
    fn enter(&mut self, view: View<'_>, at: usize) -> usize {
        std::mem::replace(&mut self.0[hash5(view, at)], at as u32) as usize
    }

    pub(super) fn tokens(&mut self, piece: &mut Piece<'_>) {
        let view = piece.view;
        let mut at = piece.emitted;
        'scan: loop {
            let mut next;
            let mut source = loop {
                next = at + 2 + (at - piece.emitted) / 32;
                if next > piece.limit {
                    break 'scan;
                }
                let source = self.enter(view, at);
                if piece.fits(source, at) {
                    self.enter(view, next);
                    break source;
                }
                let slot = hash5(view, next);
                let source = std::mem::replace(&mut self.0[slot], next as u32) as usize;
                at = next;
                next += 1;
                if piece.fits(source, at) {
                    self.0[slot] = next as u32;
                    break source;
                }
                at = next;
            };
            loop {
                let length = piece.emit(Match { at, source, length: piece.long(source, at) });
                at = piece.emitted;
                if next >= at {
                    at = next + 1;
                }
                if at >= piece.limit {
                    if at + length + 8 < piece.end {
                        self.enter(view, at);
                    }
                    break 'scan;
                }
                self.enter(view, at - 2);
                source = self.enter(view, at);
                if at - source > REACH || view.le32(source) != view.le32(at) {
                    break;
                }
            }
            at += 1;
        }
        piece.finish();
    }
}
