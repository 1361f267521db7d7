//! Stores of several servers, one of which stands in for another.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use footfall_proof::Topology;
use footfall_sandbox::{Cluster, ClusterOptions, Galera, Redis, Sentinels, SentinelsOptions};

use crate::stack::{Role, Stack, StackOptions};

/// Nodes of a Galera cluster.
const NODES: usize = 3;
/// Until all servers of a group are there again, and know of each other.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
const DATABASE_URL: &str = "FOOTFALL_DATABASE__URL";

/// Running stores.
#[derive(Debug)]
pub(crate) enum Several {
    Redis(Group),
    MySql(Galera),
}

/// Redis servers that belong together.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) servers: Servers,
    /// The slot of each shard; Sentinels have none, and need none.
    slots: Vec<u16>,
    /// When a Sentinel last had reason to have a replica take over.
    pub(crate) failed_over: Option<Instant>,
    /// Faults under way that keep replicas from following.
    pub(crate) behind: u32,
    /// Servers that ask for their master with a wrong password.
    pub(crate) cut_off: BTreeSet<usize>,
}

#[derive(Debug)]
pub(crate) enum Servers {
    Sentinels(Sentinels),
    Cluster(Cluster),
}

/// How many shards a stack on these stores has.
pub(crate) fn shards(topology: Topology) -> u16 {
    match topology {
        Topology::Sentinel => 2,
        Topology::Cluster => 4,
        Topology::Galera => 1,
    }
}

/// For how long shards may be degraded by a server that hangs, as these stores are set up: as long as the others wait for
/// it, and as long again to put another in its place; with Sentinels as long as a fail-over may take.
pub(crate) fn hung_max(topology: Topology) -> Option<Duration> {
    match topology {
        Topology::Sentinel => {
            let SentinelsOptions { down_after, failover_timeout, .. } = SentinelsOptions::default();
            Some(down_after + failover_timeout)
        }
        Topology::Cluster => Some(2 * ClusterOptions::default().node_timeout),
        Topology::Galera => None,
    }
}

impl Several {
    /// Starts the stores below `dir`, and points a stack to them.
    pub(crate) fn start(
        topology: Topology,
        dir: &Path,
        galera: Option<&Path>,
        options: &mut StackOptions,
    ) -> anyhow::Result<Self> {
        let mut set = |name: &str, value: &str| options.env.push((name.to_owned(), value.to_owned()));
        set("FOOTFALL_SHARDS", &shards(topology).to_string());
        let servers = match topology {
            Topology::Sentinel => {
                let sentinels = Sentinels::start(&dir.join("sentinels"), &SentinelsOptions::default())?;
                let urls: Vec<String> = sentinels.sentinels().iter().map(|at| format!("redis://{at}")).collect();
                set("FOOTFALL_REDIS__URL", &format!("redis://{}/0", Sentinels::NAME));
                set("FOOTFALL_REDIS__SENTINELS", &urls.join(","));
                Servers::Sentinels(sentinels)
            }
            Topology::Cluster => {
                let cluster = Cluster::start(&dir.join("cluster"), &ClusterOptions::default())?;
                // Two of them are enough to find all.
                let urls: Vec<String> = cluster.addresses()[..2].iter().map(|at| format!("redis://{at}")).collect();
                set("FOOTFALL_REDIS__URL", &urls.join(","));
                set("FOOTFALL_REDIS__TOPOLOGY", "cluster");
                Servers::Cluster(cluster)
            }
            Topology::Galera => {
                let library = galera.context("there is no library of Galera")?;
                let galera = Galera::start(&dir.join("galera"), library, NODES, &options.mariadb.database)?;
                set(DATABASE_URL, &galera.url(0));
                // The others come to another node.
                (options.ingests, options.flushers) = (1, 1);
                return Ok(Self::MySql(galera));
            }
        };
        let slots = match &servers {
            Servers::Sentinels(_) => Vec::new(),
            // All keys of a shard have its number as their tag.
            Servers::Cluster(cluster) => (0..shards(topology))
                .map(|shard| cluster.slot_of(&format!("{{{shard}}}"), 0))
                .collect::<std::io::Result<_>>()?,
        };
        Ok(Self::Redis(Group { servers, slots, failed_over: None, behind: 0, cut_off: BTreeSet::new() }))
    }

    /// Starts the services that use another node.
    pub(crate) fn complete(&self, stack: &mut Stack) -> anyhow::Result<()> {
        if let Self::MySql(galera) = self {
            stack.set(DATABASE_URL, &galera.url(1));
            stack.add(Role::Flusher)?;
            stack.add(Role::Ingest)?;
            stack.set(DATABASE_URL, &galera.url(0));
        }
        Ok(())
    }

    /// Waits until all servers are there, and are what they are for the others too.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Redis(group) => group.settle(),
            Self::MySql(galera) => Ok(galera.wait_whole()?),
        }
    }
}

impl Group {
    pub(crate) fn count(&self) -> usize {
        match &self.servers {
            Servers::Sentinels(sentinels) => sentinels.servers().len(),
            Servers::Cluster(cluster) => cluster.addresses().len(),
        }
    }

    pub(crate) fn server(&mut self, index: usize) -> &mut Redis {
        match &mut self.servers {
            Servers::Sentinels(sentinels) => sentinels.server(index),
            Servers::Cluster(cluster) => cluster.node(index),
        }
    }

    /// Lets a server follow its master again that was kept from it.
    pub(crate) fn let_in(&mut self, index: usize) -> anyhow::Result<()> {
        if self.cut_off.remove(&index) {
            let server = self.server(index);
            server.query(&["CONFIG", "SET", "masterauth", ""])?;
            // What becomes of it is written to its file, and this with it.
            server.query(&["CONFIG", "REWRITE"])?;
        }
        Ok(())
    }

    /// The slot of a shard, in a cluster.
    pub(crate) fn slot(&self, shard: u16) -> anyhow::Result<u16> {
        self.slots.get(usize::from(shard)).copied().with_context(|| format!("shard {shard} has no slot"))
    }

    /// Those that run, and do not stand still.
    fn awake(&mut self) -> Vec<usize> {
        let all = 0..self.count();
        all.filter(|index| {
            let process = self.server(*index).process();
            process.is_running() && !process.is_paused()
        })
        .collect()
    }

    /// The server that has a shard, as all know that could be asked.
    pub(crate) fn master(&mut self, shard: u16) -> anyhow::Result<usize> {
        let awake = self.awake();
        match &self.servers {
            Servers::Sentinels(sentinels) => Ok(sentinels.master()?),
            Servers::Cluster(cluster) => {
                let slot = self.slot(shard)?;
                let claims = awake.iter().filter_map(|asked| cluster.owner(slot, *asked).ok());
                let claims: Vec<usize> = claims.collect();
                // Whoever has just come back may not have heard of the newest.
                let votes = |master: usize| claims.iter().filter(|claim| **claim == master).count();
                claims.iter().copied().max_by_key(|master| votes(*master)).context("nobody knows who has the slot")
            }
        }
    }

    /// The shards that a server has.
    pub(crate) fn shards_of(&mut self, master: usize, shards: u16) -> anyhow::Result<Vec<u16>> {
        let mut found = Vec::new();
        for shard in 0..shards {
            if self.master(shard)? == master {
                found.push(shard);
            }
        }
        Ok(found)
    }

    /// The servers that follow a master, as they say.
    pub(crate) fn replicas(&mut self, master: usize) -> Vec<usize> {
        let port = match &self.servers {
            Servers::Sentinels(sentinels) => sentinels.servers()[master].port().to_string(),
            Servers::Cluster(cluster) => cluster.addresses()[master].port().to_string(),
        };
        let follows = |role: &[String]| role.first().is_some_and(|word| word == "slave") && role.get(2) == Some(&port);
        let awake = self.awake();
        awake.into_iter().filter(|index| follows(&self.role(*index))).collect()
    }

    /// All that have slots, in a cluster.
    pub(crate) fn masters(&mut self) -> Vec<usize> {
        let awake = self.awake();
        awake.into_iter().filter(|index| self.role(*index).first().is_some_and(|word| word == "master")).collect()
    }

    fn role(&mut self, index: usize) -> Vec<String> {
        self.server(index).query(&["ROLE"]).unwrap_or_default()
    }

    /// Whether every replica follows a master, and all know of that.
    fn is_settled(&mut self) -> anyhow::Result<bool> {
        let (all, masters) = (self.count(), self.masters());
        if self.awake().len() < all {
            return Ok(false);
        }
        let mut connected = 0;
        for index in 0..all {
            connected += usize::from(self.role(index).get(3).is_some_and(|state| state == "connected"));
        }
        let wanted = match &self.servers {
            Servers::Sentinels(sentinels) if masters == [sentinels.master()?] => 1,
            Servers::Sentinels(_) => return Ok(false),
            Servers::Cluster(_) => all / 2,
        };
        if masters.len() != wanted || connected != all - wanted {
            return Ok(false);
        }
        if let Servers::Cluster(_) = &self.servers {
            for index in 0..all {
                let said =
                    [self.server(index).query(&["CLUSTER", "NODES"])?, self.server(index).query(&["CLUSTER", "INFO"])?];
                let said = said.concat().concat();
                if said.contains("fail,") || said.contains("fail?") || !said.contains("cluster_state:ok") {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The same, but not while somebody keeps replicas from following.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while self.behind == 0 && !self.is_settled().unwrap_or(false) {
            if Instant::now() >= deadline {
                let roles: Vec<String> = (0..self.count()).map(|index| self.role(index).join(" ")).collect();
                bail!("the servers have not found together within {SETTLE_TIMEOUT:?}: {roles:?}");
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// A Sentinel begins no fail-over so soon after the last one.
    pub(crate) fn wait_for_sentinels(&self) {
        if let (Servers::Sentinels(_), Some(before)) = (&self.servers, self.failed_over) {
            let pause = 2 * SentinelsOptions::default().failover_timeout;
            thread::sleep((before + pause).saturating_duration_since(Instant::now()));
        }
    }

    /// Has a replica take over, as an operator does.
    pub(crate) fn hand_over(&mut self, master: usize) -> anyhow::Result<()> {
        let replicas = self.replicas(master);
        match &self.servers {
            Servers::Sentinels(sentinels) => sentinels.fail_over()?,
            Servers::Cluster(cluster) => {
                let replica = replicas.first().context("the master has no replica")?;
                cluster.fail_over_to(*replica)?;
            }
        }
        Ok(())
    }

    /// The cluster, and the master behind this one in their order.
    pub(crate) fn next(&mut self, master: usize) -> anyhow::Result<(&Cluster, usize)> {
        let masters = self.masters();
        ensure!(masters.len() > 1, "there is no other master");
        let next = masters.iter().find(|other| **other > master).or(masters.first());
        let next = *next.expect("there are some");
        match &self.servers {
            Servers::Cluster(cluster) => Ok((cluster, next)),
            Servers::Sentinels(_) => bail!("there are no slots"),
        }
    }
}
