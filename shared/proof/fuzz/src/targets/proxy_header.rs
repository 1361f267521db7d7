//! What a load balancer says before a request.

use std::net::IpAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use footfall_shared::service::http::proxy_header;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
/// Twelve bytes, version, family, length, and as much as two bytes of length can say.
const HEADER_BYTES_MAX: usize = 16 + u16::MAX as usize;

/// The client, and how much of the bytes was read.
fn client_in(bytes: &[u8]) -> Option<(IpAddr, usize)> {
    let mut rest = bytes;
    let client = {
        let mut reading = pin!(proxy_header::read(&mut rest, PEER));
        // Bytes in memory are there at once.
        match reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(client) => client.ok()?,
            Poll::Pending => panic!("it waits for something"),
        }
    };
    Some((client, bytes.len() - rest.len()))
}

pub(crate) fn read(bytes: &[u8]) {
    let Some((client, taken)) = client_in(bytes) else { return };
    assert!(taken <= HEADER_BYTES_MAX, "{taken}");
    assert!(bytes[0] != b'P' || (taken <= 107 && bytes[..taken].ends_with(b"\r\n")), "a line ends: {taken}");
    assert_eq!(client, client.to_canonical());
    // Nothing behind it was looked at, and nothing of it can be left out.
    assert_eq!(client_in(&bytes[..taken]), Some((client, taken)));
    assert_eq!(client_in(&bytes[..taken - 1]), None, "cut off");
    // Written by somebody else, it names the same.
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let line = format!("PROXY {family} {client} {client} 1 2\r\n");
    assert_eq!(client_in(line.as_bytes()), Some((client, line.len())));
}
