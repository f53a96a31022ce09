//! klauspost/compress, pgzip, and Go's compress/flate from 1.27 on.

mod block;
mod estimate;
mod matcher;
mod one;
mod two_tables;

use super::bits::Bits;
use super::input::{Input, ORIGIN};
use super::model::Form;
use super::symbol::Token;
use super::{Border, Encoder};
use block::Writer;
use matcher::Piece;
use one::One;
use two_tables::TwoTables;

/// Bytes of a piece.
const PIECE: usize = 65535;
/// How much is kept at most for extending matches backwards.
const HISTORY: usize = 5 * PIECE;
/// What of a block pgzip takes as the dictionary of the next.
const DICTIONARY: usize = 16384;
/// Where the history begins once it has become too long.
const REACH: usize = 1 << 15;

/// One writer's encoder at level 1, 5 or 6.
pub(super) fn single(form: Form, level: u8) -> Option<Box<dyn Encoder>> {
    Some(Box::new(Single(Run::new(form, level)?)))
}

/// pgzip at level 1, 5 or 6 with blocks of so many bytes.
pub(super) fn parallel(form: Form, level: u8, block: usize) -> Option<Box<dyn Encoder>> {
    Some(Box::new(Parallel { run: Run::new(form, level)?, block, border: None }))
}

#[derive(Debug)]
enum Matcher {
    One(One),
    TwoTables(TwoTables),
}

impl Matcher {
    fn forget(&mut self) {
        match self {
            Self::One(one) => one.forget(),
            Self::TwoTables(two) => two.forget(),
        }
    }

    fn back(&mut self, by: usize) {
        match self {
            Self::One(one) => one.back(by),
            Self::TwoTables(two) => two.back(by),
        }
    }

    fn tokens(&mut self, piece: &mut Piece<'_>) {
        match self {
            Self::One(one) => one.tokens(piece),
            Self::TwoTables(two) => two.tokens(piece),
        }
    }
}

/// Pieces that one writer compresses.
#[derive(Debug)]
struct Run {
    input: Input,
    /// Where the next piece begins.
    at: usize,
    /// Where the history begins.
    floor: usize,
    matcher: Matcher,
    writer: Writer,
    tokens: Vec<Token>,
}

impl Run {
    fn new(form: Form, level: u8) -> Option<Self> {
        let skip = if form == Form::V1150 { 0 } else { 2 };
        let matcher = match level {
            1 if form != Form::V1150 => Matcher::One(One::new()),
            5 => Matcher::TwoTables(TwoTables::new(false, skip)),
            6 => Matcher::TwoTables(TwoTables::new(true, skip)),
            _ => return None,
        };
        Some(Self {
            input: Input::new(),
            at: ORIGIN,
            floor: ORIGIN,
            matcher,
            writer: Writer::new(form),
            tokens: Vec::new(),
        })
    }

    /// Compresses full pieces while more input than they lies before `end`.
    fn run(&mut self, end: usize, out: &mut Bits) {
        while end - self.at > PIECE {
            self.piece(PIECE, false, out);
        }
    }

    /// Compresses what is left before `end`.
    fn sync(&mut self, end: usize, out: &mut Bits) {
        self.run(end, out);
        let left = end - self.at;
        if left > 0 {
            self.piece(left, true, out);
        }
    }

    fn piece(&mut self, length: usize, sync: bool, out: &mut Bits) {
        let (from, to) = (self.at, self.at + length);
        self.at = to;
        if sync && length < 128 {
            let content = self.input.view().range(from, to);
            if length <= 32 {
                self.writer.stored(content, out);
            } else {
                self.writer.literals(content, true, out);
            }
            return;
        }
        self.find(from, to);
        let content = self.input.view().range(from, to);
        if self.tokens.is_empty() {
            self.writer.stored(content, out);
        } else if self.tokens.len() > length - length / 16 {
            self.writer.literals(content, sync, out);
        } else {
            self.writer.tokens(&self.tokens, content, sync, out);
        }
    }

    /// Finds the tokens of a piece.
    fn find(&mut self, from: usize, to: usize) {
        if to - self.floor > HISTORY {
            self.floor = from - REACH;
        }
        self.tokens.clear();
        self.matcher.tokens(&mut Piece::new(self.input.view(), from, to, self.floor, &mut self.tokens));
    }

    /// Begins anew, with what lies before as dictionary.
    fn restart(&mut self, dictionary: usize) {
        self.matcher.forget();
        self.floor = self.at - dictionary;
        if dictionary > 0 {
            self.find(self.floor, self.at);
        }
    }

    fn tidy(&mut self) {
        self.input.discard(self.floor.min(self.at - REACH));
        if let Some(by) = self.input.due() {
            self.input.rebase(by);
            self.matcher.back(by);
            self.at -= by;
            self.floor -= by;
        }
    }
}

/// All of the input as one run.
#[derive(Debug)]
struct Single(Run);

impl Encoder for Single {
    fn write(&mut self, input: &[u8], out: &mut Bits) {
        self.0.input.append(input);
        self.0.run(self.0.input.end(), out);
        self.0.tidy();
    }

    fn finish(&mut self, out: &mut Bits) {
        self.0.sync(self.0.input.end(), out);
        out.empty_fixed(true);
    }
}

/// A run for each block.
#[derive(Debug)]
struct Parallel {
    run: Run,
    block: usize,
    border: Option<Border>,
}

impl Parallel {
    fn block(&mut self, end: usize, out: &mut Bits) {
        self.run.sync(end, out);
        out.stored(&[], false);
        self.border = Some(Border { input: self.run.input.before(end), window: 0, bit: out.position() });
        self.run.restart(DICTIONARY.min(end - ORIGIN));
        self.run.tidy();
    }
}

impl Encoder for Parallel {
    fn write(&mut self, input: &[u8], out: &mut Bits) {
        self.run.input.append(input);
        while self.run.input.end() - self.run.at >= self.block {
            self.block(self.run.at + self.block, out);
        }
    }

    fn border(&self) -> Option<Border> {
        self.border
    }

    fn resume(&mut self, _border: Border, before: &[u8]) -> bool {
        self.run.input.append(before);
        self.run.at = self.run.input.end();
        self.run.restart(DICTIONARY.min(before.len()));
        true
    }

    fn finish(&mut self, out: &mut Bits) {
        self.block(self.run.input.end(), out);
        out.empty_fixed(true);
    }
}
