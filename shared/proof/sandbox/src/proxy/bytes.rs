//! What is found in the bytes of a connection, in either protocol.

use super::Message;

/// Why bytes cannot be told apart into messages.
pub(crate) type Unreadable = String;

/// How far a reply reaches into some bytes, and whether it ends there.
pub(crate) type Reach = (usize, bool);

/// Longest request, and longest reply that a rule keeps, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// How much is read at once, in bytes.
pub(crate) const CHUNK: usize = 64 << 10;

/// A complete request at the beginning of some bytes.
#[derive(Debug)]
pub(crate) struct Request<Reply> {
    /// Its length in bytes.
    pub(crate) len: usize,
    /// Nothing for bytes that are no command, such as a login.
    pub(crate) message: Option<Message>,
    /// Nothing for commands that get no reply.
    pub(crate) reply: Option<Reply>,
}

impl<Reply> Request<Reply> {
    /// The same with another kind of reply.
    pub(super) fn map<Other>(self, other: impl FnOnce(Reply) -> Other) -> Request<Other> {
        let Self { len, message, reply } = self;
        Request { len, message, reply: reply.map(other) }
    }
}
