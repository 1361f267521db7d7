//! What a shard says of itself: whether it can count, and with less than it should have.

use footfall_shared::protocol::Shard;
use footfall_shared::protocol::errors::Severity;
use footfall_shared::service::telemetry::{Readiness, Reason as Why};
use tracing::{error, info, warn};

use super::mode::{Health, JournalHealth, Mode, Reason};

/// Keeps readiness and degradation of one shard true, and logs each change once.
pub(crate) struct Status {
    readiness: Readiness,
    shard: Shard,
    part: String,
    /// What was said last; nothing at first.
    shown: Option<Option<Degradation>>,
}

pub(super) type Degradation = (Severity, &'static str);

/// Whether a shard in this mode can count, and what is wrong with it. None: what was said before holds on.
pub(super) fn said(mode: Mode, health: &Health) -> Option<(bool, Option<Degradation>)> {
    Some(match mode {
        Mode::Full => (false, Some((Severity::Critical, "there is no room for more views"))),
        _ if health.journal == JournalHealth::Fails => {
            (health.redis.is_none(), Some((Severity::Critical, "the journal cannot be written")))
        }
        Mode::Opening | Mode::Redis | Mode::CatchingUp if !health.is_open => return None,
        Mode::Opening | Mode::Redis | Mode::CatchingUp => (true, None),
        Mode::JournalOnly(Reason::MysqlClosed) | Mode::Unavailable(Reason::MysqlClosed) => (
            health.journal != JournalHealth::Off,
            Some((Severity::Critical, "this shard stands still, views wait in the journal")),
        ),
        Mode::Direct(Reason::RedisFull) => {
            (true, Some((Severity::Degraded, "redis is full, views go to MySQL directly, those with an id wait")))
        }
        Mode::Direct(_) => (true, Some((Severity::Degraded, "redis is away, views go to MySQL directly"))),
        Mode::JournalOnly(Reason::RedisFull) => {
            (true, Some((Severity::Critical, "redis is full and MySQL is away, views wait in the journal")))
        }
        Mode::JournalOnly(Reason::RedisAway) => {
            (true, Some((Severity::Critical, "redis and MySQL are away, views wait in the journal")))
        }
        Mode::Unavailable(_) => (false, Some((Severity::Critical, "redis and MySQL are away"))),
    })
}

impl Status {
    /// Not ready, until the data set in Redis was opened.
    pub(crate) fn new(readiness: Readiness, shard: Shard) -> Self {
        let part = format!("shard {shard}");
        readiness.set_part(&part, Some("not opened yet".into()));
        Self { readiness, shard, part, shown: None }
    }

    /// `detail` says why the last request to a store failed.
    pub(crate) fn show(&mut self, mode: Mode, health: &Health, epoch: Option<u64>, detail: &str) {
        let Some((is_ready, state)) = said(mode, health) else { return };
        let is_known = self.shown.as_ref() == Some(&state);
        let Some((level, what)) = state else {
            if !is_known {
                self.readiness.set_part(&self.part, None);
                self.readiness.set_degraded(&self.part, None);
                info!(shard = %self.shard, epoch, "counting");
                self.shown = Some(state);
            }
            return;
        };
        // The detail may be another one each time.
        let why = Why::new(what, detail);
        self.readiness.set_part(&self.part, (!is_ready).then(|| why.clone()));
        self.readiness.set_degraded(&self.part, Some((level, why)));
        if is_known {
            return;
        }
        match level {
            Severity::Critical => error!(shard = %self.shard, "{what}: {detail}"),
            _ => warn!(shard = %self.shard, "{what}: {detail}"),
        }
        self.shown = Some(state);
    }
}
