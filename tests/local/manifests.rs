//! Every image in manifests as they are found in the field, and nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pannier::lists::kubernetes::{Choice, Found, scan};
use pannier::lists::{Pull, warnings};

/// By file: what pods would start from.
const IN_PODS: &[(&str, &str)] = &[
    ("02-frontend-deployment.yaml", "docker.io/library/busybox:1.36"),
    ("02-frontend-deployment.yaml", "docker.io/library/nginx:1.27.2-alpine"),
    ("02-frontend-deployment.yaml", "docker.io/nginx/nginx-prometheus-exporter:1.3.0"),
    ("03-database-statefulset.yaml", "ghcr.io/cloudnative-pg/postgresql:16.4"),
    ("04-node-agent-daemonset.yaml", "quay.io/prometheus/node-exporter:v1.8.2"),
    ("05-migration-job.yaml", "docker.io/flyway/flyway:10.20"),
    ("06-backup-cronjob.yaml", "docker.io/alpine/k8s:1.31.2"),
    ("06-backup-cronjob.yaml", "docker.io/restic/restic:0.17.3"),
    ("07-debug-pod.yaml", "gcr.io/distroless/static-debian12:nonroot"),
    ("07-debug-pod.yaml", "docker.io/nicolaka/netshoot:v0.13"),
    ("08-list.yaml", "docker.io/valkey/valkey:8.0.1"),
    ("08-list.yaml", "registry.k8s.io/e2e-test-images/agnhost:2.53"),
    ("09-typed-list.yaml", "docker.io/traefik/whoami:v1.10"),
    ("10-multi-document.yaml", "localhost:32000/team/web:2024-11-05"),
    (
        "10-multi-document.yaml",
        "docker.io/library/redis@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    ),
    (
        "11-helm-output.yaml",
        "registry.k8s.io/ingress-nginx/controller:v1.11.3@sha256:d56f135b6462cfc476447cfe564b83a45e8bb7da2774963b00d12161112270b7",
    ),
    (
        "11-helm-output.yaml",
        "registry.k8s.io/ingress-nginx/kube-webhook-certgen:v1.4.4@sha256:a9f03b34a3cbfbb26d103a14046ab2c5130a80c3d69d526ff8063d2b37b9fd3f",
    ),
    ("12-pod.json", "registry.k8s.io/pause:3.10"),
    ("13-list.json", "quay.io/team/tabs:7"),
    ("14-replication-controller.yml", "quay.io/team/old-style:0.1"),
    ("15-pod-template.yaml", "quay.io/team/template:1"),
    ("16-image-volume.yaml", "ghcr.io/team/model-server:3"),
    ("16-image-volume.yaml", "ghcr.io/team/model-weights:llm-7b"),
    ("17-anchors.yaml", "quay.io/team/anchored:5"),
    ("17-anchors.yaml", "quay.io/team/anchored:5"),
    ("17-anchors.yaml", "quay.io/team/anchored:5"),
    ("18-latest.yaml", "docker.io/library/httpd:latest"),
    ("18-latest.yaml", "docker.io/library/memcached:latest"),
    ("18-latest.yaml", "docker.io/library/haproxy:latest"),
    ("19-quoting.yaml", "quay.io/team/single-quoted:1"),
    ("19-quoting.yaml", "quay.io/team/double-quoted:1.10"),
    ("19-quoting.yaml", "quay.io/team/spaces:1"),
    ("20-no-image.yaml", "quay.io/team/there:1"),
    ("21-windows.yaml", "mcr.microsoft.com/windows/servercore/iis:windowsservercore-ltsc2022"),
    ("22-static-pod-etcd.yaml", "registry.k8s.io/etcd:3.5.16-0"),
    ("23-coredns.yaml", "registry.k8s.io/coredns/coredns:v1.11.3"),
    ("31-duplicate-key.yaml", "quay.io/team/second:1"),
    ("32-sidecar-and-overhead.yaml", "docker.io/istio/proxyv2:1.24.0"),
    ("32-sidecar-and-overhead.yaml", "registry.example.com:5000/deep/er/path/app:v1.2.3-rc.1_build.7"),
    ("34-number-like-tag.yaml", "quay.io/team/numbers:20241105"),
    ("nested/29-below-a-folder.yaml", "quay.io/team/nested:1"),
    ("nested/deeper/30-suspended.yaml", "quay.io/team/yearly:1"),
];

/// Fields named image in custom resources.
const IN_CUSTOM_RESOURCES: &[(&str, &str)] = &[
    ("25-prometheus-custom-resource.yaml", "quay.io/prometheus/prometheus:v2.55.1"),
    ("25-prometheus-custom-resource.yaml", "quay.io/thanos/thanos:v0.36.1"),
    ("26-argo-rollout.yaml", "docker.io/argoproj/rollouts-demo:blue"),
    ("27-custom-job.yaml", "docker.io/volcanosh/example-mpi:0.0.3"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/manifests")
}

/// File and image of everything that was found, sorted.
fn pairs(found: &Found) -> Vec<(String, String)> {
    let prefix = format!("{}/", folder().display());
    let pair = |named: &pannier::lists::Named| {
        let (file, _) = named
            .place
            .strip_prefix(&prefix)
            .unwrap()
            .split_once(':')
            .unwrap_or((&named.place[prefix.len()..], ""));
        (file.to_owned(), named.image.to_string())
    };
    let mut pairs: Vec<_> = found.images.iter().map(pair).collect();
    pairs.sort();
    pairs
}

fn expected(lists: &[&[(&str, &str)]]) -> Vec<(String, String)> {
    let mut all: Vec<_> = lists
        .iter()
        .flat_map(|list| list.iter())
        .map(|(file, image)| ((*file).into(), (*image).into()))
        .collect();
    all.sort();
    all
}

#[test]
fn the_images_of_a_folder_are_found_exactly() {
    let found = scan(&folder(), &Choice::default()).unwrap();
    assert_eq!(pairs(&found), expected(&[IN_PODS]));
    let prefix = format!("{}/", folder().display());
    let mut passed_over: Vec<_> = found.warnings.iter().map(|w| w.strip_prefix(&prefix).unwrap()).collect();
    passed_over.sort_unstable();
    assert_eq!(
        passed_over,
        [
            "10-multi-document.yaml:8: docker.io/not/an-image-of-a-pod:1 is named in a text that is no image field; --any-string takes it",
            "20-no-image.yaml:8: a container without an image; passed over",
            "25-prometheus-custom-resource.yaml:1: Prometheus.monitoring.coreos.com has fields named image; --any-image-field takes them",
            "26-argo-rollout.yaml:1: Rollout.argoproj.io has fields named image; --any-image-field takes them",
            "27-custom-job.yaml:1: Job.batch.volcano.sh has fields named image; --any-image-field takes them",
            "32-sidecar-and-overhead.yaml:15: quay.io/team/in-a-variable:1 is named in a text that is no image field; --any-string takes it",
            "32-sidecar-and-overhead.yaml:6: quay.io/team/in-an-annotation:1 is named in a text that is no image field; --any-string takes it",
            "nested/values.yaml:2: no Kubernetes object, since it has no kind; passed over",
        ]
    );
}

#[test]
fn custom_resources_are_taken_when_asked_for() {
    let found = scan(&folder(), &Choice { any_image_field: true, ..Choice::default() }).unwrap();
    assert_eq!(pairs(&found), expected(&[IN_PODS, IN_CUSTOM_RESOURCES]));
    assert!(found.warnings.iter().any(|w| w.contains("27-custom-job.yaml:10: ")), "{:?}", found.warnings);
}

#[test]
fn lines_and_pull_policies_are_known() {
    let found = scan(&folder(), &Choice::default()).unwrap();
    let of = |image: &str| found.images.iter().find(|named| named.image.to_string() == image).unwrap();
    let restic = of("docker.io/restic/restic:0.17.3");
    assert!(restic.place.ends_with("06-backup-cronjob.yaml:12"), "{}", restic.place);
    assert_eq!(restic.pull, Pull::Always);
    assert_eq!(of("docker.io/library/httpd:latest").pull, Pull::Unsaid);
    assert_eq!(of("docker.io/library/haproxy:latest").pull, Pull::IfNotPresent);
    let said = warnings(&found.images).join("\n");
    for image in ["restic", "httpd:latest", "memcached:latest"] {
        assert!(said.contains(image), "{image}: {said}");
    }
    assert!(!said.contains("haproxy"), "{said}");
    // coredns is there, and so is pause.
    assert!(!said.contains("sandbox"), "{said}");
}

#[test]
fn a_broken_file_is_named_with_its_line() {
    for (text, line, reason) in [
        ("kind: Pod\nspec:\n  containers:\n - name: x\n", 4, ""),
        (
            "kind: Pod\nspec: {containers: [{name: a, image: {{ .Values.image }}:{{ .Values.tag }}}]}\n",
            2,
            "helm template",
        ),
        (
            "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - image: {{ .Values.image }}\n",
            5,
            "helm template",
        ),
        (
            "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - image: Not/A:Reference:1\n",
            5,
            "not an image reference",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), "kind: Service\n").unwrap();
        std::fs::write(folder.path().join("broken.yaml"), text).unwrap();
        let error = scan(folder.path(), &Choice::default()).unwrap_err().to_string();
        assert!(error.contains(&format!("broken.yaml:{line}: ")), "{error}");
        assert!(error.contains(reason), "{error}");
    }
}

fn pannier(arguments: &[&str], input: &str) -> Output {
    use std::io::Write;
    let mut child = Command::new(env!("CARGO_BIN_EXE_pannier"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn list_only_prints_each_reference_once_and_asks_nobody() {
    let rendered = std::fs::read_to_string(folder().join("17-anchors.yaml")).unwrap();
    let output = pannier(&["export", "--list-only", "--manifests", "-", "nginx:1"], &rendered);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "docker.io/library/nginx:1\nquay.io/team/anchored:5\n"
    );
    assert_eq!(said, "");

    let latest = folder().join("18-latest.yaml").display().to_string();
    let output = pannier(&["export", "--list-only", "--manifests", &latest], "");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 3);
    assert_eq!(
        String::from_utf8(output.stderr).unwrap().lines().filter(|l| l.starts_with("warning: ")).count(),
        2
    );
}

#[test]
fn the_list_inside_a_snap_is_read() {
    if Command::new("mksquashfs").arg("-version").output().is_err() {
        crate::support::skipped("mksquashfs is not installed; run tests/setup/install.sh faults");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir_all(at("root/bin")).unwrap();
    let images = "ghcr.io/canonical/cilium:1.15.2-ck2\nghcr.io/canonical/k8s-snap/pause:3.10\n";
    std::fs::write(at("root/images.txt"), images).unwrap();
    std::fs::write(at("root/bin/k8s"), vec![7; 300_000]).unwrap();
    for compression in ["xz", "gzip"] {
        let snap = at(&format!("k8s-{compression}.snap"));
        let made = Command::new("mksquashfs")
            .args([&at("root"), &snap, "-noappend", "-no-progress", "-quiet", "-comp", compression])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let output = pannier(&["export", "--list-only", "--list", &snap], "");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), images, "{compression}: {:?}", output.stderr);
    }
    std::fs::write(at("bad.snap"), b"hsqs and nothing more").unwrap();
    let output = pannier(&["export", "--list-only", "--list", &at("bad.snap")], "");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("bad.snap") && said.contains("unsquashfs"), "{said}");
}
