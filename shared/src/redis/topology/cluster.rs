//! Follows the slots of a cluster from node to node.
//!
//! Every node that has some is asked every second, and at once after an error that a move can be behind. What the nodes say
//! of a slot counts under the newest configuration epoch: whoever gets a slot, by a fail-over or by hand, has a greater one.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use redis::{ConnectionInfo, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use super::super::client::{client, must_reconnect};
use super::super::node::{Node, Request};
use super::rounds::{self, ANSWER_TIMEOUT, Rounds};
use super::slots::{Address, Slots};
use crate::service::config;

/// A cluster, followed as long as this is kept.
pub(crate) struct Cluster {
    search: Arc<Search>,
    follow: OnceLock<AbortOnDropHandle<()>>,
}

struct Search {
    /// Nodes that are always asked.
    seeds: Vec<Address>,
    /// How to log in at every node.
    login: ConnectionInfo,
    timeout: Duration,
    /// Those that were spoken to since the slots moved last.
    nodes: Mutex<HashMap<Address, Arc<Node>>>,
    /// None until they were asked; then who has which slots, or why that is not known.
    found: watch::Sender<Option<Result<Arc<Slots>, String>>>,
    rounds: Rounds,
}

impl Cluster {
    /// It is asked later.
    pub(crate) fn new(redis: &config::Redis, timeout: Duration) -> Result<Self, RedisError> {
        let seeds = redis.url.iter().map(|url| {
            let (host, port) = url.server();
            Address { host: host.to_owned(), port }
        });
        let search = Search {
            seeds: seeds.collect(),
            login: client(redis, redis.url.first())?.get_connection_info().clone(),
            timeout,
            nodes: Mutex::default(),
            found: watch::Sender::default(),
            rounds: Rounds::default(),
        };
        Ok(Self { search: Arc::new(search), follow: OnceLock::new() })
    }

    /// Asks the node that has the slot. Where it sends one on to another, nothing was done: that one is asked, once.
    pub(crate) async fn ask(&self, slot: u16, request: &Request) -> Result<Value, RedisError> {
        let slots = self.slots().await?;
        let owner = slots.owner(slot).ok_or_else(|| nowhere(format!("no node of the cluster has slot {slot}")))?;
        let result = self.search.node(owner)?.ask(request, false).await;
        let Err(error) = result else { return result };
        let (is_moved, is_moving) = match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved) => (true, false),
            ErrorKind::Server(ServerErrorKind::Ask) => (false, true),
            ErrorKind::Server(ServerErrorKind::ClusterDown) => (true, false),
            _ => (must_reconnect(&error), false),
        };
        if is_moved {
            self.search.rounds.doubt();
        }
        let other = error.redirect_node().and_then(|(address, _)| Address::parse(address, &owner.host));
        let Some(other) = other else { return Err(error) };
        self.search.node(&other)?.ask(request, is_moving).await
    }

    /// Every node that has slots.
    pub(crate) async fn masters(&self) -> Result<Vec<Arc<Node>>, RedisError> {
        self.slots().await?.masters().into_iter().map(|address| self.search.node(address)).collect()
    }

    /// Asks who has which slots, and follows what is said.
    pub(crate) async fn look_again(&self) {
        self.search.ask().await;
    }

    /// Changes whenever slots were found elsewhere.
    pub(crate) fn moves(&self) -> watch::Receiver<u64> {
        self.search.rounds.moves()
    }

    /// Who has which slots, as it was said last.
    async fn slots(&self) -> Result<Arc<Slots>, RedisError> {
        self.follow.get_or_init(|| AbortOnDropHandle::new(tokio::spawn(Arc::clone(&self.search).follow())));
        let mut found = self.search.found.subscribe();
        let found = found.wait_for(Option::is_some).await.map_err(io::Error::other)?;
        found.clone().expect("waited for").map_err(nowhere)
    }
}

impl Search {
    async fn follow(self: Arc<Self>) {
        loop {
            let is_missing = self.ask().await;
            self.rounds.next(is_missing).await;
        }
    }

    /// Asks all that have slots, unless somebody else has begun to since. Answers whether one of them did not answer: then
    /// another one is about to take over.
    async fn ask(&self) -> bool {
        let Some(_round) = self.rounds.begin().await else { return false };
        let known = self.found.borrow().clone().and_then(Result::ok);
        let masters: BTreeSet<&Address> = known.iter().flat_map(|slots| slots.masters()).collect();
        let asked: BTreeSet<Address> = masters.iter().copied().chain(&self.seeds).cloned().collect();
        let all = asked.len();
        let open = FuturesUnordered::new();
        for address in asked {
            open.push(self.ask_one(address));
        }
        let answers = rounds::answers(open).await;
        let has_said = |master: &&Address| answers.iter().any(|(address, answer)| address == *master && answer.is_ok());
        let is_missing = !masters.iter().all(has_said);
        let (mut said, mut errors) = (Vec::new(), Vec::new());
        for (_, answer) in answers {
            match answer {
                Ok(slots) => said.push(slots),
                Err(error) => errors.push(error),
            }
        }
        if said.is_empty() {
            // They may be where they were as well as ever.
            if known.is_none() {
                self.found
                    .send_replace(Some(Err(format!("no node of the cluster has answered: {}", errors.join("; ")))));
            }
            return true;
        }
        if 2 * said.len() <= all {
            // All of these may have been away: they do not lead back behind what is known.
            said.extend(known.as_deref().cloned());
        }
        let slots = Slots::newest(said);
        self.found.send_replace(Some(Ok(Arc::new(slots.clone()))));
        if let Some(known) = known.as_deref().filter(|known| !known.agrees(&slots)) {
            self.leave(known, &slots);
        }
        is_missing
    }

    /// Whoever waits at a node that has no slots any more would wait until time is out.
    fn leave(&self, before: &Slots, slots: &Slots) {
        let (before, masters) = (before.masters(), slots.masters());
        let changed = before.symmetric_difference(&masters).map(|node| format!("{}:{}", node.host, node.port));
        let changed: Vec<String> = changed.collect();
        info!("slots of the Redis cluster have moved; nodes that have some now or have none any more: {changed:?}");
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).retain(|address, node| {
            let is_master = masters.contains(address);
            if !is_master {
                node.leave(format!("{} has no slots of the cluster any more", node.place()));
            }
            is_master
        });
        self.rounds.moved();
    }

    async fn ask_one(&self, address: Address) -> (Address, Result<Slots, String>) {
        let answer = self.answer_of(&address).await;
        (address, answer)
    }

    async fn answer_of(&self, address: &Address) -> Result<Slots, String> {
        let node = self.node(address).map_err(|error| error.to_string())?;
        let mut pipeline = redis::pipe();
        // Asked in this order, so that no slot has an epoch that is older than its node.
        pipeline.cmd("CLUSTER").arg("SLOTS").cmd("CLUSTER").arg("NODES");
        let (slots, nodes): (Vec<Vec<Value>>, String) = node.told(pipeline, ANSWER_TIMEOUT).await?;
        Slots::parse(slots, &nodes, &address.host).map_err(|error| format!("{}: {error}", node.place()))
    }

    /// The node there, with the one connection to it.
    fn node(&self, address: &Address) -> Result<Arc<Node>, RedisError> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(address) {
            return Ok(Arc::clone(node));
        }
        let node = Arc::new(Node::elsewhere(&self.login, &address.host, address.port, "redis.url", self.timeout)?);
        nodes.insert(address.clone(), Arc::clone(&node));
        Ok(node)
    }
}

/// There is no node to ask.
fn nowhere(why: String) -> RedisError {
    io::Error::new(io::ErrorKind::NotConnected, why).into()
}
