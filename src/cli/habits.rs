//! Habits from other tools: what skopeo, crane, ctr, nerdctl, docker, kubectl, restic and cargo call it.
//!
//! The table is asked only where the command line makes no sense otherwise, so nothing in it can change what a
//! command of ours means.

use std::ffi::{OsStr, OsString};

/// What another tool's word comes to here.
#[derive(Clone, Copy, Debug)]
enum Here {
    /// The same as these words.
    Means(&'static [&'static str]),
    /// The same as these words, and the value behind it goes too.
    MeansWithValue(&'static [&'static str]),
    /// Nothing: what to type instead.
    Type(&'static str),
}

use Here::{Means, MeansWithValue, Type};

/// Commands of other tools.
const COMMANDS: &[(&str, Here)] = &[
    ("copy", Type(COPY)),
    ("cp", Type(COPY)),
    ("sync", Type(COPY)),
    ("load", Means(&["import"])),
    ("save", Type(SAVE)),
    ("pull", Type(PULL)),
    ("fetch", Type(PULL)),
    ("push", Type("`pannier import MEDIUM` puts images into this node's containerd")),
    ("backup", Type(SAVE)),
    ("restore", Type("`pannier import MEDIUM` puts images into this node's containerd")),
    ("init", Type("nothing is to be prepared: `pannier export IMAGE --to MEDIUM` makes the medium")),
    ("inspect", Means(&["list", "--digests"])),
    ("manifest", Means(&["list", "--digests"])),
    ("snapshots", Means(&["list"])),
    ("check", Means(&["verify"])),
    ("validate", Means(&["verify"])),
    ("fsck", Means(&["verify"])),
    ("rmi", Type(REMOVE)),
    ("rm", Type(REMOVE)),
    ("remove", Type(REMOVE)),
    ("delete", Type(REMOVE)),
    ("forget", Type(REMOVE)),
    ("image", Means(&["images"])),
    ("i", Means(&["images"])),
    ("get", Type("`pannier images` lists this node's images, `pannier list MEDIUM` those of a medium")),
    ("umount", Means(&["eject"])),
    ("unmount", Means(&["eject"])),
    ("tag", Type("`pannier export IMAGE --as NAME --to MEDIUM` carries an image under another name")),
    (
        "login",
        Type(
            "log in with `docker login` or `podman login`, or give --creds USER:PASSWORD to `pannier export`",
        ),
    ),
];

const COPY: &str = "two commands copy: `pannier export IMAGE --to MEDIUM` where the images are, `pannier import MEDIUM` on the node";
const SAVE: &str =
    "`pannier export --from containerd IMAGE --to MEDIUM` saves what this machine has, into a directory";
const PULL: &str = "`pannier export IMAGE --to MEDIUM` pulls from a registry, onto a medium";
const REMOVE: &str =
    "`pannier prune MEDIUM --image IMAGE` takes it off a medium; `crictl rmi IMAGE` off this node";

/// Options of other tools: of which of our commands (every one where it is empty), how they are called, what they
/// come to.
const OPTIONS: &[(&str, &[&str], Here)] = &[
    ("", &["-vv", "-vvv", "--debug"], Means(&["--verbose"])),
    ("", &["--no-progress", "--disable-progress"], Means(&[])),
    ("", &["--progress", "--log-level"], MeansWithValue(&[])),
    ("", &["-o", "--output", "--format"], Type("--json prints JSON; there is no other format")),
    ("export", &["--all-platforms", "--multi-arch"], Means(&["--platform=all"])),
    ("import", &["--all-platforms"], Type("an import takes the node's platform; --platform names another")),
    ("", &["--platforms"], Means(&["--platform"])),
    ("", &["--arch", "--override-arch"], Type("--platform linux/ARCH names a platform, such as linux/arm64")),
    ("", &["--jobs", "-j", "--concurrency", "--concurrent-downloads", "--workers"], Type(JOBS)),
    ("export", &["--authfile", "--src-authfile"], Type(AUTH_FILE)),
    ("export", &["--username", "--password", "-u"], Type("--creds USER:PASSWORD is a login")),
    ("export", &["--src-creds"], Means(&["--creds"])),
    ("export", &["--tls-verify", "--src-tls-verify", "--plain-http", "--skip-verify", "-k"], Type(INSECURE)),
    ("export", &["--insecure-registry"], Means(&["--insecure"])),
    (
        "export",
        &["--output", "-o", "--dest", "--destination", "-d"],
        Type("--to MEDIUM says where the images go"),
    ),
    ("export", &["--input", "-i"], Type("--from docker-archive:FILE or --from oci-archive:FILE reads a tar")),
    ("export", &["--verify"], Means(&[])),
    ("import", &["--input", "-i"], Means(&[])),
    ("import", &["--all", "--all-images"], Means(&[])),
    (
        "import",
        &["--force", "-f"],
        Type("an import brings what is missing; --repair also replaces what is damaged"),
    ),
    ("list", &["--all"], Means(&[])),
    ("images", &["--all"], Means(&[])),
    ("verify", &["--all"], Means(&[])),
    ("verify", &["--read-data"], Means(&["--deep"])),
    ("", &["--yes", "-y"], Type("nothing here asks first: leave it out, and try --dry-run")),
];

const JOBS: &str = "leave it out: Pannier itself finds how much to do at once";
const AUTH_FILE: &str = "REGISTRY_AUTH_FILE=FILE in the environment names a file of logins; without it those of docker and podman count";
const INSECURE: &str =
    "--insecure REGISTRY, such as --insecure registry.local:5000, goes without TLS or its certificate";

/// Options that ctr has before its command, and we behind it; each has a value.
const LEADING: [&str; 4] = ["-n", "--namespace", "-a", "--address"];

/// What is made of a command line that makes no sense to us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Nothing.
    Unknown,
    /// Other words mean the same here.
    Words(Vec<OsString>),
    /// A line says what to type instead of a word.
    Type(String, &'static str),
}

/// Reads a command line as people write it for other tools; the program's name comes first.
pub(super) fn read(words: &[OsString]) -> Reading {
    let Some((program, mut rest)) = words.split_first() else { return Reading::Unknown };
    let mut leading = Vec::new();
    // Options that stand before the command.
    while let Some(word) = rest.first().and_then(|word| word.to_str()).filter(|word| word.starts_with('-')) {
        let takes = if LEADING.contains(&word) { 2 } else { 1 };
        let (front, behind) = rest.split_at(takes.min(rest.len()));
        leading.extend(front.iter().cloned());
        rest = behind;
    }
    let Some((command, arguments)) = rest.split_first() else { return Reading::Unknown };
    let mut read = vec![program.clone()];
    let own = command.to_str().unwrap_or_default();
    match COMMANDS.iter().find(|(word, _)| *word == own) {
        Some((_, Type(line))) => return Reading::Type(own.to_owned(), line),
        Some((_, Means(ours) | MeansWithValue(ours))) => read.extend(ours.iter().map(OsString::from)),
        None => read.push(command.clone()),
    }
    let command = read[1].clone();
    // `ctr images ls`.
    let lists = command == "images" && arguments.first().is_some_and(|word| word == "ls" || word == "list");
    let mut words = leading.iter().chain(&arguments[usize::from(lists)..]);
    while let Some(word) = words.next() {
        if word == "--" {
            read.push(word.clone());
            read.extend(words.by_ref().cloned());
            break;
        }
        let text = word.to_str().unwrap_or_default();
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let of_command = |(of, names, _): &&(&str, &[&str], Here)| names.contains(&name) && command == **of;
        let of_all = |(of, names, _): &&(&str, &[&str], Here)| names.contains(&name) && of.is_empty();
        let habit = OPTIONS.iter().find(of_command).or_else(|| OPTIONS.iter().find(of_all));
        match habit {
            Some((_, _, Type(line))) => {
                let is_json = value.map(OsStr::new).or(words.clone().next().map(OsString::as_os_str));
                let formats = ["-o", "--output", "--format"].contains(&name);
                if !formats || is_json.is_none_or(|format| format != "json") {
                    return Reading::Type(name.to_owned(), line);
                }
                if value.is_none() {
                    words.next();
                }
                read.push("--json".into());
            }
            Some((_, _, Means(ours))) => {
                read.extend(ours.iter().map(OsString::from));
                read.extend(value.filter(|_| !ours.is_empty()).map(OsString::from));
            }
            Some((_, _, MeansWithValue(ours))) => {
                read.extend(ours.iter().map(OsString::from));
                if value.is_none() {
                    words.next();
                }
            }
            None if text == "-ojson" => read.push("--json".into()),
            None => read.push(word.clone()),
        }
    }
    if read == words_of(program, rest) && leading.is_empty() {
        Reading::Unknown
    } else {
        Reading::Words(read)
    }
}

fn words_of(program: &OsString, rest: &[OsString]) -> Vec<OsString> {
    std::iter::once(program).chain(rest).cloned().collect()
}

/// The name of an image without the transport that skopeo and podman put before it.
pub(super) fn without_transport(image: &str) -> &str {
    image.strip_prefix("docker://").unwrap_or(image)
}

/// Whether `guess` may be what somebody meant who typed `word`: a slip of one or two letters, not another word.
pub(super) fn is_slip(word: &str, guess: &str) -> bool {
    let (word, guess): (Vec<char>, Vec<char>) = (word.chars().collect(), guess.chars().collect());
    let mut row: Vec<usize> = (0..=guess.len()).collect();
    for (i, a) in word.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in guess.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[guess.len()] <= if word.len() < 5 { 1 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn words_of_other_tools_mean_ours_where_there_is_the_same() {
        for (theirs, ours) in [
            ("pannier -n k8s.io images ls", "pannier images -n k8s.io"),
            ("pannier images -o json", "pannier images --json"),
            ("pannier images --output=json", "pannier images --json"),
            ("pannier images -ojson", "pannier images --json"),
            ("pannier inspect m", "pannier list --digests m"),
            ("pannier check --read-data m", "pannier verify --deep m"),
            ("pannier import -vv m", "pannier import --verbose m"),
            ("pannier export --all-platforms a --to m", "pannier export --platform=all a --to m"),
            ("pannier export --insecure-registry r a", "pannier export --insecure r a"),
            ("pannier import --all m", "pannier import m"),
            ("pannier load -i a.tar", "pannier import a.tar"),
            ("pannier import --all m -- --all", "pannier import m -- --all"),
        ] {
            assert_eq!(read(&words(theirs)), Reading::Words(words(ours)), "{theirs}");
        }
        for nothing in ["pannier", "pannier --frob", "pannier frobnicate m", "pannier import --frob m"] {
            let same = matches!(read(&words(nothing)), Reading::Unknown);
            assert!(same, "{nothing}");
        }
    }

    #[test]
    fn every_line_names_something_to_type() {
        let lines = COMMANDS.iter().map(|(_, here)| here).chain(OPTIONS.iter().map(|(_, _, here)| here));
        for line in lines.filter_map(|here| if let Type(line) = here { Some(line) } else { None }) {
            assert!(
                line.contains(['`', '=']) || line.contains("--") || line.starts_with("leave it out"),
                "{line}"
            );
            assert!(line.chars().count() < 130, "{line}");
        }
    }

    #[test]
    fn a_slip_is_told_from_another_word() {
        for (word, guess, slip) in [
            ("--recovry", "--recovery", true),
            ("exprot", "export", true),
            ("--tls-verify", "--no-verify", false),
            ("--all", "--allow-expired", false),
            ("sing", "sign", false),
        ] {
            assert_eq!(is_slip(word, guess), slip, "{word}");
        }
    }
}
