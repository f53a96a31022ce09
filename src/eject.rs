//! Makes a medium safe to pull out.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result, Side};
use crate::medium::{Device, Mount};

/// Most processes that are named as users of a medium.
const MAX_HOLDERS: usize = 10;

/// The mount that is to go for the medium at `path`.
///
/// An error where it is part of a filesystem that is there for something else: one that cannot be
/// pulled out is unmounted only when its own place is named.
pub fn mount_of(path: &Path) -> Result<Mount> {
    let fail = Error::io(Side::Medium, "examine", path);
    let real = path.canonicalize().map_err(fail)?;
    let refuse = |reason: &str| Error::unfit(path.display(), reason);
    let mount = Mount::of(&real).ok_or_else(|| refuse("it cannot be seen where it is mounted"))?;
    let removable = Device::of(&real).is_some_and(|device| device.is_removable());
    if mount.point == Path::new("/") || (mount.point != real && !removable) {
        return Err(refuse("not on a filesystem of its own that could be unmounted"));
    }
    Ok(mount)
}

/// Unmounts it. When this returns without an error, everything is on the device and nobody uses it.
///
/// Errors: [`Error::Busy`] while somebody uses it; not permitted. It stays mounted then.
pub fn unmount(mount: &Mount) -> Result<()> {
    let path = &mount.point;
    let device = path.metadata().map_err(Error::io(Side::Medium, "examine", path))?.dev();
    // This process must not be what keeps it.
    std::env::set_current_dir("/").map_err(Error::io(Side::Node, "enter", "/"))?;
    match rustix::mount::unmount(path, rustix::mount::UnmountFlags::NOFOLLOW) {
        Ok(()) => {}
        Err(rustix::io::Errno::BUSY) => return Err(busy(mount, device)),
        Err(rustix::io::Errno::PERM) => ask_udisks(mount, device)?,
        Err(errno) => return Err(Error::io(Side::Medium, "unmount", path)(errno.into())),
    }
    let holders = match other_mount(device) {
        Some(other) => vec![format!("a mount at {other}")],
        None => other_namespaces(device),
    };
    if holders.is_empty() { Ok(()) } else { Err(Error::Busy { path: path.clone(), holders }) }
}

/// The mount namespaces of other processes that still have a filesystem, as far as this user may see: containers
/// and services with mounts of their own.
fn other_namespaces(device: u64) -> Vec<String> {
    let id = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let namespace = |process: &Path| std::fs::read_link(process.join("ns/mnt")).ok();
    let mut seen: Vec<_> = namespace(Path::new("/proc/self")).into_iter().collect();
    let mut holders = Vec::new();
    for (number, process) in processes() {
        let Some(own) = namespace(&process).filter(|own| !seen.contains(own)) else { continue };
        seen.push(own);
        let mounts = std::fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
        if mounts.lines().any(|line| line.split(' ').nth(2) == Some(&id)) && holders.len() < MAX_HOLDERS {
            holders.push(format!("the mounts of {}", named(number, &process)));
        }
    }
    holders
}

/// The processes of this machine, by their number.
fn processes() -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())))
}

fn named(number: u32, process: &Path) -> String {
    let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
    format!("process {number} ({})", name.trim().escape_debug())
}

/// Who may not unmount may ask the desktop's service to, which knows who sits at the machine.
fn ask_udisks(mount: &Mount, device: u64) -> Result<()> {
    let arguments = ["unmount", "--no-user-interaction", "--block-device"];
    let output = Command::new("udisksctl").args(arguments).arg(&mount.source).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("busy") => Err(busy(mount, device)),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().escape_debug().to_string();
            Err(Error::unfit(mount.point.display(), format!("udisksctl: {said}")))
        }
        Err(_) => {
            let denied = std::io::ErrorKind::PermissionDenied;
            Err(Error::io(Side::Medium, "unmount", &mount.point)(denied.into()))
        }
    }
}

fn other_mount(device: u64) -> Option<String> {
    let id = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mut fields = mounts.lines().map(|line| line.split(' '));
    fields.find_map(|mut fields| (fields.nth(2) == Some(&id)).then(|| fields.nth(1).map(str::to_owned))?)
}

fn busy(mount: &Mount, device: u64) -> Error {
    Error::Busy { path: mount.point.clone(), holders: holders(device) }
}

/// Which processes have something open there, as far as this user may see.
fn holders(device: u64) -> Vec<String> {
    let on = |path: &Path| path.metadata().is_ok_and(|found| found.dev() == device);
    let uses = |process: &Path| {
        ["cwd", "root", "exe"].iter().any(|link| on(&process.join(link)))
            || std::fs::read_dir(process.join("fd"))
                .is_ok_and(|files| files.flatten().any(|file| on(&file.path())))
    };
    let using = processes().filter(|(_, process)| uses(process)).take(MAX_HOLDERS);
    using.map(|(number, process)| named(number, &process)).collect()
}
