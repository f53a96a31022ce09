//! Mirrors, as containerd's `hosts.toml` names them.
//!
//! One directory for each registry, named `HOST`, `HOST_PORT_` or `_default`, with a `hosts.toml`
//! in it; the hosts in the order of the file, the registry itself last (containerd, docs/hosts.md). Where
//! there is none, the certificates in the directory are those of the registry itself.
//! Known keys: `server`, `capabilities`, `ca`, `client`, `skip_verify`, `override_path`, `header`.

use std::fs;
use std::path::{Path, PathBuf};

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::tls::Trust;
use crate::error::{Error, Result, Side};

/// A host that has a registry's content: the registry itself or a mirror of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Host {
    /// What `PATH/manifests/...` is appended to, with a slash at its end.
    pub(super) base: Url,
    /// Whether it may say what a tag means.
    pub(super) resolves: bool,
    /// Whether it has blobs.
    pub(super) pulls: bool,
    /// Whether it stands in for another registry, and is told which.
    pub(super) mirror: bool,
    pub(super) trust: Trust,
    pub(super) headers: HeaderMap,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    server: Option<String>,
    host: toml::Table,
    #[serde(flatten)]
    settings: Settings,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<Client>,
    skip_verify: bool,
    override_path: bool,
    header: toml::Table,
    rewrite: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Client {
    Together(String),
    Apart(Vec<Vec<String>>),
    Several(Vec<String>),
}

/// The registry itself, by TLS; Docker Hub answers under another name than its images have.
pub(super) fn upstream(registry: &str, scheme: &str) -> Result<Host> {
    let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let base = Url::parse(&format!("{scheme}://{host}/v2/"))
        .map_err(|_| Error::Usage(format!("{registry} is not a registry's name")))?;
    Ok(Host {
        base,
        resolves: true,
        pulls: true,
        mirror: false,
        trust: Trust::default(),
        headers: HeaderMap::new(),
    })
}

/// The hosts that `directory` names for `registry`; none when it has no file for it.
pub(super) fn load(directory: &Path, registry: &str) -> Result<Option<Vec<Host>>> {
    let with_port = registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    let names = with_port.into_iter().chain([registry.to_owned(), "_default".to_owned()]);
    for folder in names.map(|name| directory.join(name)) {
        let path = folder.join("hosts.toml");
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if let Some(trust) = certificates(&folder)? {
                    return Ok(Some(vec![Host { trust, ..upstream(registry, "https")? }]));
                }
            }
            Err(error) => return Err(Error::from_io(Side::Source, "read", path, error)),
            Ok(text) => {
                return parse(&text, &folder, registry)
                    .map(Some)
                    .map_err(|reason| Error::Usage(format!("{}: {reason}", path.display())));
            }
        }
    }
    Ok(None)
}

/// The certificates in a folder without a `hosts.toml`, as Docker has them: `*.crt` are trusted, `X.cert`
/// and `X.key` are shown (containerd, docs/hosts.md; Docker, certs.d). `None` where there are none.
fn certificates(folder: &Path) -> Result<Option<Trust>> {
    let failed = |error| Error::from_io(Side::Source, "read", folder.to_owned(), error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.map_err(failed)?.path());
    }
    files.sort();
    let named = |extension: &str| {
        let end = std::ffi::OsString::from(extension);
        files.iter().filter(move |file| file.extension() == Some(end.as_os_str())).cloned()
    };
    let ca: Vec<PathBuf> = named("crt").collect();
    let pair = |certificate: PathBuf| {
        let key = certificate.with_extension("key");
        files.contains(&key).then_some((certificate, key))
    };
    let identity = named("cert").find_map(pair);
    let found = !ca.is_empty() || identity.is_some();
    Ok(found.then_some(Trust { ca, anyone: false, identity }))
}

fn parse(text: &str, folder: &Path, registry: &str) -> Result<Vec<Host>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    let mut hosts = Vec::new();
    for (name, value) in file.host {
        let settings: Settings = value
            .try_into()
            .map_err(|error: toml::de::Error| format!("host {name:?}: {}", error.message()))?;
        hosts.push(
            settings.host(&name, folder, registry).map_err(|reason| format!("host {name:?}: {reason}"))?,
        );
    }
    let server = match file.server {
        Some(server) => server,
        None => upstream(registry, "https").map_err(|error| error.to_string())?.base.to_string(),
    };
    hosts.push(file.settings.host(&server, folder, registry).map_err(|reason| format!("server: {reason}"))?);
    Ok(hosts)
}

impl Settings {
    fn host(self, name: &str, folder: &Path, registry: &str) -> Result<Host, String> {
        if self.rewrite.is_some() {
            // k3s writes these for a containerd of its own; to leave one out would ask for other images.
            return Err("`rewrite` is not supported; `override_path` is".into());
        }
        let text = if name.contains("://") { name.to_owned() } else { format!("https://{name}") };
        let mut base: Url = text.parse().map_err(|_| "not a URL".to_owned())?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err("neither http nor https".into());
        }
        let path = base.path().trim_end_matches('/').to_owned();
        let path = if self.override_path || path.ends_with("/v2") { path } else { format!("{path}/v2") };
        base.set_path(&format!("{path}/"));
        let can = |what: &str| {
            self.capabilities.as_ref().is_none_or(|list| list.iter().any(|capability| capability == what))
        };
        let (resolves, pulls) = (can("resolve"), can("pull"));
        let at = |file: &str| folder.join(file);
        let ca = match self.ca {
            None => Vec::new(),
            Some(OneOrMany::One(file)) => vec![at(&file)],
            Some(OneOrMany::Many(files)) => files.iter().map(|file| at(file)).collect(),
        };
        let identity = self.client.and_then(|client| client.first_pair(&at));
        let mut headers = HeaderMap::new();
        for (name, value) in self.header {
            let values = match value {
                toml::Value::Array(values) => values,
                single => vec![single],
            };
            let name = HeaderName::try_from(&name).map_err(|_| format!("{name:?} is not a header's name"))?;
            for value in values {
                let mut value = HeaderValue::try_from(value.as_str().unwrap_or_default())
                    .map_err(|_| format!("the header {name} has a value that HTTP cannot carry"))?;
                value.set_sensitive(true);
                headers.append(&name, value);
            }
        }
        let own = upstream(registry, "https").map_err(|error| error.to_string())?.base;
        let mirror =
            base.host_str() != own.host_str() || base.port_or_known_default() != own.port_or_known_default();
        Ok(Host {
            base,
            resolves,
            pulls,
            mirror,
            trust: Trust { ca, anyone: self.skip_verify, identity },
            headers,
        })
    }
}

impl Client {
    fn first_pair(self, at: &impl Fn(&str) -> PathBuf) -> Option<(PathBuf, PathBuf)> {
        let pair = match self {
            Self::Together(file) => vec![file],
            Self::Several(files) => files.into_iter().take(1).collect(),
            Self::Apart(pairs) => pairs.into_iter().next()?,
        };
        let certificate = at(pair.first()?);
        let key = pair.get(1).map_or_else(|| certificate.clone(), |file| at(file));
        Some((certificate, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str, registry: &str) -> Vec<Host> {
        parse(text, Path::new("certs.d/x"), registry).unwrap()
    }

    fn bases(hosts: &[Host]) -> Vec<&str> {
        hosts.iter().map(|host| host.base.as_str()).collect()
    }

    #[test]
    fn mirrors_come_in_the_order_of_the_file_and_the_registry_last() {
        let text = r#"
            server = "https://registry-1.docker.io"
            [host."https://zz.local"]
              capabilities = ["pull", "resolve"]
              ca = "ca.crt"
            [host."http://10.10.10.10:5050"]
              capabilities = ["pull"]
              skip_verify = true
            [host."https://aa.local/v2/docker-hub"]
              override_path = true
              client = [["c.crt", "c.key"]]
              [host."https://aa.local/v2/docker-hub".header]
                x-team = ["a", "b"]
        "#;
        let hosts = hosts(text, "docker.io");
        assert_eq!(
            bases(&hosts),
            [
                "https://zz.local/v2/",
                "http://10.10.10.10:5050/v2/",
                "https://aa.local/v2/docker-hub/",
                "https://registry-1.docker.io/v2/"
            ]
        );
        assert_eq!(hosts[0].trust.ca, [PathBuf::from("certs.d/x/ca.crt")]);
        assert!(hosts[0].mirror && hosts[0].resolves && !hosts[0].trust.anyone);
        assert!(hosts[1].pulls && !hosts[1].resolves && hosts[1].trust.anyone);
        assert_eq!(hosts[2].trust.identity, Some(("certs.d/x/c.crt".into(), "certs.d/x/c.key".into())));
        assert_eq!(hosts[2].headers.get_all("x-team").iter().count(), 2);
        assert!(!hosts[3].mirror);
    }

    #[test]
    fn the_registry_itself_needs_no_mention() {
        assert_eq!(bases(&hosts("", "docker.io")), ["https://registry-1.docker.io/v2/"]);
        let hosts = hosts("[host.\"mirror.local:5000\"]\n", "ghcr.io");
        assert_eq!(bases(&hosts), ["https://mirror.local:5000/v2/", "https://ghcr.io/v2/"]);
    }

    #[test]
    fn a_directory_is_found_by_the_registrys_name() {
        let root = tempfile::tempdir().unwrap();
        for (folder, server) in
            [("a.io", "https://one"), ("b.io_5000_", "https://two"), ("_default", "https://rest")]
        {
            fs::create_dir(root.path().join(folder)).unwrap();
            fs::write(root.path().join(folder).join("hosts.toml"), format!("server = {server:?}")).unwrap();
        }
        let server = |registry| load(root.path(), registry).unwrap().unwrap()[0].base.to_string();
        assert_eq!(server("a.io"), "https://one/v2/");
        assert_eq!(server("b.io:5000"), "https://two/v2/");
        assert_eq!(server("c.io"), "https://rest/v2/");
        assert!(load(&root.path().join("none"), "a.io").unwrap().is_none());
    }

    #[test]
    fn certificates_alone_are_those_of_the_registry_itself() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a.io_5000_");
        fs::create_dir(&folder).unwrap();
        assert!(load(root.path(), "a.io:5000").unwrap().is_none());
        for file in ["ca.crt", "client.cert", "client.key", "other.cert", "notes.txt"] {
            fs::write(folder.join(file), "").unwrap();
        }
        let hosts = load(root.path(), "a.io:5000").unwrap().unwrap();
        assert_eq!(bases(&hosts), ["https://a.io:5000/v2/"]);
        let trust = &hosts[0].trust;
        assert_eq!((&trust.ca, trust.anyone), (&vec![folder.join("ca.crt")], false));
        assert_eq!(trust.identity, Some((folder.join("client.cert"), folder.join("client.key"))));
        assert!(!hosts[0].mirror);
    }

    #[test]
    fn what_would_be_misunderstood_is_refused() {
        let refused = |text| parse(text, Path::new("."), "a.io").unwrap_err();
        assert!(refused("[host.\"ftp://x\"]").contains("neither http"));
        assert!(refused("[host.\"https://x\".rewrite]\n\"^a\" = \"b\"").contains("rewrite"));
        assert!(refused("host = 1\n[").contains("line"));
    }
}
