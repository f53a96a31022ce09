//! A node for tests: a private containerd of a chosen version that serves CRI and runs pods.
//!
//! It needs root, crun, and the containerds that `tests/setup/install.sh node` unpacks below
//! `target/tools` (or `$PANNIER_TOOLS`). Everything of a node is in one directory, so that it can be
//! started by one process and stopped by another; only its own processes are ever signalled, by id.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pannier::Side;
use pannier::containerd::Client;
use rustix::process::{Pid, Signal};

/// The containerd series that everything is tried on.
pub(crate) const VERSIONS: [&str; 3] = ["1.6", "1.7", "2.1"];

/// The image that every pod's sandbox runs; a node is of no use without it.
pub(crate) const PAUSE: &str = "registry.k8s.io/pause:3.10";

/// Where containerd keeps its database of names, leases and labels.
pub(crate) const METADATA: &str = "root/io.containerd.metadata.v1.bolt";

/// What can be on a small filesystem of its own.
const SMALL: [(&str, &str); 2] = [("size", "root"), ("metadata", METADATA)];

/// The programs and containerds that tests use.
pub(crate) fn tools() -> PathBuf {
    match std::env::var_os("PANNIER_TOOLS") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools"),
    }
}

/// Why nodes of this version cannot be started here.
pub(crate) fn missing(version: &str) -> Option<String> {
    let binary = tools().join(format!("containerd-{version}/usr/bin/containerd"));
    if !rustix::process::geteuid().is_root() {
        Some("not root".into())
    } else if !binary.exists() {
        Some(format!("{} is missing; run tests/setup/install.sh node", binary.display()))
    } else {
        None
    }
}

/// A running containerd and its directory.
pub(crate) struct Node {
    version: String,
    dir: PathBuf,
    child: Option<Child>,
    /// Removed with the node; absent when somebody else owns the directory.
    _temporary: Option<tempfile::TempDir>,
}

impl Node {
    /// Starts a containerd of this version on an empty root; it goes away with the value.
    pub(crate) fn start(version: &str) -> Self {
        let temporary = tempfile::Builder::new().prefix("pannier-node-").tempdir().unwrap();
        let dir = temporary.path().to_owned();
        let mut node = Self { version: version.into(), dir, child: None, _temporary: Some(temporary) };
        node.launch();
        node
    }

    /// Starts one with something unusual about it: `snapshotter=NAME` for CRI, `cri=off`, `hosts=DIR` for its
    /// `hosts.toml` files, `extra=` with more sections of the configuration, `imports=` with a file, or
    /// `size=SIZE` or `metadata=SIZE` to keep its root, or its database of names, on a filesystem of that size.
    #[allow(dead_code)]
    pub(crate) fn start_with(version: &str, settings: &[&str]) -> Self {
        let temporary = tempfile::Builder::new().prefix("pannier-node-").tempdir().unwrap();
        let dir = temporary.path().to_owned();
        for setting in settings {
            let (key, value) = setting.split_once('=').expect("KEY=VALUE");
            fs::write(dir.join(key), value).unwrap();
            if let Some((_, at)) = SMALL.iter().find(|(small, _)| *small == key) {
                fs::create_dir_all(dir.join(at)).unwrap();
                let size = format!("size={value}");
                let mount = Command::new("mount")
                    .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
                    .arg(dir.join(at))
                    .status();
                assert!(mount.unwrap().success(), "a small filesystem is mounted");
            }
        }
        let mut node = Self { version: version.into(), dir, child: None, _temporary: Some(temporary) };
        node.launch();
        node
    }

    /// Starts one in a directory of the caller's. `root` may be there from before.
    pub(crate) fn start_in(version: &str, dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let dir = fs::canonicalize(dir).unwrap();
        let mut node = Self { version: version.into(), dir, child: None, _temporary: None };
        node.launch();
        node
    }

    /// The one that another process started in `dir`.
    pub(crate) fn attach(dir: &Path) -> Self {
        let dir = fs::canonicalize(dir).unwrap();
        let version = fs::read_to_string(dir.join("version")).unwrap();
        Self { version, dir, child: None, _temporary: None }
    }

    /// Starts containerd again, on what it left.
    pub(crate) fn launch(&mut self) {
        assert!(self.child.is_none());
        if let Some(why) = missing(&self.version) {
            panic!("no containerd {}: {why}", self.version);
        }
        let bin = tools().join(format!("containerd-{}/usr/bin", self.version));
        for folder in ["cni", "logs"] {
            fs::create_dir_all(self.dir.join(folder)).unwrap();
        }
        fs::write(self.dir.join("config.toml"), self.config()).unwrap();
        let log = fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        // crun wants a hierarchy of one kind; the hybrid one goes away in a mount namespace of our own,
        // and with it everything that containerd mounts.
        let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec containerd --config \"$0\"";
        let child = Command::new("unshare")
            .args(["-m", "sh", "-c", script])
            .arg(self.dir.join("config.toml"))
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("unshare starts");
        fs::write(self.dir.join("pid"), child.id().to_string()).unwrap();
        fs::write(self.dir.join("version"), &self.version).unwrap();
        self.child = Some(child);
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        for _ in 0..600 {
            if let Ok(client) = Client::connect(&self.socket(), "k8s.io", Side::Node)
                && let Ok(runtime) = client.cri_runtime()
                && runtime.is_some() == self.serves_cri()
                && client.version().is_ok()
            {
                return;
            }
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait().unwrap()
            {
                panic!("containerd {} ended with {status}:\n{}", self.version, self.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("containerd {} does not answer:\n{}", self.version, self.log());
    }

    /// The series of its containerd.
    #[allow(dead_code)]
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("c.sock")
    }

    /// Where overlayfs keeps the files of its snapshots, by number.
    pub(crate) fn snapshot_directory(&self) -> PathBuf {
        self.dir.join("root/io.containerd.snapshotter.v1.overlayfs/snapshots")
    }

    /// The file of a blob in containerd's content store.
    #[allow(dead_code)]
    pub(crate) fn blob_file(&self, hex: &str) -> PathBuf {
        self.dir.join("root/io.containerd.content.v1.content/blobs/sha256").join(hex)
    }

    /// What containerd wrote to its log, the last part of it.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.dir.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(8000)..]).into_owned()
    }

    /// A client in the namespace of Kubernetes.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket(), "k8s.io", Side::Node).unwrap()
    }

    /// containerd's own client, of the same version.
    #[allow(dead_code)]
    pub(crate) fn ctr(&self, arguments: &[&str]) -> String {
        let program = tools().join(format!("containerd-{}/usr/bin/ctr", self.version));
        let output = Command::new(program)
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "k8s.io"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "ctr {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(fs::read_to_string(self.dir.join("pid")).ok()?.trim().parse().ok()?)
    }

    fn end(&mut self, signal: Signal) {
        let Some(pid) = self.pid() else { return };
        let _ = rustix::process::kill_process(pid, signal);
        match self.child.take() {
            Some(mut child) => drop(child.wait()),
            None => {
                while Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
        let _ = fs::remove_file(self.dir.join("pid"));
    }

    /// Ends containerd as an init system does; pods go on.
    #[allow(dead_code)]
    pub(crate) fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Ends containerd with no chance to tidy up.
    #[allow(dead_code)]
    pub(crate) fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Signals containerd, such as to stand still and to go on.
    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid().unwrap(), signal).unwrap();
    }

    /// Stops and starts.
    #[allow(dead_code)]
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.launch();
    }

    /// Ends pods, containerd, and shims that are left.
    pub(crate) fn shut_down(&mut self) {
        let alive = self.pid().is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
        if alive {
            if self.serves_cri() {
                self.remove_pods();
            }
            self.end(Signal::TERM);
        }
        // A shim outlives a containerd that was killed; its command line names our socket.
        let socket = self.socket().into_os_string().into_encoded_bytes();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
            let ours = line.split(|b| *b == 0).any(|word| word == socket);
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            if let (true, Some(pid)) = (ours && is_shim(&line), pid) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }

    fn serves_cri(&self) -> bool {
        !self.dir.join("cri").exists()
    }

    fn config(&self) -> String {
        let dir = self.dir.display();
        let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/setup/oci-runtime.sh");
        let runtime = runtime.display();
        let snapshotter = fs::read_to_string(self.dir.join("snapshotter")).unwrap_or("overlayfs".into());
        let imports = fs::read_to_string(self.dir.join("imports")).map(|path| format!("'{path}'"));
        let imports = imports.unwrap_or_default();
        let extra = fs::read_to_string(self.dir.join("extra")).unwrap_or_default();
        let common = format!(
            "root = '{dir}/root'\nstate = '{dir}/state'\nimports = [{imports}]\n\
             [grpc]\n  address = '{dir}/c.sock'\n\
             [plugins.'io.containerd.internal.v1.opt']\n  path = '{dir}/opt'\n"
        );
        let hosts = match fs::read_to_string(self.dir.join("hosts")) {
            Ok(folder) => format!("  config_path = '{folder}'\n"),
            Err(_) => String::new(),
        };
        if self.version.starts_with('1') {
            let cri = "plugins.'io.containerd.grpc.v1.cri'";
            let off = if self.serves_cri() { "" } else { "'io.containerd.grpc.v1.cri'" };
            format!(
                "version = 2\ndisabled_plugins = [{off}]\n{common}[{cri}]\n  sandbox_image = '{PAUSE}'\n  disable_apparmor = true\n  \
                 restrict_oom_score_adj = true\n[{cri}.cni]\n  conf_dir = '{dir}/cni'\n  bin_dir = '{dir}/cni'\n\
                 [{cri}.registry]\n{hosts}[{cri}.containerd]\n  snapshotter = '{snapshotter}'\n\
                 [{cri}.containerd.runtimes.runc]\n  runtime_type = 'io.containerd.runc.v2'\n\
                 [{cri}.containerd.runtimes.runc.options]\n  BinaryName = '{runtime}'\n{extra}"
            )
        } else {
            let (images, cri) =
                ("plugins.'io.containerd.cri.v1.images'", "plugins.'io.containerd.cri.v1.runtime'");
            let off = match self.serves_cri() {
                true => "",
                false => {
                    ", 'io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime'"
                }
            };
            // NRI would bind one socket for all instances of the machine.
            format!(
                "version = 3\ndisabled_plugins = ['io.containerd.nri.v1.nri'{off}]\n{common}[{images}]\n  \
                 snapshotter = '{snapshotter}'\n[{images}.registry]\n{hosts}[{images}.pinned_images]\n  sandbox = '{PAUSE}'\n\
                 [{cri}]\n  disable_apparmor = true\n  restrict_oom_score_adj = true\n\
                 [{cri}.cni]\n  conf_dir = '{dir}/cni'\n  bin_dirs = ['{dir}/cni']\n\
                 [{cri}.containerd.runtimes.runc]\n  runtime_type = 'io.containerd.runc.v2'\n\
                 [{cri}.containerd.runtimes.runc.options]\n  BinaryName = '{runtime}'\n{extra}"
            )
        }
    }
}

fn is_shim(line: &[u8]) -> bool {
    let program = line.split(|b| *b == 0).next().unwrap_or_default();
    program.rsplit(|b| *b == b'/').next().is_some_and(|name| name.starts_with(b"containerd-shim"))
}

impl Drop for Node {
    fn drop(&mut self) {
        if self._temporary.is_some() {
            self.shut_down();
            for (_, at) in SMALL.iter().filter(|(small, _)| self.dir.join(small).exists()) {
                let _ = Command::new("umount").arg("-l").arg(self.dir.join(at)).status();
            }
        }
    }
}

mod pods {
    use std::path::Path;
    use std::time::Duration;

    use pannier::containerd::cri_api::runtime_service_client::RuntimeServiceClient;
    use pannier::containerd::cri_api::*;
    use tokio::net::UnixStream;
    use tonic::transport::{Channel, Endpoint};

    use super::Node;

    /// How a container ended.
    #[derive(Debug)]
    #[allow(dead_code)]
    pub(crate) struct Ran {
        /// What it wrote.
        pub(crate) output: String,
        pub(crate) exit_code: i32,
        /// The image as kubelet would report it.
        pub(crate) image_ref: String,
    }

    async fn connect(socket: &Path) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(channel(socket).await)
    }

    async fn channel(socket: &Path) -> Channel {
        let socket = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
        });
        Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap()
    }

    fn block_on<F: Future>(call: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(call)
    }

    fn host_network() -> Option<NamespaceOption> {
        Some(NamespaceOption { network: NamespaceMode::Node as i32, ..Default::default() })
    }

    impl Node {
        /// Runs a pod with one container of `image` to its end.
        ///
        /// The image is never pulled: it is there, or this fails with what CRI said.
        pub(crate) fn run_pod(&self, image: &str, args: &[&str]) -> Result<Ran, String> {
            block_on(self.pod(image, args, true)).map(|(_, ran)| ran)
        }

        /// Has CRI pull an image, as kubelet does.
        pub(crate) fn pull(&self, image: &str) -> Result<(), String> {
            block_on(async {
                let channel = channel(&self.socket()).await;
                let mut cri = image_service_client::ImageServiceClient::new(channel);
                let image = Some(ImageSpec { image: image.into() });
                let answer = cri.pull_image(PullImageRequest { image }).await;
                answer.map(drop).map_err(|status| status.message().to_owned())
            })
        }

        /// Runs a pod like [`Self::run_pod`] and leaves it there; the id of its sandbox.
        pub(crate) fn leave_pod(&self, image: &str) -> String {
            block_on(self.pod(image, &["/bin/app"], false)).unwrap().0
        }

        /// Stops and removes one pod.
        pub(crate) fn remove_pod(&self, sandbox: &str) {
            block_on(async {
                let mut cri = connect(&self.socket()).await;
                let pod_sandbox_id = sandbox.to_owned();
                let stop = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
                cri.stop_pod_sandbox(stop).await.unwrap();
                cri.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await.unwrap();
            });
        }

        async fn pod(&self, image: &str, args: &[&str], remove: bool) -> Result<(String, Ran), String> {
            let mut cri = connect(&self.socket()).await;
            let name = format!("pod-{}", uuid::Uuid::new_v4());
            let logs = self.dir().join("logs").join(&name);
            let security = LinuxSandboxSecurityContext { namespace_options: host_network() };
            let config = PodSandboxConfig {
                metadata: Some(PodSandboxMetadata {
                    name: name.clone(),
                    uid: name.clone(),
                    namespace: "default".into(),
                    attempt: 0,
                }),
                log_directory: logs.display().to_string(),
                linux: Some(LinuxPodSandboxConfig { security_context: Some(security), ..Default::default() }),
                ..Default::default()
            };
            let fail =
                |step: &'static str| move |status: tonic::Status| format!("{step}: {}", status.message());
            let sandbox = cri
                .run_pod_sandbox(RunPodSandboxRequest { config: Some(config.clone()) })
                .await
                .map_err(fail("RunPodSandbox"))?
                .into_inner()
                .pod_sandbox_id;
            let result = async {
                let container = ContainerConfig {
                    metadata: Some(ContainerMetadata { name: "main".into(), attempt: 0 }),
                    image: Some(ImageSpec { image: image.into() }),
                    args: args.iter().map(|arg| arg.to_string()).collect(),
                    log_path: "main.log".into(),
                    linux: Some(LinuxContainerConfig {
                        security_context: Some(LinuxContainerSecurityContext {
                            namespace_options: host_network(),
                        }),
                    }),
                    ..Default::default()
                };
                let request = CreateContainerRequest {
                    pod_sandbox_id: sandbox.clone(),
                    config: Some(container),
                    sandbox_config: Some(config),
                };
                let created = cri.create_container(request).await.map_err(fail("CreateContainer"))?;
                let container_id = created.into_inner().container_id;
                cri.start_container(StartContainerRequest { container_id: container_id.clone() })
                    .await
                    .map_err(fail("StartContainer"))?;
                loop {
                    let request = ContainerStatusRequest { container_id: container_id.clone() };
                    let answer = cri.container_status(request).await.map_err(fail("ContainerStatus"))?;
                    let status = answer.into_inner().status.unwrap_or_default();
                    if status.state() == ContainerState::ContainerExited {
                        let log = std::fs::read_to_string(logs.join("main.log")).unwrap_or_default();
                        let output = log
                            .lines()
                            .map(|line| line.splitn(4, ' ').nth(3).unwrap_or(""))
                            .collect::<Vec<_>>();
                        let output = output.join("\n");
                        let (exit_code, image_ref) = (status.exit_code, status.image_ref);
                        return Ok(Ran { output, exit_code, image_ref });
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            .await;
            if remove {
                let _ = cri.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.clone() }).await;
                let request = RemovePodSandboxRequest { pod_sandbox_id: sandbox.clone() };
                let _ = cri.remove_pod_sandbox(request).await;
            }
            result.map(|ran| (sandbox, ran))
        }

        /// Stops and removes all pods.
        pub(super) fn remove_pods(&self) {
            block_on(async {
                let mut cri = connect(&self.socket()).await;
                let Ok(pods) = cri.list_pod_sandbox(ListPodSandboxRequest {}).await else { return };
                for PodSandbox { id } in pods.into_inner().items {
                    let _ = cri.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.clone() }).await;
                    let _ = cri.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id }).await;
                }
            });
        }
    }
}

#[allow(unused_imports)]
pub(crate) use pods::Ran;
