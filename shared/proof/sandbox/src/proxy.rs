//! A TCP proxy in front of one server that loses, cuts, holds and delays messages on purpose.
//!
//! It understands where requests and replies begin and end, so that a fault can be placed exactly: before a command is
//! executed, or after it is and before anybody knows. Bytes that it does not understand are passed on as they are, with
//! a line on stderr and in [`ProxyMetrics::unreadable`].
//!
//! Each connection has two threads, one for each direction, which read along and pass on; they end with it.

mod bytes;
mod connection;
mod firing;
mod frame;
mod listener;
mod lock;
mod message;
mod mysql;
mod redis;
mod replies;
mod requests;
mod rules;
mod serve;
mod shared;
mod socket;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use firing::Injection;
pub use message::{Message, MySqlCommand};
pub use rules::{Action, Cut};
pub use socket::Upstream;

use listener::Listener;
use shared::Shared;

/// How long the end of a proxy waits for its threads.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// What the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RESP 2. Commands that bring about other replies than one for each are not understood: subscriptions, MONITOR,
    /// CLIENT REPLY, RESP 3.
    Redis,
    /// The protocol of MySQL and MariaDB, without TLS and compression: the proxy hides that the server offers them.
    MySql,
}

/// One way, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What clients send.
    ToServer,
    /// What the server sends.
    ToClient,
    /// Both.
    Both,
}

/// What has happened since the proxy's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyMetrics {
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub open_connections: u64,
    /// Requests read, also those that were dropped.
    pub requests: u64,
    /// Replies read to their end, also those that were dropped; the last part of a login is one.
    pub replies: u64,
    /// Rules fired.
    pub fired: u64,
    /// Connections with bytes that were not understood.
    pub unreadable: u64,
}

/// A proxy on a TCP port of 127.0.0.1. Dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    listener: Listener,
}

impl Proxy {
    /// Listens on a port of its own. The server is connected to for each client, so it need not run yet.
    pub fn start(upstream: Upstream, protocol: Protocol) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(upstream, protocol));
        let listener = Listener::start(shared.clone())?;
        Ok(Self { shared, listener })
    }

    /// Where it listens, the same for its whole life.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Where Redis's clients connect: `redis://127.0.0.1:PORT`.
    pub fn redis_url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Where MySQL's clients connect: `mysql://root@127.0.0.1:PORT/DATABASE`.
    pub fn mysql_url(&self, database: &str) -> String {
        format!("mysql://root@{}/{database}", self.address())
    }

    /// Closes all connections and lets connects be refused. The port stays ours.
    pub fn cut(&self) {
        self.listener.stop();
        self.close_connections();
    }

    /// Closes all connections. New ones are served.
    pub fn close_connections(&self) {
        // Collected first, because closing takes the lock.
        let connections: Vec<_> = self.shared.state().connections.values().cloned().collect();
        for connection in connections {
            connection.close();
        }
    }

    /// From now on, nothing is passed on in that direction, not even that the other side has closed. Connections stay,
    /// and new ones are accepted. An earlier stall in the other direction goes on.
    ///
    /// What is sent meanwhile arrives late, as on a network that repeats what was lost.
    pub fn stall(&self, direction: Direction) {
        self.shared.change(|state| {
            state.stalled_to_server |= direction != Direction::ToClient;
            state.stalled_to_client |= direction != Direction::ToServer;
        });
    }

    /// From now on, each request and each reply takes so much longer, a round trip twice as much. What arrives
    /// together is delayed together, so pipelining pays off as on a long line.
    pub fn delay(&self, delay: Duration) {
        self.shared.change(|state| state.delay = delay);
    }

    /// Ends [`cut`](Self::cut), [`stall`](Self::stall) and [`delay`](Self::delay). Rules stay in force.
    pub fn heal(&self) -> io::Result<()> {
        self.shared.change(|state| {
            state.stalled_to_server = false;
            state.stalled_to_client = false;
            state.delay = Duration::ZERO;
        });
        self.listener.resume()
    }

    /// Has `action` done to the next so many messages that `matcher` wants. Of several rules, the oldest that wants a
    /// message gets it.
    ///
    /// The matcher must not call the proxy.
    pub fn inject(&self, matcher: impl Fn(&Message) -> bool + Send + 'static, action: Action, times: u64) -> Injection {
        Injection::new(&self.shared, matcher, action, times)
    }

    /// What has happened so far.
    pub fn metrics(&self) -> ProxyMetrics {
        let counters = &self.shared.counters;
        ProxyMetrics {
            connections: counters.connections.load(Ordering::Relaxed),
            open_connections: self.shared.state().connections.len() as u64,
            requests: counters.requests.load(Ordering::Relaxed),
            replies: counters.replies.load(Ordering::Relaxed),
            fired: counters.fired.load(Ordering::Relaxed),
            unreadable: counters.unreadable.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        // Only a thread that is connecting to a server that stands still can be late.
        self.shared.wait(Some(END_TIMEOUT), |state| state.connections.is_empty().then_some(()));
    }
}
