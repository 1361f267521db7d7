//! The way of a client to the servers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use footfall_proof::{Moment, Network};
use footfall_shared::protocol::Shard;
use footfall_shared::redis::{MastersFuture, ReplyFuture, Scope, Script, Server};
use redis::{Cmd, RedisError, Value};

use super::Farm;
use crate::keyspace::Reply;
use crate::stage::{Unanswered, exchange, sleep_ms};

/// One client's way to the servers.
pub(super) struct Client {
    farm: Arc<Farm>,
    who: usize,
    patience: Duration,
}

/// What a server does for one request; none if it has died meanwhile.
type Served = Pin<Box<dyn Future<Output = Option<Result<Value, RedisError>>> + Send>>;

impl Client {
    pub(super) fn new(farm: Arc<Farm>, who: usize, patience: Duration) -> Self {
        Self { farm, who, patience }
    }

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
