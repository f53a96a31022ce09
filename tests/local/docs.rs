//! The documentation: links lead somewhere, lines are short, and its lists are those of the tests.

mod commands;
mod documents;

use std::collections::{BTreeMap, BTreeSet};

use crate::support::pages::{files_below, pages, read, root, spans, split};

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
