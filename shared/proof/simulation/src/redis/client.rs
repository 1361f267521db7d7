//! The way of a client to the masters.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use footfall_proof::{Moment, Network};
use footfall_shared::protocol::Shard;
use footfall_shared::redis::{MastersFuture, ReplyFuture, Scope, Script, Server};
use redis::{Cmd, RedisError, Value};

use super::Farm;
use super::group::Group;
use crate::keyspace::Reply;
use crate::stage::{Unanswered, exchange, sleep_ms};

/// One client's way to the servers.
pub(super) struct Client {
    farm: Arc<Farm>,
    /// The only master that it asks, if it is no way to all.
    only: Option<usize>,
    who: usize,
    patience: Duration,
}

/// What a server does for one request; none if it has died meanwhile.
type Served = Pin<Box<dyn Future<Output = Option<Result<Value, RedisError>>> + Send>>;

impl Client {
    pub(super) fn new(farm: Arc<Farm>, who: usize, patience: Duration) -> Self {
        Self { farm, only: None, who, patience }
    }

    fn group(&self, scope: Scope) -> &Arc<Group> {
        match (self.only, scope) {
            (Some(master), _) => &self.farm.masters()[master],
            (None, Scope::Shard(Shard(shard))) => self.farm.of(shard),
            (None, Scope::Home(_)) => &self.farm.masters()[0],
        }
    }

    async fn ask(
        &self,
        name: &'static str,
        scope: Scope,
        serve: impl FnOnce(Arc<Group>, usize, u64) -> Served + Send,
    ) -> Result<Value, RedisError> {
        let group = self.group(scope);
        let (server, life, network) = group.route(self.who);
        let network = Network { refused: network.refused || life.is_none(), ..network };
        let network = if network.refused { network } else { group.stage.way(self.who, name, network) };
        let served = serve(Arc::clone(group), server, life.unwrap_or(0));
        let result = exchange(&group.stage, network, self.patience, served).await;
        if result.is_ok() {
            if let Scope::Shard(Shard(shard)) = scope {
                group.books.answered(self.who, shard, group.is_replica(server));
            }
            group.stage.aims.reached(self.who, name, Moment::Told);
        }
        result.unwrap_or_else(|why| {
            let numbers = [self.who as u64, why as u64];
            group.stage.trace.note("no answer", &numbers, || format!("{name} by {}: {why:?}", self.who));
            Err(RedisError::from(io::Error::from(match why {
                Unanswered::Refused => io::ErrorKind::ConnectionRefused,
                Unanswered::TimedOut => io::ErrorKind::TimedOut,
                Unanswered::Broken => io::ErrorKind::BrokenPipe,
            })))
        })
    }
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
        Box::pin(self.ask(script.name, scope, move |group, server, life| {
            Box::pin(async move {
                if script.name == "apply" {
                    group.work().await;
                }
                group.run_script(server, life, who, script, &keys, &arguments)
            })
        }))
    }

    fn pipeline(&self, scope: Scope, pipeline: redis::Pipeline) -> ReplyFuture<'_> {
        Box::pin(self.ask("pipeline", scope, move |group, server, life| {
            Box::pin(async move {
                let mut replies = vec![];
                let mut refused = None;
                for command in pipeline.cmd_iter() {
                    // Others may come in between: only a script is one step.
                    if group.stage.dice.chance(5) {
                        sleep_ms(1).await;
                    }
                    match group.run_command(server, life, &words_of(command))? {
                        Ok(reply) => replies.push(value_of(reply)),
                        Err(error) => drop(refused.get_or_insert(error)),
                    }
                }
                Some(refused.map_or(Ok(Value::Array(replies)), Err))
            })
        }))
    }

    fn masters(self: Arc<Self>) -> MastersFuture {
        let Self { ref farm, who, patience, .. } = *self;
        let masters = (0..farm.masters().len()).map(|master| {
            let client = Self { farm: Arc::clone(farm), only: Some(master), who, patience };
            (format!("simulated {master}"), Arc::new(client) as Arc<dyn Server>)
        });
        let masters = masters.collect();
        Box::pin(async { Ok(masters) })
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
