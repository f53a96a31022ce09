//! `pannier doctor`.

use std::path::PathBuf;

use serde_json::json;

use super::failure::{Ended, Failure};
use super::output::Output;
use super::trust::TrustArgs;
use super::{signals, text};
use crate::doctor::{Diagnosis, NodeFacts, Severity, Socket, Subject, examine, repair};
use crate::error::Result;
use crate::lists::{Named, kubernetes, references};
use crate::progress::{Run, Silent};

/// Say whether this node is ready to start pods without a network
///
/// Looks at containerd, disks, routes, the clock and what kubelet is told, and changes nothing. With a
/// medium, also whether it could be imported here; with manifests, whether their workloads would
/// start. The exit status is 1 when something keeps pods from starting.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pannier doctor
  pannier doctor /media/stick --manifests deploy/")]
pub(super) struct Args {
    /// A medium that is to be imported here
    medium: Option<PathBuf>,
    /// Kubernetes manifests: a file, a folder, or - for standard input
    #[arg(long, value_name = "PATH")]
    manifests: Vec<PathBuf>,
    /// A file with one image a line that has to be there
    #[arg(long, value_name = "FILE")]
    list: Vec<PathBuf>,
    /// Throw away what imports left behind that ended early
    #[arg(long, alias = "mend")]
    repair: bool,
    /// containerd's socket [default: kubelet's, or where distributions put it]
    #[arg(long, short = 'a', env = "CONTAINERD_ADDRESS", value_name = "SOCKET")]
    address: Option<PathBuf>,
    /// The system whose files are looked at
    #[arg(long, value_name = "DIR", default_value = "/")]
    sysroot: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
}

pub(super) fn run(args: &Args, output: &Output) -> Ended {
    let stop = signals::stop()?;
    let run = Run { reporter: &Silent, stop: &stop };
    let medium = args.medium.as_deref().map(|path| args.trust.open(path, output)).transpose()?;
    let subject = Subject {
        address: args.address.as_deref(),
        system: args.sysroot.clone(),
        medium: medium.as_ref(),
        named: named(args, output)?,
    };
    let mut facts = NodeFacts::gather(&subject, run)?;
    let mut repaired = Vec::new();
    if let (true, Socket::Answers(socket)) = (args.repair, &facts.socket) {
        repaired = repair(&facts, socket)?;
        if !repaired.is_empty() {
            facts = NodeFacts::gather(&subject, run)?;
        }
    }
    let findings = examine(&facts);
    print(&facts, &findings, &repaired, output)?;
    match findings.iter().filter(|finding| finding.severity == Severity::Error).count() {
        0 => Ok(()),
        errors => Err(Failure::NotReady { errors }),
    }
}

fn named(args: &Args, output: &Output) -> Result<Vec<Named>> {
    let mut named = Vec::new();
    for list in &args.list {
        named.extend(references::read(list, &references::Reading::default())?.images);
    }
    for path in &args.manifests {
        let found = kubernetes::scan(path, &kubernetes::Choice::default())?;
        for warning in found.warnings {
            output.complain(format_args!("warning: {warning}"));
        }
        named.extend(found.images);
    }
    Ok(named)
}

fn print(facts: &NodeFacts, findings: &[Diagnosis], repaired: &[String], output: &Output) -> Result<()> {
    let ready = findings.iter().all(|finding| finding.severity != Severity::Error);
    if output.json() {
        let finding = |finding: &Diagnosis| {
            json!({
                "id": finding.id,
                "severity": finding.severity.to_string(),
                "what": finding.what,
                "why": finding.why,
                "repair": finding.repair,
                "safe": finding.safe,
            })
        };
        return output.document(&json!({
            "ready": ready,
            "containerd": facts.containerd.as_ref().map(|containerd| &containerd.version.text),
            "findings": findings.iter().map(finding).collect::<Vec<_>>(),
            "repaired": repaired,
        }));
    }
    for what in repaired {
        output.say(format_args!("Thrown away: {what}."));
    }
    let mut lines = String::new();
    for Diagnosis { id, severity, what, why, repair, .. } in findings {
        lines.push_str(&format!("{severity:8} {id}: {}.\n", plain(what)));
        lines.push_str(&format!("{:8} Why: {why}.\n{:8} Replacement: {}.\n", "", "", plain(repair)));
    }
    output.data(&lines)?;
    let number = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    if ready {
        let warnings = text::count(number(Severity::Warning), "warning");
        output.say(format_args!("Nothing keeps pods from starting here; {warnings}."));
    }
    Ok(())
}

/// Without what could move a cursor: names come from media and manifests.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}
