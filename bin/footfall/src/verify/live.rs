//! `footfall verify --live`: the invariants, look after look, beside the traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use footfall_shared::mysql::{Store, column};
use footfall_shared::protocol::{Article, Conservation, Shard, shown, total};
use footfall_shared::redis::Redis;
use footfall_shared::service::clock;
use footfall_shared::service::config::Config;
use indicatif::HumanCount;
use tokio::time::Instant;

use super::checks::{self, Check};
use super::look::{self, Observation};
use super::reader::{Reader, Reading};
use crate::Result;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::terminal::{count, print};

/// From one look to the next.
const PERIOD: Duration = Duration::from_secs(2);
/// Pause before a look that has to confirm what another found.
const PAUSE: Duration = Duration::from_millis(300);
/// A store that hangs is as good as away.
const LOOK_MAX: Duration = Duration::from_secs(30);

/// Looks until `period` is over, or a signal comes; answers whether all was right.
pub(super) async fn watch(config: &Config, store: &Store, redis: &Redis, period: Option<Duration>) -> Result<bool> {
    let interrupt = Interrupt::listen()?;
    let mut live = Live {
        config,
        store,
        redis,
        reader: Reader::new(config.ingest.url.as_str())?,
        before: None,
        looks: 0,
        blind: 0,
        why_blind: String::new(),
        readings: 0,
        broken: BTreeMap::new(),
    };
    print(&format!("{}\n", Line::HEAD))?;
    let end = period.map(|period| Instant::now() + period);
    let was_interrupted = tokio::select! {
        result = live.run(end) => result.map(|()| false)?,
        () = interrupt.came() => true,
    };
    live.summary(was_interrupted)
}

struct Live<'a> {
    config: &'a Config,
    store: &'a Store,
    redis: &'a Redis,
    reader: Reader,
    /// The look before.
    before: Option<Seen>,
    looks: u64,
    /// Times that it could not look.
    blind: u64,
    /// Why it could not, the last time.
    why_blind: String,
    /// Numbers that ingest's read API gave and that lay between two looks.
    readings: u64,
    /// What was broken, how often, and how it was the first time.
    broken: BTreeMap<&'static str, (u64, String)>,
}

/// A look, and what was read from ingest after it.
struct Seen {
    look: Observation,
    readings: Vec<(Article, Reading)>,
}

impl Live<'_> {
    /// Looks until `end`. What is under way then is finished: a look may take longer than all the time that was given.
    async fn run(&mut self, end: Option<Instant>) -> Result<()> {
        loop {
            let started = Instant::now();
            let time = clock::rfc3339(clock::unix_ms());
            match self.look().await {
                Ok((look, broken)) => {
                    self.looks += 1;
                    print(&format!(
                        "{}\n",
                        Line(&time, checks::conservation(&look, self.journalled().await.unwrap_or(0)))
                    ))?;
                    for (name, how) in broken {
                        print(&format!("{time}  BROKEN  {name}: {how}\n"))?;
                        self.broken.entry(name).or_insert((0, how)).0 += 1;
                    }
                    self.read(look).await;
                }
                Err(why) => {
                    self.blind += 1;
                    print(&format!("{time}  cannot look: {why}\n"))?;
                    self.why_blind = why;
                }
            }
            let next = started + PERIOD;
            if let Some(end) = end.filter(|end| next.max(Instant::now()) >= *end) {
                tokio::time::sleep_until(end).await;
                return Ok(());
            }
            tokio::time::sleep_until(next).await;
        }
    }

    /// A look and what it found. What is found broken must be so in a second look too: Redis and MySQL are not asked in
    /// one moment, and what a recovery changes in between cannot always be told.
    async fn look(&mut self) -> std::result::Result<(Observation, Vec<(&'static str, String)>), String> {
        let look = self.one_look().await?;
        let broken = self.broken_in(&look);
        if broken.is_empty() {
            return Ok((look, vec![]));
        }
        tokio::time::sleep(PAUSE).await;
        let look = self.one_look().await?;
        let first: BTreeSet<&str> = broken.into_iter().map(|(name, _)| name).collect();
        let confirmed = self.broken_in(&look).into_iter().filter(|(name, _)| first.contains(name)).collect();
        Ok((look, confirmed))
    }

    async fn one_look(&self) -> std::result::Result<Observation, String> {
        let look = look::look(self.store, self.redis, self.config.shards.get(), &[]);
        let look = tokio::time::timeout(LOOK_MAX, look)
            .await
            .map_err(|_| format!("no answer within {} s", LOOK_MAX.as_secs()))?
            .map_err(|failure| failure.to_string())?;
        match look.shards.iter().position(|shard| !shard.is_open) {
            Some(shard) => Err(format!("redis holds no data of shard {shard} that a recovery has opened")),
            None => Ok(look),
        }
    }

    fn broken_in(&mut self, look: &Observation) -> Vec<(&'static str, String)> {
        let mut all: Vec<Check> = checks::of_mysql(&look.audit).into_iter().chain(checks::of_redis(look)).collect();
        if let Some(before) = &self.before {
            all.extend(checks::between(&before.look.audit, &look.audit));
            let (readings, check) = check_readings(before, look, self.config.shards.get());
            self.readings += readings;
            all.push(check);
        }
        all.into_iter().filter_map(|(name, broken)| Some((name, broken?))).collect()
    }

    /// Reads the numbers of a few articles from ingest, to be compared with the look before and the next one.
    async fn read(&mut self, look: Observation) {
        let mut readings = Vec::new();
        for (article, _) in &look.audit.top {
            let expected = views_of(&look, article);
            if let Some(reading) = self.reader.read(article, expected).await {
                readings.push((article.clone(), reading));
            }
        }
        self.before = Some(Seen { look, readings });
    }

    /// Acknowledged views that only journals hold, as the ingests say.
    async fn journalled(&self) -> Result<u64> {
        let mut views = 0;
        for shard in Shard::all(self.config.shards.get()) {
            let reports = self.redis.shard(shard).reports().await?;
            views = total(reports.iter().map(|(.., journalled)| *journalled).chain([views]));
        }
        Ok(views)
    }

    fn summary(&self, was_interrupted: bool) -> Result<bool> {
        if self.looks == 0 && self.blind == 0 && was_interrupted {
            return Err(Failure::Interrupted("interrupted before the first look was over: nothing can be said".into()));
        }
        if self.looks == 0 {
            return Err(Failure::Dependency(format!(
                "it could not look even once, so nothing can be said: {}; check that Redis, MySQL and an ingest run",
                self.why_blind
            )));
        }
        let looks = format!("{}, {} not possible", count(self.looks, "look"), HumanCount(self.blind));
        let readings = format!("{} from ingest between two looks", count(self.readings, "reading"));
        for (name, (times, first)) in &self.broken {
            print(&format!("FAILED  {name}: {}, first: {first}\n", count(*times, "time")))?;
        }
        print(&format!("{looks}; {readings}; {} FAILED\n", count(self.broken.len() as u64, "check")))?;
        Ok(self.broken.is_empty())
    }
}

/// An article's views in a look, if it is among those with the most.
fn views_of(look: &Observation, article: &Article) -> Option<u64> {
    let stored = look.audit.top.iter().find(|(known, _)| known == article)?.1;
    let waiting = look.rows().filter(|row| row.article == *article).map(|row| row.views);
    // As ingest shows it.
    Some(shown(total(waiting.chain([stored]))))
}

/// Whether what ingest answered between two looks lies between them; answers how many answers that could be said of.
fn check_readings(before: &Seen, after: &Observation, shards: u16) -> (u64, Check) {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (article, reading) in &before.readings {
        // Until the ingests have sent again what a Redis has lost, the numbers do go back.
        let data = |look: &Observation| look.shards[usize::from(Shard::of(article, shards).0)].data.clone();
        let (least, most) = (views_of(&before.look, article), views_of(after, article));
        let (Some(least), Some(most)) = (least, most) else { continue };
        if data(&before.look) != data(after) {
            continue;
        }
        compared += 1;
        let Reading { lowest, highest, went_back } = reading;
        if *lowest < least || *highest > most || *went_back {
            let order = if *went_back { ", going back" } else { "" };
            wrong.push(format!("{article}: {lowest} to {highest}{order}, between looks with {least} and {most}"));
        }
    }
    let broken = (!wrong.is_empty()).then(|| wrong.join("; "));
    (compared, ("I8: ingest answers what is counted at that moment", broken))
}

/// Where all views are, at one time.
struct Line<'a>(&'a str, Conservation);

impl Line<'_> {
    const HEAD: &'static str = "time                          accepted        stored      pending   journalled  quarantined   dropped  repeated  difference";
}

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(time, all) = self;
        let text = |views: u128| HumanCount(column(views)).to_string();
        write!(f, "{time:<24}{:>14}{:>14}{:>13}", text(all.accepted), text(all.stored), text(all.pending))?;
        write!(f, "{:>13}{:>13}{:>10}", text(all.journalled), text(all.quarantined), text(all.dropped))?;
        write!(f, "{:>10}{:>12}", text(all.repeated), all.difference())
    }
}
