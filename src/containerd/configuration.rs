//! containerd's configuration as it reads it: a file, and the files that it imports.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::Version;
use crate::sysroot;

/// Where it is, unless containerd was started with another.
pub const CONFIGURATION: &str = "/etc/containerd/config.toml";
/// What is imported from 2.2 on where the file does not say (containerd, `config.go`).
const DROP_INS: &str = "/etc/containerd/conf.d/*.toml";
/// The plugins of CRI that images are configured in: from 2.0 on, and before.
const IMAGES: [&str; 3] = ["io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri", "cri"];
/// Files that are read, at most.
const MOST: usize = 100;

/// What the files say together.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    table: Table,
    /// The files, in the order in which they count: a later one overrides.
    pub files: Vec<PathBuf>,
}

impl Configuration {
    /// Reads the file `path` of the system below `system`, as a containerd of this version does; what is left out
    /// in it is not filled in. The error is a sentence.
    pub fn read(system: &Path, path: &Path, version: Option<&Version>) -> Result<Self, String> {
        let mut configuration = Self::default();
        let mut pending = VecDeque::from([path.to_owned()]);
        while let Some(path) = pending.pop_front() {
            let file = sysroot::resolve(system, &path).unwrap_or_else(|| path.clone());
            if configuration.files.contains(&file) || configuration.files.len() == MOST {
                continue;
            }
            let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            let table: Table = text
                .parse()
                .map_err(|error: toml::de::Error| format!("{}: {}", file.display(), error.message()))?;
            let named = table.get("imports").and_then(Value::as_array);
            let default = named.is_none() && configuration.files.is_empty();
            let default = default && version.is_some_and(|version| version.numbers >= (2, 2, 0));
            let named = named.into_iter().flatten().filter_map(Value::as_str);
            let imports: Vec<&str> = named.chain(default.then_some(DROP_INS)).collect();
            for import in imports {
                pending.extend(found(system, path.parent().unwrap_or(Path::new("/")), import));
            }
            configuration.files.push(file);
            // containerd 1.x has a later file replace the whole section of a plugin; 2.x merges what is in it.
            let replaces = version.is_some_and(|version| version.numbers.0 == 1);
            merge(&mut configuration.table, table, replaces, 0);
        }
        Ok(configuration)
    }

    /// containerd's root directory, where it is named.
    pub fn root(&self) -> Option<&Path> {
        self.table.get("root")?.as_str().filter(|root| !root.is_empty()).map(Path::new)
    }

    /// The image of pods' sandboxes, where it is named.
    pub fn sandbox_image(&self) -> Option<&str> {
        self.images().find_map(|plugin| {
            let pinned = plugin.get("pinned_images").and_then(|images| images.get("sandbox"));
            text(pinned).or_else(|| text(plugin.get("sandbox_image")))
        })
    }

    /// What CRI unpacks with, where it is named.
    pub fn snapshotter(&self) -> Option<&str> {
        self.images().find_map(|plugin| {
            let old = plugin.get("containerd").and_then(|old| old.get("snapshotter"));
            text(plugin.get("snapshotter")).or_else(|| text(old))
        })
    }

    /// Where a snapshotter keeps its files, if not below the root directory.
    pub fn snapshotter_root(&self, name: &str) -> Option<&Path> {
        let plugin = self.plugin(&format!("io.containerd.snapshotter.v1.{name}"))?;
        plugin.get("root_path")?.as_str().filter(|path| !path.is_empty()).map(Path::new)
    }

    /// The folders of mirrors that CRI is told of, as they are written: several are parted by colons.
    pub fn mirror_folders(&self) -> Option<&str> {
        self.images().find_map(|plugin| plugin.get("registry")?.get("config_path")?.as_str())
    }

    /// The folder of programs that are asked before an image is pulled.
    pub fn verifiers(&self) -> Option<&Path> {
        self.plugin("io.containerd.image-verifier.v1.bindir")?.get("bin_dir")?.as_str().map(Path::new)
    }

    fn plugin(&self, name: &str) -> Option<&Table> {
        self.table.get("plugins")?.get(name)?.as_table()
    }

    fn images(&self) -> impl Iterator<Item = &Table> {
        IMAGES.into_iter().filter_map(|name| self.plugin(name))
    }
}

/// A text that is not empty.
fn text(value: Option<&Value>) -> Option<&str> {
    value?.as_str().filter(|text| !text.is_empty())
}

/// Puts `from` over `into`; what is empty overrides nothing.
fn merge(into: &mut Table, from: Table, replaces: bool, depth: usize) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            // The sections of plugins are the second level.
            (Some(Value::Table(known)), Value::Table(new)) if !(replaces && depth == 1) => {
                merge(known, new, replaces, depth + 1);
            }
            (Some(_), Value::String(text)) if text.is_empty() => {}
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// The files that an entry of `imports` means: a pattern counts in the last part of a path.
fn found(system: &Path, beside: &Path, import: &str) -> Vec<PathBuf> {
    let path = beside.join(import);
    let pattern = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    if !pattern.contains(['*', '?']) {
        return vec![path];
    }
    let Some(folder) = path.parent() else { return Vec::new() };
    let at = sysroot::resolve(system, folder).unwrap_or_else(|| folder.into());
    let entries = fs::read_dir(at).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| fits(pattern.as_bytes(), name.as_bytes())).collect();
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

/// Whether a name fits a pattern with `*` and `?`.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => fits(rest, name) || (!name.is_empty() && fits(pattern, &name[1..])),
        (Some((b'?', rest)), Some((_, name))) => fits(rest, name),
        (Some((one, rest)), Some((other, name))) if one == other => fits(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)], version: &str) -> Configuration {
        let system = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = system.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let version = Version::parse(version);
        Configuration::read(system.path(), Path::new(CONFIGURATION), Some(&version)).unwrap()
    }

    const V3: &str = "[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = ";
    const V2: &str = "[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = ";

    #[test]
    fn the_sandbox_image_is_read_from_configurations_of_all_versions() {
        for (text, expected) in [
            (format!("version = 3\n{V3}'p:1'\n"), Some("p:1")),
            (format!("version = 2\n{V2}'p:1'\n"), Some("p:1")),
            ("[plugins.cri]\nsandbox_image = 'p:1'\n".into(), Some("p:1")),
            ("version = 3\n".into(), None),
            ("[plugins.x]\nsandbox_image = 'p:1'\n".into(), None),
        ] {
            let configuration = read(&[(CONFIGURATION, &text)], "2.1.9");
            assert_eq!(configuration.sandbox_image(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_imported_counts_in_its_order() {
        let main = format!("version = 3\nimports = ['conf.d/*.toml']\n{V3}'main:1'\n");
        let (first, second) = (format!("{V3}'first:1'\n"), format!("{V3}'second:1'\n"));
        let files = [
            (CONFIGURATION, main.as_str()),
            ("/etc/containerd/conf.d/20.toml", second.as_str()),
            ("/etc/containerd/conf.d/10.toml", first.as_str()),
            ("/etc/containerd/conf.d/30.txt", "no configuration"),
        ];
        let configuration = read(&files, "2.1.9");
        assert_eq!(configuration.sandbox_image(), Some("second:1"));
        assert_eq!(configuration.files.len(), 3);
        // From 2.2 on without being named.
        let without = main.replace("imports = ['conf.d/*.toml']\n", "");
        let files = [(CONFIGURATION, without.as_str()), files[1]];
        assert_eq!(read(&files, "2.1.9").sandbox_image(), Some("main:1"));
        assert_eq!(read(&files, "2.3.0").sandbox_image(), Some("second:1"));
    }

    #[test]
    fn a_section_of_a_plugin_is_replaced_by_1_x_and_merged_by_2_x() {
        let main = format!("version = 2\nroot = '/data'\nimports = ['/etc/c.toml']\n{V2}'main:1'\n");
        let more = "root = ''\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = 'native'\n";
        let files = [(CONFIGURATION, main.as_str()), ("/etc/c.toml", more)];
        for (version, sandbox) in [("1.7.24", None), ("2.1.9", Some("main:1"))] {
            let configuration = read(&files, version);
            assert_eq!(configuration.snapshotter(), Some("native"));
            assert_eq!(configuration.sandbox_image(), sandbox, "{version}");
            assert_eq!(configuration.root(), Some(Path::new("/data")));
        }
    }

    #[test]
    fn places_are_read() {
        let text = "version = 3\n[plugins.'io.containerd.snapshotter.v1.overlayfs']\nroot_path = '/data/overlay'\n\
                    [plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/a:/b'\n\
                    [plugins.'io.containerd.image-verifier.v1.bindir']\nbin_dir = '/v'\n";
        let configuration = read(&[(CONFIGURATION, text)], "2.1.9");
        assert_eq!(configuration.snapshotter_root("overlayfs"), Some(Path::new("/data/overlay")));
        assert_eq!(configuration.mirror_folders(), Some("/a:/b"));
        assert_eq!(configuration.verifiers(), Some(Path::new("/v")));
        assert!(fits(b"*.toml", b"a.toml") && !fits(b"*.toml", b"a.txt") && fits(b"a?c*", b"abc"));
    }
}
