//! The system says no: every error a full, read-only or broken medium gives, at every call.

use std::fs;
use std::process::Command;

use super::room::{Room, some};
use crate::support::carry::{run, text};
use crate::support::oracle::{Loss, failed_as_documented};
use crate::support::strace;

/// Gives each of `errors` at some of the calls, once; the messages of the runs that failed.
fn refuse(calls: &str, errors: &[&str], few: usize) -> Vec<String> {
    let room = Room::new();
    let count = {
        let at = room.path("m");
        run(0, room.first(&at));
        let traced = strace::traced(&room.second(&at), calls, None);
        fs::remove_dir_all(&at).unwrap();
        traced.calls.len()
    };
    let mut said = Vec::new();
    for error in errors {
        let sweep = format!("export refused with {error} at {calls}");
        for number in some(&sweep, &(1..=count).collect::<Vec<_>>(), few) {
            let case = format!("{error} at call {number} of {calls}");
            let at = room.path("m");
            run(0, room.first(&at));
            let arguments = room.second(&at);
            let traced = strace::traced(&arguments, calls, Some(&format!("error={error}:when={number}")));
            if !traced.output.status.success() {
                let message = failed_as_documented(&case, &traced.output);
                assert_eq!(traced.output.status.code(), Some(5), "{case}: {message}");
                said.push(message);
            }
            room.oracle(&at, &arguments).check(&case, Loss::Nothing);
            fs::remove_dir_all(&at).unwrap();
        }
    }
    said
}

/// The same; every message says `hint`.
fn refused(calls: &str, errors: &[&str], few: usize, hint: &str) {
    if strace::available() {
        let said = refuse(calls, errors, few);
        assert!(!said.is_empty(), "nothing failed");
        for message in said {
            assert!(message.contains(hint), "{message}");
        }
    }
}

// fault-matrix: rows 26
#[test]
fn no_space_at_any_write() {
    refused("write", &["ENOSPC"], 4, "the medium is full");
}

// fault-matrix: rows 26
#[test]
fn no_space_for_a_name_or_a_directory() {
    refused("renameat,mkdirat", &["ENOSPC"], 4, "the medium is full");
}

// fault-matrix: rows 27
#[test]
fn no_space_only_when_it_is_synced() {
    refused("fsync,fdatasync,syncfs", &["ENOSPC"], 3, "the medium is full");
}

// fault-matrix: rows 32
#[test]
fn no_quota_at_any_write_or_sync() {
    refused("write", &["EDQUOT"], 2, "quota");
    refused("fsync,fdatasync,syncfs", &["EDQUOT"], 2, "quota");
}

// fault-matrix: rows 34
#[test]
fn a_file_that_may_not_grow() {
    refused("write", &["EFBIG"], 3, "too large for the medium's filesystem");
}

// fault-matrix: rows 38
#[test]
fn read_only_from_some_call_on() {
    for calls in ["write", "renameat,mkdirat", "fsync,fdatasync,syncfs"] {
        refused(calls, &["EROFS"], 2, "dmesg");
    }
}

#[test]
fn an_input_output_error_at_any_call() {
    for calls in ["write", "renameat,mkdirat,unlinkat", "fsync,fdatasync,syncfs"] {
        refused(calls, &["EIO"], 2, "still plugged in");
    }
}

// fault-matrix: rows 36
#[test]
fn a_legal_name_that_is_refused_is_not_tried_again_and_again() {
    if !strace::available() {
        return;
    }
    let room = Room::new();
    for error in ["ENOENT", "EINVAL"] {
        for number in [1, 2, 5] {
            let at = room.path("m");
            run(0, room.first(&at));
            let arguments = room.second(&at);
            let undisturbed = 40;
            // From then on for good.
            let inject = format!("error={error}:when={number}+");
            let traced = strace::traced(&arguments, "renameat", Some(&inject));
            let case = format!("{error} from rename {number} on");
            failed_as_documented(&case, &traced.output);
            assert_eq!(traced.output.status.code(), Some(5), "{case}");
            assert!(traced.calls.len() < undisturbed, "{case}: {} calls", traced.calls.len());
            room.oracle(&at, &arguments).check(&case, Loss::Nothing);
            fs::remove_dir_all(&at).unwrap();
        }
    }
}

// fault-matrix: rows 40
#[test]
fn no_link_mode_or_time_is_relied_on() {
    if !strace::available() {
        return;
    }
    let room = Room::new();
    let calls = "link,linkat,symlink,symlinkat,chmod,fchmod,fchmodat,chown,fchown,fchownat,lchown,utimensat,\
                 utime,utimes,setxattr,fsetxattr,renameat2,mknodat";
    for error in ["EPERM", "EACCES", "ENOSYS"] {
        let at = room.path("m");
        for arguments in [room.first(&at), room.second(&at)] {
            let traced = strace::traced(&arguments, calls, Some(&format!("error={error}")));
            assert!(traced.output.status.success());
            assert!(traced.calls.is_empty(), "{:?}", traced.calls);
        }
        run(0, ["verify", "--deep", text(&at)]);
        fs::remove_dir_all(&at).unwrap();
    }
}

// fault-matrix: rows 66
#[test]
fn writes_and_reads_that_are_interrupted_are_done_again() {
    if !strace::available() {
        return;
    }
    let room = Room::new();
    for calls in ["write", "read,pread64", "fsync,fdatasync,syncfs"] {
        let at = room.path("m");
        run(0, room.first(&at));
        let arguments = room.second(&at);
        let traced = strace::traced(
            &arguments,
            calls,
            Some(&format!("error=EINTR:when={}+3", if calls == "read,pread64" { 20 } else { 1 })),
        );
        assert!(traced.injected().is_some(), "{calls}");
        if calls == "fsync,fdatasync,syncfs" {
            // A sync that was interrupted has failed like any other.
            assert!(traced.output.status.code().is_some_and(|status| [0, 5].contains(&status)));
        } else {
            assert!(traced.output.status.success(), "{calls}: {:?}", traced.output);
        }
        room.oracle(&at, &arguments).check(calls, Loss::Nothing);
        fs::remove_dir_all(&at).unwrap();
    }
}

// fault-matrix: rows 34, 66
#[test]
fn a_write_that_is_cut_short_by_a_limit_goes_on_or_fails() {
    let room = Room::new();
    let at = room.path("m");
    run(0, room.first(&at));
    let arguments = room.second(&at);
    // A file of at most so many KiB: a write across the limit is short, the next one is EFBIG.
    for limit in [1, 3, 7, 15, 30] {
        let output = Command::new("bash")
            .args(["-c", "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"", &limit.to_string()])
            .arg(env!("CARGO_BIN_EXE_pannier"))
            .args(&arguments)
            .output()
            .unwrap();
        let case = format!("files of at most {limit} KiB");
        let message = failed_as_documented(&case, &output);
        assert_eq!(output.status.code(), Some(5), "{case}: {message}");
        assert!(message.contains("too large"), "{case}: {message}");
    }
    room.oracle(&at, &arguments).check("files of limited size", Loss::Nothing);
}
