//! What goes wrong first on site: each situation is made, and has its own sentence, status and cure.
//!
//! The page docs/troubleshooting.md has a row for each.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::support::carry::{flip, oci, pannier, run, text};
use crate::support::layout::{image, layout, noise};

/// Runs a command that has to end with `status` and to say all of `texts`; what it says.
fn says(status: i32, arguments: &[&str], texts: &[&str]) -> String {
    let output = pannier(arguments.iter().copied()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {stderr}");
    for text in texts {
        assert!(stderr.contains(text), "{arguments:?} does not say {text:?}: {stderr}");
    }
    stderr
}

/// Places of a test: a layout, and a medium with two exports of it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        layout()
            .with(image("docker.io/library/app:1").layer(noise("data", 1, 30_000)))
            .with(image("docker.io/library/app:2").layer(noise("data", 2, 30_000)))
            .write_dir(&place.at("layout"));
        for name in ["app:1", "app:2"] {
            place.export(name, &place.at("m"));
        }
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn medium(&self) -> String {
        text(&self.at("m")).to_owned()
    }

    fn export(&self, image: &str, to: &Path) -> String {
        let from = oci(&self.at("layout"));
        let arguments = ["export", "--from", &from, image, "--platform", "linux/amd64", "--to", text(to)];
        run(0, arguments).stderr()
    }
}

#[test]
fn an_older_export_is_taken_only_when_that_is_asked_for() {
    let place = Place::new();
    let medium = place.medium();
    let record = place.at("m/.pannier/commits/0000000002.json");
    let bytes = fs::read(&record).unwrap();
    fs::write(&record, &bytes[..bytes.len() / 2]).unwrap();
    let sentence = "export 2 cannot be read (.pannier/commits/0000000002.json: ";
    let older = "the newest that can is export 1 of ";
    says(0, &["list", &medium], &[sentence, older, "with 1 image"]);
    says(4, &["verify", &medium], &["finding"]);
    let bake = ["bake", &medium, "--root", "/nonexistent"];
    let extract = ["extract", &medium, "--all", "-o", text(&place.at("out"))].map(str::to_owned);
    let extract: Vec<&str> = extract.iter().map(String::as_str).collect();
    for command in [&["import", &medium][..], &bake[..], &extract[..]] {
        let said = says(4, command, &["error: medium: ", sentence, older, "hint: nothing was taken"]);
        assert!(said.contains("--older takes export 1"), "{said}");
    }
    let none = text(&place.at("none.sock")).to_owned();
    let said =
        says(6, &["import", &medium, "--older", "-a", &none], &["is taken although export 2 cannot be read"]);
    assert_eq!(said.matches(sentence).count(), 1, "it is said once: {said}");
    place.export("app:2", &place.at("m"));
    says(6, &["import", &medium, "-a", &none], &[]);
}

#[test]
fn a_time_that_is_over_is_no_time_of_expiry() {
    let place = Place::new();
    let from = oci(&place.at("layout"));
    for when in ["2020-01-01", "0d"] {
        let export = ["export", "--from", &from, "--all", "--to", &place.medium(), "--expires", when];
        says(2, &export, &["no node would take the medium"]);
    }
}

#[test]
fn a_place_where_nothing_is_mounted_is_told_from_a_stick() {
    let place = Place::new();
    let said = place.export("app:1", &place.at("n"));
    assert!(!said.contains("pull it out"), "{said}");
    let Ok(mnt) = tempfile::tempdir_in("/mnt") else {
        return crate::support::skipped("/mnt cannot be written");
    };
    let warning = "warning: nothing is mounted at ";
    let said = place.export("app:1", mnt.path());
    assert!(said.contains(warning) && said.contains("not to a stick"), "{said}");
    assert!(!said.contains("pull it out") && said.contains("this machine's own disk"), "{said}");
    // It is a medium now, and somebody's decision.
    assert!(!place.export("app:2", mnt.path()).contains(warning));
}

#[test]
fn what_was_typed_is_looked_at() {
    let place = Place::new();
    let at = |name: &str| text(&place.at(name)).to_owned();
    fs::write(place.at("a.tar.gz"), [0x1f, 0x8b, 8, 0]).unwrap();
    let mut archive = tar::Builder::new(fs::File::create(place.at("a.tar")).unwrap());
    archive.append_dir("x", place.0.path()).unwrap();
    archive.finish().unwrap();
    fs::create_dir(place.at("empty")).unwrap();
    let medium = place.medium();
    let as_source = format!("oci:{medium}");
    let cases = [
        (at("absent"), "there is nothing here", "the directory that the medium is mounted at"),
        (at("a.tar"), "this is an archive", "`pannier import FILE`"),
        (at("a.tar.gz"), "this is an archive", "`pannier export --from docker-archive:FILE"),
        (at("m/index.json"), "this is a part of the medium", &format!("give {medium} instead")),
        (at("m/blobs/sha256"), "this is a part of the medium", &format!("give {medium} instead")),
        (text(place.0.path()).to_owned(), "there is one in it", &format!("give {medium} instead")),
        (as_source, "a medium is given as a path alone", &format!("give {medium} instead")),
        (at("empty"), "this directory is empty", "`lsblk` shows"),
    ];
    for (path, sentence, cure) in cases {
        for command in [&["list", &path][..], &["verify", &path], &["import", &path]] {
            // An import takes archives and layouts of other tools as well.
            if command[0] == "import" && !["absent", "empty"].iter().any(|name| path.ends_with(name)) {
                continue;
            }
            says(1, command, &[sentence, "hint: ", cure]);
        }
    }
}

#[test]
fn a_copy_without_its_hidden_directory() {
    let place = Place::new();
    fs::remove_dir_all(place.at("m/.pannier")).unwrap();
    says(
        1,
        &["list", &place.medium()],
        &["a copy of a medium without its hidden directory .pannier", "`cp -a"],
    );
}

#[test]
fn blobs_that_are_missing_are_counted() {
    let place = Place::new();
    let medium = place.medium();
    let blobs = fs::read_dir(place.at("m/blobs/sha256")).unwrap().map(|entry| entry.unwrap());
    let large = blobs.filter(|entry| entry.metadata().unwrap().len() > 10_000);
    assert_eq!(large.map(|entry| fs::remove_file(entry.path()).unwrap()).count(), 2);
    says(4, &["verify", &medium], &["2 findings of damage"]);
    fs::create_dir_all(place.at("system/etc")).unwrap();
    let system = text(&place.at("system")).to_owned();
    let bake = ["bake", &medium, "--distro", "k3s", "--sysroot", &system, "--as", "archive"];
    let said = says(4, &bake, &["is missing; 2 of ", "blobs are missing on"]);
    assert!(said.contains("hint: was all of the medium copied?"), "{said}");
}

#[test]
fn a_record_that_was_changed_after_signing_is_not_to_be_signed_again() {
    let place = Place::new();
    let key = place.at("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f", text(&key)])
        .status()
        .unwrap();
    assert!(made.success());
    run(0, ["sign", &place.medium(), "--yes", "--key", text(&key)]);
    let public = fs::read_to_string(place.at("key.pub")).unwrap();
    fs::write(place.at("allowed"), format!("ana@example.org {public}")).unwrap();
    let import =
        ["import", &place.medium(), "--allowed-signers", text(&place.at("allowed"))].map(str::to_owned);
    let import: Vec<&str> = import.iter().map(String::as_str).collect();
    flip(&place.at("m/.pannier/commits/0000000002.json"));
    let said = says(4, &import, &["is not to be trusted", "is over other bytes", "do not sign it again"]);
    assert!(!said.contains("have somebody"), "{said}");
}

#[test]
fn what_listens_at_a_socket_is_told_apart() {
    let place = Place::new();
    let at = |name: &str| text(&place.at(name)).to_owned();
    let images = |socket: &str, texts: &[&str]| says(6, &["images", "--address", socket], texts);
    images(&at("none.sock"), &["cannot be reached", "hint: `systemctl status containerd`"]);
    images(&at("layout/index.json"), &["not a socket", "/run/containerd/containerd.sock"]);
    drop(UnixListener::bind(place.at("left.sock")).unwrap());
    images(&at("left.sock"), &["Connection refused", "`systemctl start containerd`"]);
    // Docker's answers in HTTP/1.1.
    let listener = UnixListener::bind(place.at("docker.sock")).unwrap();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 100]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request");
            open.push(stream);
        }
    });
    let said = images(&at("docker.sock"), &["what answers there is no containerd"]);
    assert!(!said.contains("FRAME_SIZE_ERROR"), "{said}");
}

#[test]
fn words_of_other_tools_are_understood_or_answered() {
    let place = Place::new();
    let medium = place.medium();
    for (line, cure) in [
        ("copy docker://nginx oci:x", "`pannier import MEDIUM` on the node"),
        ("save -o a.tar nginx", "`pannier export --from containerd"),
        ("pull nginx", "`pannier export IMAGE --to MEDIUM`"),
        ("rmi nginx", "`pannier prune MEDIUM --image IMAGE`"),
        ("export nginx --to x --tls-verify=false", "--insecure REGISTRY"),
        ("export nginx --to x --authfile f", "REGISTRY_AUTH_FILE=FILE"),
        ("export nginx --to x --jobs 4", "leave it out"),
        ("images -o yaml", "--json prints JSON"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let said = says(2, &words, &["error: pannier does not know ", cure]);
        assert_eq!(said.lines().count(), 2, "{said}");
    }
    assert!(run(0, ["inspect", &medium]).stdout().contains("original sha256:"));
    run(0, ["check", &medium]);
    run(0, ["list", "-vv", &medium]);
    assert!(run(0, ["list", "-o", "json", &medium]).stdout().starts_with('{'));
    let listed = run(0, ["export", "--list-only", "--all-platforms", "docker://nginx:1"]).stdout();
    assert_eq!(listed, "docker.io/library/nginx:1\n");
    let version = run(0, ["version"]).stdout();
    assert!(version.contains("pannier-commit-v1") && version.contains("zstd      1."), "{version}");
    // What is guessed is a slip of the same word, never another option.
    let said = says(2, &["import", &medium, "--allow"], &[]);
    assert!(!said.contains("--allow-"), "{said}");
    says(2, &["verify", &medium, "--deeep"], &["--deep"]);
}

/// What a terminal of this width is sent, as lines without colours.
fn on_a_terminal(columns: usize, directory: &Path, words: &str) -> Option<Vec<String>> {
    let line = format!("stty cols {columns} rows 24; {} {words}", env!("CARGO_BIN_EXE_pannier"));
    let output = std::process::Command::new("script")
        .args(["-qefc", &line, "/dev/null"])
        .current_dir(directory)
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::null())
        .output();
    let Ok(output) = output else {
        crate::support::skipped("script is missing (bsdutils)");
        return None;
    };
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let sent = String::from_utf8(output.stdout).unwrap();
    let mut lines = vec![String::new()];
    let mut sent = sent.chars();
    while let Some(c) = sent.next() {
        match c {
            // What moves the cursor or colours (ECMA-48).
            '\u{1b}' => {
                if sent.next() == Some('[') {
                    let _ = sent.by_ref().find(|c| c.is_ascii_alphabetic());
                }
            }
            '\n' | '\r' => lines.push(String::new()),
            c => lines.last_mut().unwrap().push(c),
        }
    }
    Some(lines)
}

/// How many bars and spinners there are in a line.
fn rows(line: &str) -> usize {
    let bar = |c: char| ('\u{2580}'..='\u{259f}').contains(&c);
    let spinner = |c: char| ('\u{2800}'..='\u{28ff}').contains(&c);
    let bars = line.split(|c| !bar(c)).filter(|bar| !bar.is_empty()).count();
    bars + line.chars().filter(|c| spinner(*c)).count()
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for columns in [60, 80] {
        let place = Place::new();
        let export = "export --from oci:layout --all --to n --platform linux/amd64 --recovery 10%";
        for words in [export, "verify n", "export --from oci:layout app:1 --as app:3 --to n"] {
            let Some(lines) = on_a_terminal(columns, place.0.path(), words) else { return };
            assert!(lines.iter().any(|line| line.len() > 20), "{lines:?}");
            for line in lines {
                // Bars are drawn anew one below the other, each filled up with blanks to the whole width.
                let rows = rows(&line).max(1);
                assert!(line.chars().count() <= columns * rows, "{columns} columns: {line:?}");
            }
        }
    }
}
