//! Redis with Sentinels: whatever becomes of the master, every view is counted once, and a fail-over costs one epoch.

use std::process::Command;
use std::time::Duration;

use crate::common::{Running, Set, eventually, output, post, start};
use crate::stores::{ACL, PASSWORD, make_certificates};
use crate::under_load::{self, SOON, Site as _};
use footfall_drill::stack::{Role, StackOptions};
use footfall_sandbox::{Sentinels, SentinelsOptions};
use tempfile::TempDir;

const SHARDS: u64 = 2;

/// Dropped in this order.
pub(crate) struct Site {
    pub(crate) running: Running,
    pub(crate) sentinels: Sentinels,
    _dir: TempDir,
}

/// All services, each finding its Redis through Sentinels.
pub(crate) fn start_site(sandbox: &SentinelsOptions, scheme: &str, change: impl FnOnce(&mut StackOptions)) -> Site {
    let dir = tempfile::tempdir().expect("temporary folder");
    let sentinels = Sentinels::start(dir.path(), sandbox).expect("Sentinels");
    let urls: Vec<String> = sentinels.sentinels().iter().map(|address| format!("{scheme}{address}")).collect();
    let running = start(|options| {
        (options.ingests, options.flushers, options.dashboards) = (2, 2, 1);
        options.set("FOOTFALL_SHARDS", &SHARDS.to_string());
        options.set("FOOTFALL_REDIS__URL", &format!("{scheme}{}/0", Sentinels::NAME));
        options.set("FOOTFALL_REDIS__SENTINELS", &urls.join(","));
        change(options);
    });
    Site { running, sentinels, _dir: dir }
}

impl under_load::Site for Site {
    fn running(&mut self) -> &mut Running {
        &mut self.running
    }
}

impl Site {
    fn is_replica(&mut self, server: usize) -> bool {
        let role = self.sentinels.server(server).query(&["ROLE"]);
        role.is_ok_and(|said| said.first().is_some_and(|role| role == "slave"))
    }
}

#[test]
fn a_master_that_is_killed_returns_as_a_replica_and_is_left_alone() {
    let mut site = start_site(&SentinelsOptions::default(), "redis://", |_| {});
    site.under_load("killed", 1, |site| {
        site.sentinels.server(0).kill().expect("kill");
        eventually("another master", SOON, || site.sentinels.master().is_ok_and(|master| master != 0));
        site.sentinels.server(0).restart().expect("restart");
        eventually("a replica", SOON, || site.is_replica(0));
    });
    // Nobody has taken it for a Redis of ours again.
    let moves = site.running.metric(Role::Ingest, 0, "footfall_redis_moves_total");
    assert!((moves - 1.0).abs() < f64::EPSILON, "{moves} moves");
}

#[test]
fn a_master_that_hangs_is_left_and_not_returned_to() {
    let mut site = start_site(&SentinelsOptions::default(), "redis://", |_| {});
    site.under_load("hung", 1, |site| {
        site.sentinels.server(0).pause().expect("pause");
        eventually("another master", SOON, || site.sentinels.master().is_ok_and(|master| master != 0));
        std::thread::sleep(Duration::from_secs(3));
        // It takes itself for the master until a Sentinel tells it.
        site.sentinels.server(0).resume().expect("resume");
        eventually("a replica", SOON, || site.is_replica(0));
    });
}

#[test]
fn a_fail_over_by_hand_under_load() {
    let mut site = start_site(&SentinelsOptions::default(), "redis://", |_| {});
    site.under_load("by-hand", 1, |site| {
        let said = by_hand(&site.sentinels);
        let is_another = |said: &String| said.contains(&format!("\n{}\n", Sentinels::ip()));
        assert!(said[0].contains("OK") && said[1..].iter().all(is_another), "{said:?}");
        eventually("another master", SOON, || site.sentinels.master().is_ok_and(|master| master != 0));
        eventually("a replica", SOON, || site.is_replica(0));
    });
}

/// What docs/operations.md has an operator do, at the first Sentinel; answers what is said.
fn by_hand(sentinels: &Sentinels) -> Vec<String> {
    let manual = std::fs::read_to_string(xtask::root().join("docs/operations.md")).expect("a manual");
    let first = sentinels.sentinels()[0];
    let commands = manual.lines().map(str::trim).filter(|line| line.starts_with("redis-cli -h 10.0.0.2 -p 26379 "));
    let commands = commands.map(|line| {
        let there = format!("-h {} -p {}", first.ip(), first.port());
        line.replace("-h 10.0.0.2 -p 26379", &there).replace("footfall", Sentinels::NAME)
    });
    let run = |line: String| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]);
        let (is_fine, said) = output(shell);
        assert!(is_fine, "{line}: {said}");
        format!("\n{said}")
    };
    let said: Vec<String> = commands.map(run).collect();
    assert_eq!(said.len(), 2, "the manual has both commands");
    said
}

/// What has nothing to do learns of it all the same: the first view afterwards is taken as if nothing had been.
#[test]
fn an_idle_ingest_follows_too() {
    let mut site = start_site(&SentinelsOptions::default(), "redis://", |_| {});
    let views = format!("{}/v1/views", site.running.ingest());
    assert_eq!(post(&views, r#"{"article":"a","user":"u"}"#).status, 204);
    site.sentinels.fail_over().expect("a fail-over");
    eventually("a replica", SOON, || site.is_replica(0));
    std::thread::sleep(Duration::from_secs(2));
    let answer = post(&views, r#"{"article":"a","user":"v"}"#);
    assert_eq!((answer.status, answer.header("Footfall-Degraded")), (204, None));
    let stored = "SELECT views FROM article_counts WHERE article = 'a'";
    eventually("both are stored", SOON, || site.running.sql(stored).as_deref() == Some("2"));
    assert!(site.epochs() <= 2, "{} epochs", site.epochs());
}

/// Two of three Sentinels are enough, and none is needed as long as the master stays.
#[test]
fn sentinels_that_are_away_keep_nobody_from_counting() {
    let mut site = start_site(&SentinelsOptions::default(), "redis://", |_| {});
    site.under_load("two-sentinels", 1, |site| {
        site.sentinels.sentinel(2).kill().expect("kill");
        site.sentinels.server(0).kill().expect("kill");
        eventually("another master", SOON, || site.sentinels.master().is_ok_and(|master| master != 0));
    });
    site.under_load("no-sentinels", 1, |site| {
        for index in 0..2 {
            site.sentinels.sentinel(index).pause().expect("pause");
        }
        std::thread::sleep(Duration::from_secs(3));
        // Alone, it names the one that was killed: that is what it has written down.
        site.sentinels.sentinel(2).restart().expect("restart");
        std::thread::sleep(Duration::from_secs(3));
        for index in 0..2 {
            site.sentinels.sentinel(index).resume().expect("resume");
        }
    });
    // The one that was not there for the fail-over has led nobody back.
    let moves = site.running.metric(Role::Ingest, 0, "footfall_redis_moves_total");
    assert!((moves - 1.0).abs() < f64::EPSILON, "{moves} moves");
}

/// What a user of a Sentinel needs.
const SENTINEL_ACL: &str = "+sentinel|master +sentinel|get-master-addr-by-name";

#[test]
fn over_tls_and_with_users_they_are_followed_too() {
    let folder = tempfile::tempdir().expect("temporary folder");
    make_certificates(folder.path(), Sentinels::ip());
    let sandbox = SentinelsOptions {
        certificates: Some(folder.path().to_owned()),
        password: "of-their-own".into(),
        server_lines: vec![format!("user footfall on >{PASSWORD} {ACL}")],
        sentinel_lines: vec![format!("user footfall on >{PASSWORD} {SENTINEL_ACL}")],
        ..SentinelsOptions::default()
    };
    let ca = folder.path().join("ca.pem").display().to_string();
    let mut site = start_site(&sandbox, &format!("rediss://footfall:{PASSWORD}@"), |options| {
        options.set("FOOTFALL_REDIS__CA", &ca);
    });
    site.under_load("tls", 1, |site| site.sentinels.fail_over().expect("a fail-over"));
    let manual = std::fs::read_to_string(xtask::root().join("docs/operations.md")).expect("a manual");
    assert!(manual.contains(SENTINEL_ACL), "it says what is enough");

    // What is said where that is not so.
    let setting = |name: &str| site.running.stack.env().into_iter().rfind(|(known, _)| known == name).expect("set").1;
    let (url, sentinels) = (setting("FOOTFALL_REDIS__URL"), setting("FOOTFALL_REDIS__SENTINELS"));
    let nothing = Sentinels::ip();
    for (name, value, says) in [
        ("FOOTFALL_REDIS__URL", url.replace(Sentinels::NAME, "another"), "No such master"),
        ("FOOTFALL_REDIS__URL", url.replace(PASSWORD, "wrong"), "refuses the user or the password of redis.url"),
        ("FOOTFALL_REDIS__SENTINELS", sentinels.replace(PASSWORD, "wrong"), "the password of redis.sentinels"),
        ("FOOTFALL_REDIS__SENTINELS", format!("rediss://{nothing}:61999"), "no Sentinel has named the master sandbox"),
    ] {
        let mut look = site.running.stack.tool();
        look.args(["quarantine", "list"]).env(name, &value);
        let (is_fine, said) = output(look);
        assert!(!is_fine && said.contains(says) && !said.contains(PASSWORD), "{name}={value}: {said}");
    }
}
