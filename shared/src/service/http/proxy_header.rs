//! What a proxy says before the first byte of a connection: whose it is. PROXY protocol, versions 1 and 2,
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>.

use std::io;
use std::net::IpAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The shortest header of version 1, without its line end, is longer.
const START_BYTES: usize = v2::PROTOCOL_PREFIX.len();
/// Up to the length, in version 2.
const FIXED_BYTES: usize = 16;
/// The longest line of version 1.
const LINE_BYTES_MAX: usize = 107;

/// Reads the header, and nothing behind it. Answers the client's address; `peer` if the proxy says that it speaks for
/// itself, or does not know.
pub async fn read(stream: &mut (impl AsyncRead + Unpin), peer: IpAddr) -> io::Result<IpAddr> {
    let mut header = vec![0; START_BYTES];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        header.resize(FIXED_BYTES, 0);
        stream.read_exact(&mut header[START_BYTES..]).await?;
        let length = u16::from_be_bytes([header[FIXED_BYTES - 2], header[FIXED_BYTES - 1]]);
        header.resize(FIXED_BYTES + usize::from(length), 0);
        stream.read_exact(&mut header[FIXED_BYTES..]).await?;
    } else if header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        while !header.ends_with(b"\r\n") && header.len() < LINE_BYTES_MAX {
            header.push(stream.read_u8().await?);
        }
        if !header.ends_with(b"\r\n") {
            return Err(no_header()); // The parser takes some that have no end.
        }
    }
    let client = client(&header).ok_or_else(no_header)?;
    Ok(client.unwrap_or(peer).to_canonical())
}

fn no_header() -> io::Error {
    io::Error::other("it does not begin with a PROXY protocol header")
}

/// Nothing if it is no header; an address only if there is one in it.
fn client(header: &[u8]) -> Option<Option<IpAddr>> {
    Some(match HeaderResult::parse(header) {
        HeaderResult::V1(header) => match header.ok()?.addresses {
            v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
            v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
            v1::Addresses::Unknown => None,
        },
        HeaderResult::V2(header) => match header.ok()? {
            // Its own, such as a health check.
            v2::Header { command: v2::Command::Local, .. } => None,
            v2::Header { addresses: v2::Addresses::IPv4(addresses), .. } => Some(addresses.source_address.into()),
            v2::Header { addresses: v2::Addresses::IPv6(addresses), .. } => Some(addresses.source_address.into()),
            v2::Header { addresses: v2::Addresses::Unix(_) | v2::Addresses::Unspecified, .. } => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    /// The address that was read from these bytes with a request behind them, of which nothing may be taken.
    async fn read_before_a_request(header: &[u8]) -> io::Result<String> {
        let bytes = [header, REQUEST].concat();
        let mut rest = bytes.as_slice();
        let client = read(&mut rest, IpAddr::from([192, 0, 2, 1])).await?;
        assert_eq!(rest, REQUEST, "{header:?}");
        Ok(client.to_string())
    }

    fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[0x20 | command, family], &length, body].concat()
    }

    #[tokio::test]
    async fn the_client_is_whom_the_proxy_names() {
        let four = [&[203, 0, 113, 7, 10, 0, 0, 1][..], &[0, 80, 0, 81]].concat();
        let six = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0, 80, 0, 81]].concat();
        let with_extras = [&four[..], &[4, 0, 2, 9, 9]].concat();
        for (header, expected) in [
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n".to_vec(), "203.0.113.7"),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n".to_vec(), "2001:db8::7"),
            (b"PROXY TCP6 ::ffff:203.0.113.7 ::ffff:10.0.0.1 4711 80\r\n".to_vec(), "203.0.113.7"),
            (b"PROXY UNKNOWN\r\n".to_vec(), "192.0.2.1"),
            (version_2(1, 0x11, &four), "203.0.113.7"),
            (version_2(1, 0x11, &with_extras), "203.0.113.7"),
            (version_2(1, 0x21, &six), "2001:db8::7"),
            (version_2(0, 0x11, &four), "192.0.2.1"), // A health check.
            (version_2(0, 0x00, &[]), "192.0.2.1"),
            (version_2(1, 0x31, &[b'/'; 216]), "192.0.2.1"),
        ] {
            assert_eq!(read_before_a_request(&header).await.expect("a header"), expected, "{header:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_an_error() {
        for wrong in [
            &b""[..],
            b"POST /v1/views HTTP/1.1\r\n",
            b"PROXY TCP4 203.0.113.777 10.0.0.1 4711 80\r\n",
            b"PROXY TCP4 203.0.113.7\r\n",
            &[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
            &[b"PROXY UNKNOWN \n\r", &[b'x'; 200][..]].concat(),
            &version_2(1, 0x11, &[1, 2, 3]),
            &version_2(2, 0x11, &[0; 12]),
        ] {
            assert!(read_before_a_request(wrong).await.is_err(), "{wrong:?}");
        }
        let cut_off = &version_2(1, 0x11, &[0; 12])[..20];
        let mut rest = cut_off;
        assert!(read(&mut rest, IpAddr::from([192, 0, 2, 1])).await.is_err());
    }
}
