//! What would not start on a node without a network, though every image of the set is there.

use std::collections::BTreeSet;

use super::{Named, Pull};

/// Images whose presence shows that the set is to run Kubernetes itself, by the end of their path.
const COMPONENTS: [&str; 8] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "coredns",
    "cilium",
    "flannel",
    "calico-node",
];

/// Says what kubelet would ask a registry for all the same, and whether the sandbox image is missing.
pub fn warnings(images: &[Named]) -> Vec<String> {
    let mut said = BTreeSet::new();
    let mut warnings = Vec::new();
    for Named { image, place, pull } in images {
        let warning = match pull {
            Pull::Always => format!(
                "{image} ({place}): imagePullPolicy: Always asks a registry at every start, though the node has \
                 the image; set IfNotPresent"
            ),
            Pull::Unsaid if image.tag() == Some("latest") => format!(
                "{image} ({place}): kubelet asks a registry for the tag latest at every start, unless the pod \
                 says imagePullPolicy: IfNotPresent"
            ),
            _ => continue,
        };
        if said.insert((image, *pull == Pull::Always)) {
            warnings.push(warning);
        }
    }
    let last = |named: &Named| {
        named.image.repository().rsplit('/').next().unwrap_or_default().trim_end_matches("-amd64").to_owned()
    };
    let component = images.iter().find(|named| COMPONENTS.contains(&last(named).as_str()));
    if let Some(component) = component
        && !images.iter().any(|named| last(named).contains("pause"))
    {
        warnings.push(format!(
            "{} is part of Kubernetes, but the set has no sandbox image (pause): no pod starts without the one \
             that the nodes' containerd is set up with",
            component.image
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(image: &str, pull: Pull) -> Named {
        Named { image: image.parse().unwrap(), place: "x:1".into(), pull }
    }

    #[test]
    fn what_kubelet_would_pull_again_is_said_once() {
        let found = warnings(&[
            named("a:1", Pull::Always),
            named("a:1", Pull::Always),
            named("b", Pull::Unsaid),
            named("c:latest", Pull::IfNotPresent),
            named("d:1", Pull::Unsaid),
        ]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("docker.io/library/a:1 (x:1)") && found[0].contains("Always"));
        assert!(found[1].contains("docker.io/library/b:latest"));
    }

    #[test]
    fn kubernetes_without_its_sandbox_image_is_noticed() {
        let cilium = named("ghcr.io/canonical/cilium:1.15.2-ck2", Pull::Unsaid);
        let pause = named("ghcr.io/canonical/k8s-snap/pause:3.10", Pull::Unsaid);
        assert!(warnings(std::slice::from_ref(&cilium))[0].contains("pause"));
        assert!(warnings(&[cilium, pause]).is_empty());
        assert!(warnings(&[named("nginx:1", Pull::Unsaid)]).is_empty());
    }
}
