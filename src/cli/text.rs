//! How numbers are written for people, and how text from elsewhere is.

use std::borrow::Cow;
use std::time::Duration;

pub(super) use crate::error::size;

/// Whether a terminal would do something with `c` other than show it: move the cursor, change colours, or
/// show what follows in another order or not at all (Unicode TR 36, bidirectional text spoofing).
pub(super) fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{61c}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Text that does nothing to a terminal but break its lines and tabulate.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_active(c) && c != '\n' && c != '\t')
}

/// The same in one line.
pub(super) fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_active)
}

fn escaped(text: &str, active: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&active) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if active(c) { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    Cow::Owned(plain)
}

/// Bytes in binary units where that is a whole number: `64 KiB`, `9223372036854775807 B`.
pub(super) fn binary(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let steps = (bytes.trailing_zeros() as usize / 10).min(UNITS.len() - 1);
    format!("{} {}", bytes >> (10 * steps), UNITS[steps])
}

/// A time: `0.4 s`, `45 s`, `3 min 20 s`, `2 h 05 min`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        // Whole seconds are an estimate, which has no tenths.
        0 if (1..100_000_000).contains(&time.subsec_nanos()) => "under 0.1 s".to_owned(),
        0..10 if time.subsec_nanos() > 0 => format!("{seconds}.{} s", time.subsec_millis() / 100),
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A number and its noun: `1 image`, `3 images`.
pub(super) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// The same behind a comma: `, 3 files`; nothing for none.
pub(super) fn and_count(number: usize, noun: &str) -> String {
    if number == 0 { String::new() } else { format!(", {}", count(number, noun)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_lines_and_tabs_moves_the_cursor() {
        let hostile = "a\u{1b}[2J\u{9b}\u{202e}\u{feff}\r\u{7f}\n\tz";
        assert_eq!(plain(hostile), "a\\u{1b}[2J\\u{9b}\\u{202e}\\u{feff}\\r\\u{7f}\n\tz");
        assert_eq!(one_line("\n\u{2066}"), "\\n\\u{2066}");
        assert_eq!(plain("Grüße, 世界 🚢"), "Grüße, 世界 🚢");
    }

    #[test]
    fn binary_units_are_exact() {
        for (bytes, text) in [(1, "1 B"), (64 << 10, "64 KiB"), (3 << 20, "3 MiB"), (1025, "1025 B")] {
            assert_eq!(binary(bytes), text);
        }
    }

    #[test]
    fn times_are_short() {
        assert_eq!(duration(Duration::from_millis(42)), "under 0.1 s");
        assert_eq!(duration(Duration::from_millis(420)), "0.4 s");
        assert_eq!(duration(Duration::from_millis(9_990)), "9.9 s");
        assert_eq!(duration(Duration::from_secs(7)), "7 s");
        assert_eq!(duration(Duration::from_secs(59)), "59 s");
        assert_eq!(duration(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(duration(Duration::from_secs(7500)), "2 h 05 min");
    }
}
