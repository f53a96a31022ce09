//! A proxy between pannier and a node's containerd that goes wrong at a chosen moment.
//!
//! It forwards HTTP/2 streams as they are, and counts: a moment is a gRPC message on its way to
//! containerd, or an answer on its way back. At the chosen one it cuts the connection, answers with a
//! status of its own, delays, or holds the call until the test has done its worst.

use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client, server};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::Code;

use super::node::Node;

/// When it goes wrong; counts from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    /// The n-th moment of all.
    Moment(usize),
    /// The n-th message of a method, told by the end of its path, such as `Content/Write`.
    Message(&'static str, usize),
    /// The n-th answer of a method.
    Answer(&'static str, usize),
    /// Every message of a method from the n-th on.
    EveryMessage(&'static str, usize),
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// All connections are closed; later ones are served.
    Cut,
    /// The call is answered with this status. containerd does not see the message.
    Status(Code, &'static str),
    /// The call stands still until the test releases it. Other calls, and pings, go on.
    Hold,
    /// The call goes on a little later.
    Delay(Duration),
}

#[derive(Debug, Default)]
struct State {
    armed: Option<(At, Fault)>,
    /// The moments so far: the method and `>` or `<`.
    seen: Vec<String>,
    struck: Option<String>,
}

#[derive(Debug)]
struct Shared {
    containerd: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    /// Counts cuts; every connection ends when it changes.
    cuts: watch::Sender<usize>,
    /// Counts releases.
    releases: watch::Sender<usize>,
}

/// A running proxy; it ends with the value.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    directory: tempfile::TempDir,
    runtime: Option<Runtime>,
}

impl Proxy {
    /// Starts one in front of a node, which may come and go.
    pub(crate) fn before(node: &Node) -> Self {
        let directory = tempfile::Builder::new().prefix("pannier-proxy-").tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let shared = Arc::new(Shared {
            containerd: node.socket(),
            state: Mutex::default(),
            changed: Condvar::new(),
            cuts: watch::Sender::new(0),
            releases: watch::Sender::new(0),
        });
        let _entered = runtime.enter();
        let listener = UnixListener::bind(directory.path().join("p.sock")).unwrap();
        let serving = shared.clone();
        runtime.spawn(async move {
            while let Ok((downstream, _)) = listener.accept().await {
                let shared = serving.clone();
                tokio::spawn(async move {
                    let mut cuts = shared.cuts.subscribe();
                    tokio::select! {
                        _ = connection(&shared, downstream) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { shared, directory, runtime: Some(runtime) }
    }

    /// The socket that pannier is to use.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("p.sock")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Begins to count anew, and goes wrong at `at`.
    pub(crate) fn arm(&self, at: At, fault: Fault) {
        *self.state() = State { armed: Some((at, fault)), ..State::default() };
    }

    /// Begins to count anew; nothing goes wrong.
    pub(crate) fn disarm(&self) {
        *self.state() = State::default();
    }

    /// All moments since it was armed.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.state().seen.clone()
    }

    /// The moment at which it went wrong, if it did.
    pub(crate) fn struck(&self) -> Option<String> {
        self.state().struck.clone()
    }

    /// Waits until it has gone wrong, or `over` says that this will not happen any more.
    pub(crate) fn await_strike(&self, mut over: impl FnMut() -> bool) -> Option<String> {
        let mut state = self.state();
        loop {
            if let Some(moment) = &state.struck {
                return Some(moment.clone());
            }
            // Asked without the lock: the last message may be on its way.
            drop(state);
            let ended = over();
            state = self.state();
            if ended {
                return state.struck.clone();
            }
            state = self.shared.changed.wait_timeout(state, Duration::from_millis(2)).unwrap().0;
        }
    }

    /// Lets go of the calls that are held.
    pub(crate) fn release(&self) {
        self.shared.releases.send_modify(|count| *count += 1);
    }

    /// Closes all connections.
    pub(crate) fn cut(&self) {
        self.shared.cuts.send_modify(|count| *count += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    /// Notes a moment; what is to go wrong at it.
    fn moment(&self, path: &str, direction: char) -> Option<Fault> {
        let method = path.rsplit('.').next().unwrap_or(path);
        let mut state = self.state.lock().unwrap();
        let moment = format!("{direction}{method}");
        state.seen.push(moment.clone());
        let (at, fault) = state.armed?;
        let of = |name: &str, wanted: char| {
            let counts = |seen: &&String| seen.starts_with(wanted) && seen.ends_with(name);
            (direction == wanted && method.ends_with(name)).then(|| state.seen.iter().filter(counts).count())
        };
        let strikes = match at {
            At::Moment(number) => state.seen.len() == number,
            At::Message(name, number) => of(name, '>') == Some(number),
            At::Answer(name, number) => of(name, '<') == Some(number),
            At::EveryMessage(name, number) => of(name, '>').is_some_and(|count| count >= number),
        };
        if strikes {
            state.struck.get_or_insert(moment);
            self.changed.notify_all();
        }
        strikes.then_some(fault)
    }

    /// Lets a fault take its course; an error says how the call ends.
    async fn suffer(&self, fault: Option<Fault>) -> Result<(), End> {
        match fault {
            None => Ok(()),
            Some(Fault::Cut) => {
                self.cuts.send_modify(|count| *count += 1);
                std::future::pending().await
            }
            Some(Fault::Status(code, message)) => Err(End::Status(code, message)),
            Some(Fault::Hold) => {
                let mut releases = self.releases.subscribe();
                let _ = releases.changed().await;
                Ok(())
            }
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
        }
    }
}

/// How a call ended before its time.
enum End {
    Status(Code, &'static str),
    Reset(Reason),
}

impl From<h2::Error> for End {
    fn from(error: h2::Error) -> Self {
        Self::Reset(error.reason().unwrap_or(Reason::INTERNAL_ERROR))
    }
}

async fn connection(shared: &Arc<Shared>, downstream: UnixStream) -> Option<()> {
    const WINDOW: u32 = 8 << 20;
    let upstream = UnixStream::connect(&shared.containerd).await.ok()?;
    let (sender, upstream) = client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(upstream)
        .await
        .ok()?;
    let mut downstream = server::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(downstream)
        .await
        .ok()?;
    // Either end takes the other with it.
    tokio::select! {
        _ = upstream => None,
        _ = async {
            let mut calls = tokio::task::JoinSet::new();
            while let Some(Ok((request, respond))) = downstream.accept().await {
                let (shared, sender) = (shared.clone(), sender.clone());
                calls.spawn(async move { call(&shared, sender, request, respond).await });
            }
        } => Some(()),
    }
}

/// Forwards one call.
async fn call(
    shared: &Shared,
    sender: client::SendRequest<Bytes>,
    request: Request<RecvStream>,
    mut respond: server::SendResponse<Bytes>,
) {
    let path = request.uri().path().to_owned();
    let ended = forward(shared, &path, sender, request, &mut respond).await;
    match ended {
        Ok(()) => {}
        Err(End::Reset(reason)) => respond.send_reset(reason),
        Err(End::Status(code, message)) => {
            let mut response = Response::new(());
            let headers = response.headers_mut();
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from(code as i32));
            headers.insert("grpc-message", HeaderValue::from_static(message));
            if respond.send_response(response, true).is_err() {
                // The headers are out already.
                respond.send_reset(Reason::INTERNAL_ERROR);
            }
        }
    }
}

async fn forward(
    shared: &Shared,
    path: &str,
    sender: client::SendRequest<Bytes>,
    request: Request<RecvStream>,
    respond: &mut server::SendResponse<Bytes>,
) -> Result<(), End> {
    let (head, mut messages) = request.into_parts();
    let mut sender = sender.ready().await?;
    let (response, mut upstream) = sender.send_request(Request::from_parts(head, ()), false)?;
    let upward = async {
        let mut frames = Frames::default();
        while let Some(data) = messages.data().await {
            let data = data?;
            for _ in 0..frames.beginnings(&data) {
                shared.suffer(shared.moment(path, '>')).await?;
            }
            pass(&mut messages, &mut upstream, data).await?;
        }
        match messages.trailers().await? {
            Some(trailers) => upstream.send_trailers(trailers)?,
            None => upstream.send_data(Bytes::new(), true)?,
        }
        Ok::<(), End>(())
    };
    let downward = async {
        // The headers go with the first message, so that a status can still take their place. A client
        // that gives up resets the call; dropping it here resets it upstream.
        let (head, mut answers) = tokio::select! {
            response = response => response?.into_parts(),
            reason = poll_fn(|context| respond.poll_reset(context)) => return Err(End::Reset(reason?)),
        };
        let mut frames = Frames::default();
        let mut first = answers.data().await;
        if first.is_none() {
            shared.suffer(shared.moment(path, '<')).await?;
            let trailers = answers.trailers().await?;
            let mut stream = respond.send_response(Response::from_parts(head, ()), trailers.is_none())?;
            return trailers.map_or(Ok(()), |trailers| Ok(stream.send_trailers(trailers)?));
        }
        let mut head = Some(head);
        let mut stream = None;
        loop {
            let data = match first.take() {
                Some(data) => Some(data),
                None => match &mut stream {
                    None => answers.data().await,
                    Some(stream) => {
                        let stream: &mut SendStream<Bytes> = stream;
                        tokio::select! {
                            data = answers.data() => data,
                            reason = poll_fn(|context| stream.poll_reset(context)) => return Err(End::Reset(reason?)),
                        }
                    }
                },
            };
            let Some(data) = data.transpose()? else { break };
            for _ in 0..frames.beginnings(&data) {
                shared.suffer(shared.moment(path, '<')).await?;
            }
            if let Some(head) = head.take() {
                stream = Some(respond.send_response(Response::from_parts(head, ()), false)?);
            }
            if let Some(stream) = &mut stream {
                pass(&mut answers, stream, data).await?;
            }
        }
        let trailers: Option<HeaderMap> = answers.trailers().await?;
        match (&mut stream, trailers) {
            (Some(stream), Some(trailers)) => stream.send_trailers(trailers)?,
            (Some(stream), None) => stream.send_data(Bytes::new(), true)?,
            (None, _) => {}
        }
        Ok::<(), End>(())
    };
    tokio::pin!(upward, downward);
    tokio::select! {
        ended = &mut downward => ended,
        ended = &mut upward => {
            ended?;
            downward.await
        }
    }
}

/// Sends data on, as fast as the other side takes it.
async fn pass(from: &mut RecvStream, to: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), End> {
    let length = data.len();
    while !data.is_empty() {
        to.reserve_capacity(data.len());
        // Asking again for capacity that is there already would wait for ever.
        let room = match to.capacity() {
            0 => match poll_fn(|context| to.poll_capacity(context)).await {
                Some(room) => room?,
                None => return Err(End::Reset(Reason::CANCEL)),
            },
            room => room,
        };
        let part = data.split_to(room.min(data.len()));
        to.send_data(part, false)?;
    }
    from.flow_control().release_capacity(length)?;
    Ok(())
}

/// Finds where gRPC messages begin: each has a flag and its length in front.
#[derive(Default)]
struct Frames {
    prefix: Vec<u8>,
    left: usize,
}

impl Frames {
    /// How many messages begin in `data`, which follows what came before.
    fn beginnings(&mut self, mut data: &[u8]) -> usize {
        let mut begun = 0;
        while !data.is_empty() {
            if self.left > 0 {
                let inside = self.left.min(data.len());
                self.left -= inside;
                data = &data[inside..];
                continue;
            }
            if self.prefix.is_empty() {
                begun += 1;
            }
            let take = (5 - self.prefix.len()).min(data.len());
            self.prefix.extend_from_slice(&data[..take]);
            data = &data[take..];
            if let [_, a, b, c, d] = self.prefix[..] {
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                self.prefix.clear();
            }
        }
        begun
    }
}
