//! Watches the shards beside the load: for how long each ingest was degraded for which, and what epochs it cost.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use footfall_proof::{Fault, Loss, Plan, ShardSeen};

use crate::http;
use crate::lab::Lab;
use crate::several;
use crate::stack::Role;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// One that stands still, or is away, says nothing.
const TIMEOUT: Duration = Duration::from_millis(200);
/// One that says nothing for longer was killed, or stands still;
const AWAY: Duration = Duration::from_millis(600);
/// and what has begun, or goes on, may take so long to find its stores.
const BEGINNING: Duration = Duration::from_secs(3);
const METRIC: &str = "footfall_degraded_part_level{part=\"shard ";

type Epochs = BTreeMap<u16, u64>;

/// How long an ingest was degraded for each shard.
type Degraded = BTreeMap<u16, Duration>;

/// Looks at all ingests, each on a thread of its own, until it is told to end.
#[derive(Debug)]
pub(crate) struct Watch {
    before: Epochs,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Degraded>>,
}

impl Watch {
    /// Begins now.
    pub(crate) fn start(lab: &mut Lab) -> anyhow::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let ingests = lab.stack.services().iter().filter(|service| service.role() == Role::Ingest);
        let threads = ingests.map(|ingest| {
            let (admin, ended) = (ingest.admin(), Arc::clone(&ended));
            thread::spawn(move || watch(admin, &ended))
        });
        let threads = threads.collect();
        Ok(Self { before: epochs(lab)?, ended, threads })
    }

    /// Ends it; answers what it saw in a run of this plan.
    pub(crate) fn finish(self, lab: &Lab, plan: &Plan) -> anyhow::Result<Vec<ShardSeen>> {
        self.ended.store(true, Ordering::Release);
        let mut longest = Degraded::new();
        for thread in self.threads {
            // It does not panic.
            for (shard, degraded) in thread.join().unwrap_or_default() {
                let longest = longest.entry(shard).or_default();
                *longest = degraded.max(*longest);
            }
        }
        let hung_max = lab.setup.topology().and_then(several::hung_max).filter(|_| only_hangs(plan));
        let seen = epochs(lab)?.into_iter().map(|(shard, epoch)| {
            let changes = lab.changes.get(&shard).copied();
            let degraded_max = changes.map_or(Some(Duration::ZERO), |_| hung_max);
            ShardSeen {
                shard,
                epochs: epoch.saturating_sub(self.before.get(&shard).copied().unwrap_or(0)),
                changes: changes.unwrap_or(0),
                degraded_ms: millis(longest.get(&shard).copied().unwrap_or_default()),
                degraded_ms_max: degraded_max.map(millis),
            }
        });
        Ok(seen.collect())
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

/// Whether nothing else happens than that a master hangs: then it is promised how soon that is over.
fn only_hangs(plan: &Plan) -> bool {
    plan.steps.iter().all(|step| matches!(step.fault, Fault::MasterLost { how: Loss::Hung, .. }))
}

/// That of each shard, as MySQL has it: there it is begun.
fn epochs(lab: &Lab) -> anyhow::Result<Epochs> {
    let rows = lab.database().query("SELECT shard, epoch FROM footfall_shard_fence")?;
    let epoch = |row: &Vec<String>| Some((row.first()?.parse().ok()?, row.get(1)?.parse().ok()?));
    Ok(rows.iter().filter_map(epoch).collect())
}

fn watch(admin: SocketAddr, ended: &AtomicBool) -> Degraded {
    let mut degraded = Degraded::new();
    let (mut last, mut heard) = (Instant::now(), Instant::now());
    let (mut from, mut is_away) = (heard, false);
    while !ended.load(Ordering::Acquire) {
        let said = http::get(admin, "/metrics", TIMEOUT).map(|answer| answer.body);
        let now = Instant::now();
        match &said {
            Ok(_) => {
                if is_away || now - heard > AWAY {
                    from = now + BEGINNING;
                }
                (heard, is_away) = (now, false);
            }
            Err(error) => is_away |= error.kind() == io::ErrorKind::ConnectionRefused,
        }
        if now >= from {
            for shard in said.unwrap_or_default().lines().filter_map(degraded_shard) {
                *degraded.entry(shard).or_default() += now - last;
            }
        }
        last = now;
        thread::sleep(PAUSE);
    }
    degraded
}

/// The shard that a line of the metrics calls degraded.
fn degraded_shard(line: &str) -> Option<u16> {
    let (shard, level) = line.strip_prefix(METRIC)?.split_once("\"} ")?;
    (level != "0").then(|| shard.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use footfall_proof::{Scale, find};

    use super::*;

    #[test]
    fn a_degraded_shard_is_read_off_the_metrics() {
        assert_eq!(degraded_shard("footfall_degraded_part_level{part=\"shard 12\"} 1"), Some(12));
        for other in ["shard 12\"} 0", "journals of others\"} 1"] {
            assert_eq!(degraded_shard(&format!("footfall_degraded_part_level{{part=\"{other}")), None, "{other}");
        }
        assert_eq!(degraded_shard("footfall_degraded_level 1"), None);
    }

    #[test]
    fn only_a_master_that_hangs_alone_is_promised_to_be_over_soon() {
        let plan = |name| Plan::of(find(name).expect("there is one"), 1, Scale::Short);
        assert!(only_hangs(&plan("cluster-master-hung")) && !only_hangs(&plan("cluster-master-killed")));
    }
}
