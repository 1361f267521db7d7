//! The processes: two ingests and two flushers that run the real code, and that can be killed, ended and paused.

use std::num::NonZero;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use footfall_flusher::flush::Flusher;
use footfall_flusher::metrics::Metrics;
use footfall_ingest::blocking::Blocking;
use footfall_ingest::counting::{Counting, Dependencies};
use footfall_ingest::intake::Intake;
use footfall_proof::Settings;
use footfall_shared::protocol::{Producer, Shard};
use footfall_shared::redis::Redis;
use footfall_shared::service::config::{Config, Durability, ms};
use footfall_shared::service::lifecycle::Watchdog;
use footfall_shared::service::telemetry::Readiness;
use footfall_shared::stores::reads::{HitCounts, Reads};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::books::Books;
use crate::disk::SimulatedDisk;
use crate::mutants::Mutant;
use crate::mysql::Database;
use crate::redis::Farm;
use crate::stage::{FLUSHERS, INGESTS, READER, Stage, lock};

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// Which ingest.
    Ingest(usize),
    /// Which flusher.
    Flusher(usize),
}

impl Process {
    /// The one that is this client of the stores; none if it is no process that can be hurt.
    #[must_use]
    pub fn of(client: usize) -> Option<Self> {
        match client {
            0..INGESTS => Some(Self::Ingest(client)),
            INGESTS..READER => Some(Self::Flusher(client - INGESTS)),
            _ => None,
        }
    }
}

/// The stores and what lives on them.
pub struct World {
    /// What all share.
    pub stage: Arc<Stage>,
    /// What clients know.
    pub books: Arc<Books>,
    /// Redis.
    pub farm: Arc<Farm>,
    /// MySQL.
    pub database: Arc<Database>,
    /// By host.
    pub disks: Vec<Arc<SimulatedDisk>>,
    /// How large it is, and what clients may rely on.
    pub settings: Settings,
    config: Config,
    mutant: Option<Mutant>,
    ingests: [Mutex<Option<Ingest>>; INGESTS],
    flushers: [Mutex<Option<FlusherProcess>>; FLUSHERS],
}

struct Ingest {
    counting: Counting,
    reached: Reached,
}

/// How a client reaches an ingest.
#[derive(Clone)]
pub struct Reached {
    /// Where views go.
    pub intake: Intake,
    /// Which life it is.
    pub producer: Producer,
    /// Says that the connection is gone.
    pub closed: CancellationToken,
}

struct FlusherProcess {
    tasks: Vec<AbortHandle>,
    gate: Arc<Gate>,
    stop: CancellationToken,
}

/// Keeps a process from doing anything while it is shut.
#[derive(Default)]
struct Gate(Mutex<(bool, Vec<Waker>)>);

impl Gate {
    fn shut(&self, is_shut: bool) {
        let mut state = lock(&self.0);
        state.0 = is_shut;
        if !is_shut {
            state.1.drain(..).for_each(Waker::wake);
        }
    }
}

/// A future behind a gate.
struct Gated<F> {
    work: Pin<Box<F>>,
    gate: Arc<Gate>,
}

impl<F: Future> Future for Gated<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        {
            let mut state = lock(&self.gate.0);
            if state.0 {
                state.1.push(context.waker().clone());
                return Poll::Pending;
            }
        }
        self.work.as_mut().poll(context)
    }
}

impl World {
    /// A world without processes.
    #[must_use]
    pub fn new(stage: Arc<Stage>, settings: &Settings, mutant: Option<Mutant>) -> Arc<Self> {
        let books = Arc::new(Books::default());
        let disk = |_| {
            let lies = mutant == Some(Mutant::SyncLies);
            SimulatedDisk::new(stage.dice.fork(), Arc::clone(&stage.trace), Arc::clone(&books), lies)
        };
        Arc::new(Self {
            farm: Farm::new(&stage, &books, settings, mutant),
            database: Database::new(Arc::clone(&stage), Arc::clone(&books), settings.shards, mutant),
            disks: (0..settings.hosts).map(disk).collect(),
            config: config_of(settings, mutant),
            settings: *settings,
            mutant,
            ingests: Default::default(),
            flushers: Default::default(),
            stage,
            books,
        })
    }

    /// The host of an ingest.
    #[must_use]
    pub fn host_of(&self, ingest: usize) -> usize {
        ingest % self.settings.hosts
    }

    fn redis(&self, who: usize) -> Redis {
        Redis::simulated(self.farm.client(who, Duration::from_millis(self.settings.redis_patience_ms)))
    }

    /// Reads as ingest and dashboard do, from now on.
    #[must_use]
    pub fn reads(&self) -> Reads {
        let (redis, mysql) = (self.redis(READER), self.database.client(READER));
        Reads::new(&redis, mysql, HitCounts::default(), &self.config.reads, self.settings.shards, ms(500))
    }

    /// How to reach an ingest; none if it is not there.
    #[must_use]
    pub fn reach(&self, ingest: usize) -> Option<Reached> {
        lock(&self.ingests[ingest]).as_ref().map(|ingest| ingest.reached.clone())
    }

    /// Begins a process, unless it is there; false if it cannot.
    pub fn start(&self, process: Process) -> bool {
        match process {
            Process::Ingest(who) => self.start_ingest(who),
            Process::Flusher(which) => {
                self.start_flusher(which);
                true
            }
        }
    }

    fn start_ingest(&self, who: usize) -> bool {
        let mut slot = lock(&self.ingests[who]);
        if slot.is_some() {
            return true;
        }
        let producer = Producer(self.stage.dice.number());
        let has_journal = self.settings.has_journal && self.mutant != Some(Mutant::NoJournal);
        let dependencies = Dependencies {
            redis: self.redis(who),
            fences: self.database.client(who),
            disk: has_journal.then(|| self.disks[self.host_of(who)].mount()),
            blocking: Blocking::Inline,
            producer,
            readiness: Readiness::default(),
        };
        let counting = match Counting::start(&self.config, dependencies) {
            Ok(counting) => counting,
            Err(error) => {
                self.stage.trace.note("start", &[who as u64], || format!("ingest {who} cannot begin: {error}"));
                return false;
            }
        };
        self.stage.trace.note("start", &[who as u64, producer.0], || format!("ingest {who} is {producer}"));
        let reached = Reached { intake: counting.intake.clone(), producer, closed: CancellationToken::new() };
        *slot = Some(Ingest { counting, reached });
        true
    }

    fn start_flusher(&self, which: usize) {
        let mut slot = lock(&self.flushers[which]);
        if slot.is_some() {
            return;
        }
        let who = INGESTS + which;
        let (gate, stop, metrics) = (Arc::new(Gate::default()), CancellationToken::new(), Metrics::new());
        let redis = self.redis(who);
        let tasks = Shard::all(self.settings.shards).map(|shard| {
            let fences = self.database.client(who);
            let (readiness, pulse) = (Readiness::default(), Watchdog::default().watch());
            let flusher = Flusher::new(&self.config, redis.shard(shard), fences, readiness, metrics.clone(), pulse);
            let work = Box::pin(flusher.run(stop.clone()));
            tokio::spawn(Gated { work, gate: Arc::clone(&gate) }).abort_handle()
        });
        let tasks = tasks.collect();
        self.stage.trace.note("start", &[who as u64], || format!("flusher {which}"));
        *slot = Some(FlusherProcess { tasks, gate, stop });
    }

    /// `kill -9`.
    pub fn kill(&self, process: Process) {
        match process {
            Process::Ingest(who) => {
                let Some(ingest) = lock(&self.ingests[who]).take() else { return };
                self.stage.trace.note("kill", &[who as u64], || format!("ingest {who}"));
                self.ended(ingest.reached.producer);
                ingest.reached.closed.cancel();
            }
            Process::Flusher(which) => {
                let Some(flusher) = lock(&self.flushers[which]).take() else { return };
                self.stage.trace.note("kill", &[which as u64 + 2], || format!("flusher {which}"));
                flusher.tasks.iter().for_each(AbortHandle::abort);
                flusher.gate.shut(false);
            }
        }
    }

    fn ended(&self, producer: Producer) {
        if !self.settings.has_journal {
            self.books.gone(producer.0);
        }
    }

    /// SIGTERM. Answers when the process has ended.
    pub async fn end(&self, process: Process) {
        match process {
            Process::Ingest(who) => {
                let Some(Ingest { counting, reached }) = lock(&self.ingests[who]).take() else { return };
                self.stage.trace.note("end", &[who as u64], || format!("ingest {who}"));
                let Reached { intake, producer, closed } = reached;
                drop(intake);
                // Open requests are served on for a while, as the server does it.
                tokio::time::sleep(Duration::from_millis(500)).await;
                closed.cancel();
                // The same limit as in the real process.
                let _ = tokio::time::timeout(Duration::from_secs(1), counting.end()).await;
                self.ended(producer);
                self.stage.trace.note("ended", &[who as u64], || format!("ingest {who}"));
            }
            Process::Flusher(which) => {
                let Some(flusher) = lock(&self.flushers[which]).take() else { return };
                self.stage.trace.note("end", &[which as u64 + 2], || format!("flusher {which}"));
                flusher.gate.shut(false);
                flusher.stop.cancel();
                tokio::time::sleep(Duration::from_secs(10)).await;
                flusher.tasks.iter().for_each(AbortHandle::abort);
            }
        }
    }

    /// A flusher stands still, or goes on.
    pub fn pause(&self, which: usize, is_paused: bool) {
        if let Some(flusher) = &*lock(&self.flushers[which]) {
            flusher.gate.shut(is_paused);
        }
    }

    /// A host loses its power.
    pub async fn power_cut(&self, host: usize) {
        (0..INGESTS)
            .filter(|ingest| self.host_of(*ingest) == host)
            .for_each(|ingest| self.kill(Process::Ingest(ingest)));
        // Their tasks end when they are looked at next; none of them does anything any more.
        tokio::task::yield_now().await;
        self.stage.trace.note("power", &[host as u64], || format!("host {host} is off"));
        self.disks[host].power_cut();
    }
}

fn config_of(settings: &Settings, mutant: Option<Mutant>) -> Config {
    const POSITIVE: &str = "no plan has a 0 here";
    let mut config = Config { shards: NonZero::new(settings.shards).expect(POSITIVE), ..Config::default() };
    config.ingest.journal_bytes_max = NonZero::new(settings.journal_bytes_max).expect(POSITIVE);
    if settings.outlives_power && mutant != Some(Mutant::AnsweredBeforeTheDisk) {
        config.ingest.durability = Durability::Power;
    }
    config.ingest.batch_views_max = NonZero::new(settings.batch_views_max).expect(POSITIVE);
    config.ingest.ids_bytes_max = NonZero::new(settings.ids_bytes_max).expect(POSITIVE);
    config.ingest.answer_timeout = ms(settings.answer_timeout_ms);
    config.flusher.lease = Some(ms(settings.lease_ms)).filter(|lease| !lease.is_zero());
    config.flusher.poll = ms(settings.poll_ms);
    config.flusher.transaction_views_max = NonZero::new(settings.transaction_views_max).expect(POSITIVE);
    config.flusher.timeout = ms(settings.flush_timeout_ms);
    config
}
