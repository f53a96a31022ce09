//! The exit status of every failure, and how it is told.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use serde_json::json;

use super::failure::Failure;
use super::output::Output;
use super::{habits, hint, text};
use crate::error::{Error, NoMedium, Side};

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const INCOMPLETE: u8 = 3;
const VERIFICATION: u8 = 4;
const STORAGE: u8 = 5;
const UNREACHABLE: u8 = 6;
/// The exit status of a process that was interrupted.
pub(super) const INTERRUPTED: u8 = 130;

/// The exit status of a command that did not end well: the table in docs/scripting.md.
fn status(failure: &Failure) -> u8 {
    match failure {
        Failure::Error(error) => status_of(error),
        Failure::Findings { .. } | Failure::Damaged { .. } | Failure::Unrepaired { repaired: 0, .. } => {
            VERIFICATION
        }
        Failure::Unrepaired { .. } | Failure::VolumesMissing { .. } => INCOMPLETE,
        // A lying source weighs more than an absent image.
        Failure::Partial { failed, .. } => {
            failed.iter().map(|(_, error)| status_of(error)).find(|s| *s != FAILED).unwrap_or(INCOMPLETE)
        }
        Failure::NotReady { .. } => FAILED,
    }
}

fn status_of(error: &Error) -> u8 {
    match error {
        Error::Usage(_) => USAGE,
        Error::DigestMismatch { .. }
        | Error::SizeMismatch { .. }
        | Error::Invalid { side: Side::Medium, .. }
        | Error::NoMedium { why: NoMedium::AllDamaged { .. }, .. }
        | Error::NotKept { .. }
        | Error::Older { .. }
        | Error::BlobMissing { .. }
        | Error::Unproven { .. }
        | Error::Untrusted { .. }
        | Error::UntrustedInventory { .. }
        | Error::NotTaken { .. }
        | Error::LackingDamaged { .. } => VERIFICATION,
        Error::Io { side: Side::Medium | Side::Node, .. }
        | Error::NoSpace { .. }
        | Error::NoFiles { .. }
        | Error::Busy { .. }
        | Error::Swapped { .. }
        | Error::NoRoom { .. }
        | Error::FileTooLarge { .. } => STORAGE,
        Error::Unreachable { .. } => UNREACHABLE,
        Error::Lacking(_) | Error::NoMedium { why: NoMedium::Unfinished, .. } => INCOMPLETE,
        Error::Interrupted => INTERRUPTED,
        _ => FAILED,
    }
}

/// An error as it is told to people.
#[derive(Debug)]
pub(super) struct ErrorText {
    /// The exit status that it has.
    pub(super) status: u8,
    /// The message and those of its causes.
    pub(super) text: String,
    /// What to do next.
    pub(super) hint: Option<String>,
}

/// How a failure is told that does not end the program.
pub(super) fn error_text(failure: &Failure) -> ErrorText {
    ErrorText { status: status(failure), text: chain(failure), hint: hint::of(failure, false) }
}

/// Prints a usage error, or the help that was asked for.
pub(super) fn usage(mut error: clap::Error) -> ExitCode {
    // A guess that is another word altogether, such as --no-verify for --tls-verify, does harm.
    for (word, guess) in [
        (ContextKind::InvalidArg, ContextKind::SuggestedArg),
        (ContextKind::InvalidSubcommand, ContextKind::SuggestedSubcommand),
    ] {
        let Some(ContextValue::String(word)) = error.get(word).cloned() else { continue };
        let guesses = match error.remove(guess) {
            Some(ContextValue::String(guess)) => vec![guess],
            Some(ContextValue::Strings(guesses)) => guesses,
            _ => continue,
        };
        match guesses.into_iter().find(|guess| habits::is_slip(&word, guess)) {
            Some(slip) => error.insert(guess, ContextValue::String(slip)),
            // The line of usage shows the guess as well.
            None => error.remove(ContextKind::Usage),
        };
    }
    error.remove(ContextKind::Suggested);
    // Nobody is left to tell when the stream is closed.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// Says what to type instead of what was typed.
pub(super) fn typed(word: &str, line: &str) -> ExitCode {
    // Nobody is left to tell when the stream is closed.
    let _ = writeln!(io::stderr().lock(), "error: pannier does not know {word}\nhint: {line}");
    ExitCode::from(USAGE)
}

/// Prints an error with its causes and what to do, each once.
pub(super) fn failed(failure: &Failure, output: &Output) -> ExitCode {
    let status = status(failure);
    let writes = output.writes_medium();
    let failed: &[_] = if let Failure::Partial { failed, .. } = failure { failed } else { &[] };
    if output.json() {
        let failed: Vec<_> =
            failed.iter().map(|(image, e)| json!({ "image": image, "error": chain(&**e) })).collect();
        let document = json!({ "event": "error", "error": chain(failure), "status": status, "hint": hint::of(failure, writes), "failed": failed });
        // The exit status still tells of the failure.
        let _ = output.document(&document);
    }
    for (image, error) in failed {
        output.complain(format_args!("{image}: {}", chain(&**error)));
    }
    output.complain(format_args!("error: {}", chain(failure)));
    let hints: Vec<String> = match failed {
        [] => hint::of(failure, writes).into_iter().collect(),
        failed => {
            let mut hints: Vec<String> =
                failed.iter().filter_map(|(_, error)| hint::of_error(error, writes)).collect();
            hints.dedup();
            hints
        }
    };
    for hint in hints {
        output.complain(format_args!("hint: {hint}"));
    }
    ExitCode::from(status)
}

/// The message and those of its causes, in one line, with nothing that could move a cursor.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text::one_line(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    #[test]
    fn the_table_of_exit_statuses() {
        let digest = Digest::of(b"");
        let io = |side, kind: io::ErrorKind| Error::Io {
            side,
            action: "write",
            path: "x".into(),
            source: kind.into(),
        };
        let lie = || Error::DigestMismatch {
            side: Side::Source,
            what: "x".into(),
            expected: digest,
            found: digest,
        };
        let absent = || Error::not_found(Side::Source, "x");
        let partial = |errors: Vec<Error>| Failure::Partial {
            total: 9,
            failed: errors.into_iter().map(|error| ("x".to_owned(), error.into())).collect(),
        };
        let damaged = |recovery| NoMedium::AllDamaged { newest: "x".into(), reason: "y".into(), recovery };
        let no_medium = |why| Error::NoMedium { path: "x".into(), why };
        let cases: [(Failure, u8); 18] = [
            (absent().into(), 1),
            (Error::Usage("x".into()).into(), 2),
            (partial(vec![absent()]), 3),
            (lie().into(), 4),
            (partial(vec![absent(), lie()]), 4),
            (Failure::Findings { errors: 1 }, 4),
            (Failure::Unrepaired { repaired: 0, lost: 1 }, 4),
            (Failure::Unrepaired { repaired: 1, lost: 1 }, 3),
            (io(Side::Medium, io::ErrorKind::StorageFull).into(), 5),
            (io(Side::Source, io::ErrorKind::NotFound).into(), 1),
            (Error::Unreachable { side: Side::Node, address: "x".into(), source: "y".into() }.into(), 6),
            (Error::Interrupted.into(), 130),
            (Error::invalid(Side::Medium, "x", "y").into(), 4),
            (Error::invalid(Side::Source, "x", "y").into(), 1),
            (Error::unfit("x", "y").into(), 1),
            (no_medium(damaged(true)).into(), 4),
            (no_medium(NoMedium::Unfinished).into(), 3),
            (no_medium(NoMedium::Nothing).into(), 1),
        ];
        for (failure, expected) in cases {
            assert_eq!(status(&failure), expected, "{failure}");
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(chain(&Error::Usage("a\u{1b}[2Jb\n".into())), "a\\u{1b}[2Jb\\n");
    }
}
