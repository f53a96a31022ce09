//! Would these workloads start here: their images, and the medium that is to bring them.

use std::collections::BTreeSet;

use crate::doctor::Severity::{Error, Warning};
use crate::doctor::{Diagnosis, MediumFacts, NodeFacts, OnMedium, Workload};
use crate::error;
use crate::import::Space;
use crate::lists::Pull;

pub(super) fn examine(facts: &NodeFacts) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    let mut said = BTreeSet::new();
    for workload in &facts.workloads {
        for finding in [presence(workload), policy(workload)].into_iter().flatten() {
            // An image that ten deployments name is missing once.
            if said.insert((finding.id, workload.image.to_string())) {
                findings.push(finding);
            }
        }
    }
    findings.extend(facts.medium.iter().flat_map(|m| medium(m, facts.kubelet.thresholds.collects_at)));
    findings
}

fn presence(workload: &Workload) -> Option<Diagnosis> {
    let Workload { image, place, .. } = workload;
    match (&workload.on_node, &workload.on_medium) {
        (Some(true), _) | (_, Some(OnMedium::Yes)) | (None, None) => None,
        (_, Some(OnMedium::OtherPlatforms(platforms))) => Some(Diagnosis::new(
            "image-other-platform",
            Error,
            format!("{image} ({place}) is not on the node, and on the medium for {platforms} only"),
            "its containers cannot be created without a network",
            format!("pannier export {image} --platform ... --to MEDIUM, with the platform of this node"),
        )),
        (_, on_medium) => Some(Diagnosis::new(
            "image-missing",
            Error,
            match on_medium {
                Some(_) => format!("{image} ({place}) is neither on the node nor on the medium"),
                None => format!("{image} ({place}) is not on the node"),
            },
            "its containers cannot be created without a network",
            format!("pannier export {image} --to MEDIUM, then pannier import MEDIUM"),
        )),
    }
}

fn policy(workload: &Workload) -> Option<Diagnosis> {
    let Workload { image, place, pull, .. } = workload;
    match pull {
        Pull::Always => Some(Diagnosis::new(
            "pull-always",
            Error,
            format!("{image} ({place}) has imagePullPolicy: Always"),
            "kubelet asks a registry at each start, though the node has the image",
            "set imagePullPolicy: IfNotPresent, or have a mirror answer for the registry: `pannier serve`",
        )),
        Pull::Unsaid if image.tag() == Some("latest") => Some(Diagnosis::new(
            "pull-latest",
            Error,
            format!("{image} ({place}) has the tag latest and no imagePullPolicy"),
            "kubelet asks a registry for it at each start, though the node has the image",
            "set imagePullPolicy: IfNotPresent, or name a version",
        )),
        _ => None,
    }
}

fn medium(medium: &MediumFacts, collects_at: u64) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    let place = medium.path.display();
    if let Some(reason) = &medium.failure {
        findings.push(Diagnosis::new(
            "medium-refused",
            Error,
            format!("{place} cannot be imported here: {reason}"),
            "its images would not get onto this node",
            format!("pannier verify {place} says whether it is damaged"),
        ));
    }
    for Space { path, need, free, size } in &medium.spaces {
        let need = need.total();
        let used = size.saturating_sub(*free).saturating_add(need);
        if need > *free {
            findings.push(Diagnosis::new(
                "medium-too-large",
                Error,
                format!(
                    "the import takes {} on {}, {} are free",
                    error::size(need),
                    path.display(),
                    error::size(*free)
                ),
                "it would be refused before the first byte",
                "free some space there, or import fewer images",
            ));
        } else if need > 0 && used.saturating_mul(100) > size.saturating_mul(collects_at) {
            findings.push(Diagnosis::new(
                "medium-fills-disk",
                Warning,
                format!("after the import more than {collects_at} % of {} are used", path.display()),
                "kubelet then removes images that are neither pinned nor in use, and cannot pull them again",
                "free some space there, or use a larger disk",
            ));
        }
    }
    if !medium.latest.is_empty() {
        findings.push(Diagnosis::new(
            "medium-latest",
            Warning,
            format!("on the medium there are images with the tag latest: {}", medium.latest.join(", ")),
            "kubelet asks a registry for them at each start, unless the pod says imagePullPolicy: IfNotPresent",
            "`pannier doctor --manifests FILE` says which workloads that concerns",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::assert_found;
    use super::*;

    fn workload(expected: &[&str], change: impl FnOnce(&mut Workload)) {
        assert_found(expected, NodeFacts::healthy_with_workload(), |facts| change(&mut facts.workloads[0]));
    }

    fn with_medium(expected: &[&str], change: impl FnOnce(&mut MediumFacts)) {
        assert_found(expected, NodeFacts::healthy_with_workload(), |facts| {
            change(facts.medium.as_mut().unwrap())
        });
    }

    #[test]
    fn images_of_workloads() {
        workload(&["image-missing"], |w| w.on_medium = Some(OnMedium::No));
        workload(&["image-missing"], |w| w.on_medium = None);
        workload(&["image-other-platform"], |w| {
            w.on_medium = Some(OnMedium::OtherPlatforms("linux/arm64".into()))
        });
        workload(&[], |w| (w.on_node, w.on_medium) = (Some(true), None));
        workload(&[], |w| (w.on_node, w.on_medium) = (None, None));
        workload(&["pull-always"], |w| w.pull = Pull::Always);
        workload(&["pull-latest"], |w| w.image = "app:latest".parse().unwrap());
        workload(&[], |w| (w.image, w.pull) = ("app:latest".parse().unwrap(), Pull::IfNotPresent));
    }

    #[test]
    fn an_image_is_missing_once() {
        assert_found(&["image-missing"], NodeFacts::healthy_with_workload(), |facts| {
            facts.workloads[0].on_medium = Some(OnMedium::No);
            let again = Workload { place: "other.yaml:1".into(), ..facts.workloads[0].clone() };
            facts.workloads.push(again);
        });
    }

    #[test]
    fn the_medium() {
        with_medium(&["medium-refused"], |m| m.failure = Some("damaged".into()));
        with_medium(&["medium-too-large"], |m| m.spaces[0].free = 19);
        with_medium(&["medium-fills-disk"], |m| m.spaces[0].free = 34);
        with_medium(&[], |m| m.spaces[0].free = 35);
        with_medium(&["medium-latest"], |m| m.latest = vec!["a:latest".into()]);
    }
}
