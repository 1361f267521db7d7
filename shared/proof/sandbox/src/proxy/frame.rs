//! Where messages begin and end, in either protocol.
//!
//! Requests are found whole, because rules decide about them before a byte is forwarded. Replies are followed as they
//! stream by: only their end has to be known.

use super::bytes::{self, Reach, Unreadable};
use super::{mysql, redis};

/// A complete request, whatever the protocol.
pub(crate) type Request = bytes::Request<Reply>;

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
            Self::Redis => Ok(redis::next_request(bytes)?.map(|request| request.map(Reply::Redis))),
            Self::MySql(requests) => Ok(requests.next(bytes)?.map(|request| request.map(Reply::MySql))),
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
