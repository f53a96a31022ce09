//! Runs that are killed, or told a lie, at a chosen call.

use std::process::{Command, Output, Stdio};

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

/// A run under strace: what came of it, and its calls, one a line.
pub(crate) struct Traced {
    pub(crate) output: Output,
    pub(crate) calls: Vec<String>,
}

impl Traced {
    /// The number of the first call that got a wrong answer.
    pub(crate) fn injected(&self) -> Option<usize> {
        self.calls.iter().position(|call| call.contains("(INJECTED)"))
    }
}

/// Runs pannier and notes its calls of `calls`; `inject` is strace's, such as `error=EIO:when=3`.
pub(crate) fn traced(arguments: &[&str], calls: &str, inject: Option<&str>) -> Traced {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-y", "-o"]).arg(log.path()).args(["-e", &format!("trace={calls}")]);
    if let Some(inject) = inject {
        command.args(["-e", &format!("inject={calls}:{inject}")]);
    }
    let output = command.arg(env!("CARGO_BIN_EXE_pannier")).args(arguments).output().unwrap();
    let log = std::fs::read(log.path()).unwrap();
    let calls = String::from_utf8_lossy(&log).lines().map(str::to_owned).collect();
    Traced { output, calls }
}
