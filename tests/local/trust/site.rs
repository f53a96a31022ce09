//! A stick with an image of its own, and the settings of a node.

use std::fs;
use std::path::PathBuf;

use pannier::image::Digest;
use pannier::record::Record;

use crate::support::carry::{self, oci, run, text};
use crate::support::clock;
use crate::support::image::{files, image};
use crate::support::layout::layout;
use crate::support::stick::{NAMESPACE, Stick};

/// A stick with an image of its own, and the settings of a node.
pub(crate) struct Site {
    pub(crate) stick: Stick,
    /// What the clock says, if it is wrong.
    pub(crate) clock: Option<&'static str>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let stick = Stick::new();
        fs::remove_dir_all(stick.at("medium")).unwrap();
        let site = Self { stick, clock: None };
        site.settings("");
        site
    }

    /// Writes the node's configuration.
    pub(crate) fn settings(&self, more: &str) {
        let (allowed, state) = (self.stick.at("allowed"), self.stick.at("state"));
        let text = format!("state-directory = {state:?}\n[trust]\nallowed-signers = {allowed:?}\n{more}");
        fs::write(self.stick.at("config.toml"), text).unwrap();
    }

    pub(crate) fn run<'a>(&self, status: i32, arguments: impl IntoIterator<Item = &'a str>) -> carry::Ran {
        match self.clock {
            Some(time) => carry::expect(status, &mut clock::pannier_at(time, arguments)),
            None => run(status, arguments),
        }
    }

    /// Exports `name` with this content, signed.
    pub(crate) fn export(&self, name: &str, content: &str, flags: &[&str]) -> String {
        self.try_export(0, name, content, flags)
    }

    pub(crate) fn try_export(&self, status: i32, name: &str, content: &str, flags: &[&str]) -> String {
        let source = self.stick.at(&format!("source-{content}"));
        if !source.exists() {
            layout().with(image(name).layer(files([("file", content)]))).write_dir(&source);
        }
        let (medium, key, source) = (self.stick.at("medium"), self.stick.at("key"), oci(&source));
        let arguments = ["export", "--all", "--to", text(&medium), "--from", &source];
        let signed = ["--sign-key", text(&key)];
        self.run(status, arguments.into_iter().chain(signed).chain(flags.iter().copied())).stderr()
    }

    /// Has the node take what is on the medium.
    pub(crate) fn take(&self, status: i32, flags: &[&str]) -> String {
        self.command("extract", status, flags)
    }

    pub(crate) fn command(&self, command: &str, status: i32, flags: &[&str]) -> String {
        let (medium, config, out) =
            (self.stick.at("medium"), self.stick.at("config.toml"), self.stick.at("out"));
        let more: &[&str] = match command {
            "extract" => &["--all", "-o", text(&out)],
            "import" => &["--address", "/nowhere"],
            _ => &[],
        };
        let arguments = [command, text(&medium), "--config", text(&config)];
        self.run(status, arguments.into_iter().chain(more.iter().copied()).chain(flags.iter().copied()))
            .stderr()
    }

    pub(crate) fn refused(&self, reason: &str) {
        for command in ["extract", "import", "verify"] {
            let said = self.command(command, 4, &[]);
            assert!(said.contains(reason), "{command}: {said}");
        }
    }

    pub(crate) fn trust(&self, status: i32, flags: &[&str]) -> String {
        let config = self.stick.at("config.toml");
        let arguments = ["trust", "--config", text(&config)];
        run(status, arguments.into_iter().chain(flags.iter().copied())).stdout()
    }

    /// Keeps the medium as it is now, or brings back what was kept.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        let _ = fs::remove_dir_all(self.stick.at(to));
        for (name, bytes) in carry::files(&self.stick.at(from)) {
            let to = self.stick.at(to).join(name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, bytes).unwrap();
        }
    }

    /// Puts an altered record in the place of the newest, with a checksum that is right, and signs it.
    pub(crate) fn forge(&self, edit: impl FnOnce(String) -> String) {
        let edited = edit(fs::read_to_string(self.stick.record()).unwrap());
        let name = self.stick.record();
        self.forge_as(edited, name);
    }

    pub(crate) fn forge_as(&self, record: String, name: PathBuf) {
        const START: usize = "{\"checksum\":\"sha256:".len();
        let mut bytes = record.into_bytes();
        bytes[START..START + 64].fill(b'0');
        let checksum = Digest::of(&bytes).hex();
        bytes[START..START + 64].copy_from_slice(checksum.as_bytes());
        let _ = fs::remove_file(self.stick.signature());
        fs::write(name, bytes).unwrap();
        let _ = fs::remove_file(self.stick.signature());
        self.stick.keygen_signs("key", NAMESPACE);
    }

    pub(crate) fn record(&self) -> Record {
        Record::parse(&fs::read(self.stick.record()).unwrap()).unwrap()
    }
}
