//! What a person can do about a failure.

use std::io;

use super::failure::Failure;
use crate::error::{Error, NoMedium, Side};
use crate::layer::scratch_directory;
use crate::medium::Filesystem;
use crate::record::Basis;
use crate::trust::Refusal;

/// What to do next; `writes` says that a medium may have been written to.
pub(super) fn of(failure: &Failure, writes: bool) -> Option<String> {
    let hint = match failure {
        Failure::Error(error) => return of_error(error, writes),
        Failure::Unrepaired { .. } => {
            "give a source that has it with --from; images that need none of it can still be imported with --keep-going"
        }
        Failure::Damaged { .. } => "`pannier import MEDIUM --repair` replaces what is on the medium as well",
        Failure::VolumesMissing { .. } => "import the other media of the set as well, in any order",
        Failure::Partial { .. } | Failure::Findings { .. } | Failure::NotReady { .. } => return None,
    };
    Some(hint.to_owned())
}

/// The same for an error of the library.
pub(super) fn of_error(error: &Error, writes: bool) -> Option<String> {
    let hint = match error {
        Error::Lacking(lacking) => return Some(how_to_get(&lacking.rests_on)),
        Error::Io { path, .. } if *path == scratch_directory() => {
            "it is for files that last no longer than this command; TMPDIR names another directory for them"
        }
        Error::DigestMismatch { side: Side::Source, .. } | Error::SizeMismatch { side: Side::Source, .. } => {
            "nothing of that image was committed; --keep-going carries the others"
        }
        Error::NoMedium { why, .. } => match why {
            NoMedium::Archive => {
                "`pannier import FILE` puts it into a node's containerd; `pannier export --from docker-archive:FILE --all --to MEDIUM` makes a medium of it (oci-archive:FILE for an OCI layout)"
            }
            NoMedium::Device => "mount it (`mount -o ro DEVICE /mnt`) and give the directory",
            NoMedium::Prefixed { path } => return Some(format!("give {} instead", path.display())),
            NoMedium::Inside { medium } | NoMedium::Above { medium } => {
                return Some(format!("give {} instead", medium.display()));
            }
            NoMedium::Empty => {
                "is the medium mounted? `lsblk` shows what is plugged in; `mount DEVICE DIR` mounts it"
            }
            NoMedium::Unhidden => {
                "copy all of the medium, with its hidden files: `cp -a MEDIUM/. COPY` does so, file managers leave them behind"
            }
            NoMedium::Absent | NoMedium::File | NoMedium::Nothing => {
                "give the directory that the medium is mounted at; `pannier export --to` makes a medium"
            }
            NoMedium::Unfinished => {
                "run the same export again where its sources are: it goes on. Nothing is committed yet that could be imported"
            }
            NoMedium::OtherLayout => "`pannier export --all --from oci:DIR --to MEDIUM` makes a medium of it",
            NoMedium::AllDamaged { recovery: true, .. } => {
                "`pannier repair MEDIUM` gets the newest back from the medium's recovery data. Do not export to it before"
            }
            NoMedium::AllDamaged { recovery: false, .. } => {
                "the medium has no recovery data. Take another copy of it, or export the same set again: blobs that are whole are used again"
            }
        },
        Error::Older { older, .. } => {
            return Some(format!(
                "nothing was taken. `pannier repair MEDIUM` gets export {} back if the medium has recovery data; else export to it again, or use another copy of it. --older takes export {} as it is",
                older.damaged, older.whole
            ));
        }
        Error::BlobMissing { .. } => {
            "was all of the medium copied? `pannier verify` lists what is missing; `pannier repair --from SOURCE` gets it back, and so does exporting again"
        }
        Error::DigestMismatch { side: Side::Medium, .. }
        | Error::SizeMismatch { side: Side::Medium, .. }
        | Error::Invalid { side: Side::Medium, .. } => {
            "`pannier verify` lists everything that is damaged; `pannier repair --from SOURCE` gets it back"
        }
        Error::UntrustedInventory { .. } => {
            "take it again on the node with `pannier inventory -o FILE --sign-key KEY`; nothing of it was read"
        }
        Error::Untrusted { reason, .. } if reason.contains("is over other bytes") => {
            "its record was changed or damaged after it was signed: do not sign it again. `pannier verify` looks at it; take another copy of the medium, or export to it again"
        }
        Error::Untrusted { .. } => {
            "have somebody who is allowed sign it with `pannier sign`, or add the signer's key to the allowed signers; nothing else of the medium was read"
        }
        Error::NotTaken { refusal, .. } => match refusal {
            Refusal::Lane { .. } => {
                "the node's lane is in /etc/pannier/config.toml, or is given with --lane; `export --lane` sets the medium's"
            }
            Refusal::Expired { .. } => {
                "export to it again; if the time of this machine is right, only --allow-expired takes it as it is"
            }
            Refusal::Brings { .. } => {
                "have those sign it whom [[trust.policy]] in the configuration allows to bring it"
            }
            Refusal::Older { .. } | Refusal::Forked(_) => {
                "take the newest medium; --allow-rollback takes this one all the same"
            }
            Refusal::Leaps(_) => {
                "if the exporter's count or clock is right, `pannier trust --forget` makes it the first"
            }
        },
        Error::DigestMismatch { side: Side::Node, .. } | Error::SizeMismatch { side: Side::Node, .. } => {
            "`pannier images --check` lists everything that is damaged; `pannier import --repair` of the medium that brought it replaces it"
        }
        Error::LackingDamaged { .. } => {
            "nothing was imported. `pannier import --repair` of the medium that brought that layer replaces it, and so does removing and pulling the image that needs it (`pannier images --check` tells which); or export again without --have"
        }
        Error::NoSpace { side: Side::Node, .. } => {
            "free some space there; an import needs less with fewer images, and with --no-unpack until a container starts"
        }
        Error::NoSpace { side: Side::Medium, .. } => {
            "use a larger medium, or export fewer images or platforms"
        }
        Error::NoRoom { .. } => {
            "add another --to, or export fewer images or platforms; one image is never spread over two media"
        }
        Error::NoFiles { .. } => {
            "remove other files from the medium, or format it with room for more (`mkfs.ext4 -N`, or exFAT)"
        }
        Error::NotKept { .. } => {
            "nothing was committed. A stick that holds less than it says (counterfeits do; f3probe tells) or that is worn out does this: use another one. `pannier verify` tells what is left of what was on it"
        }
        Error::FileTooLarge { .. } => {
            "format the medium with exFAT or ext4, export with --split (other tools cannot read that image then), or without that image"
        }
        Error::Busy { .. } => {
            "not safe to remove yet: end what uses it and run the same command again. What was committed is whole"
        }
        Error::Swapped { .. } => {
            "it was unmounted, or another was put in its place: nothing was committed. Plug the right one in and run the same command again"
        }
        Error::Unproven { .. } => "what was committed before is untouched",
        Error::Locked { .. } => "wait until the other one has ended; a process that died holds no lock",
        Error::Interrupted if writes => {
            "the medium is NOT safe to remove: unmount it first. Run the same command again to go on"
        }
        Error::Interrupted => "run the same command again to go on",
        Error::Io { side: Side::Medium, .. } if error.is_filesystem_damage() => {
            "the medium's filesystem is damaged: unmount it and run fsck, then `pannier verify`"
        }
        Error::Io { side: Side::Medium, path, action, source } => match source.kind() {
            io::ErrorKind::StorageFull if Filesystem::of(path).is_ok_and(|fs| fs.files == Some(0)) => {
                "the medium has no room for more files, whatever its free space: what was committed before is whole; remove other files and run the same command again"
            }
            io::ErrorKind::StorageFull => {
                "the medium is full: what was committed before is whole; free some space and run the same command again"
            }
            io::ErrorKind::QuotaExceeded => {
                "your quota on the medium's filesystem is used up: what was committed before is whole; free some space and run the same command again"
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                "the medium is read-only, or became so when it was pulled out or failed: look at its switch, and at `dmesg`"
            }
            io::ErrorKind::FileTooLarge => {
                "the file is too large for the medium's filesystem; use exFAT or ext4"
            }
            // Who only reads a medium can go on without what cannot be read.
            _ if !writes
                && matches!(*action, "read" | "open" | "list" | "examine")
                && source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
            {
                "the medium was pulled out, or is worn in places: `dmesg` tells. `pannier verify` lists what cannot be read, `pannier repair --from SOURCE` gets it back, --keep-going carries what does not need it"
            }
            io::ErrorKind::PermissionDenied => "run it as a user who may use the medium, or as root",
            _ => {
                "is the medium still plugged in? `dmesg` tells what the system met, and a filesystem that was pulled out may have to be checked (`fsck.exfat`). What was committed before is whole; run the same command again"
            }
        },
        Error::Unreachable { address, source, .. } if is_local(address) => match cause_of(&**source) {
            Some(io::ErrorKind::NotFound) => {
                "`systemctl status containerd` tells whether it runs (k3s, rke2, k0s: that service); --address names another socket"
            }
            Some(io::ErrorKind::PermissionDenied) => "run it as root: sudo and the same command",
            Some(io::ErrorKind::ConnectionRefused) => {
                "nothing listens there any more: `systemctl status containerd` tells why, `systemctl start containerd` starts it"
            }
            _ if matches!(
                source.to_string().as_str(),
                "not a socket" | "what answers there is no containerd"
            ) =>
            {
                "give containerd's socket, such as /run/containerd/containerd.sock; Docker's and CRI's own are others"
            }
            _ => {
                "is containerd running, and may this user use it? --address names another socket; run again, the same command goes on"
            }
        },
        Error::Io { side: Side::Node, source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
        {
            "the node's disk is full; what was not complete was taken back. Free some space there (`pannier import --dry-run` says how much is needed) and run the same command again"
        }
        Error::Unreachable { .. } => "run the same command again when it can be reached: it goes on",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// How a node gets what a top-up rests on.
fn how_to_get(rests_on: &[Basis]) -> String {
    let named: Vec<String> = rests_on.iter().take(3).map(ToString::to_string).collect();
    let more = if rests_on.len() > named.len() { " and others" } else { "" };
    let first = match rests_on.first() {
        None => "import the medium that it rests on first".to_owned(),
        Some(Basis::Medium { .. }) => {
            format!("it rests on {}{more}: import that first", named.join(" and "))
        }
        Some(Basis::Inventory { created, host, digest, .. }) => {
            let host = host.as_deref().unwrap_or("a node");
            let day = created.get(..10).unwrap_or(created);
            format!(
                "the medium was made for nodes that hold what {host} held on {day} (inventory {digest}){more}, and this node has other layers"
            )
        }
    };
    format!(
        "nothing was imported; {first}. Or export again with `--have` of this node's own `pannier inventory`, or without --have"
    )
}

/// Whether it is a containerd that was to be reached, not a registry.
fn is_local(address: &str) -> bool {
    address.starts_with('/') || address == "containerd"
}

/// The kind of the error of the system that is at the bottom of it.
fn cause_of(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        next = error.source();
    }
    None
}
