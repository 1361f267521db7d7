//! MySQL as a Galera cluster of three: set up from all of them at once, and read at a node that is behind.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use footfall_sandbox::Galera;
use footfall_shared::mysql::{Fences, Store};
use footfall_shared::protocol::Shard;
use footfall_shared::service::config;
use xtask::unpacked::GALERA;

use crate::common::{Running, Set, eventually, start};

const PATIENCE: Duration = Duration::from_secs(30);
const NODES: usize = 3;
const DATABASE_URL: &str = "FOOTFALL_DATABASE__URL";

/// Galera's library. Without it, and where its package cannot be had, these tests are skipped.
fn library() -> Option<PathBuf> {
    GALERA.file("/usr/lib/galera/libgalera_smm.so").inspect_err(|error| println!("skipped: {error:#}")).ok()
}

/// A stack whose database is the first node of a cluster; its own MariaDB stands by.
fn begin() -> Option<(Galera, Running)> {
    let library = library()?;
    let mut galera = None;
    // Within the turn: one cluster at a time.
    let running = start(|options| {
        let started = Instant::now();
        let cluster = Galera::start(&options.dir.join("galera"), &library, NODES, "footfall").expect("a cluster");
        println!("a cluster of {NODES} after {:?}", started.elapsed());
        (options.ingests, options.flushers) = (0, 0);
        options.set(DATABASE_URL, &cluster.url(0));
        galera = Some(cluster);
    });
    Some((galera?, running))
}

#[test]
fn of_inits_at_three_nodes_one_works_and_all_end_soon() {
    let Some((mut galera, running)) = begin() else { return };
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
fn a_node_that_is_behind_is_waited_for() {
    let Some((mut galera, running)) = begin() else { return };
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
