//! Deltas: an update carried as what differs from what the nodes hold, and rebuilt there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::carry::{Ran, assert_names_only_what_is_there, files, flip, run, text};
use crate::support::cluster::{assert_starts, import, pause, program, versions};
use crate::support::image::{half_random, image, tar_of};
use crate::support::layout::{Layout, layout};
use crate::support::node::Node;
use crate::support::update::Update;
use pannier::image::Digest;
use pannier::layer::{Scratch, delta};
use pannier::record::Record;

const APP: &str = "docker.io/library/app:1";
const TOOL: &str = "docker.io/library/tool:1";

/// A tar of a program and of a large file, most of which stays from one edition to the next.
fn edition(seed: u64, edition: u8) -> Vec<u8> {
    let mut large = half_random(seed, 2_000_000);
    large[1_000_000] ^= edition;
    let mut tar = program("podmain");
    tar.truncate(tar.len() - 1024); // the two blocks that end it
    [tar, tar_of([("data/large".to_owned(), large), ("data/edition".to_owned(), vec![edition])])].concat()
}

/// Two images on a common layer, in an older or a newer edition.
fn set(number: u8) -> Layout {
    let base = edition(1, number);
    let top = |seed| {
        tar_of([("data/top".to_owned(), half_random(seed, 500_000)), ("data/n".to_owned(), vec![number])])
    };
    layout()
        .with(pause())
        .with(image(APP).layer(base.clone()).layer(top(2)))
        .with(image(TOOL).layer(base).layer(top(3)))
}

/// Both sets, the older one on the medium `old`.
fn update() -> Update {
    Update::new(&set(0), &set(1))
}

/// The same, with the newer set on the medium `new`, for nodes that have the older.
fn exported() -> Update {
    let update = update();
    top_up(&update, &[]);
    update
}

fn top_up(update: &Update, more: &[&str]) -> Ran {
    let have = format!("medium:{}", update.path("old").display());
    update.export(0, "new-layout", "new", &[&["--have", &have], more].concat())
}

/// The diff_ids of every image on the node, through the manifest that its name points at: from the
/// config, and from decoding each layer that the manifest lists.
fn assert_holds(node: &Node, newer: &Layout) {
    let client = node.client();
    for stored in newer.stored() {
        let [expected] = &stored.manifests[..] else { panic!() };
        for name in &stored.names {
            let target = client.image(name).unwrap().unwrap_or_else(|| panic!("{name}")).target;
            let read = |blob: &pannier::image::Descriptor| {
                let reader = client.read_blob(blob, 0).unwrap();
                pannier::content::read_all(reader, blob, pannier::Side::Node, 1 << 26).unwrap()
            };
            let manifest: serde_json::Value = serde_json::from_slice(&read(&target)).unwrap();
            let config = serde_json::from_value(manifest["config"].clone()).unwrap();
            assert_eq!(config, expected.config, "{name}");
            read(&config);
            let layers = manifest["layers"].as_array().unwrap().iter();
            let decoded: Vec<Digest> = layers
                .map(|layer| {
                    let blob = serde_json::from_value(layer.clone()).unwrap();
                    pannier::layer::check(read(&blob).as_slice(), pannier::layer::Most::Ratio)
                        .unwrap()
                        .diff_id
                })
                .collect();
            assert_eq!(decoded, expected.diff_ids, "{name}");
            // The proof of where it came from is there, byte for byte.
            read(&expected.descriptor);
            let repository = name.rsplit_once(':').unwrap().0;
            let by_digest = format!("{repository}@{}", stored.descriptor.digest);
            assert!(client.image(&by_digest).unwrap().is_some(), "{by_digest}");
        }
    }
}

#[test]
fn an_update_is_carried_as_what_differs() {
    let update = update();
    let first = top_up(&update, &[]).json();
    assert_eq!(first["deltasWritten"], 3, "{first}");
    assert!(first["bytesWritten"].as_u64().unwrap() < 20_000, "{first}"); // pause is left out
    let record = update.record("new");
    assert_eq!(record.deltas.len(), 3);
    assert_names_only_what_is_there(&update.path("new"));
    let index = fs::read_to_string(update.path("new/index.json")).unwrap();
    assert!(!index.contains("pause") && !index.contains(APP), "only whole images are for other tools");
    run(0, ["verify", "--deep", text(&update.path("new"))]);
    let listed = run(0, ["list", "--json", text(&update.path("new"))]).json();
    let deltas = |name: &str| {
        let images = listed["images"].as_array().unwrap();
        let image = images.iter().find(|image| image["names"][0] == name).unwrap();
        image["deltas"].as_array().map_or(0, Vec::len)
    };
    assert_eq!((deltas(APP), deltas(TOOL), deltas("registry.k8s.io/pause:3.10")), (2, 2, 0));
    let rests_on = &listed["images"][0]["restsOn"][0]["medium"];
    assert_eq!(rests_on["id"], update.record("old").medium.as_str(), "{listed}");
    assert_eq!(rests_on["sequence"], 1, "{listed}");

    let before = files(&update.path("new"));
    let again = top_up(&update, &[]).json();
    assert_eq!((again["changed"].as_bool(), again["bytesWritten"].as_u64()), (Some(false), Some(0)));
    assert_eq!(files(&update.path("new")), before);

    // For nodes of which nothing is known, everything is carried whole; other tools see it then.
    update.export(0, "new-layout", "new", &[]);
    assert_eq!((update.record("new").deltas, update.record("new").top_ups), (vec![], vec![]));
    assert!(fs::read_to_string(update.path("new/index.json")).unwrap().contains(APP));
    let report = run(0, ["verify", "--deep", "--json", text(&update.path("new"))]).json();
    assert!(report.to_string().contains("delta-unused"), "{report}");
}

#[test]
fn no_delta_and_no_compression_carry_every_layer_whole() {
    let update = update();
    for more in [&["--no-delta"][..], &["--compression", "none"]] {
        let done = top_up(&update, more).json();
        assert_eq!(done["deltasWritten"], 0);
        assert_eq!(update.record("new").deltas, []);
        fs::remove_dir_all(update.path("new")).unwrap();
    }
}

#[test]
fn a_base_that_cannot_be_had_is_noted_and_the_layer_carried_whole() {
    let update = update();
    let record = update.record("old");
    let base = record.images.iter().find(|i| i.names.iter().any(|n| n.to_string() == APP)).unwrap();
    let base = record.layer(&base.platforms[0].diff_ids[0]).unwrap().encodings[0].digest;
    flip(&update.path("old/blobs/sha256").join(base.hex()));
    let done = top_up(&update, &[]);
    assert_eq!(done.json()["deltasWritten"], 2);
    assert!(done.stdout().contains("no delta against layer"), "{}", done.stdout());
    run(0, ["verify", "--deep", text(&update.path("new"))]);
}

#[test]
fn the_older_image_at_the_source_serves_as_base() {
    let update = update();
    // The medium knows what the nodes have, and no longer has it; the source has both editions.
    for (name, _) in files(&update.path("old/blobs/sha256")) {
        let path = update.path("old/blobs/sha256").join(name);
        if fs::metadata(&path).unwrap().len() > 100_000 {
            fs::remove_file(path).unwrap();
        }
    }
    for (name, bytes) in files(&update.path("old-layout/blobs/sha256")) {
        fs::write(update.path("new-layout/blobs/sha256").join(name), bytes).unwrap();
    }
    assert_eq!(top_up(&update, &[]).json()["deltasWritten"], 3);
}

#[test]
fn a_delta_that_is_damaged_or_leads_elsewhere_is_found() {
    let update = exported();
    let record = update.record("new");
    let delta = update.path("new/.pannier/deltas").join(record.deltas[0].digest.hex());
    let good = fs::read(&delta).unwrap();
    flip(&delta);
    let found = run(4, ["verify", "--json", text(&update.path("new"))]).stdout();
    assert!(found.contains("blob-digest") && found.contains(APP), "{found}");
    fs::remove_file(&delta).unwrap();
    let found = run(4, ["verify", "--json", text(&update.path("new"))]).stdout();
    assert!(found.contains("blob-missing"), "{found}");
    // The next export carries it again.
    assert_eq!(top_up(&update, &[]).json()["deltasWritten"], 1);
    assert_eq!(fs::read(&delta).unwrap(), good);

    // On one medium with what they start from, deltas are applied.
    let have = format!("medium:{}", update.path("old").display());
    update.export(0, "new-layout", "old", &["--have", &have]);
    let report = run(0, ["verify", "--deep", "--json", text(&update.path("old"))]).json();
    assert!(!report.to_string().contains("delta-base"), "{report}");
}

#[test]
fn nodes_rebuild_the_layers_wherever_their_base_came_from() {
    let update = exported();
    let newer = set(1);
    for version in versions() {
        for node in [update.imported(version), update.pulled(version)] {
            let done = import(0, &node, &update.path("new"), &[]).json();
            assert_eq!(done["layersRebuilt"], 3, "{version}");
            assert_holds(&node, &newer);
            for name in [APP, TOOL] {
                assert_starts(&node, name);
            }
            let again = import(0, &node, &update.path("new"), &[]).json();
            assert_eq!((again["bytesSent"].as_u64(), again["layersRebuilt"].as_u64()), (Some(0), Some(0)));
        }
    }
}

#[test]
fn a_node_without_the_base_is_left_as_it_was() {
    let Some(version) = versions().pop() else { return };
    let update = exported();
    let node = Node::start(version);
    let ran = import(3, &node, &update.path("new"), &[]);
    assert!(ran.stderr().contains("lacks layer"), "{}", ran.stderr());
    let ran = import(3, &node, &update.path("new"), &[APP]);
    let medium = format!("export 1 of medium {}", update.record("old").medium);
    assert!(ran.stderr().contains("is to be rebuilt") && ran.stderr().contains(&medium), "{}", ran.stderr());
    assert!(node.client().blobs().unwrap().is_empty(), "found out before the first byte");
    drop(node);

    // Collected between the inventory and the import.
    let node = update.imported(version);
    for name in node.client().list_images().unwrap() {
        node.ctr(&["images", "rm", "--sync", &name.name]);
    }
    let ran = import(3, &node, &update.path("new"), &[APP]);
    assert!(ran.stderr().contains("is to be rebuilt"), "{}", ran.stderr());
    assert!(node.client().list_images().unwrap().is_empty());
}

#[test]
fn a_damaged_base_is_named_and_nothing_is_half_imported() {
    for version in versions() {
        let update = exported();
        let node = update.imported(version);
        let (old, new) = (update.record("old"), update.record("new"));
        let delta = new.deltas.iter().max_by_key(|delta| delta.base_size).unwrap();
        let blob = old.layer(&delta.base).unwrap().encodings[0].digest;
        flip(&node.blob_file(&blob.hex()));
        let before = names(&node);
        let ran = import(4, &node, &update.path("new"), &[]);
        assert!(ran.stderr().contains(&delta.base.to_string()), "{}", ran.stderr());
        assert!(
            ran.stderr().contains(&blob.to_string()) && ran.stderr().contains("damaged"),
            "{}",
            ran.stderr()
        );
        assert_eq!(names(&node), before, "the older images keep their names");
        assert!(node.client().blob(delta.diff_id).unwrap().is_none());
        assert!(crate::support::unfinished(&node.client()).is_empty());

        import(0, &node, &update.path("old"), &["--repair"]);
        import(0, &node, &update.path("new"), &[]);
        assert_holds(&node, &set(1));
    }
}

#[test]
fn a_damaged_delta_stops_its_images_and_no_other() {
    let Some(version) = versions().pop() else { return };
    let update = exported();
    let record = update.record("new");
    let top = |name: &str| {
        let image = record.images.iter().find(|i| i.names.iter().any(|n| n.to_string() == name)).unwrap();
        *image.platforms[0].diff_ids.last().unwrap()
    };
    let delta = record.deltas_to(top(TOOL)).next().unwrap();
    flip(&update.path("new/.pannier/deltas").join(delta.digest.hex()));
    let node = update.imported(version);
    let before = names(&node);
    let ran = import(4, &node, &update.path("new"), &[]);
    assert!(ran.stderr().contains(&delta.digest.to_string()), "{}", ran.stderr());
    let ran = import(4, &node, &update.path("new"), &["--keep-going"]);
    assert!(ran.stderr().contains(TOOL), "{}", ran.stderr());
    let after = names(&node);
    assert_eq!(before[TOOL], after[TOOL]);
    assert_ne!(before[APP], after[APP]);
    assert_starts(&node, APP);
}

#[test]
fn a_whole_delta_to_another_tar_never_becomes_a_blob() {
    let Some(version) = versions().pop() else { return };
    let update = exported();
    let (base, tar) = (edition(1, 0), edition(1, 1));
    let mut forged = tar.clone();
    *forged.last_mut().unwrap() = 1;
    let scratch = |bytes: &[u8]| {
        Scratch::unproven_tar(&std::env::temp_dir(), bytes, pannier::limits::DELTA_TAR).unwrap()
    };
    let made = delta::make(&scratch(&base), &scratch(&forged), pannier::limits::DELTA).unwrap().unwrap();
    let mut record = update.record("new");
    let leads = record.deltas.iter_mut().find(|delta| delta.diff_id == Digest::of(&tar)).unwrap();
    assert_eq!(leads.base, Digest::of(&base));
    (leads.digest, leads.size) = (Digest::of(&made.bytes), made.bytes.len() as u64);
    let patch = leads.digest;
    fs::write(update.path("new/.pannier/deltas").join(patch.hex()), &made.bytes).unwrap();
    replace_record(&update.path("new"), &record);
    let node = update.imported(version);
    let before = names(&node);
    let stderr = import(4, &node, &update.path("new"), &[]).stderr();
    assert!(stderr.contains(&format!("the delta {patch}")), "{stderr}");
    assert!(stderr.contains(&Digest::of(&forged).to_string()), "{stderr}");
    let node_has = |digest| node.client().blob(digest).unwrap().is_some();
    assert!(!node_has(Digest::of(&tar)) && !node_has(Digest::of(&forged)));
    assert_eq!(names(&node), before);
}

fn names(node: &Node) -> BTreeMap<String, Digest> {
    node.client().list_images().unwrap().into_iter().map(|image| (image.name, image.target.digest)).collect()
}

#[test]
fn scratch_files_are_gone_and_their_place_is_asked_for_beforehand() {
    let Some(version) = versions().pop() else { return };
    let update = exported();
    let node = update.imported(version);
    let small = update.path("small");
    fs::create_dir(&small).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs", text(&small)])
        .status();
    assert!(mounted.unwrap().success(), "a small filesystem is mounted");
    let socket = node.socket();
    let new = update.path("new");
    let import = |tmp: &Path| {
        let mut command =
            crate::support::carry::pannier(["import", text(&new), "--address", text(&socket), "--json"]);
        command.env("TMPDIR", tmp).output().unwrap()
    };
    let refused = import(&small);
    let left = fs::read_dir(&small).unwrap().count();
    assert!(std::process::Command::new("umount").arg(&small).status().unwrap().success());
    assert_eq!((refused.status.code(), left), (Some(5), 0), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(node.client().blob(update.record("new").deltas[0].diff_id).unwrap().is_none());
    fs::create_dir(update.path("large")).unwrap();
    assert!(import(&update.path("large")).status.success());
    assert_eq!(fs::read_dir(update.path("large")).unwrap().count(), 0);
}

/// Changes a record, knowing other layers that the node holds.
type Lie = fn(&mut Record, &[Digest]);

/// Writes `record` in the place of the newest one of a medium, whole and with its checksum.
fn replace_record(medium: &Path, record: &Record) {
    let name = format!(".pannier/commits/{:010}.json", record.sequence);
    fs::write(medium.join(name), record.to_bytes().unwrap()).unwrap();
}

#[test]
fn a_record_that_lies_about_a_delta_changes_nothing_on_the_node() {
    let Some(version) = versions().pop() else { return };
    let update = exported();
    let honest = update.record("new");
    let node = update.imported(version);
    let before = names(&node);
    let medium = update.path("new");
    let others: Vec<Digest> = honest.deltas.iter().map(|delta| delta.base).collect();
    // Images without that layer may be complete before the lie is found out.
    let layer = honest.deltas[0].diff_id;
    let concerned = honest.images.iter().filter(|image| image.platforms[0].diff_ids.contains(&layer));
    let concerned: Vec<String> = concerned.flat_map(|image| &image.names).map(ToString::to_string).collect();
    assert!(!concerned.is_empty() && concerned.iter().all(|name| before.contains_key(name)));
    let lies: [(&str, Lie); 7] = [
        ("another base", |record, others| {
            record.deltas[0].base = others[1];
            record.deltas[0].base_blobs.clear();
        }),
        ("another base's blobs", |record, _| {
            record.deltas[0].base_blobs = record.deltas[1].base_blobs.clone();
            record.deltas[0].base = Digest::of(b"nowhere");
        }),
        ("another patch", |record, _| {
            let other = record.deltas[1].clone();
            record.deltas[0].digest = other.digest;
            record.deltas[0].size = other.size;
        }),
        ("a base of one byte", |record, _| record.deltas[0].base_size = 1),
        ("a base of an exabyte", |record, _| record.deltas[0].base_size = 1 << 60),
        ("a patch of an exabyte", |record, _| record.deltas[0].size = 1 << 60),
        ("itself as base", |record, _| record.deltas[0].base = record.deltas[0].diff_id),
    ];
    for (what, lie) in lies {
        let mut record = honest.clone();
        lie(&mut record, &others);
        replace_record(&medium, &record);
        let socket = node.socket();
        let ran = crate::support::carry::pannier(["import", text(&medium), "--address", text(&socket)])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&ran.stderr);
        assert!(matches!(ran.status.code(), Some(1 | 4)), "{what}: {:?} {stderr}", ran.status);
        assert!(!stderr.contains("panicked"), "{what}: {stderr}");
        assert!(node.client().blob(honest.deltas[0].diff_id).unwrap().is_none(), "{what}");
        let after = names(&node);
        for name in &concerned {
            assert_eq!(after[name], before[name], "{what}: {stderr}");
        }
    }
    replace_record(&medium, &honest);
    import(0, &node, &medium, &[]);
    assert_holds(&node, &set(1));
}

#[test]
fn killed_while_it_rebuilds_it_completes_when_run_again() {
    use std::io::{BufRead, BufReader};
    let versions = versions();
    let update = exported();
    for moment in 0..9 {
        let Some(version) = versions.get(moment % 3) else { continue };
        let node = update.imported(version);
        let mut child = crate::support::cluster::import_command(&node, &update.path("new"))
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut events = BufReader::new(child.stdout.take().unwrap()).lines();
        events.by_ref().take(3 + 2 * moment).for_each(drop);
        child.kill().unwrap();
        child.wait().unwrap();
        for name in [APP, TOOL] {
            assert_starts(&node, name);
        }
        import(0, &node, &update.path("new"), &[]);
        assert_holds(&node, &set(1));
    }
}
