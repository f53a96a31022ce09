//! klauspost's estimate of what a piece takes with codes of its own.

use super::super::symbol::{Counts, END, LENGTHS};

/// The estimate in bits for a piece of so many tokens. Single precision, each operation rounded, in this order: that is
/// what the encoder does where the processor does not fuse operations.
pub(super) fn estimate(counts: &Counts, tokens: usize) -> u64 {
    let share = 1.0 / tokens as f32;
    let mut sum = 0.0;
    add(&mut sum, &counts.lengths[..END], share);
    sum += 15.0;
    add(&mut sum, &counts.lengths[END + 1..LENGTHS], share);
    let matches = counts.matches();
    if matches > 0 {
        add(&mut sum, &counts.distances, 1.0 / matches as f32);
    }
    sum as u64 + counts.extra()
}

fn add(sum: &mut f32, counts: &[u32], share: f32) {
    for &count in counts.iter().filter(|&&count| count > 0) {
        let bits = (-logarithm(count as f32 * share)).clamp(1.0, 15.0);
        *sum += bits * count as f32;
    }
}

/// About the binary logarithm.
fn logarithm(value: f32) -> f32 {
    let bits = value.to_bits();
    let exponent = ((bits >> 23) & 0xff) as i32 - 128;
    let mantissa = f32::from_bits((bits & 0x7f_ffff) | 0x3f80_0000);
    exponent as f32 + ((-0.344_848_43 * mantissa + 2.024_665_8) * mantissa - 0.674_877_6)
}
