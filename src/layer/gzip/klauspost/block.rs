//! Blocks as klauspost/compress writes them: a block may span pieces, as long as its codes serve.

use super::super::bits::Bits;
use super::super::code::{Code, Codes, Description, costs};
use super::super::golang::block::describe_counts;
use super::super::model::Form;
use super::super::package::{code_lengths, runs};
use super::super::symbol::{Counts, DISTANCES, END, LENGTHS, Token, used};
use super::estimate::estimate;

/// Fewer tokens than this may be written with the fixed codes.
const FEW: usize = 250;
/// What a new description of codes is taken to cost when none is open, in bits.
const NEW_CODES: u64 = 560;

/// The block that is open: its end has not been written, since the next piece may go on in it.
#[derive(Debug)]
struct Open {
    codes: Codes,
    /// What its head took, in bits.
    head: u64,
    /// Whether its codes were made for literals alone.
    literals: bool,
}

/// Writes pieces.
#[derive(Debug)]
pub(super) struct Writer {
    form: Form,
    open: Option<Open>,
    fixed: Codes,
}

impl Writer {
    pub(super) fn new(form: Form) -> Self {
        Self { form, open: None, fixed: Codes::fixed() }
    }

    /// Ends the block that is open.
    pub(super) fn end(&mut self, out: &mut Bits) {
        if let Some(open) = self.open.take() {
            open.codes.lengths.put(END, out);
        }
    }

    pub(super) fn stored(&mut self, content: &[u8], out: &mut Bits) {
        self.end(out);
        out.stored(content, false);
    }

    /// Writes tokens, among them a match, that mean `content`. `sync`: the block ends with them.
    pub(super) fn tokens(&mut self, tokens: &[Token], content: &[u8], sync: bool, out: &mut Bits) {
        let mut counts = Counts::of(tokens);
        counts.lengths[END] = u32::from(sync);
        let serves = |open: &Open| {
            !open.literals
                && open.codes.lengths.covers(&counts.lengths)
                && open.codes.distances.covers(&counts.distances)
        };
        if !self.open.as_ref().is_some_and(serves) {
            self.end(out);
        }
        let count = tokens.len() + usize::from(sync);
        let late_end = !sync && self.form != Form::V1182;
        counts.lengths[END] = u32::from(!late_end);
        let (lengths, distances) = if !sync && matches!(self.form, Form::V1150 | Form::V11510) {
            (LENGTHS, DISTANCES)
        } else {
            (used(&counts.lengths).max(257), used(&counts.distances).max(1))
        };
        let extra = counts.extra();
        let in_stored = 8 * (content.len() as u64 + 5);
        let mut in_fixed = 3 + costs(&self.fixed, &counts.lengths, &counts.distances) + extra;

        if let Some(open) = &self.open {
            let anew = open.head + estimate(&counts, count);
            let anew = anew + u64::from(open.codes.lengths.lengths[END]) + anew / 128;
            let mut size = costs(&open.codes, &counts.lengths, &counts.distances) + extra;
            if anew < size {
                self.end(out);
                size = anew;
            }
            if count < FEW && in_fixed + 7 < size {
                return self.stored_or_fixed(in_stored <= size, tokens, content, out);
            }
            if in_stored <= size {
                return self.stored(content, out);
            }
        }
        if self.open.is_none() {
            counts.lengths[END] = 1;
            if late_end {
                in_fixed += 7;
            }
            let (codes, description) = describe_counts(&counts, lengths, distances);
            let head = 3 + description.bits();
            let size = head + costs(&codes, &counts.lengths, &counts.distances) + extra;
            if count < FEW && in_fixed <= size {
                return self.stored_or_fixed(in_stored <= in_fixed, tokens, content, out);
            }
            if in_stored <= size {
                return self.stored(content, out);
            }
            description.put(false, out);
            self.open = Some(Open { codes, head, literals: false });
        }
        if let Some(open) = &self.open {
            open.codes.put(tokens, out);
        }
        if sync {
            self.end(out);
        }
    }

    fn stored_or_fixed(&mut self, stored: bool, tokens: &[Token], content: &[u8], out: &mut Bits) {
        self.end(out);
        if stored {
            return out.stored(content, false);
        }
        out.put(2, 3);
        self.fixed.put(tokens, out);
        self.fixed.lengths.put(END, out);
    }

    /// Writes `content` as literals, or stored.
    pub(super) fn literals(&mut self, content: &[u8], sync: bool, out: &mut Bits) {
        let mut counts = [0; LENGTHS];
        for &byte in content {
            counts[usize::from(byte)] += 1;
        }
        if content.len() > 1024 && is_noise(&counts[..256], content.len()) {
            return self.stored(content, out);
        }
        counts[END] = 1;
        let code = Code::canonical(code_lengths(&counts, 15));
        let size = code.cost(&counts) + self.open.as_ref().map_or(NEW_CODES, |open| open.head);
        let size = size + size / 128;
        if 8 * (content.len() as u64 + 5) <= size {
            return self.stored(content, out);
        }
        counts[END] = 0;
        if self.open.as_ref().is_some_and(|open| {
            !open.codes.lengths.covers(&counts) || size < open.codes.lengths.cost(&counts)
        }) {
            self.end(out);
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let description = Description::new(257, 1, runs(&code.lengths[..257], &[1]), |counts| {
                    code_lengths(counts, 7)
                });
                description.put(false, out);
                let mut distances = [0; DISTANCES];
                distances[0] = 1;
                let codes = Codes { lengths: code, distances: Code::canonical(distances) };
                Open { codes, head: 3 + description.bits(), literals: true }
            }
        };
        for &byte in content {
            open.codes.lengths.put(usize::from(byte), out);
        }
        self.open = Some(open);
        if sync {
            self.end(out);
        }
    }
}

/// Whether bytes occur about equally often.
fn is_noise(counts: &[u32], length: usize) -> bool {
    let mean = length as f64 / 256.0;
    let mut spread = 0.0;
    for &count in counts {
        let difference = f64::from(count) - mean;
        spread += difference * difference;
    }
    spread < (2 * length) as f64
}
