//! The documentation: links lead somewhere, lines are short, commands exist and run, and what is said of documents,
//! findings, faults and hostile media is what the code and the tests have.
//!
//! A block of shell commands says in its first line who runs it: `sh run` is run here, in a directory that has what the
//! block speaks of; `sh node` is run by `tests/node/docs.rs`; `sh no-run` needs a network, a device or a whole system.
//! In all of them every command of `pannier` has to be one that the program understands.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::carry::run;
use crate::support::pages::{Desk, files_below, pages, read, root, spans, split};
use serde_json::Value;

/// The name of a heading in a link, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(page: &str) -> BTreeSet<String> {
    let (_, prose) = split(page);
    prose
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut checked = 0;
    for path in files_below(root(), ".md") {
        let page = read(&path);
        let (_, prose) = split(&page);
        for link in prose.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", path.display());
            let known = || anchors(&read(&target));
            assert!(anchor.is_empty() || known().contains(anchor), "{}: no heading {link}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked} links were found");
}

#[test]
fn every_page_of_docs_is_in_its_index() {
    let index = read(&root().join("docs/README.md"));
    for path in files_below(&root().join("docs"), ".md") {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name == "README.md" || index.contains(&format!("({name})")), "docs/README.md lacks {name}");
    }
}

#[test]
fn lines_are_short_and_the_first_page_is_one() {
    for path in pages() {
        for (number, line) in read(&path).lines().enumerate() {
            // A row of a table cannot be broken.
            let is_row = line.starts_with('|');
            assert!(is_row || line.chars().count() < 120, "{}:{}: {line}", path.display(), number + 1);
        }
    }
    let lines = read(&root().join("README.md")).lines().count();
    assert!(lines <= 120, "README.md has {lines} lines");
}

/// Lines of shell as lists of words, one for each command; comments and redirections are gone.
fn commands(shell: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    for line in shell.replace("\\\n", " ").lines() {
        let (mut word, mut quote, mut is_word, mut skip) = (String::new(), None, false, false);
        let line = line.chars().chain(['\n']);
        for c in line {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '\'' | '"') => (quote, is_word) = (Some(c), true),
                (None, '#') if !is_word => break,
                (None, ' ' | '\n' | '|' | '&' | ';' | '>' | '<') => {
                    if is_word && !skip {
                        commands.last_mut().unwrap().push(std::mem::take(&mut word));
                    }
                    if is_word {
                        (word, is_word, skip) = (String::new(), false, false);
                    }
                    match c {
                        '>' | '<' => skip = true,
                        '|' | '&' | ';' | '\n' => commands.push(Vec::new()),
                        _ => {}
                    }
                }
                (_, c) => {
                    word.push(c);
                    is_word = true;
                }
            }
        }
        commands.push(Vec::new());
    }
    for command in &mut commands {
        let settings = command.iter().take_while(|word| word.contains('=') && !word.starts_with('-')).count();
        command.drain(..settings);
    }
    commands.retain(|command| !command.is_empty());
    commands
}

#[test]
fn shell_is_split_as_a_shell_does() {
    let split = commands("A=b cat x | pannier a 'b c' \\\n  --d > e # f\nmake g && pannier h\n");
    assert_eq!(
        split,
        [&["cat", "x"][..], &["pannier", "a", "b c", "--d"], &["make", "g"], &["pannier", "h"]]
    );
}

#[test]
fn commands_that_are_shown_exist() {
    let makefile = read(&root().join("Makefile"));
    let (mut programs, mut made) = (0, 0);
    for path in pages() {
        for block in split(&read(&path)).0 {
            let at = format!("{}:{}", path.display(), block.line);
            if block.info.split(' ').next() == Some("sh") {
                let marked = ["sh run", "sh node", "sh no-run"].contains(&&*block.info);
                assert!(marked, "{at}: say `sh run`, `sh node` or `sh no-run`");
            } else {
                let shell = ["bash", "shell", "shell-session"].contains(&&*block.info);
                let unmarked =
                    block.info.is_empty() && block.code.lines().any(|line| line.starts_with("pannier "));
                assert!(!shell && !unmarked, "{at}: commands stand in blocks of `sh`");
                continue;
            }
            for command in commands(&block.code) {
                let words = command.iter().map(String::as_str);
                match command[0].rsplit('/').next().unwrap() {
                    "pannier" => {
                        let parsed = pannier::cli::parses(words);
                        parsed.unwrap_or_else(|error| panic!("{at}: {}: {error}", command.join(" ")));
                        programs += 1;
                    }
                    "make" => {
                        for target in words.skip(1).filter(|word| !word.contains('=')) {
                            assert!(makefile.contains(&format!("\n{target}:")), "{at}: no make {target}");
                            made += 1;
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    assert!(programs > 40 && made > 5, "{programs} commands and {made} targets were found");
}

/// The options of each command, as its help has them.
fn options() -> BTreeMap<String, String> {
    let help = run(0, ["--help"]).stdout();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.starts_with("  ")).filter(|line| !line.starts_with("   "));
    let names = listed.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(|name| (name.to_owned(), run(0, [name, "--help"]).stdout()))
        .collect()
}

#[test]
fn options_that_the_text_speaks_of_exist() {
    let options = options();
    assert!(options.len() > 15, "{:?}", options.keys());
    let mut checked = 0;
    for path in pages() {
        let page = read(&path);
        let (_, prose) = split(&page);
        for span in spans(&prose) {
            let mut words = span.split_whitespace().map(|word| word.split('=').next().unwrap()).peekable();
            words.next_if_eq(&"pannier");
            let Some((name, help)) = words.next().and_then(|name| options.get_key_value(name)) else {
                continue;
            };
            for option in words.filter(|word| word.starts_with("--")) {
                let there = help.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == option);
                assert!(there, "{}: `{span}`: {name} has no {option}", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 40, "{checked} options were found");
}

#[test]
fn blocks_that_can_run_here_run() {
    let mut ran = 0;
    for path in pages() {
        let page = read(&path);
        let (blocks, _) = split(&page);
        let blocks: Vec<_> = blocks.into_iter().filter(|block| block.info == "sh run").collect();
        if blocks.is_empty() {
            continue;
        }
        let desk = Desk::new();
        for block in blocks {
            eprintln!("{}:{}", path.display(), block.line);
            desk.run(&block.code);
            ran += 1;
        }
    }
    assert!(ran > 10, "{ran} blocks were run");
}

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
        "sign media/stick --key .ssh/id_ed25519",
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

#[test]
fn the_page_of_faults_has_every_row_of_the_matrix() {
    let page = read(&root().join("docs/faults.md"));
    let mut rows = 0;
    for row in read(&root().join("tests/faults/matrix.txt")).lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = row.split('|').map(str::trim).take(3).collect();
        let row = format!("| {} |", fields.join(" | "));
        assert!(page.contains(&row), "docs/faults.md lacks {row}");
        rows += 1;
    }
    assert!(
        page.contains(&format!("All {rows} rows")),
        "docs/faults.md has another number of rows than {rows}"
    );
}

#[test]
fn the_list_of_hostile_media_names_every_test_and_no_other() {
    let page = read(&root().join("docs/hostile-media.md"));
    let mut listed: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| H")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let number = cells[0].trim_start_matches("| H").parse().unwrap();
        listed.insert(number, spans(cells[3]).into_iter().collect());
    }
    assert_eq!(listed.keys().copied().collect::<Vec<_>>(), (1..=64).collect::<Vec<_>>());
    let mut tests: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for path in files_below(&root().join("tests"), ".rs") {
        for line in read(&path).lines().filter_map(|line| line.trim_start().strip_prefix("fn h")) {
            let name = format!("h{}", line.split('(').next().unwrap());
            let number = |part: &str| {
                part.strip_prefix('h').filter(|n| n.len() == 2).and_then(|n| n.parse::<u32>().ok())
            };
            for number in name.split('_').map_while(number) {
                tests.entry(number).or_default().insert(name.clone());
            }
        }
    }
    for (number, names) in listed {
        let names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
        assert_eq!(Some(&names), tests.get(&number), "H{number}");
    }
}

#[test]
fn files_that_the_text_speaks_of_exist() {
    let mut checked = 0;
    for path in pages() {
        let page = read(&path);
        let (_, prose) = split(&page);
        for span in spans(&prose) {
            let folders = ["src/", "tests/", "docs/", "fixtures/", "examples/", "proto/", ".ci/"];
            let is_path =
                folders.iter().any(|folder| span.starts_with(folder)) && !span.contains([' ', '*', '<']);
            if is_path {
                assert!(root().join(span).exists(), "{}: there is no {span}", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 30, "{checked} paths were found");
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
        "Input/output error",
        "No space left on device",
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
