//! The matcher of zlib and GNU gzip: hash chains, greedy or lazy.

use super::super::Border;
use super::super::bits::Bits;
use super::super::code::Codes;
use super::super::input::{Input, ORIGIN, View, back, table};
use super::super::symbol::{Counts, DISTANCES, LONGEST, Token, distance_extra};
use super::block;

/// Half of the window.
const REACH: usize = 1 << 15;
/// The shortest amount ahead with which the encoders go on while more input may come.
const LOOKAHEAD: usize = 262;
/// How far back matches reach.
const FARTHEST: usize = REACH - LOOKAHEAD;
/// Matches of three bytes reach no farther than this where a better one may follow.
const NEAR: usize = 4096;
/// How much has to lie ahead before a decision does not depend on what comes after.
const AHEAD: usize = LOOKAHEAD + LONGEST;

/// What tells one level from another.
#[derive(Debug, Clone, Copy)]
struct Level {
    good: usize,
    lazy: usize,
    nice: usize,
    chain: usize,
}

const LEVELS: [Level; 9] = [
    Level { good: 4, lazy: 4, nice: 8, chain: 4 },
    Level { good: 4, lazy: 5, nice: 16, chain: 8 },
    Level { good: 4, lazy: 6, nice: 32, chain: 32 },
    Level { good: 4, lazy: 4, nice: 16, chain: 16 },
    Level { good: 8, lazy: 16, nice: 32, chain: 32 },
    Level { good: 8, lazy: 16, nice: 128, chain: 128 },
    Level { good: 8, lazy: 32, nice: 128, chain: 256 },
    Level { good: 32, lazy: 128, nice: 258, chain: 1024 },
    Level { good: 32, lazy: 258, nice: 258, chain: 4096 },
];

/// Which of the two the matcher is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Zlib,
    Gnu,
}

/// The matcher with the blocks that it fills.
#[derive(Debug)]
pub(super) struct Chain {
    kind: Kind,
    level: u8,
    setting: Level,
    pub(super) input: Input,
    chains: Chains,
    /// The position that is next.
    pub(super) at: usize,
    /// Where the window of 64 KiB begins.
    base: usize,
    block: usize,
    /// Whether the byte before `at` waits for the decision at `at`.
    pending: bool,
    /// The match found there: length (2: none) and distance.
    found: (usize, usize),
    tokens: Vec<Token>,
    /// Whether the encoder has seen that no input is left.
    ended: bool,
    /// Whether the window has moved.
    moved: bool,
    /// The first position before `at` that still has to be entered after a flush; far ahead when there is none.
    late: usize,
    pub(super) border: Option<Border>,
    fixed: Codes,
}

impl Chain {
    /// Of a level from 1 to 9.
    pub(super) fn new(kind: Kind, level: u8) -> Option<Self> {
        let setting = *LEVELS.get(usize::from(level).checked_sub(1)?)?;
        Some(Self {
            kind,
            level,
            setting,
            input: Input::new(),
            chains: Chains { heads: table(), previous: table() },
            at: ORIGIN,
            base: ORIGIN,
            block: ORIGIN,
            pending: false,
            found: (2, 0),
            tokens: Vec::with_capacity(1 << 15),
            ended: false,
            moved: false,
            late: usize::MAX,
            border: None,
            fixed: Codes::fixed(),
        })
    }

    /// Begins anew at the present position, with the 32 KiB before it (or what there is) as dictionary. The run will
    /// go to `end`.
    pub(super) fn restart(&mut self, end: usize) {
        self.chains.heads.fill(0);
        self.base = (self.at - REACH).max(ORIGIN);
        self.block = self.at;
        for position in self.base..self.at.min(end.saturating_sub(2)) {
            self.chains.enter(self.input.view(), position);
        }
    }

    /// Begins at a border.
    pub(super) fn resume(&mut self, border: Border, before: &[u8]) -> bool {
        if self.level < 4 || border.window as usize > 2 * REACH {
            return false;
        }
        self.input.append(before);
        self.at = self.input.end();
        self.block = self.at;
        // The window may begin before what there is, but nothing there is within reach.
        self.base = self.at - border.window as usize;
        self.moved = u64::from(border.window) != border.input;
        self.late = ORIGIN;
        true
    }

    /// Goes on as far as decisions are certain.
    pub(super) fn run(&mut self, out: &mut Bits) {
        let end = self.input.end();
        self.enter_late(end);
        while end - self.at >= AHEAD {
            self.step(end, out);
        }
        self.tidy();
    }

    /// Goes on to `end` with all decisions, and writes the block that is open.
    pub(super) fn run_to(&mut self, end: usize, last: bool, out: &mut Bits) {
        self.enter_late(end);
        while self.at < end {
            self.step(end, out);
        }
        if self.pending {
            // This one does not close a block that is full.
            self.tokens.push(Token::literal(self.input.view().at(self.at - 1)));
            self.pending = false;
        }
        self.found = (2, 0);
        if last || !self.tokens.is_empty() {
            self.close(self.at, last, out);
        }
        self.tidy();
    }

    /// Writes all that there is, and an empty stored block.
    pub(super) fn flush(&mut self, out: &mut Bits) -> bool {
        if self.kind == Kind::Gnu {
            return false;
        }
        self.run_to(self.input.end(), false, out);
        out.stored(&[], false);
        self.late = (self.at - 2).max(ORIGIN);
        true
    }

    /// Enters the positions before a flush that could not be entered for want of bytes after them.
    fn enter_late(&mut self, end: usize) {
        while self.late < self.at && self.late + 3 <= end {
            self.chains.enter(self.input.view(), self.late);
            self.late += 1;
        }
        if self.late >= self.at {
            self.late = usize::MAX;
        }
    }

    fn step(&mut self, end: usize, out: &mut Bits) {
        self.slide(end);
        if self.level < 4 { self.greedy(end, out) } else { self.lazy(end, out) }
    }

    /// Moves the window as the encoder does before it looks for more input.
    fn slide(&mut self, end: usize) {
        if self.ended {
            return;
        }
        loop {
            let filled = end.min(self.base + 2 * REACH);
            if filled - self.at >= LOOKAHEAD {
                return;
            }
            if self.at - self.base >= REACH + FARTHEST {
                self.base += REACH;
                self.moved = true;
            }
            if self.kind == Kind::Zlib {
                return;
            }
            if end == filled {
                self.ended = true;
                self.append_stale(end);
                return;
            }
        }
    }

    /// Appends what lies behind the input in GNU gzip's window: its comparisons run on into it.
    fn append_stale(&mut self, end: usize) {
        let view = self.input.view();
        let moved = self.moved;
        let stale: Vec<u8> =
            (0..LONGEST + 2).map(|i| if i < 2 || !moved { 0 } else { view.at(end + i - REACH) }).collect();
        self.input.append(&stale);
    }

    /// The match to take at `at`, of a length above `best`; (`best`, 0) when none.
    #[inline]
    fn look(&mut self, end: usize, best: usize) -> (usize, usize) {
        let (at, left) = (self.at, end - self.at);
        let gnu = self.kind == Kind::Gnu;
        if left < 3 && !gnu {
            return (2, 0);
        }
        let view = self.input.view();
        let head = self.chains.enter(view, at);
        let greedy = self.level < 4;
        // The byte where the window begins is never a source.
        if head <= self.base || at - head > FARTHEST || !greedy && best >= self.setting.lazy {
            return (2, 0);
        }
        if gnu && at - self.base > REACH + FARTHEST {
            return (2, 0);
        }
        let tries = if best >= self.setting.good { self.setting.chain / 4 } else { self.setting.chain };
        let most = if gnu { LONGEST } else { LONGEST.min(left) };
        let lowest = self.base.max(at - FARTHEST);
        let (length, distance) =
            self.chains.search(view, at, head, lowest, best, most, self.setting.nice, tries);
        let length = length.min(left);
        if !greedy && length == 3 && distance > NEAR { (2, 0) } else { (length, distance) }
    }

    fn greedy(&mut self, end: usize, out: &mut Bits) {
        let at = self.at;
        let (length, distance) = self.look(end, 2);
        if length < 3 {
            let byte = self.input.view().at(at);
            self.at += 1;
            return self.push(Token::literal(byte), at, self.at, out);
        }
        self.at += length;
        if length <= self.setting.lazy && (self.kind == Kind::Gnu || end - self.at >= 3) {
            self.chains.enter_all(self.input.view(), at + 1, self.at);
        }
        self.push(Token::copy(length, distance), at, self.at, out);
    }

    fn lazy(&mut self, end: usize, out: &mut Bits) {
        let at = self.at;
        let before = self.found;
        let found = self.look(end, before.0);
        if before.0 >= 3 && found.0 <= before.0 {
            let after = at - 1 + before.0;
            let entered = if self.kind == Kind::Gnu { after } else { after.min(end.saturating_sub(2)) };
            self.chains.enter_all(self.input.view(), at + 1, entered);
            self.at = after;
            self.pending = false;
            self.found = (2, 0);
            self.push(Token::copy(before.0, before.1), at, after, out);
        } else {
            let pending = std::mem::replace(&mut self.pending, true);
            self.found = found;
            self.at += 1;
            if pending {
                let byte = self.input.view().at(at - 1);
                self.push(Token::literal(byte), at, at, out);
            }
        }
    }

    /// Adds a token that was decided on at `at` and ends before `after`.
    #[inline]
    fn push(&mut self, token: Token, at: usize, after: usize, out: &mut Bits) {
        self.tokens.push(token);
        let full = match self.kind {
            Kind::Zlib => self.tokens.len() == 16383,
            Kind::Gnu => {
                self.tokens.len() == 32767
                    || self.tokens.len().is_multiple_of(4096) && self.level >= 3 && self.compresses_well(at)
            }
        };
        if full {
            self.close(after, false, out);
        }
    }

    /// Whether GNU gzip ends a block early since it has become half as large as its content.
    fn compresses_well(&self, at: usize) -> bool {
        let counts = Counts::of(&self.tokens);
        let tokens = self.tokens.len() as u64;
        let distances =
            (0..DISTANCES).map(|s| u64::from(counts.distances[s]) * (5 + u64::from(distance_extra(s))));
        let estimate = (8 * tokens + distances.sum::<u64>()) / 8;
        u64::from(counts.matches()) < tokens / 2 && estimate < (at - self.block) as u64 / 2
    }

    fn close(&mut self, after: usize, last: bool, out: &mut Bits) {
        let view = self.input.view();
        let content = (self.block >= self.base).then(|| view.range(self.block, after));
        block::write(&self.fixed, &self.tokens, content, last, out);
        self.tokens.clear();
        self.block = after;
        // After a match of a lazy level nothing is pending, and every position before has been entered.
        if self.level >= 4 && !self.pending && self.at == after {
            let window = (after - self.base) as u32;
            self.border = Some(Border { input: self.input.before(after), window, bit: out.position() });
        }
    }

    fn tidy(&mut self) {
        self.input.discard(self.base.min(self.at - REACH));
        if let Some(by) = self.input.due() {
            self.input.rebase(by);
            back(&mut self.chains.heads[..], by);
            back(&mut self.chains.previous[..], by);
            self.at -= by;
            self.base -= by;
            self.late = self.late.saturating_sub(by);
            self.block = self.block.saturating_sub(by);
        }
    }
}

/// Positions by the hash of the three bytes there.
#[derive(Debug)]
struct Chains {
    /// The newest position of each hash.
    heads: Box<[u32; REACH]>,
    /// For a position modulo [`REACH`], the one before it in its chain.
    previous: Box<[u32; REACH]>,
}

impl Chains {
    /// Enters a position and gives what was the newest of its chain.
    #[inline]
    fn enter(&mut self, view: View<'_>, position: usize) -> usize {
        let [a, b, c] = view.three(position);
        let hash = (usize::from(a) << 10 ^ usize::from(b) << 5 ^ usize::from(c)) % REACH;
        let head = self.heads[hash];
        self.previous[position % REACH] = head;
        self.heads[hash] = position as u32;
        head as usize
    }

    fn enter_all(&mut self, view: View<'_>, from: usize, to: usize) {
        for position in from..to {
            self.enter(view, position);
        }
    }

    /// The longest match above `best`, the nearest of equals; (`best`, 0) when none.
    #[inline]
    #[allow(clippy::too_many_arguments)]
    fn search(
        &self,
        view: View<'_>,
        at: usize,
        head: usize,
        lowest: usize,
        best: usize,
        most: usize,
        nice: usize,
        tries: usize,
    ) -> (usize, usize) {
        let nice = nice.min(most);
        let (mut length, mut distance) = (best, 0);
        let mut candidate = head;
        for _ in 0..tries {
            // A candidate can only be longer if it is equal where the best so far ended.
            if length < most
                && view.at(candidate + length) == view.at(at + length)
                && view.at(candidate + length - 1) == view.at(at + length - 1)
            {
                let n = view.common(candidate, at, most);
                if n > length {
                    (length, distance) = (n, at - candidate);
                    if n >= nice {
                        break;
                    }
                }
            }
            candidate = self.previous[candidate % REACH] as usize;
            if candidate <= lowest {
                break;
            }
        }
        (length, distance)
    }
}
