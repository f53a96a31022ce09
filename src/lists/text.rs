//! The text of files that people and programs wrote, whatever system it was on.

use crate::error::{Error, Result, Side};
use crate::image::ReferenceError;

/// Reads UTF-8, or UTF-16 with a byte order mark, as Windows writes it. Marks within, where files were put
/// behind one another, are left out. `what` is the file.
pub(super) fn decode(bytes: Vec<u8>, what: &str) -> Result<String> {
    let invalid = |reason: &str| Error::invalid(Side::Source, what, reason);
    let wide = |pair: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..].chunks_exact(2).map(|unit| pair([unit[0], unit[1]])).collect();
        String::from_utf16(&units).map_err(|_| invalid("its mark says UTF-16, which it is not"))
    };
    let text = match bytes.get(..2) {
        Some([0xff, 0xfe]) => wide(u16::from_le_bytes)?,
        Some([0xfe, 0xff]) => wide(u16::from_be_bytes)?,
        _ => String::from_utf8(bytes).map_err(|_| invalid("neither UTF-8 nor UTF-16 with its mark"))?,
    };
    Ok(if text.contains('\u{feff}') { text.replace('\u{feff}', "") } else { text })
}

/// Something that stands where an image should, and is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    /// File and line.
    pub(super) place: String,
    /// Why it is none, with what to do about it.
    pub(super) reason: String,
}

impl Bad {
    pub(super) fn new(place: String, text: &str, error: &ReferenceError) -> Self {
        Self { place, reason: format!("{error}{}", hint(text)) }
    }
}

/// Most of what is wrong that is told at once.
const SHOWN: usize = 20;

/// One error for all that is wrong, so that nobody has to come back for each; `None` where nothing is.
pub(super) fn all(bad: &[Bad], make: impl FnOnce(String, String) -> Error) -> Option<Error> {
    let (first, others) = bad.split_first()?;
    let mut reason = first.reason.clone();
    for Bad { place, reason: other } in others.iter().take(SHOWN - 1) {
        reason.push_str(&format!("\n  {place}: {other}"));
    }
    if others.len() >= SHOWN {
        reason.push_str(&format!("\n  and {} more", others.len() + 1 - SHOWN));
    }
    Some(make(first.place.clone(), reason))
}

/// What fills in the gaps of a text that is still a template.
pub(super) fn hint(text: &str) -> &'static str {
    if text.contains("{{") {
        "; is it a template? `helm template` renders charts"
    } else if text.contains("${") || text.contains("$(") || text.starts_with('$') {
        "; a variable stands in it: `envsubst`, kustomize or your CI puts in what it stands for"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_windows_is_read_as_what_it_is() {
        let utf16 = |mark: [u8; 2], bytes: fn(u16) -> [u8; 2]| {
            mark.into_iter().chain("nginx:1\r\n".encode_utf16().flat_map(bytes)).collect::<Vec<u8>>()
        };
        assert_eq!(decode(utf16([0xff, 0xfe], u16::to_le_bytes), "x").unwrap(), "nginx:1\r\n");
        assert_eq!(decode(utf16([0xfe, 0xff], u16::to_be_bytes), "x").unwrap(), "nginx:1\r\n");
        assert_eq!(decode("\u{feff}a\n\u{feff}b".into(), "x").unwrap(), "a\nb");
        for broken in [&b"\xff"[..], b"a\xffb", b"\xff\xfe\x00\xd8"] {
            assert!(decode(broken.to_vec(), "x").is_err(), "{broken:?}");
        }
    }
}
