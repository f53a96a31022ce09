//! Proxies and mirrors: without a network nothing should need them, and a broken one makes pulls hang.

use crate::doctor::Severity::{Note, Warning};
use crate::doctor::{Diagnosis, NodeFacts};

pub(super) fn examine(facts: &NodeFacts) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    for proxy in &facts.proxies {
        let place = format!("{}={} in {}", proxy.variable, proxy.value, proxy.file.display());
        let restart =
            format!("edit {}, then systemctl daemon-reload and restart the service", proxy.file.display());
        if let Some(reason) = &proxy.malformed {
            findings.push(Diagnosis::new(
                "proxy-malformed",
                Warning,
                format!("{place} is no proxy: {reason}"),
                "containerd cannot pull anything with it",
                &restart,
            ));
        } else if let Some(reason) = &proxy.unreachable {
            findings.push(Diagnosis::new(
                "proxy-unreachable",
                Warning,
                format!("{place} does not answer: {reason}"),
                "each pull of an image that is not there takes minutes to fail",
                format!("{restart}; without a network, take the proxy out"),
            ));
        }
        if !proxy.exceptions {
            findings.push(Diagnosis::new(
                "proxy-without-exceptions",
                Note,
                format!("{place} comes without NO_PROXY"),
                "registries and mirrors of the own network are asked through the proxy as well",
                &restart,
            ));
        }
    }
    let mirrors = facts.containerd.as_ref().and_then(|containerd| containerd.mirrors.as_deref());
    if let (Some(folders), Some(file)) =
        (mirrors.filter(|folders| folders.contains(':')), facts.hosts.first())
    {
        findings.push(Diagnosis::new(
            "hosts-ignored",
            Warning,
            format!("config_path of CRI is the list {folders}, so {} is not read", file.file.display()),
            "containerd takes the list for one folder, and asks no mirror (containerd issue 12636)",
            "set config_path to one folder in /etc/containerd/config.toml, and restart containerd",
        ));
    }
    for file in &facts.hosts {
        if let Some(reason) = &file.malformed {
            findings.push(Diagnosis::new(
                "hosts-malformed",
                Warning,
                format!("{}: {reason}", file.file.display()),
                "containerd refuses to pull anything from that registry",
                format!("edit {}; it is read at each pull", file.file.display()),
            ));
        }
        for host in &file.hosts {
            if let Some(reason) = &host.unreachable {
                findings.push(Diagnosis::new(
                    "mirror-unreachable",
                    Warning,
                    format!("{} in {} does not answer: {reason}", host.url, file.file.display()),
                    "images that are not on the node cannot be had from it",
                    "start the mirror, or carry the images with pannier",
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::assert_found;
    use super::*;
    use crate::doctor::{HostsFile, MirrorHost, Proxy};

    fn proxy() -> Proxy {
        Proxy {
            file: "/x.conf".into(),
            variable: "HTTPS_PROXY".into(),
            value: "http://squid:3128".into(),
            malformed: None,
            unreachable: None,
            exceptions: true,
        }
    }

    fn found(expected: &[&str], proxy: Proxy) {
        assert_found(expected, NodeFacts::healthy(), |facts| facts.proxies = vec![proxy]);
    }

    #[test]
    fn proxies() {
        found(&[], proxy());
        found(&["proxy-malformed"], Proxy { malformed: Some("x".into()), ..proxy() });
        found(&["proxy-unreachable"], Proxy { unreachable: Some("x".into()), ..proxy() });
        found(&["proxy-without-exceptions"], Proxy { exceptions: false, ..proxy() });
    }

    #[test]
    fn mirrors() {
        let hosts = |expected: &[&str], malformed: Option<&str>, unreachable: Option<&str>| {
            let host =
                MirrorHost { url: "http://m:5000".into(), unreachable: unreachable.map(str::to_owned) };
            let file =
                HostsFile { file: "/h".into(), malformed: malformed.map(str::to_owned), hosts: vec![host] };
            assert_found(expected, NodeFacts::healthy(), |facts| facts.hosts = vec![file]);
        };
        hosts(&[], None, None);
        hosts(&["hosts-malformed"], Some("x"), None);
        hosts(&["mirror-unreachable"], None, Some("x"));
    }
}
