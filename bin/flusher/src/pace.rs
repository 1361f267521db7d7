//! When what is held is written to MySQL: soon under light load, and under heavy load in few large transactions.

use footfall_shared::service::config;
use tokio::time::{Duration, Instant};

use crate::held::Held;

/// After a transaction MySQL rests for this many times as long as it took, so that flushing takes a small part of its time,
/// unless there is more to do: load makes transactions larger, not more.
const REST: u32 = 9;

/// The pace of one shard.
#[derive(Debug)]
pub(crate) struct Pace {
    config: config::Flusher,
    /// MySQL has a rest until then.
    rest_until: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(config: config::Flusher) -> Self {
        Self { config, rest_until: None }
    }

    /// A transaction was committed after so long.
    pub(crate) fn committed(&mut self, took: Duration, now: Instant) {
        self.rest_until = Some(now + (took * REST).min(self.config.timeout));
    }

    /// The triggers: enough updates, enough articles, or waited long enough; and a transaction's worth of views.
    pub(crate) fn is_due(&self, held: &Held, now: Instant) -> bool {
        let Some(since) = held.since() else { return false };
        let rests = self.rest_until.is_some_and(|until| now < until);
        let triggers = || held.views() >= self.config.updates.get() || held.has_articles(self.config.articles.get());
        held.views() >= self.config.transaction_views_max.get()
            || now.saturating_duration_since(since) >= self.config.timeout
            || !rests && triggers()
    }
}

#[cfg(test)]
mod tests {
    use footfall_shared::service::config::Config;

    use super::*;
    use crate::held::tests::{entry, page};

    const MS: Duration = Duration::from_millis(1);

    fn pace(updates: u64, views_max: u64) -> Pace {
        let mut config = Config::default().flusher;
        config.updates = updates.try_into().expect("not 0");
        config.articles = u64::MAX.try_into().expect("not 0");
        config.transaction_views_max = views_max.try_into().expect("not 0");
        config.timeout = 100 * MS;
        Pace::new(config)
    }

    /// As many batches of one view each.
    fn held(batches: u64, since: Instant) -> Held {
        let mut held = Held::new(1);
        held.take(&page(1, (1..=batches).map(entry).collect()), since).expect("adds up");
        held
    }

    #[test]
    fn a_trigger_or_time_makes_it_due() {
        let now = Instant::now();
        let pace = pace(3, 10);
        assert!(!pace.is_due(&Held::new(1), now + 1_000 * MS), "nothing is held");
        assert!(!pace.is_due(&held(2, now), now + 99 * MS));
        assert!(pace.is_due(&held(3, now), now), "enough updates");
        assert!(pace.is_due(&held(1, now), now + 100 * MS), "it has waited long enough");
    }

    #[test]
    fn mysql_rests_unless_a_transaction_is_full_or_views_have_waited() {
        let now = Instant::now();
        let mut pace = pace(3, 10);
        pace.committed(5 * MS, now);
        assert!(!pace.is_due(&held(3, now), now + 44 * MS), "nine times as long as the transaction took");
        assert!(pace.is_due(&held(3, now), now + 45 * MS));
        assert!(pace.is_due(&held(10, now), now), "a transaction's worth");
        pace.committed(1_000 * MS, now);
        assert!(pace.is_due(&held(1, now), now + 100 * MS), "no rest is longer than a view may wait");
    }
}
