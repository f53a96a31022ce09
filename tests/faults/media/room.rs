//! What the cases share: a set of images, a first commit, and the command that is disturbed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::carry::{blobs, oci, pannier, run, text};
use crate::support::faultdisk::{Kind, Stick};
use crate::support::layout::{Layout, image, layout, noise};
use crate::support::oracle::{Oracle, record};
use crate::support::swept;

/// Bytes of a stick that has room for the sets.
pub(crate) const SIZE: u64 = 24 << 20;

/// Whether everything is to be tried, or a part that is enough to see that it still works.
pub(crate) fn whole() -> bool {
    std::env::var("PANNIER_FAULTS").as_deref() == Ok("all")
}

/// All of `moments` in the whole run, else `few` of them, spread evenly. How many is noted as those of `sweep`.
pub(crate) fn some<T: Clone>(sweep: &str, moments: &[T], few: usize) -> Vec<T> {
    let some: Vec<T> = if whole() || moments.len() <= few {
        moments.to_vec()
    } else {
        (0..few).map(|number| moments[number * (moments.len() - 1) / (few - 1).max(1)].clone()).collect()
    };
    swept(sweep, some.len());
    some
}

/// A set of which a part was carried before.
pub(crate) fn set(images: u64) -> Layout {
    (0..images).fold(layout(), |layout, number| {
        let base = noise("base", 1, 150_000);
        let own = noise("app", 10 + number, 60_000);
        layout.with(image(&format!("docker.io/library/app{number}:1")).layer(base).layer(own))
    })
}

/// The sources, and what comes of them on a medium.
pub(crate) struct Room {
    directory: tempfile::TempDir,
    first: String,
    second: String,
    /// The blobs of a medium with both.
    pub(crate) expected: BTreeMap<PathBuf, Vec<u8>>,
}

impl Room {
    /// Two images, and the same with two more.
    pub(crate) fn new() -> Self {
        Self::of(&set(2), &set(4))
    }

    /// A first export of `first`, and a second one of `second`.
    pub(crate) fn of(first: &Layout, second: &Layout) -> Self {
        let directory = tempfile::Builder::new().prefix("pannier-faults-").tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        first.write_dir(&path("first"));
        second.write_dir(&path("second"));
        let (first, second) = (oci(&path("first")), oci(&path("second")));
        let mut room = Self { directory, first, second, expected: BTreeMap::new() };
        let clean = room.path("clean");
        run(0, room.first(&clean));
        run(0, room.second(&clean));
        room.expected = blobs(&clean);
        std::fs::remove_dir_all(clean).unwrap();
        room
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The command that makes the first commit.
    pub(crate) fn first<'a>(&'a self, medium: &'a Path) -> Vec<&'a str> {
        export(&self.first, medium)
    }

    /// The command that is disturbed.
    pub(crate) fn second<'a>(&'a self, medium: &'a Path) -> Vec<&'a str> {
        export(&self.second, medium)
    }

    /// A stick with the first commit on it, which was pulled out and plugged in since.
    pub(crate) fn stick(&self, kind: Kind) -> Stick {
        let mut stick = Stick::new(kind, SIZE);
        run(0, self.first(&stick.path()));
        stick.remount();
        stick
    }

    /// What must be true of the medium when the second command was disturbed.
    pub(crate) fn oracle<'a>(&'a self, medium: &'a Path, arguments: &'a [&'a str]) -> Oracle<'a> {
        Oracle { medium, arguments, expected: &self.expected, acknowledged: Some(1) }
    }
}

fn export<'a>(from: &'a str, medium: &'a Path) -> Vec<&'a str> {
    vec!["export", "--from", from, "--all", "--platform", "linux/amd64", "--to", text(medium)]
}

/// Runs the program whatever comes of it.
pub(crate) fn attempt(arguments: &[&str]) -> Output {
    pannier(arguments.iter().copied()).output().unwrap()
}

/// The sequence of the newest record.
pub(crate) fn sequence(medium: &Path) -> u64 {
    record(medium).sequence
}
