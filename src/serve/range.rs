//! Parts of a blob: the `Range` header (RFC 9110, section 14.2).

/// What a `Range` header asks for, before the size of the blob is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// All of it: no header, or one that is not understood and so passed over.
    #[default]
    All,
    /// From an offset on, up to and with the second where one is given.
    From(u64, Option<u64>),
    /// So many of the last bytes.
    Last(u64),
}

/// The bytes that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of them.
    All,
    /// From the first up to and without the second: never empty.
    Some(u64, u64),
    /// None: what is asked for lies outside.
    Outside,
}

impl Asked {
    /// Reads the header. Several ranges at once, and other units, are answered with everything, as the RFC
    /// allows: a client that asks for many small parts of a blob cannot have it read again for each.
    pub fn read(header: Option<&str>) -> Self {
        header.and_then(Self::parse).unwrap_or_default()
    }

    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<u64>().ok()).flatten()
        };
        let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
        let (first, last) = (first.trim(), last.trim());
        match (first, last) {
            ("", last) => Some(Self::Last(number(last)?)),
            (first, "") => Some(Self::From(number(first)?, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// The part of a blob of `size` bytes.
    pub fn of(self, size: u64) -> Part {
        match self {
            Self::All => Part::All,
            Self::From(first, _) if first >= size => Part::Outside,
            Self::From(first, last) => {
                Part::Some(first, last.map_or(size, |last| last.saturating_add(1)).min(size))
            }
            Self::Last(0) => Part::Outside,
            Self::Last(_) if size == 0 => Part::Outside,
            Self::Last(n) => Part::Some(size.saturating_sub(n), size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_blob() {
        for (header, part) in [
            ("bytes=0-0", Part::Some(0, 1)),
            ("bytes=2-", Part::Some(2, 10)),
            ("bytes=2-4", Part::Some(2, 5)),
            ("bytes=2-400", Part::Some(2, 10)),
            ("bytes=-3", Part::Some(7, 10)),
            ("bytes=-30", Part::Some(0, 10)),
            ("bytes=10-", Part::Outside),
            ("bytes=10-11", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=0-18446744073709551615", Part::Some(0, 10)),
        ] {
            assert_eq!(Asked::read(Some(header)).of(10), part, "{header}");
        }
    }

    #[test]
    fn what_is_not_understood_is_passed_over() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=0-1,4-5",
            "bytes=-5-6",
            "bytes=+1-2",
            "bytes=0x1-2",
            "items=0-1",
            "bytes=18446744073709551616-",
        ] {
            assert_eq!(Asked::read(Some(header)), Asked::All, "{header}");
        }
        assert_eq!(Asked::read(None).of(0), Part::All);
        assert_eq!(Asked::Last(5).of(0), Part::Outside);
    }
}
