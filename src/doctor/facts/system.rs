//! Disks, routes and the clock.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::medium::Filesystem;
use crate::node::Node;
use crate::sysroot;

/// Where kubelet keeps its files.
const KUBELET: &str = "/var/lib/kubelet";
/// Files and folders that were written when the system was installed or last ran.
const WRITTEN: [&str; 7] = [
    "/etc",
    "/etc/machine-id",
    "/usr/lib/os-release",
    "/var/lib/systemd/timesync/clock",
    "/var/lib/dpkg/status",
    "/var/log/wtmp",
    "/var/lib/kubelet",
];

/// What a disk is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskRole {
    /// containerd's images.
    Images,
    /// kubelet's own files, on another filesystem than the images.
    Kubelet,
}

/// A filesystem.
#[derive(Clone, Debug)]
pub struct Disk {
    /// What it is used for.
    pub role: DiskRole,
    /// A directory on it.
    pub path: PathBuf,
    /// Its usual name.
    pub filesystem: String,
    /// Whether nothing can be written.
    pub read_only: bool,
    /// Bytes in all.
    pub size: u64,
    /// Bytes free.
    pub free: u64,
    /// Inodes in all; 0 where there is no limit.
    pub inodes: u64,
    /// Inodes free.
    pub inodes_free: u64,
}

/// What time it is, and what time it was at least.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Now.
    pub now: SystemTime,
    /// The newest of the times that are known to have been, and what tells it.
    pub newest: Option<(PathBuf, SystemTime)>,
}

/// The filesystems of images and of kubelet, each once.
pub(super) fn disks(node: Option<&Node>, system: &Path) -> Vec<Disk> {
    let kubelet = sysroot::resolve(system, Path::new(KUBELET)).filter(|path| path.is_dir());
    let images = node.into_iter().flat_map(|node| [node.snapshot_root.clone(), node.content_root.clone()]);
    let places = images.flatten().map(|path| (DiskRole::Images, path));
    let mut known: Vec<u64> = Vec::new();
    let mut disks = Vec::new();
    for (role, path) in places.chain(kubelet.map(|path| (DiskRole::Kubelet, path))) {
        let Ok(metadata) = path.metadata() else { continue };
        if known.contains(&metadata.dev()) {
            continue;
        }
        known.push(metadata.dev());
        disks.extend(disk(role, path));
    }
    disks
}

fn disk(role: DiskRole, path: PathBuf) -> Option<Disk> {
    let filesystem = Filesystem::of(&path).ok()?;
    let stat = rustix::fs::statvfs(&path).ok()?;
    Some(Disk {
        role,
        filesystem: filesystem.name,
        read_only: filesystem.read_only,
        size: stat.f_blocks.saturating_mul(stat.f_frsize),
        free: filesystem.free,
        inodes: stat.f_files,
        inodes_free: stat.f_favail,
        path,
    })
}

/// Whether there is a default route; `None` when the kernel's tables cannot be read.
pub(super) fn default_route(system: &Path) -> Option<bool> {
    let read = |name: &str| fs::read_to_string(system.join("proc/net").join(name)).ok();
    let (four, six) = (read("route"), read("ipv6_route"));
    if four.is_none() && six.is_none() {
        return None;
    }
    Some(four.is_some_and(|table| has_default_4(&table)) || six.is_some_and(|table| has_default_6(&table)))
}

/// Flags of a route (`linux/route.h`, `linux/ipv6_route.h`).
const UP: u32 = 0x1;
const REJECT: u32 = 0x200;

fn is_usable(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & UP != 0 && flags & REJECT == 0)
}

/// Interface, destination, gateway, flags, ..., mask as the eighth word.
fn has_default_4(table: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        matches!(words.as_slice(), [_, "00000000", _, flags, _, _, _, "00000000", ..] if is_usable(flags))
    })
}

/// Destination, its length, source, its length, next hop, metric, two counters, flags, interface.
fn has_default_6(table: &str) -> bool {
    table.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [destination, "00", _, _, _, _, _, _, flags, interface] => {
                destination.bytes().all(|b| b == b'0') && is_usable(flags) && *interface != "lo"
            }
            _ => false,
        }
    })
}

/// The clock, against the times of files of the system and of this program, and of the medium.
pub(super) fn clock(system: &Path, medium: Option<SystemTime>) -> Clock {
    let modified = |path: PathBuf| Some((path.clone(), path.metadata().ok()?.modified().ok()?));
    let files = WRITTEN.iter().filter_map(|path| sysroot::resolve(system, Path::new(path)));
    let known = files.chain(std::env::current_exe().ok()).filter_map(modified);
    let medium = medium.map(|time| (PathBuf::from("the medium's commit record"), time));
    Clock { now: SystemTime::now(), newest: known.chain(medium).max_by_key(|(_, time)| *time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    #[test]
    fn a_default_route_is_told_from_others() {
        for (line, is) in [
            ("eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n", true),
            ("eth0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n", true),
            ("eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", false),
            ("*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n", false),
            ("eth0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n", false),
        ] {
            assert_eq!(has_default_4(&format!("{HEAD}{line}")), is, "{line}");
        }
        let zeros = "0".repeat(32);
        let gateway = "fe800000000000000000000000000001";
        for (line, is) in [
            (format!("{zeros} 00 {zeros} 00 {gateway} 00000400 00000001 00000000 00000003     eth0\n"), true),
            (format!("{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo\n"), false),
            (
                format!("{gateway} 80 {zeros} 00 {zeros} 00000000 00000002 00000000 00000001     eth0\n"),
                false,
            ),
        ] {
            assert_eq!(has_default_6(&line), is, "{line}");
        }
    }

    #[test]
    fn the_tables_are_read_below_the_system() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(default_route(dir.path()), None);
        fs::create_dir_all(dir.path().join("proc/net")).unwrap();
        fs::write(dir.path().join("proc/net/route"), HEAD).unwrap();
        assert_eq!(default_route(dir.path()), Some(false));
    }

    #[test]
    fn the_newest_time_counts() {
        let dir = tempfile::tempdir().unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(1000);
        assert_eq!(clock(dir.path(), Some(later)).newest.unwrap().1, later);
        fs::create_dir(dir.path().join("etc")).unwrap();
        assert!(clock(dir.path(), None).newest.is_some());
    }
}
