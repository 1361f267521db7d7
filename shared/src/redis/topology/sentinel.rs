//! Follows the master that the Sentinels name.
//!
//! All of them are asked every second, and at once after an error that a fail-over can be behind. What was answered under
//! the newest configuration epoch counts: each fail-over has a greater one, so a Sentinel that was away, and does not know
//! yet, leads nobody back to a former master.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use redis::{ConnectionInfo, RedisError};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::super::client::client;
use super::super::node::Node;
use super::rounds::{ANSWER_TIMEOUT, Rounds};
use crate::service::config::{self, RedisUrls};

/// The master that Sentinels name, followed as long as this is kept.
pub(crate) struct Sentinels {
    search: Arc<Search>,
    follow: OnceLock<AbortOnDropHandle<()>>,
}

struct Search {
    sentinels: Vec<Node>,
    /// What they call the master.
    name: String,
    /// How to log in at the master, wherever it is.
    login: ConnectionInfo,
    timeout: Duration,
    /// None until they were asked; then the master, or why there is none.
    found: watch::Sender<Option<Result<Found, String>>>,
    rounds: Rounds,
}

#[derive(Clone)]
struct Found {
    answer: Answer,
    node: Arc<Node>,
}

/// What a Sentinel says of the master.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    /// The configuration epoch.
    epoch: u64,
    host: String,
    port: u16,
}

impl Sentinels {
    /// They are asked later.
    pub(crate) fn new(redis: &config::Redis, sentinels: &RedisUrls, timeout: Duration) -> Result<Self, RedisError> {
        let sentinels = sentinels.iter().map(|url| {
            let (host, port) = url.sentinel();
            let login = client(redis, url)?.get_connection_info().clone();
            Node::elsewhere(&login, host, port, "redis.sentinels", timeout.min(ANSWER_TIMEOUT))
        });
        let search = Search {
            sentinels: sentinels.collect::<Result<_, RedisError>>()?,
            name: redis.url.first().master().to_owned(),
            login: client(redis, redis.url.first())?.get_connection_info().clone(),
            timeout,
            found: watch::Sender::default(),
            rounds: Rounds::default(),
        };
        Ok(Self { search: Arc::new(search), follow: OnceLock::new() })
    }

    /// The master, as it was named last.
    pub(crate) async fn master(&self) -> Result<Arc<Node>, RedisError> {
        self.follow.get_or_init(|| AbortOnDropHandle::new(tokio::spawn(Arc::clone(&self.search).follow())));
        let mut found = self.search.found.subscribe();
        let found = found.wait_for(Option::is_some).await.map_err(io::Error::other)?;
        match found.as_ref().expect("waited for") {
            Ok(found) => Ok(Arc::clone(&found.node)),
            Err(why) => Err(io::Error::new(io::ErrorKind::NotConnected, why.clone()).into()),
        }
    }

    /// Has the Sentinels asked soon.
    pub(crate) fn doubt(&self) {
        self.search.rounds.doubt();
    }

    /// Asks the Sentinels, and follows what they say.
    pub(crate) async fn look_again(&self) {
        self.search.ask().await;
    }

    /// Changes whenever another master is named.
    pub(crate) fn moves(&self) -> watch::Receiver<u64> {
        self.search.rounds.moves()
    }
}

impl Search {
    async fn follow(self: Arc<Self>) {
        loop {
            self.ask().await;
            self.rounds.next(false).await;
        }
    }

    /// Asks all of them, unless somebody else has begun to since.
    async fn ask(&self) {
        let Some(_round) = self.rounds.begin().await else { return };
        let answers = join_all(self.sentinels.iter().map(|sentinel| answer_of(sentinel, &self.name))).await;
        let (answers, errors) = answers.into_iter().partition::<Vec<_>, _>(Result::is_ok);
        let answers: Vec<Answer> = answers.into_iter().flatten().collect();
        let known = self.found.borrow().as_ref().and_then(|found| found.as_ref().ok().cloned());
        match newest(answers, self.sentinels.len(), known.as_ref().map(|known| &known.answer)) {
            Some(answer) => self.take(answer, known),
            // The master may be as well as ever.
            None if known.is_some() => {}
            None => {
                let errors: Vec<String> = errors.into_iter().filter_map(Result::err).collect();
                let why = format!("no Sentinel has named the master {}: {}", self.name, errors.join("; "));
                self.found.send_replace(Some(Err(why)));
            }
        }
    }

    fn take(&self, answer: Answer, known: Option<Found>) {
        let node = match &known {
            Some(known) if (&known.answer.host, known.answer.port) == (&answer.host, answer.port) => {
                Ok(Arc::clone(&known.node))
            }
            _ => Node::elsewhere(&self.login, &answer.host, answer.port, "redis.url", self.timeout).map(Arc::new),
        };
        let node = match node {
            Ok(node) => node,
            Err(error) => return warn!("the Sentinels name a master that cannot be used: {error}"),
        };
        self.found.send_replace(Some(Ok(Found { answer, node: Arc::clone(&node) })));
        if let Some(former) = known.filter(|known| !Arc::ptr_eq(&known.node, &node)) {
            let (place, before) = (node.place(), former.node.place());
            info!("the Sentinels name another Redis as the master: {place}, before it was {before}");
            // Whoever waits there would wait until time is out.
            former.node.leave(format!("{place} is the master now"));
            self.rounds.moved();
        }
    }
}

/// Asked in this order, so that the address is never older than its epoch. It is not in the first answer while a
/// fail-over is under way.
async fn answer_of(sentinel: &Node, name: &str) -> Result<Answer, String> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("SENTINEL").arg("MASTER").arg(name);
    pipeline.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let (master, (host, port)): (HashMap<String, String>, (String, u16)) =
        sentinel.told(pipeline, ANSWER_TIMEOUT).await?;
    let epoch = master.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    Ok(Answer { epoch, host, port })
}

/// Which answer counts, of those that came from so many Sentinels. Fewer than most of them may all have been away: they do
/// not lead back behind what is known.
fn newest(answers: Vec<Answer>, sentinels: usize, known: Option<&Answer>) -> Option<Answer> {
    let are_most = 2 * answers.len() > sentinels;
    let newest = answers.into_iter().max_by_key(|answer| answer.epoch);
    newest.filter(|newest| are_most || known.is_none_or(|known| newest.epoch >= known.epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(epoch: u64, port: u16) -> Answer {
        Answer { epoch, host: "h".into(), port }
    }

    #[test]
    fn the_newest_configuration_epoch_counts() {
        let said = |answers: &[(u64, u16)], known: Option<(u64, u16)>| {
            let answers = answers.iter().map(|(epoch, port)| answer(*epoch, *port)).collect();
            let known = known.map(|(epoch, port)| answer(epoch, port));
            newest(answers, 3, known.as_ref()).map(|answer| answer.port)
        };
        assert_eq!(said(&[], Some((2, 2))), None);
        assert_eq!(said(&[(1, 1), (2, 2), (1, 1)], None), Some(2));
        assert_eq!(said(&[(1, 1)], None), Some(1), "one is better than none");
        assert_eq!(said(&[(3, 1)], Some((2, 2))), Some(1), "the first to know of a fail-over");
        // A Sentinel that was away while it was: alone it leads nobody back.
        assert_eq!(said(&[(1, 1)], Some((2, 2))), None);
        // All of them were set up anew.
        assert_eq!(said(&[(0, 1), (0, 1)], Some((2, 2))), Some(1));
    }
}
