//! Disks, routes, the clock, and what kubelet is told about images.

use std::time::Duration;

use crate::doctor::Severity::{Error, Note, Warning};
use crate::doctor::{Clock, Diagnosis, Disk, DiskRole, Kubelet, NodeFacts, Thresholds};

/// How far the clock may be behind: time zones of hardware clocks, and a stick that was filled ahead of it.
const TOLERANCE: Duration = Duration::from_secs(24 * 3600);

pub(super) fn examine(facts: &NodeFacts) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    for disk in &facts.disks {
        findings.extend(fullness(disk, &facts.kubelet.thresholds));
        findings.extend(filesystem(disk, facts));
    }
    if facts.default_route == Some(false) {
        findings.push(Diagnosis::new(
            "no-default-route",
            Error,
            "there is no default route",
            "kube-apiserver does not start without one, and kubelet does not find the node's address; nothing has \
             to be reached through it",
            "ip route add default dev eth0 (with the interface of the cluster), and in the network's configuration, \
             so that it survives a restart",
        ));
    }
    findings.extend(clock(&facts.clock));
    findings.extend(credentials(&facts.kubelet));
    for intent in &facts.kubelet.pull_intents {
        findings.push(Diagnosis::new(
            "pull-cut-off",
            Warning,
            format!("kubelet was cut off while it pulled {}", intent.image),
            "it does not take the image for one that was there before, and asks a registry for it again",
            format!("rm {} while kubelet is stopped", intent.file.display()),
        ));
    }
    findings
}

fn fullness(disk: &Disk, thresholds: &Thresholds) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    let place = disk.path.display();
    let least = match disk.role {
        DiskRole::Images => thresholds.images,
        DiskRole::Kubelet => thresholds.node,
    };
    let part = |free: u64, whole: u64| (free as f64 / whole.max(1) as f64) * 100.0;
    if disk.read_only {
        findings.push(Diagnosis::new(
            "disk-read-only",
            Error,
            format!("{place} is read-only"),
            "containerd and kubelet cannot work on it",
            "look at `dmesg`, then mount it anew: mount -o remount,rw",
        ));
    }
    let low = least.is_some_and(|least| disk.free < least.of(disk.size));
    if low {
        findings.push(Diagnosis::new(
            "disk-pressure",
            Error,
            format!("{:.0} % of {place} are free", part(disk.free, disk.size)),
            "below its eviction threshold kubelet starts no pods and ends those that run",
            "free some space: `pannier images` shows what images take",
        ));
    }
    let inodes = thresholds.inodes.is_some_and(|least| disk.inodes_free < least.of(disk.inodes));
    if disk.inodes > 0 && inodes {
        findings.push(Diagnosis::new(
            "inodes-low",
            Error,
            format!("{:.0} % of the inodes of {place} are free", part(disk.inodes_free, disk.inodes)),
            "below its eviction threshold kubelet starts no pods",
            "remove small files, or make the filesystem anew with more inodes",
        ));
    }
    let used = 100.0 - part(disk.free, disk.size);
    if disk.role == DiskRole::Images && !low && used >= thresholds.collects_at as f64 {
        findings.push(Diagnosis::new(
            "images-collected",
            Warning,
            format!("{used:.0} % of {place} are used"),
            "kubelet removes images that are neither pinned nor in use, and cannot pull them again",
            "free some space, or import with pins (the default)",
        ));
    }
    findings
}

fn filesystem(disk: &Disk, facts: &NodeFacts) -> Option<Diagnosis> {
    if disk.role != DiskRole::Images {
        return None;
    }
    let snapshotter = facts.containerd.as_ref().and_then(|containerd| containerd.snapshotter.as_ref());
    let overlay = snapshotter.is_none_or(|snapshotter| snapshotter.name == "overlayfs");
    let (place, name) = (disk.path.display(), disk.filesystem.as_str());
    match name {
        "overlayfs" if overlay => Some(Diagnosis::new(
            "root-on-overlayfs",
            Error,
            format!("{place} is on overlayfs"),
            "overlayfs cannot unpack layers on overlayfs",
            "give containerd a volume or disk of its own, or the snapshotter native",
        )),
        "NFS" | "FAT32" | "exFAT" | "NTFS" => Some(Diagnosis::new(
            "root-unsuitable",
            Error,
            format!("{place} is on {name}"),
            "layers with their owners, devices and attributes cannot be kept there",
            "put containerd's root on ext4 or XFS",
        )),
        "tmpfs" => Some(Diagnosis::new(
            "root-in-memory",
            Warning,
            format!("{place} is in memory (tmpfs)"),
            "all images are gone after a restart, and take up memory until then",
            "put containerd's root on a disk",
        )),
        _ => None,
    }
}

fn clock(clock: &Clock) -> Option<Diagnosis> {
    let (path, newest) = clock.newest.as_ref()?;
    let behind = newest.duration_since(clock.now).ok().filter(|behind| *behind > TOLERANCE)?;
    Some(Diagnosis::new(
        "clock-behind",
        Error,
        format!("the clock is {} days behind {}", behind.as_secs() / (24 * 3600), path.display()),
        "certificates are not valid yet, and signatures were made in the future",
        "timedatectl set-time 'YYYY-MM-DD hh:mm:ss', then hwclock --systohc",
    ))
}

fn credentials(kubelet: &Kubelet) -> Option<Diagnosis> {
    let severity = match kubelet.credential_policy.as_deref()? {
        "AlwaysVerify" => Error,
        "NeverVerifyAllowlistedImages" => Warning,
        "NeverVerify" | "NeverVerifyPreloadedImages" | "" => return None,
        _ => Note,
    };
    let policy = kubelet.credential_policy.as_deref().unwrap_or_default();
    let file = kubelet.config.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
    Some(Diagnosis::new(
        "credentials-verified",
        severity,
        format!("kubelet's imagePullCredentialsVerificationPolicy is {policy}"),
        "it asks a registry about images that were put there by hand, and does not start their pods without it",
        format!(
            "set it to NeverVerifyPreloadedImages in {file} and restart kubelet, or have a mirror answer for the registry: `pannier serve`"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::assert_found;
    use super::*;
    use crate::doctor::{Amount, PullIntent};

    fn found(expected: &[&str], change: impl FnOnce(&mut NodeFacts)) {
        assert_found(expected, NodeFacts::healthy(), change);
    }

    fn disk(expected: &[&str], change: impl FnOnce(&mut Disk)) {
        found(expected, |facts| change(&mut facts.disks[0]));
    }

    #[test]
    fn how_full_the_disks_are() {
        disk(&["disk-pressure"], |disk| disk.free = disk.size / 10);
        disk(&[], |disk| disk.free = disk.size / 100 * 16);
        disk(&["inodes-low"], |disk| disk.inodes_free = 40);
        disk(&[], |disk| (disk.inodes, disk.inodes_free) = (0, 0));
        disk(&["disk-read-only"], |disk| disk.read_only = true);
        found(&["disk-pressure"], |facts| facts.disks[1].free = facts.disks[1].size / 100 * 9);
        found(&[], |facts| facts.disks[1].free = facts.disks[1].size / 100 * 12);
        found(&["images-collected"], |facts| facts.kubelet.thresholds.collects_at = 30);
        found(&["disk-pressure"], |facts| facts.kubelet.thresholds.images = Some(Amount::Number(70 << 30)));
        found(&[], |facts| {
            facts.kubelet.thresholds.images = None;
            facts.disks[0].free = facts.disks[0].size / 100 * 20;
        });
    }

    #[test]
    fn what_containerds_root_is_on() {
        disk(&["root-on-overlayfs"], |disk| disk.filesystem = "overlayfs".into());
        disk(&["root-unsuitable"], |disk| disk.filesystem = "NFS".into());
        disk(&["root-in-memory"], |disk| disk.filesystem = "tmpfs".into());
        disk(&[], |disk| disk.filesystem = "XFS".into());
        found(&[], |facts| {
            facts.disks[0].filesystem = "overlayfs".into();
            facts.containerd.as_mut().unwrap().snapshotter.as_mut().unwrap().name = "native".into();
        });
    }

    #[test]
    fn route_and_clock() {
        found(&["no-default-route"], |facts| facts.default_route = Some(false));
        found(&[], |facts| facts.default_route = None);
        let behind = |seconds| {
            move |facts: &mut NodeFacts| {
                facts.clock.newest.as_mut().unwrap().1 = facts.clock.now + Duration::from_secs(seconds)
            }
        };
        found(&["clock-behind"], behind(3 * 24 * 3600));
        found(&[], behind(3600));
    }

    #[test]
    fn what_kubelet_verifies() {
        let policy = |name: &'static str| {
            move |facts: &mut NodeFacts| facts.kubelet.credential_policy = Some(name.into())
        };
        found(&["credentials-verified"], policy("AlwaysVerify"));
        found(&["credentials-verified"], policy("NeverVerifyAllowlistedImages"));
        found(&[], policy("NeverVerifyPreloadedImages"));
        found(&["pull-cut-off"], |facts| {
            facts.kubelet.pull_intents = vec![PullIntent { file: "/x".into(), image: "app:1".into() }];
        });
    }
}
