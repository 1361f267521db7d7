//! Redis as the processes see it: masters that share the shards, each with whatever takes its place.

mod client;
mod group;

use std::sync::Arc;
use std::time::Duration;

use footfall_proof::{Network, Settings, Who};
use footfall_shared::redis::Server;

use crate::books::Books;
use crate::mutants::Mutant;
use crate::stage::Stage;

use client::Client;
pub(crate) use group::replid;
pub use group::{Group, Waiting};

/// Time of day at the beginning of every run, in milliseconds since 1970.
pub const BEGIN_MS: u64 = 1_790_000_000_000;

/// All Redis servers of a world.
pub struct Farm {
    masters: Vec<Arc<Group>>,
}

impl Farm {
    /// As many masters as the settings say, with nothing in them. The shards go round.
    #[must_use]
    pub fn new(stage: &Arc<Stage>, books: &Arc<Books>, settings: &Settings, mutant: Option<Mutant>) -> Arc<Self> {
        let &Settings { shards, masters, apply_ms, .. } = settings;
        let group = |master| {
            let shards = (master..shards).step_by(masters.into()).collect();
            Group::new(Arc::clone(stage), Arc::clone(books), shards, apply_ms, mutant)
        };
        Arc::new(Self { masters: (0..masters).map(group).collect() })
    }

    /// All of them.
    #[must_use]
    pub fn masters(&self) -> &[Arc<Group>] {
        &self.masters
    }

    /// The one that has a shard.
    #[must_use]
    pub fn of(&self, shard: u16) -> &Arc<Group> {
        &self.masters[usize::from(shard) % self.masters.len()]
    }

    /// The way of a client to all of them.
    #[must_use]
    pub fn client(self: &Arc<Self>, who: usize, patience: Duration) -> Arc<dyn Server> {
        Arc::new(Client::new(Arc::clone(self), who, patience))
    }

    /// Changes the way of a client to all of them, or of all clients.
    pub fn network(&self, who: Who, network: Network) {
        self.masters.iter().for_each(|master| master.network(who, network));
    }
}
