//! One keep-alive HTTP/1.1 connection: writes a request, reads its answer.
//!
//! By hand, because two things matter here that a general client does not offer together: very little CPU, since the
//! system under test runs on the same cores, and certainty about whether any byte of a request was sent.

use std::io;
use std::ops::Range;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a connection may take to be made, and then an answer to come.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
/// An answer with more headers than this is not from an ingest.
const HEADERS_MAX: usize = 32;

/// An open connection.
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// What became of a request.
pub(crate) enum Exchange<'a> {
    /// An answer came.
    Answered {
        status: u16,
        body: &'a [u8],
        /// Whether the connection can take another request.
        reusable: bool,
    },
    /// No byte of the request left this machine.
    NotSent,
    /// Some of it was sent, but no answer came in time, or none that can be understood.
    Broken,
}

impl Connection {
    /// Connects to `host:port`.
    pub(crate) async fn open(address: &str) -> io::Result<Self> {
        let stream = tokio::time::timeout(TIMEOUT, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(1024) })
    }

    /// Sends a request and waits for its answer. After anything but a reusable answer the connection is of no use.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Exchange<'_> {
        // A server that is going away closes idle connections; what is sent into one is lost without need.
        if !self.is_idle() {
            return Exchange::NotSent;
        }
        let sent = match self.stream.write(request).await {
            Ok(sent) if sent > 0 => sent,
            Ok(_) | Err(_) => return Exchange::NotSent,
        };
        match tokio::time::timeout(TIMEOUT, self.finish(&request[sent..])).await {
            Ok(Ok(Answer { status, body, reusable })) => {
                Exchange::Answered { status, body: &self.received[body], reusable }
            }
            Ok(Err(_)) | Err(_) => Exchange::Broken,
        }
    }

    /// Nothing was received between the last answer and now, neither bytes nor the end of the connection.
    fn is_idle(&self) -> bool {
        matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    async fn finish(&mut self, rest: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(rest).await?;
        self.received.clear();
        loop {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(answer) = parse(&self.received)? {
                return Ok(answer);
            }
        }
    }
}

/// An answer as a part of what was received.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    body: Range<usize>,
    reusable: bool,
}

/// Finds a whole answer in `received`; none if more has to come.
fn parse(received: &[u8]) -> io::Result<Option<Answer>> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = head.parse(received).map_err(|error| invalid(&error.to_string()))?
    else {
        return Ok(None);
    };
    let status = head.code.ok_or_else(|| invalid("no status"))?;
    let header = |name: &str| head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let stays_open =
        head.version == Some(1) && !header("connection").is_some_and(|it| it.value.eq_ignore_ascii_case(b"close"));
    let length = match header("content-length") {
        Some(length) => std::str::from_utf8(length.value).ok().and_then(|text| text.parse().ok()),
        None if matches!(status, 204 | 304) => Some(0),
        None => None,
    };
    match length {
        Some(length) => {
            let body =
                head_bytes..head_bytes.checked_add(length).ok_or_else(|| invalid("content-length is too large"))?;
            Ok((body.end <= received.len()).then_some(Answer { status, body, reusable: stays_open }))
        }
        // Chunked, or until the connection closes: no ingest answers so, but a proxy's error page may come like this.
        // Its status is all that is needed.
        None => Ok(Some(Answer { status, body: head_bytes..head_bytes, reusable: false })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_once_it_is_whole() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        for cut in 0..text.len() {
            assert_eq!(parse(&text[..cut]).expect("valid"), None, "{cut}");
        }
        let answer = parse(text).expect("valid").expect("whole");
        assert_eq!((answer.status, &text[answer.body], answer.reusable), (200, b"hello".as_slice(), true));
    }

    #[test]
    fn a_connection_is_used_again_only_after_an_answer_with_a_known_end() {
        for (text, status, reusable) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, true),
            ("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", 204, false),
            ("HTTP/1.0 204 No Content\r\n\r\n", 204, false),
            ("HTTP/1.1 502 Bad Gateway\r\ntransfer-encoding: chunked\r\n\r\n", 502, false),
        ] {
            let answer = parse(text.as_bytes()).expect("valid").expect("whole");
            assert_eq!((answer.status, answer.reusable), (status, reusable), "{text}");
        }
        assert!(parse(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").is_err());
    }
}
