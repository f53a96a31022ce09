//! Optimal Huffman code lengths as Go's and klauspost's encoders choose among equals, and their run-length form.

use super::code::Run;

/// Optimal code lengths of at most `limit` bits for symbols that occur so often, by package-merge (Larmore and
/// Hirschberg 1990).
///
/// Which of several optimal codes comes out is fixed by two rules: of a leaf and a package of one weight the package
/// comes first, and of two symbols of one frequency the higher has the shorter code.
pub(super) fn code_lengths<const N: usize>(counts: &[u32; N], limit: usize) -> [u8; N] {
    let mut lengths = [0; N];
    let mut leaves: Vec<(u32, usize)> =
        counts.iter().enumerate().filter(|&(_, &n)| n > 0).map(|(symbol, &n)| (n, symbol)).collect();
    if leaves.len() <= 2 {
        for &(_, symbol) in &leaves {
            lengths[symbol] = 1;
        }
        return lengths;
    }
    leaves.sort_unstable();
    // For each level, which of its items are leaves; the deepest level comes first.
    let mut levels: Vec<Vec<bool>> = Vec::new();
    let mut packages: Vec<u64> = Vec::new();
    for _ in 0..limit.min(leaves.len() - 1) {
        let mut items = Vec::with_capacity(leaves.len() + packages.len());
        let mut kinds = Vec::with_capacity(leaves.len() + packages.len());
        let (mut leaf, mut package) =
            (leaves.iter().map(|l| u64::from(l.0)).peekable(), packages.iter().copied().peekable());
        loop {
            let is_leaf = match (leaf.peek(), package.peek()) {
                (Some(leaf), Some(package)) => leaf < package,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            items.extend(if is_leaf { leaf.next() } else { package.next() });
            kinds.push(is_leaf);
        }
        packages = items.chunks_exact(2).map(|pair| pair[0] + pair[1]).collect();
        levels.push(kinds);
    }
    let mut wanted = 2 * leaves.len() - 2;
    for kinds in levels.iter().rev() {
        let taken = kinds[..wanted.min(kinds.len())].iter().filter(|&&is_leaf| is_leaf).count();
        for &(_, symbol) in &leaves[..taken] {
            lengths[symbol] += 1;
        }
        wanted = 2 * (wanted - taken);
    }
    lengths
}

/// The runs of two lists of code lengths, coded as one list.
pub(super) fn runs(lengths: &[u8], distances: &[u8]) -> Vec<Run> {
    let list: Vec<u8> = lengths.iter().chain(distances).copied().collect();
    let mut runs = Vec::with_capacity(list.len());
    for run in list.chunk_by(|a, b| a == b) {
        let (length, mut left) = (run[0], run.len());
        if length == 0 {
            while left >= 11 {
                let now = left.min(138);
                runs.push((18, (now - 11) as u8));
                left -= now;
            }
            if left >= 3 {
                runs.push((17, (left - 3) as u8));
                left = 0;
            }
        } else {
            runs.push((length, 0));
            left -= 1;
            while left >= 3 {
                let now = left.min(6);
                runs.push((16, (now - 3) as u8));
                left -= now;
            }
        }
        runs.extend(std::iter::repeat_n((length, 0), left));
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_lengths_fill_the_code_space_and_keep_the_limit() {
        let fibonacci = [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584, 4181];
        let lengths = code_lengths(&fibonacci, 7);
        assert!(lengths.iter().all(|&l| (1..=7).contains(&l)), "{lengths:?}");
        assert_eq!(lengths.iter().map(|&l| 1u32 << (7 - l)).sum::<u32>(), 1 << 7, "{lengths:?}");
        assert_eq!(code_lengths(&[4, 1, 1, 1, 1], 15), [1, 3, 3, 3, 3]);
        assert_eq!(code_lengths(&[0, 9, 0], 15), [0, 1, 0]);
    }

    #[test]
    fn runs_cross_from_lengths_to_distances() {
        assert_eq!(runs(&[0; 10], &[0]), [(18, 0)]);
        assert_eq!(runs(&[5, 5, 5, 5, 5, 5, 5, 5], &[5]), [(5, 0), (16, 3), (5, 0), (5, 0)]);
        assert_eq!(runs(&[0; 141], &[1, 1]), [(18, 127), (17, 0), (1, 0), (1, 0)]);
    }
}
