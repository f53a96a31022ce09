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
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::Code;

use super::node::Node;

/// When it goes wrong; counts from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    /// The n-th moment of all.
    Timestamp(usize),
    /// The n-th message of a method, such as `Content/Write`, or of one kind, such as `Content/Write.commit`.
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
    fn moment(&self, direction: char, method: &str) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        let moment = format!("{direction}{method}");
        state.seen.push(moment.clone());
        let (at, fault) = state.armed?;
        let of = |name: &str, wanted: char| {
            let name = format!("{wanted}{name}");
            let counts = |seen: &&String| seen.starts_with(&name);
            moment.starts_with(&name).then(|| state.seen.iter().filter(counts).count())
        };
        let strikes = match at {
            At::Timestamp(number) => state.seen.len() == number,
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

    /// Notes a moment, and lets its fault take its course; an error says how the call ends.
    async fn suffer(&self, direction: char, method: &str) -> Result<(), End> {
        // Before the test hears of it: it may release at once.
        let mut releases = self.releases.subscribe();
        match self.moment(direction, method) {
            None => Ok(()),
            Some(Fault::Cut) => {
                self.cuts.send_modify(|count| *count += 1);
                std::future::pending().await
            }
            Some(Fault::Status(code, message)) => Err(End::Status(code, message)),
            Some(Fault::Hold) => {
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
            *response.headers_mut() = status(code, message);
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
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
    let method = path.rsplit('.').next().unwrap_or(path);
    let (asked, mut messages) = request.into_parts();
    let mut sender = sender.ready().await?;
    let (response, mut upstream) = sender.send_request(Request::from_parts(asked, ()), false)?;
    let upward = async {
        let mut frames = Frames::default();
        while let Some(data) = messages.data().await {
            let data = data?;
            for start in frames.beginnings(&data) {
                shared.suffer('>', &named(method, start)).await?;
            }
            pass(&mut messages, &mut upstream, data).await?;
        }
        match messages.trailers().await? {
            Some(trailers) => upstream.send_trailers(trailers)?,
            None => upstream.send_data(Bytes::new(), true)?,
        }
        Ok::<(), End>(())
    };
    // A fault on the way up is answered on the way down.
    let (refuse, mut refused) = tokio::sync::oneshot::channel::<End>();
    let downward = async {
        // The headers go with the first message, so that a status can still take their place. A client
        // that gives up resets the call; dropping it here resets it upstream.
        let mut answers = tokio::select! {
            response = response => response?,
            Ok(end) = &mut refused => return Err(end),
            reason = poll_fn(|context| respond.poll_reset(context)) => return Err(End::Reset(reason?)),
        };
        let (mut frames, mut stream) = (Frames::default(), None::<SendStream<Bytes>>);
        loop {
            let data = match &mut stream {
                None => tokio::select! {
                    data = answers.body_mut().data() => data,
                    Ok(end) = &mut refused => return Err(end),
                    reason = poll_fn(|context| respond.poll_reset(context)) => return Err(End::Reset(reason?)),
                },
                Some(stream) => tokio::select! {
                    data = answers.body_mut().data() => data,
                    Ok(End::Status(code, message)) = &mut refused => {
                        return Ok(stream.send_trailers(status(code, message))?);
                    }
                    reason = poll_fn(|context| stream.poll_reset(context)) => return Err(End::Reset(reason?)),
                },
            };
            let Some(data) = data.transpose()? else { break };
            for _ in frames.beginnings(&data) {
                shared.suffer('<', method).await?;
            }
            let stream = match &mut stream {
                Some(stream) => stream,
                None => stream.insert(respond.send_response(head(&answers), false)?),
            };
            pass(answers.body_mut(), stream, data).await?;
        }
        if stream.is_none() {
            shared.suffer('<', method).await?;
        }
        let trailers = answers.body_mut().trailers().await?;
        let ends = trailers.is_none();
        let mut stream = match stream {
            Some(mut stream) if ends => return Ok(stream.send_data(Bytes::new(), true)?),
            Some(stream) => stream,
            None => respond.send_response(head(&answers), ends)?,
        };
        match trailers {
            Some(trailers) => Ok(stream.send_trailers(trailers)?),
            None => Ok(()),
        }
    };
    tokio::pin!(upward, downward);
    tokio::select! {
        ended = &mut downward => return ended,
        // containerd may answer, and take no more, before it has everything: the answer counts.
        ended = &mut upward => if let Err(status @ End::Status(..)) = ended {
            let _ = refuse.send(status);
        }
    }
    downward.await
}

/// What a response says before its messages.
fn head(response: &Response<RecvStream>) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = response.status();
    *head.headers_mut() = response.headers().clone();
    head
}

fn status(code: Code, message: &'static str) -> HeaderMap {
    HeaderMap::from_iter([
        (HeaderName::from_static("grpc-status"), HeaderValue::from(code as i32)),
        (HeaderName::from_static("grpc-message"), HeaderValue::from_static(message)),
    ])
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

/// The method, and what a message of `Content/Write` asks for: its first field, which is left out for
/// the first kind.
fn named(method: &str, message: &[u8]) -> String {
    match (method, message) {
        ("Content/Write", [0x08, 1, ..]) => format!("{method}.write"),
        ("Content/Write", [0x08, 2, ..]) => format!("{method}.commit"),
        ("Content/Write", _) => format!("{method}.stat"),
        _ => method.to_owned(),
    }
}

/// Finds where gRPC messages begin: each has a flag and its length in front.
#[derive(Default)]
struct Frames {
    prefix: Vec<u8>,
    left: usize,
}

impl Frames {
    /// The messages that begin in `data`, which follows what came before; each with as much of it as
    /// is there.
    fn beginnings<'d>(&mut self, mut data: &'d [u8]) -> Vec<&'d [u8]> {
        let mut begun = Vec::new();
        while !data.is_empty() {
            if self.left > 0 {
                let inside = self.left.min(data.len());
                self.left -= inside;
                data = &data[inside..];
                continue;
            }
            if self.prefix.is_empty() {
                begun.push(data.get(5..).unwrap_or_default());
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
