//! Our lease: what an import puts on a node stays until names hold it.

use std::collections::HashMap;
use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use time::OffsetDateTime;

use super::alive::{self, Alive};
use super::{PREFIX, label};
use crate::containerd::{self, Client};
use crate::error::{Error, Result, Side};

/// How long containerd keeps what an import left that never came back.
pub(super) const LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// An import that made its lease so shortly before may not have given a sign of life yet.
const BEGINNING: Duration = Duration::from_secs(60);
/// The longest pause between two looks at the clock, which someone may set in the meantime.
const LOOK: Duration = Duration::from_secs(5);

/// A lease of this import, and the connection that uses it.
///
/// containerd has no call that prolongs a lease. Half way to its end another takes its place, for all
/// clones of the connection, and holds what the first held. The first one stays until the import ends
/// or it expires, for the sake of calls that began under it.
#[derive(Debug)]
pub struct HeldLease {
    /// Everything made through this is held.
    pub client: Client,
    held: Arc<Mutex<LeaseState>>,
    /// Dropped, it ends the thread that renews.
    renewing: Option<(Sender<()>, JoinHandle<()>)>,
}

#[derive(Debug)]
struct LeaseState {
    id: String,
    ends: OffsetDateTime,
    /// Those whose place it took.
    before: Vec<String>,
    /// Tells others that this import runs.
    alive: Option<Alive>,
}

impl HeldLease {
    /// Takes a lease that ends after `lifetime` unless it is renewed, which it is for as long as this
    /// lives, and takes over what leases of imports hold that died. Where we are `alone`, all did.
    pub fn take(client: &Client, lifetime: Duration, alone: bool) -> Result<Self> {
        let orphans = orphans(client, alone)?;
        let mut held = create(client, lifetime)?;
        let leased = client.with_lease(&held.id)?;
        held.alive = Some(Alive::show(&leased, &held.id)?);
        for orphan in orphans {
            hold_all(client, &held.id, &[&orphan])?;
            client.delete_lease(&orphan, false)?;
            // Last: without its sign the lease would pass for that of an import which is just beginning.
            alive::forget(client, &orphan)?;
        }
        let held = Arc::new(Mutex::new(held));
        let (sender, stopped) = mpsc::channel();
        let (renewed, under) = (held.clone(), leased.clone());
        let thread = std::thread::Builder::new().name("lease".into()).spawn(move || {
            let pause = (lifetime / 8).min(LOOK);
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                // A failure now leaves half of the lifetime to try again.
                let _ = keep_up(&under, &mut lock(&renewed), lifetime);
            }
        });
        let thread = thread.map_err(Error::io(Side::Node, "start", "the thread that renews the lease"))?;
        Ok(Self { client: leased, held, renewing: Some((sender, thread)) })
    }

    /// Lets go of everything that nothing else holds by now, and waits until that is collected.
    pub fn end(mut self) -> Result<()> {
        self.stop_renewing();
        let mut held = lock(&self.held);
        if let Some(alive) = held.alive.take() {
            alive.end(&self.client)?;
        }
        for before in &held.before {
            self.client.delete_lease(before, false)?;
        }
        self.client.delete_lease(&held.id, true)
    }

    fn stop_renewing(&mut self) {
        if let Some((sender, thread)) = self.renewing.take() {
            drop(sender);
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.stop_renewing();
    }
}

fn lock(held: &Mutex<LeaseState>) -> MutexGuard<'_, LeaseState> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn create(client: &Client, lifetime: Duration) -> Result<LeaseState> {
    let id = format!("{PREFIX}import-{}", crate::unique::id());
    let ends = OffsetDateTime::now_utc() + lifetime;
    let text = ends.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
    let labels = HashMap::from([
        (containerd::label::GC_EXPIRE.to_owned(), text),
        (label::OWNER.to_owned(), owner()),
        (label::SIGN.to_owned(), "ingest".to_owned()),
    ]);
    client.create_lease(&id, labels)?;
    Ok(LeaseState { id, ends, before: Vec::new(), alive: None })
}

/// Replaces the lease when half of its time is over, by the clock that containerd goes by; and has
/// the new one hold what calls have put under the old ones since.
fn keep_up(client: &Client, held: &mut LeaseState, lifetime: Duration) -> Result<()> {
    if held.ends - OffsetDateTime::now_utc() < lifetime / 2 {
        let new = create(client, lifetime)?;
        hold_all(client, &new.id, &[&held.id])?;
        client.replace_lease(&new.id)?;
        let old = std::mem::replace(held, new);
        held.before = old.before;
        if let Some(alive) = old.alive {
            alive.end(client)?;
        }
        held.before.push(old.id);
        held.alive = Some(Alive::show(client, &held.id)?);
    }
    if let Some(alive) = &mut held.alive {
        alive.keep_up(client)?;
    }
    let before: Vec<&str> = held.before.iter().map(String::as_str).collect();
    hold_all(client, &held.id, &before)
}

/// Has the lease `id` hold everything that `others` hold.
fn hold_all(client: &Client, id: &str, others: &[&str]) -> Result<()> {
    if others.is_empty() {
        return Ok(());
    }
    let there = client.lease_resources(id)?;
    for other in others {
        for resource in client.lease_resources(other)?.iter().filter(|resource| !there.contains(resource)) {
            client.hold(id, resource)?;
        }
    }
    Ok(())
}

/// Drops the leases of imports that died when nothing was left to do for them.
pub(crate) fn drop_orphans(client: &Client, alone: bool) -> Result<()> {
    for orphan in orphans(client, alone)? {
        client.delete_lease(&orphan, false)?;
        alive::forget(client, &orphan)?;
    }
    Ok(())
}

fn orphans(client: &Client, alone: bool) -> Result<Vec<String>> {
    let ours = format!("{PREFIX}import-");
    let mut dead = Vec::new();
    for lease in client.list_leases()?.into_iter().filter(|lease| lease.id.starts_with(&ours)) {
        let known = lease.labels.get(label::OWNER).and_then(|owner| is_dead(owner));
        let ended = match known {
            _ if alone => true,
            Some(known) => known,
            // Of a process elsewhere containerd tells.
            None => match alive::is_alive(client, &lease.id)? {
                Some(alive) => !alive,
                // Just beginning, or ended before it gave its sign; or of a version that gave none.
                None => {
                    let age = OffsetDateTime::now_utc().unix_timestamp() - lease.created;
                    lease.labels.contains_key(label::SIGN) && age > BEGINNING.as_secs() as i64
                }
            },
        };
        if ended {
            dead.push(lease.id);
        }
    }
    Ok(dead)
}

/// What imports left that have ended: their leases, and unfinished blobs unless an import runs.
pub(crate) fn left_behind(client: &Client) -> Result<(Vec<String>, Vec<String>)> {
    let dead = orphans(client, false)?;
    let ours = format!("{PREFIX}import-");
    let running =
        client.list_leases()?.iter().any(|lease| lease.id.starts_with(&ours) && !dead.contains(&lease.id));
    let mut partials = if running { Vec::new() } else { client.partials(PREFIX)? };
    partials.retain(|partial| !partial.reference.starts_with(alive::PREFIX));
    Ok((dead, partials.into_iter().map(|partial| partial.reference).collect()))
}

/// This process, so that another can tell whether it still runs: boot, PID namespace, PID, start time.
fn owner() -> String {
    let pid = std::process::id();
    format!("{} {} {pid} {}", boot(), pid_namespace(), start_time(pid).unwrap_or_default())
}

/// Whether the process of [`owner`] has ended; `None` when that cannot be told from here.
fn is_dead(owner: &str) -> Option<bool> {
    let words: Vec<&str> = owner.split(' ').collect();
    let [its_boot, its_namespace, pid, start] = words.as_slice() else { return None };
    let boot = boot();
    if boot.is_empty() || its_boot.is_empty() {
        return None;
    }
    if *its_boot != boot {
        return Some(true);
    }
    let pid = pid.parse().ok()?;
    (*its_namespace == pid_namespace()).then(|| start_time(pid).as_deref() != Some(*start))
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
        assert_eq!(is_dead(&own), Some(false));
        let (rest, start) = own.rsplit_once(' ').unwrap();
        let another = format!("{rest} {start}0");
        assert_eq!(is_dead(&another), Some(true), "another process with the same id");
        assert_eq!(is_dead(&own.replace(&boot(), "earlier")), Some(true), "an earlier boot");
        assert_eq!(is_dead(&own.replace(&pid_namespace(), "elsewhere")), None, "cannot be told");
        assert_eq!(is_dead("nonsense"), None);
    }
}
