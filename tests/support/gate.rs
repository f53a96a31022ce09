//! What a test does where it cannot run. It fails: a test that ran nothing is never called passed.
//!
//! With `PANNIER_SKIP=1` it goes on without what is missing, says so, and adds a line to the file that
//! `PANNIER_SKIPPED` names, which `make test` prints when all is done. Under `CI=true` nothing is skipped.

use std::env;
use std::fs::File;
use std::io::Write;

/// Whether this runs as root. Where it does not, `what` cannot be tested.
pub(crate) fn root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(&format!("not root, and {what}"));
    }
    root
}

/// Fails, or goes on where that is asked for, since something that a test needs is missing.
pub(crate) fn skipped(why: &str) {
    let is = |name: &str, value: &str| env::var(name).as_deref() == Ok(value);
    if let Err(refusal) = may_skip(is("CI", "true"), is("PANNIER_SKIP", "1")) {
        panic!("cannot run here: {why}; {refusal}");
    }
    let test = test();
    eprintln!("\n##### SKIPPED: {test}: {why} #####\n");
    if let Some(list) = env::var_os("PANNIER_SKIPPED") {
        // One write, so that lines of tests that run side by side stay whole.
        let mut list = File::options().create(true).append(true).open(list).unwrap();
        list.write_all(format!("{test}: {why}\n").as_bytes()).unwrap();
    }
}

/// Whether a test may go on without what it needs, else the reason.
fn may_skip(ci: bool, asked: bool) -> Result<(), &'static str> {
    match (ci, asked) {
        (true, _) => Err("under CI=true nothing is skipped"),
        (false, false) => Err("PANNIER_SKIP=1 skips what cannot run"),
        (false, true) => Ok(()),
    }
}

/// The test that asks: its thread has its name, and where nextest runs it alone its arguments do.
fn test() -> String {
    let named = std::thread::current().name().filter(|name| *name != "main").map(str::to_owned);
    named.or_else(|| env::args().skip(1).find(|argument| !argument.starts_with('-'))).unwrap_or_default()
}
