//! Carries out a plan: sends, unpacks and names, each as soon as what it needs is there.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use super::name::{Named, Naming, confirm, content_labels, name};
use super::origin::Sources;
use super::outage::across_outages;
use super::repair::replace_blob;
use super::{Node, durable, ghost, hold, rebuild, send, unpack};
use crate::containerd::{Client, Resource};
use crate::error::{Error, Result, Side};
use crate::image::Digest;
use crate::layer::Scratch;
use crate::medium::Medium;
use crate::plan::import::{ImportPlan, Order, Rebuild, Send, Step, Unpack};
use crate::progress::{Event, Run, UNPACK_ITEM};

/// Blobs that are sent at a time: containerd hashes one stream on one core.
const SENDERS: usize = 2;
/// More of them where layers are rebuilt, of which one is being made: two go over the socket still.
const REBUILDERS: usize = 1;
/// Layers that are unpacked at a time.
const UNPACKERS: usize = 2;

const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// Bytes that went over the socket.
    pub sent: u64,
    /// Blobs of layers that were sent.
    pub layers: usize,
    /// How many of them were rebuilt.
    pub rebuilt: usize,
    /// Layers that were unpacked.
    pub unpacked: usize,
    /// Images of which everything is there and named.
    pub images: Vec<usize>,
    /// Images, by their place in the plan, that could not be completed.
    pub failed: Vec<(usize, Arc<Error>)>,
}

#[derive(Debug, Default)]
struct State {
    order: Order,
    /// What ends everything, whatever was said about keeping going.
    end: Option<Error>,
    done: Done,
    /// Images that have their names, of which CRI was not asked yet.
    named: VecDeque<(usize, Named)>,
    over: bool,
}

struct Work<'a> {
    node: &'a Node,
    client: &'a Client,
    medium: &'a Medium,
    plan: &'a ImportPlan,
    naming: &'a Naming,
    sources: Sources,
    /// What is sent: it is labelled as it is committed.
    sent: HashSet<Digest>,
    keep_going: bool,
    run: Run<'a>,
    state: Mutex<State>,
    changed: Condvar,
    rebuilding: Mutex<()>,
    /// Held by whoever unpacks, and alone by whoever has containerd forget snapshots.
    unpacking: RwLock<()>,
}

/// Carries out `plan` through `client`, whose lease holds everything until it is named.
///
/// The first failure ends it, unless it keeps going; then the images that are not touched by it are
/// completed. An image is named only when all of it is there, so that no moment shows CRI an image
/// that cannot start.
pub fn carry_out(
    node: &Node,
    client: &Client,
    medium: &Medium,
    plan: &ImportPlan,
    naming: &Naming,
    keep_going: bool,
    run: Run<'_>,
) -> Result<Done> {
    let sent = plan.sends.iter().map(|send| send.blob.digest).collect();
    hold::what_is_there(client, plan, &sent)?;
    make_way(client, plan)?;
    let state = State { order: Order::new(plan), ..State::default() };
    let sources = Sources::new(plan);
    let work = Work {
        node,
        client,
        medium,
        plan,
        naming,
        sources,
        sent,
        keep_going,
        run,
        state: Mutex::new(state),
        changed: Condvar::new(),
        rebuilding: Mutex::new(()),
        unpacking: RwLock::new(()),
    };
    std::thread::scope(|scope| {
        let rebuilders = plan.rebuilds().take(REBUILDERS).count();
        for _ in 0..SENDERS + rebuilders {
            scope.spawn(|| work.send_all());
        }
        for _ in 0..UNPACKERS.min(plan.unpacks.len()) {
            scope.spawn(|| work.unpack_all());
        }
        // CRI takes a moment to see a name: meanwhile the next image gets its own.
        scope.spawn(|| work.confirm_all());
        work.name_all();
    });
    let state = work.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = state.end {
        return Err(error);
    }
    if state.done.sent > 0 || state.done.unpacked > 0 {
        durable::everything(node)?;
    }
    Ok(state.done)
}

/// Removes damaged snapshots, and what stands on them.
fn make_way(client: &Client, plan: &ImportPlan) -> Result<()> {
    if plan.stale.is_empty() {
        return Ok(());
    }
    // What the new ones will stand on is kept by nothing else once they are gone.
    let made: HashSet<Digest> = plan.unpacks.iter().map(|step| step.chain_id).collect();
    for step in &plan.unpacks {
        if let Some(parent) = step.parent.filter(|parent| !made.contains(parent)) {
            client.hold_here(&Resource::snapshot(&step.snapshotter, &parent.to_string()))?;
        }
    }
    for stale in &plan.stale {
        let remove = || client.remove_snapshot(&stale.snapshotter, &stale.name);
        if let Err(Error::Refused { side, action, reason }) = remove() {
            // What was collected may stay listed as standing on it, and nothing but a collection takes it away then.
            let reason = format!(
                "{reason}; remove the names of the images (`ctr images rm --sync`) and import them again"
            );
            return Err(Error::Refused { side, action, reason });
        }
    }
    Ok(())
}

impl Work<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, state: MutexGuard<'g, State>) -> MutexGuard<'g, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failure: the error where it is of one thing only, `None` where it ends everything.
    fn fail(&self, state: &mut State, error: Error) -> Option<Arc<Error>> {
        let node_failed = matches!(error, Error::Unreachable { .. } | Error::Io { side: Side::Node, .. });
        // One bad place on the medium; if all of it is gone, every image says so soon.
        let unreadable = matches!(
            &error,
            Error::Io { side: Side::Medium, action: "read", source, .. } if source.raw_os_error() == Some(EIO)
        );
        if self.keep_going && (unreadable || !error.is_fatal()) && !node_failed {
            return Some(Arc::new(error));
        }
        state.end.get_or_insert(error);
        state.over = true;
        None
    }

    /// Notes how a step ended, for all that waits for it.
    fn ended(&self, state: &mut State, step: Step, result: Result<()>) {
        match result {
            Ok(()) => state.order.done(step),
            Err(error) => {
                if let Some(error) = self.fail(state, error) {
                    let images = state.order.failed(step);
                    state.done.failed.extend(images.into_iter().map(|image| (image, error.clone())));
                }
            }
        }
        self.changed.notify_all();
    }

    fn send_all(&self) {
        loop {
            let mut state = self.lock();
            if state.over {
                return;
            }
            let Some(at) = state.order.next_send() else { return };
            drop(state);
            let next = &self.plan.sends[at];
            let result = self.send(next);
            let mut state = self.lock();
            let result = result.map(|sent| {
                state.done.sent += sent;
                state.done.layers += usize::from(next.layer);
                state.done.rebuilt += usize::from(next.rebuild.is_some());
            });
            self.ended(&mut state, Step::Send(at), result);
        }
    }

    fn send(&self, next: &Send) -> Result<u64> {
        let item = next.blob.digest.to_string();
        self.run.report(Event::Started { item: &item, bytes: next.blob.size });
        let digest = next.blob.digest;
        let mut labels = self.sources.labels(self.plan, digest);
        for image in self.sources.images(self.plan, digest) {
            labels.extend(content_labels(self.node, image, digest));
        }
        let rebuilt = match &next.rebuild {
            Some(rebuild) => Some((self.rebuild(rebuild, next)?, &rebuild.delta)),
            None => None,
        };
        let rebuilt = rebuilt.as_ref().map(|(tar, delta)| (tar, *delta));
        let write = |client: &Client, labels: &HashMap<String, String>| {
            send::send(client, self.medium, next, rebuilt, labels, self.run)
        };
        let sent = if next.replaces {
            replace_blob(self.client, &next.blob, |client, old| {
                let ours = client.namespace() == self.client.namespace();
                let mut labels = if ours { labels.clone() } else { HashMap::new() };
                labels.extend(old.clone());
                write(client, &labels)
            })?
        } else {
            across_outages(self.node, self.run, || write(self.client, &labels))?
        };
        self.run.report(Event::Finished { item: &item });
        Ok(sent)
    }

    /// Rebuilds a layer; one at a time, which bounds what that takes of the disk.
    fn rebuild(&self, rebuild: &Rebuild, next: &Send) -> Result<Scratch> {
        let _one = self.rebuilding.lock().unwrap_or_else(PoisonError::into_inner);
        rebuild::rebuild(self.client, self.medium, rebuild, &next.blob, self.run)
    }

    fn unpack_all(&self) {
        let mut state = self.lock();
        while !state.over && state.order.has_unpacks() {
            let Some(at) = state.order.next_unpack() else {
                state = self.wait(state);
                continue;
            };
            drop(state);
            let result = self.unpack(&self.plan.unpacks[at]);
            state = self.lock();
            state.done.unpacked += usize::from(result.is_ok());
            self.ended(&mut state, Step::Unpack(at), result);
        }
    }

    fn unpack(&self, step: &Unpack) -> Result<()> {
        self.run.check()?;
        let item = format!("{UNPACK_ITEM}{}", step.chain_id);
        self.run.report(Event::Started { item: &item, bytes: step.size });
        if !self.unpack_once(step)? {
            {
                let _alone = self.unpacking.write().unwrap_or_else(PoisonError::into_inner);
                ghost::forget(self.node, self.client, &step.snapshotter, self.plan)?;
            }
            if !self.unpack_once(step)? {
                let reason = "containerd lists it, and its snapshotter does not have it; containers were made on it: \
                              remove their pods and run the import again";
                return Err(Error::Refused {
                    side: Side::Node,
                    action: format!("unpacking snapshot {} anew", step.chain_id),
                    reason: reason.into(),
                });
            }
        }
        self.run.report(Event::Advanced { item: &item, bytes: step.size });
        self.run.report(Event::Finished { item: &item });
        Ok(())
    }

    fn unpack_once(&self, step: &Unpack) -> Result<bool> {
        let _with_others = self.unpacking.read().unwrap_or_else(PoisonError::into_inner);
        across_outages(self.node, self.run, || unpack::unpack(self.node, self.client, step))
    }

    /// Names each image once all of it is there.
    fn name_all(&self) {
        let mut state = self.lock();
        while !state.over && state.order.has_images() {
            let Some(index) = state.order.next_image() else {
                state = self.wait(state);
                continue;
            };
            let image = &self.plan.images[index];
            if image.is_done {
                state.done.images.push(index);
                continue;
            }
            drop(state);
            let sent = |blob| self.sent.contains(&blob);
            let name = || name(self.node, self.client, image, self.naming, sent, self.run);
            let named = self.run.check().and_then(|()| across_outages(self.node, self.run, name));
            state = self.lock();
            match named {
                Ok(named) => {
                    state.named.push_back((index, named));
                    self.changed.notify_all();
                }
                Err(error) => self.fail_image(&mut state, index, error),
            }
        }
        state.over = true;
        drop(state);
        self.changed.notify_all();
    }

    /// Asks CRI for each image that was named.
    fn confirm_all(&self) {
        let mut state = self.lock();
        while state.end.is_none() {
            let Some((index, named)) = state.named.pop_front() else {
                if state.over {
                    return;
                }
                state = self.wait(state);
                continue;
            };
            drop(state);
            let image = &self.plan.images[index];
            let confirm = || confirm(self.node, self.client, image, &named, self.run);
            let confirmed = across_outages(self.node, self.run, confirm);
            state = self.lock();
            match confirmed {
                Ok(()) => state.done.images.push(index),
                Err(error) => self.fail_image(&mut state, index, error),
            }
        }
    }

    fn fail_image(&self, state: &mut State, index: usize, error: Error) {
        if let Some(error) = self.fail(state, error) {
            state.done.failed.push((index, error));
        }
        self.changed.notify_all();
    }
}
