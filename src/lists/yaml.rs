//! YAML and JSON documents with the line of every value.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Options, Spanned};

/// A value and its line, from 1; 0 where that is not known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) line: u64,
}

/// What a value is, as far as it matters here.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Map(Vec<(String, Node)>),
    List(Vec<Node>),
    Text(String),
    /// A number, a truth value or nothing.
    Other,
}

/// Text that is no YAML.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) line: u64,
    pub(super) reason: String,
}

/// Reads every document in `text`; documents without a value are left out.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, Broken> {
    let read = serde_saphyr::from_multiple_with_options::<Node>(text, options());
    match read {
        Ok(documents) => Ok(documents),
        // JSON may be indented by tabs, YAML may not.
        Err(_) if text.trim_start().starts_with('{') => json(text),
        Err(error) => {
            let line = error.location().map_or(0, |location| location.line());
            Err(Broken { line, reason: first_line(&error.without_snippet().to_string()) })
        }
    }
}

fn json(text: &str) -> Result<Vec<Node>, Broken> {
    serde_json::Deserializer::from_str(text)
        .into_iter::<Value>()
        .map(|value| Ok(Node { value: value?, line: 0 }))
        .collect::<Result<_, serde_json::Error>>()
        .map_err(|error| Broken { line: error.line() as u64, reason: first_line(&error.to_string()) })
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}

/// As Kubernetes reads manifests, and with room for the largest sets of custom resource definitions.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 20_000_000,
            max_nodes: 10_000_000,
            max_documents: 100_000,
            max_depth: 128,
        },
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        strict_booleans: true,
        with_snippet: false,
    }
}

impl Node {
    /// The member `key` of a map.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(members) => members.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The member at the end of a path of keys.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a list; none of anything else.
    pub(super) fn elements(&self) -> &[Node] {
        match &self.value {
            Value::List(elements) => elements,
            _ => &[],
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { value: spanned.value, line: spanned.referenced.line() })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, node)) = map.next_entry::<Value, Node>()? {
            // No key that matters is anything but text.
            let Value::Text(key) = key else { continue };
            members.retain(|(name, _)| *name != key);
            members.push((key, node));
        }
        Ok(Value::Map(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(node) = list.next_element()? {
            elements.push(node);
        }
        Ok(Value::List(elements))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_is_read_with_its_lines() {
        let text =
            "# made by helm\n---\na:\n  b: [x, 1, .inf, null]\n---\n---\nc: &anchor y\nd: *anchor\n...\n";
        let documents = parse(text).unwrap();
        assert_eq!(documents.len(), 2);
        let list = documents[0].at(&["a", "b"]).unwrap();
        assert_eq!((list.line, list.elements()[0].text()), (4, Some("x")));
        assert_eq!(list.elements().len(), 4);
        let alias = documents[1].get("d").unwrap();
        assert_eq!((alias.line, alias.text()), (8, Some("y")));
    }

    #[test]
    fn json_is_read_too_even_with_tabs() {
        assert_eq!(parse("{\"a\": {\"b\": \"c\"}}").unwrap()[0].at(&["a", "b"]).unwrap().text(), Some("c"));
        let tabs = parse("{\n\t\"a\": \"c\"\n}\n{\"a\": 1}").unwrap();
        assert_eq!(tabs[0].get("a").unwrap().text(), Some("c"));
    }

    #[test]
    fn a_later_key_wins_and_merge_keys_are_followed() {
        let text = "a: 1\na: x\nbase: &b {image: y}\nc:\n  <<: *b\n  1: number\n";
        let documents = parse(text).unwrap();
        assert_eq!(documents[0].get("a").unwrap().text(), Some("x"));
        assert_eq!(documents[0].at(&["c", "image"]).unwrap().text(), Some("y"));
    }

    #[test]
    fn broken_text_names_its_line() {
        for (text, line) in [
            ("a: b\nc: {{ .Values.x }}:{{ .Values.y }}\n", 2),
            ("a: 1\n---\nb:\n  - c\n d: e\n", 5),
            ("{\"a\":\n1]", 2),
        ] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text:?}: {:?}", parse(text));
        }
    }
}
