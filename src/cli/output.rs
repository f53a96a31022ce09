//! Where things are printed: data on standard output, everything for people on standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::json::json_line;
use super::lines::{self, Colour};
use super::progress::{Bars, Lines, Plain};
use super::text;
use crate::error::{Error, Result, Side};
use crate::medium::{Lock, Medium, Rejected};
use crate::progress::{Reporter, Silent};

/// The flags that every command has.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Globals {
    /// Print JSON on standard output: one document, or lines while a command works
    #[arg(long, global = true)]
    json: bool,
    /// Print nothing but errors, and the data that was asked for
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Say more about what is done
    #[arg(long, short, global = true)]
    verbose: bool,
    /// Colour messages: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        hide_short_help = true,
        hide_possible_values = true
    )]
    color: Colour,
}

/// Prints as the global flags ask for.
#[derive(Clone, Debug)]
pub(super) struct Output {
    globals: Globals,
    /// Whether a medium is written to.
    writes: Arc<AtomicBool>,
}

impl Output {
    pub(super) fn new(globals: Globals) -> Self {
        Self { globals, writes: Arc::default() }
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

    /// Whether nothing but what was asked for is printed.
    pub(super) fn quiet(&self) -> bool {
        self.globals.quiet
    }

    /// Whether text for people is printed.
    pub(super) fn talks(&self) -> bool {
        !self.globals.quiet && !self.globals.json
    }

    /// A line for people that quiet does not suppress: warnings and errors.
    pub(super) fn complain(&self, text: impl std::fmt::Display) {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(
            io::stderr().lock(),
            "{}",
            lines::dressed(&text::plain(&text.to_string()), self.globals.color)
        );
    }

    /// Warns of commit records that cannot be read, and says which export is read instead of the newest.
    pub(super) fn warn_of_records(&self, medium: &Medium) {
        self.warn_of_ignored(medium);
        if let Some(older) = medium.older() {
            self.complain(format_args!("warning: {older}"));
        }
    }

    /// The same where the gate has said which export is read.
    pub(super) fn warn_of_ignored(&self, medium: &Medium) {
        let older = medium.older();
        for Rejected { name, reason, .. } in medium.rejected() {
            if older.as_ref().is_none_or(|older| older.name != *name) {
                self.complain(format_args!("warning: {name}: {reason}; it is ignored"));
            }
        }
    }

    /// Locks a medium for writing; warns where its filesystem knows no locks.
    pub(super) fn lock(&self, medium: &mut Medium) -> Result<Lock> {
        let lock = medium.lock()?;
        Ok(self.locked(medium, lock))
    }

    /// The same for an export.
    pub(super) fn lock_to_export(&self, medium: &mut Medium) -> Result<Lock> {
        let lock = medium.lock_to_export()?;
        Ok(self.locked(medium, lock))
    }

    fn locked(&self, medium: &Medium, lock: Lock) -> Lock {
        self.writes.store(true, Ordering::Relaxed);
        if !lock.is_certain() {
            self.complain(format_args!(
                "warning: {} cannot be locked: make sure that no other pannier writes to it",
                medium.path().display()
            ));
        }
        lock
    }

    /// Whether a medium may have been written to.
    pub(super) fn writes_medium(&self) -> bool {
        self.writes.load(Ordering::Relaxed)
    }

    /// Text on standard output that was asked for.
    pub(super) fn data(&self, text: &str) -> Result<()> {
        print(text::plain(text).as_bytes())
    }

    /// What is written for programs in their own form.
    pub(super) fn file(&self, bytes: &[u8]) -> Result<()> {
        print(bytes)
    }

    /// A JSON document, on a line of its own.
    pub(super) fn document(&self, document: &impl Serialize) -> Result<()> {
        let line = json_line(document)
            .map_err(|error| Error::Usage(format!("the result cannot be written as JSON: {error}")))?;
        print(&line)
    }

    /// The reporter that fits: JSON lines, bars on a terminal, lines elsewhere.
    pub(super) fn reporter(&self) -> Arc<dyn Reporter + Send> {
        match self.globals {
            Globals { json: true, .. } => Arc::new(Lines::default()),
            Globals { quiet: true, .. } => Arc::new(Silent),
            _ if io::stderr().is_terminal() => Arc::new(Bars::new(self.globals.color)),
            _ => Arc::new(Plain::default()),
        }
    }
}

/// Writes to standard output. A closed pipe is no error: whoever read has read enough.
fn print(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::from_io(Side::Here, "write", "standard output".into(), error))
        }
        _ => Ok(()),
    }
}
