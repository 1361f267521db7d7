//! A WebSocket client that shows every byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// A WebSocket that listens.
pub(crate) struct Viewer(BufReader<TcpStream>);

impl Viewer {
    pub(crate) fn open(dashboard: &str, path: &str) -> Self {
        Self::try_open(dashboard, path, "").unwrap_or_else(|status| panic!("{path}: {status}"))
    }

    /// With further header lines; the status line if the upgrade is refused.
    pub(crate) fn try_open(dashboard: &str, path: &str, headers: &str) -> Result<Self, String> {
        let host = dashboard.strip_prefix("http://").expect("an HTTP URL");
        let mut stream = TcpStream::connect(host).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
        let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).expect("write");
        let mut viewer = Self(BufReader::new(stream));
        let mut status = String::new();
        viewer.0.read_line(&mut status).expect("an answer");
        if !status.starts_with("HTTP/1.1 101") {
            return Err(status);
        }
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            viewer.0.read_line(&mut line).expect("a header");
        }
        Ok(viewer)
    }

    /// Sends bytes as they are, as far as the other side takes them.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.get_mut().write_all(bytes);
    }

    /// Reads on; whether the other side ends the connection within the time-out.
    pub(crate) fn is_ended(&mut self) -> bool {
        let ended = std::io::copy(&mut self.0, &mut std::io::sink());
        // Bytes that it did not read make it a reset.
        ended.map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |_| true)
    }

    /// The next message, which is all text.
    pub(crate) fn message(&mut self) -> serde_json::Value {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a message");
        assert_eq!(head[0], 0x81, "text, and whole");
        let len = match head[1] {
            126 => {
                let mut len = [0; 2];
                self.0.read_exact(&mut len).expect("a length");
                usize::from(u16::from_be_bytes(len))
            }
            len => usize::from(len),
        };
        let mut text = vec![0; len];
        self.0.read_exact(&mut text).expect("a message");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// Puts updates together until there are so many views; each must follow the one before.
    pub(crate) fn until_views(&mut self, views: u64) -> serde_json::Value {
        let mut seen = self.message();
        assert_eq!(seen["type"], "snapshot");
        while seen["views"] != views {
            let update = self.message();
            assert_eq!(
                (&update["type"], update["seq"].as_u64()),
                (&"update".into(), seen["seq"].as_u64().map(|seq| seq + 1))
            );
            let fields = update.as_object().expect("an object").clone();
            assert!(fields.get("views").is_none_or(|views| seen["views"].as_u64() <= views.as_u64()), "it went back");
            seen.as_object_mut().expect("an object").extend(fields);
        }
        seen
    }
}
