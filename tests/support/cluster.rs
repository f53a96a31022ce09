//! Media and nodes together: sets of made-up images whose programs really run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use super::carry::{Ran, oci, pannier, run, text};
use super::image::{Image, image};
use super::layout::{Layout, layout};
use super::node::{self, Node, PAUSE};

/// The versions of containerd that can be tried here; what is missing is said loudly.
pub(crate) fn versions() -> Vec<&'static str> {
    node::VERSIONS.into_iter().filter(|version| available(version)).collect()
}

/// Whether nodes of this version can be started here.
pub(crate) fn available(version: &str) -> bool {
    match node::missing(version) {
        None => true,
        Some(why) => {
            super::skipped(&format!("nodes with containerd {version}: {why}"));
            false
        }
    }
}

/// The tar of one static program, `pause` or `podmain`, as `/bin/app`, which made-up images run.
pub(crate) fn program(name: &str) -> Vec<u8> {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/setup/static.sh");
        assert!(Command::new(script).status().unwrap().success(), "the static programs are built");
    });
    let content = std::fs::read(node::tools().join("static").join(name)).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o755);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, "bin/app", content.as_slice()).unwrap();
    archive.into_inner().unwrap()
}

/// The image of pods' sandboxes.
pub(crate) fn pause() -> Image {
    image(PAUSE).layer(program("pause"))
}

/// An image that prints what it is told to.
pub(crate) fn app(name: &str) -> Image {
    image(name).layer(program("podmain"))
}

/// A directory for layouts and media.
pub(crate) struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::Builder::new().prefix("pannier-bench-").tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Exports a layout to the medium `name`, on top of what is there.
    pub(crate) fn medium(&self, name: &str, layout: &Layout) -> PathBuf {
        let from = tempfile::tempdir_in(self.directory.path()).unwrap();
        let archive = from.path().join("a.tar");
        std::fs::write(&archive, layout.oci_archive()).unwrap();
        let to = self.path(name);
        let seed = Node::start_with("1.6", &["cri=off"]);
        seed.ctr(&["images", "import", "--all-platforms", "--no-unpack", text(&archive)]);
        let _ = oci(from.path());
        let socket = seed.socket();
        run(
            0,
            [
                "export",
                "--from",
                "containerd",
                "-a",
                text(&socket),
                "--all",
                "--platform",
                "linux/amd64",
                "--to",
                text(&to),
            ],
        );
        to
    }

    /// A medium with the image that every node needs.
    pub(crate) fn pause_medium(&self) -> PathBuf {
        self.medium("pause", &layout().with(pause()))
    }
}

/// Imports a medium into a node, expecting this exit status; `--json` is added.
pub(crate) fn import(status: i32, node: &Node, medium: &Path, more: &[&str]) -> Ran {
    let socket = node.socket();
    let mut arguments = vec!["import", text(medium), "--address", text(&socket), "--json"];
    arguments.extend(more);
    run(status, arguments)
}

/// `pannier images` of a node, with further arguments.
pub(crate) fn images(status: i32, node: &Node, more: &[&str]) -> Ran {
    let socket = node.socket();
    let mut arguments = vec!["images", "--address", text(&socket), "--json"];
    arguments.extend(more);
    run(status, arguments)
}

/// The command of an import, for tests that cut it off.
pub(crate) fn import_command(node: &Node, medium: &Path) -> Command {
    let socket = node.socket();
    pannier(["import", text(medium), "--address", text(&socket), "--json"])
}

/// Runs a pod and expects it to print what it is told to.
pub(crate) fn assert_starts(node: &Node, image: &str) {
    let ran = node.run_pod(image, &["/bin/app", "started", image]);
    let ran = ran.unwrap_or_else(|reason| panic!("{image} on {}: {reason}\n{}", node.version(), node.log()));
    assert_eq!((ran.output.as_str(), ran.exit_code), (format!("started {image}").as_str(), 0));
}

/// `repository@digest`.
pub(crate) fn by_digest(repository: &str, digest: pannier::image::Digest) -> String {
    format!("{repository}@{digest}")
}
