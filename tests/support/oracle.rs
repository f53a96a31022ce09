//! What must be true of a medium after every fault, whatever it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use pannier::image::Digest;
use pannier::medium::Medium;
use pannier::record::Record;
use serde_json::Value;

use super::carry::{assert_names_only_what_is_there, blobs, pannier, run, text};

/// The statuses that the table in `docs/scripting.md` gives to a run that failed.
const FAILED: [i32; 7] = [1, 2, 3, 4, 5, 6, 130];
/// What `verify` may find after an export that was cut off: a record that it was writing, an `index.json`
/// that is behind, and blobs that nothing names yet.
const OF_THE_LAST_MOMENT: [&str; 8] = [
    "record-damaged",
    "record-missing",
    "index-missing",
    "index-damaged",
    "index-entry-missing",
    "index-entry-unexpected",
    "blob-unused",
    "layout-file",
];

/// What a fault may have taken that no program can keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing: what was written is there.
    Nothing,
    /// What was not yet brought to the device, and it may be there in part.
    Unsynced,
}

/// A command, the medium it works on, and what comes of it when nothing goes wrong.
pub(crate) struct Oracle<'a> {
    pub(crate) medium: &'a Path,
    /// The command, as it is run again.
    pub(crate) arguments: &'a [&'a str],
    /// The blobs that are on the medium when it has succeeded.
    pub(crate) expected: &'a BTreeMap<PathBuf, Vec<u8>>,
    /// The commit that an earlier run acknowledged.
    pub(crate) acknowledged: Option<u64>,
}

impl Oracle<'_> {
    /// Checks the six points on the medium, which was mounted again, and leaves it as a clean run leaves it.
    pub(crate) fn check(&self, case: &str, loss: Loss) {
        self.old_commit_is_whole(case);
        if loss == Loss::Nothing {
            self.blobs_are_what_their_names_say(case);
        }
        self.nothing_half_done_is_visible(case, loss);
        self.the_same_command_completes(case);
    }

    /// (a) The acknowledged commit, or the one that followed it, is whole: `verify` says so.
    fn old_commit_is_whole(&self, case: &str) {
        let Ok(Some(medium)) = Medium::find(self.medium) else {
            assert_eq!(self.acknowledged, None, "{case}: the medium is gone");
            return;
        };
        let sequence = medium.record().map(|record| record.sequence);
        assert!(sequence >= self.acknowledged, "{case}: commit {sequence:?}, not {:?}", self.acknowledged);
        for rejected in medium.rejected() {
            let new = Some(rejected.sequence) > self.acknowledged;
            assert!(new, "{case}: {}: {}", rejected.name, rejected.reason);
        }
        for (id, detail) in findings(self.medium) {
            assert!(OF_THE_LAST_MOMENT.contains(&id.as_str()), "{case}: {id}: {detail}");
        }
    }

    /// (b) No blob has a hash that its name does not say.
    fn blobs_are_what_their_names_say(&self, case: &str) {
        let directory = self.medium.join("blobs/sha256");
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let entry = entry.unwrap();
            let found = Digest::of(&fs::read(entry.path()).unwrap());
            assert_eq!(entry.file_name().to_str(), Some(found.hex().as_str()), "{case}");
        }
    }

    /// (c) What is named is there, for us and for a reader of OCI layouts.
    fn nothing_half_done_is_visible(&self, case: &str, loss: Loss) {
        let index = self.medium.join("index.json");
        // It is derived: one that was lost is made anew, and until then nobody can read it by mistake.
        let lost = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).is_err();
        if loss == Loss::Unsynced && fs::read(&index).is_ok_and(lost) {
            eprintln!("{case}: index.json was lost");
            return;
        }
        assert_names_only_what_is_there(self.medium);
    }

    /// (d) The same command succeeds, and its blobs are those of a clean run, byte for byte.
    fn the_same_command_completes(&self, case: &str) {
        let output = pannier(self.arguments.iter().copied()).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{case}: run again: {printed}");
        assert!(blobs(self.medium) == *self.expected, "{case}: other blobs than those of a clean run");
        assert_names_only_what_is_there(self.medium);
        run(0, ["verify", "--deep", "--quiet", text(self.medium)]);
        let left = fs::read_dir(self.medium.join(".pannier/ingest")).unwrap().count();
        assert_eq!(left, 0, "{case}: something is left in the ingest area");
    }
}

/// (e) A run that failed says so as the documentation says: its status, one message, and no panic. Its message.
pub(crate) fn failed_as_documented(case: &str, output: &Output) -> String {
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    let status = output.status.code();
    assert!(status.is_some_and(|status| FAILED.contains(&status)), "{case}: {status:?}: {printed}");
    assert!(!printed.contains("panicked"), "{case}: {printed}");
    assert_eq!(printed.matches("error: ").count(), 1, "{case}: {printed}");
    printed
}

/// What `verify` finds: the ids, with what it says of each.
pub(crate) fn findings(medium: &Path) -> Vec<(String, String)> {
    let output = pannier(["verify", "--json", text(medium)]).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let report = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let Some(report) = { report }.find(|line| line["findings"].is_array()) else { return Vec::new() };
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = report["findings"].as_array().unwrap().iter();
    found.map(|found| (string(&found["id"]), format!("{} {}", found["subject"], found["detail"]))).collect()
}

/// The newest record of a medium.
pub(crate) fn record(medium: &Path) -> Record {
    Medium::open(medium).unwrap().record().unwrap().clone()
}
