//! A rule at work: what it has fired for, what it holds, and how a test waits for that.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Message;
use super::lock::lock;
use super::rules::{Action, Record, Rule, Verdict};
use super::shared::{Shared, count};

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
    pub(super) fn hold(&self, is_closed: impl Fn() -> bool) -> Option<Verdict> {
        self.shared.change(|_| lock(&self.record).held.insert(self.number, None));
        let verdict = self.shared.wait(None, |_| {
            let verdict = lock(&self.record).held.get(&self.number).copied().flatten();
            (verdict.is_some() || is_closed()).then_some(verdict)
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
