//! Blocks as Go's compress/flate up to 1.26 writes them.

use super::super::bits::Bits;
use super::super::code::{Code, Codes, Description, costs};
use super::super::package::{code_lengths, runs};
use super::super::symbol::{Counts, DISTANCES, END, LENGTHS, Token, used};

/// Writes tokens that mean `content` as a stored, fixed or dynamic block, whichever Go takes. `content` is absent when
/// Go has no longer got it.
pub(super) fn write(fixed: &Codes, tokens: &[Token], content: Option<&[u8]>, out: &mut Bits) {
    let (counts, codes, description) = describe(tokens);
    let content = content.filter(|content| content.len() <= 65535);
    let extra = if content.is_some() { counts.extra() } else { 0 };
    let in_fixed = 3 + costs(fixed, &counts.lengths, &counts.distances) + extra;
    let in_dynamic = 3 + description.bits() + costs(&codes, &counts.lengths, &counts.distances) + extra;
    let best = in_fixed.min(in_dynamic);
    if let Some(content) = content
        && stored_bits(content) < best
    {
        return out.stored(content, false);
    }
    if in_dynamic < in_fixed {
        description.put(false, out);
        finish(&codes, tokens, out);
    } else {
        out.put(2, 3);
        finish(fixed, tokens, out);
    }
}

/// As [`write`], for level 1: stored or dynamic, by sizes that leave out extra bits.
pub(super) fn write_dynamic(tokens: &[Token], content: &[u8], out: &mut Bits) {
    let (counts, codes, description) = describe(tokens);
    let size = 3 + description.bits() + costs(&codes, &counts.lengths, &counts.distances);
    if stored_bits(content) < size + size / 16 {
        return out.stored(content, false);
    }
    description.put(false, out);
    finish(&codes, tokens, out);
}

/// A block of literals alone.
pub(super) fn write_literals(content: &[u8], out: &mut Bits) {
    let mut counts = [0; LENGTHS];
    for &byte in content {
        counts[usize::from(byte)] += 1;
    }
    counts[END] = 1;
    let code = Code::canonical(code_lengths(&counts, 15));
    let description =
        Description::new(257, 1, runs(&code.lengths[..257], &[1]), |counts| code_lengths(counts, 7));
    let size = 3 + description.bits() + code.cost(&counts) + 1;
    if stored_bits(content) < size + size / 16 {
        return out.stored(content, false);
    }
    description.put(false, out);
    for &byte in content {
        code.put(usize::from(byte), out);
    }
    code.put(END, out);
}

fn stored_bits(content: &[u8]) -> u64 {
    8 * (content.len() as u64 + 5)
}

fn finish(codes: &Codes, tokens: &[Token], out: &mut Bits) {
    codes.put(tokens, out);
    codes.lengths.put(END, out);
}

fn describe(tokens: &[Token]) -> (Counts, Codes, Description) {
    let mut counts = Counts::of(tokens);
    counts.lengths[END] = 1;
    if counts.matches() == 0 {
        counts.distances[0] = 1; // Go counts a distance that nobody uses, also in the sizes
    }
    let (codes, description) = describe_counts(&counts, used(&counts.lengths), used(&counts.distances));
    (counts, codes, description)
}

/// The codes for so many of each symbol, and their description with so many code lengths.
pub(in super::super) fn describe_counts(
    counts: &Counts,
    lengths: usize,
    distances: usize,
) -> (Codes, Description) {
    let codes = Codes {
        lengths: Code::canonical(code_lengths(&counts.lengths, 15)),
        distances: Code::<DISTANCES>::canonical(code_lengths(&counts.distances, 15)),
    };
    let runs = runs(&codes.lengths.lengths[..lengths], &codes.distances.lengths[..distances]);
    let description = Description::new(lengths, distances, runs, |counts| code_lengths(counts, 7));
    (codes, description)
}
