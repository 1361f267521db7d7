//! `[dashboard]`: the live statistics.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::setting::{nonzero, section};
use super::{Token, WebUrl, ms};

section!(
    /// footfall-dashboard: live statistics.
    Dashboard {
        /// Where the page and the WebSocket are. An address that others can reach needs `dashboard.token`.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8001));
        /// Where `/metrics`, `/livez` and `/readyz` are.
        admin: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8012));
        /// How browsers reach it.
        url: WebUrl = WebUrl::of(8001);
        /// Opens everything; at least 16 characters that nobody guesses, as of `openssl rand -hex 16`; needed unless `listen`
        /// is a loopback address.
        token: Token = Token::default();
        /// Opens everything but who reads what: for a screen on the wall.
        read_token: Token = Token::default();
        /// How long a browser stays logged in.
        session: Duration = ms(12 * 60 * 60 * 1_000);
        /// Requests of one address; five seconds' worth may come at once, then 429.
        requests_per_second: NonZeroU32 = nonzero!(500), in 1..=1_000_000;
        /// Updates that a viewer gets, at most.
        updates_per_second: NonZeroU32 = nonzero!(4), in 1..=50;
        /// WebSockets and other connections; further ones are closed at once.
        connections_max: NonZeroUsize = nonzero!(10_000), in 1..=10_000_000;
        /// For a request's head; idle connections too.
        header_timeout: Duration = ms(10_000);
        /// After SIGTERM: how long open connections are served before they are closed.
        drain: Option<Duration> = Some(ms(2_000));
    }
);
