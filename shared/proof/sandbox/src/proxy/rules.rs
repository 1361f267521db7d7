//! Rules: which message is hurt, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Message;

/// What happens to a message that a rule matches.
///
/// Where both sides are closed, the replies to the connection's earlier requests are delivered before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// The request never reaches the server, and both sides are closed.
    DropRequest,
    /// The request is executed, its complete reply awaited, and both sides are closed without it.
    DropReply,
    /// The server gets the first part of the request, then both sides are closed.
    CutRequest(Cut),
    /// The request is executed, the client gets the first part of its reply, then both sides are closed. A request
    /// without a reply counts as answered, here and for [`DropReply`](Self::DropReply).
    CutReply(Cut),
    /// The request is kept until [`release`](super::Injection::release), and later ones of its connection wait behind it. It
    /// is forwarded also when the client has gone; its reply is awaited then before the server learns of that.
    HoldRequest,
    /// The request is executed and its complete reply kept until [`release`](super::Injection::release); later ones wait.
    HoldReply,
    /// The request is kept for so long, and later ones of its connection wait behind it.
    Delay(Duration),
}

/// How much of a message gets through: always at least a byte less than all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    /// So many bytes.
    Bytes(usize),
    /// Such a part, from 0 to 1.
    Fraction(f64),
}

impl Cut {
    pub(super) fn of(self, message: &[u8]) -> &[u8] {
        let len = match self {
            Self::Bytes(len) => len,
            Self::Fraction(part) => (message.len() as f64 * part) as usize,
        };
        &message[..len.min(message.len().saturating_sub(1))]
    }
}

/// The rules in force, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Rules(pub(super) Vec<Rule>);

pub(crate) struct Rule {
    pub(super) matcher: Box<dyn Fn(&Message) -> bool + Send>,
    pub(super) action: Action,
    pub(super) times_left: u64,
    pub(super) record: Arc<Mutex<Record>>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { matcher: _, action, times_left, record } = self;
        write!(formatter, "Rule({action:?}, {times_left} times left, {record:?})")
    }
}

/// What has become of a rule. It changes with the proxy's state locked, so that one can wait for it.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(super) fired: u64,
    pub(super) done: u64,
    /// What is held, by number of the firing, and what was decided about it.
    pub(super) held: BTreeMap<u64, Option<Verdict>>,
}

impl Record {
    pub(super) fn undecided(&self) -> usize {
        self.held.values().filter(|verdict| verdict.is_none()).count()
    }
}

/// What becomes of a held message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Release,
    Drop,
}
