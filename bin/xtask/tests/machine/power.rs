//! What a power cut costs, by `ingest.durability`: Redis, MariaDB and all services are on the machine that is cut.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::site::{RATE, Site, say};

/// What Redis has not brought to its disk with `appendfsync everysec`: a second, and the time that a sync takes.
const LOST_MS_MAX: u64 = 3_000;

/// What the runbook says besides, for a Redis that systemd starts.
const STOP: &str = "systemctl stop redis-server";
const START: &str = "systemctl reset-failed redis-server && systemctl start redis-server";

fn cuts() -> u32 {
    std::env::var("FOOTFALL_TEST_CUTS").map_or(10, |cuts| cuts.parse().expect("a number"))
}

/// Under load for some seconds, then without power. Answers what became of the views that were acknowledged, as `verify`
/// says when all is up again: missing, extra.
fn cut(site: &mut Site, name: &str) -> (u64, u64) {
    let load = site.load(name);
    let moment = Duration::from_millis(2_000 + RandomState::new().hash_one(name) % 8_000);
    std::thread::sleep(moment);
    site.machine.cut().expect("cut");
    let (ledger, acknowledged) = load.finish();
    site.boot();
    let mended = mend_redis(site);
    let started = Instant::now();
    site.await_ready();
    let (missing, extra) = site.verify(&ledger);
    say(&format!(
        "{name}: cut after {moment:?}, {acknowledged} acknowledged, {missing} missing ({} ms), {extra} extra; Redis {}; ready \
         after {:.0} s",
        missing * 1_000 / RATE,
        if mended { "had to be mended" } else { "started by itself" },
        started.elapsed().as_secs_f64(),
    ));
    (missing, extra)
}

/// By the runbook, unless Redis has started; answers whether it was needed.
fn mend_redis(site: &Site) -> bool {
    if site.machine.run("systemctl is-active redis-server").is_ok() {
        return false;
    }
    let said = site.run("tail -n 20 /var/log/redis/redis-server.log");
    assert!(said.contains("Bad file format reading the append only file"), "{said}");
    let commands = xtask::commands_of_runbook("After a power cut");
    // Who runs it answers the one question that it asks.
    let commands = commands.replace("redis-check-aof", "echo y | redis-check-aof");
    site.run(&format!(
        "{STOP}
         cd /var/lib/redis; rm -rf appendonlydir.kept
         runuser -u redis -- sh -euc '{commands}' >&2
         {START}"
    ));
    true
}

#[test]
#[ignore = "takes minutes: the machine is booted after each cut"]
fn a_power_cut_costs_what_is_promised() {
    let Some(mut site) = Site::new() else { return };
    let runbook = fs::read_to_string(xtask::root().join("docs/operations.md")).expect("the runbook");
    assert!(runbook.contains(STOP) && runbook.contains(START), "what is done here is what it says");
    for number in 1..=cuts() {
        for durability in ["power", "process"] {
            site.run(&format!(
                "sed -i 's/^durability = .*/durability = \"{durability}\"/' /etc/footfall/footfall.toml
                 systemctl restart footfall-ingest"
            ));
            site.await_ready();
            let (missing, extra) = cut(&mut site, &format!("{durability}-{number}"));
            assert_eq!(extra, 0, "views are doubled");
            let allowed = if durability == "power" { 0 } else { RATE * LOST_MS_MAX / 1_000 };
            assert!(missing <= allowed, "{missing} are lost, and {allowed} may be");
        }
    }
}
