//! What kubelet is told about disks and images, and what it remembers of pulls.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::containerd::{flag, kubelet_arguments};
use crate::sysroot;

/// Its configuration where kubeadm puts it.
const CONFIG: &str = "/var/lib/kubelet/config.yaml";
/// Its arguments where the snaps of Canonical Kubernetes and MicroK8s keep them, one a line.
const ARGUMENTS: [&str; 2] = ["/var/snap/k8s/common/args/kubelet", "/var/snap/microk8s/current/args/kubelet"];
/// Pulls that have begun and not ended (Kubernetes 1.33, KEP-2535).
const PULLING: &str = "/var/lib/kubelet/image_manager/pulling";
/// Most records of pulls that are read.
const MAX_INTENTS: usize = 1000;

/// What is known of kubelet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kubelet {
    /// The file that it was read from, if there was one.
    pub config: Option<PathBuf>,
    /// When it finds a disk too full.
    pub thresholds: Thresholds,
    /// Of which images it wants to see credentials (`imagePullCredentialsVerificationPolicy`).
    pub credential_policy: Option<String>,
    /// Pulls that were cut off.
    pub pull_intents: Vec<PullIntent>,
}

/// A pull that began and did not end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullIntent {
    /// Its file.
    pub file: PathBuf,
    /// The image.
    pub image: String,
}

/// When kubelet finds a disk too full. The defaults are those of Kubernetes.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// Below this much free space on the filesystem of images no pod starts (`imagefs.available`).
    pub images: Option<Amount>,
    /// The same for the filesystem of kubelet (`nodefs.available`).
    pub node: Option<Amount>,
    /// The same for inodes (`nodefs.inodesFree`).
    pub inodes: Option<Amount>,
    /// Above this much used, in percent, images that no container uses are removed.
    pub collects_at: u64,
}

/// A part of a whole, or a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// Percent of the whole.
    Percent(f64),
    /// Bytes, or inodes.
    Number(u64),
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            images: Some(Amount::Percent(15.0)),
            node: Some(Amount::Percent(10.0)),
            inodes: Some(Amount::Percent(5.0)),
            collects_at: 85,
        }
    }
}

impl Amount {
    /// What it comes to of `whole`.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Self::Percent(percent) => (whole as f64 * percent / 100.0) as u64,
            Self::Number(number) => number,
        }
    }

    /// Reads `15%`, `10Gi`, `500M`, `1000` (Kubernetes, `resource.Quantity`).
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(percent) = text.strip_suffix('%') {
            return percent.parse().ok().map(Self::Percent);
        }
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (number, unit) = text.split_at(digits);
        let unit: u64 = match unit {
            "" => 1,
            "k" => 1000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            _ => return None,
        };
        number.parse::<f64>().ok().map(|number| Self::Number((number * unit as f64) as u64))
    }
}

/// The part of a KubeletConfiguration that matters.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Configuration {
    #[serde(rename = "imageGCHighThresholdPercent")]
    collects_at: Option<u64>,
    eviction_hard: Option<BTreeMap<String, String>>,
    image_pull_credentials_verification_policy: Option<String>,
}

/// A record of a pull (`ImagePullIntent`).
#[derive(Deserialize)]
struct Intent {
    image: String,
}

impl Kubelet {
    /// Reads what there is below `system`.
    pub(super) fn read(system: &Path) -> Self {
        let at = |path: &Path| sysroot::resolve(system, path).unwrap_or_else(|| path.into());
        let arguments = kubelet_arguments(&system.join("proc"))
            .or_else(|| {
                ARGUMENTS.iter().find_map(|file| fs::read_to_string(at(Path::new(file))).ok()).map(lines)
            })
            .unwrap_or_default();
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let path = at(Path::new(flag(&words, "config").unwrap_or(CONFIG)));
        let text = fs::read_to_string(&path).ok();
        let mut kubelet = Self { config: text.is_some().then_some(path), ..Self::default() };
        kubelet.configure(text.as_deref().unwrap_or_default());
        if let Some(eviction) = flag(&words, "eviction-hard") {
            let pairs = eviction.trim_matches(['"', '\'']).split(',').filter_map(|pair| pair.split_once('<'));
            kubelet.evict(&pairs.map(|(key, value)| (key.trim().to_owned(), value.to_owned())).collect());
        }
        if let Some(percent) = flag(&words, "image-gc-high-threshold").and_then(|text| text.parse().ok()) {
            kubelet.thresholds.collects_at = percent;
        }
        kubelet.pull_intents = intents(&at(Path::new(PULLING)));
        kubelet
    }

    fn configure(&mut self, text: &str) {
        // What is no configuration says nothing; kubelet itself tells that better.
        let configuration: Configuration = serde_saphyr::from_str(text).unwrap_or_default();
        self.credential_policy = configuration.image_pull_credentials_verification_policy;
        if let Some(percent) = configuration.collects_at {
            self.thresholds.collects_at = percent;
        }
        if let Some(eviction) = configuration.eviction_hard {
            self.evict(&eviction);
        }
    }

    /// Where any threshold is set, those that are not set are off.
    fn evict(&mut self, set: &BTreeMap<String, String>) {
        let amount = |key: &str| set.get(key).and_then(|text| Amount::parse(text));
        self.thresholds.images = amount("imagefs.available");
        self.thresholds.node = amount("nodefs.available");
        self.thresholds.inodes = amount("nodefs.inodesFree");
    }
}

fn lines(text: String) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).collect()
}

fn intents(folder: &Path) -> Vec<PullIntent> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_INTENTS);
    let mut intents: Vec<PullIntent> = entries
        .filter_map(|entry| {
            let intent: Intent = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
            Some(PullIntent { file: entry.path(), image: intent.image })
        })
        .collect();
    intents.sort_by(|a, b| a.file.cmp(&b.file));
    intents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_writes_them() {
        for (text, amount) in [
            ("15%", Amount::Percent(15.0)),
            ("10Gi", Amount::Number(10 << 30)),
            ("1.5G", Amount::Number(1_500_000_000)),
            ("1000", Amount::Number(1000)),
        ] {
            assert_eq!(Amount::parse(text), Some(amount), "{text}");
        }
        assert_eq!(Amount::parse("much"), None);
        assert_eq!((Amount::Percent(15.0).of(200), Amount::Number(7).of(200)), (30, 7));
    }

    #[test]
    fn what_is_set_switches_off_what_is_not() {
        let mut kubelet = Kubelet::default();
        kubelet.configure(
            "kind: KubeletConfiguration\nimageGCHighThresholdPercent: 70\nfailSwapOn: false\n\
             evictionHard:\n  imagefs.available: 5Gi\nimagePullCredentialsVerificationPolicy: AlwaysVerify\n",
        );
        assert_eq!(
            kubelet.thresholds,
            Thresholds { images: Some(Amount::Number(5 << 30)), node: None, inodes: None, collects_at: 70 }
        );
        assert_eq!(kubelet.credential_policy.as_deref(), Some("AlwaysVerify"));
        kubelet = Kubelet::default();
        kubelet.configure("a: [");
        assert_eq!(kubelet, Kubelet::default());
    }

    #[test]
    fn files_are_read_below_the_system() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(Kubelet::read(dir.path()), Kubelet::default());
        write(CONFIG, "imageGCHighThresholdPercent: 80\n");
        write(&format!("{PULLING}/a"), "{\"kind\":\"ImagePullIntent\",\"image\":\"app:1\"}");
        write(&format!("{PULLING}/broken"), "{");
        write(ARGUMENTS[0], "--v=2\n--eviction-hard=\"imagefs.available<1Gi,nodefs.available<5%\"\n");
        let kubelet = Kubelet::read(dir.path());
        assert_eq!(kubelet.thresholds.collects_at, 80);
        assert_eq!(kubelet.thresholds.images, Some(Amount::Number(1 << 30)));
        assert_eq!((kubelet.thresholds.node, kubelet.thresholds.inodes), (Some(Amount::Percent(5.0)), None));
        assert_eq!(kubelet.pull_intents.len(), 1);
        assert_eq!(kubelet.pull_intents[0].image, "app:1");
    }
}
