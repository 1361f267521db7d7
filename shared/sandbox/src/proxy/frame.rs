//! Where messages begin and end, in either protocol.
//!
//! Requests are found whole, because rules decide about them before a byte is forwarded. Replies are followed as they
//! stream by: only their end has to be known.

use super::{Message, mysql, redis};

/// Why bytes cannot be told apart into messages.
pub(crate) type Unreadable = String;

/// How far a reply reaches into some bytes, and whether it ends there.
pub(crate) type Reach = (usize, bool);

/// Longest request, and longest reply that a rule keeps, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A complete request at the beginning of some bytes.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its length in bytes.
    pub(crate) len: usize,
    /// Nothing for bytes that are no command, such as a login.
    pub(crate) message: Option<Message>,
    /// Nothing for commands that get no reply.
    pub(crate) reply: Option<Reply>,
}

/// Finds the requests in what a client sends.
#[derive(Debug)]
pub(crate) enum Requests {
    Redis,
    MySql(mysql::Requests),
}

impl Requests {
    /// The request at the beginning of `bytes`, or nothing while it is incomplete.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Option<Request>, Unreadable> {
        match self {
            Self::Redis => redis::next_request(bytes),
            Self::MySql(requests) => requests.next(bytes),
        }
    }
}

/// Finds the end of one reply in what a server sends.
#[derive(Debug)]
pub(crate) enum Reply {
    Redis(redis::Reply),
    MySql(mysql::Reply),
}

impl Reply {
    /// Follows the reply through the next bytes.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<Reach, Unreadable> {
        match self {
            Self::Redis(reply) => reply.scan(bytes),
            Self::MySql(reply) => reply.scan(bytes),
        }
    }
}
