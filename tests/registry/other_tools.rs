//! Archives and layouts that other programs wrote: the same image through each of them is the same image.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::carry::{blobs, run, text};
use crate::support::image::Encoding;
use crate::support::layout::{Layout, files, image, layout};
use crate::support::node::{Node, VERSIONS, missing};
use crate::support::registry::{Server, Setup, have, run as tool};
use crate::support::seen::{Seen, all, open};

const APP: &str = "docker.io/library/app:1";
const WEB: &str = "quay.io/team/web:2";

struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        set().write_dir(&room.path("layout"));
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path of a file, behind the name of its kind.
    fn at(&self, kind: &str, name: &str) -> String {
        format!("{kind}:{}", self.path(name).display())
    }
}

fn set() -> Layout {
    // Such that zstd is smaller than the gzip that a source may hold, which would be kept.
    let lines = |of: &str| (0..20_000).map(|i| format!("line {i} of {of}\n")).collect::<String>();
    let base = files([("usr/lib/base", &lines("the base"))]);
    layout()
        .with(image(APP).layer(base.clone()).layer(files([("etc/app", &lines("the program"))])))
        .with(image(WEB).layer(base).gzip_level(1).layer(files([("etc/web", "2")])).zstd())
}

fn expected(name: &str) -> Seen {
    let set = set();
    let manifest = &set.find(name).manifests[0];
    Seen { name: Some(name.into()), config: manifest.config.digest, diff_ids: manifest.diff_ids.clone() }
}

fn skopeo(arguments: &[&str]) {
    tool("skopeo", &[&["--insecure-policy"], arguments].concat());
}

fn seen(kind: &str, path: &Path) -> Vec<Seen> {
    all(&*open(kind, path).unwrap()).unwrap()
}

/// The layers that an export of this source, given with its arguments, leaves on a medium, other blobs left out.
fn carried(room: &Room, source: &str, medium: &str) -> Vec<PathBuf> {
    let to = room.path(medium);
    let source = source.split(' ');
    run(
        0,
        ["export", "--all", "--to", text(&to), "--platform", "linux/amd64", "--from"]
            .into_iter()
            .chain(source),
    );
    let blobs = blobs(&to).into_iter();
    blobs.filter(|(_, bytes)| !bytes.starts_with(b"{")).map(|(name, _)| name).collect()
}

#[test]
fn skopeo_and_podman_write_archives_that_read_as_the_image() {
    if !have(&["skopeo"]) {
        return;
    }
    let room = Room::new();
    let from = format!("{}:1", room.at("oci", "layout"));
    // podman save goes through the same writer, in this form or as an OCI archive.
    let docker = format!("{}:{APP}", room.at("docker-archive", "docker.tar"));
    skopeo(&["copy", "-q", &from, &docker]);
    assert_eq!(seen("docker-archive", &room.path("docker.tar")), [expected(APP)]);
    let oci = format!("{}:{APP}", room.at("oci-archive", "oci.tar"));
    skopeo(&["copy", "-q", &from, &oci]);
    assert_eq!(seen("oci-archive", &room.path("oci.tar")), [expected(APP)]);
    let dir = format!("{}:{APP}", room.at("oci", "copied"));
    skopeo(&["copy", "-q", &from, &dir]);
    assert_eq!(seen("oci", &room.path("copied")), [expected(APP)]);
    let nameless = room.at("docker-archive", "nameless.tar");
    skopeo(&["copy", "-q", &from, &nameless]);
    assert_eq!(seen("docker-archive", &room.path("nameless.tar")), [Seen { name: None, ..expected(APP) }]);

    let tar = std::fs::read(room.path("docker.tar")).unwrap();
    for encoding in [Encoding::Gzip(6, 1), Encoding::Zstd(3, 1)] {
        std::fs::write(room.path("packed"), encoding.apply(&tar)).unwrap();
        assert_eq!(seen("docker-archive", &room.path("packed")), [expected(APP)], "{encoding:?}");
    }

    // Where the layers are the same, so is what is carried, whichever program packed them.
    let layers = carried(&room, &room.at("docker-archive", "docker.tar"), "medium-docker");
    assert_eq!(layers.len(), 2);
    for (i, (kind, path)) in [("oci-archive", "oci.tar"), ("oci", "copied")].into_iter().enumerate() {
        assert_eq!(carried(&room, &room.at(kind, path), &format!("medium-{i}")), layers, "{kind}");
    }
}

#[test]
fn umoci_writes_a_layout_that_reads_as_the_image() {
    if !have(&["umoci", "tar"]) {
        return;
    }
    let room = Room::new();
    let own = room.path("own");
    std::fs::write(room.path("hello"), "hello\n".repeat(1000)).unwrap();
    tool("umoci", &["init", "--layout", text(&own)]);
    let image = format!("{}:v1", own.display());
    tool("umoci", &["new", "--image", &image]);
    tool("umoci", &["insert", "--rootless", "--image", &image, text(&room.path("hello")), "/hello"]);
    // It gives a bare tag only.
    let [seen] = &seen("oci", &own)[..] else { panic!("one image") };
    assert_eq!((seen.name.as_deref(), seen.diff_ids.len()), (None, 1));
    let source = format!("{} --as registry.local/hello:1", room.at("oci", "own"));
    assert_eq!(carried(&room, &source, "m").len(), 1);
    let record = pannier::medium::Medium::open(&room.path("m")).unwrap().record().unwrap().clone();
    assert_eq!(record.images[0].platforms[0].config.digest, seen.config);
    assert_eq!(record.images[0].platforms[0].diff_ids, seen.diff_ids);
}

#[test]
fn crane_writes_archives_that_read_as_the_image() {
    if !have(&["skopeo", "crane", "docker-registry"]) {
        return;
    }
    let room = Room::new();
    let registry = Server::start(Setup::default());
    let name = format!("{}/team/web:2", registry.name());
    let from = format!("{}:2", room.at("oci", "layout"));
    skopeo(&["copy", "-q", "--dest-tls-verify=false", &from, &format!("docker://{name}")]);
    let web = Seen { name: Some(name.clone()), ..expected(WEB) };
    // Docker's form with compressed layers, by another name each.
    for format in ["tarball", "legacy"] {
        let path = room.path(format);
        tool("crane", &["pull", "--insecure", "--format", format, &name, text(&path)]);
        assert_eq!(seen("docker-archive", &path), std::slice::from_ref(&web), "{format}");
    }
    tool(
        "crane",
        &["pull", "--insecure", "--format", "oci", "--annotate-ref", &name, text(&room.path("oci"))],
    );
    assert_eq!(seen("oci", &room.path("oci")), [web]);
}

/// ctr 2.1.9 sometimes ends before the last of what containerd streams to it is written, and says
/// nothing (once in 60 on busy cores, exit status 0). What is cut short is exported again.
fn ctr_export(node: &Node, archive: &Path) {
    for _ in 0..5 {
        node.ctr(&["images", "export", text(archive), APP, WEB]);
        let whole = Command::new("tar").arg("-tf").arg(archive).output().unwrap().status.success();
        if whole {
            return;
        }
        std::fs::remove_file(archive).unwrap();
    }
    panic!("ctr cut each of five archives short");
}

#[test]
fn containerd_exports_archives_that_read_as_the_images() {
    for version in VERSIONS {
        if let Some(why) = missing(version) {
            crate::support::skipped(&why);
            continue;
        }
        let room = Room::new();
        std::fs::write(room.path("set.tar"), set().oci_archive()).unwrap();
        let node = Node::start(version);
        node.ctr(&["images", "import", "--all-platforms", text(&room.path("set.tar"))]);
        ctr_export(&node, &room.path("out.tar"));
        let both = [expected(APP), expected(WEB)];
        assert_eq!(seen("oci-archive", &room.path("out.tar")), both, "{version}");
        // It writes Docker's manifest.json as well, so it is both kinds at once.
        assert_eq!(seen("docker-archive", &room.path("out.tar")), both, "{version}");
        let layers = carried(&room, &room.at("oci-archive", "set.tar"), "medium");
        let containerd = format!("containerd --address {}", node.socket().display());
        assert_eq!(carried(&room, &containerd, "medium-containerd"), layers, "{version}");
        assert_eq!(carried(&room, &room.at("docker-archive", "out.tar"), "medium-out"), layers, "{version}");
    }
}
