//! Files that do not answer twice alike, that grow, or that do not answer at all: H38 to H40.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen,
    Request,
};
use pannier::image::Digest;
use rustix::process::{Pid, Signal};

use super::maker::{Draft, NAME, Stick, blob, bounded, ends, tar};
use crate::support::carry::{self, text};
use crate::support::cluster;
use crate::support::node::Node;

/// How a file answers.
#[derive(Clone)]
enum Answer {
    Right(Vec<u8>),
    /// The first bytes until it was opened so many times, then the others.
    Turns(Vec<u8>, u64, Vec<u8>),
    /// Of this size, but with no end.
    Endless(u64),
    Never,
}

impl Answer {
    fn size(&self) -> u64 {
        match self {
            Self::Right(bytes) | Self::Turns(bytes, ..) => bytes.len() as u64,
            Self::Endless(size) => *size,
            Self::Never => 10,
        }
    }
}

#[derive(Default)]
struct Seen {
    opened: AtomicU64,
    read: AtomicU64,
}

/// The files by path, each with how it answers. Inodes are positions, behind those of the directories.
struct Liar {
    directories: Vec<String>,
    files: Vec<(String, Answer, Arc<Seen>)>,
}

const NOW: Duration = Duration::ZERO;

impl Liar {
    fn inode(&self, path: &str) -> Option<u64> {
        let directory = self.directories.iter().position(|d| d == path);
        let file = || self.files.iter().position(|(f, ..)| f == path).map(|at| at + self.directories.len());
        directory.or_else(file).map(|at| at as u64 + 1)
    }

    fn file(&self, inode: INodeNo) -> Option<&(String, Answer, Arc<Seen>)> {
        let at = usize::try_from(u64::from(inode)).unwrap() - 1;
        at.checked_sub(self.directories.len()).map(|at| &self.files[at])
    }

    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let (kind, size) = match self.file(inode) {
            Some((_, answer, _)) => (FileType::RegularFile, answer.size()),
            None => (FileType::Directory, 0),
        };
        FileAttr {
            ino: inode,
            size,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o755,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Liar {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let directory = &self.directories[usize::try_from(u64::from(parent)).unwrap() - 1];
        let name = name.to_str().unwrap();
        let path = if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
        match self.inode(&path) {
            Some(inode) => reply.entry(&NOW, &self.attributes(INodeNo(inode)), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&NOW, &self.attributes(inode));
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let turn = self.file(inode).map_or(0, |(_, _, seen)| seen.opened.fetch_add(1, Ordering::SeqCst));
        reply.opened(FileHandle(turn), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some((_, answer, seen)) = self.file(inode) else { return reply.error(Errno::EISDIR) };
        let bytes = match answer {
            Answer::Right(bytes) => bytes,
            Answer::Turns(first, turn, then) if u64::from(handle) < *turn => {
                let _ = then;
                first
            }
            Answer::Turns(_, _, then) => then,
            Answer::Endless(_) => {
                seen.read.fetch_add(u64::from(size), Ordering::SeqCst);
                return reply.data(&vec![b'0'; size as usize]);
            }
            // Whoever asked waits until the filesystem is unmounted.
            Answer::Never => return std::mem::forget(reply),
        };
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        let end = (start + size as usize).min(bytes.len());
        seen.read.fetch_add((end - start) as u64, Ordering::SeqCst);
        reply.data(&bytes[start..end]);
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let directory = &self.directories[usize::try_from(u64::from(inode)).unwrap() - 1];
        let within = |path: &str| {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            (parent == directory && !path.is_empty()).then(|| name.to_owned())
        };
        let directories =
            self.directories.iter().filter_map(|d| Some((within(d)?, FileType::Directory, d.clone())));
        let files =
            self.files.iter().filter_map(|(f, ..)| Some((within(f)?, FileType::RegularFile, f.clone())));
        for (at, (name, kind, path)) in directories.chain(files).enumerate().skip(offset as usize) {
            if reply.add(INodeNo(self.inode(&path).unwrap()), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}

/// A medium served by a filesystem that lies about one of its files.
struct Served {
    stick: Stick,
    seen: Arc<Seen>,
    session: Option<BackgroundSession>,
}

/// `None`, loudly, where no filesystem can be served.
fn served(stick: Stick, name: &str, answer: impl FnOnce(Vec<u8>) -> Answer) -> Option<Served> {
    if !crate::support::root("filesystems are mounted by root alone") {
        return None;
    }
    if !Path::new("/dev/fuse").exists() {
        crate::support::skipped("/dev/fuse is missing");
        return None;
    }
    let mut files: BTreeMap<String, Answer> = carry::files(&stick.path())
        .into_iter()
        .map(|(path, bytes)| (path.to_str().unwrap().to_owned(), Answer::Right(bytes)))
        .collect();
    let Answer::Right(bytes) = files.remove(name).expect("such a file") else { unreachable!() };
    files.insert(name.to_owned(), answer(bytes));
    let directories = ["", "blobs", "blobs/sha256", ".pannier", ".pannier/commits", ".pannier/ingest"];
    let seen = Arc::new(Seen::default());
    let files = files.into_iter().map(|(path, answer)| {
        let seen = if path == name { seen.clone() } else { Arc::default() };
        (path, answer, seen)
    });
    let liar = Liar { directories: directories.map(str::to_owned).to_vec(), files: files.collect() };
    let at = stick.beside("served");
    fs::create_dir(&at).unwrap();
    let mut config = Config::default();
    config.mount_options = vec![MountOption::RO, MountOption::FSName("pannier-liar".into())];
    config.n_threads = Some(4);
    let session = fuser::spawn_mount(liar, &at, &config).expect("a filesystem is served; fuse3 is installed");
    Some(Served { stick, seen, session: Some(session) })
}

impl Served {
    fn path(&self) -> std::path::PathBuf {
        self.stick.beside("served")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Lazily, since whoever was never answered may still hold it.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
        drop(self.session.take());
    }
}

fn layer() -> Digest {
    Digest::of(&tar(b"content"))
}

#[test]
fn h38_a_blob_that_changes_between_check_and_import() {
    let other = tar(b"CONTENT");
    for version in cluster::versions() {
        let node = Node::start_with(version, &["cri=off"]);
        let socket = node.socket();
        let blobs = |node: &Node| node.client().blobs().unwrap().len();
        // Right until it is looked at the second time, then with bytes of the same length.
        let (made, allowed, _) = signed();
        let Some(medium) = served(made, &blob(&layer()), |right| Answer::Turns(right, 1, other.clone()))
        else {
            return;
        };
        let path = medium.path();
        ends(0, ["verify", text(&path), "--allowed-signers", &allowed]);
        let arguments =
            ["import", text(&path), "--address", text(&socket), "--no-cri", "--allowed-signers", &allowed];
        ends(4, arguments);
        assert!(node.client().blob(layer()).unwrap().is_none(), "nothing wrong is there under its digest");
        assert!(node.client().blob(Digest::of(&other)).unwrap().is_none());
        assert!(node.client().image(NAME).unwrap().is_none());
        assert!(crate::support::unfinished(&node.client()).is_empty());
        drop(medium);

        // The record changes after its signature was checked: what was checked is what is read.
        let (stick, allowed, right) = signed();
        let hostile = Draft { layer: other.clone(), diff_id: Digest::of(&other), ..Draft::default() }.make();
        let evil = Stick::empty();
        evil.seal(1, hostile.record().to_string().as_bytes());
        let wrong = fs::read(evil.at(".pannier/commits/0000000001.json")).unwrap();
        let record = ".pannier/commits/0000000001.json";
        let medium = served(stick, record, |_| Answer::Turns(right, 1, wrong)).unwrap();
        let path = medium.path();
        let arguments =
            ["import", text(&path), "--address", text(&socket), "--no-cri", "--allowed-signers", &allowed];
        ends(0, arguments);
        assert_eq!(medium.seen.opened.load(Ordering::SeqCst), 1, "it is read once");
        assert!(node.client().blob(layer()).unwrap().is_some());
        assert!(node.client().blob(Digest::of(&other)).unwrap().is_none());
        assert!(blobs(&node) >= 3);
    }
}

#[test]
fn h38_whatever_changes_at_whichever_reading_nothing_wrong_goes_in() {
    let Some(version) = cluster::versions().pop() else { return };
    let node = Node::start_with(version, &["cri=off"]);
    let socket = node.socket();
    let client = node.client();
    let mut ended = [0, 0];
    for name in Draft::default().make().blobs.keys().map(blob) {
        // Whoever answers knows when the signature has been checked: from then on, or a little later.
        for turn in 0..4 {
            let (stick, allowed, _) = signed();
            let other = |right: &[u8]| right.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>();
            let wrong = Digest::of(&other(&fs::read(stick.at(&name)).unwrap()));
            let answer = |right: Vec<u8>| Answer::Turns(right.clone(), turn, other(&right));
            let Some(medium) = served(stick, &name, answer) else { return };
            let path = medium.path();
            let import = ["import", text(&path), "--address", text(&socket), "--no-cri"];
            let output = bounded(import.into_iter().chain(["--allowed-signers", &allowed]));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let all_right = output.status.success();
            assert!(all_right || output.status.code() == Some(4), "{name}, {turn}: {said}");
            ended[usize::from(all_right)] += 1;
            assert!(client.blob(wrong).unwrap().is_none(), "{name}, {turn}");
            assert_eq!(client.image(NAME).unwrap().is_some(), all_right, "{name}, {turn}: {said}");
            for image in client.list_images().unwrap() {
                node.ctr(&["images", "remove", "--sync", &image.name]);
            }
        }
    }
    assert!(ended.iter().all(|count| *count > 0), "{ended:?}");
}

/// A signed medium, the file of allowed signers, and the record's bytes.
fn signed() -> (Stick, String, Vec<u8>) {
    let stick = Draft::default().make().medium(|_| ());
    let key = stick.beside("key");
    let made =
        Command::new("ssh-keygen").args(["-q", "-N", "", "-C", "", "-t", "ed25519", "-f"]).arg(&key).status();
    assert!(made.unwrap().success());
    carry::run(0, ["sign", text(&stick.path()), "--yes", "--key", text(&key)]);
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let allowed = stick.beside("allowed");
    fs::write(&allowed, format!("ana@example.org {public}")).unwrap();
    let record = fs::read(stick.at(".pannier/commits/0000000001.json")).unwrap();
    (stick, text(&allowed).to_owned(), record)
}

#[test]
fn h39_a_file_that_grows_for_ever() {
    let size = tar(b"content").len() as u64;
    let stick = Draft::default().make().medium(|_| ());
    let Some(medium) = served(stick, &blob(&layer()), |_| Answer::Endless(size)) else { return };
    ends(4, ["verify", text(&medium.path())]);
    // What is read beyond the size is what was asked for in one piece.
    assert!(medium.seen.read.load(Ordering::SeqCst) <= size + (4 << 20), "{:?}", medium.seen.read);
    drop(medium);
    for (name, most) in [("index.json", 4 << 20), (".pannier/commits/0000000001.json", 16 << 20)] {
        let stick = Draft::default().make().medium(|_| ());
        let medium = served(stick, name, |_| Answer::Endless(100)).unwrap();
        ends(4, ["verify", text(&medium.path())]);
        let read = medium.seen.read.load(Ordering::SeqCst);
        assert!(read <= 3 * most, "{name}: {read}");
    }
}

#[test]
fn h40_a_read_that_is_never_answered() {
    let stick = Draft::default().make().medium(|_| ());
    let Some(medium) = served(stick, &blob(&layer()), |_| Answer::Never) else { return };
    let mut child = carry::pannier(["verify", text(&medium.path())])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while medium.seen.opened.load(Ordering::SeqCst) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it waits for an answer");
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = Pid::from_child(&child);
    // The second time it ends at once, wherever it waits.
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(100));
        let _ = rustix::process::kill_process(pid, Signal::INT);
    }
    let ended = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        child.try_wait().unwrap().is_some()
    });
    if !ended {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        child.wait().unwrap();
    }
    assert!(ended, "Ctrl-C twice ends it");
}
