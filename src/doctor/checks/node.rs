//! containerd itself: socket, version, CRI, snapshotter, sandbox image, what was left behind.

use crate::doctor::Severity::{Error, Note, Warning};
use crate::doctor::{Containerd, Diagnosis, NodeFacts, Sandbox, Socket};

/// The oldest series that Pannier was tried with.
const OLDEST: (u32, u32) = (1, 6);
/// The newest one.
const NEWEST: (u32, u32) = (2, 3);

pub(super) fn examine(facts: &NodeFacts) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    if !facts.privileged {
        findings.push(Diagnosis::new(
            "not-root",
            Note,
            "this does not run as root",
            "files that only root may read are left out of the checks",
            "sudo pannier doctor",
        ));
    }
    findings.extend(socket(&facts.socket));
    if let Some(containerd) = &facts.containerd {
        findings.extend(daemon(containerd));
        if containerd.cri {
            findings.extend(cri(containerd));
            findings.extend(sandbox(&containerd.sandbox));
        }
        findings.extend(left_behind(containerd));
    }
    findings
}

fn socket(socket: &Socket) -> Option<Diagnosis> {
    match socket {
        Socket::Answers(_) => None,
        Socket::Missing(paths) => {
            let places: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            Some(Diagnosis::new(
                "socket-missing",
                Error,
                format!("there is no socket of containerd: {}", places.join(", ")),
                "kubelet starts pods through it, and so does an import work",
                "systemctl start containerd (or k8s, k3s, ...); name another place with --address",
            ))
        }
        Socket::Denied(path) => Some(Diagnosis::new(
            "socket-denied",
            Error,
            format!("this user may not use {}", path.display()),
            "an import needs the socket, which belongs to root",
            "sudo pannier doctor",
        )),
        Socket::Silent(path, why) => Some(Diagnosis::new(
            "socket-silent",
            Error,
            format!("containerd does not answer at {}: {why}", path.display()),
            "no pod can start while it does not",
            "systemctl restart containerd, and look at `journalctl -u containerd`",
        )),
    }
}

fn daemon(containerd: &Containerd) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    let version = &containerd.version;
    let (major, minor, _) = version.numbers;
    if (major, minor) < OLDEST {
        findings.push(Diagnosis::new(
            "containerd-old",
            Warning,
            format!("containerd is {}", version.text),
            "Pannier was tried with 1.6, 1.7 and 2.x only",
            "upgrade containerd",
        ));
    } else if !version.honours_pins() {
        findings.push(Diagnosis::new(
            "pins-ignored",
            Warning,
            format!("containerd {} does not know pins", version.text),
            "kubelet may remove images when its disk fills up, and cannot pull them again",
            "upgrade to containerd 1.6.22, 1.7.3 or 2.x, or keep the disk under kubelet's imageGCHighThresholdPercent",
        ));
    }
    if (major, minor) > NEWEST {
        findings.push(Diagnosis::new(
            "containerd-new",
            Note,
            format!("containerd is {}", version.text),
            "it is newer than what Pannier was tried with",
            "none needed; start a pod of what was imported before you rely on it",
        ));
    }
    if let Some(folder) = &containerd.verifiers {
        findings.push(Diagnosis::new(
            "verifier-not-asked",
            Note,
            format!("containerd asks the programs in {} before it pulls an image", folder.display()),
            "they are not asked about what is imported, by pannier or by ctr",
            "have media signed: `pannier sign`, and allowed-signers in /etc/pannier/config.toml",
        ));
    }
    if !containerd.cri {
        findings.push(Diagnosis::new(
            "cri-off",
            Error,
            "containerd does not serve CRI",
            "kubelet cannot use this containerd; it may be Docker's",
            "take \"cri\" out of disabled_plugins in /etc/containerd/config.toml and restart containerd",
        ));
    }
    findings
}

fn cri(containerd: &Containerd) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    for condition in containerd.conditions.iter().filter(|condition| !condition.holds) {
        let what = format!("CRI says {} is false: {}", condition.name, condition.message);
        findings.push(match condition.name.as_str() {
            "NetworkReady" => Diagnosis::new(
                "network-not-ready",
                Note,
                what,
                "only pods on the host's network start until a CNI plugin is installed, as before a bootstrap",
                "none needed if the network plugin is still to come",
            ),
            // Of the others none keeps a pod from starting.
            name if name != "RuntimeReady" => Diagnosis::new(
                "cri-condition",
                Note,
                what,
                "it keeps no pod from starting",
                "read what it says before you upgrade containerd",
            ),
            _ => Diagnosis::new(
                "runtime-not-ready",
                Error,
                what,
                "no pod starts while the runtime is not ready",
                "look at `journalctl -u containerd`",
            ),
        });
    }
    match &containerd.snapshotter {
        None => findings.push(Diagnosis::new(
            "snapshotter-unknown",
            Warning,
            "CRI does not say which snapshotter it uses",
            "images would be unpacked for overlayfs, which may be another one",
            "say --snapshotter when you import",
        )),
        Some(snapshotter) => {
            if let Some(failure) = &snapshotter.failure {
                findings.push(Diagnosis::new(
                    "snapshotter-broken",
                    Error,
                    format!("snapshotter {} does not work: {failure}", snapshotter.name),
                    "CRI unpacks images with it: no container can be created",
                    "repair it, or set `snapshotter` of CRI to overlayfs in /etc/containerd/config.toml",
                ));
            }
        }
    }
    findings
}

fn sandbox(sandbox: &Sandbox) -> Option<Diagnosis> {
    match sandbox {
        Sandbox::Present(_) => None,
        Sandbox::Missing(name) => Some(Diagnosis::new(
            "sandbox-missing",
            Error,
            format!("the sandbox image {name} is not there"),
            "every pod's sandbox runs it: without it no pod starts",
            format!("carry it: `pannier export {name} --to MEDIUM`, then `pannier import MEDIUM`"),
        )),
        Sandbox::Unknown(why) => Some(Diagnosis::new(
            "sandbox-unknown",
            Note,
            format!("which sandbox image is used cannot be told: {why}"),
            "every pod's sandbox runs it: without it no pod starts",
            "compare `containerd config dump | grep sandbox` with `pannier images`",
        )),
    }
}

fn left_behind(containerd: &Containerd) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    let left = |id, what: String| {
        let mut finding = Diagnosis::new(
            id,
            Warning,
            what,
            "it takes up the disk until it runs out, and an import would go on from it",
            "pannier import MEDIUM goes on; `pannier doctor --repair` throws it away",
        );
        finding.safe = true;
        finding
    };
    if !containerd.dead_leases.is_empty() {
        let what = format!("left by imports that ended early: {}", containerd.dead_leases.join(", "));
        findings.push(left("lease-left", what));
    }
    if !containerd.left_ingests.is_empty() {
        let what =
            format!("unfinished blobs of imports that ended early: {}", containerd.left_ingests.join(", "));
        findings.push(left("ingest-left", what));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::assert_found;
    use super::*;
    use crate::containerd::Version;
    use crate::doctor::Condition;

    fn found(expected: &[&str], change: impl FnOnce(&mut NodeFacts)) {
        assert_found(expected, NodeFacts::healthy(), change);
    }

    fn with(expected: &[&str], change: impl FnOnce(&mut Containerd)) {
        found(expected, |facts| change(facts.containerd.as_mut().unwrap()));
    }

    #[test]
    fn the_socket() {
        let without = |socket| {
            move |facts: &mut NodeFacts| {
                facts.socket = socket;
                facts.containerd = None;
            }
        };
        found(&["socket-missing"], without(Socket::Missing(vec!["/x".into()])));
        found(&["socket-denied"], without(Socket::Denied("/x".into())));
        found(&["socket-silent"], without(Socket::Silent("/x".into(), "refused".into())));
        found(&["not-root"], |facts| facts.privileged = false);
    }

    #[test]
    fn the_version() {
        with(&["containerd-old"], |c| c.version = Version::parse("1.5.9"));
        with(&["pins-ignored"], |c| c.version = Version::parse("1.6.20~ds1"));
        with(&[], |c| c.version = Version::parse("1.6.22"));
        with(&[], |c| c.version = Version::parse("2.3.4"));
        with(&["containerd-new"], |c| c.version = Version::parse("2.4.0"));
        with(&["verifier-not-asked"], |c| c.verifiers = Some("/opt/v".into()));
    }

    #[test]
    fn cri_and_what_it_needs() {
        with(&["cri-off"], |c| {
            c.cri = false;
            c.snapshotter = None;
            c.sandbox = Sandbox::Unknown("CRI is off".into());
        });
        let condition = |name: &str| Condition { name: name.into(), holds: false, message: "x".into() };
        with(&["runtime-not-ready"], |c| c.conditions = vec![condition("RuntimeReady")]);
        with(&["cri-condition"], |c| c.conditions.push(condition("ContainerdHasNoDeprecationWarnings")));
        with(&["network-not-ready"], |c| c.conditions = vec![condition("NetworkReady")]);
        with(&["snapshotter-broken"], |c| c.snapshotter.as_mut().unwrap().failure = Some("x".into()));
        with(&["snapshotter-unknown"], |c| c.snapshotter = None);
        with(&["sandbox-missing"], |c| c.sandbox = Sandbox::Missing("pause:1".into()));
        with(&["sandbox-unknown"], |c| c.sandbox = Sandbox::Unknown("x".into()));
    }

    #[test]
    fn what_was_left_behind() {
        with(&["lease-left"], |c| c.dead_leases = vec!["x".into()]);
        with(&["ingest-left"], |c| c.left_ingests = vec!["x".into()]);
    }
}
