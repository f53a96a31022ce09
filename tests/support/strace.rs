//! Runs that are killed at a chosen call.

use std::process::{Command, Stdio};

/// Whether strace is there; said loudly where it is not.
pub(crate) fn available() -> bool {
    let there = Command::new("strace").arg("-V").output().is_ok();
    if !there {
        super::skipped("strace is missing; run tests/setup/install.sh faults");
    }
    there
}

/// Runs pannier under strace, which kills it at the `number`th call of one of `calls`; whether it was.
pub(crate) fn killed(arguments: &[&str], calls: &str, number: usize) -> bool {
    let inject = format!("inject={calls}:signal=KILL:when={number}");
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &inject, env!("CARGO_BIN_EXE_pannier")])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    !status.success()
}
