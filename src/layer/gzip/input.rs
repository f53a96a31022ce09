//! The input that an encoder still needs: what lies ahead of it, and what matches may point at.

/// The first position. Tables of positions begin with zeros, which are beyond the reach of any match.
pub(super) const ORIGIN: usize = 1 << 16;

/// Bytes by position. Positions are moved back now and then, so that they fit tables of 32 bits.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    /// The position of the first byte that is kept.
    start: usize,
    /// How far positions have been moved back so far.
    moved: u64,
}

/// Positions are moved back once they pass this.
const REBASE: usize = 1 << 30;

impl Input {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), start: ORIGIN, moved: 0 }
    }

    /// One after the position of the last byte.
    pub(super) fn end(&self) -> usize {
        self.start + self.bytes.len()
    }

    /// How many bytes of input lie before a position.
    pub(super) fn before(&self, position: usize) -> u64 {
        self.moved + (position - ORIGIN) as u64
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets what lies before `keep`, when that is worth the copying.
    pub(super) fn discard(&mut self, keep: usize) {
        let unused = keep.saturating_sub(self.start).min(self.bytes.len());
        if unused >= 64 << 10 && unused * 2 >= self.bytes.len() {
            self.bytes.drain(..unused);
            self.start += unused;
        }
    }

    /// How far all positions should be moved back now, if at all; the owner then moves its own with [`back`] and calls
    /// [`Input::rebase`].
    pub(super) fn due(&self) -> Option<usize> {
        (self.start > REBASE).then(|| self.start - ORIGIN)
    }

    pub(super) fn rebase(&mut self, by: usize) {
        self.start -= by;
        self.moved += by as u64;
    }

    /// All that is kept, and the position of its first byte.
    #[inline]
    pub(super) fn view(&self) -> View<'_> {
        View { bytes: &self.bytes, start: self.start }
    }
}

/// Moves the positions of a table back; those that become none are nothing.
pub(super) fn back(table: &mut [u32], by: usize) {
    for entry in table {
        *entry = entry.saturating_sub(by as u32);
    }
}

/// Bytes by position, to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    bytes: &'a [u8],
    start: usize,
}

impl<'a> View<'a> {
    #[inline]
    pub(super) fn at(self, position: usize) -> u8 {
        self.bytes[position - self.start]
    }

    #[inline]
    pub(super) fn range(self, from: usize, to: usize) -> &'a [u8] {
        &self.bytes[from - self.start..to - self.start]
    }

    #[inline]
    pub(super) fn three(self, position: usize) -> [u8; 3] {
        let at = position - self.start;
        word(&self.bytes[at..at + 3])
    }

    #[inline]
    pub(super) fn be32(self, position: usize) -> u32 {
        let at = position - self.start;
        u32::from_be_bytes(word(&self.bytes[at..at + 4]))
    }

    #[inline]
    pub(super) fn le32(self, position: usize) -> u32 {
        let at = position - self.start;
        u32::from_le_bytes(word(&self.bytes[at..at + 4]))
    }

    #[inline]
    pub(super) fn le64(self, position: usize) -> u64 {
        let at = position - self.start;
        u64::from_le_bytes(word(&self.bytes[at..at + 8]))
    }

    /// How many bytes from `a` and from `b` are equal, up to `most`; `b` is the later one.
    #[inline]
    pub(super) fn common(self, a: usize, b: usize, most: usize) -> usize {
        let (a, b) = (&self.bytes[a - self.start..], &self.bytes[b - self.start..][..most]);
        let mut length = 0;
        for (x, y) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
            let differs = u64::from_le_bytes(word(x)) ^ u64::from_le_bytes(word(y));
            if differs != 0 {
                return length + (differs.trailing_zeros() / 8) as usize;
            }
            length += 8;
        }
        length + a[length..].iter().zip(&b[length..]).take_while(|(x, y)| x == y).count()
    }
}

/// `bytes` as an array; its length is known to fit.
#[inline]
fn word<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut word = [0; N];
    word.copy_from_slice(bytes);
    word
}

/// A table of zeros, on the heap.
pub(super) fn table<const N: usize>() -> Box<[u32; N]> {
    vec![0; N].into_boxed_slice().try_into().unwrap_or_else(|_| Box::new([0; N]))
}
