//! One client's connection, and what its two threads share.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::Direction;
use super::firing::Firing;
use super::frame::Reply;
use super::lock::lock;
use super::shared::{Close, Shared, count};
use super::socket::ServerStream;

/// How many requests of a connection may be on their way; more are not read until replies have come.
const PENDING_MAX: usize = 65_536;

/// A request that the server has been sent, or will be at once.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(super) reply: Reply,
    /// The rule that has fired for it.
    pub(super) firing: Option<Firing>,
}

/// A client's connection and the one to the server that belongs to it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) shared: Arc<Shared>,
    peer: SocketAddr,
    pub(super) client: TcpStream,
    server: OnceLock<ServerStream>,
    /// Set once, by [`close`](Close::close).
    closed: AtomicBool,
    /// Set once, when bytes were not understood: what follows is passed on as it is.
    unreadable: AtomicBool,
    queue: Mutex<Queue>,
    /// Told about everything that changes above.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Requests whose replies have not begun, in order.
    pending: VecDeque<Pending>,
    /// Requests whose replies have not been passed on completely.
    unanswered: usize,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, client: TcpStream, peer: SocketAddr) -> Self {
        Self {
            shared,
            peer,
            client,
            server: OnceLock::new(),
            closed: AtomicBool::new(false),
            unreadable: AtomicBool::new(false),
            queue: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(super) fn connect(&self) -> io::Result<&ServerStream> {
        let server = self.shared.upstream.connect()?;
        // The lock keeps `close` from coming between: either it sees the server, or we see that it is closed.
        let _queue = lock(&self.queue);
        self.check_open()?;
        Ok(self.server.get_or_init(|| server))
    }

    /// Lets the server know that the client sends no more.
    pub(super) fn close_requests(&self) -> io::Result<()> {
        self.server.get().map_or(Ok(()), |server| server.shutdown(Shutdown::Write))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn check_open(&self) -> io::Result<()> {
        if self.is_closed() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    pub(super) fn is_unreadable(&self) -> bool {
        self.unreadable.load(Ordering::Acquire)
    }

    /// Says that bytes are not understood; from now on they are passed on as they are, and no rule sees them.
    pub(super) fn give_up_reading(&self, why: &str) {
        let first = {
            let _queue = lock(&self.queue);
            !self.unreadable.swap(true, Ordering::AcqRel)
        };
        if first {
            count(&self.shared.counters.unreadable);
            eprintln!("proxy: no longer reading along for the client at {}: {why}", self.peer);
        }
        self.changed.notify_all();
    }

    /// Passes bytes on that arrived then, unless a standing condition keeps them.
    pub(super) fn to_server(&self, bytes: &[u8], arrived: Instant) -> io::Result<()> {
        self.pass(Direction::ToServer, bytes, arrived)?;
        self.server.get().map_or(Ok(()), |mut server| server.write_all(bytes))
    }

    /// Passes bytes on that arrived then, unless a standing condition keeps them.
    pub(super) fn to_client(&self, bytes: &[u8], arrived: Instant) -> io::Result<()> {
        self.pass(Direction::ToClient, bytes, arrived)?;
        (&self.client).write_all(bytes)
    }

    /// Waits until bytes that arrived then may leave in that direction. Fails when the connection closes before.
    pub(super) fn may_pass(&self, direction: Direction, arrived: Instant) -> io::Result<()> {
        loop {
            let delay = self
                .shared
                .wait(None, |state| {
                    let stalled = match direction {
                        Direction::ToServer => state.stalled_to_server,
                        Direction::ToClient => state.stalled_to_client,
                        Direction::Both => state.stalled_to_server || state.stalled_to_client,
                    };
                    (!stalled || self.is_closed()).then_some(state.delay)
                })
                .unwrap_or_default();
            self.check_open()?;
            let left = delay.saturating_sub(arrived.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            // Until the delay is over, or ends, or the connection does; a stall may have come meanwhile.
            self.shared.wait(Some(left), |state| (state.delay != delay || self.is_closed()).then_some(()));
            self.check_open()?;
        }
    }

    /// Waits so long. Fails when the connection closes before.
    pub(super) fn sleep(&self, duration: Duration) -> io::Result<()> {
        self.shared.wait(Some(duration), |_| self.is_closed().then_some(()));
        self.check_open()
    }

    fn pass(&self, direction: Direction, bytes: &[u8], arrived: Instant) -> io::Result<()> {
        if bytes.is_empty() { Ok(()) } else { self.may_pass(direction, arrived) }
    }

    /// Has a reply expected. There must be [room](Self::has_room).
    pub(super) fn expect(&self, reply: Reply, firing: Option<Firing>) {
        let mut queue = lock(&self.queue);
        queue.pending.push_back(Pending { reply, firing });
        queue.unanswered += 1;
    }

    pub(super) fn has_room(&self) -> bool {
        lock(&self.queue).pending.len() < PENDING_MAX
    }

    pub(super) fn wait_for_room(&self) -> io::Result<()> {
        self.wait(|queue| queue.pending.len() < PENDING_MAX)
    }

    /// The oldest request whose reply has not begun.
    pub(super) fn next_pending(&self) -> Option<Pending> {
        lock(&self.queue).pending.pop_front()
    }

    /// Counts replies that have been passed on completely, or been dropped.
    pub(super) fn answered(&self, replies: usize) {
        lock(&self.queue).unanswered -= replies;
        self.changed.notify_all();
    }

    /// Waits until everything that was requested has been answered.
    pub(super) fn wait_answered(&self) -> io::Result<()> {
        self.wait(|queue| queue.unanswered == 0)
    }

    /// Waits until `done`, or until nothing can be known any more. Fails when the connection closes.
    fn wait(&self, done: impl Fn(&Queue) -> bool) -> io::Result<()> {
        let mut queue: MutexGuard<'_, Queue> = lock(&self.queue);
        while !done(&queue) && !self.is_unreadable() && !self.is_closed() {
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        self.check_open()
    }
}

impl Close for Connection {
    /// Closes both sides and ends everything that waits. What is held is lost.
    fn close(&self) {
        let lost = {
            let mut queue = lock(&self.queue);
            self.closed.store(true, Ordering::Release);
            std::mem::take(&mut queue.pending)
        };
        // Errors say that they are closed already.
        if let Some(server) = self.server.get() {
            let _ = server.shutdown(Shutdown::Both);
        }
        let _ = self.client.shutdown(Shutdown::Both);
        self.changed.notify_all();
        self.shared.change(|_| ());
        // After the lock on the queue is gone, because the end of a rule's firing takes that on the state.
        drop(lost);
    }
}
