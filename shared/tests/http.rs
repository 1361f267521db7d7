//! The HTTP server against clients that take more than their share.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use footfall_shared::service::http::{self, Limits};
use footfall_shared::service::proxies::Proxies;
use hyper::StatusCode;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(1);
/// What the kernel holds of answers that nobody takes: the server's buffer, which it doubles, hyper's, and the client's.
const HELD_BYTES_MAX: usize = 1 << 20;

/// A server that answers everything with 4 KiB, gone with its test.
struct Server {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

fn start(change: impl FnOnce(&mut Limits)) -> Server {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a port");
    let address = listener.local_addr().expect("it listens");
    let mut limits = Limits {
        connections_max: 200,
        connections_per_address_max: 200,
        trusted_proxies: Proxies::default(),
        header_timeout: PATIENCE,
        drain: Duration::from_millis(100),
        announced_by: Arc::default(),
    };
    change(&mut limits);
    runtime.spawn(http::serve(listener, limits, CancellationToken::new(), |_, _| async {
        http::text(StatusCode::OK, "text/plain", vec![b'x'; 4096])
    }));
    Server { address, _runtime: runtime }
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("time-out");
    stream
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// Everything until the server closes, and whether it did.
fn rest(mut stream: TcpStream) -> (usize, bool) {
    let mut bytes = Vec::new();
    let ended = match stream.read_to_end(&mut bytes) {
        Ok(_) => true,
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
    };
    (bytes.len(), ended)
}

#[test]
fn who_does_not_take_answers_is_closed_and_holds_little() {
    let server = start(|_| {});
    let started = Instant::now();
    let greedy: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = connect(&server);
            // Its own memory is not what this is about, and here it is the same kernel's.
            set_socket_recv_buffer_size(&stream, 4096).expect("a small buffer");
            stream.set_nonblocking(true).expect("non-blocking");
            // As much as the kernel takes: it is the server who stops reading.
            let requests = REQUEST.repeat(3_000);
            let _ = stream.write(&requests);
            stream
        })
        .collect();
    // Others are served meanwhile.
    let mut honest = connect(&server);
    honest.write_all(REQUEST).expect("write");
    let mut first = [0; 12];
    honest.read_exact(&mut first).expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200");
    drop(honest);

    std::thread::sleep((PATIENCE * 3).saturating_sub(started.elapsed()));
    for stream in greedy {
        stream.set_nonblocking(false).expect("blocking");
        let (held, ended) = rest(stream);
        assert!(ended, "it is still open");
        assert!(held < HELD_BYTES_MAX, "{held} bytes were held for it");
    }
}

/// Slow is not stalled: who goes on taking gets everything, however long it lasts.
#[test]
fn who_reads_slowly_gets_everything() {
    let server = start(|_| {});
    let mut stream = connect(&server);
    let requests = 500;
    let mut writer = stream.try_clone().expect("clone");
    let writing = std::thread::spawn(move || writer.write_all(&REQUEST.repeat(requests)));
    let (started, mut taken) = (Instant::now(), 0);
    let mut buffer = vec![0; 256 * 1024];
    while taken < requests * 4096 {
        std::thread::sleep(PATIENCE / 3);
        let read = stream.read(&mut buffer).expect("more");
        assert!(read > 0, "closed after {taken} bytes and {:?}", started.elapsed());
        taken += read;
    }
    writing.join().expect("writer").expect("everything was asked for");
    assert!(started.elapsed() > PATIENCE, "it was no slow reader");
}

#[test]
fn one_address_has_so_many_connections() {
    let few = |limits: &mut Limits| limits.connections_per_address_max = 2;
    let is_served = |stream: &mut TcpStream| {
        let mut first = [0; 12];
        stream.write_all(REQUEST).is_ok() && stream.read_exact(&mut first).is_ok()
    };
    let server = start(few);
    let mut streams = [connect(&server), connect(&server), connect(&server)];
    let served: Vec<bool> = streams.iter_mut().map(is_served).collect();
    assert_eq!(served, [true, true, false]);
    drop(streams);
    std::thread::sleep(Duration::from_millis(200));
    assert!(is_served(&mut connect(&server)), "places of those who have gone are free");

    let server = start(|limits| {
        few(limits);
        limits.trusted_proxies = "127.0.0.0/8".parse().expect("a network");
    });
    let mut streams = [connect(&server), connect(&server), connect(&server)];
    assert!(streams.iter_mut().all(is_served), "a proxy brings everybody's");
}

#[test]
fn a_head_with_two_meanings_is_refused_and_every_answer_says_what_it_is() {
    let server = start(|_| {});
    for (head, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n", "200"),
        ("GET / HTTP/1.0\r\n", "200"),
        ("GET / HTTP/1.1\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n", "501"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n", "4"),
    ] {
        let mut stream = connect(&server);
        write!(stream, "{head}Connection: close\r\n\r\n").expect("write");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer); // A reset after the answer is no loss of it.
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) || answer.starts_with(&format!("HTTP/1.0 {status}")),
            "{head}: {answer}"
        );
        if status != "4" {
            assert!(answer.to_lowercase().contains("\r\nx-content-type-options: nosniff\r\n"), "{head}: {answer}");
        }
    }
}
