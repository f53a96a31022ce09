//! One connection: TLS, the requests on it, and its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::patient::Patient;
use super::{Shared, respond};

/// Serves a connection to its end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    draining: watch::Receiver<bool>,
) {
    let limits = shared.limits;
    let stream = Patient::new(stream, limits.stall);
    match tls {
        None => requests(shared, stream, peer, draining).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(limits.headers, tls.accept(stream)).await {
                requests(shared, stream, peer, draining).await;
            }
        }
    }
}

async fn requests<T: AsyncRead + AsyncWrite + Unpin>(
    shared: Arc<Shared>,
    stream: T,
    peer: SocketAddr,
    mut draining: watch::Receiver<bool>,
) {
    let limits = shared.limits;
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(respond::respond(shared, peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .max_buf_size(limits.head)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // What went wrong with a connection is in the access log, where there was a request.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = draining.wait_for(|draining| *draining) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
