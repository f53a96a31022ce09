//! What each distribution's containerd reads to pull from a mirror, as files: values, written elsewhere.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A file to write, below the root of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostsFile {
    /// Its path without the leading slash.
    pub path: PathBuf,
    /// Its content.
    pub content: String,
}

/// What is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The mirror.
    pub mirror: Mirror,
    /// The registries that it stands for; any where there is none.
    pub registries: BTreeSet<String>,
    /// A CA certificate (PEM) that signed the mirror's.
    pub ca: Option<String>,
    /// Whether the mirror has each registry's images below its name.
    pub with_registry: bool,
}

/// The URL of a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// `http` or `https`.
    pub scheme: String,
    /// The host, with its port if it has one.
    pub host: String,
    /// The path below which its images are; empty for the root.
    pub path: String,
}

impl std::str::FromStr for Mirror {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "say http://HOST[:PORT][/PATH] or https://...".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        let path = path
            .strip_prefix("v2/")
            .or_else(|| path.strip_prefix("v2").filter(|rest| rest.is_empty()))
            .unwrap_or(path);
        let legal = |text: &str, more: &[u8]| {
            text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b) || more.contains(&b))
        };
        if !matches!(scheme, "http" | "https")
            || host.is_empty()
            || !legal(host, b":[]")
            || !legal(path, b"/")
        {
            return Err(wrong());
        }
        Ok(Self { scheme: scheme.to_owned(), host: host.to_owned(), path: path.to_owned() })
    }
}

/// A Kubernetes distribution, by how its containerd is told of mirrors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// kubeadm, and any containerd whose config_path is /etc/containerd/certs.d
    Kubeadm,
    /// Canonical Kubernetes, the k8s snap
    K8sSnap,
    /// Canonical Kubernetes, the k8s charm: an option for Juju
    K8sCharm,
    /// k3s
    K3s,
    /// RKE2
    Rke2,
    /// k0s
    K0s,
    /// MicroK8s
    Microk8s,
    /// Talos: a patch of the machine configuration
    Talos,
}

impl Distribution {
    /// All of them, with their names.
    pub const NAMES: [(&'static str, Self); 8] = [
        ("kubeadm", Self::Kubeadm),
        ("k8s-snap", Self::K8sSnap),
        ("k8s-charm", Self::K8sCharm),
        ("k3s", Self::K3s),
        ("rke2", Self::Rke2),
        ("k0s", Self::K0s),
        ("microk8s", Self::Microk8s),
        ("talos", Self::Talos),
    ];
}

impl std::str::FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, distribution)| *distribution).ok_or_else(|| {
            let names: Vec<&str> = Self::NAMES.iter().map(|(name, _)| *name).collect();
            format!("one of {}", names.join(", "))
        })
    }
}

impl Setup {
    /// The URL for `registry`, and whether it is to be taken as it is, without `/v2` behind the host.
    fn url(&self, registry: &str) -> (String, bool) {
        let Mirror { scheme, host, path } = &self.mirror;
        let below =
            if self.with_registry { registry.replace(':', "-").to_lowercase() } else { String::new() };
        let parts: Vec<&str> = [path.as_str(), &below].into_iter().filter(|part| !part.is_empty()).collect();
        match parts.is_empty() {
            true => (format!("{scheme}://{host}"), false),
            false => (format!("{scheme}://{host}/v2/{}", parts.join("/")), true),
        }
    }

    /// The registries by name, or what stands for any of them.
    fn names(&self, any: &str) -> Vec<String> {
        if self.registries.is_empty() {
            vec![any.to_owned()]
        } else {
            self.registries.iter().cloned().collect()
        }
    }

    /// The files, and what a person has to do besides.
    ///
    /// Errors: a sentence, where the mirror cannot be described so.
    pub fn files(&self, distribution: Distribution) -> Result<(Vec<HostsFile>, Vec<String>), String> {
        if self.with_registry && self.registries.is_empty() {
            return Err(
                "with the registries as a part of the path, name each one with --registry, or give a medium"
                    .into(),
            );
        }
        let mut notes = Vec::new();
        let files = match distribution {
            Distribution::Kubeadm => {
                notes.push(CONFIG_PATH.replace("DIR", "/etc/containerd/certs.d"));
                self.hosts("etc/containerd/certs.d")
            }
            Distribution::K8sSnap => {
                notes.push(
                    "a strictly confined snap reads /var/snap/k8s/common/etc/containerd/hosts.d instead"
                        .into(),
                );
                self.hosts("etc/containerd/hosts.d")
            }
            Distribution::Microk8s => self.hosts("var/snap/microk8s/current/args/certs.d"),
            Distribution::K0s => {
                let mut files = self.hosts("etc/k0s/certs.d");
                files.push(HostsFile {
                    path: "etc/k0s/containerd.d/pannier-mirror.toml".into(),
                    content: K0S.into(),
                });
                notes.push("restart k0s; versions before 1.33 (containerd 1.7) read the first of the two tables, later ones the second".into());
                files
            }
            Distribution::K3s => self.rancher("k3s", &mut notes),
            Distribution::Rke2 => self.rancher("rke2", &mut notes),
            Distribution::Talos => {
                notes
                    .push("apply it with `talosctl patch machineconfig --patch @pannier-mirror.yaml`".into());
                vec![HostsFile { path: "pannier-mirror.yaml".into(), content: self.talos() }]
            }
            Distribution::K8sCharm => {
                notes.push("set it with `juju config k8s containerd-custom-registries=@pannier-registries.json`, and for k8s-worker the same".into());
                vec![HostsFile { path: "pannier-registries.json".into(), content: self.charm()? }]
            }
        };
        Ok((files, notes))
    }

    /// One `hosts.toml` for each registry (containerd, docs/hosts.md), and the CA beside it.
    fn hosts(&self, folder: &str) -> Vec<HostsFile> {
        let mut files = Vec::new();
        for registry in self.names("_default") {
            // containerd looks for `HOST_PORT_` first, and some filesystems take no colon.
            let name = match registry.rsplit_once(':') {
                Some((host, port)) => format!("{host}_{port}_"),
                None => registry.clone(),
            };
            let at = PathBuf::from(folder).join(name);
            let (url, as_it_is) = self.url(&registry);
            let mut more = String::from("capabilities = [\"pull\", \"resolve\"]\n");
            if self.ca.is_some() {
                more += "ca = \"mirror.crt\"\n";
            }
            if as_it_is {
                more += "override_path = true\n";
            }
            let indented: String = more.lines().map(|line| format!("  {line}\n")).collect();
            // The server is the mirror as well, so that nothing waits for upstream where the mirror has not got it.
            let content = format!("server = \"{url}\"\n{more}\n[host.\"{url}\"]\n{indented}");
            files.push(HostsFile { path: at.join("hosts.toml"), content });
            if let Some(ca) = &self.ca {
                files.push(HostsFile { path: at.join("mirror.crt"), content: ca.clone() });
            }
        }
        files
    }

    /// `registries.yaml` of k3s and RKE2.
    fn rancher(&self, name: &str, notes: &mut Vec<String>) -> Vec<HostsFile> {
        let folder = PathBuf::from(format!("etc/rancher/{name}"));
        let mut content = String::from("mirrors:\n");
        for registry in self.names("*") {
            let (url, _) = self.url(&registry);
            let _ = write!(content, "  \"{registry}\":\n    endpoint:\n      - \"{url}\"\n");
        }
        let mut files = Vec::new();
        if let Some(ca) = &self.ca {
            let host = &self.mirror.host;
            let _ = write!(
                content,
                "configs:\n  \"{host}\":\n    tls:\n      ca_file: /{}\n",
                folder.join("mirror.crt").display()
            );
            files.push(HostsFile { path: folder.join("mirror.crt"), content: ca.clone() });
        }
        files.insert(0, HostsFile { path: folder.join("registries.yaml"), content });
        notes.push(format!("start {name} with --disable-default-registry-endpoint, so that nothing waits for upstream; restart it on every node"));
        files
    }

    fn talos(&self) -> String {
        let mut text = String::from("machine:\n  registries:\n    mirrors:\n");
        for registry in self.names("*") {
            let (url, as_it_is) = self.url(&registry);
            let _ = write!(
                text,
                "      \"{registry}\":\n        endpoints:\n          - \"{url}\"\n        skipFallback: true\n"
            );
            if as_it_is {
                text += "        overridePath: true\n";
            }
        }
        if let Some(ca) = &self.ca {
            let (host, ca) = (&self.mirror.host, STANDARD.encode(ca));
            let _ = write!(text, "    config:\n      \"{host}\":\n        tls:\n          ca: {ca}\n");
        }
        text
    }

    fn charm(&self) -> Result<String, String> {
        if self.registries.is_empty() {
            return Err("the charm wants each registry by its name: --registry, or a medium".into());
        }
        let entries: Vec<serde_json::Value> = self
            .registries
            .iter()
            .map(|registry| {
                let (url, as_it_is) = self.url(registry);
                let mut entry = serde_json::json!({ "host": registry, "url": url });
                if as_it_is {
                    entry["override_path"] = true.into();
                }
                if let Some(ca) = &self.ca {
                    entry["ca_file"] = STANDARD.encode(ca).into();
                }
                entry
            })
            .collect();
        serde_json::to_string_pretty(&entries).map(|text| text + "\n").map_err(|error| error.to_string())
    }
}

const CONFIG_PATH: &str = "containerd reads them where its config_path is exactly DIR: a list of folders, the default of 2.2 and \
    later, is not split, and hosts.toml is ignored without a word (containerd#12636)";

const K0S: &str = "\
version = 2

[plugins.\"io.containerd.grpc.v1.cri\".registry]
  config_path = \"/etc/k0s/certs.d\"

[plugins.\"io.containerd.cri.v1.images\".registry]
  config_path = \"/etc/k0s/certs.d\"
";

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(mirror: &str, registries: &[&str]) -> Setup {
        Setup {
            mirror: mirror.parse().unwrap(),
            registries: registries.iter().map(|name| (*name).to_owned()).collect(),
            ca: None,
            with_registry: false,
        }
    }

    fn file(setup: &Setup, distribution: Distribution, path: &str) -> String {
        let (files, _) = setup.files(distribution).unwrap();
        let found = files.iter().find(|file| file.path == std::path::Path::new(path));
        found.unwrap_or_else(|| panic!("{path} in {files:?}")).content.clone()
    }

    #[test]
    fn a_mirror_at_its_root_and_one_below_a_path() {
        let plain = setup("http://10.0.0.1:5000", &["docker.io", "localhost:5000"]);
        assert_eq!(
            file(&plain, Distribution::K8sSnap, "etc/containerd/hosts.d/docker.io/hosts.toml"),
            "server = \"http://10.0.0.1:5000\"\ncapabilities = [\"pull\", \"resolve\"]\n\n[host.\"http://10.0.0.1:5000\"]\n  \
             capabilities = [\"pull\", \"resolve\"]\n"
        );
        file(&plain, Distribution::Kubeadm, "etc/containerd/certs.d/localhost_5000_/hosts.toml");
        let mut nested = setup("https://harbor.example/v2/k8s/", &["ghcr.io"]);
        nested.with_registry = true;
        nested.ca = Some("PEM".into());
        let text = file(&nested, Distribution::Kubeadm, "etc/containerd/certs.d/ghcr.io/hosts.toml");
        assert!(text.contains("[host.\"https://harbor.example/v2/k8s/ghcr.io\"]"), "{text}");
        assert_eq!(text.matches("override_path = true").count(), 2, "{text}");
        assert_eq!(text.matches("ca = \"mirror.crt\"").count(), 2, "relative, for the host and the server");
        assert_eq!(file(&nested, Distribution::Kubeadm, "etc/containerd/certs.d/ghcr.io/mirror.crt"), "PEM");
    }

    #[test]
    fn without_names_it_stands_for_every_registry() {
        let any = setup("http://m:5000", &[]);
        file(&any, Distribution::Kubeadm, "etc/containerd/certs.d/_default/hosts.toml");
        assert!(file(&any, Distribution::K3s, "etc/rancher/k3s/registries.yaml").contains("\"*\":"));
        assert!(file(&any, Distribution::Talos, "pannier-mirror.yaml").contains("\"*\":"));
        assert!(any.files(Distribution::K8sCharm).is_err());
        assert!(Setup { with_registry: true, ..any }.files(Distribution::Kubeadm).is_err());
    }

    #[test]
    fn each_distribution_is_told_of_the_authority() {
        let setup = Setup { ca: Some("PEM\n".into()), ..setup("https://m:5000", &["ghcr.io"]) };
        let rke2 = file(&setup, Distribution::Rke2, "etc/rancher/rke2/registries.yaml");
        assert!(
            rke2.contains("ca_file: /etc/rancher/rke2/mirror.crt") && rke2.contains("\"m:5000\":"),
            "{rke2}"
        );
        assert!(file(&setup, Distribution::Talos, "pannier-mirror.yaml").contains("ca: UEVNCg=="));
        let charm: serde_json::Value =
            serde_json::from_str(&file(&setup, Distribution::K8sCharm, "pannier-registries.json")).unwrap();
        assert_eq!(charm[0]["ca_file"], "UEVNCg==");
        assert!(
            file(&setup, Distribution::K0s, "etc/k0s/containerd.d/pannier-mirror.toml")
                .contains("/etc/k0s/certs.d")
        );
    }

    #[test]
    fn what_is_no_url_of_a_mirror_is_refused() {
        for bad in ["", "m:5000", "ftp://m", "http://", "http://m/a\"b", "http://m/a?b", "http://u:p@m"] {
            assert!(bad.parse::<Mirror>().is_err(), "{bad}");
        }
        let mirror: Mirror = "https://m/v2".parse().unwrap();
        assert_eq!((mirror.host.as_str(), mirror.path.as_str()), ("m", ""));
    }
}
