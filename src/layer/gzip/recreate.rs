//! A gzip stream made again from its tar.

use std::io::{self, Write};

use super::recipe::{Member, Place, Recipe, RecipeError};
use super::stream::Stream;

/// Content that is compressed at a time: it bounds what an encoder holds.
const CHUNK: usize = 64 << 10;

/// A writer of a tar that writes the gzip stream it came from.
///
/// The sizes of the writes make no difference. It takes at most 4 MiB of memory. Writing fails when the tar is longer
/// than the recipe says or the stream becomes longer; [`Recreate::finish`] fails when either is shorter. Whether the bytes
/// are the right ones, only their digest tells.
#[derive(Debug)]
pub struct Recreate<W> {
    out: W,
    recipe: Recipe,
    /// The next member.
    next: Place,
    stream: Option<Stream>,
    /// What of the content of the member is still to come.
    left: u64,
    /// The position in the tar.
    at: u64,
    /// How many flushes have been done.
    flushed: usize,
    written: u64,
}

impl<W: Write> Recreate<W> {
    /// Of a recipe that this version can use.
    pub fn new(recipe: &Recipe, out: W) -> Result<Self, RecipeError> {
        recipe.check()?;
        Ok(Self {
            out,
            recipe: recipe.clone(),
            next: Place::default(),
            stream: None,
            left: 0,
            at: 0,
            flushed: 0,
            written: 0,
        })
    }

    /// The tar has ended. Gives back what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.advance()?;
        if self.stream.is_some() {
            return Err(wrong("the tar is shorter than the record of the original gzip says"));
        }
        if self.written != self.recipe.size {
            return Err(wrong("the gzip made again is shorter than its record says"));
        }
        Ok(self.out)
    }

    /// Does what comes at this position of the tar before more of it is needed.
    fn advance(&mut self) -> io::Result<()> {
        loop {
            let Some(stream) = &mut self.stream else {
                let Some(Member { model, head, length }) =
                    self.recipe.member(self.next).map_err(io::Error::other)?
                else {
                    return Ok(());
                };
                self.next = self.recipe.after(self.next);
                self.left = length;
                self.stream = Stream::new(model, &head);
                if self.stream.is_none() {
                    return Err(wrong("the encoder of the original gzip cannot be made"));
                }
                continue;
            };
            if self.recipe.flushes.get(self.flushed) == Some(&self.at) {
                self.flushed += 1;
                if !stream.flush() {
                    return Err(wrong("the record of the original gzip flushes an encoder that cannot"));
                }
            } else if self.left == 0 {
                stream.finish();
                self.send()?;
                self.stream = None;
            } else {
                return Ok(());
            }
        }
    }

    /// Writes what has been made.
    fn send(&mut self) -> io::Result<()> {
        if let Some(stream) = &mut self.stream {
            let made = stream.made();
            self.written += made.len() as u64;
            if self.written > self.recipe.size {
                return Err(wrong("the gzip made again is longer than its record says"));
            }
            self.out.write_all(made)?;
            let count = made.len();
            stream.take(count);
        }
        Ok(())
    }
}

impl<W: Write> Write for Recreate<W> {
    fn write(&mut self, tar: &[u8]) -> io::Result<usize> {
        if tar.is_empty() {
            return Ok(0);
        }
        self.advance()?;
        let Some(stream) = &mut self.stream else {
            return Err(wrong("the tar is longer than the record of the original gzip says"));
        };
        let until = self.recipe.flushes.get(self.flushed).map_or(u64::MAX, |&flush| flush - self.at);
        let count = self.left.min(until).min(tar.len().min(CHUNK) as u64) as usize;
        stream.write(&tar[..count]);
        self.left -= count as u64;
        self.at += count as u64;
        self.send()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn wrong(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
