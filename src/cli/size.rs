//! A number of bytes, as people type it.

/// Bytes: `700MB`, `14.5GB`, `4GiB`, or a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

const UNITS: [(&str, u64); 12] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("k", 1000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("b", 1),
];

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "say a size such as 700MB, 14.5GB or 4GiB".to_owned();
        let lower = text.trim().to_ascii_lowercase();
        let unit = UNITS.iter().find_map(|(name, unit)| Some((lower.strip_suffix(name)?, *unit)));
        let (number, unit) = unit.unwrap_or((&lower, 1));
        let (whole, fraction) = number.trim().split_once('.').unwrap_or((number.trim(), ""));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 3 {
            return Err(wrong());
        }
        let thousandths: u64 = format!("{fraction:0<3}").parse().map_err(|_| wrong())?;
        let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(unit)).ok_or_else(wrong)?;
        // A fraction of a byte is nothing, and a unit is at most 2^40.
        match whole.checked_add(thousandths * unit / 1000) {
            Some(0) | None => Err(wrong()),
            Some(bytes) => Ok(Self(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_printed_on_sticks() {
        for (text, bytes) in [
            ("700MB", 700_000_000),
            ("14.5GB", 14_500_000_000),
            ("4GiB", 4 << 30),
            ("1.5 GiB", 3 << 29),
            ("64g", 64_000_000_000),
            ("512", 512),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for bad in ["", "0", "0MB", "-1GB", "1.GBx", "GB", "1e9", "99999999999TB", "1.2345GB", "1,5GB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
