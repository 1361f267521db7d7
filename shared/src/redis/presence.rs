//! Who is there: every process says so of itself, once a second, in Redis, and takes it back when it ends. Only for
//! people who watch: nothing is decided by it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::calls::Redis;
use super::errors::Result;
use crate::protocol::keys;
use crate::service::clock;
use crate::service::telemetry::{Health, Readiness};

/// How often a process says that it is there.
pub const PERIOD: Duration = Duration::from_secs(1);
/// A process that ends does not wait longer for a Redis that is away.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);

/// What a process says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Grows with every report: so others see that it lives, whatever the clocks say.
    pub beat: u64,
    /// `ingest`, `flusher` or `dashboard`.
    pub role: String,
    /// Its host and port.
    pub name: String,
    /// Of this program.
    pub version: String,
    /// When it was started (RFC 3339).
    pub since: String,
    /// How it does.
    pub health: Health,
}

/// Says until `stop` that the process is there that listens on `port`.
pub async fn report(
    redis: Redis,
    role: &'static str,
    port: u16,
    readiness: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut report = Report {
        beat: 0,
        role: role.into(),
        name: format!("{}:{}", rustix::system::uname().nodename().to_string_lossy(), port),
        version: env!("CARGO_PKG_VERSION").into(),
        since: clock::rfc3339(clock::unix_ms()),
        health: readiness.health(),
    };
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        report.beat += 1;
        report.health = readiness.health();
        // If one is missed, the next makes up for it.
        let _ = stop.run_until_cancelled(redis.report_presence(&report)).await;
    }
    let _ = timeout(FAREWELL_TIMEOUT, redis.forget_presence(&report)).await;
    Ok(())
}

impl Redis {
    /// Tells whoever watches that a process is there.
    pub async fn report_presence(&self, report: &Report) -> Result<()> {
        let json = serde_json::to_string(report).expect("strings and numbers always have a JSON form");
        self.home(keys::PRESENCE).note([(keys::PRESENCE, &presence_field(report), &json)]).await
    }

    /// Takes the report of a process back that has ended, or was not heard for long.
    pub async fn forget_presence(&self, report: &Report) -> Result<()> {
        let mut pipeline = redis::pipe();
        pipeline.hdel(keys::PRESENCE, presence_field(report)).ignore();
        Ok(self.home(keys::PRESENCE).commands(pipeline).await?)
    }

    /// The last report of each process, in the order of role and name. What another version may have written, and this
    /// one cannot read, is left out.
    pub async fn presence(&self) -> Result<Vec<Report>> {
        let mut pipeline = redis::pipe();
        pipeline.hgetall(keys::PRESENCE);
        let (reports,): (BTreeMap<String, String>,) = self.home(keys::PRESENCE).commands(pipeline).await?;
        Ok(reports.values().filter_map(|report| serde_json::from_str(report).ok()).collect())
    }
}

fn presence_field(report: &Report) -> String {
    format!("{} {}", report.role, report.name)
}
