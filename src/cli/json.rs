//! JSON as it is printed.

use std::io::{self, Write};

use serde::Serialize;

use super::text;

/// A JSON document in one line, in which everything that a terminal would act on is escaped: people look
/// at JSON, too.
pub(super) fn json_line(document: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = Vec::new();
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut line, Escaping))?;
    line.push(b'\n');
    Ok(line)
}

struct Escaping;

impl serde_json::ser::Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| text::is_active(*c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_nothing_that_a_terminal_acts_on_and_means_the_same() {
        let hostile = "a\u{1b}[2J\"\u{9b}31m\u{202e}\u{e0041}\n";
        let line = String::from_utf8(json_line(&[hostile]).unwrap()).unwrap();
        assert!(line.trim_end().bytes().all(|b| b.is_ascii_graphic()), "{line}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&line).unwrap()[0], hostile);
    }
}
