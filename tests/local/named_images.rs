//! Lists and manifests as people and programs really write them.

use std::fs;

use crate::support::carry::run;

/// What `export --list-only` prints for a file, and what it says.
#[track_caller]
fn listed(status: i32, option: &str, text: impl AsRef<[u8]>, more: &[&str]) -> (Vec<String>, String) {
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("input.yaml");
    fs::write(&file, text).unwrap();
    let arguments = ["export", "--list-only", option, file.to_str().unwrap()];
    let output = run(status, [&arguments[..], more].concat());
    (output.stdout().lines().map(str::to_owned).collect(), output.stderr())
}

const OPERATOR: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: operator, annotations: {"kubectl.kubernetes.io/last-applied-configuration": "quay.io/old:1"}}
spec:
  template:
    spec:
      tolerations: [{key: "node.kubernetes.io/unreachable:NoExecute"}]
      containers:
      - name: operator
        image: quay.io/team/operator:v1
        command: [operator, --engine-image, team/engine:v1, --leader-elect]
        args:
        - --config-reloader=quay.io/team/reloader:v1
        - --own-image=quay.io/team/operator:v1
        - --listen=0.0.0.0:8080
        env:
        - {name: WORKER_IMAGE, value: "team/worker:1.0"}
        - name: VERSIONED
          value: |
            1.0=quay.io/team/kafka:1.0
            2.0=quay.io/team/kafka:2.0
---
apiVersion: postgresql.cnpg.io/v1
kind: Cluster
metadata: {name: db}
spec:
  imageName: ghcr.io/cnpg/postgresql:17.1
  exporter: {repository: quay.io/team/exporter, tag: "0.15"}
"#;

const BESIDE: [&str; 7] = [
    "docker.io/team/engine:v1",
    "quay.io/team/reloader:v1",
    "docker.io/team/worker:1.0",
    "quay.io/team/kafka:1.0",
    "quay.io/team/kafka:2.0",
    "ghcr.io/cnpg/postgresql:17.1",
    "quay.io/team/exporter:0.15",
];

#[test]
fn images_that_an_operator_names_are_told_and_taken_when_asked_for() {
    let (images, said) = listed(0, "--manifests", OPERATOR, &[]);
    assert_eq!(images, ["quay.io/team/operator:v1"]);
    for image in BESIDE {
        assert_eq!(said.matches(image).count(), 1, "{image}: {said}");
    }
    assert!(said.contains("input.yaml:11: docker.io/team/engine:v1") || said.contains("input.yaml:12: "));
    assert_eq!(said.matches("--any-string").count(), BESIDE.len(), "{said}");
    let (images, said) = listed(0, "--manifests", OPERATOR, &["--any-string", "--exclude", "*/kafka"]);
    assert_eq!(images.len(), 1 + BESIDE.len() - 2, "{images:?}");
    assert!(!said.contains("any-string") && !images.iter().any(|image| image.contains("kafka")), "{said}");
}

#[test]
fn the_images_that_a_chart_lists_are_taken() {
    let chart = "apiVersion: v2\nname: app\nannotations:\n  artifacthub.io/images: |\n    - name: app\n      \
                 image: quay.io/team/app:1\n    - name: db\n      image: quay.io/team/db:2\n";
    let (images, said) = listed(0, "--manifests", chart, &[]);
    assert_eq!(
        (images.as_slice(), said.as_str()),
        (&["quay.io/team/app:1", "quay.io/team/db:2"].map(String::from)[..], "")
    );
    let helm = chart.replace("artifacthub.io", "helm.sh");
    assert_eq!(listed(0, "--manifests", helm, &[]).0.len(), 2);
}

#[test]
fn what_istio_fills_in_is_passed_over_and_anything_can_be_left_out() {
    let gateway = |metadata: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nspec:\n  template:\n    metadata: {metadata}\n    spec:\n      \
             containers:\n      - image: auto\n      - image: quay.io/team/app:1\n      - image: busybox:${{TAG}}\n"
        )
    };
    let istio = gateway("{annotations: {inject.istio.io/templates: gateway}}");
    let (images, said) = listed(0, "--manifests", &istio, &["--exclude", "busybox:*"]);
    assert_eq!(images, ["quay.io/team/app:1"]);
    assert!(said.contains("input.yaml:8: image: auto, which Istio replaces"), "{said}");
    let (images, _) =
        listed(0, "--manifests", gateway("{}"), &["--exclude", "auto", "--exclude", "busybox:*"]);
    assert_eq!(images, ["quay.io/team/app:1"]);
    let (_, said) = listed(1, "--manifests", &istio, &[]);
    assert!(said.contains("envsubst") && said.contains("input.yaml:10: "), "{said}");
}

#[test]
fn everything_that_is_wrong_in_manifests_is_told_at_once() {
    let pod =
        |image: &str| format!("apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - image: {image}\n---\n");
    let text = [pod("\"{{ .Values.image }}\""), pod("Not/A:Name:1"), pod("nginx:1")].concat();
    let (_, said) = listed(1, "--manifests", text, &[]);
    for part in ["input.yaml:5: ", "helm template", "input.yaml:11: "] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_file_of_windows_is_read() {
    let text = "apiVersion: v1\r\nkind: Pod\r\nspec:\r\n  containers:\r\n  - image: nginx:1\r\n";
    let utf16 = |text: &str| -> Vec<u8> {
        [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
    };
    assert_eq!(listed(0, "--manifests", utf16(text), &[]).0, ["docker.io/library/nginx:1"]);
    let list = utf16("nginx:1\r\nredis:7 # the store\r\n");
    assert_eq!(listed(0, "--list", list, &[]).0.len(), 2);
    let two = format!("\u{feff}{text}---\n\u{feff}{}", text.replace("nginx:1", "redis:7"));
    assert_eq!(listed(0, "--manifests", two, &[]).0.len(), 2);
}

#[test]
fn a_list_that_is_none_says_what_to_use() {
    let (_, said) = listed(2, "--list", OPERATOR, &[]);
    assert!(said.contains("--manifests"), "{said}");
    let id = format!("nginx:1\nsha256:{}\n", "a".repeat(64));
    let (_, said) = listed(2, "--list", id, &[]);
    assert!(said.contains("input.yaml:2: ") && said.contains("image id"), "{said}");
    let images = listed(0, "--list", "docker://quay.io/team/app:1   # pinned\n", &[]).0;
    assert_eq!(images, ["quay.io/team/app:1"]);
}
