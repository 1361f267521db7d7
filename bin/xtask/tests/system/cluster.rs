//! Redis Cluster: whatever becomes of a master or of a slot, every view is counted once.

mod nodes;

use std::process::Command;
use std::time::Duration;

use crate::common::{Running, Set, eventually, get, output, post, start};
use crate::stores::{ACL, PASSWORD, make_certificates};
use crate::under_load::{SOON, Site};
use footfall_drill::stack::{Role, StackOptions};
use footfall_sandbox::{Cluster, ClusterOptions};
use footfall_shared::protocol::Shard;
use footfall_shared::protocol::keys::{self, ShardKeys};
use tempfile::TempDir;

const SHARDS: u16 = 4;

/// Dropped in this order.
pub(crate) struct Clustered {
    pub(crate) running: Running,
    pub(crate) cluster: Cluster,
    _dir: TempDir,
}

impl Site for Clustered {
    fn running(&mut self) -> &mut Running {
        &mut self.running
    }
}

/// All services on a cluster, of which they are told two nodes.
fn start_site(sandbox: &ClusterOptions, scheme: &str, change: impl FnOnce(&mut StackOptions)) -> Clustered {
    let dir = tempfile::tempdir().expect("temporary folder");
    let cluster = Cluster::start(dir.path(), sandbox).expect("a cluster");
    on(cluster, dir, scheme, change)
}

/// The same on a cluster that is there.
pub(crate) fn on(cluster: Cluster, dir: TempDir, scheme: &str, change: impl FnOnce(&mut StackOptions)) -> Clustered {
    let urls: Vec<String> = cluster.addresses()[..2].iter().map(|address| format!("{scheme}{address}")).collect();
    let running = start(|options| {
        (options.ingests, options.flushers, options.dashboards) = (2, 2, 1);
        options.set("FOOTFALL_SHARDS", &SHARDS.to_string());
        options.set("FOOTFALL_REDIS__URL", &urls.join(","));
        options.set("FOOTFALL_REDIS__TOPOLOGY", "cluster");
        change(options);
    });
    Clustered { running, cluster, _dir: dir }
}

fn plain() -> Clustered {
    start_site(&ClusterOptions::default(), "redis://", |_| {})
}

/// The slot of shard 0.
fn slot() -> u16 {
    keys::slot(&ShardKeys::new(Shard(0)).meta)
}

#[test]
fn all_of_it_works_on_a_cluster() {
    let mut site = plain();
    // On a full machine a node may once take longer to answer than an ingest waits.
    let degraded = site.under_load("calm", 0, |_| {});
    assert!(degraded < Duration::from_secs(2), "{degraded:?}");
    // Every shard waits and is opened on the node that has it.
    let owners: Vec<usize> = (0..SHARDS)
        .map(|shard| site.cluster.owner(keys::slot(&ShardKeys::new(Shard(shard)).meta), 0).expect("an owner"))
        .collect();
    println!("shards on nodes {owners:?}");
    for (shard, owner) in (0..SHARDS).zip(&owners) {
        let epoch = site.cluster.node(*owner).query(&["HGET", &ShardKeys::new(Shard(shard)).meta, "epoch"]);
        assert_eq!(epoch.expect("an answer"), ["1"]);
    }
    assert!(owners.iter().any(|owner| *owner != owners[0]), "they are on several");
    let stats = get(&format!("{}/v1/stats", site.running.stack.url(Role::Dashboard, 0))).json();
    assert_eq!(stats["instances"].as_array().map(Vec::len), Some(5), "{stats}");
    let views = format!("{}/v1/views", site.running.ingest());
    assert_eq!(post(&views, r#"{"article":"a"}"#).status, 204, "it has a salt");
    for arguments in [&["doctor"][..], &["quarantine", "list"], &["check-config"]] {
        let mut tool = site.running.stack.tool();
        tool.args(arguments);
        let (is_fine, said) = output(tool);
        assert!(is_fine, "{arguments:?}: {said}");
    }
    for (role, count) in [(Role::Ingest, 2), (Role::Flusher, 2), (Role::Dashboard, 1)] {
        for index in 0..count {
            site.running.stack.service(role, index).terminate(SOON).expect("terminated");
        }
    }
    let mut clean = site.running.stack.tool();
    clean.args(["clean", "--yes", "--even-remote"]);
    let (is_fine, said) = output(clean);
    assert!(is_fine, "{said}");
    for node in 0..3 {
        let left = site.cluster.node(node).query(&["KEYS", "*"]).expect("an answer");
        assert!(left.is_empty(), "node {node} has {left:?}");
    }
}

#[test]
fn a_killed_master_of_a_cluster_costs_its_shards_one_epoch() {
    let mut site = plain();
    site.under_load("killed", 1, |site| {
        let owner = site.cluster.owner(slot(), 0).expect("an owner");
        let asked = (owner + 1) % 3;
        site.cluster.node(owner).kill().expect("kill");
        eventually("another master", SOON, || site.cluster.owner(slot(), asked).is_ok_and(|now| now != owner));
        site.cluster.node(owner).restart().expect("restart");
        eventually("a replica", SOON, || site.cluster.is_replica(owner));
    });
}

#[test]
fn a_master_of_a_cluster_that_hangs_is_left() {
    let mut site = plain();
    site.under_load("hung", 1, |site| {
        let owner = site.cluster.owner(slot(), 0).expect("an owner");
        let asked = (owner + 1) % 3;
        site.cluster.node(owner).pause().expect("pause");
        eventually("another master", SOON, || site.cluster.owner(slot(), asked).is_ok_and(|now| now != owner));
        // Not only when it wakes.
        let ready = [0, 1].map(|index| format!("{}/readyz", site.running.stack.url(Role::Ingest, index)));
        eventually("ingests that are well", SOON, || ready.iter().all(|url| get(url).body.trim() == "ready"));
        // It takes itself for the master until the others tell it.
        site.cluster.node(owner).resume().expect("resume");
        eventually("a replica", SOON, || site.cluster.is_replica(owner));
    });
}

#[test]
fn a_fail_over_by_hand_in_a_cluster_under_load() {
    let mut site = plain();
    site.under_load("by-hand", 1, |site| {
        let owner = site.cluster.owner(slot(), 0).expect("an owner");
        let replica = site.cluster.addresses()[owner + 3];
        let ours = format!("{} -p {}", replica.ip(), replica.port());
        run_documented("redis-cli -h 10.0.0.4 -p 6379 CLUSTER FAILOVER", &[("10.0.0.4 -p 6379", ours)]);
        eventually("a master", SOON, || !site.cluster.is_replica(owner + 3));
    });
}

/// What docs/operations.md has an operator do: the command that begins so, with ours in the place of its addresses and names.
pub(crate) fn run_documented(begin: &str, ours: &[(&str, String)]) {
    let manual = std::fs::read_to_string(xtask::root().join("docs/operations.md")).expect("a manual");
    let at = manual.find(begin).unwrap_or_else(|| panic!("the manual has {begin}"));
    let mut command = String::new();
    for line in manual[at..].lines() {
        let (part, goes_on) = line.strip_suffix('\\').map_or((line, false), |part| (part, true));
        command += part;
        if !goes_on {
            break;
        }
    }
    for (theirs, ours) in ours {
        assert!(command.contains(theirs), "{command} has {theirs}");
        command = command.replace(theirs, ours);
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]);
    let (is_fine, said) = output(shell);
    assert!(is_fine && !said.contains("ERR"), "{command}: {said}");
}

#[test]
fn a_slot_that_moves_there_and_back_costs_one_epoch_each() {
    let mut site = plain();
    site.under_load("moved", 2, |site| {
        let owner = site.cluster.owner(slot(), 0).expect("an owner");
        let other = (owner + 1) % 3;
        site.cluster.move_slot(slot(), owner, other).expect("moved");
        std::thread::sleep(Duration::from_secs(3));
        site.cluster.move_slot(slot(), other, owner).expect("moved back");
    });
}

/// As long as the keys of a shard are on two nodes no script runs there: its views go to MySQL directly.
#[test]
fn a_slot_that_is_left_half_moved_keeps_nobody_from_counting() {
    let mut site = plain();
    site.under_load("half-moved", 1, |site| {
        let owner = site.cluster.owner(slot(), 0).expect("an owner");
        let other = (owner + 1) % 3;
        site.cluster.half_move_slot(slot(), owner, other).expect("half moved");
        std::thread::sleep(Duration::from_secs(4));
        let address = site.cluster.addresses()[owner].to_string();
        run_documented("redis-cli --cluster fix 10.0.0.1:6379", &[("10.0.0.1:6379", address)]);
        println!("the slot is at node {:?}, before at {owner}", site.cluster.owner(slot(), other));
    });
}

/// The list of producers has arrived elsewhere when all other keys are lost: what it says that Redis has is gone.
#[test]
fn of_a_slot_that_arrives_in_part_nothing_is_believed() {
    let mut site = plain();
    site.under_load("in-part", 2, |site| {
        let owner = site.cluster.owner(slot(), 0).expect("an owner");
        let other = (owner + 1) % 3;
        for flusher in 0..2 {
            site.running.stack.service(Role::Flusher, flusher).pause().expect("paused");
        }
        std::thread::sleep(Duration::from_millis(500)); // Views wait in the log.
        site.cluster.move_key(&ShardKeys::new(Shard(0)).producers, slot(), owner, other).expect("moved");
        site.cluster.node(owner).query(&["FLUSHALL"]).expect("emptied");
        site.cluster.move_slot(slot(), owner, other).expect("moved");
        for flusher in 0..2 {
            site.running.stack.service(Role::Flusher, flusher).resume().expect("resumed");
        }
    });
}

/// There a replica took over that had not got all of it yet, and nobody asked for the shard meanwhile: where the slot comes
/// back, in the same life of the server, it seems to be open.
#[test]
fn a_slot_that_comes_back_without_its_producers_is_opened_anew() {
    let mut site = plain();
    site.under_load("before", 0, |_| {});
    for service in site.running.stack.services() {
        service.pause().expect("paused");
    }
    let owner = site.cluster.owner(slot(), 0).expect("an owner");
    let (other, replica) = ((owner + 1) % 3, (owner + 1) % 3 + 3);
    let (meta, producers) = (ShardKeys::new(Shard(0)).meta, ShardKeys::new(Shard(0)).producers);
    let keys = site.cluster.node(owner).query(&["CLUSTER", "GETKEYSINSLOT", &slot().to_string(), "1000"]);
    for key in keys.expect("keys").iter().filter(|key| **key != producers) {
        site.cluster.move_key(key, slot(), owner, other).expect("moved");
    }
    eventually("the replica has it", SOON, || {
        let known = site.cluster.node(replica).query(&["CLUSTER", "COUNTKEYSINSLOT", &slot().to_string()]);
        let there = site.cluster.node(other).query(&["CLUSTER", "COUNTKEYSINSLOT", &slot().to_string()]);
        known.is_ok_and(|known| known != ["0"] && there.is_ok_and(|there| known == there))
    });
    // From here on its master does not let it in.
    site.cluster.node(replica).query(&["CONFIG", "SET", "masterauth", "wrong"]).expect("set");
    site.cluster.node(other).query(&["CLIENT", "KILL", "TYPE", "replica"]).expect("cut off");
    site.cluster.move_slot(slot(), owner, other).expect("moved");
    // A replica takes over what it knows to be its master's.
    eventually("the replica has heard", SOON, || site.cluster.owner(slot(), replica).is_ok_and(|now| now == other));
    site.cluster.node(other).kill().expect("kill");
    site.cluster.node(replica).query(&["CLUSTER", "FAILOVER", "TAKEOVER"]).expect("it takes over");
    eventually("all know it", SOON, || site.cluster.owner(slot(), owner).is_ok_and(|now| now == replica));
    site.cluster.move_slot(slot(), replica, owner).expect("moved back");
    let opened = site.cluster.node(owner).query(&["HGET", &meta, "incarnation"]).expect("an answer");
    let info = site.cluster.node(owner).query(&["INFO", "replication"]).expect("an answer").concat();
    assert!(info.contains(&opened.concat()), "it seems to be open: {opened:?} {info}");
    assert_eq!(site.cluster.node(owner).query(&["EXISTS", &producers]).expect("an answer"), ["0"]);
    site.cluster.node(other).restart().expect("restart");
    for service in site.running.stack.services() {
        service.resume().expect("resumed");
    }
    site.under_load("after", 1, |_| {});
}

#[test]
fn over_tls_and_with_users_a_cluster_is_followed_too() {
    let folder = tempfile::tempdir().expect("temporary folder");
    make_certificates(folder.path(), Cluster::ip());
    let sandbox = ClusterOptions {
        certificates: Some(folder.path().to_owned()),
        password: "of-their-own".into(),
        lines: vec![format!("user footfall on >{PASSWORD} {ACL}")],
        ..ClusterOptions::default()
    };
    let ca = folder.path().join("ca.pem").display().to_string();
    let mut site = start_site(&sandbox, &format!("rediss://footfall:{PASSWORD}@"), |options| {
        options.set("FOOTFALL_REDIS__CA", &ca);
    });
    site.under_load("tls", 1, |site| {
        let owner = site.cluster.owner(slot(), 0).expect("an owner");
        site.cluster.fail_over_to(owner + 3).expect("a fail-over");
    });
    // What is said where it is not so.
    let url = site.running.stack.env().into_iter().rfind(|(name, _)| name == "FOOTFALL_REDIS__URL").expect("set").1;
    for (url, says) in [
        (url.replace(PASSWORD, "wrong"), "refuses the user or the password of redis.url"),
        (format!("rediss://{}:61999", Cluster::ip()), "no node of the cluster has answered"),
    ] {
        let mut look = site.running.stack.tool();
        look.args(["quarantine", "list"]).env("FOOTFALL_REDIS__URL", &url);
        let (is_fine, said) = output(look);
        assert!(!is_fine && said.contains(says) && !said.contains(PASSWORD), "{url}: {said}");
    }
}
