//! The server: connections, their limits, and requests handed to the pure parts. All asynchronous code of
//! `serve` is in this file and its modules.

mod body;
mod connection;
mod patient;
mod respond;
mod tls;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::login::Logins;
use super::metrics::Metrics;
use super::proof::Proofs;
use super::stock::Stock;
use crate::error::{Error, Result, Side};
use crate::progress::Stop;

/// How often it is looked whether somebody asked to stop.
const TICK: Duration = Duration::from_millis(100);
/// How long accepting rests when the system has no more files.
const REST: Duration = Duration::from_millis(200);
/// Threads that read, hash, and ask containerd.
const READERS: usize = 32;
/// Stack of each thread, in bytes.
const STACK: usize = 512 << 10;

/// How it serves.
#[derive(Debug)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// A certificate chain and its key (PEM), for TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Who may ask; anybody where it is absent.
    pub logins: Option<Logins>,
    /// What a client may take.
    pub limits: Limits,
}

/// What a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most open connections.
    pub connections: usize,
    /// Most of them from one address.
    pub per_address: usize,
    /// How long a request's headers, or the next request, or TLS may be waited for.
    pub headers: Duration,
    /// How long a client may take nothing of what it is sent.
    pub stall: Duration,
    /// Largest head of a request, in bytes.
    pub head: usize,
    /// How long requests that are under way may take when the server ends.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            per_address: 512,
            headers: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            head: 16 << 10,
            drain: Duration::from_secs(30),
        }
    }
}

/// A request that is over, for the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who asked.
    pub peer: SocketAddr,
    /// The user, where there is a login.
    pub user: Option<String>,
    /// The method.
    pub method: String,
    /// Path and query, as they were sent.
    pub target: String,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the body that were handed to the connection.
    pub sent: u64,
    /// From the request to the end of the answer.
    pub took: Duration,
    /// What the client calls itself.
    pub agent: String,
    /// Why the answer was cut off, where it was.
    pub cut: Option<String>,
}

/// Told of each request that is over; must return quickly.
pub type Told = Arc<dyn Fn(Access) + Send + Sync>;

/// A server that is bound to its address.
pub struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
}

/// What all connections share.
struct Shared {
    stock: Arc<dyn Stock>,
    logins: Option<Logins>,
    limits: Limits,
    proofs: Arc<Proofs>,
    metrics: Metrics,
    told: Told,
    /// Logins are checked two at a time: each check costs a tenth of a second of a core.
    checks: Semaphore,
    peers: Mutex<HashMap<IpAddr, usize>>,
}

impl Server {
    /// Binds the address, and reads the certificate.
    pub fn bind(stock: Arc<dyn Stock>, options: Options, told: Told) -> Result<Self> {
        allow_files(options.limits.connections);
        let tls = options.tls.map(|(chain, key)| tls::acceptor(&chain, &key)).transpose()?;
        let listener = TcpListener::bind(options.listen)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|source| Error::Refused {
                side: stock.side(),
                action: format!("listening on {}", options.listen),
                reason: source.to_string(),
            })?;
        let shared = Shared {
            stock,
            logins: options.logins,
            limits: options.limits,
            proofs: Arc::default(),
            metrics: Metrics::default(),
            told,
            checks: Semaphore::new(2),
            peers: Mutex::default(),
        };
        Ok(Self { listener, tls, shared: Arc::new(shared) })
    }

    /// Where it listens: with the port that the system chose, where 0 was asked for.
    pub fn address(&self) -> Result<SocketAddr> {
        let failed = |source| Error::from_io(Side::Source, "examine", "the socket".into(), source);
        self.listener.local_addr().map_err(failed)
    }

    /// Serves until somebody asks to stop; then what is under way may end, for as long as the limits say.
    ///
    /// Returns how many connections were cut off at the end.
    pub fn run(self, stop: &Stop) -> Result<usize> {
        let failed = |source| Error::from_io(Side::Source, "start", "the server".into(), source);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(READERS)
            .thread_stack_size(STACK)
            .enable_all()
            .build()
            .map_err(failed)?;
        let cut = runtime.block_on(self.accept(stop)).map_err(failed);
        // A read from a medium that hangs is not waited for.
        runtime.shutdown_background();
        cut
    }

    async fn accept(self, stop: &Stop) -> std::io::Result<usize> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let limits = self.shared.limits;
        let places = Arc::new(Semaphore::new(limits.connections));
        let (drain, draining) = watch::channel(false);
        let mut tick = tokio::time::interval(TICK);
        loop {
            // With no place free, connections wait in the system's queue.
            let accepted = tokio::select! {
                _ = tick.tick() => {
                    if stop.requested() { break; }
                    continue;
                }
                accepted = async {
                    let place = places.clone().acquire_owned().await;
                    (place, listener.accept().await)
                } => accepted,
            };
            let (Ok(place), accepted) = accepted else { break };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(_) => {
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            let Some(guest) = Guest::admit(&self.shared, peer.ip()) else { continue };
            let _ = stream.set_nodelay(true);
            let (shared, tls, draining) = (self.shared.clone(), self.tls.clone(), draining.clone());
            tokio::spawn(async move {
                connection::serve(shared, stream, peer, tls, draining).await;
                drop((guest, place));
            });
        }
        drop(listener);
        let _ = drain.send(true);
        let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(limits.drain, places.acquire_many(all)).await;
        Ok(limits.connections - places.available_permits().min(limits.connections))
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// Has the system allow as many files as the connections and what they read may take, as far as it does:
/// systems allow 1024 unasked, for programs that could not bear more.
fn allow_files(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = connections as u64 * 2 + 256;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        let raised = maximum.map_or(wanted, |maximum| maximum.min(wanted));
        // Where it is refused, connections beyond the limit wait.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum });
    }
}

/// A connection that is counted among those of its address, for as long as this lives.
struct Guest {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Guest {
    /// `None` where its address has as many as it may have.
    fn admit(shared: &Arc<Shared>, address: IpAddr) -> Option<Self> {
        let mut peers = shared.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let open = peers.entry(address).or_default();
        if *open >= shared.limits.per_address {
            shared.metrics.turned_away();
            return None;
        }
        *open += 1;
        shared.metrics.connected();
        Some(Self { shared: shared.clone(), address })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut peers = self.shared.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = peers.get_mut(&self.address) {
            *open -= 1;
            if *open == 0 {
                peers.remove(&self.address);
            }
        }
        self.shared.metrics.disconnected();
    }
}
