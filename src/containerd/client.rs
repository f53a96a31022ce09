//! The connection: one channel over a unix socket, shared by all services and threads.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use containerd_client::services::v1::version_client::VersionClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::watch::{self, Length, Silent};
use crate::error::{Error, Result, Side};
use crate::progress::Stop;

/// Largest message that is accepted: containerd's own limit (`defaults.go`), where tonic's is 4 MiB.
pub(super) const MAX_MESSAGE: usize = 16 << 20;
/// What CRI answers until it has looked at all images and containers (containerd, `errNotInitialized`).
pub(super) const CRI_STARTING: &str = "server is not initialized yet";
/// How long connecting may take; it is a socket of this machine.
const CONNECTING: Duration = Duration::from_secs(10);

/// What is said of a socket that something else listens at.
const NO_CONTAINERD: &str = "what answers there is no containerd";

/// A connection to one containerd, in one of its namespaces.
///
/// Cheap to clone; clones share the connection. Usable from several threads, not from async code.
/// When containerd goes away, calls fail with [`Error::Unreachable`]; a later call connects anew.
/// While a call is under way, containerd is asked now and then for a sign of life, and the call fails
/// when there was none for [`Client::PATIENCE`]. Unpacking a layer or committing a blob may take as
/// long as it takes besides; other calls fail after ten times that.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    runtime: Arc<Runtime>,
    namespace: MetadataValue<Ascii>,
    /// Shared, so that a lease can be replaced while others make calls under it.
    lease: Option<Arc<RwLock<MetadataValue<Ascii>>>>,
    side: Side,
    address: PathBuf,
    patience: Duration,
    stop: Stop,
}

impl Client {
    /// How long containerd may give no sign of life, unless something else is said.
    pub const PATIENCE: Duration = Duration::from_secs(30);

    /// Connects to the socket at `address`, which belongs to `side`.
    ///
    /// A namespace is at most 76 bytes of letters, digits and `.-_` (containerd, `namespaces/validate.go`).
    pub fn connect(address: &Path, namespace: &str, side: Side) -> Result<Self> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if namespace.is_empty() || namespace.len() > 76 || !namespace.bytes().all(legal) {
            return Err(Error::Usage(format!("{namespace:?} is not a containerd namespace")));
        }
        let header = parse_header(namespace)?;
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| Error::Unreachable {
            side,
            address: address.display().to_string(),
            source,
        };
        // grpc-go refuses a relative path that ends up in the authority; none of ours does, but a
        // relative path would also follow the process around.
        let path = std::path::absolute(address).map_err(|e| unreachable(e.into()))?;
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.file_type().is_socket() => {}
            Ok(_) => return Err(unreachable(io::Error::other("not a socket").into())),
            Err(error) => return Err(unreachable(error.into())),
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("containerd")
            .enable_all()
            .build()
            .map_err(|e| unreachable(e.into()))?;
        let socket = path.clone();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = runtime
            .block_on(async {
                let endpoint = Endpoint::from_static("http://localhost").connect_timeout(CONNECTING);
                endpoint.connect_with_connector(connector).await
            })
            .map_err(|e| unreachable(e.into()))?;
        Ok(Self {
            channel,
            runtime: Arc::new(runtime),
            namespace: header,
            lease: None,
            side,
            address: path,
            patience: Self::PATIENCE,
            stop: Stop::default(),
        })
    }

    /// The same connection, whose calls are given up shortly after someone asks to stop.
    pub fn stopping_with(&self, stop: &Stop) -> Self {
        Self { stop: stop.clone(), ..self.clone() }
    }

    /// The same connection with another [`Client::PATIENCE`].
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// What gives calls up.
    pub(super) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// How long containerd may give no sign of life.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The same connection, with everything that is made through it held by a lease.
    pub fn with_lease(&self, id: &str) -> Result<Self> {
        Ok(Self { lease: Some(Arc::new(RwLock::new(parse_header(id)?))), ..self.clone() })
    }

    /// Has this connection, and all that were cloned from it, use the lease `id` from now on.
    pub(crate) fn replace_lease(&self, id: &str) -> Result<()> {
        if let Some(lease) = &self.lease {
            *lease.write().unwrap_or_else(PoisonError::into_inner) = parse_header(id)?;
        }
        Ok(())
    }

    /// The same connection in another namespace, without a lease.
    pub fn with_namespace(&self, namespace: &str) -> Result<Self> {
        Ok(Self { namespace: parse_header(namespace)?, lease: None, ..self.clone() })
    }

    /// The socket.
    pub fn address(&self) -> &Path {
        &self.address
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        self.namespace.to_str().unwrap_or_default()
    }

    /// The side it is on: the same client reads from a source and writes to a node.
    pub fn side(&self) -> Side {
        self.side
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The id of the lease in use.
    pub(super) fn lease_id(&self) -> Option<String> {
        self.lease_header().and_then(|id| Some(id.to_str().ok()?.to_owned()))
    }

    fn lease_header(&self) -> Option<MetadataValue<Ascii>> {
        let lease = self.lease.as_ref()?;
        Some(lease.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// `message` with the headers that name the namespace and the lease.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert("containerd-namespace", self.namespace.clone());
        if let Some(lease) = self.lease_header() {
            headers.insert("containerd-lease", lease);
        }
        request
    }

    /// Runs a call that should be short to its end, or until containerd falls silent, or someone asks
    /// to stop.
    pub(super) fn block_on<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        self.watch(call, Length::Short)
    }

    /// The same for a call that takes as long as it takes.
    pub(super) fn block_on_long<T>(
        &self,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        self.watch(call, Length::Long)
    }

    fn watch<T>(&self, call: impl Future<Output = Result<T, Status>>, length: Length) -> Result<T, Status> {
        let ask = || {
            let mut version = VersionClient::new(self.channel());
            async move { version.version(()).await.map(drop) }
        };
        self.runtime.block_on(watch::watched(call, ask, (self.patience, length), &self.stop))
    }

    /// Runs a unary call; `action` says what was asked, for the error.
    pub(super) fn call<T>(
        &self,
        action: impl FnOnce() -> String,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T> {
        match self.block_on(call) {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(self.failed(action(), status)),
        }
    }

    /// Like [`Client::call`]; `None` when containerd answers that there is no such thing.
    pub(super) fn find<T>(
        &self,
        action: impl FnOnce() -> String,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<Option<T>> {
        match self.block_on(call) {
            Ok(response) => Ok(Some(response.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.failed(action(), status)),
        }
    }

    /// What a status means for the person: gone, full, absent, or refused with containerd's words.
    pub(super) fn failed(&self, action: String, status: Status) -> Error {
        let side = self.side;
        // A status that was made on this side, from a broken connection, has a cause; one that
        // containerd sent has none.
        let address = || self.address.display().to_string();
        if let Some(cause) = std::error::Error::source(&status) {
            let source: Box<dyn std::error::Error + Send + Sync> = match cause.downcast_ref::<Silent>() {
                Some(silent) => Box::new(*silent),
                None if watch::is_stop(cause) => return Error::Interrupted,
                None if is_protocol(cause) => NO_CONTAINERD.into(),
                None => Box::new(status),
            };
            return Error::Unreachable { side, address: address(), source };
        }
        let reason = status.message().to_owned();
        let full = [
            ("no space left on device", io::ErrorKind::StorageFull),
            ("disk quota exceeded", io::ErrorKind::QuotaExceeded),
        ];
        if let Some((_, kind)) = full.into_iter().find(|(words, _)| reason.contains(words)) {
            let source = io::Error::new(kind, reason);
            return Error::Io { side, action: "write through", path: self.address.clone(), source };
        }
        match status.code() {
            // Starting, or ending.
            // So is CRI while it looks at all that is there.
            _ if reason.contains(CRI_STARTING) => {
                Error::Unreachable { side, address: address(), source: reason.into() }
            }
            Code::Unavailable => Error::Unreachable { side, address: address(), source: reason.into() },
            Code::NotFound => Error::NotFound { side, what: format!("{action}: {reason}") },
            code if reason.is_empty() => Error::Refused { side, action, reason: format!("{code:?}") },
            _ => Error::Refused { side, action, reason },
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lease = self.lease_id();
        let (address, namespace) = (&self.address, self.namespace());
        f.debug_struct("Client")
            .field("address", address)
            .field("namespace", &namespace)
            .field("lease", &lease)
            .finish()
    }
}

/// Whether the other end does not speak HTTP/2 (RFC 9113, 3.4), as containerd does.
fn is_protocol(cause: &(dyn std::error::Error + 'static)) -> bool {
    let chain = std::iter::successors(Some(cause), |error| error.source());
    chain.map(ToString::to_string).any(|text| text.contains("frame with invalid size"))
}

fn parse_header(text: &str) -> Result<MetadataValue<Ascii>> {
    text.parse().map_err(|_| Error::Usage(format!("{text:?} cannot be sent in a header")))
}
