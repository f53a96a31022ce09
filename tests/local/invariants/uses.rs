//! What each file of `src/` uses of the others, read from its paths: `use` lines, and `crate::` within code.
//!
//! Not a compiler: no macro is expanded, and a method that is called without its type being named is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A path such as `medium::durable::sync`, from the root of the crate.
type Names = Vec<String>;

/// A file of `src/`.
pub(super) struct Source {
    /// Its path below `src/`.
    pub(super) file: String,
    /// The module that it is; empty for `lib.rs`.
    pub(super) module: Names,
    /// What it says, without comments, the content of strings, and tests.
    pub(super) code: String,
    /// Names that it takes from elsewhere, with the path of each.
    taken: BTreeMap<String, Names>,
    /// What it takes all names of.
    globs: Vec<Names>,
    /// All paths in it, those of its code, and those of `use` lines that pass nothing on; what is of another crate
    /// begins with an empty name.
    paths: Vec<Names>,
}

/// All files of `src/` but `main.rs`, which is another program.
pub(super) struct Sources(pub(super) Vec<Source>);

impl Sources {
    pub(super) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        walk(&root, &root, &mut files);
        files.remove("main.rs");
        let modules: BTreeSet<Names> = files.keys().map(|file| module_of(file)).collect();
        Self(files.iter().map(|(file, text)| Source::read(file, text, &modules)).collect())
    }

    /// The files that a file uses, by the paths in it.
    pub(super) fn used_by(&self, source: &Source) -> BTreeSet<&str> {
        let reached = source.paths.iter().filter_map(|path| self.file_of(path, 0));
        reached.filter(|file| *file != source.file).collect()
    }

    fn at(&self, module: &[String]) -> Option<&Source> {
        self.0.iter().find(|source| source.module == module)
    }

    /// The file in which what a path names is written; none for a module as such.
    fn file_of(&self, path: &[String], depth: usize) -> Option<&str> {
        if path.first().is_some_and(String::is_empty) {
            return None;
        }
        let known = (0..=path.len()).rev().find(|length| self.at(&path[..*length]).is_some())?;
        let source = self.at(&path[..known])?;
        let name = path.get(known)?;
        let passed_on = source.taken.get(name).filter(|_| depth < 8).and_then(|real| {
            let real: Names = real.iter().chain(&path[known + 1..]).cloned().collect();
            self.file_of(&real, depth + 1)
        });
        let by_glob = || {
            source.globs.iter().find_map(|glob| {
                let there = self.at(glob)?;
                there.defines(name).then_some(there.file.as_str())
            })
        };
        passed_on.or_else(by_glob).or(Some(source.file.as_str()))
    }
}

impl Source {
    fn read(file: &str, text: &str, modules: &BTreeSet<Names>) -> Self {
        let code = without_tests(&bare(text));
        let mut source = Self {
            file: file.to_owned(),
            module: module_of(file),
            code: code.clone(),
            taken: BTreeMap::new(),
            globs: Vec::new(),
            paths: Vec::new(),
        };
        let words = words(&code);
        let (mut at, mut body, mut passed) = (0, BTreeSet::new(), Vec::new());
        let mut written: Vec<Names> = Vec::new();
        while at < words.len() {
            if words[at] == "use" {
                let end = (at..words.len()).find(|end| words[*end] == ";").unwrap_or(words.len());
                let is_public = at > 0 && (words[at - 1] == "pub" || words[at - 1] == ")");
                for (path, name) in branches(&words[at + 1..end]) {
                    let path = source.absolute(&path, modules);
                    if name == "*" {
                        source.globs.push(path);
                    } else if is_public {
                        passed.push((name, path));
                    } else {
                        source.paths.push(path.clone());
                        source.taken.insert(name, path);
                    }
                }
                at = end;
            } else if is_name(words[at]) {
                let mut path = vec![words[at].to_owned()];
                while at + 2 < words.len() && words[at + 1] == "::" && is_name(words[at + 2]) {
                    path.push(words[at + 2].to_owned());
                    at += 2;
                }
                body.insert(path[0].clone());
                written.push(path);
            }
            at += 1;
        }
        for (name, path) in passed {
            // What is only passed on is no use of it.
            if body.contains(&name) {
                source.paths.push(path.clone());
            }
            source.taken.insert(name, path);
        }
        for path in written.into_iter().filter(|path| path.len() > 1) {
            if let Some(real) = source.taken.get(&path[0]) {
                source.paths.push(real.iter().chain(&path[1..]).cloned().collect());
            } else {
                source.paths.push(source.absolute(&path, modules));
            }
        }
        source
    }

    /// A path from the root of the crate; one of another crate begins with an empty name.
    fn absolute(&self, path: &[String], modules: &BTreeSet<Names>) -> Names {
        let (mut base, mut rest) = (self.module.clone(), path);
        match path.first().map(String::as_str) {
            Some("crate") => (base, rest) = (Vec::new(), &path[1..]),
            Some("self") => rest = &path[1..],
            Some("super") => {}
            Some(first) if modules.contains(&[&base[..], &[first.to_owned()]].concat()) => {}
            _ => base = vec![String::new()],
        }
        while rest.first().is_some_and(|name| name == "super") {
            base.pop();
            rest = &rest[1..];
        }
        base.extend(rest.iter().cloned());
        base
    }

    /// The paths in it that lead out of this crate.
    pub(super) fn foreign(&self) -> impl Iterator<Item = String> {
        let foreign = self.paths.iter().filter(|path| path.first().is_some_and(String::is_empty));
        foreign.map(|path| path[1..].join("::"))
    }

    /// Names, `::` and signs, one after the other.
    pub(super) fn words(&self) -> Vec<&str> {
        words(&self.code)
    }

    /// Whether `other` is this module, or one that this one is a part of.
    pub(super) fn is_part_of(&self, other: &Source) -> bool {
        self.module.starts_with(&other.module)
    }

    /// Whether a name is written in it.
    fn defines(&self, name: &str) -> bool {
        let words = words(&self.code);
        let kinds = ["fn", "struct", "enum", "trait", "type", "const", "static", "mod"];
        words.windows(2).any(|pair| kinds.contains(&pair[0]) && pair[1] == name)
    }

    /// The first part of its module: the room it is in.
    pub(super) fn room(&self) -> &str {
        room_of(&self.file)
    }
}

/// The room that a file is in: its folder below `src/`, or what it is called.
pub(super) fn room_of(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

fn walk(directory: &Path, root: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, root, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

fn module_of(file: &str) -> Names {
    let names = file.strip_suffix(".rs").unwrap().split('/');
    let mut names: Names = names.map(str::to_owned).collect();
    if names.last().is_some_and(|last| last == "mod" || last == "lib") {
        names.pop();
    }
    names
}

/// The paths of a `use` line, each with the name by which it is known there.
fn branches(words: &[&str]) -> Vec<(Names, String)> {
    let mut found = Vec::new();
    let (mut prefix, mut stack): (Names, Vec<usize>) = (Vec::new(), Vec::new());
    let mut start = 0;
    let mut alias = None;
    for (at, word) in words.iter().copied().chain([","]).enumerate() {
        match word {
            "{" => {
                stack.push(start);
                start = prefix.len();
            }
            "}" | "," => {
                if prefix.len() > start {
                    let mut path = prefix.clone();
                    if path.last().is_some_and(|last| last == "self") {
                        path.pop();
                    }
                    let name = alias.take().unwrap_or_else(|| path.last().unwrap().clone());
                    if name == "*" {
                        path.pop();
                    }
                    found.push((path, name));
                    prefix.truncate(start);
                }
                if word == "}" {
                    start = stack.pop().unwrap();
                    prefix.truncate(start);
                }
            }
            "::" | "as" => {}
            _ if at > 0 && words[at - 1] == "as" => alias = Some(word.to_owned()),
            _ => prefix.push(word.to_owned()),
        }
    }
    found
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names, `::`, and every other character.
fn words(code: &str) -> Vec<&str> {
    let (mut words, mut rest) = (Vec::new(), code.trim_start());
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        words.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    words
}

/// Code without comments, and with empty strings.
fn bare(text: &str) -> String {
    let (mut code, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        let end = |mark: &str| rest[1..].find(mark).map_or(rest.len(), |at| 1 + at + mark.len());
        let raw = rest.strip_prefix('r').map(|hashes| hashes.len() - hashes.trim_start_matches('#').len());
        let skipped = match raw {
            _ if rest.starts_with("//") => end("\n") - 1,
            _ if rest.starts_with("/*") => end("*/"),
            Some(hashes) if rest[1 + hashes..].starts_with('"') && !code.ends_with(char::is_alphanumeric) => {
                let close = format!("\"{}", "#".repeat(hashes));
                let from = 2 + hashes;
                from + rest[from..].find(&close).unwrap() + close.len()
            }
            _ if first == '"' => string(rest),
            // A character, and not a lifetime.
            _ if rest.starts_with("'\\") => {
                2 + rest[2..].char_indices().skip(1).find(|c| c.1 == '\'').unwrap().0 + 1
            }
            _ if first == '\'' && rest.chars().nth(2) == Some('\'') => {
                rest.char_indices().nth(3).map_or(rest.len(), |next| next.0)
            }
            _ => 0,
        };
        if skipped > 0 {
            code.push_str(if first == '/' { " " } else { " \"\" " });
            rest = &rest[skipped..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

/// The length of a string with its quotes.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Code without the items that are there for tests alone.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let (mut kept, mut rest) = (String::new(), code);
    while let Some(at) = rest.find(MARK) {
        kept.push_str(&rest[..at]);
        rest = &rest[at + MARK.len()..];
        let mut depth = 0;
        let end = rest.char_indices().find(|(_, character)| {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0 && (*character == '}' || *character == ';')
        });
        rest = end.map_or("", |(end, _)| &rest[end + 1..]);
    }
    kept + rest
}

#[test]
fn paths_are_read_as_rust_reads_them() {
    let modules: BTreeSet<Names> = ["a", "a::b", "c"].map(names).into_iter().collect();
    let text = "//! crate::no\nuse crate::c::{self, D as E, f::G};\nuse super::c::H;\npub use b::I;\n\
                const T: &str = \"crate::no\"; const U: char = '\"'; fn j<'a>() { b::k(); E::new(); crate::l() }\n\
                #[cfg(test)]\nmod tests { use crate::no; fn m() {} }\nfn n() { c::o() }";
    let source = Source::read("a/mod.rs", text, &modules);
    let own = source.paths.iter().filter(|path| !path[0].is_empty());
    let found: BTreeSet<String> = own.map(|path| path.join("::")).collect();
    let expected = ["a::b::k", "c", "c::D", "c::D::new", "c::H", "c::f::G", "c::o", "l"];
    assert_eq!(found, expected.map(str::to_owned).into_iter().collect());
    assert_eq!(source.taken["I"], names("a::b::I"));
}

fn names(path: &str) -> Names {
    path.split("::").map(str::to_owned).collect()
}
