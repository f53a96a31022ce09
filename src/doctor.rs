//! Whether a node is ready: facts about it, and what they mean for pods that are to start without a network.
//!
//! [`NodeFacts::gather`] looks and changes nothing; [`examine`] is pure. A finding has an id that does not
//! change, says what was found, why it matters, and which command repairs it.

mod checks;
mod facts;
mod repair;

use std::fmt;

pub use checks::examine;
pub use facts::{
    Amount, Clock, Condition, Containerd, Disk, DiskRole, HostsFile, Kubelet, MediumFacts, MirrorHost,
    NodeFacts, OnMedium, Proxy, PullIntent, Sandbox, Snapshotter, Socket, Subject, Thresholds, Workload,
};
pub use repair::repair;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It keeps pods from starting.
    Error,
    /// It may, or will later.
    Warning,
    /// To be known; nothing is wrong.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// Something about a node that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// Which check it is; the same in all versions.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What was found: a sentence without its full stop.
    pub what: String,
    /// Why it matters: a sentence without its full stop.
    pub why: &'static str,
    /// The command that repairs it, or what to change.
    pub repair: String,
    /// Whether [`repair`] does that.
    pub safe: bool,
}

impl Diagnosis {
    fn new(
        id: &'static str,
        severity: Severity,
        what: impl Into<String>,
        why: &'static str,
        repair: impl Into<String>,
    ) -> Self {
        Self { id, severity, what: what.into(), why, repair: repair.into(), safe: false }
    }
}
