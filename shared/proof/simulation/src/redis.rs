//! Redis servers that restart, forget, fill up and fall silent, and that run the real scripts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use footfall_proof::{Invariant, Moment, Network, Restart, Who, WriteMode};
use footfall_shared::protocol::keys::ShardKeys;
use footfall_shared::protocol::packed;
use footfall_shared::protocol::{Article, Batch, Fence, Shard};
use footfall_shared::redis::{Entry, MastersFuture, ReplyFuture, Scope, Script, Server};
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};

use crate::books::{BatchName, Books};
use crate::keyspace::{Context, Keyspace, Refused, Reply};
use crate::lua;
use crate::mutants::Mutant;
use crate::mysql::POISON;
use crate::stage::{CLIENTS, Stage, Unanswered, clients, exchange, lock, sleep_ms};

/// Time of day at the beginning of every run, in milliseconds since 1970.
pub const BEGIN_MS: u64 = 1_790_000_000_000;
/// How many states a server remembers for a restart that loses the latest writes.
const HISTORY: usize = 80;
/// After this many writes a copy of the data set is put away, which a restart may come back with.
const COPY_EVERY: u64 = 25;

/// Bytes of the append-only file that one write takes, about.
const WRITE_BYTES: u64 = 1_000;
/// A copy that is a while old is from this part of the run so far, in percent.
const WHILE_AGO_PERCENT: u64 = 80;

/// What is damaged. Of the log it is known how long it is, and its entries have checksums;
const CHECKED: [&str; 1] = [":log"];
/// of these only a key of another type can be found to be wrong.
const UNCHECKED: [&str; 2] = [":producers", ":ids"];
/// And whole keys may be gone: these, or all but these.
const MISSED: &str = ":producers";

/// From which writes the data of a shard come: those of `branch`, and of each ancestor those up to a point.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    branch: u64,
    ancestors: Vec<(u64, u64)>,
}

impl Lineage {
    /// Whether a write of this branch is in these data.
    #[must_use]
    pub fn has(&self, (branch, at): (u64, u64)) -> bool {
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

/// All Redis servers of a world.
pub struct Farm {
    stage: Arc<Stage>,
    books: Arc<Books>,
    shards: u16,
    mutant: Option<Mutant>,
    state: Mutex<State>,
}

impl Farm {
    /// One server with nothing in it.
    #[must_use]
    pub fn new(stage: Arc<Stage>, books: Arc<Books>, shards: u16, mutant: Option<Mutant>) -> Arc<Self> {
        let state = State {
            servers: vec![Instance::default()],
            points: [0; CLIENTS],
            network: [Network::CALM; CLIENTS],
            copies: vec![],
            lives: 0,
            branches: 0,
            writes: 0,
            upsets: 0,
            clock_offset_ms: 0,
        };
        let farm = Self { stage, books, shards, mutant, state: Mutex::new(state) };
        {
            let mut state = lock(&farm.state);
            state.revive(0);
            let lineages = (0..shards).map(|shard| (shard, Lineage { branch: u64::from(shard), ancestors: vec![] }));
            state.servers[0].data.lineages = lineages.collect();
            state.branches = u64::from(shards);
        }
        Arc::new(farm)
    }

    /// The way of a client to the servers.
    #[must_use]
    pub fn client(self: &Arc<Self>, who: usize, patience: Duration) -> Arc<dyn Server> {
        Arc::new(Client { farm: Arc::clone(self), who, patience })
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

    // ---- Faults

    /// Changes the way of a client, or of all.
    pub fn network(&self, who: Who, network: Network) {
        let mut state = lock(&self.state);
        clients(who).for_each(|client| state.network[client] = network);
    }

    /// Changes what the servers refuse.
    pub fn write_mode(&self, mode: WriteMode) {
        let mut state = lock(&self.state);
        state.servers.iter_mut().filter(|server| !server.is_replica).for_each(|server| server.mode = mode);
    }

    /// Moves the servers' time of day.
    pub fn move_clock(&self, ms: i64) {
        lock(&self.state).clock_offset_ms += ms;
    }

    /// Ends all lives.
    pub fn stop(&self) {
        lock(&self.state).servers.iter_mut().for_each(|server| server.life = None);
    }

    /// Begins a new life of the server that was last in use; all clients find it.
    pub fn start(&self, restart: Restart) {
        let mut state = lock(&self.state);
        let current = state.current();
        if state.servers[current].life.is_some() {
            return;
        }
        state.points = [current; CLIENTS];
        let server = &state.servers[current];
        let restart = match restart {
            Restart::Truncated(bytes) => Restart::WithoutTail(1 + bytes / WRITE_BYTES),
            Restart::Older(_) => Restart::OldCopy(WHILE_AGO_PERCENT),
            restart => restart,
        };
        let old = match restart {
            Restart::Whole | Restart::Truncated(_) | Restart::Older(_) => None,
            Restart::WithoutTail(writes) => Some(server.before(writes)),
            Restart::Empty => Some(Data::default()),
            Restart::OldCopy(percent) => {
                let at = state.copies.len() * usize::try_from(percent).unwrap_or(0) / 100;
                Some(state.copies.get(at).cloned().unwrap_or_default())
            }
        };
        if let Some(old) = old {
            self.replace(&mut state, current, old);
        }
        let life = state.revive(current);
        self.stage.trace.note("redis", &[life], || format!("life {life} begins: {restart}"));
    }

    /// Puts older data in the place of what a server holds.
    fn replace(&self, state: &mut State, server: usize, old: Data) {
        state.upsets += 1;
        for shard in 0..self.shards {
            let before = state.servers[server].data.lineages.get(&shard).cloned().unwrap_or_default();
            state.branches += 1;
            let mut lineage = Lineage { branch: state.branches, ancestors: vec![] };
            if let Some(base) = old.lineages.get(&shard) {
                lineage.ancestors = base.ancestors.clone();
                lineage.ancestors.push((base.branch, old.at));
            }
            let is_less = !lineage.has((before.branch, state.servers[server].data.at));
            if is_less {
                self.books.forgotten(shard, self.stage.trace.now_ms());
                state.servers[server].suspects.insert(shard);
            }
            state.servers[server].data.lineages.insert(shard, lineage);
        }
        let instance = &mut state.servers[server];
        instance.data.keyspace = old.keyspace;
        instance.data.at = old.at;
        instance.data.damaged = old.damaged;
        instance.history.clear();
    }

    /// FLUSHALL.
    pub fn flush_all(&self) {
        let mut state = lock(&self.state);
        let current = state.current();
        self.replace(&mut state, current, Data::default());
    }

    /// A replica that lacks the last writes takes over; clients find it one after the other, and until then go on with
    /// the old master.
    pub fn fail_over(&self, lag_writes: u64) {
        let mut state = lock(&self.state);
        let current = state.current();
        let mut replica = Instance { data: state.servers[current].data.clone(), ..Instance::default() };
        replica.history = state.servers[current].history.clone();
        replica.suspects = state.servers[current].suspects.clone();
        let new = state.servers.len();
        state.servers.push(replica);
        let old = state.servers[current].before(lag_writes);
        self.replace(&mut state, new, old);
        // Even without a lag: the old master may take more, which the new one will never have.
        for shard in 0..self.shards {
            self.books.forgotten(shard, self.stage.trace.now_ms());
            state.servers[current].suspects.insert(shard);
            state.servers[new].suspects.insert(shard);
        }
        state.revive(new);
        self.take_over(&mut state, current, new);
    }

    /// Only where the rule is off: what was opened on another server counts as open.
    fn take_over(&self, state: &mut State, from: usize, to: usize) {
        if self.mutant == Some(Mutant::IncarnationWithoutOwner) {
            state.servers[to].replid = state.servers[from].replid;
        }
    }

    /// A replica that lacks the last writes answers some clients instead of the master. Answers which server it is; none
    /// while there is no master.
    pub fn lead_to_replica(&self, who: Who, lag_writes: u64) -> Option<usize> {
        let mut state = lock(&self.state);
        let (current, replica) = (state.current(), state.servers.len());
        let master = &state.servers[current];
        master.life?;
        let (replid, data) = (master.replid, master.before(lag_writes));
        state.servers.push(Instance { is_replica: true, mode: WriteMode::ReadOnly, data, ..Instance::default() });
        state.revive(replica);
        state.servers[replica].replid = replid;
        clients(who).for_each(|client| state.points[client] = replica);
        Some(replica)
    }

    /// Whoever was led to it finds the master again.
    pub fn leave_replica(&self, replica: usize) {
        let mut state = lock(&self.state);
        let current = state.current();
        state.points.iter_mut().filter(|point| **point == replica).for_each(|point| *point = current);
    }

    /// All slots move to another master of a cluster. Answers where they were, and where they are; none while there is no
    /// master.
    pub fn move_slots(&self) -> Option<(usize, usize)> {
        let mut state = lock(&self.state);
        let (from, to) = (state.current(), state.servers.len());
        state.servers[from].life?;
        state.servers.push(Instance::default());
        state.revive(to);
        self.carry_over(&mut state, from, to);
        Some((from, to))
    }

    /// They move back to where they were, in the same life of that server; unless they are not where they were moved to.
    pub fn move_slots_back(&self, from: usize, to: usize) {
        let mut state = lock(&self.state);
        if state.current() == to && state.servers[to].life.is_some() {
            if state.servers[from].life.is_none() {
                state.revive(from);
            }
            self.carry_over(&mut state, to, from);
        }
    }

    fn carry_over(&self, state: &mut State, from: usize, to: usize) {
        state.upsets += 1;
        let [before, after] = state.servers.get_disjoint_mut([from, to]).expect("there are both");
        after.mode = before.mode;
        after.data = std::mem::take(&mut before.data);
        after.history = std::mem::take(&mut before.history);
        after.suspects = std::mem::take(&mut before.suspects);
        (before.moved_to, after.moved_to) = (Some(to), None);
        state.points.iter_mut().filter(|point| **point == from).for_each(|point| *point = to);
        self.take_over(state, from, to);
    }

    /// A client finds the newest server.
    pub fn follow(&self, who: usize) {
        let mut state = lock(&self.state);
        state.upsets += 1;
        let current = state.current();
        state.points[who] = current;
        if state.points.iter().all(|point| *point == current) {
            let all = state.servers.iter_mut().enumerate();
            all.filter(|(at, server)| *at != current && server.moved_to.is_none())
                .for_each(|(_, server)| server.life = None);
        }
        self.books.forgotten_by_all(self.shards, self.stage.trace.now_ms());
    }

    /// Damages something in the newest server.
    pub fn damage(&self, how: u64) {
        let mut state = lock(&self.state);
        state.upsets += 1;
        let current = state.current();
        let server = &mut state.servers[current];
        let is_one_of = |name: &str, parts: &[&str]| parts.iter().any(|part| name.contains(part));
        let is_candidate =
            |name: &String| (is_one_of(name, &CHECKED) || is_one_of(name, &UNCHECKED)) && !name.contains("aside");
        let keyspace = &server.data.keyspace;
        // The version before had no checksums, and nobody has the views of its ingest but Redis.
        let is_before = |name: &String| {
            shard_of(name).is_some_and(|shard| keyspace.field(&ShardKeys::new(Shard(shard)).meta, "gen").is_some())
        };
        let names = keyspace.names().into_iter().filter(|name| is_candidate(name) && !is_before(name));
        let names: Vec<String> = names.collect();
        let Some(name) = names.get(how as usize % names.len().max(1)) else { return };
        let what = match how / 64 % 3 {
            1 if name.ends_with(MISSED) => server.data.keyspace.lose(&[name]),
            2 if let Some(shard) = shard_of(name).filter(|_| name.ends_with(MISSED)) => {
                let keys = ShardKeys::new(Shard(shard));
                server.data.keyspace.lose(&[&keys.meta, &keys.log])
            }
            _ if is_one_of(name, &UNCHECKED) => server.data.keyspace.damage(name, 0),
            _ => server.data.keyspace.damage(name, how / 64),
        };
        self.stage.trace.note("damage", &[how], || format!("{name} {}", what.unwrap_or("untouched")));
        if what.is_some() {
            server.data.damaged.extend(shard_of(name));
        }
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

    // ---- Serving

    fn is_replica(&self, server: usize) -> bool {
        lock(&self.state).servers[server].is_replica
    }

    fn route(&self, who: usize) -> (usize, Option<u64>, Network) {
        let state = lock(&self.state);
        let server = state.points[who];
        (server, state.servers[server].life, state.network[who])
    }

    /// Where a request is executed that was sent to a server in this life of it.
    fn sent_on(&self, mut server: usize, mut life: u64) -> (usize, u64) {
        let state = lock(&self.state);
        while state.servers[server].life == Some(life)
            && let Some(to) = state.servers[server].moved_to
        {
            (server, life) = (to, state.servers[to].life.unwrap_or(0));
        }
        (server, life)
    }

    /// None if that life has ended.
    fn serve<T>(&self, server: usize, life: u64, work: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut state = lock(&self.state);
        let (is_alive, before) =
            (state.servers[server].life == Some(life), state.servers[server].data.keyspace.writes());
        if !is_alive {
            return None;
        }
        let answer = work(&mut state);
        if state.servers[server].data.keyspace.writes() != before {
            state.writes += 1;
            let at = state.writes;
            let instance = &mut state.servers[server];
            instance.data.at = at;
            let data = instance.data.clone();
            instance.history.push_back(data.clone());
            if instance.history.len() > HISTORY {
                instance.history.pop_front();
            }
            if at.is_multiple_of(COPY_EVERY) {
                state.copies.push(data);
            }
        }
        Some(answer)
    }

    fn context(&self, state: &State, server: usize) -> Context {
        let now = BEGIN_MS + self.stage.trace.now_ms();
        let server = &state.servers[server];
        Context {
            now_ms: now.saturating_add_signed(state.clock_offset_ms),
            replid: replid(server.replid),
            is_replica: server.is_replica,
            memory: if server.mode == WriteMode::Full { (1010 << 20, 1000 << 20) } else { (100 << 20, 1000 << 20) },
        }
    }

    fn run_script(
        &self,
        server: usize,
        life: u64,
        who: usize,
        script: &'static Script,
        keys: &[Vec<u8>],
        arguments: &[Vec<u8>],
    ) -> Option<Result<Value, RedisError>> {
        let (server, life) = self.sent_on(server, life);
        let text = self.mutant.map_or(script.text.into(), |mutant| mutant.script(script.name, script.text));
        let flags = text.lines().next().unwrap_or_default();
        let result = self.serve(server, life, |state| {
            match state.servers[server].mode {
                WriteMode::Full if !flags.contains("allow-oom") && !flags.contains("no-writes") => return Err(full()),
                WriteMode::ReadOnly if !flags.contains("no-writes") => return Err(read_only()),
                WriteMode::Misconfigured if !flags.contains("no-writes") => return Err(misconfigured()),
                _ => {}
            }
            let context = self.context(state, server);
            let before = state.servers[server].data.keyspace.writes();
            let early = ids_early(state, server, keys);
            let answer = lua::run(&text, keys, arguments, &mut state.servers[server].data.keyspace, context);
            let has_written = state.servers[server].data.keyspace.writes() != before;
            let shard = keys.first().and_then(|key| shard_of(&String::from_utf8_lossy(key)));
            if let Some(shard) = shard.filter(|_| ids_early(state, server, keys) != early) {
                self.books.forgotten(shard, self.stage.trace.now_ms());
            }
            if let (Ok(answer), Some(shard), "follow") = (&answer, shard, script.name) {
                self.look_at_bases(shard, keys, arguments, answer);
            }
            if script.name == "apply" && !has_written && answer.as_ref().is_ok_and(is_ok) {
                self.books.repeated();
            }
            if let (Ok(answer), Some(shard), true) = (&answer, shard, has_written) {
                self.look_at(state, server, shard, script.name, arguments, answer);
            }
            answer.map_err(error_of)
        })?;
        let outcome = result.as_ref().map_or_else(|error| error.to_string(), |value| format!("{value:?}"));
        let is_ok = u64::from(result.is_ok());
        self.stage.trace.note(script.name, &[who as u64, server as u64, is_ok, outcome.len() as u64], || {
            let arguments = arguments.iter().take(6).map(|word| String::from_utf8_lossy(word));
            format!("by {who} on {server}: {:?} -> {}", arguments.collect::<Vec<_>>(), readable(&outcome))
        });
        self.stage.aims.reached(who, script.name, Moment::Reply);
        Some(result)
    }

    /// Keeps the books about what a script has done.
    fn look_at(&self, state: &mut State, server: usize, shard: u16, name: &str, arguments: &[Vec<u8>], answer: &Value) {
        let is_ok = is_ok(answer);
        let argument = |at: usize| arguments.get(at).map(Vec::as_slice).unwrap_or_default();
        match name {
            "apply" if is_ok => {
                let Ok(batch) = packed::decode(argument(5)) else { return };
                let branch = state.servers[server].data.lineages.get(&shard).map_or(0, |lineage| lineage.branch);
                // It will be this write.
                let write = (branch, state.writes + 1);
                self.books.applied(BatchName::of(shard, packed::Path::Redis, &batch), &batch, write);
            }
            "reopen" if is_ok => {
                state.upsets += 1;
                let is_split = state.is_split();
                let server = &mut state.servers[server];
                let had_data = !argument(2).is_empty() || server.data.damaged.contains(&shard);
                let was_set_aside = argument(5) == b"0" && had_data;
                if was_set_aside {
                    self.books.forgotten(shard, self.stage.trace.now_ms());
                    if !server.suspects.contains(&shard) && !server.data.damaged.contains(&shard) {
                        let what =
                            format!("the data of shard {shard} were set aside although nothing was wrong with them");
                        self.stage.trace.violation(what);
                    }
                    state.branches += 1;
                    server.data.lineages.insert(shard, Lineage { branch: state.branches, ancestors: vec![] });
                    server.data.damaged.remove(&shard);
                }
                // As long as another server is in use it may overtake this one again.
                if !is_split {
                    server.suspects.remove(&shard);
                }
            }
            _ => {}
        }
    }

    /// I8: a base that is served is what MySQL had at its position, and nothing of its article was trimmed behind that.
    fn look_at_bases(&self, shard: u16, keys: &[Vec<u8>], arguments: &[Vec<u8>], answer: &Value) {
        let Value::Array(answer) = answer else { return };
        let number = |value: &Value| if let Value::Int(number) = value { u64::try_from(*number).ok() } else { None };
        let (Some(first), Some(Value::Array(bases))) = (answer.get(2).and_then(number), answer.get(11)) else { return };
        let version = arguments.get(3).and_then(|version| std::str::from_utf8(version).ok()?.parse().ok());
        for (key, base) in keys.iter().skip(2).zip(bases.chunks_exact(4)) {
            let (Some(views), Some(readers), Some(position)) = (number(&base[0]), number(&base[1]), number(&base[2]))
            else {
                continue;
            };
            let key = String::from_utf8_lossy(key);
            let article = key.rsplit(':').next().and_then(|name| Article::parse(name.as_bytes()).ok());
            let (Some(version), Some(article)) = (version, article) else { continue };
            let stored = self.books.stored_at(shard, position, version, &article);
            let trimmed = self.books.stored_at(shard, first.saturating_sub(1), version, &article);
            let lacks = position + 1 < first && trimmed.is_some_and(|trimmed| trimmed != (views, readers));
            if stored != Some((views, readers)) || lacks {
                let what = format!(
                    "{}: {article} is served as {views} views and {readers} readers at position {position} of a log \
                     that begins at {first}, where MySQL had {stored:?}, and {trimmed:?} of what is trimmed",
                    Invariant::I8
                );
                self.stage.trace.violation(what);
            }
        }
    }

    fn run_command(&self, server: usize, life: u64, words: &[Vec<u8>]) -> Option<Result<Reply, RedisError>> {
        let (server, life) = self.sent_on(server, life);
        self.serve(server, life, |state| {
            let name = words.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
            let writes = [b"HSET".as_slice(), b"HDEL", b"HINCRBY", b"UNLINK"].contains(&name.as_slice());
            match state.servers[server].mode {
                WriteMode::Full if writes && name.starts_with(b"HS") => return Err(full()),
                WriteMode::ReadOnly if writes => return Err(read_only()),
                WriteMode::Misconfigured if writes => return Err(misconfigured()),
                _ => {}
            }
            let context = self.context(state, server);
            state.servers[server].data.keyspace.command(&context, words).map_err(error_of)
        })
    }
}

/// One client's way to the servers.
struct Client {
    farm: Arc<Farm>,
    who: usize,
    patience: Duration,
}

/// What a server does for one request; none if it has died meanwhile.
type Served = Pin<Box<dyn Future<Output = Option<Result<Value, RedisError>>> + Send>>;

impl Client {
    async fn ask(
        &self,
        name: &'static str,
        scope: Scope,
        serve: impl FnOnce(Arc<Farm>, usize, u64) -> Served + Send,
    ) -> Result<Value, RedisError> {
        let (server, life, network) = self.farm.route(self.who);
        let network = Network { refused: network.refused || life.is_none(), ..network };
        let network = if network.refused { network } else { self.farm.stage.way(self.who, name, network) };
        let served = serve(Arc::clone(&self.farm), server, life.unwrap_or(0));
        let result = exchange(&self.farm.stage, network, self.patience, served).await;
        if result.is_ok() {
            if let Scope::Shard(Shard(shard)) = scope {
                self.farm.books.answered(self.who, shard, self.farm.is_replica(server));
            }
            self.farm.stage.aims.reached(self.who, name, Moment::Told);
        }
        result.unwrap_or_else(|why| {
            let numbers = [self.who as u64, why as u64];
            self.farm.stage.trace.note("no answer", &numbers, || format!("{name} by {}: {why:?}", self.who));
            Err(RedisError::from(io::Error::from(match why {
                Unanswered::Refused => io::ErrorKind::ConnectionRefused,
                Unanswered::TimedOut => io::ErrorKind::TimedOut,
                Unanswered::Broken => io::ErrorKind::BrokenPipe,
            })))
        })
    }
}

/// Whether a script has done what it was asked for.
fn is_ok(answer: &Value) -> bool {
    matches!(answer, Value::Array(answer) if answer.first() == Some(&Value::BulkString(b"OK".to_vec())))
}

fn words_of(command: &Cmd) -> Vec<Vec<u8>> {
    let word = |word: redis::Arg<&[u8]>| match word {
        redis::Arg::Simple(word) => Some(word.to_vec()),
        _ => None,
    };
    command.args_iter().filter_map(word).collect()
}

impl Server for Client {
    fn script(&self, scope: Scope, script: &'static Script, call: Cmd) -> ReplyFuture<'_> {
        // EVALSHA, hash, number of keys, keys, arguments.
        let words = words_of(&call);
        let keys = std::str::from_utf8(&words[2]).ok().and_then(|number| number.parse().ok());
        let (keys, arguments) = words[3..].split_at(keys.expect("a number"));
        let (keys, arguments) = (keys.to_vec(), arguments.to_vec());
        let who = self.who;
        Box::pin(self.ask(script.name, scope, move |farm, server, life| {
            Box::pin(async move { farm.run_script(server, life, who, script, &keys, &arguments) })
        }))
    }

    fn pipeline(&self, scope: Scope, pipeline: redis::Pipeline) -> ReplyFuture<'_> {
        Box::pin(self.ask("pipeline", scope, move |farm, server, life| {
            Box::pin(async move {
                let mut replies = vec![];
                let mut refused = None;
                for command in pipeline.cmd_iter() {
                    // Others may come in between: only a script is one step.
                    if farm.stage.dice.chance(5) {
                        sleep_ms(1).await;
                    }
                    match farm.run_command(server, life, &words_of(command))? {
                        Ok(reply) => replies.push(value_of(reply)),
                        Err(error) => drop(refused.get_or_insert(error)),
                    }
                }
                Some(refused.map_or(Ok(Value::Array(replies)), Err))
            })
        }))
    }

    fn masters(self: Arc<Self>) -> MastersFuture {
        Box::pin(async { Ok(vec![("simulated".to_owned(), self as Arc<dyn Server>)]) })
    }
}

fn value_of(reply: Reply) -> Value {
    match reply {
        Reply::Nil => Value::Nil,
        Reply::Int(number) => Value::Int(number),
        Reply::Text(text) => Value::BulkString(text),
        Reply::Status(status) => Value::SimpleString(status.into()),
        Reply::Array(replies) => Value::Array(replies.into_iter().map(value_of).collect()),
    }
}

fn error_of(refused: Refused) -> RedisError {
    redis::make_extension_error(refused.code, Some(refused.detail))
}

fn full() -> RedisError {
    error_of(Refused::new("OOM", "command not allowed when used memory > 'maxmemory'."))
}

fn read_only() -> RedisError {
    (ErrorKind::Server(ServerErrorKind::ReadOnly), "You can't write against a read only replica.").into()
}

fn misconfigured() -> RedisError {
    error_of(Refused::new(
        "MISCONF",
        "Redis is configured to save RDB snapshots, but it's currently unable to persist.",
    ))
}

/// How many view ids were forgotten before their time, in the shard whose meta is the first key.
fn ids_early(state: &State, server: usize, keys: &[Vec<u8>]) -> Option<u64> {
    let meta = std::str::from_utf8(keys.first()?).ok()?;
    state.servers[server].data.keyspace.field(meta, "ids_early")
}

/// Names a life of a server.
pub(crate) fn replid(life: u64) -> String {
    format!("{life:040x}")
}

/// The shard that a key belongs to.
fn shard_of(key: &str) -> Option<u16> {
    key.split_once('{')?.1.split_once('}')?.0.parse().ok()
}

/// An answer as text that fits one line.
fn readable(outcome: &str) -> String {
    outcome.replace("BulkString", "").chars().take(160).collect()
}
