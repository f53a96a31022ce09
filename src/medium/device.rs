//! The block device below a medium, as far as the system tells of it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::durable;
use crate::image::Digest;
use crate::record::Plugged;

/// The block device that a filesystem is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its node, such as `/dev/sdb1`.
    pub node: PathBuf,
    /// The directory of the whole disk below `/sys`.
    disk: PathBuf,
}

/// A mount: a line of `/proc/self/mountinfo` (proc(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// The filesystem's type as the kernel calls it, such as `fuseblk`.
    pub kind: String,
    /// What is mounted, such as `/dev/sdb1`.
    pub source: PathBuf,
}

impl Mount {
    /// The mount that `path` is on: of those with its device the one whose place is the longest that leads
    /// to it.
    pub fn of(path: &Path) -> Option<Self> {
        let path = path.canonicalize().ok()?;
        let device = path.metadata().ok()?.dev();
        let own = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let parsed = mounts.lines().filter_map(parse).filter(|(id, mount)| {
            // btrfs gives its subvolumes numbers that no mount has.
            (*id == own || mount.kind == "btrfs") && path.starts_with(&mount.point)
        });
        parsed.map(|(_, mount)| mount).max_by_key(|mount| mount.point.as_os_str().len())
    }
}

fn parse(line: &str) -> Option<(String, Mount)> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ');
    let (id, point) = (front.nth(2)?, front.nth(1)?);
    let mut back = back.split(' ');
    let (kind, source) = (back.next()?, back.next()?);
    let mount = Mount { point: unescape(point), kind: kind.to_owned(), source: unescape(source) };
    Some((id.to_owned(), mount))
}

/// Spaces and the like are in octal there.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| bytes[at] == b'\\') {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

impl Device {
    /// The device below `path`; `None` for filesystems in memory, on a network, or on others.
    pub fn of(path: &Path) -> Option<Self> {
        let node = Mount::of(path)?.source;
        let number =
            std::fs::metadata(&node).ok().filter(|node| node.mode() & 0o170_000 == 0o060_000)?.rdev();
        let entry = format!("/sys/dev/block/{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
        let own = Path::new(&entry).canonicalize().ok()?;
        let disk = if own.join("partition").exists() { own.parent()?.to_owned() } else { own };
        Some(Self { node, disk })
    }

    fn read(&self, name: &str) -> Option<String> {
        Some(std::fs::read_to_string(self.disk.join(name)).ok()?.trim().to_owned())
    }

    /// By which plugging-in it is known now.
    pub fn plugged(&self) -> Option<Plugged> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let disk = self.read("diskseq").and_then(|number| number.parse().ok());
        Some(Plugged { boot: Digest::of(boot.trim().as_bytes()), disk, device: None })
    }

    /// What tells this device from others, and `path` from other places on it; `None` where it has no serial number.
    pub(super) fn identity(&self, path: &Path) -> Option<Digest> {
        let names =
            ["device/wwid", "wwid", "device/serial", "serial", "device/vpd_pg80", "loop/backing_file"];
        let serial = names.iter().find_map(|name| self.read_any(name).map(|value| (*name, value)))?;
        let place = path.canonicalize().ok()?;
        let place = place.strip_prefix(&Mount::of(path)?.point).ok()?.to_owned();
        let partition = self.node.file_name().map(|name| {
            let name = name.to_string_lossy().into_owned();
            name.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().to_owned()
        });
        let partition = partition.filter(|_| serial.0 != "loop/backing_file");
        Some(Digest::of(format!("{serial:?} {partition:?} {}", place.display()).as_bytes()))
    }

    /// A file of the disk's, or of what the disk is part of: a USB device has its serial number some levels up.
    fn read_any(&self, name: &str) -> Option<String> {
        let bytes = self.disk.ancestors().take(7).find_map(|at| std::fs::read(at.join(name)).ok())?;
        let text: String = String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect();
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Whether it can be pulled out: its medium can be changed, or it is on USB or a card reader.
    pub fn is_removable(&self) -> bool {
        let bus = ["/usb", "/mmc"].iter().any(|bus| self.disk.to_string_lossy().contains(bus));
        bus || self.read("removable").as_deref() == Some("1")
    }

    /// Whether the kernel takes it for one without a cache of its own. Many USB bridges do not tell of theirs,
    /// and then no flush is sent to them.
    pub fn is_write_through(&self) -> bool {
        self.read("queue/write_cache").as_deref() == Some("write through")
    }

    /// Whether it cannot be written.
    pub fn is_read_only(&self) -> bool {
        self.read("ro").as_deref() == Some("1")
    }

    /// Drops what the system has cached of it, and of the file that it is made of if it is a loop device;
    /// true if that was permitted.
    pub(super) fn forget_cached(&self) -> bool {
        let forget = |path: &Path| File::open(path).is_ok_and(|file| durable::forgot_cached(&file));
        let below = match self.read("loop/backing_file") {
            Some(file) if self.read("loop/dio").as_deref() != Some("1") => forget(Path::new(&file)),
            _ => true,
        };
        forget(&self.node) && below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_with_a_space_in_it() {
        let line = r"29 1 7:3 / /media/a\040stick rw,nosuid shared:1 - fuseblk /dev/loop3 rw,user_id=0";
        let (id, mount) = parse(line).unwrap();
        assert_eq!((id.as_str(), mount.kind.as_str()), ("7:3", "fuseblk"));
        assert_eq!((mount.point, mount.source), ("/media/a stick".into(), "/dev/loop3".into()));
        assert_eq!(parse("nonsense"), None);
    }
}
