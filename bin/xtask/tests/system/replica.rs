//! Lists from a replica: as old as the replica is, which they say, and nothing else changes by it.

use std::time::Duration;

use footfall_drill::stack::Role;
use footfall_sandbox::{MariaDb, MariaDbOptions};
use serde_json::Value;

use crate::common::{Set, eventually, get, own_address, post, start};

const PATIENCE: Duration = Duration::from_secs(40);

#[test]
fn a_replica_that_stands_still_is_behind_with_an_age() {
    let primary = own_address(61_307);
    let dir = tempfile::tempdir().expect("temporary folder");
    let options = MariaDbOptions {
        database: "footfall".into(),
        args: ["--server-id=2", "--read-only"].map(str::to_owned).into(),
        ..MariaDbOptions::default()
    };
    let replica = MariaDb::start(dir.path(), &options).expect("a replica");
    let running = start(|options| {
        options.dashboards = 1;
        options.set("FOOTFALL_DATABASE__READ_URL", &replica.url());
        options.set("FOOTFALL_READS__TTL_MS", "1");
        options.mariadb.args = vec![
            "--server-id=1".into(),
            "--log-bin=log".into(),
            "--binlog-format=ROW".into(),
            "--skip-networking=0".into(),
            format!("--bind-address={}", primary.ip()),
            format!("--port={}", primary.port()),
        ];
    });
    let mariadb = &running.stack.mariadb;
    mariadb.query("CREATE USER follower@'%'; GRANT REPLICATION SLAVE ON *.* TO follower@'%'").expect("a user");
    let (host, port) = (primary.ip(), primary.port());
    let follow = format!(
        "CHANGE MASTER TO MASTER_HOST = '{host}', MASTER_PORT = {port}, MASTER_USER = 'follower', \
         MASTER_LOG_FILE = 'log.000001', MASTER_LOG_POS = 4; START SLAVE"
    );
    replica.query(&follow).expect("it follows");

    let (ingest, dashboard) = (running.ingest(), running.stack.url(Role::Dashboard, 0));
    let read = |article: &str| {
        assert_eq!(
            post(&format!("{ingest}/v1/views"), &format!(r#"{{"article":"{article}","user":"u"}}"#)).status,
            204
        );
    };
    let list = || -> Option<Value> {
        let answer = get(&format!("{dashboard}/v1/articles"));
        (answer.status == 200).then(|| answer.json())
    };
    let stats = || get(&format!("{dashboard}/v1/stats")).json();
    let has = |list: &Value, article: &str| {
        list["articles"].as_array().expect("a list").iter().any(|known| known["article"] == article)
    };
    read("before");
    eventually("the replica has it", PATIENCE, || {
        list().is_some_and(|list| has(&list, "before") && list["degraded"].is_null() && list["as_of"].is_string())
    });

    // Its SQL thread stands; MySQL goes on.
    replica.query("STOP SLAVE SQL_THREAD").expect("it stands");
    let stands_at = list().expect("a list")["as_of"].as_str().expect("a time").to_owned();
    read("after");
    eventually("the live numbers have it", PATIENCE, || stats()["views"] == 2 && stats()["pending_views"] == 0);
    let mut behind = Value::Null;
    eventually("the list says how old it is", PATIENCE, || {
        behind = list().expect("a list");
        behind["degraded"]
            .as_str()
            .is_some_and(|why| why.contains("may not be in the replica at database.read_url yet"))
    });
    println!("{behind}");
    assert!(has(&behind, "before") && !has(&behind, "after"), "{behind}");
    let as_of = behind["as_of"].as_str().expect("it is known").to_owned();
    assert!(as_of >= stands_at && behind["read_at"].as_str().expect("a time") > as_of.as_str(), "{behind}");
    let stats_now = stats();
    assert!(stats_now["stale"].is_null() && stats_now["mysql"]["state"] == "ok", "{stats_now}");

    replica.query("START SLAVE SQL_THREAD").expect("it goes on");
    eventually("the list is whole again", PATIENCE, || {
        list().is_some_and(|list| has(&list, "after") && list["degraded"].is_null())
    });
}
