//! Huffman code lengths as zlib and GNU gzip find them, and their run-length form.

use super::super::code::Run;

/// The code lengths of an alphabet.
#[derive(Debug, Clone)]
pub(super) struct Lengths<const N: usize> {
    pub(super) lengths: [u8; N],
    /// How many of them a description names: up to the highest symbol that has a code.
    pub(super) used: usize,
}

/// A heap whose order among equals is the encoders' own.
struct Heap {
    /// Nodes; the first place is not used.
    nodes: Vec<usize>,
    /// By node: frequency and depth.
    weights: Vec<(u32, u32)>,
}

impl Heap {
    /// Lets the node at a place sink to where it belongs.
    fn sink(&mut self, mut place: usize) {
        let node = self.nodes[place];
        loop {
            let mut child = 2 * place;
            if child >= self.nodes.len() {
                break;
            }
            if child + 1 < self.nodes.len() && self.weight(child + 1) <= self.weight(child) {
                child += 1;
            }
            if self.weights[node] <= self.weight(child) {
                break;
            }
            self.nodes[place] = self.nodes[child];
            place = child;
        }
        self.nodes[place] = node;
    }

    fn weight(&self, place: usize) -> (u32, u32) {
        self.weights[self.nodes[place]]
    }

    /// Takes the root out.
    fn pop(&mut self) -> usize {
        let root = self.nodes.swap_remove(1);
        if self.nodes.len() > 1 {
            self.sink(1);
        }
        root
    }
}

/// Code lengths of at most `limit` bits for symbols that occur so often. At least two symbols get a code.
pub(super) fn code_lengths<const N: usize>(counts: &[u32; N], limit: u8) -> Lengths<N> {
    let mut weights: Vec<(u32, u32)> = counts.iter().map(|&n| (n, 0)).collect();
    let mut leaves: Vec<usize> = (0..N).filter(|&symbol| counts[symbol] > 0).collect();
    let mut highest = leaves.last().copied();
    while leaves.len() < 2 {
        let symbol = match highest {
            None => 0,
            Some(highest) if highest < 2 => highest + 1,
            Some(_) => 0,
        };
        highest = highest.max(Some(symbol));
        weights[symbol] = (1, 0);
        leaves.push(symbol);
    }
    // The heap is filled in the order in which symbols were found, which differs from their own for an added 0.
    let mut heap = Heap { nodes: std::iter::once(0).chain(leaves.iter().copied()).collect(), weights };
    for place in (1..=leaves.len() / 2).rev() {
        heap.sink(place);
    }
    let mut left: Vec<usize> = Vec::with_capacity(2 * leaves.len());
    let mut parents = vec![0; 2 * N];
    while heap.nodes.len() > 2 {
        let a = heap.pop();
        let b = heap.nodes[1];
        let node = heap.weights.len();
        let (of_a, of_b) = (heap.weights[a], heap.weights[b]);
        heap.weights.push((of_a.0 + of_b.0, of_a.1.max(of_b.1) + 1));
        (parents[a], parents[b]) = (node, node);
        left.extend([a, b]);
        heap.nodes[1] = node;
        heap.sink(1);
    }
    Lengths { lengths: limited(&left, &parents, limit), used: highest.map_or(0, |highest| highest + 1) }
}

/// The lengths of the leaves, from the order in which nodes left the heap: their depths in the tree, or, when one of
/// them is too great, lengths dealt anew.
fn limited<const N: usize>(left: &[usize], parents: &[usize], limit: u8) -> [u8; N] {
    let mut depths = vec![0; parents.len()];
    let mut of_length = [0u32; 16];
    let mut overflow = 0i32;
    for &node in left.iter().rev() {
        let depth: u8 = depths[parents[node]] + 1;
        overflow += i32::from(depth > limit);
        depths[node] = depth.min(limit);
        if node < N {
            of_length[usize::from(depths[node])] += 1;
        }
    }
    let mut lengths = [0; N];
    if overflow == 0 {
        lengths.copy_from_slice(&depths[..N]);
        return lengths;
    }
    let limit = usize::from(limit);
    while overflow > 0 {
        let Some(shorter) = (1..limit).rev().find(|&length| of_length[length] > 0) else { break };
        of_length[shorter] -= 1;
        of_length[shorter + 1] += 2;
        of_length[limit] -= 1;
        overflow -= 2;
    }
    let mut leaves = left.iter().filter(|&&node| node < N);
    for length in (1..=limit).rev() {
        for &leaf in leaves.by_ref().take(of_length[length] as usize) {
            lengths[leaf] = length as u8;
        }
    }
    lengths
}

/// The runs of one list of code lengths.
pub(super) fn runs(lengths: &[u8], runs: &mut Vec<Run>) {
    let mut written = None;
    let mut at = 0;
    while let Some(&length) = lengths.get(at) {
        let (most, least) = match length {
            0 => (138, 3),
            _ if written == Some(length) => (6, 3),
            _ => (7, 4),
        };
        let count = lengths[at..].iter().take(most).take_while(|&&other| other == length).count();
        at += count;
        match length {
            _ if count < least => runs.extend(std::iter::repeat_n((length, 0), count)),
            0 if count <= 10 => runs.push((17, (count - 3) as u8)),
            0 => runs.push((18, (count - 11) as u8)),
            _ if written == Some(length) => runs.push((16, (count - 3) as u8)),
            _ => runs.extend([(length, 0), (16, (count - 4) as u8)]),
        }
        written = Some(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_two_symbols_have_a_code() {
        let of = |used: &[usize]| {
            let mut counts = [0; 30];
            used.iter().for_each(|&symbol| counts[symbol] = 1);
            let lengths = code_lengths(&counts, 15);
            let coded: Vec<_> = (0..30).filter(|&symbol| lengths.lengths[symbol] > 0).collect();
            (coded, lengths.used)
        };
        assert_eq!(of(&[]), (vec![0, 1], 2));
        assert_eq!(of(&[0]), (vec![0, 1], 2));
        assert_eq!(of(&[1]), (vec![1, 2], 3));
        assert_eq!(of(&[7]), (vec![0, 7], 8));
    }

    #[test]
    fn lengths_keep_the_limit() {
        let fibonacci = [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584, 4181];
        let lengths = code_lengths(&fibonacci, 7).lengths;
        assert_eq!(lengths.iter().map(|&l| 1u32 << (7 - l)).sum::<u32>(), 1 << 7, "{lengths:?}");
    }

    #[test]
    fn a_run_ends_at_its_greatest_length() {
        let of = |lengths: &[u8]| {
            let mut found = Vec::new();
            runs(lengths, &mut found);
            found
        };
        assert_eq!(of(&[5; 3]), [(5, 0), (5, 0), (5, 0)]);
        assert_eq!(of(&[5; 8]), [(5, 0), (16, 3), (5, 0)]);
        assert_eq!(of(&[5; 10]), [(5, 0), (16, 3), (16, 0)]);
        assert_eq!(of(&[0; 140]), [(18, 127), (0, 0), (0, 0)]);
        assert_eq!(of(&[0; 10]), [(17, 7)]);
    }
}
