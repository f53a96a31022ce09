//! Runs of the program whose clock is wrong.

use std::process::Command;

/// Whether a clock can be set for one program; said loudly where it cannot.
pub(crate) fn available() -> bool {
    let there = Command::new("faketime").arg("--version").output().is_ok();
    if !there {
        super::skipped("faketime is missing; run tests/setup/install.sh faults");
    }
    there
}

/// The program with a clock that begins at `time`, such as `1970-01-01 00:00:10`, in UTC. It goes on from there;
/// how long something takes is measured as ever.
pub(crate) fn pannier_at<'a>(time: &str, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let own = super::carry::pannier(arguments);
    let mut command = Command::new("faketime");
    command.args(["-m", "-f", &format!("@{time}")]).arg(own.get_program()).args(own.get_args());
    command.envs([("TZ", "UTC"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("NO_FAKE_STAT", "1")]);
    for (name, value) in own.get_envs() {
        assert!(value.is_none(), "a setting that would be lost");
        command.env_remove(name);
    }
    command
}
