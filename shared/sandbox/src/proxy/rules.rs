//! Rules: which message is hurt, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Message;
use super::connection::Connection;
use super::shared::{Shared, count, lock};

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
    /// The request is kept until [`release`](Injection::release), and later ones of its connection wait behind it. It
    /// is forwarded also when the client has gone; its reply is awaited then before the server learns of that.
    HoldRequest,
    /// The request is executed and its complete reply kept until [`release`](Injection::release); later ones wait.
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
pub(crate) struct Rules(Vec<Rule>);

struct Rule {
    matcher: Box<dyn Fn(&Message) -> bool + Send>,
    action: Action,
    times_left: u64,
    record: Arc<Mutex<Record>>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { matcher: _, action, times_left, record } = self;
        write!(formatter, "Rule({action:?}, {times_left} times left, {record:?})")
    }
}

/// What has become of a rule. It changes with the proxy's state locked, so that one can wait for it.
#[derive(Debug, Default)]
struct Record {
    fired: u64,
    done: u64,
    /// What is held, by number of the firing, and what was decided about it.
    held: BTreeMap<u64, Option<Verdict>>,
}

impl Record {
    fn undecided(&self) -> usize {
        self.held.values().filter(|verdict| verdict.is_none()).count()
    }
}

/// What becomes of a held message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Release,
    Drop,
}

/// A rule that has fired for a message. Dropped when the action has run its course.
#[derive(Debug)]
pub(crate) struct Firing {
    pub(super) action: Action,
    number: u64,
    record: Arc<Mutex<Record>>,
    shared: Arc<Shared>,
}

impl Firing {
    /// The first rule that matches fires.
    pub(super) fn find(shared: &Arc<Shared>, message: &Message) -> Option<Self> {
        let mut state = shared.state();
        let rules = &mut state.rules.0;
        let index = rules.iter().position(|rule| (rule.matcher)(message))?;
        let rule = &mut rules[index];
        let (action, record) = (rule.action, rule.record.clone());
        rule.times_left -= 1;
        if rule.times_left == 0 {
            rules.remove(index);
        }
        drop(state);
        count(&shared.counters.fired);
        let number = shared.change(|_| {
            let mut record = lock(&record);
            record.fired += 1;
            record.fired
        });
        Some(Self { action, number, record, shared: shared.clone() })
    }

    /// Holds the message until there is a verdict; nothing when the connection closes before.
    pub(super) fn hold(&self, connection: &Connection) -> Option<Verdict> {
        self.shared.change(|_| lock(&self.record).held.insert(self.number, None));
        let verdict = self.shared.wait(None, |_| {
            let verdict = lock(&self.record).held.get(&self.number).copied().flatten();
            (verdict.is_some() || connection.is_closed()).then_some(verdict)
        });
        self.shared.change(|_| lock(&self.record).held.remove(&self.number));
        verdict.flatten()
    }
}

impl Drop for Firing {
    fn drop(&mut self) {
        self.shared.change(|_| lock(&self.record).done += 1);
    }
}

/// A rule, as [`inject`](super::Proxy::inject) returns it. Dropping this leaves the rule in force.
#[derive(Debug)]
pub struct Injection {
    record: Arc<Mutex<Record>>,
    shared: Arc<Shared>,
}

impl Injection {
    pub(super) fn new(
        shared: &Arc<Shared>,
        matcher: impl Fn(&Message) -> bool + Send + 'static,
        action: Action,
        times: u64,
    ) -> Self {
        let record = Arc::<Mutex<Record>>::default();
        if times > 0 {
            let rule = Rule { matcher: Box::new(matcher), action, times_left: times, record: record.clone() };
            shared.state().rules.0.push(rule);
        }
        Self { record, shared: shared.clone() }
    }

    /// How often it has fired.
    pub fn fired(&self) -> u64 {
        lock(&self.record).fired
    }

    /// How many messages it holds now.
    pub fn held(&self) -> usize {
        lock(&self.record).undecided()
    }

    /// Waits until it has fired at least once, and says whether it has.
    pub fn wait_fired(&self, timeout: Duration) -> bool {
        self.wait(timeout, |record| record.fired > 0)
    }

    /// Waits until it has fired at least once and every firing has run its course, and says whether that is so: what
    /// was to be closed is closed, what was held has been answered or is lost.
    pub fn wait_done(&self, timeout: Duration) -> bool {
        self.wait(timeout, |record| record.fired > 0 && record.done == record.fired)
    }

    /// Waits until it holds a message, and says whether it does. A held reply is complete: its request is executed.
    pub fn wait_held(&self, timeout: Duration) -> bool {
        self.wait(timeout, |record| record.undecided() > 0)
    }

    /// Lets go what it holds now. What it matches later is held anew.
    pub fn release(&self) {
        self.decide(Verdict::Release);
    }

    /// Drops what it holds now, as [`DropRequest`](Action::DropRequest) or [`DropReply`](Action::DropReply) would.
    pub fn drop_held(&self) {
        self.decide(Verdict::Drop);
    }

    /// Takes the rule out of force. What it holds stays held.
    pub fn remove(&self) {
        self.shared.state().rules.0.retain(|rule| !Arc::ptr_eq(&rule.record, &self.record));
    }

    fn decide(&self, verdict: Verdict) {
        self.shared.change(|_| {
            for held in lock(&self.record).held.values_mut() {
                held.get_or_insert(verdict);
            }
        });
    }

    fn wait(&self, timeout: Duration, done: impl Fn(&Record) -> bool) -> bool {
        self.shared.wait(Some(timeout), |_| done(&lock(&self.record)).then_some(())).is_some()
    }
}
