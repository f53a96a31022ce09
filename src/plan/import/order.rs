//! What of an import's plan comes first, and what can be done now: which step waits for which, and what a failure
//! takes with it.
//!
//! Pure, and linear in the size of the plan: a step that ends is told to what waits for it, nothing is looked for.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::{Held, ImagePlan, ImportPlan};
use crate::image::Digest;

/// The places of the images, those with the most bytes to unpack first.
///
/// A large layer that came last would be unpacked with nothing beside it, after the last byte of the medium
/// was read.
pub(super) fn longest_first(images: &[ImagePlan], held: &Held) -> Vec<usize> {
    let mut order: Vec<usize> = (0..images.len()).collect();
    order.sort_by_cached_key(|at| Reverse(images[*at].unpacks(held).map(|step| step.size).sum::<u64>()));
    order
}

/// A step of a plan, by its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Of [`ImportPlan::sends`].
    Send(usize),
    /// Of [`ImportPlan::unpacks`].
    Unpack(usize),
}

/// The order in which a plan is carried out, as far as it has come.
///
/// Everything has a number: the sends first, then the unpacks, then the images.
#[derive(Debug, Default)]
pub struct Order {
    sends: usize,
    unpacks: usize,
    to_send: Range<usize>,
    /// For each number, of how many others the end is still awaited. `OVER`: taken, or failed.
    awaited: Vec<u32>,
    /// What ends, and what waits for it.
    waits: Vec<(u32, u32)>,
    ready_unpacks: BTreeSet<usize>,
    ready_images: BTreeSet<usize>,
    unpacks_left: usize,
    images_left: usize,
}

const OVER: u32 = u32::MAX;

impl Order {
    /// The order of a plan of which nothing is done yet. A plan has fewer than 2^32 steps, as it is made of
    /// a record of limited size.
    pub fn new(plan: &ImportPlan) -> Self {
        let (sends, unpacks) = (plan.sends.len(), plan.unpacks.len());
        let blobs: HashMap<Digest, usize> =
            plan.sends.iter().enumerate().map(|(at, send)| (send.blob.digest, at)).collect();
        let chains: HashMap<(&str, Digest), usize> = { plan.unpacks.iter().enumerate() }
            .map(|(at, step)| ((step.snapshotter.as_str(), step.chain_id), sends + at))
            .collect();
        let snapshotters: BTreeSet<&str> =
            plan.unpacks.iter().map(|step| step.snapshotter.as_str()).collect();
        let mut waits = Vec::new();
        let mut wait = |awaited: Option<&usize>, who: usize| {
            waits.extend(awaited.map(|awaited| (*awaited as u32, who as u32)));
        };
        for (at, step) in plan.unpacks.iter().enumerate() {
            wait(blobs.get(&step.layer.digest), sends + at);
            let parent = step.parent.and_then(|parent| chains.get(&(step.snapshotter.as_str(), parent)));
            wait(parent, sends + at);
        }
        for (at, image) in plan.images.iter().enumerate() {
            let who = sends + unpacks + at;
            for blob in image.layers.iter().map(|(layer, _)| layer).chain(image.documents()) {
                wait(blobs.get(&blob.digest), who);
            }
            for chain_id in &image.chain {
                snapshotters.iter().for_each(|snapshotter| wait(chains.get(&(snapshotter, *chain_id)), who));
            }
        }
        waits.sort_unstable();
        waits.dedup();
        let mut awaited = vec![0; sends + unpacks + plan.images.len()];
        waits.iter().for_each(|(_, who)| awaited[*who as usize] += 1);
        let mut order = Self {
            sends,
            unpacks,
            to_send: 0..sends,
            awaited,
            waits,
            unpacks_left: unpacks,
            images_left: plan.images.len(),
            ..Self::default()
        };
        (sends..order.awaited.len()).for_each(|who| order.note_ready(who));
        order
    }

    /// The next blob to send.
    pub fn next_send(&mut self) -> Option<usize> {
        self.to_send.next()
    }

    /// The first layer in the plan that can be unpacked.
    pub fn next_unpack(&mut self) -> Option<usize> {
        let next = self.ready_unpacks.pop_first()?;
        self.awaited[self.sends + next] = OVER;
        self.unpacks_left -= 1;
        Some(next)
    }

    /// The first image in the plan all of which is there.
    pub fn next_image(&mut self) -> Option<usize> {
        let next = self.ready_images.pop_first()?;
        self.awaited[self.sends + self.unpacks + next] = OVER;
        self.images_left -= 1;
        Some(next)
    }

    /// Whether layers are left that were neither begun nor given up.
    pub fn has_unpacks(&self) -> bool {
        self.unpacks_left > 0
    }

    /// Whether images are left that were neither begun nor given up.
    pub fn has_images(&self) -> bool {
        self.images_left > 0
    }

    /// Notes that a step is done.
    pub fn done(&mut self, step: Step) {
        for at in self.waiting_for(self.number(step)) {
            let who = self.waits[at].1 as usize;
            if self.awaited[who] != OVER {
                self.awaited[who] -= 1;
                self.note_ready(who);
            }
        }
    }

    /// Notes that a step failed, and gives up all that stands on it; the images among that, in their order.
    pub fn failed(&mut self, step: Step) -> Vec<usize> {
        let (mut failed, mut images) = (vec![self.number(step)], Vec::new());
        while let Some(number) = failed.pop() {
            for at in self.waiting_for(number) {
                let who = self.waits[at].1 as usize;
                if std::mem::replace(&mut self.awaited[who], OVER) == OVER {
                    continue;
                }
                match who.checked_sub(self.sends + self.unpacks) {
                    Some(image) => {
                        self.images_left -= 1;
                        images.push(image);
                    }
                    None => {
                        self.unpacks_left -= 1;
                        failed.push(who);
                    }
                }
            }
        }
        images.sort_unstable();
        images
    }

    fn number(&self, step: Step) -> usize {
        match step {
            Step::Send(at) => at,
            Step::Unpack(at) => self.sends + at,
        }
    }

    /// The places of the waits for `number`.
    fn waiting_for(&self, number: usize) -> Range<usize> {
        let from = |number: u32| self.waits.partition_point(|(awaited, _)| *awaited < number);
        from(number as u32)..from(number as u32 + 1)
    }

    fn note_ready(&mut self, who: usize) {
        if self.awaited[who] > 0 {
            return;
        }
        match who.checked_sub(self.sends + self.unpacks) {
            Some(image) => self.ready_images.insert(image),
            None => self.ready_unpacks.insert(who - self.sends),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::tests::{PINNED, empty, wanted};
    use super::*;

    /// Images of layers `a b`, `a c` and `d`, for two snapshotters.
    fn plan() -> ImportPlan {
        let mut held = empty();
        held.chains.push(("native".into(), HashSet::new()));
        let images = [["a", "b"].as_slice(), &["a", "c"], &["d"]].map(wanted);
        ImportPlan::new(images.into(), &held, PINNED, &HashMap::new()).unwrap()
    }

    fn send_of(plan: &ImportPlan, tar: &str) -> Step {
        let layer = &wanted(&[tar]).layers[0].carried;
        Step::Send(plan.sends.iter().position(|send| send.blob.digest == layer.digest).unwrap())
    }

    #[test]
    fn the_image_with_the_most_to_unpack_comes_first() {
        let images =
            [(&["a"][..], 100), (&["b", "c"], 70), (&["d"], 900), (&["e"], 100)].map(|(tars, size)| {
                let mut image = wanted(tars);
                image.layers.iter_mut().for_each(|layer| layer.size = size);
                image
            });
        let order = |held: &Held| {
            let plan = ImportPlan::new(images.clone().into(), held, PINNED, &HashMap::new()).unwrap();
            assert_eq!(plan.images[1].wanted.layers.len(), 2, "the images stay where they are");
            let sent: Vec<Digest> = plan.sends.iter().filter(|s| s.layer).map(|s| s.blob.digest).collect();
            let unpacked: Vec<Digest> = plan.unpacks.iter().map(|step| step.layer.digest).collect();
            (sent, unpacked)
        };
        let layers = |tars: &[&str]| tars.iter().map(|tar| wanted(&[tar]).layers[0].carried.digest).collect();
        let all: Vec<Digest> = layers(&["d", "b", "c", "a", "e"]);
        assert_eq!(order(&empty()), (all.clone(), all));
        let mut unpacked = empty();
        unpacked.chains[0].1.extend(wanted(&["d"]).chain());
        assert_eq!(order(&unpacked), (layers(&["b", "c", "a", "e", "d"]), layers(&["b", "c", "a", "e"])));
    }

    #[test]
    fn nothing_is_unpacked_or_named_before_it_was_sent() {
        let mut order = Order::new(&plan());
        assert_eq!((order.next_unpack(), order.next_image()), (None, None));
        let sends: Vec<usize> = std::iter::from_fn(|| order.next_send()).collect();
        assert_eq!(sends, (0..plan().sends.len()).collect::<Vec<_>>(), "each once, in the plan's order");
        assert_eq!((order.next_unpack(), order.next_image()), (None, None), "begun is not done");
    }

    #[test]
    fn a_layer_is_unpacked_after_its_parent_for_each_snapshotter() {
        let plan = plan();
        let mut order = Order::new(&plan);
        (0..plan.sends.len()).for_each(|at| order.done(Step::Send(at)));
        let ready: Vec<usize> = std::iter::from_fn(|| order.next_unpack()).collect();
        assert!(ready.iter().all(|at| plan.unpacks[*at].parent.is_none()));
        assert_eq!(ready.len(), 4, "a and d");
        let native = ready.iter().find(|at| plan.unpacks[**at].snapshotter == "native").unwrap();
        order.done(Step::Unpack(*native));
        let ready: Vec<usize> = std::iter::from_fn(|| order.next_unpack()).collect();
        assert_eq!(ready.len(), 2, "b and c");
        assert!(ready.iter().all(|at| plan.unpacks[*at].snapshotter == "native"));
        assert!(order.has_unpacks() && order.next_image().is_none());
    }

    #[test]
    fn a_failure_takes_with_it_what_stands_on_it_and_no_more() {
        let plan = plan();
        for (tar, lost) in [("a", vec![0, 1]), ("b", vec![0]), ("c", vec![1]), ("d", vec![2])] {
            let mut order = Order::new(&plan);
            let bad = send_of(&plan, tar);
            assert_eq!(order.failed(bad), lost);
            assert_eq!(order.failed(bad), Vec::<usize>::new(), "each image fails once");
            (0..plan.sends.len()).map(Step::Send).filter(|step| *step != bad).for_each(|s| order.done(s));
            while order.has_unpacks() {
                let at = order.next_unpack().expect("what is left can be done");
                order.done(Step::Unpack(at));
            }
            let named: Vec<usize> = std::iter::from_fn(|| order.next_image()).collect();
            assert!(!order.has_images());
            assert_eq!(named, (0..3).filter(|image| !lost.contains(image)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_layer_that_cannot_be_unpacked_fails_its_images() {
        let plan = plan();
        let mut order = Order::new(&plan);
        (0..plan.sends.len()).for_each(|at| order.done(Step::Send(at)));
        let first = order.next_unpack().unwrap();
        assert_eq!(order.failed(Step::Unpack(first)), [0, 1], "both stand on a");
    }
}
