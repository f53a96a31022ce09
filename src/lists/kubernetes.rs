//! The images that Kubernetes manifests name.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::yaml::{self, Node, Value};
use super::{Named, Pull};
use crate::error::{Error, Result, Side};

/// Largest file of manifests that is read, in bytes.
const MAX_FILE: u64 = 256 << 20;
/// Deepest folder that is looked into.
const MAX_DEPTH: usize = 32;

/// Where the pod spec is, in the kinds of Kubernetes' own that have one.
const POD_SPECS: [(&str, &[&str]); 9] = [
    ("Pod", &["spec"]),
    ("PodTemplate", &["template", "spec"]),
    ("ReplicationController", &["spec", "template", "spec"]),
    ("ReplicaSet", &["spec", "template", "spec"]),
    ("Deployment", &["spec", "template", "spec"]),
    ("StatefulSet", &["spec", "template", "spec"]),
    ("DaemonSet", &["spec", "template", "spec"]),
    ("Job", &["spec", "template", "spec"]),
    ("CronJob", &["spec", "jobTemplate", "spec", "template", "spec"]),
];

/// What was found in manifests.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The images in the order in which they are named, once for each place.
    pub images: Vec<Named>,
    /// What was passed over, and why.
    pub warnings: Vec<String>,
}

/// Reads manifests: a file, every `.yaml`, `.yml` and `.json` file below a folder, or `-` for
/// standard input.
///
/// Taken are the images of pods and of whatever makes pods, init and ephemeral containers and image
/// volumes included; with `any_image_field` also every field named `image` in objects of other
/// kinds. Errors name file and line: text that is not YAML or JSON, an image that is no reference.
pub fn scan(path: &Path, any_image_field: bool) -> Result<Found> {
    let mut found = Found::default();
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().take(MAX_FILE).read_to_string(&mut text).map_err(Error::io(
            Side::Source,
            "read",
            "standard input",
        ))?;
        found.read(&text, "standard input", any_image_field)?;
        return Ok(found);
    }
    let mut files = Vec::new();
    if path.is_dir() {
        walk(path, 0, &mut files)?;
        if files.is_empty() {
            return Err(Error::not_found(
                Side::Source,
                format!("a .yaml, .yml or .json file in {}", path.display()),
            ));
        }
    } else {
        files.push(path.to_owned());
    }
    for file in files {
        let mut text = String::new();
        fs::File::open(&file)
            .and_then(|open| open.take(MAX_FILE).read_to_string(&mut text))
            .map_err(Error::io(Side::Source, "read", &file))?;
        found.read(&text, &file.display().to_string(), any_image_field)?;
    }
    Ok(found)
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut entries: Vec<PathBuf> =
        entries.map_err(Error::io(Side::Source, "read", folder))?.iter().map(fs::DirEntry::path).collect();
    entries.sort();
    for path in entries {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if path.is_dir() {
            // A link could lead round in a circle.
            if !path.is_symlink() && depth < MAX_DEPTH {
                walk(&path, depth + 1, files)?;
            }
        } else if matches!(extension, "yaml" | "yml" | "json") {
            files.push(path);
        }
    }
    Ok(())
}

impl Found {
    /// Adds what the manifests in `text` name; `file` is what it is called in messages.
    pub fn read(&mut self, text: &str, file: &str, any_image_field: bool) -> Result<()> {
        let documents = yaml::parse(text).map_err(|broken| {
            let hint =
                if text.contains("{{") { "; is it a template? `helm template` renders charts" } else { "" };
            Error::invalid(Side::Source, place(file, broken.line), format!("{}{hint}", broken.reason))
        })?;
        let mut scanner = Scanner { found: self, file, any_image_field };
        documents.iter().try_for_each(|document| scanner.object(document))
    }
}

fn place(file: &str, line: u64) -> String {
    if line == 0 { file.to_owned() } else { format!("{file}:{line}") }
}

struct Scanner<'a> {
    found: &'a mut Found,
    file: &'a str,
    any_image_field: bool,
}

impl Scanner<'_> {
    fn object(&mut self, object: &Node) -> Result<()> {
        let text = |key: &str| object.get(key).and_then(Node::text).unwrap_or_default();
        let (kind, version) = (text("kind"), text("apiVersion"));
        if kind.is_empty() {
            self.warn(object.line, "no Kubernetes object, since it has no kind; passed over");
            return Ok(());
        }
        if let Some(items) = object.get("items").filter(|_| kind.ends_with("List")) {
            return items.elements().iter().try_for_each(|item| self.object(item));
        }
        let group = version.split_once('/').map_or("", |(group, _)| group);
        if matches!(group, "" | "apps" | "batch" | "extensions")
            && let Some((_, path)) = POD_SPECS.iter().find(|(name, _)| *name == kind)
        {
            return object.at(path).map_or(Ok(()), |spec| self.pod(spec));
        }
        // Definitions describe fields named image; they do not fill them.
        // And only custom resources have a group with a dot, beside those that never name images.
        if kind == "CustomResourceDefinition" || !group.contains('.') {
            return Ok(());
        }
        if self.any_image_field {
            return self.fields(object);
        }
        if has_image_field(object) {
            self.warn(
                object.line,
                &format!("{kind}.{group} has fields named image; --any-image-field takes them"),
            );
        }
        Ok(())
    }

    fn pod(&mut self, spec: &Node) -> Result<()> {
        for list in ["initContainers", "containers", "ephemeralContainers"] {
            for container in spec.get(list).map_or(&[][..], Node::elements) {
                let policy = container.get("imagePullPolicy");
                match container.get("image") {
                    Some(image) => self.image(image, policy)?,
                    None => self.warn(container.line, "a container without an image; passed over"),
                }
            }
        }
        for volume in spec.get("volumes").map_or(&[][..], Node::elements) {
            if let Some(source) = volume.get("image")
                && let Some(image) = source.get("reference")
            {
                self.image(image, source.get("pullPolicy"))?;
            }
        }
        Ok(())
    }

    fn image(&mut self, image: &Node, policy: Option<&Node>) -> Result<()> {
        let place = place(self.file, image.line);
        let text = match &image.value {
            Value::Text(text) => text.trim(),
            Value::Other => "",
            // Two pairs of braces are YAML, too: a map in a map.
            _ => {
                let reason = "the image is no text; is it a template? `helm template` renders charts";
                return Err(Error::invalid(Side::Source, place, reason));
            }
        };
        if text.is_empty() {
            self.warn(image.line, "an empty image; passed over");
            return Ok(());
        }
        let pull = match policy.and_then(Node::text) {
            Some("Always") => Pull::Always,
            Some("IfNotPresent" | "Never") => Pull::IfNotPresent,
            _ => Pull::Unsaid,
        };
        match text.parse() {
            Ok(image) => self.found.images.push(Named { image, place, pull }),
            Err(error) => return Err(Error::invalid(Side::Source, place, error)),
        }
        Ok(())
    }

    /// Takes every text named `image`, however deep.
    fn fields(&mut self, node: &Node) -> Result<()> {
        match &node.value {
            Value::List(elements) => elements.iter().try_for_each(|element| self.fields(element)),
            Value::Map(members) => {
                members.iter().try_for_each(|(key, member)| match (key.as_str(), member.text()) {
                    ("image", Some(text)) if text.trim().parse::<crate::image::Reference>().is_err() => {
                        self.warn(member.line, "a field named image that names no image; passed over");
                        Ok(())
                    }
                    ("image", Some(_)) => self.image(member, node.get("imagePullPolicy")),
                    _ => self.fields(member),
                })
            }
            _ => Ok(()),
        }
    }

    fn warn(&mut self, line: u64, what: &str) {
        self.found.warnings.push(format!("{}: {what}", place(self.file, line)));
    }
}

fn has_image_field(node: &Node) -> bool {
    match &node.value {
        Value::List(elements) => elements.iter().any(has_image_field),
        Value::Map(members) => members
            .iter()
            .any(|(key, member)| (key == "image" && member.text().is_some()) || has_image_field(member)),
        _ => false,
    }
}
