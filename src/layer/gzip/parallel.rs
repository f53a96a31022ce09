//! A gzip stream made again by several threads, from one checkpoint to the next.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::thread::{self, JoinHandle};

use flate2::Crc;

use super::bits::Bits;
use super::model::Model;
use super::recipe::{Checkpoint, Place, Recipe, RecipeError};
use super::{Border, Recreate};

/// How much of the tar before a checkpoint is needed.
const BEFORE: u64 = 32 << 10;
/// How much of the tar after a segment is needed to make its end.
const AFTER: u64 = 1 << 10;
/// The longest segment, in bytes of tar. With a longer one, one thread makes the stream.
const LONGEST: u64 = 8 << 20;
/// Content that is compressed at a time.
const CHUNK: usize = 64 << 10;

/// A writer of a tar that writes the gzip stream it came from, made by several threads where the recipe has checkpoints.
///
/// As [`Recreate`], but for each thread it takes the memory of the segment that the thread makes, which checkpoints 2 MiB
/// apart hold to about 5 MiB and nothing in a recipe can bring above 20 MiB.
#[derive(Debug)]
pub struct Parallel<W>(Way<W>);

#[derive(Debug)]
enum Way<W> {
    One(Recreate<W>),
    Many(Segments<W>),
}

impl<W: Write> Parallel<W> {
    /// Of a recipe that this version can use, by at most so many threads.
    pub fn new(recipe: &Recipe, threads: usize, out: W) -> Result<Self, RecipeError> {
        recipe.check()?;
        Ok(Self(match Segments::<W>::plan(recipe)? {
            Some((segments, model, head)) if threads > 1 => Way::Many(Segments {
                out,
                model,
                segments,
                threads,
                trailer_at: recipe.size.saturating_sub(8),
                tar_size: recipe.tar_size(),
                held: Vec::new(),
                held_from: 0,
                running: VecDeque::new(),
                joint: head,
                crc: Crc::new(),
            }),
            _ => Way::One(Recreate::new(recipe, out)?),
        }))
    }

    /// The tar has ended. Gives back what was written to.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Way::One(one) => one.finish(),
            Way::Many(many) => many.finish(),
        }
    }
}

impl<W: Write> Write for Parallel<W> {
    fn write(&mut self, tar: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Way::One(one) => one.write(tar),
            Way::Many(many) => many.write(tar),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Way::One(one) => one.flush(),
            Way::Many(many) => many.out.flush(),
        }
    }
}

/// What lies between two checkpoints.
#[derive(Debug, Clone, Copy)]
struct Segment {
    from: Checkpoint,
    /// None: to the end.
    to: Option<Checkpoint>,
}

impl Segment {
    /// Where what is needed of the tar begins and ends.
    fn needs(&self, tar_size: u64) -> (u64, u64) {
        let end = self.to.map_or(tar_size, |to| tar_size.min(to.tar + AFTER));
        (self.from.tar.saturating_sub(BEFORE), end)
    }
}

/// The segments, the encoder that makes them, and the head before them.
type Plan = (VecDeque<Segment>, Model, Vec<u8>);

/// What has been made of a segment: whole bytes, the last of which may have room for the next segment's first bits.
type Made = io::Result<Vec<u8>>;

#[derive(Debug)]
struct Segments<W> {
    out: W,
    model: Model,
    /// Those that are still to come.
    segments: VecDeque<Segment>,
    threads: usize,
    trailer_at: u64,
    tar_size: u64,
    /// The tar that the next segments need, and where it begins.
    held: Vec<u8>,
    held_from: u64,
    running: VecDeque<(Segment, JoinHandle<Made>)>,
    /// What comes before the next segment: the head, or the byte that it shares with the one before it.
    joint: Vec<u8>,
    crc: Crc,
}

impl<W: Write> Segments<W> {
    /// The segments of a recipe that several threads can make; with the model and the head of its member.
    fn plan(recipe: &Recipe) -> Result<Option<Plan>, RecipeError> {
        let first = Place::default();
        let (Some(member), None) = (recipe.member(first)?, recipe.member(recipe.after(first))?) else {
            return Ok(None);
        };
        let start = Checkpoint { tar: 0, window: 0, bit: 8 * member.head.len() as u64 };
        let mut segments = VecDeque::new();
        let mut from = start;
        for to in recipe.checkpoints.iter().copied().map(Some).chain([None]) {
            segments.push_back(Segment { from, to });
            if to.map_or(member.length, |to| to.tar) - from.tar > LONGEST
                || to.is_some_and(|to| to.bit < from.bit)
            {
                return Ok(None);
            }
            from = to.unwrap_or(from);
        }
        let many = segments.len() > 1 && recipe.flushes.is_empty();
        Ok(many.then_some((segments, member.model, member.head)))
    }

    fn write(&mut self, tar: &[u8]) -> io::Result<usize> {
        let count = tar.len().min(CHUNK);
        if self.held_from + (self.held.len() + count) as u64 > self.tar_size {
            return Err(wrong("the tar is longer than the record of the original gzip says"));
        }
        self.crc.update(&tar[..count]);
        self.held.extend_from_slice(&tar[..count]);
        while let Some(segment) = self.segments.front().copied()
            && segment.needs(self.tar_size).1 <= self.held_from + self.held.len() as u64
        {
            self.begin(segment)?;
        }
        Ok(count)
    }

    /// Gives the next segment, all of whose tar is there, to a thread.
    fn begin(&mut self, segment: Segment) -> io::Result<()> {
        if self.running.len() >= self.threads {
            self.collect()?;
        }
        self.segments.pop_front();
        let (from, to) = segment.needs(self.tar_size);
        let start = (from - self.held_from) as usize;
        let tar = self.held[start..(to - self.held_from) as usize].to_vec();
        if let Some(next) = self.segments.front() {
            let keep = next.needs(self.tar_size).0;
            self.held.drain(..(keep - self.held_from) as usize);
            self.held_from = keep;
        }
        let model = self.model;
        let before = (segment.from.tar - from) as usize;
        let thread =
            thread::Builder::new().name("gzip".into()).spawn(move || make(model, segment, &tar, before))?;
        self.running.push_back((segment, thread));
        Ok(())
    }

    /// Waits for the oldest thread and writes what it has made.
    fn collect(&mut self) -> io::Result<()> {
        let Some((segment, thread)) = self.running.pop_front() else { return Ok(()) };
        let mut made =
            thread.join().map_err(|_| wrong("a thread that made a part of the original gzip failed"))??;
        if !segment.from.bit.is_multiple_of(8)
            && let (Some(shared), Some(first)) = (self.joint.pop(), made.first_mut())
        {
            *first |= shared;
        }
        self.out.write_all(&self.joint)?;
        self.joint.clear();
        if segment.to.is_some_and(|to| !to.bit.is_multiple_of(8)) {
            self.joint.extend(made.pop());
        }
        if segment.to.is_none() && segment.from.bit / 8 + made.len() as u64 != self.trailer_at {
            return Err(wrong("the gzip made again is not as long as its record says"));
        }
        self.out.write_all(&made)
    }

    fn finish(mut self) -> io::Result<W> {
        if !self.segments.is_empty() {
            return Err(wrong("the tar is shorter than the record of the original gzip says"));
        }
        while !self.running.is_empty() {
            self.collect()?;
        }
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }
}

/// Makes a segment. The first `before` bytes of `tar` lie before it.
fn make(model: Model, segment: Segment, tar: &[u8], before: usize) -> Made {
    let mut encoder =
        model.encoder().ok_or_else(|| wrong("the encoder of the original gzip cannot be made"))?;
    let mut bits = Bits::default();
    bits.put(0, (segment.from.bit % 8) as u32);
    let (before, content) = tar.split_at(before);
    if segment.from.tar > 0 {
        let border = Border { input: segment.from.tar, window: segment.from.window, bit: segment.from.bit };
        if !encoder.resume(border, before) {
            return Err(wrong("the record of the original gzip begins an encoder where it cannot"));
        }
    }
    for chunk in content.chunks(CHUNK) {
        encoder.write(chunk, &mut bits);
    }
    let Some(to) = segment.to else {
        encoder.finish(&mut bits);
        bits.align();
        return Ok(bits.bytes);
    };
    bits.align();
    let wanted = to.bit - segment.from.bit / 8 * 8;
    let bytes = wanted.div_ceil(8) as usize;
    if bytes > bits.bytes.len() {
        return Err(wrong("the record of the original gzip has a checkpoint where there is none"));
    }
    bits.bytes.truncate(bytes);
    if !wanted.is_multiple_of(8)
        && let Some(last) = bits.bytes.last_mut()
    {
        *last &= (1 << (wanted % 8)) - 1;
    }
    Ok(bits.bytes)
}

fn wrong(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
