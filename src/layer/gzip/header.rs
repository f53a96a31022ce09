//! The heads of gzip members (RFC 1952, 2.3).

use std::io;

/// Largest head that is kept, in bytes.
pub(super) const MOST: usize = 70_000;

const CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;

/// Reads a head with `byte`, and gives all its bytes. An error where there is none, or a longer one than [`MOST`].
pub(super) fn read(mut byte: impl FnMut() -> io::Result<u8>) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(10);
    let mut next = |head: &mut Vec<u8>| {
        if head.len() >= MOST {
            return Err(bad("a gzip head that is too long"));
        }
        head.push(byte()?);
        Ok(head[head.len() - 1])
    };
    for _ in 0..10 {
        next(&mut head)?;
    }
    if head[..3] != [0x1f, 0x8b, 8] {
        return Err(bad("no gzip head"));
    }
    let flags = head[3];
    if flags & EXTRA != 0 {
        let length = usize::from(next(&mut head)?) | usize::from(next(&mut head)?) << 8;
        for _ in 0..length {
            next(&mut head)?;
        }
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            while next(&mut head)? != 0 {}
        }
    }
    if flags & CRC != 0 {
        next(&mut head)?;
        next(&mut head)?;
    }
    Ok(head)
}

fn bad(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// What a head says of the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hints {
    /// Whether the time is the one that klauspost's gzip writes when none is set.
    pub(super) klauspost: bool,
    /// Whether the encoder says that it is on Unix, as GNU gzip and pigz do.
    pub(super) unix: bool,
    /// 2: as small as it gets; 4: as fast as it gets; else 0.
    pub(super) effort: u8,
}

impl Hints {
    /// Of a head that [`read`] gave.
    pub(super) fn of(head: &[u8]) -> Self {
        let at = |place: usize| head.get(place).copied().unwrap_or(0);
        Self { klauspost: head.get(4..8) == Some(&[0x00, 0x09, 0x6e, 0x88]), unix: at(9) == 3, effort: at(8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = bytes.iter();
        read(|| bytes.next().copied().ok_or(io::ErrorKind::UnexpectedEof.into()))
    }

    #[test]
    fn a_head_ends_after_its_last_field() {
        let plain = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        assert_eq!(of(&[&plain[..], &[1, 2, 3]].concat()).unwrap(), plain);
        let mut all = plain;
        all[3] = CRC | EXTRA | NAME | COMMENT;
        let all = [&all[..], &[2, 0, 7, 7], b"name\0", b"comment\0", &[9, 9]].concat();
        assert_eq!(of(&[&all[..], &[1]].concat()).unwrap(), all);
        assert!(of(&all[..all.len() - 1]).is_err());
        assert!(of(&[0x50; 10]).is_err());
        let mut endless = plain.to_vec();
        endless[3] = NAME;
        endless.resize(MOST + 100, b'a');
        assert!(of(&endless).is_err());
    }
}
