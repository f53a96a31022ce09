//! What a node runs.

use std::collections::BTreeSet;

use crate::image::Platform;

/// The platforms that a node runs, best first, as containerd orders them (`platforms.Only`).
///
/// amd64 runs 386 as well; 64-bit arm runs the 32-bit variants from v8 down; a 32-bit arm runs its
/// own variant and those below.
pub fn runs_on(node: &Platform) -> Vec<Platform> {
    let platform = |architecture: &str, variant: Option<&str>| Platform {
        os: node.os.clone(),
        architecture: architecture.into(),
        variant: variant.map(str::to_owned),
        os_version: None,
    };
    let mut runs = vec![node.clone()];
    let arms = ["v8", "v7", "v6", "v5"];
    match node.architecture.as_str() {
        "amd64" => {
            let level =
                node.variant.as_deref().and_then(|v| v.strip_prefix('v')?.parse::<u8>().ok()).unwrap_or(1);
            runs.extend((1..level.min(9)).rev().map(|level| platform("amd64", Some(&format!("v{level}")))));
            runs.push(platform("386", None));
        }
        "arm64" => {
            runs.push(platform("arm64", None));
            runs.extend(arms.iter().map(|variant| platform("arm", Some(variant))));
        }
        "arm" => {
            let own = node.variant.as_deref().unwrap_or("v7");
            let below = arms.iter().skip_while(|variant| **variant != own);
            runs.extend(below.map(|variant| platform("arm", Some(variant))));
        }
        _ => {}
    }
    let mut seen = BTreeSet::new();
    runs.retain(|platform| seen.insert(platform.clone()));
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platforms_that_a_node_runs_come_in_containerds_order() {
        let runs = |text: &str| {
            let node: Platform = text.parse().unwrap();
            runs_on(&node).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(runs("linux/amd64"), ["linux/amd64", "linux/386"]);
        assert_eq!(runs("linux/amd64/v3"), ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]);
        assert_eq!(runs("linux/arm/v6"), ["linux/arm/v6", "linux/arm/v5"]);
        assert_eq!(
            runs("linux/arm64"),
            ["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]
        );
        assert_eq!(runs("linux/s390x"), ["linux/s390x"]);
    }
}
