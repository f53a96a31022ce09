//! Go's levels 1, 0 and -2: pieces of 65535 bytes, each a block.

use super::super::Encoder;
use super::super::bits::Bits;
use super::super::input::{Input, ORIGIN, View, back, table};
use super::super::symbol::{LONGEST, Token};
use super::block;

/// Bytes of a piece.
const PIECE: usize = 65535;
/// How far back matches reach.
const REACH: usize = 1 << 15;
/// No search begins in so many last bytes of a piece.
const MARGIN: usize = 15;

/// What becomes of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Level 1: matches from a table with one position for each hash.
    Fast,
    /// Level -2.
    Literals,
    /// Level 0.
    Stored,
}

/// The encoder.
#[derive(Debug)]
pub(super) struct Pieces {
    kind: Kind,
    input: Input,
    at: usize,
    table: Table,
    tokens: Vec<Token>,
}

impl Pieces {
    pub(super) fn new(kind: Kind) -> Self {
        let table = Table { positions: table(), values: table() };
        Self { kind, input: Input::new(), at: ORIGIN, table, tokens: Vec::new() }
    }

    fn piece(&mut self, length: usize, out: &mut Bits) {
        let (from, to) = (self.at, self.at + length);
        let content = self.input.view().range(from, to);
        match self.kind {
            Kind::Stored => out.stored(content, false),
            Kind::Literals => block::write_literals(content, out),
            Kind::Fast if length < 128 => {
                if length <= 16 {
                    out.stored(content, false);
                } else {
                    block::write_literals(content, out);
                }
            }
            Kind::Fast => {
                self.tokens.clear();
                self.table.tokens(self.input.view(), from, to, &mut self.tokens);
                if self.tokens.len() > length - length / 16 {
                    block::write_literals(content, out);
                } else {
                    block::write_dynamic(&self.tokens, content, out);
                }
            }
        }
        self.at = to;
    }
}

impl Encoder for Pieces {
    fn write(&mut self, input: &[u8], out: &mut Bits) {
        self.input.append(input);
        while self.input.end() - self.at >= PIECE {
            self.piece(PIECE, out);
        }
        self.input.discard(self.at.saturating_sub(PIECE + REACH));
        if let Some(by) = self.input.due() {
            self.input.rebase(by);
            back(&mut self.table.positions[..], by);
            self.at -= by;
        }
    }

    fn finish(&mut self, out: &mut Bits) {
        let left = self.input.end() - self.at;
        if left > 0 {
            self.piece(left, out);
        }
        out.stored(&[], true);
    }
}

/// The four bytes and the position that were last seen for each hash.
#[derive(Debug)]
struct Table {
    positions: Box<[u32; 1 << 14]>,
    values: Box<[u32; 1 << 14]>,
}

impl Table {
    /// Enters a position; gives the one before it with the same four bytes within reach.
    #[inline]
    fn enter(&mut self, view: View<'_>, at: usize) -> Option<usize> {
        let value = view.le32(at);
        let hash = (value.wrapping_mul(0x1E35_A7BD) >> 18) as usize;
        let (position, seen) = (self.positions[hash] as usize, self.values[hash]);
        self.positions[hash] = at as u32;
        self.values[hash] = value;
        (position > 0 && seen == value && at - position <= REACH).then_some(position)
    }

    fn tokens(&mut self, view: View<'_>, from: usize, to: usize, tokens: &mut Vec<Token>) {
        let limit = to - MARGIN;
        let mut emitted = from; // bytes before it have tokens
        let mut start = from;
        'scan: while start < limit {
            let mut step = 32;
            let mut at = start;
            let mut source = loop {
                let next = at + step / 32;
                step += step / 32;
                if next > limit {
                    break 'scan;
                }
                if let Some(source) = self.enter(view, at) {
                    break source;
                }
                at = next;
            };
            tokens.extend(view.range(emitted, at).iter().map(|&byte| Token::literal(byte)));
            loop {
                let more = (LONGEST - 4).min(to - at - 4);
                // The bytes of a match that begins before the previous piece are no longer there.
                let length =
                    if source + PIECE >= from { 4 + view.common(source + 4, at + 4, more) } else { 4 };
                tokens.push(Token::copy(length, at - source));
                at += length;
                emitted = at;
                if at >= limit {
                    break 'scan;
                }
                self.enter(view, at - 1);
                match self.enter(view, at) {
                    Some(found) => source = found,
                    None => break,
                }
            }
            start = at + 1;
        }
        tokens.extend(view.range(emitted, to).iter().map(|&byte| Token::literal(byte)));
    }
}
