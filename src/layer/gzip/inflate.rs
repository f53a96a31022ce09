//! Reading a deflate stream together with how its blocks are made.

use std::io::{self, Read};

use super::decoder::{Decoder, bad};
use super::symbol::{DISTANCES, END, LENGTHS, distance_extra, length_extra};

/// How far back matches reach.
const REACH: usize = 1 << 15;
/// Bytes that are decoded at a time, about.
pub(super) const STEP: usize = 64 << 10;
/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;

/// How a block was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    /// Whether it is stored.
    pub(super) stored: bool,
    pub(super) last: bool,
    /// How many tokens it has.
    pub(super) tokens: usize,
    /// How many bytes it means.
    pub(super) length: usize,
}

/// Why reading paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// There is enough output for once.
    Enough,
    /// A block has ended.
    Block(Block),
}

/// What kind of block is being read.
#[derive(Debug)]
enum Within {
    Nothing,
    Stored(usize),
    Codes(Box<(Decoder, Decoder)>),
}

/// A reader of gzip members.
#[derive(Debug)]
pub(super) struct Inflate<R> {
    input: R,
    /// What was read; all of it from where the owner last took it away.
    raw: Vec<u8>,
    /// What of it has been moved into `held`.
    used: usize,
    held: u64,
    bits: u32,
    ended: bool,
    /// Zero bits that were invented behind the end of the input.
    missing: u32,
    output: Vec<u8>,
    /// What of the output is history.
    seen: usize,
    within: Within,
    block: Block,
    lengths: Box<[(u16, u8); 29]>,
    distances: Box<[(u16, u8); DISTANCES]>,
}

impl<R: Read> Inflate<R> {
    pub(super) fn new(input: R) -> Self {
        let mut lengths = Box::new([(258, 0); 29]);
        let mut base = 3;
        for (symbol, entry) in lengths.iter_mut().take(28).enumerate() {
            let extra = length_extra(257 + symbol);
            *entry = (base, extra as u8);
            base += 1 << extra;
        }
        let mut distances = Box::new([(0, 0); DISTANCES]);
        let mut base = 1;
        for (symbol, entry) in distances.iter_mut().enumerate() {
            let extra = distance_extra(symbol);
            *entry = (base, extra as u8);
            base += 1 << extra;
        }
        let block = Block { stored: false, last: false, tokens: 0, length: 0 };
        Self {
            input,
            raw: Vec::new(),
            used: 0,
            held: 0,
            bits: 0,
            ended: false,
            missing: 0,
            output: Vec::new(),
            seen: 0,
            within: Within::Nothing,
            block,
            lengths,
            distances,
        }
    }

    /// What was decoded since the last call.
    pub(super) fn fresh(&mut self) -> &[u8] {
        if self.seen > 8 * REACH {
            self.output.drain(..self.seen - REACH);
            self.seen = REACH;
        }
        let from = std::mem::replace(&mut self.seen, self.output.len());
        &self.output[from..]
    }

    /// The bytes of the input that have been used up since the last call.
    pub(super) fn take_raw(&mut self) -> Vec<u8> {
        let kept = self.raw.split_off(self.consumed());
        self.used -= self.raw.len();
        std::mem::replace(&mut self.raw, kept)
    }

    fn consumed(&self) -> usize {
        self.used - (self.bits.saturating_sub(self.missing) / 8) as usize
    }

    /// Begins the output of another member.
    pub(super) fn reset(&mut self) {
        self.output.clear();
        self.seen = 0;
        self.within = Within::Nothing;
    }

    /// Whether the input has ended.
    pub(super) fn at_end(&mut self) -> io::Result<bool> {
        self.align();
        self.refill()?;
        Ok(self.bits <= self.missing)
    }

    /// One byte, between members.
    pub(super) fn byte(&mut self) -> io::Result<u8> {
        self.align();
        self.take(8).map(|byte| byte as u8)
    }

    fn align(&mut self) {
        let odd = self.bits % 8;
        self.held >>= odd;
        self.bits -= odd;
    }

    #[inline]
    fn refill(&mut self) -> io::Result<()> {
        if let Some(bytes) = self.raw.get(self.used..self.used + 8) {
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            self.held |= u64::from_le_bytes(word) << self.bits;
            let bytes = (63 - self.bits) / 8;
            self.used += bytes as usize;
            self.bits += 8 * bytes;
            // Bits above `self.bits` may be set already; they are the same ones that come next.
            return Ok(());
        }
        self.refill_slowly()
    }

    #[cold]
    fn refill_slowly(&mut self) -> io::Result<()> {
        self.held &= (1 << self.bits) - 1;
        while self.bits <= 55 {
            if self.used == self.raw.len() && !self.ended {
                let before = self.raw.len();
                let read = (&mut self.input).take(CHUNK as u64).read_to_end(&mut self.raw)?;
                self.ended = read == 0 || self.raw.len() - before < CHUNK;
            }
            match self.raw.get(self.used) {
                Some(&byte) => {
                    self.held |= u64::from(byte) << self.bits;
                    self.used += 1;
                }
                None if self.missing < 128 => self.missing += 8,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
            self.bits += 8;
        }
        Ok(())
    }

    #[inline]
    fn drop_bits(&mut self, count: u32) {
        self.held >>= count;
        self.bits -= count;
    }

    /// The next bits, at most 16.
    fn take(&mut self, count: u32) -> io::Result<u32> {
        self.refill()?;
        let value = self.held as u32 & ((1 << count) - 1);
        self.drop_bits(count);
        if self.bits < self.missing {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(value)
    }

    /// Decodes until there is something to say.
    pub(super) fn run(&mut self) -> io::Result<Pause> {
        loop {
            let from = self.output.len();
            let ended = match std::mem::replace(&mut self.within, Within::Nothing) {
                Within::Nothing => {
                    self.begin()?;
                    continue;
                }
                Within::Stored(left) => {
                    let now = left.min(STEP);
                    for _ in 0..now {
                        let byte = self.take(8)?;
                        self.output.push(byte as u8);
                    }
                    self.within = Within::Stored(left - now);
                    left == now
                }
                Within::Codes(codes) => {
                    let ended = self.codes(&codes)?;
                    self.within = Within::Codes(codes);
                    ended
                }
            };
            self.block.length += self.output.len() - from;
            if self.bits < self.missing {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if ended {
                self.within = Within::Nothing;
                return Ok(Pause::Block(self.block));
            }
            if self.output.len() - self.seen >= STEP {
                return Ok(Pause::Enough);
            }
        }
    }

    /// Reads the head of a block.
    fn begin(&mut self) -> io::Result<()> {
        let last = self.take(1)? == 1;
        let kind = self.take(2)?;
        self.block = Block { stored: kind == 0, last, tokens: 0, length: 0 };
        self.within = match kind {
            0 => {
                self.align();
                let (length, inverse) = (self.take(16)?, self.take(16)?);
                if length ^ inverse != 0xffff {
                    return Err(bad("a stored block whose length is not confirmed"));
                }
                Within::Stored(length as usize)
            }
            1 => {
                let lengths: [u8; 288] = std::array::from_fn(|symbol| match symbol {
                    0..=143 => 8,
                    144..=255 => 9,
                    256..=279 => 7,
                    _ => 8,
                });
                Within::Codes(Box::new((Decoder::new(&lengths)?, Decoder::new(&[5; 32])?)))
            }
            2 => Within::Codes(Box::new(self.describe()?)),
            _ => return Err(bad("a block of a kind that does not exist")),
        };
        Ok(())
    }

    /// Reads the codes of a dynamic block.
    fn describe(&mut self) -> io::Result<(Decoder, Decoder)> {
        let lengths = self.take(5)? as usize + 257;
        let distances = self.take(5)? as usize + 1;
        let entries = self.take(4)? as usize + 4;
        if lengths > LENGTHS {
            return Err(bad("a block with too many symbols"));
        }
        let mut code = [0u8; 19];
        for &symbol in &super::code::ORDER[..entries] {
            code[symbol] = self.take(3)? as u8;
        }
        let code = Decoder::new(&code)?;
        let mut all = Vec::with_capacity(lengths + distances);
        while all.len() < lengths + distances {
            self.refill()?;
            let (symbol, bits) = code.decode(self.held)?;
            self.drop_bits(bits);
            let (length, count) = match symbol {
                16 => match all.last() {
                    Some(&length) => (length, 3 + self.take(2)?),
                    None => return Err(bad("a repeated code length without one before it")),
                },
                17 => (0, 3 + self.take(3)?),
                18 => (0, 11 + self.take(7)?),
                length => (length as u8, 1),
            };
            all.extend(std::iter::repeat_n(length, count as usize));
        }
        if all.len() > lengths + distances || all[END] == 0 {
            return Err(bad("a block whose code lengths do not fit"));
        }
        Ok((Decoder::new(&all[..lengths])?, Decoder::new(&all[lengths..])?))
    }

    /// Decodes tokens; whether the block has ended.
    fn codes(&mut self, codes: &(Decoder, Decoder)) -> io::Result<bool> {
        let stop = self.seen + STEP;
        while self.output.len() < stop {
            self.refill()?;
            let (symbol, bits) = codes.0.decode(self.held)?;
            self.drop_bits(bits);
            if symbol < END {
                self.output.push(symbol as u8);
                self.block.tokens += 1;
                continue;
            }
            if symbol == END {
                return Ok(true);
            }
            let Some(&(base, extra)) = self.lengths.get(symbol - 257) else {
                return Err(bad("a length that does not exist"));
            };
            let length = usize::from(base) + (self.held as usize & ((1 << extra) - 1));
            self.drop_bits(u32::from(extra));
            self.refill()?;
            let (symbol, bits) = codes.1.decode(self.held)?;
            self.drop_bits(bits);
            let Some(&(base, extra)) = self.distances.get(symbol) else {
                return Err(bad("a distance that does not exist"));
            };
            let distance = usize::from(base) + (self.held as usize & ((1 << extra) - 1));
            self.drop_bits(u32::from(extra));
            let Some(from) = self.output.len().checked_sub(distance) else {
                return Err(bad("a match from before the beginning"));
            };
            self.block.tokens += 1;
            if distance >= length {
                self.output.extend_from_within(from..from + length);
            } else {
                for at in from..from + length {
                    self.output.push(self.output[at]);
                }
            }
        }
        Ok(false)
    }
}
