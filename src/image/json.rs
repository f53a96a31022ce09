//! JSON from outside, read so that every reader of it sees the same document.
//!
//! serde takes the fields that it knows and passes over the rest unread; other programs read the same
//! bytes, and Go's `encoding/json`, which containerd uses, takes the last of two equal keys and does not
//! tell `layers` from `Layers`. So a document is looked through once before it is read.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::limits;

/// The fields by which a document is understood, here or in containerd (OCI image-spec).
const FIELDS: [&str; 20] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "digest",
    "size",
    "urls",
    "data",
    "platform",
    "architecture",
    "os",
    "variant",
    "rootfs",
    "diff_ids",
    "fsLayers",
    "type",
];

/// Those of an image config that decide something; beside them old tools wrote fields in capitals.
const CONFIG_FIELDS: [&str; 4] = ["architecture", "os", "variant", "rootfs"];

/// Whose the keys of a document are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Those of a manifest or an index, but for what annotations hold.
    Manifest,
    /// Those of an image config, on top and in `rootfs`; the rest is the image's own.
    Config,
    /// Ours: only this program reads the document.
    Own,
}

/// Reads `bytes` as one JSON document. The error is a sentence that holds none of its text but short
/// words, escaped.
///
/// Refused: what is not UTF-8, a byte order mark, more than one document; a key that an object has
/// twice (I-JSON, RFC 7493), or that differs from a field of the format only in its case; numbers and
/// escapes that stand for nothing; more than `pannier limits` allows of depth, values and keys.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8], keys: Keys) -> Result<T, String> {
    check(bytes, keys)?;
    serde_json::from_slice(bytes).map_err(|error| plain(&error))
}

/// What is wrong, in ASCII: serde quotes what it did not expect.
pub(crate) fn plain(error: &serde_json::Error) -> String {
    let shown = |c: char| {
        if c.is_ascii_graphic() || c == ' ' { c.to_string() } else { c.escape_default().to_string() }
    };
    error.to_string().chars().map(shown).collect()
}

/// Looks a document through, as [`read`] does before it reads.
pub(crate) fn check(bytes: &[u8], keys: Keys) -> Result<(), String> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err("it begins with a byte order mark".into());
    }
    let text = std::str::from_utf8(bytes).map_err(|error| format!("it is not UTF-8: {error}"))?;
    let mut values = limits::JSON_VALUES;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let place = match keys {
        Keys::Manifest => Place::Document,
        Keys::Config => Place::Config,
        Keys::Own => Place::Free,
    };
    Checker { values: &mut values, depth: limits::JSON_DEPTH, place }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|error| plain(&error))
}

/// Where in a document a value is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Where keys are the format's.
    Document,
    /// The same, on top of an image config.
    Config,
    /// Directly in `annotations`, where they are anybody's.
    Annotations,
    /// In something that only the image's own programs read.
    Free,
}

struct Checker<'a> {
    values: &'a mut usize,
    depth: usize,
    place: Place,
}

impl Checker<'_> {
    fn inner(&mut self, place: Place) -> Checker<'_> {
        Checker { values: self.values, depth: self.depth - 1, place }
    }

    fn enter<E: de::Error>(&self) -> Result<(), E> {
        if self.depth == 0 {
            return Err(E::custom(format_args!("nested more than {} deep", limits::JSON_DEPTH)));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Checker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        *self.values = self.values.checked_sub(1).ok_or_else(|| {
            de::Error::custom(format_args!("more than the {} values allowed", limits::JSON_VALUES))
        })?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        self.enter()?;
        let place = self.place;
        while list.next_element_seed(self.inner(place))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<(), A::Error> {
        self.enter()?;
        let most = if self.place == Place::Annotations { limits::ANNOTATIONS } else { limits::JSON_KEYS };
        let mut keys: HashSet<String> = HashSet::new();
        while let Some(key) = object.next_key::<String>()? {
            let refuse = |reason: &str| {
                let key: String = key.chars().take(40).flat_map(char::escape_debug).collect();
                de::Error::custom(format_args!("the key \"{key}\" {reason}"))
            };
            if key.len() > limits::JSON_KEY {
                return Err(refuse("is too long"));
            }
            let fields: &[&str] = match self.place {
                Place::Document => &FIELDS,
                Place::Config => &CONFIG_FIELDS,
                Place::Annotations | Place::Free => &[],
            };
            if fields.iter().any(|f| *f != key && same_to_go(f, &key)) {
                return Err(refuse("is a field in other letters, which some programs take for it"));
            }
            let place = match (self.place, key.as_str()) {
                (Place::Document, "annotations") => Place::Annotations,
                (Place::Document, _) | (Place::Config, "rootfs") => Place::Document,
                (Place::Config | Place::Annotations | Place::Free, _) => Place::Free,
            };
            if keys.contains(&key) {
                return Err(refuse("is there twice"));
            }
            if keys.len() == most {
                return Err(de::Error::custom(format_args!("more than {most} keys in one object")));
            }
            keys.insert(key);
            object.next_value_seed(self.inner(place))?;
        }
        Ok(())
    }
}

/// Whether Go's `encoding/json` takes `key` for the field `field`: without regard to case, with two
/// letters outside ASCII that fold to letters within.
fn same_to_go(field: &str, key: &str) -> bool {
    let folded = key.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    });
    folded.eq(field.chars().map(|c| c.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn refused(text: &str, reason: &str) {
        let error = read::<Value>(text.as_bytes(), Keys::Manifest).unwrap_err();
        assert!(error.contains(reason), "{text:.60}: {error}");
        assert!(error.len() < 200, "{error}");
    }

    #[test]
    fn what_two_readers_could_read_otherwise_is_refused() {
        refused(r#"{"a":1,"a":1}"#, "twice");
        refused(r#"{"x":[{"\u0061":1,"a":2}]}"#, "twice");
        refused(r#"{"annotations":{"b":"1","b":"2"}}"#, "twice");
        refused(r#"{"Layers":[]}"#, "other letters");
        refused(r#"{"layer\u017f":[]}"#, "other letters");
        refused(r#"{"config":{"DIGEST":""}}"#, "other letters");
        refused("{\"a\u{202e}\\u001b\":1,\"a\u{202e}\\u001b\":2}", "a\\u{202e}\\u{1b}");
        for fine in [r#"{"annotations":{"Size":"1","size":"2"}}"#, r#"{"a":1,"b":{"a":1},"A":2}"#] {
            assert!(read::<Value>(fine.as_bytes(), Keys::Manifest).is_ok(), "{fine}");
        }
        let config =
            r#"{"config":{"Labels":{"size":"1","Size":"2"},"Type":1},"Created":1,"Size":1,"rootfs":{}}"#;
        assert!(check(config.as_bytes(), Keys::Config).is_ok());
        for bad in [r#"{"Rootfs":1}"#, r#"{"rootfs":{"DIFF_IDS":1}}"#, r#"{"config":{"a":1,"a":1}}"#] {
            assert!(check(bad.as_bytes(), Keys::Config).is_err(), "{bad}");
        }
        assert!(check(br#"{"Size":1,"size":1}"#, Keys::Own).is_ok());
    }

    #[test]
    fn what_is_not_plain_json_is_refused() {
        for text in
            ["\u{feff}{}", "{} {}", "{}x", "", "1e400", r#"{"a":1e400}"#, r#""\ud800""#, "{\"a\":\"\u{1}\"}"]
        {
            assert!(read::<Value>(text.as_bytes(), Keys::Own).is_err(), "{text:?}");
        }
        for bytes in [&b"{\"a\":\"\xff\"}"[..], b"{\"a\xc0\x80\":1}", b"{}\0", b"\xfe\xff\0{\0}"] {
            assert!(read::<Value>(bytes, Keys::Own).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn depth_number_and_length_are_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(check(nested(limits::JSON_DEPTH).as_bytes(), Keys::Own).is_ok());
        refused(&nested(limits::JSON_DEPTH + 1), "deep");
        refused(&"[".repeat(100_000), "deep");
        refused(&format!("[{}1]", "1,".repeat(limits::JSON_VALUES)), "values");
        let keys = |count: usize| (0..count).map(|n| format!("\"{n}\":\"\"")).collect::<Vec<_>>().join(",");
        refused(&format!("{{\"annotations\":{{{}}}}}", keys(limits::ANNOTATIONS + 1)), "1000 keys");
        assert!(
            check(
                format!("{{\"annotations\":{{{}}}}}", keys(limits::ANNOTATIONS)).as_bytes(),
                Keys::Manifest
            )
            .is_ok()
        );
        refused(&format!("{{{}}}", keys(limits::JSON_KEYS + 1)), "keys in one object");
        refused(&format!("{{\"{}\":1}}", "a".repeat(limits::JSON_KEY + 1)), "too long");
    }
}
