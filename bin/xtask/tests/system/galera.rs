//! MySQL as a Galera cluster of three: set up from all of them at once, written to directly at two of them, read at one that
//! is behind, and with a node killed.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use footfall_drill::stack::Role;
use footfall_sandbox::Galera;
use footfall_shared::mysql::{Fences, Store};
use footfall_shared::protocol::Shard;
use footfall_shared::service::config;
use xtask::unpacked::GALERA;

use crate::common::{Running, Set, eventually, post, start};

const PATIENCE: Duration = Duration::from_secs(30);
const NODES: usize = 3;
const DATABASE_URL: &str = "FOOTFALL_DATABASE__URL";

/// Galera's library. Without it, and where its package cannot be had, these tests are skipped.
fn library() -> Option<PathBuf> {
    GALERA.file("/usr/lib/galera/libgalera_smm.so").inspect_err(|error| println!("skipped: {error:#}")).ok()
}

/// A stack whose database is the first node of a cluster; its own MariaDB stands by.
fn begin(ingests: usize) -> Option<(Galera, Running)> {
    let library = library()?;
    let mut galera = None;
    // Within the turn: one cluster at a time.
    let running = start(|options| {
        let started = Instant::now();
        let cluster = Galera::start(&options.dir.join("galera"), &library, NODES, "footfall").expect("a cluster");
        println!("a cluster of {NODES} after {:?}", started.elapsed());
        (options.ingests, options.flushers) = (ingests, ingests.min(1));
        options.set(DATABASE_URL, &cluster.url(0));
        galera = Some(cluster);
    });
    Some((galera?, running))
}

fn log(running: &Running, name: &str) -> String {
    std::fs::read_to_string(running.path(&format!("logs/{name}.log"))).expect("a log")
}

#[test]
fn of_inits_at_three_nodes_one_works_and_all_end_soon() {
    let Some((mut galera, running)) = begin(0) else { return };
    for round in 0..10 {
        let database = format!("at_once{round}");
        galera.node(round % NODES).query(&format!("CREATE DATABASE {database}")).expect("created");
        let begun = Instant::now();
        let start = |node: usize| {
            let mut command: Command = running.stack.tool();
            command.arg("init").env(DATABASE_URL, galera.url(node).replace("/footfall?", &format!("/{database}?")));
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("it starts")
        };
        let inits: Vec<Child> = (0..NODES).map(start).collect();
        for init in inits {
            let output = init.wait_with_output().expect("it ends");
            assert!(output.status.success(), "round {round}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let took = begun.elapsed();
        println!("round {round}: {took:?}");
        assert!(took < Duration::from_secs(25), "round {round}: {took:?}");
        for node in 0..NODES {
            let sql = format!("SELECT version, shards FROM {database}.footfall_schema_version");
            assert_eq!(galera.node(node).query(&sql).expect("a version").concat(), ["4", "1"]);
        }
    }
    galera.wait_whole().expect("no node stands");
}

#[test]
fn two_nodes_take_views_directly_and_a_killed_one_costs_none() {
    let Some((mut galera, mut running)) = begin(1) else { return };
    running.stack.set(DATABASE_URL, &galera.url(1));
    running.stack.add(Role::Ingest).expect("an ingest at the second node");
    for (name, node) in [("flusher", 0), ("ingest", 0), ("ingest-1", 1)] {
        let named = format!("a Galera cluster (sandbox, node node{node})");
        assert!(log(&running, name).contains(&named), "{name} does not name its cluster");
    }

    // Redis is away: both write to the same rows, at two nodes.
    running.stack.redis.kill().expect("killed");
    for ingest in 0..2 {
        let url = running.stack.url(Role::Ingest, ingest);
        eventually("it counts directly", PATIENCE, || {
            post(&format!("{url}/v1/views"), r#"{"article":"warm","user":"u"}"#).status == 204
        });
    }
    let arguments = "--views 4000 --rate 500 --articles 20 --users 200 --connections 64";
    running.load("direct.tsv", arguments).finish();
    let mut repeated = 0.0;
    for (ingest, name) in ["ingest", "ingest-1"].into_iter().enumerate() {
        repeated += running.metric(Role::Ingest, ingest, "footfall_transactions_repeated_total");
        let log = log(&running, name);
        let outage = log.lines().find(|line| line.contains("MySQL are away") && line.contains("1213"));
        assert_eq!(outage, None, "{name} takes a conflict for an outage");
    }
    println!("{repeated} transactions were done again");
    assert!(repeated > 0.0, "the nodes were never in each other's way: this shows nothing");
    running.stack.redis.restart().expect("restarted");

    // A node dies, and then the one that everybody uses.
    let load = running.load("killed.tsv", "--views 10000 --rate 400 --articles 50 --users 500 --connections 16");
    std::thread::sleep(Duration::from_secs(2));
    galera.kill(2).expect("killed");
    std::thread::sleep(Duration::from_secs(6));
    galera.rejoin(2).expect("rejoined");
    galera.kill(0).expect("killed");
    std::thread::sleep(Duration::from_secs(6));
    galera.rejoin(0).expect("rejoined");
    load.finish();
    eventually("all is flushed", PATIENCE, || running.metric(Role::Flusher, 0, "footfall_pending_views") == 0.0);
    running.assert_verified(&["direct.tsv", "killed.tsv"]);
    let sum = |galera: &mut Galera, node: usize| {
        galera.node(node).query("SELECT SUM(views), SUM(readers) FROM footfall_articles").expect("sums").concat()
    };
    assert_eq!(sum(&mut galera, 0), sum(&mut galera, 1));
    assert_eq!(sum(&mut galera, 0), sum(&mut galera, 2));
    assert!(!log(&running, "flusher").contains("older"), "no node was taken for an older MySQL");
}

#[test]
fn a_node_that_is_behind_is_waited_for() {
    let Some((mut galera, running)) = begin(0) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let url = galera.url(1).parse().expect("a URL");
    let database = config::Database { url, timeout: Duration::from_secs(10), ..config::Database::default() };
    let store = runtime.block_on(Store::new(&database)).expect("a URL");
    let position = || runtime.block_on(store.fence(Shard(0))).expect("a fence").position;
    assert_eq!(position(), 0);
    let mut behind = Command::new("mariadb")
        .args(["--no-defaults", "--user=root", "--execute=FLUSH TABLES WITH READ LOCK; SELECT SLEEP(3)"])
        .arg(format!("--socket={}", galera.node(1).socket().display()))
        .stdout(Stdio::null())
        .spawn()
        .expect("a client");
    let state =
        "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'wsrep_local_state_comment'";
    eventually("the node stands", PATIENCE, || {
        galera.node(1).query(state).is_ok_and(|rows| rows.concat() != ["Synced"])
    });
    galera.node(0).query("UPDATE footfall_shard_fence SET position = 7").expect("written");
    let stale = galera.node(1).query("SELECT position FROM footfall_shard_fence").expect("a row").concat();
    assert_eq!(stale, ["0"], "it is not behind: this shows nothing");
    assert_eq!(position(), 7, "a position of before");
    behind.wait().expect("wait");
    drop(running);
}
