//! What can happen to the servers.

use footfall_proof::{Network, Restart, Who, WriteMode};
use footfall_shared::protocol::Shard;
use footfall_shared::protocol::keys::ShardKeys;

use super::{Data, Group, Instance, Lineage, State, shard_of};
use crate::mutants::Mutant;
use crate::stage::{CLIENTS, clients, lock};

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

impl Group {
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
        for shard in self.shards.iter().copied() {
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
        for shard in self.shards.iter().copied() {
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

    /// A replica that has everything takes over, and all clients find it at once.
    pub fn replace_master(&self) {
        self.fail_over(0);
        (0..CLIENTS).for_each(|who| self.follow(who));
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
        let now_ms = self.stage.trace.now_ms();
        self.shards.iter().for_each(|shard| self.books.forgotten(*shard, now_ms));
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
}
