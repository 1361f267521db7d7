//! Redis with Sentinels: whatever becomes of the master, every view is counted once, and a fail-over costs one epoch.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Over, Running, Set, eventually, get, output, post, start};
use crate::stores::{ACL, PASSWORD, make_certificates};
use footfall_drill::stack::{Role, StackOptions};
use footfall_sandbox::{Sentinels, SentinelsOptions};
use tempfile::TempDir;

const SHARDS: u64 = 2;
const SOON: Duration = Duration::from_secs(30);

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

impl Site {
    /// The epoch of each shard together: each begins with 1.
    fn epochs(&mut self) -> u64 {
        let sum = self.running.sql("SELECT SUM(epoch) FROM footfall_shard_fence").expect("a sum");
        sum.parse().expect("a number")
    }

    fn is_replica(&mut self, server: usize) -> bool {
        let role = self.sentinels.server(server).query(&["ROLE"]);
        role.is_ok_and(|said| said.first().is_some_and(|role| role == "slave"))
    }

    /// Something happens to the master under load. Every view is counted once, each of so many fail-overs has cost each
    /// shard one epoch at most, and whoever watches sees everything.
    fn under_load(&mut self, name: &str, fail_overs: u64, fault: impl FnOnce(&mut Self)) {
        let ledger = format!("{name}.tsv");
        let load = self.running.load(&ledger, "--views 24000 --rate 2000 --articles 500 --users 5000 --connections 32");
        let ready = (0..2).map(|index| format!("{}/readyz", self.running.stack.url(Role::Ingest, index)));
        let ready: Vec<String> = ready.collect();
        let is_over = AtomicBool::new(false);
        let (summary, degraded) = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut degraded = Duration::ZERO;
                let mut last = Instant::now();
                while !is_over.load(Ordering::Relaxed) {
                    let is_degraded = ready.iter().any(|url| {
                        let answer = get(url);
                        assert_eq!(answer.status, 200, "{}", answer.body);
                        answer.body.contains("degraded") || answer.body.contains("critical")
                    });
                    let now = Instant::now();
                    degraded += if is_degraded { now - last } else { Duration::ZERO };
                    last = now;
                    std::thread::sleep(Duration::from_millis(20));
                }
                degraded
            });
            let summary = {
                let _over = Over(&is_over);
                std::thread::sleep(Duration::from_secs(2));
                fault(self);
                load.finish()
            };
            (summary, watch.join().expect("it watches"))
        });
        println!("{name}: degraded for {degraded:?}\n{summary}");
        self.running.assert_verified(&[&ledger]);
        let epochs = self.epochs();
        assert!(epochs <= SHARDS * (1 + fail_overs), "{epochs} epochs begun for {fail_overs} fail-overs");
        let stats = format!("{}/v1/stats", self.running.stack.url(Role::Dashboard, 0));
        eventually("a dashboard without errors", SOON, || {
            let stats = get(&stats).json();
            stats["conservation"]["unaccounted"] == 0 && stats["conservation"]["pending"] == 0
        });
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
    assert!(site.epochs() <= SHARDS * 2, "{} epochs", site.epochs());
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
