//! The commands that the documentation shows: they exist, and run.
//!
//! A block of shell commands says in its first line who runs it: `sh run` is run here, in a directory that has what the
//! block speaks of; `sh node` is run by `tests/node/docs.rs`; `sh no-run` needs a network, a device or a whole system.
//! In all of them every command of `pannier` has to be one that the program understands.

use std::collections::BTreeMap;

use crate::support::carry::run;
use crate::support::pages::{Desk, pages, read, root, spans, split};

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
