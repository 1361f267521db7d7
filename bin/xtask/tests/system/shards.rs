//! Several Redis servers, each with some of the shards.

use std::time::Duration;

use crate::common::{Set, eventually, get, output, post, start};
use footfall_drill::stack::Role;
use footfall_sandbox::{Redis, RedisOptions};

const SERVERS: usize = 3;
const SHARDS: usize = 4;

#[test]
fn a_server_that_is_killed_leaves_the_shards_of_the_others_alone() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut servers: Vec<Redis> = (0..SERVERS)
        .map(|index| Redis::start(&dir.path().join(index.to_string()), &RedisOptions::default()).expect("Redis"))
        .collect();
    let urls: Vec<String> = servers.iter().map(Redis::url).collect();
    let mut running = start(|options| {
        (options.ingests, options.dashboards) = (2, 1);
        options.set("FOOTFALL_SHARDS", &SHARDS.to_string());
        options.set("FOOTFALL_REDIS__URL", &urls.join(","));
    });
    let load = running.load("ledger.tsv", "--views 20000 --rate 2500 --articles 500 --users 5000 --connections 32");
    std::thread::sleep(Duration::from_secs(2));
    servers[1].kill().expect("kill");
    std::thread::sleep(Duration::from_secs(2));
    servers[1].restart().expect("restart");
    load.finish();
    running.assert_verified(&["ledger.tsv"]);
    let mut epochs = |shard: usize| {
        running.sql(&format!("SELECT epoch FROM footfall_shard_fence WHERE shard = {shard}")).expect("an epoch")
    };
    assert_eq!(std::array::from_fn::<_, SHARDS, _>(&mut epochs), ["1", "2", "1", "1"], "shard 1 alone was there");

    // Each has its own, the first one has what belongs to no shard, and whoever watches sees all of it.
    let keys = |server: &Redis, pattern: &str| server.query(&["KEYS", pattern]).expect("keys").len();
    for (server, shards) in [(0, vec![0, 3]), (1, vec![1]), (2, vec![2])] {
        let metas = (0..SHARDS).filter(|shard| keys(&servers[server], &format!("footfall:{{{shard}}}:meta")) == 1);
        assert_eq!(metas.collect::<Vec<_>>(), shards, "server {server}");
        assert_eq!(keys(&servers[server], "footfall:presence"), usize::from(server == 0), "server {server}");
    }
    let stats = format!("{}/v1/stats", running.stack.url(Role::Dashboard, 0));
    eventually("a dashboard without errors", Duration::from_secs(20), || {
        let stats = get(&stats).json();
        stats["conservation"]["unaccounted"] == 0 && stats["conservation"]["stored"] == 20_000
    });
    assert_eq!(post(&format!("{}/v1/views", running.ingest()), r#"{"article":"a","user":"u"}"#).status, 204);

    running.stack.stop().expect("stopped");
    running.stack.mariadb.restart().expect("restart");
    let mut clean = running.stack.tool();
    clean.args(["clean", "--yes"]);
    let (is_fine, said) = output(clean);
    assert!(is_fine, "{said}");
    assert_eq!(servers.iter().map(|server| keys(server, "*")).sum::<usize>(), 0, "{said}");
}
