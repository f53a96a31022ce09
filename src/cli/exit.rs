//! The exit status of every error, and what a person can do about it.

use std::error::Error as _;
use std::io;
use std::process::ExitCode;

use serde_json::json;

use super::output::Output;
use super::text;
use crate::error::{Error, Side};
use crate::medium::Filesystem;
use crate::record::Basis;
use crate::trust::Refusal;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const INCOMPLETE: u8 = 3;
const VERIFICATION: u8 = 4;
const STORAGE: u8 = 5;
const UNREACHABLE: u8 = 6;
/// The exit status of a process that was interrupted.
pub(super) const INTERRUPTED: u8 = 130;

/// The exit status for `error`: the table in the README.
fn status(error: &Error) -> u8 {
    match error {
        Error::Usage(_) => USAGE,
        Error::DigestMismatch { .. }
        | Error::SizeMismatch { .. }
        | Error::Findings { .. }
        | Error::NotKept { .. }
        | Error::Unproven { .. }
        | Error::Untrusted { .. }
        | Error::UntrustedInventory { .. }
        | Error::NotTaken { .. }
        | Error::Damaged { .. }
        | Error::LackingDamaged { .. } => VERIFICATION,
        Error::Io { side: Side::Medium | Side::Node, .. }
        | Error::NoSpace { .. }
        | Error::NoFiles { .. }
        | Error::Busy { .. }
        | Error::Swapped { .. }
        | Error::NoRoom { .. }
        | Error::FileTooLarge { .. } => STORAGE,
        Error::Unreachable { .. } => UNREACHABLE,
        Error::Unrepaired { repaired: 0, .. } => VERIFICATION,
        Error::Unrepaired { .. } | Error::Lacking(_) | Error::VolumesMissing { .. } => INCOMPLETE,
        Error::Partial { failed, .. } => {
            // A lying source weighs more than an absent image.
            failed.iter().map(|(_, error)| status(error)).find(|s| *s != FAILED).unwrap_or(INCOMPLETE)
        }
        Error::Interrupted => INTERRUPTED,
        _ => FAILED,
    }
}

/// What to do next; `writes` says that a medium may have been written to.
fn hint(error: &Error, writes: bool) -> Option<String> {
    let hint = match error {
        Error::Lacking(lacking) => return Some(how_to_get(&lacking.rests_on)),
        Error::DigestMismatch { side: Side::Source, .. } | Error::SizeMismatch { side: Side::Source, .. } => {
            "nothing of that image was committed; --keep-going carries the others"
        }
        Error::DigestMismatch { side: Side::Medium, .. } | Error::SizeMismatch { side: Side::Medium, .. } => {
            "`pannier verify` lists everything that is damaged; `pannier repair --from SOURCE` gets it back"
        }
        Error::UntrustedInventory { .. } => {
            "take it again on the node with `pannier inventory -o FILE --sign-key KEY`; nothing of it was read"
        }
        Error::Untrusted { .. } => {
            "have somebody who is allowed sign it with `pannier sign`, or add the signer's key to the allowed signers; nothing else of the medium was read"
        }
        Error::NotTaken { refusal, .. } => match refusal {
            Refusal::Lane { .. } => {
                "the node's lane is in /etc/pannier/config.toml, or is given with --lane; `export --lane` sets the medium's"
            }
            Refusal::Expired { .. } => {
                "export to it again; if the time of this machine is right, only --allow-expired takes it as it is"
            }
            Refusal::Brings { .. } => {
                "have those sign it whom [[trust.policy]] in the configuration allows to bring it"
            }
            Refusal::Older { .. } | Refusal::Forked(_) => {
                "take the newest medium; --allow-rollback takes this one all the same"
            }
            Refusal::Leaps(_) => {
                "if the exporter's count or clock is right, `pannier trust --forget` makes it the first"
            }
        },
        Error::Unrepaired { .. } => {
            "give a source that has it with --from; images that need none of it can still be imported with --keep-going"
        }
        Error::DigestMismatch { side: Side::Node, .. } | Error::SizeMismatch { side: Side::Node, .. } => {
            "`pannier images --check` lists everything that is damaged; `pannier import --repair` of the medium that brought it replaces it"
        }
        Error::LackingDamaged { .. } => {
            "nothing was imported. `pannier import --repair` of the medium that brought that layer replaces it, and so does removing and pulling the image that needs it (`pannier images --check` tells which); or export again without --have"
        }
        Error::Damaged { .. } => "`pannier import MEDIUM --repair` replaces what is on the medium as well",
        Error::NoSpace { side: Side::Node, .. } => {
            "free some space there; an import needs less with fewer images, and with --no-unpack until a container starts"
        }
        Error::NoSpace { side: Side::Medium, .. } => {
            "use a larger medium, or export fewer images or platforms"
        }
        Error::NoRoom { .. } => {
            "add another --to, or export fewer images or platforms; one image is never spread over two media"
        }
        Error::VolumesMissing { .. } => "import the other media of the set as well, in any order",
        Error::NoFiles { .. } => {
            "remove other files from the medium, or format it with room for more (`mkfs.ext4 -N`, or exFAT)"
        }
        Error::NotKept { .. } => {
            "nothing was committed. A stick that holds less than it says (counterfeits do; f3probe tells) or that is worn out does this: use another one. `pannier verify` tells what is left of what was on it"
        }
        Error::FileTooLarge { .. } => {
            "format the medium with exFAT or ext4, export with --split (other tools cannot read that image then), or without that image"
        }
        Error::Busy { .. } => {
            "not safe to remove yet: end what uses it and run the same command again. What was committed is whole"
        }
        Error::Swapped { .. } => {
            "it was unmounted, or another was put in its place: nothing was committed. Plug the right one in and run the same command again"
        }
        Error::Unproven { .. } => "what was committed before is untouched",
        Error::Locked { .. } => "wait until the other one has ended; a process that died holds no lock",
        Error::Interrupted if writes => {
            "the medium is NOT safe to remove: unmount it first. Run the same command again to go on"
        }
        Error::Interrupted => "run the same command again to go on",
        Error::Io { side: Side::Medium, .. } if error.is_filesystem_damage() => {
            "the medium's filesystem is damaged: unmount it and run fsck, then `pannier verify`"
        }
        Error::Io { side: Side::Medium, path, action, source } => match source.kind() {
            io::ErrorKind::StorageFull if Filesystem::of(path).is_ok_and(|fs| fs.files == Some(0)) => {
                "the medium has no room for more files, whatever its free space: what was committed before is whole; remove other files and run the same command again"
            }
            io::ErrorKind::StorageFull => {
                "the medium is full: what was committed before is whole; free some space and run the same command again"
            }
            io::ErrorKind::QuotaExceeded => {
                "your quota on the medium's filesystem is used up: what was committed before is whole; free some space and run the same command again"
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                "the medium is read-only, or became so when it was pulled out or failed: look at its switch, and at `dmesg`"
            }
            io::ErrorKind::FileTooLarge => {
                "the file is too large for the medium's filesystem; use exFAT or ext4"
            }
            // Who only reads a medium can go on without what cannot be read.
            _ if !writes
                && matches!(*action, "read" | "open" | "list" | "examine")
                && source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
            {
                "the medium was pulled out, or is worn in places: `dmesg` tells. `pannier verify` lists what cannot be read, `pannier repair --from SOURCE` gets it back, --keep-going carries what does not need it"
            }
            io::ErrorKind::PermissionDenied => "run it as a user who may use the medium, or as root",
            _ => {
                "is the medium still plugged in? `dmesg` tells what the system met, and a filesystem that was pulled out may have to be checked (`fsck.exfat`). What was committed before is whole; run the same command again"
            }
        },
        Error::Unreachable { side: Side::Node, .. } => {
            "is containerd running, and may this user use it? --address names another socket; run again, the same command goes on"
        }
        Error::Io { side: Side::Node, source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
        {
            "the node's disk is full; what was not complete was taken back. Free some space there (`pannier import --dry-run` says how much is needed) and run the same command again"
        }
        Error::Unreachable { side: Side::Source, .. } => {
            "run the same command again when it can be reached: it goes on"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// How a node gets what a top-up rests on.
fn how_to_get(rests_on: &[Basis]) -> String {
    let named: Vec<String> = rests_on.iter().take(3).map(ToString::to_string).collect();
    let more = if rests_on.len() > named.len() { " and others" } else { "" };
    let first = match rests_on.first() {
        None => "import the medium that it rests on first".to_owned(),
        Some(Basis::Medium { .. }) => {
            format!("it rests on {}{more}: import that first", named.join(" and "))
        }
        Some(Basis::Inventory { .. }) => {
            format!("it rests on {}{more}, and this node has other layers", named.join(" and "))
        }
    };
    format!(
        "nothing was imported; {first}. Or export again with `--have` of this node's own `pannier inventory`, or without --have"
    )
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

/// How an error is told that does not end the program.
pub(super) fn error_text(error: &Error) -> ErrorText {
    ErrorText { status: status(error), text: chain(error), hint: hint(error, false) }
}

/// Prints a usage error, or the help that was asked for.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell when the stream is closed.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// Prints an error with its causes and what to do, each once.
pub(super) fn failed(error: &Error, output: &Output) -> ExitCode {
    let status = status(error);
    let writes = output.writes_medium();
    let failed: &[_] = if let Error::Partial { failed, .. } = error { failed } else { &[] };
    if output.json() {
        let failed: Vec<_> =
            failed.iter().map(|(image, e)| json!({ "image": image, "error": chain(e) })).collect();
        let document = json!({ "event": "error", "error": chain(error), "status": status, "hint": hint(error, writes), "failed": failed });
        // The exit status still tells of the failure.
        let _ = output.document(&document);
    }
    for (image, error) in failed {
        output.complain(format_args!("{image}: {}", chain(error)));
    }
    output.complain(format_args!("error: {}", chain(error)));
    let hints: Vec<String> = match failed {
        [] => hint(error, writes).into_iter().collect(),
        failed => {
            let mut hints: Vec<String> = failed.iter().filter_map(|(_, error)| hint(error, writes)).collect();
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
fn chain(error: &Error) -> String {
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
        let partial = |errors: Vec<Error>| Error::Partial {
            total: 9,
            failed: errors.into_iter().map(|error| ("x".to_owned(), error.into())).collect(),
        };
        let cases = [
            (absent(), 1),
            (Error::Usage("x".into()), 2),
            (partial(vec![absent()]), 3),
            (lie(), 4),
            (partial(vec![absent(), lie()]), 4),
            (Error::Findings { errors: 1 }, 4),
            (Error::Unrepaired { repaired: 0, lost: 1 }, 4),
            (Error::Unrepaired { repaired: 1, lost: 1 }, 3),
            (io(Side::Medium, io::ErrorKind::StorageFull), 5),
            (io(Side::Source, io::ErrorKind::NotFound), 1),
            (Error::Unreachable { side: Side::Node, address: "x".into(), source: "y".into() }, 6),
            (Error::Interrupted, 130),
        ];
        for (error, expected) in cases {
            assert_eq!(status(&error), expected, "{error}");
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(chain(&Error::Usage("a\u{1b}[2Jb\n".into())), "a\\u{1b}[2Jb\\n");
    }
}
