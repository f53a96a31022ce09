//! A medium that is signed, or not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::carry::{self, text};

pub(crate) const NAMESPACE: &str = "pannier-commit-v1";

/// A medium, keys, and a file of allowed signers.
pub(crate) struct Stick {
    dir: tempfile::TempDir,
}

impl Stick {
    /// The frozen medium, and an ed25519 key that may sign it.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/medium-v1");
        for (name, bytes) in carry::files(&from) {
            let to = dir.path().join("medium").join(name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, bytes).unwrap();
        }
        let stick = Self { dir };
        stick.key("key", &["-t", "ed25519"]);
        stick.allow("key", "");
        stick
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn record(&self) -> PathBuf {
        let commits = fs::read_dir(self.at("medium/.pannier/commits")).unwrap();
        let paths = commits.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().unwrap() == "json").max().unwrap()
    }

    pub(crate) fn key(&self, name: &str, kind: &[&str]) {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-N", "", "-C", "", "-f"]).arg(self.at(name)).args(kind);
        assert!(command.status().unwrap().success());
    }

    /// Lets `key` sign, and nobody else.
    pub(crate) fn allow(&self, key: &str, options: &str) {
        self.allow_as("ana@example.org", key, options);
    }

    /// The same, under other principals.
    pub(crate) fn allow_as(&self, principals: &str, key: &str, options: &str) {
        fs::write(self.at("allowed"), format!("# who\n{}", self.line(principals, key, options))).unwrap();
    }

    /// A line of the file of allowed signers.
    pub(crate) fn line(&self, principals: &str, key: &str, options: &str) -> String {
        let public = fs::read_to_string(self.at(key).with_extension("pub")).unwrap();
        format!("{principals} {options} {public}")
    }

    /// Has the key `authority` certify `key`, as `key-cert.pub`.
    pub(crate) fn certify(&self, authority: &str, key: &str, options: &[&str]) {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-I", "id of it", "-s"]).arg(self.at(authority)).args(options);
        assert!(command.arg(self.at(key).with_extension("pub")).status().unwrap().success());
    }

    pub(crate) fn sign(&self, key: &str) {
        carry::run(0, ["sign", text(&self.at("medium")), "--yes", "--key", text(&self.at(key))]);
    }

    pub(crate) fn keygen_signs(&self, key: &str, namespace: &str) {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-Y", "sign", "-n", namespace, "-f"]).arg(self.at(key)).arg(self.record());
        assert!(command.stderr(Stdio::null()).status().unwrap().success());
    }

    pub(crate) fn verify(&self, status: i32) -> String {
        let medium = self.at("medium");
        let allowed = self.at("allowed");
        carry::run(status, ["verify", text(&medium), "--allowed-signers", text(&allowed)]).stderr()
    }

    /// Both commands refuse, the import before it looks for a node.
    pub(crate) fn refused(&self, reason: &str) {
        let medium = self.at("medium");
        let allowed = self.at("allowed");
        let import = ["import", text(&medium), "--allowed-signers", text(&allowed), "--address", "/nowhere"];
        for said in [self.verify(4), carry::run(4, import).stderr()] {
            assert!(said.contains("not to be trusted") && said.contains(reason), "{said}");
        }
    }

    /// Whether ssh-keygen believes the signature.
    pub(crate) fn keygen_verifies(&self) -> bool {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-Y", "verify", "-I", "ana@example.org", "-n", NAMESPACE, "-f"]);
        command.arg(self.at("allowed")).arg("-s").arg(self.signature());
        let record = fs::File::open(self.record()).unwrap();
        command.stdin(record).stderr(Stdio::null()).status().unwrap().success()
    }

    pub(crate) fn signature(&self) -> PathBuf {
        self.record().with_extension("json.sig")
    }
}
