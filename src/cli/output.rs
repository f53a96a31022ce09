//! Where things are printed: data on standard output, everything for people on standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use serde::Serialize;

use super::Globals;
use super::progress::{Bars, Lines, Plain};
use crate::error::{Error, Result, Side};
use crate::medium::{Lock, Medium};
use crate::progress::{Reporter, Silent};

/// Prints as the global flags ask for.
#[derive(Debug)]
pub(super) struct Output {
    globals: Globals,
}

impl Output {
    pub(super) fn new(globals: Globals) -> Self {
        Self { globals }
    }

    /// Whether JSON was asked for.
    pub(super) fn json(&self) -> bool {
        self.globals.json
    }

    /// Whether more was asked for.
    pub(super) fn verbose(&self) -> bool {
        self.globals.verbose
    }

    /// A line for people.
    pub(super) fn say(&self, text: impl std::fmt::Display) {
        if self.talks() {
            self.complain(text);
        }
    }

    /// Whether text for people is printed.
    pub(super) fn talks(&self) -> bool {
        !self.globals.quiet && !self.globals.json
    }

    /// A line for people that quiet does not suppress: warnings and errors.
    pub(super) fn complain(&self, text: impl std::fmt::Display) {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Locks a medium for writing; warns where its filesystem knows no locks.
    pub(super) fn lock(&self, medium: &mut Medium) -> Result<Lock> {
        let lock = medium.lock()?;
        if !lock.is_certain() {
            self.complain(format_args!(
                "warning: {} cannot be locked: make sure that no other pannier writes to it",
                medium.path().display()
            ));
        }
        Ok(lock)
    }

    /// Text on standard output that was asked for.
    pub(super) fn data(&self, text: &str) -> Result<()> {
        print(text.as_bytes())
    }

    /// A JSON document, on a line of its own.
    pub(super) fn document(&self, document: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(document)
            .map_err(|error| Error::Usage(format!("the result cannot be written as JSON: {error}")))?;
        line.push(b'\n');
        print(&line)
    }

    /// The reporter that fits: JSON lines, bars on a terminal, lines elsewhere.
    pub(super) fn reporter(&self) -> Arc<dyn Reporter + Send> {
        match self.globals {
            Globals { json: true, .. } => Arc::new(Lines::default()),
            Globals { quiet: true, .. } => Arc::new(Silent),
            _ if io::stderr().is_terminal() => Arc::new(Bars::default()),
            _ => Arc::new(Plain::default()),
        }
    }
}

/// Writes to standard output. A closed pipe is no error: whoever read has read enough.
fn print(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::from_io(Side::Source, "write", "standard output".into(), error))
        }
        _ => Ok(()),
    }
}
