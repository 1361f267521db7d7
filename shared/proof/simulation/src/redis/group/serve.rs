//! How a server carries out what it is asked for, and what the books note of it.

use footfall_proof::{Invariant, Moment, Network, WriteMode};
use footfall_shared::protocol::{Article, packed};
use footfall_shared::redis::Script;
use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

use super::{BEGIN_MS, Group, Lineage, State, replid, shard_of};
use crate::books::BatchName;
use crate::keyspace::{Context, Refused, Reply};
use crate::lua;
use crate::stage::{lock, sleep_ms};

/// How many states a server remembers for a restart that loses the latest writes.
const HISTORY: usize = 80;
/// After this many writes a copy of the data set is put away, which a restart may come back with.
const COPY_EVERY: u64 = 25;

impl Group {
    pub(in crate::redis) fn is_replica(&self, server: usize) -> bool {
        lock(&self.state).servers[server].is_replica
    }

    pub(in crate::redis) fn route(&self, who: usize) -> (usize, Option<u64>, Network) {
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

    /// Waits until the master has worked at this batch, behind those that came before.
    pub(in crate::redis) async fn work(&self) {
        let now_ms = self.stage.trace.now_ms();
        let until_ms = {
            let mut state = lock(&self.state);
            state.busy_until_ms = state.busy_until_ms.max(now_ms) + self.apply_ms;
            state.busy_until_ms
        };
        if until_ms > now_ms {
            sleep_ms(until_ms - now_ms).await;
        }
    }

    /// None if that life has ended.
    pub(super) fn serve<T>(&self, server: usize, life: u64, work: impl FnOnce(&mut State) -> T) -> Option<T> {
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

    pub(super) fn context(&self, state: &State, server: usize) -> Context {
        let now = BEGIN_MS + self.stage.trace.now_ms();
        let server = &state.servers[server];
        Context {
            now_ms: now.saturating_add_signed(state.clock_offset_ms),
            replid: replid(server.replid),
            is_replica: server.is_replica,
            memory: if server.mode == WriteMode::Full { (1010 << 20, 1000 << 20) } else { (100 << 20, 1000 << 20) },
        }
    }

    pub(in crate::redis) fn run_script(
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

    pub(in crate::redis) fn run_command(
        &self,
        server: usize,
        life: u64,
        words: &[Vec<u8>],
    ) -> Option<Result<Reply, RedisError>> {
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

/// Whether a script has done what it was asked for.
pub(super) fn is_ok(answer: &Value) -> bool {
    matches!(answer, Value::Array(answer) if answer.first() == Some(&Value::BulkString(b"OK".to_vec())))
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

/// An answer as text that fits one line.
fn readable(outcome: &str) -> String {
    outcome.replace("BulkString", "").chars().take(160).collect()
}
