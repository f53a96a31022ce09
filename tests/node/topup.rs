//! Top-ups: what nodes hold, by their inventories, is left out, and refused where it is not there.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::carry::{assert_names_only_what_is_there, run, text};
use crate::support::cluster::{assert_starts, import, pause, program, versions};
use crate::support::image::{half_random, image, tar_of};
use crate::support::layout::{Layout, layout};
use crate::support::node::Node;
use crate::support::update::Update;
use pannier::record::Record;
use serde_json::Value;

const APP: &str = "docker.io/library/app:1";
const TOOL: &str = "docker.io/library/tool:1";

fn large(seed: u64) -> Vec<u8> {
    tar_of([(format!("data/{seed}"), half_random(seed, 2_000_000))])
}

/// The sandbox image and `app` on a large layer; the newer set has another top for `app`, and `tool`.
fn set(newer: bool) -> Layout {
    let app = image(APP).layer(program("podmain")).layer(large(1)).layer(large(2 + u64::from(newer)));
    let older = layout().with(pause()).with(app);
    match newer {
        false => older,
        true => older.with(image(TOOL).layer(program("podmain")).layer(large(4))),
    }
}

fn update() -> Update {
    Update::new(&set(false), &set(true))
}

/// Exports the newer set for nodes with these inventories.
fn top_up(update: &Update, inventories: &[&Path]) -> Value {
    let have = inventories.iter().flat_map(|path| ["--have", text(path)]);
    update.export(0, "new-layout", "new", &have.collect::<Vec<_>>()).json()
}

fn record_text(update: &Update) -> String {
    String::from_utf8(update.record("new").to_bytes().unwrap()).unwrap()
}

fn inventory(update: &Update, node: &Node, name: &str) -> PathBuf {
    let path = update.path(name);
    run(0, ["inventory", "--address", text(&node.socket()), "-o", text(&path)]);
    path
}

/// How many layers of the record are not on the medium.
fn absent(record: &Record) -> usize {
    record.layers.iter().filter(|layer| layer.encodings.is_empty()).count()
}

#[test]
fn what_the_node_holds_is_left_out_and_pods_start() {
    for version in versions() {
        for pulled in [false, true] {
            let update = update();
            let node = if pulled { update.pulled(version) } else { update.imported(version) };
            let inventory = inventory(&update, &node, "node.json");
            let listed: Value = serde_json::from_slice(&fs::read(&inventory).unwrap()).unwrap();
            assert_eq!(listed["images"].as_array().unwrap().len(), 2, "{listed}");
            assert_eq!(listed["layers"].as_object().unwrap().len(), 4, "{listed}");
            let imported = listed["imported"].as_object().map_or(0, serde_json::Map::len);
            assert_eq!(imported, usize::from(!pulled), "{listed}");

            top_up(&update, &[&inventory]);
            let record = update.record("new");
            // pause, podmain and the large layer that stays; the new top and that of `tool` are carried.
            assert_eq!((record.layers.len(), absent(&record)), (5, 3), "{version}, pulled: {pulled}");
            assert!(record_text(&update).contains("\"critical\":[\"top-up\"]"));
            assert_names_only_what_is_there(&update.path("new"));
            let report = run(0, ["verify", "--deep", "--json", text(&update.path("new"))]).json();
            assert!(report.to_string().contains("left-out"), "{report}");
            assert!(run(0, ["list", text(&update.path("new"))]).stdout().contains("left out"));
            assert_eq!(top_up(&update, &[&inventory])["changed"], false);

            let done = import(0, &node, &update.path("new"), &[]).json();
            assert_eq!(done["layersSent"], 2, "{version}, pulled: {pulled}: {done}");
            for name in [APP, TOOL] {
                assert_starts(&node, name);
            }
            let again = import(0, &node, &update.path("new"), &[]).json();
            assert_eq!(again["bytesSent"], 0);
        }
    }
}

#[test]
fn a_node_that_lacks_the_rest_is_left_as_it_was() {
    let Some(version) = versions().pop() else { return };
    let update = update();
    let node = update.imported(version);
    let inventory = inventory(&update, &node, "node.json");
    top_up(&update, &[&inventory]);

    // Collected between the inventory and the import.
    for name in node.client().list_images().unwrap() {
        node.ctr(&["images", "rm", "--sync", &name.name]);
    }
    let ran = import(3, &node, &update.path("new"), &[]);
    let digest = pannier::image::Digest::of(&fs::read(&inventory).unwrap()).to_string();
    for said in ["lacks layer sha256:", "--have", &digest] {
        assert!(ran.stderr().contains(said), "{}", ran.stderr());
    }
    assert!(run(0, ["list", text(&update.path("new"))]).stdout().contains(&digest));
    assert!(node.client().blobs().unwrap().is_empty(), "found out before the first byte");
    assert!(node.client().list_leases().unwrap().is_empty());
    // What it rests on, and then itself.
    import(0, &node, &update.path("old"), &[]);
    import(0, &node, &update.path("new"), &[]);
    assert_starts(&node, APP);
}

#[test]
fn what_only_one_of_several_nodes_holds_is_carried() {
    let Some(version) = versions().pop() else { return };
    let update = update();
    let (first, second) = (update.imported(version), Node::start(version));
    import(0, &second, &update.path("old"), &["registry.k8s.io/pause:3.10"]);
    let first = inventory(&update, &first, "first.json");
    let held = inventory(&update, &second, "second.json");
    top_up(&update, &[&first, &held]);
    assert_eq!(absent(&update.record("new")), 1, "the sandbox image's layer alone");
    import(0, &second, &update.path("new"), &[]);
    assert_starts(&second, APP);
}

#[test]
fn a_later_export_without_inventories_carries_everything() {
    let Some(version) = versions().pop() else { return };
    let update = update();
    let inventory = inventory(&update, &update.imported(version), "node.json");
    top_up(&update, &[&inventory]);
    update.export(0, "new-layout", "new", &[]);
    let record = update.record("new");
    assert_eq!(absent(&record), 0);
    assert!(!record_text(&update).contains("top-up"));
    assert_names_only_what_is_there(&update.path("new"));
    import(0, &Node::start(version), &update.path("new"), &[]);
}

#[test]
fn an_inventory_that_is_none_or_of_another_machine_is_refused() {
    let Some(version) = versions().pop() else { return };
    let update = update();
    let inventory = inventory(&update, &update.imported(version), "node.json");
    let good = fs::read_to_string(&inventory).unwrap();
    let refused = |text_of: &str, reason: &str| {
        let path = update.path("changed.json");
        fs::write(&path, text_of).unwrap();
        let ran = update.export(1, "new-layout", "new", &["--have", text(&path)]);
        let error = ran.stderr();
        assert!(error.contains(reason) && error.contains("changed.json"), "{error}");
        assert!(!error.contains('\u{1b}'), "{error:?}");
        assert!(!update.path("new/.pannier").exists(), "nothing was written");
    };
    refused(&good.replace("\"amd64\"", "\"arm64\""), "--platform");
    refused(&good.replace("pannier-inventory-v1", "\\u001b[2Jpannier-inventory-v7"), "knows only");
    refused(&good[..good.len() / 2], "none that");
    refused("{}", "none that");
    refused(&"[".repeat(1_000_000), "none that");
    refused(&" ".repeat((16 << 20) + 1), "16 MiB");
}

/// A medium whose first export has `old` and `used` besides what the second one has, and a copy of the
/// medium as it was then.
///
/// A medium keeps what was exported to it, so the second export goes to a copy that never had them.
struct Pruning {
    update: Update,
}

const OLD: &str = "docker.io/library/old:1";
const USED: &str = "docker.io/library/used:1";
const PULLED: &str = "docker.io/library/pulled:1";
const OTHER: &str = "docker.io/library/other:1";
const FOREIGN: &str = "docker.io/library/foreign:1";

impl Pruning {
    fn new() -> Self {
        let extra = |name: &str, seed| image(name).layer(program("podmain")).layer(large(seed));
        let older = layout().with(pause()).with(image(APP).layer(program("podmain")).layer(large(2)));
        let newer = layout().with(pause()).with(image(APP).layer(program("podmain")).layer(large(3)));
        let update = Update::new(&layout().with(pause()), &newer);
        older
            .with(extra(OLD, 5))
            .with(extra(USED, 6))
            .with(extra(PULLED, 11))
            .write_dir(&update.path("first"));
        update.export(0, "first", "old", &[]);
        // A copy goes on from what both had when it was made, and drops three images of it.
        copy(&update.path("old"), &update.path("new"));
        let dropped = ["--image", OLD, USED, PULLED];
        run(0, ["prune", text(&update.path("new"))].into_iter().chain(dropped));
        layout().with(extra(OTHER, 12)).write_dir(&update.path("other-layout"));
        update.export(0, "other-layout", "other", &[]);
        for turn in 7..9 {
            layout().with(extra(TOOL, turn)).write_dir(&update.path(&format!("tool-{turn}")));
        }
        // The same number of exports, and one more.
        update.export(0, "tool-7", "new", &[]);
        update.export(0, "tool-8", "new", &[]);
        update.export(0, "new-layout", "new", &[]);
        Self { update }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.update.path(name)
    }
}

fn copy(from: &Path, to: &Path) {
    crate::support::layout::write_files(
        to,
        crate::support::carry::files(from).into_iter().map(|(path, bytes)| (text(&path).to_owned(), bytes)),
    );
}

/// What CRI lists once it has taken note of what was removed.
fn listed(node: &Node, gone: &[&str]) -> Vec<String> {
    for _ in 0..500 {
        let images = node.client().cri_list_images().unwrap();
        let names: Vec<String> = images
            .into_iter()
            .flat_map(|image| [image.tags, image.digests, vec![image.id.to_string()]].concat())
            .collect();
        if gone.iter().all(|gone| !names.iter().any(|name| name.starts_with(gone))) {
            return names;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("CRI still lists some of {gone:?}");
}

fn names_of(pruned: &Value, list: &str) -> Vec<String> {
    let images = pruned["prune"][list].as_array().unwrap_or_else(|| panic!("{pruned}")).iter();
    images.map(|image| image["names"][0].as_str().unwrap().to_owned()).collect()
}

#[test]
fn pruning_takes_away_what_the_medium_dropped_and_nothing_else() {
    let bench = Pruning::new();
    let (old, new) = (bench.path("old"), bench.path("new"));
    let foreign = bench.path("foreign.tar");
    fs::write(&foreign, layout().with(image(FOREIGN).layer(large(9))).oci_archive()).unwrap();
    for version in versions() {
        let node = Node::start(version);
        import(0, &node, &old, &[]);
        node.ctr(&["images", "import", text(&foreign)]);
        // A pull that moves a name keeps our labels on it.
        let pulled = node.client().image(FOREIGN).unwrap().unwrap().target;
        node.client().set_image(PULLED, &pulled, &Default::default()).unwrap();
        let before = node.client().list_images().unwrap();
        let pod = node.leave_pod(USED);
        // What the moved name left is gone before anything is counted.
        node.client().collect_garbage().unwrap();
        let blobs = node.client().blobs().unwrap().len();

        let plan = import(0, &node, &new, &["--prune", "--dry-run"]).json();
        assert_eq!(names_of(&plan, "kept"), [USED], "{plan}");
        let removed = names_of(&plan, "removed");
        // The older app under its digests, the image that `pulled` was, and what is dropped.
        assert_eq!(removed.len(), 3, "{version}: {plan}");
        assert_eq!(node.client().list_images().unwrap().len(), before.len());
        assert_eq!(node.client().blobs().unwrap().len(), blobs);

        let done = import(0, &node, &new, &["--prune"]).json();
        assert_eq!(names_of(&done, "removed"), removed, "{done}");
        assert!(done["bytesFreed"].as_u64().unwrap() > 1_000_000, "{done}");
        let reason = &done["prune"]["kept"][0]["reason"];
        assert!(reason.as_str().unwrap().contains("container"), "{done}");
        let names = listed(&node, &["docker.io/library/old", "docker.io/library/pulled@"]);
        for name in [APP, TOOL, USED, PULLED, FOREIGN, "registry.k8s.io/pause:3.10"] {
            assert!(names.contains(&name.to_owned()), "{version}: {name} in {names:?}");
        }
        // The older app had this id; nothing of it is left, CRI's own record included.
        let records = node.client().list_images().unwrap();
        let ids: Vec<&str> =
            plan["prune"]["removed"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap()).collect();
        for id in ids {
            assert!(!records.iter().any(|record| record.name == id), "{version}: {id}");
            assert!(node.client().blob(id.parse().unwrap()).unwrap().is_none(), "{version}: {id}");
        }
        assert_starts(&node, USED);
        assert_starts(&node, APP);

        node.remove_pod(&pod);
        let done = import(0, &node, &new, &["--prune"]).json();
        assert_eq!(names_of(&done, "removed"), [USED], "{done}");
        listed(&node, &["docker.io/library/used"]);
        let again = import(0, &node, &new, &["--prune"]).json();
        assert_eq!((names_of(&again, "removed").len(), names_of(&again, "kept").len()), (0, 0), "{again}");
        // The medium as it was brings back what it had, and takes away nothing that is newer.
        let back = import(0, &node, &old, &["--prune", OLD]).json();
        assert_eq!(names_of(&back, "removed").len(), 0, "{back}");
        assert_starts(&node, TOOL);
        import(0, &node, &new, &["--prune"]);

        // What another medium brought stays, until it is said that there is no other.
        import(0, &node, &bench.path("other"), &[]);
        let done = import(0, &node, &new, &["--prune"]).json();
        assert_eq!(names_of(&done, "removed").len(), 0, "{done}");
        let done = import(0, &node, &new, &["--prune=all"]).json();
        assert_eq!(names_of(&done, "removed"), [OTHER], "{done}");
        let names = listed(&node, &["docker.io/library/other"]);
        assert!(names.contains(&FOREIGN.to_owned()) && names.contains(&TOOL.to_owned()), "{names:?}");
    }
}

/// What `diff` tells of two sides: names added, removed and changed, and how many are the same.
fn diff(node: &Node, from: &str, to: &str) -> (Value, [Vec<String>; 3], u64) {
    let socket = node.socket();
    let diff = run(0, ["diff", from, to, "--address", text(&socket), "--json"]).json();
    let names = |list: &str| {
        let images = diff[list].as_array().unwrap_or_else(|| panic!("{diff}")).iter();
        images.map(|image| image["name"].as_str().unwrap().to_owned()).collect()
    };
    let names = [names("added"), names("removed"), names("changed")];
    let same = diff["same"].as_u64().unwrap();
    (diff, names, same)
}

#[test]
fn media_inventories_and_a_node_are_compared_alike() {
    let Some(version) = versions().pop() else { return };
    let update = update();
    update.export(0, "new-layout", "new", &[]);
    let (old, new) = (update.path("old"), update.path("new"));
    let (old, new) = (text(&old), text(&new));
    // gzip on the node, zstd on the media: the same layers.
    let node = update.pulled(version);
    let inventory = inventory(&update, &node, "node.json");
    let differs = [vec![TOOL.to_owned()], vec![], vec![APP.to_owned()]];
    for from in [old, text(&inventory), "node"] {
        let (told, names, same) = diff(&node, from, new);
        assert_eq!((&names, same), (&differs, 1), "{from}: {told}");
        let carried = update
            .record("new")
            .layers
            .iter()
            .filter(|layer| update.record("old").layer(&layer.diff_id).is_none())
            .map(|layer| layer.encodings[0].size)
            .sum::<u64>();
        assert_eq!(told["bytesToCarry"].as_u64(), Some(carried), "{told}");
        assert_eq!(told["layersAdded"].as_array().unwrap().len(), 2, "{told}");
        let (_, names, same) = diff(&node, from, old);
        assert_eq!((names, same), ([vec![], vec![], vec![]], 2), "{from}");
    }
    let (_, names, _) = diff(&node, new, "node");
    assert_eq!(names, [vec![], vec![TOOL.to_owned()], vec![APP.to_owned()]]);

    import(0, &node, &update.path("new"), &[]);
    let (told, names, _) = diff(&node, "node", new);
    assert_eq!(names, [vec![], vec![], Vec::<String>::new()], "{told}");
    let ran = run(0, ["diff", old, new, "--layers"]);
    assert!(ran.stdout().contains("+ docker.io/library/tool:1") && ran.stdout().contains("+ layer sha256:"));
    run(1, ["diff", old, text(&update.path("absent"))]);
}

/// An inventory changed as its JSON.
fn changed(path: &Path, change: impl FnOnce(&mut Value)) -> PathBuf {
    let mut listed: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut listed);
    let path = path.with_extension("changed.json");
    fs::write(&path, listed.to_string()).unwrap();
    path
}

/// The diff_ids of the layers of an image on a medium.
fn layers(record: &Record, name: &str) -> Vec<pannier::image::Digest> {
    let named = |image: &&pannier::record::Image| image.names.iter().any(|own| own.to_string() == name);
    record.images.iter().find(named).unwrap().platforms[0].diff_ids.clone()
}

const PAUSE: &str = crate::support::node::PAUSE;

#[test]
fn a_blob_that_only_an_inventory_vouches_for_is_decoded_before_it_counts() {
    for version in versions() {
        let update = update();
        let node = Node::start(version);
        import(0, &node, &update.path("old"), &[PAUSE]);
        let record = update.record("old");
        let (lied, pause) = (layers(&record, APP)[1], layers(&record, PAUSE)[0]);
        let inventory = inventory(&update, &node, "node.json");
        let inventory = changed(&inventory, |listed| {
            listed["layers"][lied.to_string()] = listed["layers"][pause.to_string()].clone();
            // No blob holds two layers: that would be seen at once.
            let nowhere = pannier::image::Digest::of(b"nowhere").to_string();
            listed["layers"][pause.to_string()][0]["digest"] = nowhere.into();
        });
        top_up(&update, &[&inventory]);
        assert_eq!(absent(&update.record("new")), 2, "the sandbox image's layer, and what it is said to be");
        let before = node.client().list_images().unwrap().len();
        let blobs = node.client().blobs().unwrap().len();
        let ran = import(3, &node, &update.path("new"), &["--no-unpack"]);
        assert!(ran.stdout().contains("was taken for layer"), "{}", ran.stdout());
        assert!(ran.stderr().contains(&lied.to_string()), "{}", ran.stderr());
        assert_eq!(node.client().blobs().unwrap().len(), blobs, "before the first byte");
        // containerd finds it out when it unpacks, and the image gets no name.
        import(4, &node, &update.path("new"), &[]);
        assert!(node.client().image(APP).unwrap().is_none());
        assert_eq!(node.client().list_images().unwrap().len(), before);
        import(0, &node, &update.path("old"), &[]);
        import(0, &node, &update.path("new"), &["--no-unpack"]);
        assert_starts(&node, APP);
    }
}

#[test]
fn a_damaged_layer_that_was_left_out_is_called_damaged_and_mended() {
    let Some(version) = versions().pop() else { return };
    let update = update();
    let node = update.imported(version);
    top_up(&update, &[&inventory(&update, &node, "node.json")]);
    let old = update.record("old");
    let layer = layers(&old, APP)[1];
    let blob = old.layer(&layer).unwrap().encodings[0].digest;
    let file = node.blob_file(&blob.hex());
    let before = node.client().list_images().unwrap().len();
    let good = fs::read(&file).unwrap();
    let damages: [(&str, &[&str]); 3] = [("gone", &[]), ("cut off", &[]), ("flipped", &["--repair"])];
    for (what, more) in damages {
        match what {
            "gone" => fs::remove_file(&file).unwrap(),
            "cut off" => fs::write(&file, &good[..good.len() / 2]).unwrap(),
            _ => crate::support::carry::flip(&file),
        }
        let ran = import(4, &node, &update.path("new"), more);
        let said = ran.stderr();
        assert!(said.contains(&blob.to_string()) && said.contains("damaged"), "{what}: {said}");
        assert!(said.contains("--repair"), "{what}: {said}");
        assert_eq!(node.client().list_images().unwrap().len(), before, "{what}");
        import(0, &node, &update.path("old"), &["--repair"]);
        assert_eq!(fs::read(&file).unwrap(), good, "{what}");
    }
    import(0, &node, &update.path("new"), &[]);
    assert_starts(&node, APP);
}

#[test]
fn what_nodes_of_one_platform_hold_is_carried_for_the_others() {
    let Some(version) = versions().pop() else { return };
    let shared = large(1);
    let set = |top: u64| {
        use crate::support::image::{index, unnamed};
        let of = |platform, seed| unnamed().platform(platform).layer(shared.clone()).layer(large(seed));
        layout().with(index(APP).with(of("linux/amd64", top)).with(of("linux/arm64/v8", top + 1)))
    };
    let update = Update::new(&set(2), &set(4));
    let node = update.imported(version);
    let inventory = inventory(&update, &node, "node.json");
    update.export(0, "new-layout", "one", &["--have", text(&inventory), "--no-delta"]);
    assert_eq!(absent(&update.record("one")), 1);
    let both = ["--have", text(&inventory), "--no-delta", "--platform", "linux/arm64/v8"];
    update.export(0, "new-layout", "both", &both);
    assert_eq!(absent(&update.record("both")), 0, "no arm64 node says that it has the shared layer");
    // The medium that amd64 nodes imported says nothing of arm64 either.
    let have = format!("medium:{}", update.path("old").display());
    update.export(0, "new-layout", "media", &["--have", &have, "--no-delta", "--platform", "linux/arm64/v8"]);
    assert_eq!(absent(&update.record("media")), 0);
    let other = Node::start(version);
    import(0, &other, &update.path("both"), &["--platform", "linux/arm64/v8", "--no-unpack"]);
    import(0, &node, &update.path("one"), &[]);
}

#[test]
fn a_top_up_is_repaired_like_any_medium() {
    let Some(version) = versions().pop() else { return };
    let edition = |number: u8| {
        let mut data = half_random(2, 2_000_000);
        data[1_000_000] ^= number;
        let app = image(APP).layer(program("podmain")).layer(tar_of([("data".to_owned(), data)]));
        layout().with(pause()).with(app).with(image(TOOL).layer(program("podmain")).layer(large(3)))
    };
    let update = Update::new(&edition(0), &edition(1));
    let node = update.imported(version);
    let inventory = inventory(&update, &node, "node.json");
    let have = format!("medium:{}", update.path("old").display());
    let medium = update.path("new");
    let from = crate::support::carry::oci(&update.path("new-layout"));
    for more in [&["--have", text(&inventory), "--no-delta"][..], &["--have", &have]] {
        update.export(0, "new-layout", "new", more);
        let record = update.record("new");
        let deltas = !record.deltas.is_empty();
        assert_eq!(deltas, more.len() == 2);
        let before = crate::support::carry::files(&medium);
        for path in before.keys().filter(|path| path.starts_with("blobs")) {
            crate::support::carry::flip(&medium.join(path));
        }
        run(4, ["verify", text(&medium)]);
        crate::support::carry::repair(0, &medium, &["--from", &from]);
        run(0, ["verify", "--deep", text(&medium)]);
        assert_eq!(crate::support::carry::files(&medium), before, "the same, and nothing that was left out");

        // A delta is made by an export alone, which the repair says.
        for path in before.keys().filter(|path| path.starts_with(".pannier/deltas")) {
            crate::support::carry::flip(&medium.join(path));
            let told = crate::support::carry::repair(4, &medium, &["--from", &from]);
            assert!(told["lost"][0]["reason"].as_str().unwrap().contains("--have"), "{told}");
            assert!(run(0, ["repair", "--dry-run", text(&medium)]).stdout().contains("delta"));
            update.export(0, "new-layout", "new", more);
            run(0, ["verify", "--deep", text(&medium)]);
        }
        import(0, &node, &medium, &[]);
        assert_starts(&node, TOOL);
        fs::remove_dir_all(&medium).unwrap();
    }
}

#[test]
fn inventories_are_signed_and_unsigned_ones_refused_where_that_is_asked() {
    let Some(version) = versions().pop() else { return };
    let update = update();
    let node = update.imported(version);
    let key = |name: &str| {
        let path = update.path(name);
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", text(&path)])
            .status();
        assert!(made.unwrap().success());
        (path.clone(), fs::read_to_string(path.with_extension("pub")).unwrap())
    };
    let ((own, public), (other, _)) = (key("own"), key("other"));
    let signers = update.path("signers");
    fs::write(&signers, format!("node1 {public}")).unwrap();
    let path = update.path("node.json");
    let take = |key: &Path| {
        let socket = node.socket();
        let taken = ["inventory", "--address", text(&socket), "-o", text(&path), "--sign-key", text(key)];
        run(0, taken);
    };
    let export = |status, to| {
        let more = ["--have", text(&path), "--inventory-signers", text(&signers)];
        update.export(status, "new-layout", to, &more).stderr()
    };
    take(&own);
    export(0, "new");
    assert_eq!(absent(&update.record("new")), 3);
    // ssh-keygen takes the signature for what it is.
    let verified = std::process::Command::new("ssh-keygen")
        .args(["-Y", "verify", "-n", "pannier-inventory-v1", "-I", "node1", "-f", text(&signers), "-s"])
        .arg(update.path("node.json.sig"))
        .stdin(fs::File::open(&path).unwrap())
        .status();
    assert!(verified.unwrap().success());

    let good = fs::read(&path).unwrap();
    let refused = |what: &str| {
        let error = export(4, "refused");
        assert!(error.contains("not to be trusted") && error.contains("node.json"), "{what}: {error}");
        assert!(!update.path("refused/.pannier").exists(), "{what}");
    };
    fs::write(&path, [&good[..], b" "].concat()).unwrap();
    refused("changed");
    fs::write(&path, "{").unwrap();
    refused("not even parsed");
    take(&other);
    refused("signed by somebody else");
    fs::write(&path, &good).unwrap();
    let sign = |namespace: &str| {
        let _ = fs::remove_file(update.path("node.json.sig"));
        let signed = std::process::Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f", text(&own), text(&path)])
            .stderr(std::process::Stdio::null())
            .status();
        assert!(signed.unwrap().success());
    };
    sign("pannier-commit-v1");
    refused("a signature that is for media");
    sign("pannier-inventory-v1");
    export(0, "again");
    fs::remove_file(update.path("node.json.sig")).unwrap();
    refused("unsigned");
    update.export(0, "new-layout", "unasked", &["--have", text(&path)]);
}
