//! Hours of traffic on one stack, as usual as it can be: does anything grow, and is every view counted at the end?

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use footfall_proof::{Expect, Findings, Load, judge};
use footfall_sandbox::Process;
use indicatif::HumanCount;

use crate::campaign::catch_signals;
use crate::load::{Totals, Traffic};
use crate::stack::{Role, Stack, StackOptions};
use crate::usage::{Usage, disk_bytes};
use crate::verify::Verified;
use readings::{Bound, Kind, Reading, Readings};

mod readings;

/// How long a round lasts, at most.
const ROUND_MAX: Duration = Duration::from_secs(600);
/// There are so many at least: the second is what the last one is held against.
const ROUNDS_MIN: u32 = 4;
/// Looks in a round.
const LOOKS: u32 = 10;
const POLL: Duration = Duration::from_millis(100);
/// How long everything may take to come to MySQL after the load.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// Each has its own part of the load, so that both have as much to do whichever was restarted last.
const INGESTS: usize = 2;
/// Both parts are about the same articles.
const SEED: u32 = 1;
/// At 2,000 views per second the rarest pair of them is drawn about every two minutes, so that within the first rounds
/// MySQL has the rows that it will ever have.
const ARTICLES: u64 = 100;
const USERS: u64 = 500;
const CONNECTIONS: u64 = 16;

/// Settings and stores as they are by default, two ingests and two flushers with a dashboard that somebody looks at.
#[derive(Clone, Debug)]
pub struct Soak {
    /// The folder with the built programs.
    pub binaries: PathBuf,
    /// How long views are sent.
    pub lasting: Duration,
    /// Views per second.
    pub rate: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Soaked {
    /// Views that the client was told are counted.
    pub acknowledged: u64,
    /// Views whose client was told nothing.
    pub unknown: u64,
    /// Acknowledged views that are not counted.
    pub lost: u64,
    /// Views that are counted beyond those attempted.
    pub doubled: u64,
    /// What was taken up in the first round, in the second, and in the last.
    pub table: String,
    /// What is not as it must be.
    pub wrong: Vec<String>,
    /// Data and logs, where something is wrong.
    pub kept: Option<PathBuf>,
}

impl Soak {
    /// Runs it, and tells how it goes in whole lines. A first SIGINT, SIGTERM or SIGHUP ends the traffic early, and what
    /// came until then is judged; a second one ends the process.
    ///
    /// Every round begins with FLUSHALL. In the first half everything is restarted in each round, one after the other; in
    /// the second nothing is, so that what leaks has the time to show.
    pub fn run(&self, mut tell: impl FnMut(&str)) -> anyhow::Result<Soaked> {
        let interrupted = catch_signals()?;
        let mut dir = tempfile::Builder::new().prefix("footfall-soak-").tempdir()?;
        let done = self.run_in(dir.path(), &interrupted, &mut tell);
        let is_wrong = !done.as_ref().is_ok_and(|soaked| soaked.wrong.is_empty());
        dir.disable_cleanup(is_wrong);
        let kept = is_wrong.then(|| dir.path().to_owned());
        match done {
            Ok(soaked) => Ok(Soaked { kept, ..soaked }),
            Err(error) => Err(error.context(format!("data and logs are in {}", dir.path().display()))),
        }
    }

    fn run_in(&self, dir: &Path, interrupted: &Arc<AtomicBool>, tell: &mut dyn FnMut(&str)) -> anyhow::Result<Soaked> {
        let options = StackOptions { ingests: INGESTS, flushers: 2, ..StackOptions::new(dir, &self.binaries) };
        let stack = Stack::start(options)?;
        let mut watch = stack.tool();
        watch.arg("watch");
        let watch = Process::spawn(watch, &dir.join("logs/watch.log")).context("footfall watch did not start")?;
        let load = Load {
            rate: self.rate / INGESTS as u64,
            articles: ARTICLES,
            users: USERS,
            connections: CONNECTIONS,
            ..Load::default()
        };
        let ledgers: Vec<PathBuf> = (0..INGESTS).map(|index| dir.join(format!("ledger-{index}"))).collect();
        let mut traffic = vec![];
        for (index, ledger) in ledgers.iter().enumerate() {
            let url = stack.url(Role::Ingest, index);
            let mut load = Traffic::start_to(&url, &stack, load, SEED, ledger)?;
            while !load.has_begun() {
                load.ended().map_or(Ok(()), Err)?;
                thread::sleep(POLL);
            }
            traffic.push(load);
        }
        let mut tails = traffic.iter().map(Traffic::tail).collect::<io::Result<Vec<_>>>()?;
        let mut under_way = UnderWay { dir, stack, watch, traffic };
        let mut readings = Readings::default();

        let rounds = rounds(self.lasting);
        let pause = self.lasting / (rounds * LOOKS);
        let started = Instant::now();
        'rounds: for round in 0..rounds {
            tell(&under_way.disturb(round < rounds / 2)?);
            for look in 1..=LOOKS {
                let moment = started + pause * (round * LOOKS + look);
                if moment < Instant::now() {
                    continue; // Restarting took longer.
                }
                if !sleep_until(moment, interrupted) {
                    break 'rounds;
                }
                let mut totals = Totals::default();
                for tail in &mut tails {
                    totals = totals.and(tail.look()?);
                }
                let now = under_way.look()?;
                tell(&line(started.elapsed(), &totals, &now));
                readings.add(round, now);
            }
        }
        let UnderWay { mut stack, watch, traffic, .. } = under_way;
        drop(watch);
        let mut totals = Totals::default();
        for load in traffic {
            totals = totals.and(load.finish()?);
        }
        let ledgers: Vec<&Path> = ledgers.iter().map(PathBuf::as_path).collect();
        let verified = Verified::run(stack.tool(), &ledgers, DRAIN_MAX)?;
        stack.stop()?;
        Ok(judged(&totals, &verified, &readings))
    }
}

/// Everything that runs.
struct UnderWay<'a> {
    dir: &'a Path,
    stack: Stack,
    watch: Process,
    traffic: Vec<Traffic>,
}

impl UnderWay<'_> {
    /// Does what a round begins with; says what that was.
    fn disturb(&mut self, restarts: bool) -> anyhow::Result<String> {
        let begun = Instant::now();
        self.stack.flush_redis()?;
        if !restarts {
            return Ok("FLUSHALL".to_owned());
        }
        self.stack.roll()?;
        Ok(format!("FLUSHALL, and everything restarted within {:.1} s", begun.elapsed().as_secs_f64()))
    }

    /// What is taken up now. An error if something has ended by itself.
    fn look(&mut self) -> anyhow::Result<Vec<Reading>> {
        if let Some(what) = self.stack.ended() {
            bail!("{what}");
        }
        for load in &mut self.traffic {
            load.ended().map_or(Ok(()), Err)?;
        }
        if !self.watch.is_running() {
            return Err(self.watch.failure("ended by itself").into());
        }
        let services = self.stack.services().iter_mut();
        let mut processes: Vec<_> =
            services.map(|service| (service.name().to_owned(), service.process().pid(), Bound::Memory)).collect();
        for (name, pid, bound) in [
            ("watch", self.watch.pid(), Bound::Memory),
            ("load", self.traffic[0].pid(), Bound::Memory),
            ("redis", self.stack.redis.process().pid(), Bound::Memory),
            // Its buffer pool is there to be filled.
            ("mariadb", self.stack.mariadb.process().pid(), Bound::None),
        ] {
            processes.push((name.to_owned(), pid, bound));
        }
        let mut look = vec![];
        for (name, pid, bound) in processes {
            let Usage { memory_bytes, files } = Usage::of(pid).with_context(|| name.clone())?;
            look.push(Reading { name: name.clone(), kind: Kind::Memory, value: memory_bytes, bound });
            look.push(Reading { name, kind: Kind::Files, value: files, bound: Bound::Files });
        }
        for (name, bound) in [
            ("journal", Bound::Journal),
            // Stores clear up when they like.
            ("redis", Bound::None),
            ("mariadb", Bound::None),
        ] {
            let value = disk_bytes(&self.dir.join(name))?;
            look.push(Reading { name: name.to_owned(), kind: Kind::Disk, value, bound });
        }
        Ok(look)
    }
}

fn rounds(lasting: Duration) -> u32 {
    let whole = lasting.as_secs() / ROUND_MAX.as_secs();
    u32::try_from(whole).unwrap_or(u32::MAX / LOOKS).max(ROUNDS_MIN)
}

/// Whether it slept so long; else it was interrupted.
fn sleep_until(moment: Instant, interrupted: &AtomicBool) -> bool {
    while !interrupted.load(Ordering::Relaxed) {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(POLL));
    }
    false
}

/// One look.
fn line(elapsed: Duration, totals: &Totals, now: &[Reading]) -> String {
    let seconds = elapsed.as_secs();
    let (acknowledged, unknown) = (HumanCount(totals.acknowledged), HumanCount(totals.unknown));
    format!(
        "{:>3}:{:02}  {acknowledged} acknowledged, {unknown} unknown; {}",
        seconds / 60,
        seconds % 60,
        readings::in_a_line(now)
    )
}

fn judged(totals: &Totals, verified: &Verified, readings: &Readings) -> Soaked {
    let findings = Findings {
        shards: vec![],
        refused: totals.refused,
        missing: verified.missing,
        extra: verified.extra,
        quarantined: verified.quarantined,
        untold: 0,
        broken: if verified.is_right { vec![] } else { vec![format!("footfall verify:\n{}", verified.report.trim())] },
    };
    let mut wrong = judge(Expect::NoneLost, &findings);
    if totals.acknowledged == 0 {
        wrong.push("not one view was acknowledged".to_owned());
    }
    wrong.extend(readings.grown());
    if !readings.are_enough() {
        wrong.push("it was ended before anything could be said of growth".to_owned());
    }
    Soaked {
        acknowledged: totals.acknowledged,
        unknown: totals.unknown,
        lost: verified.missing,
        doubled: verified.extra,
        table: readings.table(),
        wrong,
        kept: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_lasts_ten_minutes_or_a_quarter_of_it_all() {
        let minutes = |minutes: u64| rounds(Duration::from_secs(minutes * 60));
        assert_eq!([0, 2, 39, 40, 59, 120].map(minutes), [4, 4, 4, 4, 5, 12]);
    }

    #[test]
    fn views_and_growth_are_judged() {
        let totals = Totals { acknowledged: 9, ..Totals::default() };
        let right = Verified { is_right: true, ..Verified::default() };
        let mut readings = Readings::default();
        (0..3).for_each(|round| readings.add(round, vec![]));
        let wrong = |totals: &Totals, verified: &Verified| judged(totals, verified, &readings).wrong;
        assert!(wrong(&totals, &right).is_empty());
        for verified in [
            Verified { missing: 1, ..right.clone() },
            Verified { extra: 1, ..right.clone() },
            Verified { quarantined: 1, ..right.clone() },
            Verified { is_right: false, ..right.clone() },
        ] {
            assert_eq!(wrong(&totals, &verified).len(), 1, "{verified:?}");
        }
        assert_eq!(wrong(&Totals::default(), &right).len(), 1);
        assert_eq!(wrong(&Totals { refused: 1, ..totals }, &right).len(), 1);
        assert_eq!(judged(&totals, &right, &Readings::default()).wrong.len(), 1);
    }
}
