//! The HTTP/1.1 server of every process: limits that work, and a drain that breaks no answer.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Once};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, IF_NONE_MATCH,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size, set_tcp_user_timeout};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::service::proxies::Proxies;
use crate::service::telemetry::{self, IntCounter};

mod head;
mod per_address;
mod places;
pub mod proxy_header;
mod stream;

pub use head::names_us;
pub use per_address::{PerAddress, Share};
use places::Places;
use stream::ClientStream;

static UNANNOUNCED: LazyLock<IntCounter> = LazyLock::new(|| {
    telemetry::counter(
        "footfall_connections_unannounced_total",
        "Connections of proxies that were closed, because they did not begin with a PROXY protocol header.",
    )
});
/// Said once: after a wrong setting it is so with every connection.
static UNANNOUNCED_SAID: Once = Once::new();

/// How long it is waited after the operating system refused a connection; longer each time.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(20);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_millis(640);

/// What every handler answers.
pub type HttpResponse = Response<Full<Bytes>>;

/// A request's head may be this large, and have 100 headers; a larger one is answered with 431.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// What the kernel may hold for a client that does not read, or that is not read from; it doubles both. Left alone, it
/// grows each to megabytes: thousands of clients would fill the machine's memory, and a viewer who reads slowly would be
/// shown numbers of minutes ago.
const SOCKET_BUFFER_BYTES: usize = 64 * 1024;

/// What a server allows its clients.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; further ones are closed as soon as they are accepted.
    pub connections_max: usize,
    /// Connections of one address at once, likewise; `trusted_proxies` may have more.
    pub connections_per_address_max: usize,
    /// Load balancers, which bring everybody's connections.
    pub trusted_proxies: Proxies,
    /// A request's head must arrive within this time; idle connections are closed after it, and those whose client takes
    /// nothing of its answer for as long.
    pub header_timeout: Duration,
    /// After the stop signal everything is answered and closed within this time. For the first half
    /// of it new connections are still served, until load balancers have noticed `/readyz`.
    pub drain: Duration,
    /// Proxies whose connections begin with a PROXY protocol header, which says whose they are.
    pub announced_by: Arc<Proxies>,
}

/// Serves until `stop`, then drains; returns when every connection has ended. The handler is given the address from
/// which the request came.
pub async fn serve<H, F>(
    listener: TcpListener,
    limits: Limits,
    stop: CancellationToken,
    handler: H,
) -> anyhow::Result<()>
where
    H: Fn(IpAddr, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = HttpResponse> + Send + 'static,
{
    // Accepted connections inherit all three.
    set_socket_send_buffer_size(&listener, SOCKET_BUFFER_BYTES)?;
    set_socket_recv_buffer_size(&listener, SOCKET_BUFFER_BYTES)?;
    // What was written for a client is in the kernel when we have closed the connection, and has no place among those that
    // are counted any more: without this the kernel keeps it for as long as the client lets it, and one client could fill
    // the memory with connections that nobody has.
    let patience = i32::try_from(limits.header_timeout.as_millis()).unwrap_or(i32::MAX); // The kernel takes no more.
    set_tcp_user_timeout(&listener, patience.cast_unsigned())?;
    let places =
        Arc::new(Places::new(limits.connections_max, limits.connections_per_address_max, limits.trusted_proxies));
    let connections = TaskTracker::new();
    let draining = Arc::new(AtomicBool::new(false));
    let close = CancellationToken::new();
    let mut http = http1::Builder::new();
    // Not `pipeline_flush`: with it hyper drops its own 400 and 431 when the client has sent more than the bad head.
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(HEAD_BYTES_MAX);

    let mut drained = pin!(async {
        stop.cancelled().await;
        draining.store(true, Ordering::Relaxed);
        tokio::time::sleep(limits.drain / 2).await;
    });
    let mut is_drained = false;
    let mut pause = ACCEPT_PAUSE_MIN;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut drained, if !is_drained => {
                is_drained = true;
                continue;
            }
            accepted = listener.accept() => accepted,
            // What the kernel has accepted for us by now is still served.
            () = std::future::ready(()), if is_drained => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to be freed.
                warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
                continue;
            }
        };
        pause = ACCEPT_PAUSE_MIN;
        let peer = peer.ip().to_canonical();
        let Some(mut place) = places.take(peer) else { continue };
        let _ = stream.set_nodelay(true);
        // One that came during the drain is closed after its first answer, and not before it.
        let close = if draining.load(Ordering::Relaxed) { CancellationToken::new() } else { close.clone() };
        let patience = limits.announced_by.contain(peer).then_some(limits.header_timeout);
        let (http, handler, draining, places) =
            (http.clone(), handler.clone(), Arc::clone(&draining), Arc::clone(&places));
        connections.spawn(async move {
            let mut stream = stream;
            let client = match patience {
                None => Some(peer),
                Some(patience) => close.run_until_cancelled(announced(&mut stream, peer, patience)).await.flatten(),
            };
            // Behind such a proxy every client has a connection of its own to us.
            if let Some(client) = client.filter(|client| *client == peer || places.belongs_to(&mut place, *client)) {
                let stream = ClientStream::new(stream, limits.header_timeout);
                serve_connection(stream, client, http, handler, draining, close).await;
            }
            drop(place);
        });
    }
    drop(listener);
    close.cancel();
    connections.close();
    if tokio::time::timeout(limits.drain / 2, connections.wait()).await.is_err() {
        warn!("{} connections were still open at the end of the drain time", connections.len());
    }
    Ok(())
}

/// Whose connection it is, as the proxy at `peer` says; none if it does not say so in time.
async fn announced(stream: &mut TcpStream, peer: IpAddr, patience: Duration) -> Option<IpAddr> {
    let error = match tokio::time::timeout(patience, proxy_header::read(stream, peer)).await {
        Ok(Ok(client)) => return Some(client),
        // It only looked whether somebody is there.
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return None,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("nothing came within {patience:?}"),
    };
    UNANNOUNCED.inc();
    UNANNOUNCED_SAID.call_once(|| {
        warn!(
            "a connection of the proxy {peer} was closed: {error}; have it send one, or set http.proxy_protocol to false; \
             further ones are only counted"
        );
    });
    None
}

async fn serve_connection<H, F>(
    stream: ClientStream,
    peer: IpAddr,
    http: http1::Builder,
    handler: H,
    draining: Arc<AtomicBool>,
    close: CancellationToken,
) where
    H: Fn(IpAddr, Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = HttpResponse> + Send + 'static,
{
    let is_draining = Arc::clone(&draining);
    let service = service_fn(move |request: Request<Incoming>| {
        // The handler is called in there: a future that is brought along would take its space twice.
        let (handler, draining) = (handler.clone(), Arc::clone(&draining));
        async move {
            let mut answer = match head::refusal(&request) {
                None => handler(peer, request).await,
                Some((status, why)) => closing(sentence(status, why)),
            };
            answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            // A client that hears it with its answer does not run into a closed connection later.
            if draining.load(Ordering::Relaxed) && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                answer = closing(answer);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let mut closed = pin!(close.cancelled());
    let mut is_watched = false;
    let ended = poll_fn(|context| {
        let ended = connection.as_mut().poll(context);
        // Connections are closed only once the drain has begun. Until then it is enough to have asked once to be woken: to ask
        // at every request costs as much as to read it.
        if ended.is_pending() && (!is_watched || is_draining.load(Ordering::Relaxed)) {
            is_watched = true;
            if closed.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
        }
        ended.map(Some)
    });
    let ended = match ended.await {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!("a connection ended with: {error}");
    }
}

/// An answer with a text body.
#[must_use]
pub fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> HttpResponse {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// An answer of one plain sentence.
#[must_use]
pub fn sentence(status: StatusCode, sentence: &str) -> HttpResponse {
    text(status, "text/plain; charset=utf-8", format!("{sentence}\n"))
}

/// An answer with a JSON body.
#[must_use]
pub fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> HttpResponse {
    let body = serde_json::to_vec(value).expect("our own types always have a JSON form");
    text(status, "application/json", body)
}

/// Whether the one who asks has what goes by this tag already, be it weak or strong.
#[must_use]
pub fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|known| known.to_str().ok())
        .flat_map(|known| known.split(','))
        .any(|known| known.trim().trim_start_matches("W/") == tag.trim_start_matches("W/"))
}

/// What a path takes that can be read and nothing else.
pub const READ: &str = "GET, HEAD, OPTIONS";

/// Whether it is a method by which something is read. The server keeps back the body of an answer to `HEAD`.
#[must_use]
pub fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The answer to a method that `path` does not take: which it takes. `OPTIONS` asks just that.
#[must_use]
pub fn other_method(asked: &Method, path: &str, taken: &'static str) -> HttpResponse {
    let mut answer = if *asked == Method::OPTIONS {
        empty(StatusCode::NO_CONTENT)
    } else {
        sentence(StatusCode::METHOD_NOT_ALLOWED, &format!("{path} takes {taken}"))
    };
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(taken));
    answer
}

/// Why a body cannot be read: none is decompressed here, for a small one could become as large as it likes.
#[must_use]
pub fn compressed(headers: &HeaderMap) -> Option<String> {
    let codings = headers.get_all(CONTENT_ENCODING).iter();
    let mut codings = codings.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let coding = codings.find(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))?;
    let coding = String::from_utf8_lossy(coding);
    Some(format!("the body is encoded as `{coding}`: send it as it is, without Content-Encoding"))
}

/// The answer to a body that is [`compressed`].
#[must_use]
pub fn unsupported_encoding(reason: &str) -> HttpResponse {
    let mut answer = sentence(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason);
    answer.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    answer
}

/// An answer after which the connection is closed.
#[must_use]
pub fn closing(mut answer: HttpResponse) -> HttpResponse {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// An answer without a body.
#[must_use]
pub fn empty(status: StatusCode) -> HttpResponse {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}
