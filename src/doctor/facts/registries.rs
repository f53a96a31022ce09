//! Where containerd looks for images beside the node: proxies and mirrors.

use std::fs;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;

use crate::sysroot;

/// How long a host may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Folders of systemd that hold units and what is added to them.
const UNITS: [&str; 3] = ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"];
/// Folders of mirrors: containerd's own, that of Canonical Kubernetes, that of MicroK8s.
const HOSTS: [&str; 4] = [
    "/etc/containerd/certs.d",
    "/etc/containerd/hosts.d",
    "/var/snap/k8s/common/etc/containerd/hosts.d",
    "/var/snap/microk8s/current/args/certs.d",
];

/// A proxy that containerd is told to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// The file.
    pub file: PathBuf,
    /// The variable: `HTTPS_PROXY`.
    pub variable: String,
    /// Its value, without a password.
    pub value: String,
    /// What is wrong with the value.
    pub malformed: Option<String>,
    /// Why nobody answers there; `None` when somebody does.
    pub unreachable: Option<String>,
    /// Whether the same file says what is not asked through it.
    pub exceptions: bool,
}

/// A `hosts.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostsFile {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub malformed: Option<String>,
    /// The hosts that it names.
    pub hosts: Vec<MirrorHost>,
}

/// A host of a `hosts.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorHost {
    /// Its URL.
    pub url: String,
    /// Why nobody answers there; `None` when somebody does.
    pub unreachable: Option<String>,
}

/// The proxies in what is added to units of containerd, k3s, RKE2 and k0s.
pub(super) fn proxies(system: &Path) -> Vec<Proxy> {
    let mut proxies = Vec::new();
    for units in UNITS.iter().filter_map(|path| sysroot::resolve(system, Path::new(path))) {
        for folder in entries(&units).into_iter().filter(|folder| is_ours(folder)) {
            for file in entries(&folder) {
                proxies.extend(read_proxies(&file, &fs::read_to_string(&file).unwrap_or_default()));
            }
        }
    }
    proxies
}

fn is_ours(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let unit = name.strip_suffix(".service.d").unwrap_or_default();
    ["containerd", "k3s", "rke2", "k0s"].iter().any(|part| unit.contains(part))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// `Environment="HTTPS_PROXY=http://squid:3128" "NO_PROXY=10.0.0.0/8"` (`systemd.exec(5)`).
fn read_proxies(file: &Path, text: &str) -> Vec<Proxy> {
    let assignments: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Environment="))
        .flat_map(words)
        .filter_map(|word| word.split_once('=').map(|(name, value)| (name.to_uppercase(), value.to_owned())))
        .collect();
    let exceptions = assignments.iter().any(|(name, value)| name == "NO_PROXY" && !value.is_empty());
    let proxy = |(variable, value): &(String, String)| {
        let is_proxy = matches!(variable.as_str(), "HTTP_PROXY" | "HTTPS_PROXY") && !value.is_empty();
        is_proxy.then(|| {
            let parsed = proxy_url(value);
            Proxy {
                file: file.into(),
                variable: variable.clone(),
                value: without_password(value),
                malformed: parsed.as_ref().err().cloned(),
                unreachable: parsed.ok().and_then(|url| unreachable(&url)),
                exceptions,
            }
        })
    };
    assignments.iter().filter_map(proxy).collect()
}

/// Splits at spaces outside quotes, which are taken away.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.push(c),
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c.is_whitespace() => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            None => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// A proxy as Go reads it: without a scheme it is one of HTTP.
fn proxy_url(value: &str) -> Result<Url, String> {
    let text = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let url = Url::parse(&text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" | "socks5" | "socks5h" if url.host_str().is_some() => Ok(url),
        scheme => Err(format!("{scheme} is no scheme of a proxy")),
    }
}

fn without_password(value: &str) -> String {
    match (value.find("://").map_or(0, |at| at + 3), value.rfind('@')) {
        (start, Some(at)) if at > start => format!("{}***{}", &value[..start], &value[at..]),
        _ => value.to_owned(),
    }
}

/// Why nobody answers at the host of a URL.
fn unreachable(url: &Url) -> Option<String> {
    let host = url.host_str()?.trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(1080);
    let addresses = match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return Some(error.to_string()),
    };
    let mut why = "it has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return None,
            Err(error) => why = error.to_string(),
        }
    }
    Some(why)
}

/// Every `hosts.toml` that containerd may read.
pub(super) fn hosts(system: &Path) -> Vec<HostsFile> {
    let folders = HOSTS.iter().filter_map(|path| sysroot::resolve(system, Path::new(path)));
    let files = folders.flat_map(|folder| entries(&folder)).map(|folder| folder.join("hosts.toml"));
    let read = |file: PathBuf| fs::read_to_string(&file).ok().map(|text| read_hosts(file, &text));
    files.filter_map(read).collect()
}

fn read_hosts(file: PathBuf, text: &str) -> HostsFile {
    let urls = match mirrors(text) {
        Ok(urls) => urls,
        Err(reason) => return HostsFile { file, malformed: Some(reason), hosts: Vec::new() },
    };
    let host = |url: &Url| MirrorHost { url: url.to_string(), unreachable: unreachable(url) };
    HostsFile { file, malformed: None, hosts: urls.iter().map(host).collect() }
}

/// The mirrors of a `hosts.toml`; not the registry itself, which is out of reach as a matter of course.
fn mirrors(text: &str) -> Result<Vec<Url>, String> {
    let file: toml::Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    let Some(hosts) = file.get("host") else { return Ok(Vec::new()) };
    let hosts = hosts.as_table().ok_or("`host` is no table")?;
    let url = |(name, settings): (&String, &toml::Value)| {
        let text = if name.contains("://") { name.clone() } else { format!("https://{name}") };
        let url = Url::parse(&text).map_err(|error| format!("host {name:?}: {error}"))?;
        match url.scheme() {
            _ if !settings.is_table() => Err(format!("host {name:?} is no table")),
            "http" | "https" => Ok(url),
            _ => Err(format!("host {name:?}: neither http nor https")),
        }
    };
    hosts.iter().map(url).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_from_what_is_added_to_units() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let text = format!(
            "[Service]\nEnvironment=\"HTTPS_PROXY=http://u:secret@{address}\" \"NO_PROXY=10.0.0.0/8\"\n\
             Environment=http_proxy=ftp://squid\n"
        );
        let found = read_proxies(Path::new("x"), &text);
        assert_eq!(found.len(), 2);
        assert_eq!((&found[0].malformed, &found[0].unreachable, found[0].exceptions), (&None, &None, true));
        assert!(!found[0].value.contains("secret"), "{}", found[0].value);
        assert!(found[1].malformed.is_some());
        drop(listener);
        assert!(read_proxies(Path::new("x"), &text)[0].unreachable.is_some());
        let alone = read_proxies(Path::new("x"), "Environment=HTTP_PROXY=127.0.0.1:1\n");
        assert!(!alone[0].exceptions && alone[0].malformed.is_none());
    }

    #[test]
    fn mirrors_are_read_below_the_system_and_tried() {
        let dir = tempfile::tempdir().unwrap();
        let write = |registry: &str, text: &str| {
            let folder = dir.path().join("etc/containerd/hosts.d").join(registry);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("hosts.toml"), text).unwrap();
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        write(
            "a.io",
            &format!("server = 'https://a.io'\n[host.'http://{address}']\ncapabilities = ['pull']\n"),
        );
        write("b.io", "[host.'ftp://x']\n");
        write("c.io", "[host\n");
        let found = hosts(dir.path());
        assert_eq!(found.len(), 3);
        assert_eq!((&found[0].malformed, &found[0].hosts[0].unreachable), (&None, &None));
        assert!(found[1].malformed.is_some() && found[2].malformed.is_some());
        drop(listener);
        assert!(hosts(dir.path())[0].hosts[0].unreachable.is_some());
    }

    #[test]
    fn only_units_that_run_containerd_matter() {
        for (name, is) in [
            ("snap.k8s.containerd.service.d", true),
            ("k3s-agent.service.d", true),
            ("containerd.service", false),
            ("ssh.service.d", false),
        ] {
            assert_eq!(is_ours(Path::new(name)), is, "{name}");
        }
    }
}
