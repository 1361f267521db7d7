//! A private Redis Cluster: three masters with the slots among them, and a replica of each.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use crate::group::{self, listen, wait, write_configuration};
use crate::redis::{Redis, RedisOptions};

const MASTERS: usize = 3;
/// The replica of the first one is the fourth, and so on.
const NODES: usize = 2 * MASTERS;
/// Room for nodes that come in later.
const ADDED: usize = 1;
const SLOTS: usize = 16_384;
/// The kernel gives ports from here on to nobody by itself. Each node has a second one, for the other nodes.
const FIRST_PORT: u16 = 63_000;
/// Keys that are moved at once.
const KEYS_TOGETHER: &str = "100";
/// How often it is looked whether a slot that was moved stays where it is, and how long after it was said.
const AGREEMENTS_MAX: usize = 20;
const AGREEMENT_PAUSE: Duration = Duration::from_millis(100);

/// Settings of [`Cluster`].
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// For how long a node may be silent before the others take it for down.
    pub node_timeout: Duration,
    /// More lines of each node's configuration.
    pub lines: Vec<String>,
    /// A folder with `ca.pem`, `server.pem` and `server.key`: then all of them are reached over TLS only.
    pub certificates: Option<PathBuf>,
    /// What the nodes ask of clients, and of each other; empty means nothing.
    pub password: String,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        let node_timeout = Duration::from_millis(1_500);
        Self { node_timeout, lines: Vec::new(), certificates: None, password: String::new() }
    }
}

/// Six Redis servers that are a cluster. Dropping it kills them; the data stay.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Redis>,
    addresses: Vec<SocketAddr>,
    ids: Vec<String>,
    options: ClusterOptions,
    dir: PathBuf,
}

impl Cluster {
    /// The address of this process's own, on which all of them listen.
    pub fn ip() -> IpAddr {
        group::ip()
    }

    /// Starts it below `dir`, new, and waits until every node knows of all slots. The first three nodes are the masters.
    pub fn start(dir: &Path, options: &ClusterOptions) -> io::Result<Self> {
        let all = Self::start_apart(dir, options)?;
        all.join()?;
        all.wait_whole()?;
        Ok(all)
    }

    /// The same six nodes, none of which knows of another.
    pub fn start_apart(dir: &Path, options: &ClusterOptions) -> io::Result<Self> {
        static STARTED: AtomicU16 = AtomicU16::new(0);
        let ports = 2 * (NODES + ADDED) as u16;
        let first = FIRST_PORT + ports * STARTED.fetch_add(1, Ordering::Relaxed);
        let addresses = (first..first + ports).step_by(2).map(|port| SocketAddr::new(Self::ip(), port)).collect();
        let (options, dir) = (options.clone(), dir.to_owned());
        let mut all = Self { nodes: Vec::new(), addresses, ids: Vec::new(), options, dir };
        for _ in 0..NODES {
            all.add()?;
        }
        Ok(all)
    }

    /// Starts another node, which knows of none; answers its number. One at most, beside the six.
    pub fn add(&mut self) -> io::Result<usize> {
        let (index, options) = (self.nodes.len(), &self.options);
        let address = self.addresses[index];
        let dir = self.dir.join(format!("node-{index}"));
        let mut lines = listen(address, options.certificates.as_deref());
        lines.extend([
            "cluster-enabled yes".to_owned(),
            format!("cluster-port {}", address.port() + 1),
            format!("cluster-announce-ip {}", address.ip()),
            format!("cluster-node-timeout {}", options.node_timeout.as_millis()),
            // What becomes of one master is nothing to the others.
            "cluster-require-full-coverage no".to_owned(),
            // A new replica gets its data at once, and without a disk in between.
            "repl-diskless-sync yes".to_owned(),
            "repl-diskless-sync-delay 0".to_owned(),
        ]);
        if options.certificates.is_some() {
            lines.push("tls-cluster yes".to_owned());
        }
        if !options.password.is_empty() {
            lines.push(format!("masterauth {}", options.password));
        }
        lines.extend(options.lines.iter().cloned());
        let configuration = Some(write_configuration(&dir, &lines)?);
        let password = options.password.clone();
        let node = Redis::start(&dir, &RedisOptions { password, configuration, ..RedisOptions::default() })?;
        self.ids.push(one(&node, &["CLUSTER", "MYID"])?);
        self.nodes.push(node);
        Ok(index)
    }

    fn join(&self) -> io::Result<()> {
        for (index, node) in self.nodes.iter().enumerate() {
            node.query(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])?;
            if index < MASTERS {
                let (first, next) = (index * SLOTS / MASTERS, (index + 1) * SLOTS / MASTERS);
                node.query(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(next - 1).to_string()])?;
            }
        }
        for address in &self.addresses[1..NODES] {
            let [port, bus] = [address.port(), address.port() + 1].map(|port| port.to_string());
            self.nodes[0].query(&["CLUSTER", "MEET", &address.ip().to_string(), &port, &bus])?;
        }
        for replica in MASTERS..NODES {
            let master = &self.ids[replica - MASTERS];
            wait("node that knows its master", || {
                self.nodes[replica].query(&["CLUSTER", "REPLICATE", master]).map(|_| true)
            })?;
        }
        Ok(())
    }

    /// Waits until every node knows of all slots and of all others, and each master has its replica.
    pub fn wait_whole(&self) -> io::Result<()> {
        for node in &self.nodes {
            wait("cluster that is whole", || {
                let known = node.query(&["CLUSTER", "NODES"])?.concat();
                let is_whole = node.query(&["CLUSTER", "INFO"])?.concat().contains("cluster_state:ok");
                Ok(is_whole
                    && known.matches(" connected").count() == NODES
                    && known.matches("slave").count() == MASTERS)
            })?;
        }
        for master in &self.nodes[..MASTERS] {
            wait("replica", || Ok(master.query(&["INFO", "replication"])?.concat().contains("state=online")))?;
        }
        Ok(())
    }

    /// Host and port of each node.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses[..self.nodes.len()]
    }

    /// What a node is called by the others.
    pub fn id(&self, index: usize) -> &str {
        &self.ids[index]
    }

    /// A node, to be killed, paused and restarted as a test likes.
    pub fn node(&mut self, index: usize) -> &mut Redis {
        &mut self.nodes[index]
    }

    /// Which node has a slot, as another one says.
    pub fn owner(&self, slot: u16, asked: usize) -> io::Result<usize> {
        let said = self.nodes[asked].query(&["CLUSTER", "NODES"])?.concat();
        let has = |line: &&str| {
            line.split(' ').skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let number = |text: &str| text.parse::<u16>().ok();
                number(first).zip(number(last)).is_some_and(|(first, last)| first <= slot && slot <= last)
            })
        };
        let id = said.lines().find(has).and_then(|line| line.split(' ').next());
        let index = self.ids.iter().position(|known| Some(&**known) == id);
        index.ok_or_else(|| io::Error::other(format!("nobody has slot {slot}: {said}")))
    }

    /// Whether a node takes itself for a replica.
    pub fn is_replica(&self, index: usize) -> bool {
        let role = self.nodes[index].query(&["ROLE"]);
        role.is_ok_and(|said| said.first().is_some_and(|role| role == "slave"))
    }

    /// Makes a replica the master of its master's slots, as an operator does who takes a machine away.
    pub fn fail_over_to(&self, replica: usize) -> io::Result<()> {
        self.nodes[replica].query(&["CLUSTER", "FAILOVER"])?;
        wait("master", || Ok(!self.is_replica(replica)))
    }

    /// Moves a slot with all its keys.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        self.begin_to_move(slot, from, to)?;
        while self.move_keys(slot, from, to, KEYS_TOGETHER)? {}
        let say = || -> io::Result<()> {
            [to, from].into_iter().try_for_each(|node| {
                let call = ["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &self.ids[to]];
                self.nodes[node].query(&call).map(drop)
            })
        };
        say()?;
        // What one of them has said a moment before may arrive only now, and then each of the two takes the other for the owner,
        // for ever. An operator would have `redis-cli --cluster fix` say it again, as the newest there is.
        for _ in 0..AGREEMENTS_MAX {
            thread::sleep(AGREEMENT_PAUSE);
            if self.owner(slot, to)? == to && self.owner(slot, from)? == to {
                return Ok(());
            }
            say()?;
            self.nodes[to].query(&["CLUSTER", "BUMPEPOCH"])?;
        }
        Err(io::Error::other(format!("nodes {to} and {from} do not agree on who has slot {slot}")))
    }

    /// Begins to move a slot, moves one key of it, and leaves it at that until [`move_slot`](Self::move_slot).
    pub fn half_move_slot(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        self.begin_to_move(slot, from, to)?;
        self.move_keys(slot, from, to, "1").map(drop)
    }

    /// Takes back what [`half_move_slot`](Self::half_move_slot) has moved: from here on the slot is where it was, and its keys
    /// follow.
    pub fn take_back_slot(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        self.nodes[from].query(&["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"])?;
        while self.move_keys(slot, to, from, KEYS_TOGETHER)? {}
        self.nodes[to].query(&["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"]).map(drop)
    }

    /// The slot of a key.
    pub fn slot_of(&self, key: &str, asked: usize) -> io::Result<u16> {
        one(&self.nodes[asked], &["CLUSTER", "KEYSLOT", key])?.parse().map_err(io::Error::other)
    }

    /// Begins to move a slot, moves this key of it, and leaves it at that until [`move_slot`](Self::move_slot).
    pub fn move_key(&self, key: &str, slot: u16, from: usize, to: usize) -> io::Result<()> {
        self.begin_to_move(slot, from, to)?;
        self.migrate(&[key.to_owned()], from, to)
    }

    fn begin_to_move(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        self.nodes[to].query(&["CLUSTER", "SETSLOT", &slot.to_string(), "IMPORTING", &self.ids[from]])?;
        self.nodes[from].query(&["CLUSTER", "SETSLOT", &slot.to_string(), "MIGRATING", &self.ids[to]]).map(drop)
    }

    /// Answers whether there were any.
    fn move_keys(&self, slot: u16, from: usize, to: usize, count: &str) -> io::Result<bool> {
        let keys = self.nodes[from].query(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), count])?;
        if keys.is_empty() {
            return Ok(false);
        }
        self.migrate(&keys, from, to).map(|()| true)
    }

    fn migrate(&self, keys: &[String], from: usize, to: usize) -> io::Result<()> {
        let (host, port) = (self.addresses[to].ip().to_string(), self.addresses[to].port().to_string());
        // Whoever counts on what is there has written it anew, where a key was missed meanwhile.
        let mut call: Vec<&str> = vec!["MIGRATE", &host, &port, "", "0", "5000", "REPLACE"];
        if !self.options.password.is_empty() {
            call.extend(["AUTH", &self.options.password]);
        }
        call.push("KEYS");
        call.extend(keys.iter().map(String::as_str));
        self.nodes[from].query(&call).map(drop)
    }
}

/// An answer of one word.
fn one(node: &Redis, command: &[&str]) -> io::Result<String> {
    let said = node.query(command)?;
    said.into_iter().next().ok_or_else(|| io::Error::other(format!("no answer to {command:?}")))
}
