//! Our lease: what an import puts on a node stays until names hold it.

use std::collections::HashMap;
use std::fs;

use super::{PREFIX, label};
use crate::containerd::{self, Client};
use crate::error::Result;

/// How long containerd keeps what an import left that never came back, in days.
const DAYS: i64 = 7;

/// A lease of this import, and the connection that uses it.
#[derive(Debug)]
pub struct HeldLease {
    /// Everything made through this is held.
    pub client: Client,
    id: String,
}

impl HeldLease {
    /// Takes a lease, and takes over what leases of imports hold that died. Where we are `alone`, all did.
    pub fn take(client: &Client, alone: bool) -> Result<Self> {
        let orphans = orphans(client, alone)?;
        let id = format!("{PREFIX}import-{}", uuid::Uuid::new_v4());
        let ends = time::OffsetDateTime::now_utc() + time::Duration::days(DAYS);
        let ends = ends.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
        let labels = HashMap::from([
            (containerd::label::GC_EXPIRE.to_owned(), ends),
            (label::OWNER.to_owned(), owner()),
        ]);
        client.create_lease(&id, labels)?;
        let lease = Self { client: client.with_lease(&id)?, id };
        for orphan in orphans {
            for resource in client.lease_resources(&orphan)? {
                client.hold(&lease.id, &resource)?;
            }
            client.delete_lease(&orphan, false)?;
        }
        Ok(lease)
    }

    /// Lets go of everything that nothing else holds by now, and waits until that is collected.
    pub fn end(self) -> Result<()> {
        self.client.delete_lease(&self.id, true)
    }
}

/// Drops the leases of imports that died when nothing was left to do for them.
pub(crate) fn drop_orphans(client: &Client, alone: bool) -> Result<()> {
    for orphan in orphans(client, alone)? {
        client.delete_lease(&orphan, false)?;
    }
    Ok(())
}

fn orphans(client: &Client, alone: bool) -> Result<Vec<String>> {
    let ours = format!("{PREFIX}import-");
    let leases = client.list_leases()?.into_iter().filter(|lease| lease.id.starts_with(&ours));
    let dead = |lease: &containerd::Lease| lease.labels.get(label::OWNER).is_some_and(|owner| is_dead(owner));
    Ok(leases.filter(|lease| alone || dead(lease)).map(|lease| lease.id).collect())
}

/// What imports left that have ended: their leases, and unfinished blobs unless an import runs.
pub(crate) fn left_behind(client: &Client) -> Result<(Vec<String>, Vec<String>)> {
    let dead = orphans(client, false)?;
    let ours = format!("{PREFIX}import-");
    let running =
        client.list_leases()?.iter().any(|lease| lease.id.starts_with(&ours) && !dead.contains(&lease.id));
    let partials = if running { Vec::new() } else { client.partials(PREFIX)? };
    Ok((dead, partials.into_iter().map(|partial| partial.reference).collect()))
}

/// This process, so that another can tell whether it still runs: boot, PID namespace, PID, start time.
fn owner() -> String {
    let pid = std::process::id();
    format!("{} {} {pid} {}", boot(), pid_namespace(), start_time(pid).unwrap_or_default())
}

/// Whether the process of [`owner`] has ended; false when that cannot be told from here.
fn is_dead(owner: &str) -> bool {
    let words: Vec<&str> = owner.split(' ').collect();
    let [its_boot, its_namespace, pid, start] = words.as_slice() else { return false };
    let boot = boot();
    if boot.is_empty() || its_boot.is_empty() {
        return false;
    }
    if *its_boot != boot {
        return true;
    }
    let Ok(pid) = pid.parse() else { return false };
    *its_namespace == pid_namespace() && start_time(pid).as_deref() != Some(*start)
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn pid_namespace() -> String {
    fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default()
}

/// Field 22 of `/proc/PID/stat`, in ticks since the boot; the name before it may hold spaces.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_is_told_from_one_that_ended() {
        let own = owner();
        assert!(!is_dead(&own));
        let (rest, start) = own.rsplit_once(' ').unwrap();
        assert!(is_dead(&format!("{rest} {start}0")), "another process with the same id");
        assert!(is_dead(&own.replace(&boot(), "earlier")), "an earlier boot");
        assert!(!is_dead(&own.replace(&pid_namespace(), "elsewhere")), "cannot be told");
        assert!(!is_dead("nonsense"));
    }
}
