//! A master of Redis and the servers that take its place: they restart, forget, fill up and fall silent, and run the real
//! scripts.

mod faults;
mod serve;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use footfall_proof::{Network, WriteMode};
use footfall_shared::protocol::keys::ShardKeys;
use footfall_shared::protocol::packed;
use footfall_shared::protocol::{Article, Batch, Fence, Shard};
use footfall_shared::redis::Entry;

use crate::books::{BatchName, Books};
use crate::keyspace::Keyspace;
use crate::lua;
use crate::mutants::Mutant;
use crate::mysql::POISON;
use crate::stage::{CLIENTS, Stage, lock};

use serve::is_ok;

use super::BEGIN_MS;

/// From which writes the data of a shard come: those of `branch`, and of each ancestor those up to a point.
#[derive(Debug, Clone, Default)]
struct Lineage {
    branch: u64,
    ancestors: Vec<(u64, u64)>,
}

impl Lineage {
    /// Whether a write of this branch is in these data.
    #[must_use]
    fn has(&self, (branch, at): (u64, u64)) -> bool {
        branch == self.branch || self.ancestors.iter().any(|(ancestor, up_to)| *ancestor == branch && at <= *up_to)
    }
}

/// What a server holds, and where that came from.
#[derive(Debug, Clone, Default)]
struct Data {
    keyspace: Keyspace,
    lineages: BTreeMap<u16, Lineage>,
    /// Number of the last write in it.
    at: u64,
    /// Shards whose data may rightly be set aside, because they are damaged.
    damaged: BTreeSet<u16>,
}

#[derive(Default)]
struct Instance {
    /// None while it is down.
    life: Option<u64>,
    /// What its replication id is made from: the life that it has begun as a master, or that of its master.
    replid: u64,
    is_replica: bool,
    /// The server that has all its slots now: requests are sent on to that one.
    moved_to: Option<usize>,
    mode: WriteMode,
    data: Data,
    history: VecDeque<Data>,
    /// Likewise, because they are older than they were.
    suspects: BTreeSet<u16>,
}

struct State {
    servers: Vec<Instance>,
    /// The server that each client talks to.
    points: [usize; CLIENTS],
    network: [Network; CLIENTS],
    copies: Vec<Data>,
    lives: u64,
    branches: u64,
    writes: u64,
    /// How often data were lost, set aside or damaged, or another server took over.
    upsets: u64,
    clock_offset_ms: i64,
    /// Until when the master is at work at batches.
    busy_until_ms: u64,
}

impl Instance {
    /// What it held so many writes ago.
    fn before(&self, writes: u64) -> Data {
        let back = usize::try_from(writes).unwrap_or(usize::MAX).saturating_add(1);
        self.history.len().checked_sub(back).map_or_else(Data::default, |at| self.history[at].clone())
    }
}

impl State {
    /// The master that everybody finds in the end.
    fn current(&self) -> usize {
        let is_meant = |server: &Instance| !server.is_replica && server.moved_to.is_none();
        self.servers.iter().rposition(is_meant).expect("there is always one")
    }

    /// Whether somebody talks to a former master.
    fn is_split(&self) -> bool {
        let current = self.current();
        self.points.iter().any(|point| *point != current && !self.servers[*point].is_replica)
    }

    /// A new life of a server; answers which it is.
    fn revive(&mut self, server: usize) -> u64 {
        self.lives += 1;
        (self.servers[server].life, self.servers[server].replid) = (Some(self.lives), self.lives);
        self.lives
    }
}

/// What the log of a shard holds of one article behind a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Views.
    pub views: u64,
    /// Those of them that MySQL will refuse.
    pub refused: u64,
    /// The version of MySQL's counts that Redis knows.
    pub version: u64,
    /// The same as long as nothing was lost.
    pub upsets: u64,
}

/// The servers of which one is the master of some shards.
pub struct Group {
    pub(super) stage: Arc<Stage>,
    pub(super) books: Arc<Books>,
    shards: Vec<u16>,
    apply_ms: u64,
    mutant: Option<Mutant>,
    state: Mutex<State>,
}

impl Group {
    /// One server with nothing in it.
    #[must_use]
    pub fn new(
        stage: Arc<Stage>,
        books: Arc<Books>,
        shards: Vec<u16>,
        apply_ms: u64,
        mutant: Option<Mutant>,
    ) -> Arc<Self> {
        let mut state = State {
            servers: vec![Instance::default()],
            points: [0; CLIENTS],
            network: [Network::CALM; CLIENTS],
            copies: vec![],
            lives: 0,
            branches: 0,
            writes: 0,
            upsets: 0,
            clock_offset_ms: 0,
            busy_until_ms: 0,
        };
        state.revive(0);
        let lineage = |shard: &u16| (*shard, Lineage { branch: u64::from(*shard), ancestors: vec![] });
        state.servers[0].data.lineages = shards.iter().map(lineage).collect();
        state.branches = shards.iter().max().map_or(0, |last| u64::from(*last) + 1);
        Arc::new(Self { stage, books, shards, apply_ms, mutant, state: Mutex::new(state) })
    }

    // ---- The version before

    /// Runs a command on the first server, before anything else happens.
    pub fn put(&self, words: &[&[u8]]) {
        let mut state = lock(&self.state);
        let context = self.context(&state, 0);
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
        state.servers[0].data.keyspace.command(&context, &words).expect("it fits what is there");
    }

    /// The first server has this batch from the beginning.
    pub fn taken_before(&self, shard: u16, batch: &Batch) {
        self.books.applied(BatchName::of(shard, packed::Path::Redis, batch), batch, (u64::from(shard), 0));
    }

    /// An ingest of the version before appends a batch, with its own script and as it packs one; false if it was not
    /// taken.
    #[must_use]
    pub fn apply_before(&self, script: &str, shard: u16, epoch: u64, batch: &Batch, packed: Vec<u8>) -> bool {
        let newest = lock(&self.state).current();
        let keys = ShardKeys::new(Shard(shard));
        let names = [&keys.meta, &keys.producers, &keys.log].map(|name| name.clone().into_bytes());
        let words = [epoch, batch.number, batch.views(), batch.cumulative_views].map(|number| number.to_string());
        let [epoch, number, views, cumulative_views] = words.map(String::into_bytes);
        let producer = batch.producer.to_string().into_bytes();
        let arguments = [epoch, producer, number, views, cumulative_views, packed];
        let Some(life) = lock(&self.state).servers[newest].life else { return false };
        let is_taken = self.serve(newest, life, |state| {
            if state.servers[newest].mode != WriteMode::Writable {
                return false;
            }
            let context = self.context(state, newest);
            let keyspace = &mut state.servers[newest].data.keyspace;
            let is_carried = keyspace.field(&keys.meta, "tail").is_some();
            let answer = lua::run(script, &names, &arguments, keyspace, context);
            let is_taken = answer.as_ref().is_ok_and(is_ok);
            if is_taken {
                if is_carried {
                    let what = format!("the version before appended to the log of shard {shard}: {answer:?}");
                    self.stage.trace.violation(what);
                }
                let branch = state.servers[newest].data.lineages.get(&shard).map_or(0, |lineage| lineage.branch);
                let name = BatchName::of(shard, packed::Path::Redis, batch);
                self.books.applied(name, batch, (branch, state.writes + 1));
            }
            is_taken
        });
        let is_taken = is_taken == Some(true);
        self.stage.trace.note("before", &[u64::from(shard), u64::from(is_taken)], || {
            format!("batch {} of {} on {newest}: {is_taken}", batch.number, batch.producer)
        });
        is_taken
    }

    // ---- For the oracle

    /// Whether MySQL must have all that the current server holds of a shard.
    #[must_use]
    pub fn is_drained(&self, shard: u16) -> bool {
        let state = lock(&self.state);
        let keyspace = &state.servers[state.current()].data.keyspace;
        let keys = ShardKeys::new(Shard(shard));
        let (tail, first) = (keyspace.field(&keys.meta, "tail"), keyspace.field(&keys.meta, "first"));
        tail.is_some_and(|tail| first == Some(tail + 1)) && keyspace.length(&keys.log) == 0
    }

    /// Whether a batch that Redis has taken is in the data of the current server.
    #[must_use]
    pub fn has(&self, shard: u16, write: (u64, u64)) -> bool {
        let state = lock(&self.state);
        let data = &state.servers[state.current()].data;
        data.lineages.get(&shard).is_some_and(|lineage| lineage.has(write))
    }

    /// What waits of an article behind what MySQL has, by the fence of its shard. None unless all use one server, and its
    /// data set is open and sound.
    #[must_use]
    pub fn waiting(&self, shard: u16, fence: &Fence, article: &Article) -> Option<Waiting> {
        let state = lock(&self.state);
        let server = &state.servers[state.current()];
        let (keyspace, keys) = (&server.data.keyspace, ShardKeys::new(Shard(shard)));
        let is_open = server.life.is_some()
            && keyspace.word(&keys.meta, "incarnation") == Some(replid(server.replid))
            && keyspace.field(&keys.meta, "epoch") == Some(fence.epoch);
        let first = keyspace.field(&keys.meta, "first")?;
        if !is_open || state.is_split() || server.data.damaged.contains(&shard) {
            return None;
        }
        let version = keyspace.field(&keys.meta, "version").unwrap_or(0);
        let mut waiting = Waiting { views: 0, refused: 0, version, upsets: state.upsets };
        for (position, entry) in (first..).zip(keyspace.elements(&keys.log)).filter(|(at, _)| *at > fence.position) {
            let batch = Entry::parse(position, entry).ok()?.batch().ok()?;
            for row in batch.rows.iter().filter(|row| row.article == *article) {
                waiting.views += row.views;
                waiting.refused += if row.user.as_str() == POISON { row.views } else { 0 };
            }
        }
        Some(waiting)
    }

    /// What a shard looks like, for a person.
    #[must_use]
    pub fn describe(&self, shard: u16) -> String {
        let state = lock(&self.state);
        let keyspace = &state.servers[state.current()].data.keyspace;
        let keys = ShardKeys::new(Shard(shard));
        let field = |name| keyspace.field(&keys.meta, name);
        format!(
            "redis shard {shard}: epoch {:?} first {:?} tail {:?} entries {} keys {:?}",
            field("epoch"),
            field("first"),
            field("tail"),
            keyspace.length(&keys.log),
            keyspace.names()
        )
    }
}

/// Names a life of a server.
pub(crate) fn replid(life: u64) -> String {
    format!("{life:040x}")
}

/// The shard that a key belongs to.
fn shard_of(key: &str) -> Option<u16> {
    key.split_once('{')?.1.split_once('}')?.0.parse().ok()
}
