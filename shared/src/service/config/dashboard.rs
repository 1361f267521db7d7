//! `[dashboard]`: the live statistics.

use std::net::SocketAddr;
use std::time::Duration;

use super::setting::{FROM_ZERO_MS, section};
use super::{Token, WebUrl, ms};

section!(
    /// `[dashboard]`
    Dashboard {
        /// Where the page and the WebSocket are.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8001));
        /// Where `/metrics` is.
        admin: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8012));
        /// How browsers reach it; ingest redirects `/realtime` to it.
        url: WebUrl = WebUrl::of(8001);
        /// Opens everything. Without one `listen` must be a loopback address.
        token: Token = Token::default();
        /// Opens everything but who reads what: for a screen on the wall.
        read_token: Token = Token::default();
        /// How long a browser stays logged in.
        session_ms: Duration = ms(12 * 60 * 60 * 1_000);
        /// Requests per second of one address; five seconds' worth may come at once.
        requests_per_second: u32 = 500, in 1..=1_000_000;
        /// Updates per second that a viewer gets, at most: no eye sees more than 50.
        updates_per_second: u32 = 4, in 1..=50;
        /// WebSocket clients and other connections at once.
        connections_max: usize = 10_000, in 1..=10_000_000;
        /// A request's head must arrive within this time.
        header_timeout_ms: Duration = ms(10_000);
        /// After SIGTERM: how long open connections are served before they are closed.
        drain_ms: Duration = ms(2_000), in FROM_ZERO_MS;
    }
);
