//! The pages of the documentation, and a place where the commands that they show can be run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pannier::image::Platform;

use super::carry::text;
use super::image::{files, image, noise};
use super::layout::layout;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a directory whose name ends with `ending`, without what cargo and git keep.
pub(crate) fn files_below(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_symlink() || name == "target" || name == ".git" {
            continue;
        }
        match path.is_dir() {
            true => found.extend(files_below(&path, ending)),
            false if name.ends_with(ending) => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

/// What people read: the pages at the root and those in `docs/`, without lists of digests and the like.
pub(crate) fn pages() -> Vec<PathBuf> {
    let all = files_below(root(), ".md").into_iter();
    all.filter(|path| path.parent() == Some(root()) || path.starts_with(root().join("docs"))).collect()
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A block of code: what stands behind its first fence, and its lines.
pub(crate) struct Block {
    pub(crate) info: String,
    pub(crate) line: usize,
    pub(crate) code: String,
}

/// The blocks of a page, and its text without them.
pub(crate) fn split(page: &str) -> (Vec<Block>, String) {
    let (mut blocks, mut prose, mut open): (Vec<Block>, String, Option<Block>) = <_>::default();
    for (number, line) in page.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(info), None) => {
                open = Some(Block { info: info.to_owned(), line: number + 1, code: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.code.push_str(&format!("{line}\n")),
            (None, None) => prose.push_str(&format!("{line}\n")),
        }
    }
    assert!(open.is_none(), "a block has no end");
    (blocks, prose)
}

/// The text between backticks.
pub(crate) fn spans(prose: &str) -> Vec<&str> {
    prose.split("\n\n").flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2)).collect()
}

/// A directory that has what the pages speak of, and a medium in it.
pub(crate) struct Desk(tempfile::TempDir);

impl Desk {
    pub(crate) fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        let host = Platform::host().to_string();
        let nginx = || image("docker.io/library/nginx:1.22").platform(&host).layer(noise("base", 1, 300_000));
        let app = |seed| image("registry.local/app:1").platform(&host).layer(noise("app", seed, 200_000));
        layout().with(nginx()).with(app(2)).write_dir(&desk.at("images"));
        layout().with(nginx()).with(app(3)).write_dir(&desk.at("newer"));
        for name in [".ssh", "deploy", "media", "srv", "root"] {
            fs::create_dir(desk.at(name)).unwrap();
        }
        fs::write(desk.at("images.txt"), "# what the nodes run\nnginx:1.22\n").unwrap();
        let pod = "kind: Pod\nspec: {containers: [{image: 'registry.local/app:1'}]}\n";
        fs::write(desk.at("deploy/pod.yaml"), pod).unwrap();
        let config = format!("state-directory = {:?}\n", text(&desk.at("state")));
        fs::write(desk.at("config.toml"), config).unwrap();
        for name in ["k8s.snap", "k8s.assert", "helm-v3"] {
            fs::write(desk.at(name), files([(name, "content")])).unwrap();
        }
        let made = "ssh-keygen -q -t ed25519 -N '' -C '' -f .ssh/id_ed25519 && \
                    echo \"ops@site $(cat .ssh/id_ed25519.pub)\" > allowed_signers";
        desk.run(made);
        desk.run("pannier export --quiet --from oci:images --all --to media/stick");
        desk
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs lines of shell; what they print on standard output.
    pub(crate) fn run(&self, shell: &str) -> String {
        self.run_with(shell, &[])
    }

    /// The same, with more variables.
    pub(crate) fn run_with(&self, shell: &str, environment: &[(&str, &str)]) -> String {
        let program = Path::new(env!("CARGO_BIN_EXE_pannier")).parent().unwrap();
        let shell = ["/media/", "/srv/", "/root/"].iter().fold(shell.to_owned(), |shell, place| {
            shell
                .replace(&format!(" {place}"), &format!(" {}", &place[1..]))
                .replace(&format!(":{place}"), &format!(":{}", &place[1..]))
        });
        let output = Command::new("bash")
            .args(["-eu", "-o", "pipefail", "-c", &shell])
            .current_dir(self.0.path())
            .env("PATH", format!("{}:{}", program.display(), std::env::var("PATH").unwrap()))
            .env("HOME", self.0.path())
            .env("PANNIER_CONFIG", text(&self.at("config.toml")))
            .env_remove("SSH_AUTH_SOCK")
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{shell}: {:?}: {said}", output.status.code());
        String::from_utf8(output.stdout).unwrap()
    }
}
