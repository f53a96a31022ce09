//! Lines for people: as wide as the terminal, and red or yellow where something matters.

use std::io::IsTerminal;

/// When colour is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Colour {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb` (no-color.org).
    #[default]
    Auto,
    Always,
    Never,
}

/// The narrowest terminal that lines are broken for.
const NARROWEST: usize = 40;
/// The widest line that is read with ease.
const WIDEST: usize = 100;

impl Colour {
    fn is_on(self) -> bool {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                std::io::stderr().is_terminal()
                    && set("NO_COLOR").is_none()
                    && set("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

/// Text that is safe to print, broken to the width of the terminal, its first word coloured.
pub(super) fn dressed(text: &str, colour: Colour) -> String {
    let width = std::io::stderr().is_terminal().then(width).flatten();
    let lines: Vec<String> =
        text.lines().map(|line| width.map_or(line.to_owned(), |w| broken(line, w))).collect();
    let text = lines.join("\n");
    // Red and yellow for what matters, as ECMA-48 has them.
    let code = match text.split_once(": ").map(|(word, _)| word) {
        Some("error") => "1;31",
        Some("warning") => "1;33",
        Some("hint") => "1;36",
        Some("Done") => "1;32",
        _ => return text,
    };
    match text.split_once(':') {
        Some((word, rest)) if colour.is_on() => format!("\u{1b}[{code}m{word}:\u{1b}[0m{rest}"),
        _ => text,
    }
}

/// The width of the terminal.
fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok()?;
    Some(usize::from(size.ws_col)).filter(|width| *width >= NARROWEST).map(|width| width.min(WIDEST))
}

/// A line broken at blanks so that none is longer than `width`; a word that is longer stays whole. What follows is
/// indented.
fn broken(line: &str, width: usize) -> String {
    // A row of a table, or what is indented already, is as wide as it is.
    if line.chars().count() <= width || line.starts_with(' ') {
        return line.to_owned();
    }
    let (mut text, mut column) = (String::new(), 0);
    for word in line.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            text.push_str("\n  ");
            column = 2;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_blanks() {
        assert_eq!(broken("one two three four", 9), "one two\n  three\n  four");
        assert_eq!(broken("short", 9), "short");
        let word = "x".repeat(70);
        assert_eq!(broken(&format!("a {word} b"), 40), format!("a\n  {word}\n  b"));
    }

    #[test]
    fn what_matters_is_coloured() {
        assert_eq!(dressed("warning: x: y", Colour::Always), "\u{1b}[1;33mwarning:\u{1b}[0m x: y");
        assert_eq!(dressed("2 images: x", Colour::Always), "2 images: x");
        assert_eq!(dressed("error: x", Colour::Never), "error: x");
    }
}
