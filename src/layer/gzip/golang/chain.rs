//! Go's levels 2 to 9: hash chains, greedy or lazy.

use super::super::bits::Bits;
use super::super::code::Codes;
use super::super::input::{Input, ORIGIN, View, back, table};
use super::super::symbol::{LONGEST, Token};
use super::super::{Border, Encoder};
use super::block;

/// Tokens of a block.
const TOKENS: usize = 1 << 14;
/// How far back matches reach.
const REACH: usize = 1 << 15;
/// How much has to lie ahead before a decision does not depend on what comes after.
const AHEAD: usize = 65536 - (65536 - 262) + LONGEST;
/// Matches of four bytes reach no farther than this.
const NEAR: usize = 4096;

/// What tells one level from another.
#[derive(Debug, Clone, Copy)]
struct Level {
    /// A match is looked for beside one that is shorter than this; 0 for the greedy levels.
    lazy: usize,
    nice: usize,
    chain: usize,
    /// The longest match of a greedy level inside which positions are entered.
    skip: usize,
}

const LEVELS: [Level; 8] = [
    Level { lazy: 0, nice: 16, chain: 8, skip: 5 },
    Level { lazy: 0, nice: 32, chain: 32, skip: 6 },
    Level { lazy: 4, nice: 16, chain: 16, skip: 0 },
    Level { lazy: 16, nice: 32, chain: 32, skip: 0 },
    Level { lazy: 16, nice: 128, chain: 128, skip: 0 },
    Level { lazy: 32, nice: 128, chain: 256, skip: 0 },
    Level { lazy: 128, nice: 258, chain: 1024, skip: 0 },
    Level { lazy: 258, nice: 258, chain: 4096, skip: 0 },
];

/// Positions by the hash of the four bytes there.
#[derive(Debug)]
struct Chains {
    /// The newest position of each hash.
    heads: Box<[u32; 1 << 17]>,
    /// For a position modulo [`REACH`], the one before it in its chain.
    previous: Box<[u32; REACH]>,
}

impl Chains {
    /// Enters a position and gives what was the newest of its chain.
    #[inline]
    fn enter(&mut self, view: View<'_>, position: usize) -> usize {
        let hash = (view.be32(position).wrapping_mul(0x1E35_A7BD) >> 15) as usize;
        let head = self.heads[hash];
        self.previous[position % REACH] = head;
        self.heads[hash] = position as u32;
        head as usize
    }

    /// Enters positions, but none of the last three before `end`.
    fn enter_all(&mut self, view: View<'_>, from: usize, to: usize, end: usize) {
        for position in from..to.min(end.saturating_sub(3)) {
            self.enter(view, position);
        }
    }

    /// The length and distance of the match at `at` that Go takes of the chain that begins at `head`.
    #[inline]
    fn search(
        &self,
        view: View<'_>,
        at: usize,
        head: usize,
        lowest: usize,
        most: usize,
        level: Level,
    ) -> (usize, usize) {
        let nice = level.nice.min(most);
        let (mut length, mut distance) = (3, 0);
        let mut candidate = head;
        for _ in 0..level.chain {
            if candidate < lowest {
                break;
            }
            // A candidate can only be longer if it is equal where the best so far ended.
            if length < most && view.at(candidate + length) == view.at(at + length) {
                let n = view.common(candidate, at, most);
                if n > length && (n > 4 || at - candidate <= NEAR) {
                    (length, distance) = (n, at - candidate);
                    if n >= nice {
                        break;
                    }
                }
            }
            if candidate + REACH == at {
                break;
            }
            candidate = self.previous[candidate % REACH] as usize;
        }
        (length, distance)
    }
}

/// The encoder.
#[derive(Debug)]
pub(super) struct Chain {
    level: Level,
    input: Input,
    chains: Chains,
    /// The position that is next.
    at: usize,
    /// Where Go's window of 64 KiB begins.
    base: usize,
    block: usize,
    /// Whether the byte before `at` waits for the decision at `at`.
    pending: bool,
    /// The match found there: length (3: none) and distance.
    found: (usize, usize),
    tokens: Vec<Token>,
    border: Option<Border>,
    /// The first position before a border begun at that has still to be entered; far ahead when there is none.
    late: usize,
    fixed: Codes,
}

impl Chain {
    /// Of a level from 2 to 9.
    pub(super) fn new(level: u8) -> Option<Self> {
        let level = *LEVELS.get(usize::from(level).checked_sub(2)?)?;
        Some(Self {
            level,
            input: Input::new(),
            chains: Chains { heads: table(), previous: table() },
            at: ORIGIN,
            base: ORIGIN,
            block: ORIGIN,
            pending: false,
            found: (3, 0),
            tokens: Vec::with_capacity(TOKENS),
            border: None,
            late: usize::MAX,
            fixed: Codes::fixed(),
        })
    }

    /// Goes on as far as decisions are certain, or to the end.
    fn run(&mut self, ended: bool, out: &mut Bits) {
        let end = self.input.end();
        if self.late < self.at && end >= self.at + 3 {
            self.chains.enter_all(self.input.view(), self.late, self.at, end);
            self.late = usize::MAX;
        }
        while self.at < end && (ended || end - self.at >= AHEAD) {
            if self.at - self.base > 65536 - 262 && end > self.base + 65536 {
                self.base += 32768;
            }
            if self.level.lazy == 0 { self.greedy(end, out) } else { self.lazy(end, out) }
        }
    }

    /// The match that the chains know at `at`; length 3 when none. The last three positions are not entered.
    #[inline]
    fn look(&mut self, end: usize) -> (usize, usize) {
        let (at, before) = (self.at, self.found.0);
        if at + 3 >= end {
            return (3, 0);
        }
        let view = self.input.view();
        let head = self.chains.enter(view, at);
        if self.level.lazy > 0 && (before >= self.level.lazy || before >= end - at) {
            return (3, 0);
        }
        let lowest = (at - REACH).max(self.base);
        self.chains.search(view, at, head, lowest, LONGEST.min(end - at), self.level)
    }

    fn greedy(&mut self, end: usize, out: &mut Bits) {
        let at = self.at;
        let found = self.look(end);
        if found.0 > 3 {
            if found.0 <= self.level.skip {
                self.chains.enter_all(self.input.view(), at + 1, at + found.0, end);
            }
            self.at += found.0;
            self.push(Token::copy(found.0, found.1), self.at, out);
        } else {
            let byte = self.input.view().at(at);
            self.at += 1;
            self.push(Token::literal(byte), self.at, out);
        }
    }

    fn lazy(&mut self, end: usize, out: &mut Bits) {
        let at = self.at;
        let before = self.found;
        let found = self.look(end);
        if before.0 > 3 && found.0 <= before.0 {
            let after = at - 1 + before.0;
            self.chains.enter_all(self.input.view(), at + 1, after, end);
            self.at = after;
            self.pending = false;
            self.found = (3, 0);
            self.push(Token::copy(before.0, before.1), after, out);
        } else {
            if self.pending {
                let byte = self.input.view().at(at - 1);
                self.push(Token::literal(byte), at, out);
            }
            self.pending = true;
            self.found = found;
            self.at += 1;
        }
    }

    /// Adds a token that ends before `after`.
    #[inline]
    fn push(&mut self, token: Token, after: usize, out: &mut Bits) {
        self.tokens.push(token);
        if self.tokens.len() == TOKENS {
            self.close(after, out);
        }
    }

    fn close(&mut self, after: usize, out: &mut Bits) {
        let view = self.input.view();
        let content = (self.block >= self.base).then(|| view.range(self.block, after));
        block::write(&self.fixed, &self.tokens, content, out);
        self.tokens.clear();
        self.block = after;
        // After a match of a lazy level nothing is pending, and every position before has been entered.
        if self.level.lazy > 0 && !self.pending && self.at == after {
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
            self.block = self.block.saturating_sub(by);
        }
    }
}

impl Encoder for Chain {
    fn write(&mut self, input: &[u8], out: &mut Bits) {
        self.input.append(input);
        self.run(false, out);
        self.tidy();
    }

    fn border(&self) -> Option<Border> {
        self.border
    }

    fn resume(&mut self, border: Border, before: &[u8]) -> bool {
        if self.level.lazy == 0 || border.window > 65536 {
            return false;
        }
        self.input.append(before);
        self.at = self.input.end();
        self.block = self.at;
        // The window may begin before what there is, but nothing there is within reach.
        self.base = self.at - border.window as usize;
        self.late = ORIGIN;
        true
    }

    fn flush(&mut self, out: &mut Bits) -> bool {
        self.drain(out);
        out.stored(&[], false);
        true
    }

    fn finish(&mut self, out: &mut Bits) {
        self.drain(out);
        out.stored(&[], true);
    }
}

impl Chain {
    /// Makes all decisions that are left, and writes the block that is open.
    fn drain(&mut self, out: &mut Bits) {
        self.run(true, out);
        if self.pending {
            let byte = self.input.view().at(self.at - 1);
            self.pending = false;
            self.push(Token::literal(byte), self.at, out);
        }
        if !self.tokens.is_empty() {
            self.close(self.at, out);
        }
    }
}
