//! zlib, and GNU gzip and pigz, which share its ways.

mod block;
mod chain;
mod tree;

use super::bits::Bits;
use super::{Border, Encoder};
use chain::{Chain, Kind};

/// Bytes that pigz compresses on their own.
const PIGZ_BLOCK: usize = 128 << 10;

/// zlib's deflate at a level from 1 to 9, with its default strategy and memory level.
pub(super) fn zlib(level: u8) -> Option<Box<dyn Encoder>> {
    Some(Box::new(Whole(Chain::new(Kind::Zlib, level)?)))
}

/// GNU gzip at a level from 1 to 9.
pub(super) fn gnu(level: u8) -> Option<Box<dyn Encoder>> {
    Some(Box::new(Whole(Chain::new(Kind::Gnu, level)?)))
}

/// pigz at a level from 1 to 9, with blocks of 128 KiB.
pub(super) fn pigz(level: u8) -> Option<Box<dyn Encoder>> {
    Some(Box::new(Pigz(Chain::new(Kind::Zlib, level)?)))
}

/// One run over all of the input.
#[derive(Debug)]
struct Whole(Chain);

impl Encoder for Whole {
    fn write(&mut self, input: &[u8], out: &mut Bits) {
        self.0.input.append(input);
        self.0.run(out);
    }

    fn flush(&mut self, out: &mut Bits) -> bool {
        self.0.flush(out)
    }

    fn border(&self) -> Option<Border> {
        self.0.border
    }

    fn resume(&mut self, border: Border, before: &[u8]) -> bool {
        self.0.resume(border, before)
    }

    fn finish(&mut self, out: &mut Bits) {
        self.0.run_to(self.0.input.end(), true, out);
    }
}

/// A run for each block, which has the end of the one before it as dictionary.
#[derive(Debug)]
struct Pigz(Chain);

impl Encoder for Pigz {
    fn write(&mut self, input: &[u8], out: &mut Bits) {
        self.0.input.append(input);
        // The last block is written otherwise, so a block waits for what comes after it.
        while self.0.input.end() - self.0.at > PIGZ_BLOCK {
            let end = self.0.at + PIGZ_BLOCK;
            self.0.restart(end);
            self.0.run_to(end, false, out);
            match out.used() {
                0 => {}
                used if used % 2 == 1 => out.stored(&[], false),
                _ => {
                    while out.used() > 0 {
                        out.empty_fixed(false);
                    }
                }
            }
            self.0.border =
                Some(Border { input: self.0.input.before(self.0.at), window: 0, bit: out.position() });
        }
    }

    fn border(&self) -> Option<Border> {
        self.0.border
    }

    fn resume(&mut self, _border: Border, before: &[u8]) -> bool {
        self.0.input.append(before);
        self.0.at = self.0.input.end();
        true
    }

    fn finish(&mut self, out: &mut Bits) {
        let end = self.0.input.end();
        self.0.restart(end);
        self.0.run_to(end, true, out);
    }
}
