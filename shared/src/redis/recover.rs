//! What a recovery does: it looks at the data set, and opens it under a new epoch.

use super::errors::{QueueError, Result};
use super::queue::Queue;
use super::replies::Word;
use super::scripts::{CARRY, PROBE, REOPEN, STATE};
use crate::protocol::{DataSet, Position, Recovery, Remembered, State, VIEWS_MAX};

impl Queue {
    /// The state of the data set, open or not.
    pub async fn state(&self) -> Result<State> {
        let all = &self.keys;
        let call = STATE.call([&*all.meta, &all.log, &all.producers, &all.ids, &all.ids_before]);
        let (word, reply) = self.call(&STATE, call).await?;
        let incarnation = reply.text(0)?;
        let data = match word {
            Word::None => None,
            Word::Before => {
                let (open, first) = (reply.number(2)?, reply.number(3)?);
                if first == 0 || first > open {
                    return Err(QueueError::Corrupt(format!("its generations begin at {first} and end at {open}")));
                }
                Some(DataSet {
                    epoch: reply.number(1)?,
                    position: Position { tail: open - 1, first },
                    generation_before: Some(open),
                    version: reply.number(4)?,
                    ..DataSet::default()
                })
            }
            _ => {
                // A number that nobody can have counted to is damage like any other: the data set can still be set aside.
                let mut is_damaged = reply.number(8)? == 1;
                let mut count = |at| {
                    let count = reply.number(at).ok().filter(|count| *count <= VIEWS_MAX);
                    is_damaged |= count.is_none();
                    count.unwrap_or(0)
                };
                let (pending_views, lag_ms) = (count(4), count(5));
                Some(DataSet {
                    is_current: word == Word::Current,
                    epoch: reply.number(1)?,
                    position: reply.position(2)?,
                    generation_before: None,
                    pending_views,
                    lag_ms,
                    version: reply.number(6)?,
                    is_damaged,
                    is_behind: reply.number(9)? == 1,
                    ids: Remembered {
                        rotation: reply.number(7)?,
                        added: reply.number(10)?,
                        before: reply.number(11)?,
                        window_ms: reply.number(12)?,
                        forgotten_early: reply.number(13)?,
                    },
                })
            }
        };
        Ok(State { incarnation, data })
    }

    /// Asked before an epoch is begun, which ends the one that is open where the shard lives. Fails where the shard could
    /// not be written now, as on a replica: the epoch could not be opened there. Answers whether `state` still is that of the
    /// server which has the shard by now; if not, it may be open there already.
    pub async fn probe(&self, state: &State) -> Result<bool> {
        self.calls.look_again().await;
        let call = PROBE.call([&*self.keys.meta]);
        let (_, reply) = self.call(&PROBE, call).await?;
        let epoch = state.data.map_or(0, |data| data.epoch);
        Ok(reply.text(0)? == state.incarnation && reply.number(1)? == epoch)
    }

    /// Makes a log of what the version before has left, if `state` says so. Answers the state that it has then, or none if
    /// it changed meanwhile.
    pub async fn carry(&self, state: State, recovery: &Recovery) -> Result<Option<State>> {
        let Some((data, open)) = state.data.and_then(|data| Some((data, data.generation_before?))) else {
            return Ok(Some(state));
        };
        // Numbers of another history mean nothing: all of it is carried, and then set aside.
        let is_overtaken = data.epoch < recovery.flush_epoch;
        let position = if is_overtaken { data.position.first - 1 } else { recovery.position };
        let [headers, totals, backlog, newest] = self.keys.before();
        let new = format!("{}:new", self.keys.log);
        let mut keys = vec![self.keys.meta.clone(), self.keys.log.clone(), headers, totals, backlog, newest, new];
        for generation in data.position.first..open {
            keys.extend(self.keys.generation_before(generation));
        }
        let mut call = CARRY.call(keys.iter().map(String::as_str));
        call.arg(recovery.epoch).arg(data.epoch).arg(data.position.first).arg(open).arg(position);
        let (word, reply) = self.call(&CARRY, call).await?;
        if word == Word::Moved {
            return Ok(None);
        }
        let position = Position { first: reply.number(0)?, tail: reply.number(1)? };
        Ok(Some(State { data: Some(DataSet { position, generation_before: None, ..data }), ..state }))
    }

    /// Opens the data set of `state` under the epoch of `recovery`; with `discard` whatever it holds is set aside.
    /// Answers whether the log of an overtaken or damaged history was set aside, or none if the server or its data changed
    /// meanwhile.
    pub async fn reopen(&self, state: &State, recovery: &Recovery, shards: u16, discard: bool) -> Result<Option<bool>> {
        let keep = !discard && state.goes_on(recovery);
        let all = &self.keys;
        let aside = all.aside(recovery.epoch, state.data.map_or(1, |data| data.position.first));
        let mut call = REOPEN.call([&*all.meta, &all.producers, &all.log, &all.ids, &all.ids_before, &aside]);
        call.arg(recovery.epoch).arg(&state.incarnation);
        match state.data {
            Some(DataSet { epoch, position, .. }) => call.arg((epoch, position.first)),
            None => call.arg(("", "")),
        };
        call.arg(recovery.position).arg(u8::from(keep)).arg(shards).arg(recovery.version);
        for (producer, number, views) in &recovery.producers {
            call.arg((producer.to_string(), format!("{number}:{views}")));
        }
        let (word, reply) = self.call(&REOPEN, call).await?;
        if word == Word::Moved { Ok(None) } else { reply.number(0).map(|aside| Some(aside == 1)) }
    }
}
