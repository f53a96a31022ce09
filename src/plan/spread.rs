//! Which image goes to which of several media, so that each is complete in itself.

use std::collections::{BTreeMap, BTreeSet};

use super::export::{ExportPlan, MediumState, SLACK};
use crate::image::{Digest, Reference};
use crate::layer::Zstd;
use crate::source::Resolved;

/// What a medium has room for, and what it has already.
#[derive(Clone, Debug, Default)]
pub struct Room {
    /// Bytes that may still be written to it.
    pub free: u64,
    /// Bytes that the smallest file takes up.
    pub block: u64,
    /// Layers, by diff_id, and other blobs that are on it.
    pub holds: BTreeSet<Digest>,
    /// Names of images that are on it.
    pub names: BTreeSet<Reference>,
}

/// What an image takes up, at most.
#[derive(Clone, Debug)]
pub struct Load {
    /// Its name.
    pub name: Reference,
    /// Its layers, by diff_id, and the blobs that refer to it, with their bytes.
    pub parts: BTreeMap<Digest, u64>,
    /// Bytes of its documents.
    pub documents: u64,
}

/// An image for which no medium has room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// The image.
    pub name: Reference,
    /// Bytes that it takes where it comes closest to fitting.
    pub needed: u64,
    /// Bytes that are free there.
    pub free: u64,
    /// The medium, by its place, that the image has to be on, since an older edition of it is there.
    pub bound: Option<usize>,
}

impl Load {
    /// What `image` takes up on a medium that holds nothing.
    pub fn of(image: &Resolved, compression: Option<Zstd>) -> Self {
        let plan = ExportPlan::new(std::slice::from_ref(image), &MediumState::default(), compression);
        let layers = plan.layers.iter().map(|step| (step.diff_id, step.bytes()));
        let mut parts: BTreeMap<Digest, u64> = BTreeMap::new();
        for (digest, bytes) in layers {
            *parts.entry(digest).or_default() += bytes;
        }
        parts.extend(plan.referrers.iter().map(|step| (step.pick.blob.digest, step.bytes())));
        Self { name: image.name.clone(), parts, documents: plan.documents }
    }

    fn total(&self) -> u64 {
        self.documents + self.parts.values().sum::<u64>()
    }

    /// Bytes that it adds to a medium.
    fn added(&self, room: &Room) -> u64 {
        let block = room.block.max(1);
        let new = self.parts.iter().filter(|(digest, _)| !room.holds.contains(digest));
        let parts: u64 = new.map(|(_, bytes)| bytes.div_ceil(block) * block).sum();
        // A few documents, each of which takes whole blocks.
        let documents = if room.names.contains(&self.name) && parts == 0 { 0 } else { 4 * block };
        parts + self.documents + documents
    }
}

/// Assigns each of `loads` to one of `rooms`: the place of its room, in the order of the loads.
///
/// An image goes where it adds least: layers that it shares with images there are counted once. An image
/// whose name is on a medium already stays there, or two editions of it would be in one set. With
/// `more`, an empty room of that kind is added whenever nothing else has room.
pub fn spread(loads: &[Load], mut rooms: Vec<Room>, more: Option<&Room>) -> Result<Vec<usize>, NoRoom> {
    for room in &mut rooms {
        room.free = room.free.saturating_sub(SLACK);
    }
    let home = |load: &Load, rooms: &[Room]| rooms.iter().position(|room| room.names.contains(&load.name));
    let mut order: Vec<usize> = (0..loads.len()).collect();
    // What has its place first, then the largest: small ones fill the gaps.
    order.sort_by_key(|at| (home(&loads[*at], &rooms).is_none(), std::cmp::Reverse(loads[*at].total()), *at));
    let mut places = vec![0; loads.len()];
    for at in order {
        let load = &loads[at];
        let bound = home(load, &rooms);
        let candidates =
            rooms.iter().enumerate().filter(|(place, _)| bound.is_none_or(|bound| bound == *place));
        let sized = candidates.map(|(place, room)| (load.added(room), place));
        let fits = sized.clone().filter(|(added, place)| *added <= rooms[*place].free).min();
        let place = match (fits, more) {
            (Some((_, place)), _) => place,
            (None, Some(empty)) if bound.is_none() && load.added(empty) + SLACK <= empty.free => {
                rooms.push(Room { free: empty.free - SLACK, ..empty.clone() });
                rooms.len() - 1
            }
            (None, _) => {
                let closest = sized.min_by_key(|(added, place)| added.saturating_sub(rooms[*place].free));
                let empty = more.filter(|_| bound.is_none()).map(|empty| (load.added(empty), empty.free));
                let found = closest.map(|(added, place)| (added, rooms[place].free));
                let (needed, free) = found.or(empty).unwrap_or((load.total(), 0));
                return Err(NoRoom { name: load.name.clone(), needed, free, bound });
            }
        };
        let room = &mut rooms[place];
        room.free -= load.added(room);
        room.holds.extend(load.parts.keys());
        room.names.insert(load.name.clone());
        places[at] = place;
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn load(name: &str, parts: &[(&str, u64)]) -> Load {
        let parts = parts.iter().map(|(part, size)| (Digest::of(part.as_bytes()), size * MIB)).collect();
        Load { name: name.parse().unwrap(), parts, documents: 1000 }
    }

    fn room(free: u64) -> Room {
        Room { free: free * MIB + SLACK, block: 4096, ..Room::default() }
    }

    #[test]
    fn images_that_share_a_base_go_together_while_there_is_room() {
        let loads = [
            load("a", &[("base", 10), ("a", 1)]),
            load("x", &[("other", 10)]),
            load("b", &[("base", 10), ("b", 1)]),
            load("c", &[("base", 10), ("c", 1)]),
        ];
        let places = spread(&loads, vec![room(14), room(14)], None).unwrap();
        assert_eq!(places[0], places[2]);
        assert_eq!(places[0], places[3]);
        assert_ne!(places[0], places[1]);
    }

    #[test]
    fn a_shared_layer_is_counted_on_each_medium_that_needs_it() {
        let loads: Vec<Load> =
            (0..4).map(|n| load(&format!("i{n}"), &[("base", 10), (&n.to_string(), 5)])).collect();
        let places = spread(&loads, vec![room(21), room(21)], None).unwrap();
        assert_eq!(places.iter().filter(|place| **place == 0).count(), 2);
        let refused = spread(&loads, vec![room(21), room(19)], None).unwrap_err();
        assert!(refused.needed > refused.free);
    }

    #[test]
    fn a_name_stays_where_it_is_or_is_refused() {
        let mut second = room(20);
        second.names.insert("a".parse().unwrap());
        let loads = [load("a", &[("new", 10)]), load("b", &[("b", 18)])];
        assert_eq!(spread(&loads, vec![room(20), second.clone()], None).unwrap(), [1, 0]);
        second.free = SLACK + 5 * MIB;
        let refused = spread(&loads, vec![room(20), second], None).unwrap_err();
        assert_eq!(refused.bound, Some(1));
    }

    #[test]
    fn rooms_are_added_as_they_are_needed_and_one_image_is_never_torn() {
        let loads: Vec<Load> = (0..5).map(|n| load(&format!("i{n}"), &[(&n.to_string(), 6)])).collect();
        let places = spread(&loads, Vec::new(), Some(&room(13))).unwrap();
        assert_eq!(places.iter().max(), Some(&2));
        assert_eq!(spread(&loads, Vec::new(), Some(&room(5))).unwrap_err().bound, None);
    }
}
