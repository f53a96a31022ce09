//! The images that Kubernetes manifests name.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::mentions::{self, Mention};
use super::text::{Bad, all, decode, hint};
use super::yaml::{self, Node, Value};
use super::{Named, Pattern, Pull};
use crate::error::{Error, Result, Side};
use crate::image::Reference;

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

/// The annotations of charts that list images, each as YAML with a field `image` for each
/// (Artifact Hub, Helm).
const CHART_IMAGES: [&str; 3] = ["artifacthub.io/images", "helm.sh/images", "images"];
/// What Istio's webhook puts an image in for where `image: auto` stands.
const ISTIO_TEMPLATES: &str = "inject.istio.io/templates";
const ISTIO_INJECT: &str = "sidecar.istio.io/inject";

/// What is taken from manifests.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Fields named `image` in objects of other kinds than Kubernetes' own.
    pub any_image_field: bool,
    /// Every full reference, in whatever text it stands.
    pub any_string: bool,
    /// What is left out.
    pub exclude: Vec<Pattern>,
}

/// What was found in manifests.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The images in the order in which they are named, once for each place.
    pub images: Vec<Named>,
    /// What was passed over, and why.
    pub warnings: Vec<String>,
    /// What stands where an image should, and is none.
    bad: Vec<Bad>,
    /// What was told already, so that nothing is told twice.
    told: BTreeSet<Reference>,
}

/// Reads manifests: a file, every `.yaml`, `.yml` and `.json` file below a folder, or `-` for
/// standard input.
///
/// Taken are the images of pods and of whatever makes pods, init and ephemeral containers and image
/// volumes included, and those that a chart's annotations list; what `choice` says besides. Full references in
/// other texts are told of. Errors name file and line of everything that is wrong: text that is not YAML or
/// JSON, an image that is no reference.
pub fn scan(path: &Path, choice: &Choice) -> Result<Found> {
    let mut found = Found::default();
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().take(MAX_FILE).read_to_end(&mut bytes).map_err(Error::io(
            Side::Here,
            "read",
            "standard input",
        ))?;
        found.read(&decode(bytes, "standard input")?, "standard input", choice)?;
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
        let mut bytes = Vec::new();
        fs::File::open(&file)
            .and_then(|open| open.take(MAX_FILE).read_to_end(&mut bytes))
            .map_err(Error::io(Side::Source, "read", &file))?;
        let name = file.display().to_string();
        found.collect(&decode(bytes, &name)?, &name, choice);
    }
    found.require()?;
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
    pub fn read(&mut self, text: &str, file: &str, choice: &Choice) -> Result<()> {
        self.collect(text, file, choice);
        self.require()
    }

    fn collect(&mut self, text: &str, file: &str, choice: &Choice) {
        let documents = match yaml::parse(text) {
            Ok(documents) => documents,
            Err(broken) => {
                let reason = format!("{}{}", broken.reason, hint(text));
                self.bad.push(Bad { place: place(file, broken.line), reason });
                return;
            }
        };
        let mut scanner = Scanner { found: self, file, choice, mentions: Vec::new() };
        documents.iter().for_each(|document| scanner.object(document));
        let mentions = std::mem::take(&mut scanner.mentions);
        mentions.into_iter().for_each(|mention| scanner.mention(mention));
    }

    /// An error that names all that is wrong.
    fn require(&self) -> Result<()> {
        let error = all(&self.bad, |place, reason| Error::invalid(Side::Source, place, reason));
        error.map_or(Ok(()), Err)
    }
}

fn place(file: &str, line: u64) -> String {
    if line == 0 { file.to_owned() } else { format!("{file}:{line}") }
}

struct Scanner<'a> {
    found: &'a mut Found,
    file: &'a str,
    choice: &'a Choice,
    mentions: Vec<Mention>,
}

impl Scanner<'_> {
    fn object(&mut self, object: &Node) {
        let text = |key: &str| object.get(key).and_then(Node::text).unwrap_or_default();
        let (kind, version) = (text("kind"), text("apiVersion"));
        let listed = [&["annotations"][..], &["metadata", "annotations"]]
            .into_iter()
            .filter_map(|path| object.at(path))
            .filter(|annotations| self.chart(annotations))
            .count();
        if kind.is_empty() {
            if listed == 0 {
                self.warn(object.line, "no Kubernetes object, since it has no kind; passed over");
            }
            return;
        }
        if let Some(items) = object.get("items").filter(|_| kind.ends_with("List")) {
            return items.elements().iter().for_each(|item| self.object(item));
        }
        // Definitions describe fields named image; they do not fill them.
        if kind == "CustomResourceDefinition" {
            return;
        }
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let pod = POD_SPECS.iter().find(|(name, _)| *name == kind);
        // Only custom resources have a group with a dot, beside those that never name images.
        let custom = group.contains('.');
        mentions::below(object, custom && !self.choice.any_string, &mut self.mentions);
        if matches!(group, "" | "apps" | "batch" | "extensions")
            && let Some((_, path)) = pod
        {
            if let Some(spec) = object.at(path) {
                let above = &path[..path.len() - 1];
                self.pod(spec, object.at(above).is_some_and(is_injected));
            }
            return;
        }
        if !custom {
            return;
        }
        if self.choice.any_image_field {
            return self.fields(object);
        }
        if !self.choice.any_string && has_image_field(object) {
            self.warn(
                object.line,
                &format!("{kind}.{group} has fields named image; --any-image-field takes them"),
            );
        }
    }

    /// Takes the images that a chart's annotations list; whether there are any.
    fn chart(&mut self, annotations: &Node) -> bool {
        let mut listed = false;
        for text in CHART_IMAGES.iter().filter_map(|key| annotations.get(key)) {
            let lists = text.text().and_then(|list| yaml::parse(list).ok()).unwrap_or_default();
            for element in lists.iter().flat_map(Node::elements) {
                if let Some(image) = element.get("image") {
                    listed = true;
                    // Its line is that of the annotation: its own counts from there.
                    self.image(&Node { line: text.line, ..image.clone() }, None);
                }
            }
        }
        listed
    }

    /// Takes, or tells of, a name that stands in no image field.
    fn mention(&mut self, mention: Mention) {
        let Mention { image, line } = mention;
        let is_known = self.found.images.iter().any(|named| named.image == image);
        let excluded = self.choice.exclude.iter().any(|pattern| pattern.fits(&image));
        if is_known || excluded || !self.found.told.insert(image.clone()) {
            return;
        }
        if self.choice.any_string {
            let place = place(self.file, line);
            self.found.images.push(Named { image, place, pull: Pull::Unsaid });
        } else {
            self.warn(
                line,
                &format!("{image} is named in a text that is no image field; --any-string takes it"),
            );
        }
    }

    /// `injected` says whether Istio puts images in.
    fn pod(&mut self, spec: &Node, injected: bool) {
        for list in ["initContainers", "containers", "ephemeralContainers"] {
            for container in spec.get(list).map_or(&[][..], Node::elements) {
                let policy = container.get("imagePullPolicy");
                match container.get("image") {
                    Some(image) if injected && image.text() == Some("auto") => {
                        self.warn(
                            image.line,
                            "image: auto, which Istio replaces by its proxy's; passed over",
                        );
                    }
                    Some(image) => self.image(image, policy),
                    None => self.warn(container.line, "a container without an image; passed over"),
                }
            }
        }
        for volume in spec.get("volumes").map_or(&[][..], Node::elements) {
            if let Some(source) = volume.get("image")
                && let Some(image) = source.get("reference")
            {
                self.image(image, source.get("pullPolicy"));
            }
        }
    }

    fn image(&mut self, image: &Node, policy: Option<&Node>) {
        let place = place(self.file, image.line);
        let text = match &image.value {
            Value::Text(text) => text.trim(),
            Value::Other => "",
            // Two pairs of braces are YAML, too: a map in a map.
            _ => {
                let reason = "the image is no text; is it a template? `helm template` renders charts";
                self.found.bad.push(Bad { place, reason: reason.to_owned() });
                return;
            }
        };
        if text.is_empty() {
            return self.warn(image.line, "an empty image; passed over");
        }
        if self.choice.exclude.iter().any(|pattern| pattern.fits_text(text)) {
            return;
        }
        let pull = match policy.and_then(Node::text) {
            Some("Always") => Pull::Always,
            Some("IfNotPresent" | "Never") => Pull::IfNotPresent,
            _ => Pull::Unsaid,
        };
        match text.parse() {
            Ok(image) => self.found.images.push(Named { image, place, pull }),
            Err(error) => self.found.bad.push(Bad::new(place, text, &error)),
        }
    }

    /// Takes every text named `image`, however deep.
    fn fields(&mut self, node: &Node) {
        match &node.value {
            Value::List(elements) => elements.iter().for_each(|element| self.fields(element)),
            Value::Map(members) => {
                for (key, member) in members {
                    match (key.as_str(), member.text()) {
                        ("image", Some(text)) if text.trim().parse::<Reference>().is_err() => {
                            self.warn(member.line, "a field named image that names no image; passed over");
                        }
                        ("image", Some(_)) => self.image(member, node.get("imagePullPolicy")),
                        _ => self.fields(member),
                    }
                }
            }
            _ => {}
        }
    }

    fn warn(&mut self, line: u64, what: &str) {
        self.found.warnings.push(format!("{}: {what}", place(self.file, line)));
    }
}

/// Whether Istio's webhook changes the pods that this is, or is the template of.
fn is_injected(pod: &Node) -> bool {
    let label = pod.at(&["metadata", "labels"]).and_then(|labels| labels.get(ISTIO_INJECT));
    let annotations = pod.at(&["metadata", "annotations"]);
    let annotation = |key| annotations.and_then(|annotations| annotations.get(key));
    annotation(ISTIO_TEMPLATES).is_some()
        || [label, annotation(ISTIO_INJECT)].into_iter().flatten().any(|node| node.text() == Some("true"))
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
