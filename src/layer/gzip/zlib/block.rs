//! Blocks as zlib and GNU gzip write them.

use super::super::bits::Bits;
use super::super::code::{Code, Codes, Description, costs};
use super::super::symbol::{Counts, END, Token};
use super::tree::{code_lengths, runs};

/// Writes tokens that mean `content`. `content` is absent when the encoder has no longer got it.
pub(super) fn write(fixed: &Codes, tokens: &[Token], content: Option<&[u8]>, last: bool, out: &mut Bits) {
    let mut counts = Counts::of(tokens);
    counts.lengths[END] = 1;
    let lengths = code_lengths(&counts.lengths, 15);
    let distances = code_lengths(&counts.distances, 15);
    let mut described = Vec::new();
    runs(&lengths.lengths[..lengths.used], &mut described);
    runs(&distances.lengths[..distances.used], &mut described);
    let description =
        Description::new(lengths.used, distances.used, described, |counts| code_lengths(counts, 7).lengths);
    let codes =
        Codes { lengths: Code::canonical(lengths.lengths), distances: Code::canonical(distances.lengths) };

    let extra = counts.extra();
    let in_dynamic =
        (3 + description.bits() + costs(&codes, &counts.lengths, &counts.distances) + extra).div_ceil(8);
    let in_fixed = (3 + costs(fixed, &counts.lengths, &counts.distances) + extra).div_ceil(8);
    let best = in_fixed.min(in_dynamic);
    if let Some(content) = content
        && content.len() <= 65535
        && content.len() as u64 + 4 <= best
    {
        return out.stored(content, last);
    }
    let codes = if in_fixed == best {
        out.put(2 | u64::from(last), 3);
        fixed
    } else {
        description.put(last, out);
        &codes
    };
    codes.put(tokens, out);
    codes.lengths.put(END, out);
}
