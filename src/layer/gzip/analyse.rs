//! Finding the recipe of a gzip stream, by making it again while it is read.

use std::io::{self, Read};

use super::header::{self, Hints};
use super::inflate::{Block, Inflate, Pause};
use super::model::Model;
use super::recipe::{Checkpoint, FLUSHES, MEMBERS, Recipe};
use super::stream::Stream;

/// What of a member is read before encoders are tried: compressed, and decoded.
const PREFIX: usize = 1 << 20;
const DECODED: usize = 4 << 20;
/// Content that is compressed at a time.
const CHUNK: usize = 64 << 10;
/// Most encoders that are tried on the rest of a member.
const SURVIVORS: usize = 3;
/// How far checkpoints are apart in the tar, at least, and from its end, in bytes. Closer in tests, which then need less.
const APART: u64 = if cfg!(test) { 128 << 10 } else { 2 << 20 };
const TAIL: u64 = 64 << 10;
/// What a candidate may lag behind the stream, in bytes.
const LAG: usize = 8 << 20;

/// Reads a gzip stream to its end and finds out how to make it again; none when no model makes these bytes.
///
/// `sink` is handed the tar piece by piece. A recipe is proven: its encoders have made every byte of the stream. Errors
/// are those of `stream` and `sink`, and of a stream that is no gzip. Takes about 20 MiB of memory at most.
pub fn analyse(
    stream: impl Read,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Option<Recipe>> {
    let mut inflate = Inflate::new(stream);
    let mut recipe =
        Some(Recipe { size: 0, parts: Vec::new(), flushes: Vec::new(), checkpoints: Vec::new() });
    let (mut position, mut likely, mut members) = (0, None, 0);
    loop {
        let mut member = Member::begin(&mut inflate)?;
        member.wanted = recipe.is_some() && members < MEMBERS;
        let found = member.read(&mut inflate, likely, position, &mut sink)?;
        recipe = match (recipe, found) {
            (Some(mut recipe), Some(found)) if recipe.flushes.len() + found.flushes.len() <= FLUSHES => {
                recipe.push(found.model, &member.head, member.length);
                recipe.flushes.extend(found.flushes);
                recipe.checkpoints = if members == 0 { found.checkpoints } else { Vec::new() };
                likely = Some(found.model);
                Some(recipe)
            }
            _ => None,
        };
        position += member.length;
        members += 1;
        if let Some(recipe) = &mut recipe {
            recipe.size += member.size;
        }
        if inflate.at_end()? {
            return Ok(recipe);
        }
    }
}

/// What a member's encoder did.
struct Found {
    model: Model,
    flushes: Vec<u64>,
    checkpoints: Vec<Checkpoint>,
}

/// A member that is being read.
struct Member {
    head: Vec<u8>,
    /// Whether encoders are to be tried.
    wanted: bool,
    /// How much tar has been decoded, and how much of the stream was used for it.
    length: u64,
    size: u64,
    /// Positions in this member of empty stored blocks.
    marks: Vec<u64>,
    first: Option<Block>,
    ended: bool,
}

impl Member {
    fn begin(inflate: &mut Inflate<impl Read>) -> io::Result<Self> {
        inflate.reset();
        let head = header::read(|| inflate.byte())?;
        inflate.take_raw();
        Ok(Self {
            size: head.len() as u64,
            head,
            wanted: true,
            length: 0,
            marks: Vec::new(),
            first: None,
            ended: false,
        })
    }

    /// Reads on for a while: the tar and the stream, and whether a block that an encoder was told to flush has ended.
    fn step(&mut self, inflate: &mut Inflate<impl Read>) -> io::Result<(Vec<u8>, Vec<u8>, bool)> {
        let pause = inflate.run()?;
        let tar = inflate.fresh().to_vec();
        self.length += tar.len() as u64;
        let mut mark = false;
        if let Pause::Block(block) = pause {
            self.first.get_or_insert(block);
            mark = block.stored && !block.last && block.length == 0;
            if block.last {
                self.ended = true;
                for _ in 0..8 {
                    inflate.byte()?;
                }
            }
        }
        if mark && self.marks.len() <= FLUSHES {
            self.marks.push(self.length);
        }
        let raw = inflate.take_raw();
        self.size += raw.len() as u64;
        Ok((tar, raw, mark))
    }

    fn read(
        &mut self,
        inflate: &mut Inflate<impl Read>,
        likely: Option<Model>,
        position: u64,
        sink: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Option<Found>> {
        let (mut tar, mut raw) = (Vec::new(), Vec::new());
        while !self.ended && self.wanted && raw.len() < PREFIX && tar.len() < DECODED {
            let (more_tar, more_raw, _) = self.step(inflate)?;
            sink(&more_tar)?;
            tar.extend(more_tar);
            raw.extend(more_raw);
        }
        let mut candidates = if self.wanted { self.candidates(&tar, &raw, likely) } else { Vec::new() };
        drop((tar, raw));
        while !self.ended {
            let (tar, raw, mark) = self.step(inflate)?;
            sink(&tar)?;
            candidates.retain_mut(|candidate| candidate.follows(&tar, &raw, mark, self.ended));
        }
        Ok(candidates.first().map(|candidate| {
            let marks = if candidate.model.marks() { &[][..] } else { &self.marks };
            let mut checkpoints = if marks.is_empty() { candidate.checkpoints.clone() } else { Vec::new() };
            checkpoints.retain(|checkpoint| checkpoint.tar + TAIL <= self.length);
            checkpoints.iter_mut().for_each(|checkpoint| checkpoint.bit += 8 * self.head.len() as u64);
            Found {
                model: candidate.model,
                flushes: marks.iter().map(|&mark| position + mark).collect(),
                checkpoints,
            }
        }))
    }

    /// The encoders that make this beginning of a member, likely ones first.
    fn candidates(&self, tar: &[u8], raw: &[u8], likely: Option<Model>) -> Vec<Candidate> {
        let hints = Hints::of(&self.head);
        let mut models: Vec<Model> = Model::all().filter(|&model| self.possible(model)).collect();
        models.sort_by_key(|&model| (Some(model) != likely, unlikeliness(model, hints)));
        let mut candidates = Vec::new();
        for model in models {
            if candidates.len() == SURVIVORS || self.ended && !candidates.is_empty() {
                break;
            }
            let Some(mut candidate) = Candidate::new(model) else { continue };
            if candidate.replays(tar, raw, &self.marks, self.ended) {
                candidates.push(candidate);
            }
        }
        candidates
    }

    /// Whether an encoder can have made the first block. A cheap test: what it lets pass is tried.
    fn possible(&self, model: Model) -> bool {
        let Some(block) = self.first else { return true };
        if block.stored || !self.marks.is_empty() || block.length == self.length as usize {
            return true;
        }
        match model {
            Model::Go { level: 2..=9 } => block.tokens == 1 << 14,
            Model::Zlib { .. } => block.tokens == (1 << 14) - 1,
            Model::Gnu { .. } => block.tokens == (1 << 15) - 1 || block.tokens.is_multiple_of(4096),
            Model::Go { .. } => block.length == 65535,
            Model::Klauspost { .. } | Model::Pgzip { .. } | Model::Pigz { .. } => true,
        }
    }
}

/// How far a model is from what a head says; 0 is nearest.
fn unlikeliness(model: Model, hints: Hints) -> u8 {
    let (family, level) = match model {
        Model::Go { level } => (!hints.klauspost && !hints.unix, level),
        Model::Klauspost { level, .. } | Model::Pgzip { level, .. } => (hints.klauspost, level as i8),
        Model::Gnu { level } | Model::Pigz { level } => (hints.unix, level as i8),
        Model::Zlib { level } => (!hints.klauspost && !hints.unix, level as i8),
    };
    let effort = match level {
        1 => 4,
        9 => 2,
        _ => 0,
    };
    2 * u8::from(!family) + u8::from(effort != hints.effort)
}

/// An encoder that has made all of the stream so far.
struct Candidate {
    model: Model,
    stream: Stream,
    /// Bytes of the original; it has made those before `made`.
    owed: Vec<u8>,
    made: usize,
    checkpoints: Vec<Checkpoint>,
}

impl Candidate {
    fn new(model: Model) -> Option<Self> {
        Some(Self {
            model,
            stream: Stream::new(model, &[])?,
            owed: Vec::new(),
            made: 0,
            checkpoints: Vec::new(),
        })
    }

    /// Goes through the beginning of a member; whether it makes the same.
    fn replays(&mut self, tar: &[u8], raw: &[u8], marks: &[u64], ended: bool) -> bool {
        self.owed.extend_from_slice(raw);
        let mut at = 0;
        let marks = if self.model.marks() { &[][..] } else { marks };
        for &mark in marks {
            let mark = (mark as usize).min(tar.len());
            if !self.writes(&tar[at..mark]) || !self.stream.flush() || !self.agrees() {
                return false;
            }
            at = mark;
        }
        self.writes(&tar[at..]) && (!ended || self.ends())
    }

    /// Goes on with the member; whether it still makes the same.
    fn follows(&mut self, tar: &[u8], raw: &[u8], mark: bool, ended: bool) -> bool {
        self.owed.extend_from_slice(raw);
        let flushes = mark && !self.model.marks();
        self.writes(tar)
            && (!flushes || self.stream.flush() && self.agrees())
            && (!ended || self.ends())
            && self.owed.len() - self.made <= LAG
    }

    fn writes(&mut self, tar: &[u8]) -> bool {
        tar.chunks(CHUNK).all(|chunk| {
            self.stream.write(chunk);
            self.note_border();
            self.agrees()
        })
    }

    fn note_border(&mut self) {
        let last = self.checkpoints.last().map_or(0, |checkpoint| checkpoint.tar);
        if let Some(border) = self.stream.border()
            && border.input >= last + APART
        {
            self.checkpoints.push(Checkpoint { tar: border.input, window: border.window, bit: border.bit });
        }
    }

    fn ends(&mut self) -> bool {
        self.stream.finish();
        self.agrees() && self.made == self.owed.len() && self.stream.made().is_empty()
    }

    /// Whether what was made is what is owed. What an encoder makes before the original's reader has come to it is kept
    /// for later.
    fn agrees(&mut self) -> bool {
        let (made, owed) = (self.stream.made(), &self.owed[self.made..]);
        let common = made.len().min(owed.len());
        if made[..common] != owed[..common] {
            return false;
        }
        self.stream.take(common);
        self.made += common;
        if self.made > self.owed.len() / 2 && self.made > CHUNK {
            self.owed.drain(..self.made);
            self.made = 0;
        }
        true
    }
}
