//! What the documentation says of JSON documents, findings and messages is what the code has.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::pages::{Desk, files_below, read, root, spans, split};

/// Every key of a document, at any depth; those of maps by digest, name or medium are none.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        Value::Object(members) => {
            for (key, value) in members {
                let is_word = key.chars().all(|c| c.is_ascii_alphanumeric());
                if is_word && !(key.len() == 32 && key.chars().all(|c| c.is_ascii_hexdigit())) {
                    found.insert(key.clone());
                }
                keys(value, found);
            }
        }
        _ => {}
    }
}

/// The words in code on the page about scripts.
fn described() -> BTreeSet<String> {
    let page = read(&root().join("docs/scripting.md"));
    let (_, prose) = split(&page);
    spans(&prose).into_iter().map(str::to_owned).collect()
}

#[test]
fn every_field_of_a_document_is_described() {
    let described = described();
    let desk = Desk::new();
    let mut tried = 0;
    for command in [
        "export --from oci:newer --all --to media/stick --dry-run",
        "export --from oci:newer --all --file k8s.snap --recovery 10% --lane a --expires 9d --to media/stick",
        "export --list images.txt --list-only",
        "export --from oci:newer --all --to media/topup --have medium:media/stick",
        "export --from oci:images --all --to media/one --to media/two",
        "list media/stick",
        "list media/topup",
        "list media/one",
        "verify --deep media/topup",
        "files media/stick",
        "extract media/stick --all --lane a -o root/files",
        "diff media/one media/stick",
        "repair media/stick --from oci:newer --dry-run",
        "repair media/stick",
        "prune media/stick --dry-run",
        "prune media/stick",
        "sign media/stick --key .ssh/id_ed25519 --yes",
        "trust",
        "limits",
        "install-units --root root --program /usr/bin/pannier",
        "verify nowhere || test $? = 1",
    ] {
        let printed = desk.run(&format!("pannier --json {command}"));
        assert!(!printed.is_empty(), "{command}");
        let mut found = BTreeSet::new();
        for line in printed.lines() {
            let document: Value = serde_json::from_str(line).unwrap();
            keys(&document, &mut found);
            if let Some(event) = document["event"].as_str() {
                found.insert(event.to_owned());
            }
        }
        for key in found {
            assert!(key == "event" || described.contains(&key), "docs/scripting.md: {command}: no `{key}`");
        }
        tried += 1;
    }
    assert_eq!(tried, 21);
}

/// The words with hyphens that stand alone between quotes in the code below a path, tests left out.
fn ids(path: &str) -> BTreeSet<String> {
    let path = root().join(path);
    let sources = if path.is_dir() { files_below(&path, ".rs") } else { vec![path] };
    let mut found = BTreeSet::new();
    for source in sources {
        let code = read(&source);
        let code = code.split("#[cfg(test)]").next().unwrap();
        let is_id = |word: &&str| {
            word.contains('-')
                && word
                    .split('-')
                    .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase()))
        };
        found.extend(code.split('"').skip(1).step_by(2).filter(is_id).map(str::to_owned));
    }
    found
}

#[test]
fn every_finding_is_described() {
    let described = described();
    for (path, least) in [("src/verify.rs", 15), ("src/verify", 8), ("src/doctor/checks", 35)] {
        let ids = ids(path);
        assert!(ids.len() >= least, "{path}: {ids:?}");
        for id in ids {
            assert!(described.contains(&id), "docs/scripting.md has no `{id}` of {path}");
        }
    }
}

/// Keys of documents in a piece of code: before a colon in JSON, in brackets, and members of what is serialised.
fn keys_in(code: &str) -> BTreeSet<String> {
    let code = code.split("#[cfg(test)]").next().unwrap();
    let mut found = BTreeSet::new();
    let quoted: Vec<&str> = code.split('"').collect();
    for (before, word, after) in quoted.windows(3).step_by(1).map(|part| (part[0], part[1], part[2])) {
        let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric());
        let is_member = after.starts_with(": ") && before.trim_end().ends_with(['{', ',']);
        let is_set = before.ends_with("document[") && after.starts_with("] =");
        if is_word && (is_member || is_set) {
            found.insert(word.to_owned());
        }
    }
    let (mut serialised, mut inside) = (false, false);
    for line in code.lines().map(str::trim) {
        if line.starts_with("#[derive(") {
            serialised = line.contains("Serialize");
        } else if line.contains("struct ") && line.ends_with('{') {
            inside = serialised;
        } else if line == "}" {
            inside = false;
        } else if let Some((name, _)) = line.trim_start_matches("pub ").split_once(": ").filter(|_| inside)
            && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            let mut words = name.split('_');
            let first = words.next().unwrap().to_owned();
            found.insert(
                words.fold(first, |name, word| format!("{name}{}{}", word[..1].to_uppercase(), &word[1..])),
            );
        }
    }
    found
}

#[test]
fn every_field_in_the_code_is_described() {
    let described = described();
    let mut count = 0;
    let written = ["src/diff.rs", "src/images.rs", "src/inventory.rs", "src/repair.rs", "src/verify.rs"];
    let written =
        written.iter().map(|path| root().join(path)).chain(files_below(&root().join("src/cli"), ".rs"));
    for path in written {
        let found = keys_in(&read(&path));
        count += found.len();
        for key in found {
            assert!(described.contains(&key), "docs/scripting.md has no `{key}` of {}", path.display());
        }
    }
    assert!(count > 150, "{count} keys were found");
}

#[test]
fn messages_that_can_be_looked_up_are_messages_of_the_program() {
    let code: String = files_below(&root().join("src"), ".rs").iter().map(|path| read(path)).collect();
    // What the system says, or is put together.
    let foreign = [
        "Connection refused",
        "Input/output error",
        "No space left on device",
        "Permission denied",
        "Read-only file system",
        "medium: cannot write ...",
        "medium: N findings of damage",
    ];
    let mut checked = 0;
    for row in read(&root().join("docs/troubleshooting.md")).lines().filter(|line| line.starts_with("| `")) {
        let message = spans(row.split(" | ").next().unwrap());
        for span in message.into_iter().filter(|span| !foreign.contains(span)) {
            let said = span.replace("warning: ", "");
            let sides = ["source: ", "medium: ", "node: "].iter();
            let said = sides.fold(said, |said, side| said.trim_start_matches(side).to_owned());
            // What stands for a name or a number.
            let parts = said
                .split("...")
                .flat_map(|part| part.split(|c: char| c.is_ascii_digit() || c.is_ascii_uppercase()));
            for part in parts.map(str::trim).filter(|part| part.len() >= 10) {
                assert!(code.contains(part), "docs/troubleshooting.md: the program does not say {part:?}");
                checked += 1;
            }
        }
    }
    assert!(checked > 25, "{checked} parts of messages were found");
}
