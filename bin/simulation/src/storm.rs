//! What goes wrong in a run, and when: all of it follows from the seed.

use crate::dice::Dice;
use crate::redis::{Comeback, Mood};
use crate::stage::{Aim, CLIENTS, FLUSHERS, INGESTS, Weather};

/// What a world is like.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Shards.
    pub shards: u16,
    /// Machines with a disk: both ingests on one, or each on its own.
    pub hosts: usize,
    /// Whether the ingests keep journals.
    pub has_journal: bool,
    /// Disk space of each journal.
    pub journal_bytes_max: u64,
    /// The flushers' lease; 0 for none.
    pub lease_ms: u64,
    /// How often a flusher looks.
    pub poll_ms: u64,
    /// How long a view waits for its flush.
    pub flush_timeout_ms: u64,
    /// How long clients of Redis wait for an answer.
    pub redis_patience_ms: u64,
    /// How long clients of ingest wait for an answer.
    pub answer_timeout_ms: u64,
    /// Views in a transaction.
    pub transaction_views_max: u64,
    /// Views in a batch.
    pub batch_views_max: usize,
    /// Redis's memory for view ids.
    pub ids_bytes_max: u64,
    /// How long views arrive.
    pub traffic_ms: u64,
    /// How many requests.
    pub requests: u64,
    /// How many articles are read.
    pub articles: u64,
    /// Of 100 requests, how many have view ids.
    pub ids_percent: u64,
    /// Of 100 views, how many are by a user that MySQL refuses.
    pub poison_percent: u64,
    /// Whether the version before was here.
    pub is_upgrade: bool,
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// Which ingest.
    Ingest(usize),
    /// Which flusher.
    Flusher(usize),
}

/// One thing that goes wrong, with its end if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Redis is killed and comes back.
    RedisRestarts(Comeback, u64),
    /// FLUSHALL.
    FlushAll,
    /// A replica that lacks so many writes takes over; its clients find it within this time.
    FailOver(u64, u64),
    /// The way to Redis is bad for a client, or for all.
    RedisWeather(Option<usize>, Weather, u64),
    /// Redis refuses writes.
    RedisMood(Mood, u64),
    /// Something in Redis is damaged.
    RedisDamage(u64),
    /// The time of day jumps, for Redis and for the others, in milliseconds.
    Clocks(i64, i64),
    /// The way to MySQL is bad for a client, or for all.
    MysqlWeather(Option<usize>, Weather, u64),
    /// MySQL refuses writes.
    MysqlReadOnly(u64),
    /// Neither store can be reached.
    Alone(Option<usize>, Weather, u64),
    /// A disk has no room.
    DiskFull(usize, u64),
    /// So many of 100 writes and of 100 fsyncs fail.
    DiskFails(usize, u64, u64, u64),
    /// A bit flips.
    BitFlip(usize),
    /// A host loses its power; its ingests come back.
    PowerCut(usize, u64),
    /// A process is killed and comes back.
    Kill(Process, u64),
    /// A process is killed at a step and comes back.
    KillAt(Aim),
    /// A process is asked to end, and another one begins.
    Restart(Process, u64),
    /// A flusher stands still.
    Pause(usize, u64),
    /// All processes are killed.
    KillAll(u64),
}

/// One change of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// See [`Fault::RedisRestarts`].
    StopRedis,
    /// See [`Fault::RedisRestarts`].
    StartRedis(Comeback),
    /// See [`Fault::FlushAll`].
    FlushAll,
    /// See [`Fault::FailOver`].
    FailOver(u64),
    /// A client finds the newest server.
    Follow(usize),
    /// See [`Fault::RedisWeather`].
    RedisWeather(Option<usize>, Weather),
    /// See [`Fault::RedisMood`].
    RedisMood(Mood),
    /// See [`Fault::RedisDamage`].
    RedisDamage(u64),
    /// See [`Fault::Clocks`].
    Clocks(i64, i64),
    /// See [`Fault::MysqlWeather`].
    MysqlWeather(Option<usize>, Weather),
    /// See [`Fault::MysqlReadOnly`].
    MysqlReadOnly(bool),
    /// See [`Fault::DiskFull`].
    DiskFull(usize, bool),
    /// See [`Fault::DiskFails`].
    DiskFails(usize, u64, u64),
    /// See [`Fault::BitFlip`].
    BitFlip(usize),
    /// See [`Fault::PowerCut`].
    PowerCut(usize),
    /// See [`Fault::Kill`].
    Kill(Process),
    /// Begins a process that is not there.
    Start(Process),
    /// See [`Fault::KillAt`].
    Aim(Aim),
    /// See [`Fault::Restart`].
    End(Process),
    /// See [`Fault::Pause`].
    Pause(usize, bool),
}

/// A world and what goes wrong in it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The world.
    pub setting: Setting,
    /// When, in milliseconds, and what.
    pub faults: Vec<(u64, Fault)>,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn new(dice: &Dice) -> Self {
        let setting = Setting::new(dice);
        // Faults come in clusters: what matters is what goes wrong while something else is wrong.
        let moments: Vec<u64> = (0..dice.range(1, 3)).map(|_| dice.range(500, setting.traffic_ms)).collect();
        let mut faults: Vec<(u64, Fault)> = (0..dice.range(3, 12))
            .map(|_| {
                let near = dice.pick(&moments) + dice.range(0, 1500);
                let at = if dice.chance(70) { near } else { dice.range(200, setting.traffic_ms) };
                (at, Fault::new(dice, &setting))
            })
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        Self { setting, faults }
    }

    /// All changes, in order.
    #[must_use]
    pub fn actions(&self) -> Vec<(u64, Action)> {
        let mut actions: Vec<(u64, Action)> = self.faults.iter().flat_map(|(at, fault)| fault.actions(*at)).collect();
        actions.sort_by_key(|(at, _)| *at);
        actions
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:?}", self.setting)?;
        self.faults.iter().try_for_each(|(at, fault)| writeln!(f, "  at {at:>6} ms: {fault:?}"))
    }
}

impl Setting {
    fn new(dice: &Dice) -> Self {
        Self {
            shards: dice.pick(&[1, 1, 1, 2]),
            hosts: dice.pick(&[1, 2]),
            has_journal: dice.chance(85),
            journal_bytes_max: dice.pick(&[32 << 10, 64 << 10, 256 << 10]),
            lease_ms: dice.pick(&[0, 3000]),
            poll_ms: dice.pick(&[50, 100, 200]),
            flush_timeout_ms: dice.pick(&[200, 1000]),
            redis_patience_ms: dice.pick(&[300, 1000, 2000]),
            answer_timeout_ms: dice.pick(&[3000, 10_000]),
            transaction_views_max: dice.pick(&[5, 20, 100, 10_000]),
            batch_views_max: dice.pick(&[1, 5, 100]),
            ids_bytes_max: dice.pick(&[256 << 20, 256 << 20, 6_000]),
            traffic_ms: dice.range(4000, 12_000),
            requests: dice.range(40, 200),
            articles: dice.range(1, 6),
            ids_percent: dice.pick(&[0, 20, 60]),
            poison_percent: dice.pick(&[0, 0, 3]),
            is_upgrade: dice.chance(10),
        }
    }
}

/// Weather that is bad in one way or in several.
fn bad_weather(dice: &Dice) -> Weather {
    match dice.range(0, 5) {
        0 => Weather { refused: true, ..Weather::default() },
        1 => Weather { silent: true, ..Weather::default() },
        2 => Weather { slow_ms: dice.pick(&[50, 300, 1500]), ..Weather::default() },
        3 => Weather { lost_answer: 40, ..Weather::default() },
        4 => Weather { late: 30, ..Weather::default() },
        _ => Weather { lost_request: 15, lost_answer: 15, late: 10, slow_ms: 20, ..Weather::default() },
    }
}

/// No connections, or no answers.
fn no_way(dice: &Dice) -> Weather {
    let refused = dice.chance(60);
    Weather { refused, silent: !refused, ..Weather::default() }
}

fn comeback(dice: &Dice) -> Comeback {
    match dice.range(0, 3) {
        0 => Comeback::Whole,
        1 => Comeback::WithoutTail(dice.pick(&[1, 1, 2, 5, 20, 70])),
        2 => Comeback::Empty,
        _ => Comeback::OldCopy(dice.range(0, 99)),
    }
}

impl Fault {
    fn new(dice: &Dice, setting: &Setting) -> Self {
        let who = if dice.chance(50) { None } else { Some(dice.index(CLIENTS)) };
        let for_ms = dice.pick(&[50, 300, 1000, 3000, 8000]);
        let host = dice.index(setting.hosts);
        let process = match dice.chance(60) {
            true => Process::Ingest(dice.index(INGESTS)),
            false => Process::Flusher(dice.index(FLUSHERS)),
        };
        match dice.range(0, 30) {
            0..=4 => Self::RedisRestarts(comeback(dice), for_ms),
            5 => Self::FlushAll,
            6 => Self::FailOver(dice.pick(&[0, 1, 5, 30]), dice.pick(&[1, 500, 3000])),
            7..=9 => Self::RedisWeather(who, bad_weather(dice), for_ms),
            10 => Self::RedisMood(dice.pick(&[Mood::Full, Mood::ReadOnly, Mood::Misconfigured]), for_ms),
            11 | 12 => Self::RedisDamage(dice.number()),
            13 => {
                let jump = || i64::try_from(dice.range(0, 8 * 86_400_000)).unwrap_or(0) - 4 * 86_400_000;
                Self::Clocks(jump(), jump())
            }
            14 | 15 => Self::MysqlWeather(who, bad_weather(dice), for_ms),
            16 => Self::MysqlReadOnly(for_ms),
            17..=19 => Self::Alone(who, no_way(dice), for_ms),
            20 => Self::DiskFull(host, for_ms),
            21 => Self::DiskFails(host, dice.pick(&[0, 20]), dice.pick(&[20, 100]), for_ms),
            22 => Self::BitFlip(host),
            23 => Self::PowerCut(host, for_ms),
            24..=26 => Self::Kill(process, for_ms),
            27 => {
                let (who, steps): (usize, &[&'static str]) = match process {
                    Process::Ingest(ingest) => {
                        (ingest, &["apply", "register", "reopen", "next_epoch", "commit_direct"])
                    }
                    Process::Flusher(flusher) => {
                        (INGESTS + flusher, &["follow", "commit", "advance", "ack", "reopen", "next_epoch", "lease"])
                    }
                };
                Self::KillAt(Aim { who, step: dice.pick(steps) })
            }
            28 => Self::Restart(process, for_ms.min(1000)),
            29 => Self::Pause(dice.index(FLUSHERS), for_ms),
            _ => Self::KillAll(for_ms),
        }
    }

    /// The changes that it consists of.
    fn actions(&self, at: u64) -> Vec<(u64, Action)> {
        let calm = Weather::default();
        match *self {
            Self::RedisRestarts(comeback, for_ms) => {
                vec![(at, Action::StopRedis), (at + for_ms, Action::StartRedis(comeback))]
            }
            Self::FlushAll => vec![(at, Action::FlushAll)],
            Self::FailOver(lag, spread_ms) => {
                let follow =
                    (0..CLIENTS as u64).map(|who| (at + 1 + spread_ms * who / 3, Action::Follow(who as usize)));
                std::iter::once((at, Action::FailOver(lag))).chain(follow).collect()
            }
            Self::RedisWeather(who, weather, for_ms) => {
                vec![(at, Action::RedisWeather(who, weather)), (at + for_ms, Action::RedisWeather(who, calm))]
            }
            Self::RedisMood(mood, for_ms) => {
                vec![(at, Action::RedisMood(mood)), (at + for_ms, Action::RedisMood(Mood::Well))]
            }
            Self::RedisDamage(how) => vec![(at, Action::RedisDamage(how))],
            Self::Clocks(redis, others) => vec![(at, Action::Clocks(redis, others))],
            Self::MysqlWeather(who, weather, for_ms) => {
                vec![(at, Action::MysqlWeather(who, weather)), (at + for_ms, Action::MysqlWeather(who, calm))]
            }
            Self::MysqlReadOnly(for_ms) => {
                vec![(at, Action::MysqlReadOnly(true)), (at + for_ms, Action::MysqlReadOnly(false))]
            }
            Self::Alone(who, weather, for_ms) => vec![
                (at, Action::RedisWeather(who, weather)),
                (at, Action::MysqlWeather(who, weather)),
                (at + for_ms, Action::RedisWeather(who, calm)),
                (at + for_ms * 2, Action::MysqlWeather(who, calm)),
            ],
            Self::DiskFull(host, for_ms) => {
                vec![(at, Action::DiskFull(host, true)), (at + for_ms, Action::DiskFull(host, false))]
            }
            Self::DiskFails(host, writes, syncs, for_ms) => {
                vec![(at, Action::DiskFails(host, writes, syncs)), (at + for_ms, Action::DiskFails(host, 0, 0))]
            }
            Self::BitFlip(host) => vec![(at, Action::BitFlip(host))],
            Self::PowerCut(host, for_ms) => {
                let starts = (0..INGESTS).map(|ingest| (at + for_ms, Action::Start(Process::Ingest(ingest))));
                std::iter::once((at, Action::PowerCut(host))).chain(starts).collect()
            }
            Self::Kill(process, for_ms) => vec![(at, Action::Kill(process)), (at + for_ms, Action::Start(process))],
            Self::KillAt(aim) => vec![(at, Action::Aim(aim))],
            Self::Restart(process, for_ms) => vec![(at, Action::End(process)), (at + for_ms, Action::Start(process))],
            Self::Pause(flusher, for_ms) => {
                vec![(at, Action::Pause(flusher, true)), (at + for_ms, Action::Pause(flusher, false))]
            }
            Self::KillAll(for_ms) => {
                let all = || {
                    let flushers = (0..FLUSHERS).map(Process::Flusher);
                    (0..INGESTS).map(Process::Ingest).chain(flushers)
                };
                let kills = all().map(|process| (at, Action::Kill(process)));
                kills.chain(all().map(|process| (at + for_ms, Action::Start(process)))).collect()
            }
        }
    }
}
