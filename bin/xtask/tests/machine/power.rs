//! What a power cut costs, by `ingest.durability`: of the machine that has all of it, and of that of Redis alone.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use footfall_drill::stack::{Role, Stack, StackOptions};

use crate::site::{Load, RATE, Site, binaries, found, say};

/// What Redis has not brought to its disk with `appendfsync everysec`: a second, and the time that a sync takes.
const LOST_MS_MAX: u64 = 3_000;

/// What the runbook says besides, for a Redis that systemd starts.
const STOP: &str = "systemctl stop redis-server";
const START: &str = "systemctl reset-failed redis-server && systemctl start redis-server";

fn cuts() -> u32 {
    std::env::var("FOOTFALL_TEST_CUTS").map_or(10, |cuts| cuts.parse().expect("a number"))
}

/// Waits for some seconds, under load, and says how long.
fn wait_for_the_moment(name: &str) -> Duration {
    let moment = Duration::from_millis(2_000 + RandomState::new().hash_one(name) % 8_000);
    std::thread::sleep(moment);
    moment
}

/// Under load for some seconds, then without power. Answers what became of the views that were acknowledged, as `verify`
/// says when all is up again: missing, extra.
fn cut(site: &mut Site, name: &str) -> (u64, u64) {
    let load = site.load(name);
    let moment = wait_for_the_moment(name);
    site.machine.cut().expect("cut");
    let (ledger, acknowledged) = load.finish();
    site.boot();
    let mended = mend_redis(site);
    let started = Instant::now();
    site.await_ready();
    let ready = started.elapsed();
    let (missing, extra) = site.verify(&ledger);
    say(&format!(
        "{name}: cut after {moment:?}, {acknowledged} acknowledged, {missing} missing ({} ms), {extra} extra; Redis {}; ready \
         after {:.0} s",
        missing * 1_000 / RATE,
        if mended { "had to be mended" } else { "started by itself" },
        ready.as_secs_f64(),
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

/// Written directly before a cut.
const MARK: &str = "redis-cli SET mark";

/// All the rest is elsewhere, and lives on: what Redis forgets, ingest sends again.
#[test]
#[ignore = "takes minutes: the machine is booted after each cut"]
fn a_power_cut_of_the_machine_of_redis_costs_nothing() {
    let Some(mut site) = Site::bare() else { return };
    // Nothing but the kernel brings it to the disk, so that each cut costs Redis what came shortly before.
    site.run(
        "systemctl stop mariadb
         printf '%s\n' 'unixsocket /run/redis/redis.sock' 'unixsocketperm 777' 'appendfsync no' >> /etc/redis/redis.conf
         sync
         systemctl restart redis-server",
    );
    let socket = site.folder.path().join("redis.sock");
    for durability in ["power", "process"] {
        point(&socket, &site);
        site.run("redis-cli FLUSHALL; sync"); // Of the stack before.
        let mut options = StackOptions::new(site.folder.path().join(durability), binaries());
        options.ingests = 2;
        for (name, value) in
            [("REDIS__URL", format!("unix://{}", socket.display())), ("INGEST__DURABILITY", durability.to_owned())]
        {
            options.env.push((format!("FOOTFALL_{name}"), value));
        }
        let mut stack = Stack::start(options).expect("a stack");
        let urls = [0, 1].map(|index| stack.url(Role::Ingest, index)).join(",");
        for number in 1..=cuts() {
            let name = format!("redis-{durability}-{number}");
            let load = Load::start(stack.tool(), &urls, RATE, &site.ledger(&name));
            let moment = wait_for_the_moment(&name);
            site.run(&format!("{MARK} {name}"));
            site.machine.cut().expect("cut");
            site.boot();
            let mended = mend_redis(&site);
            point(&socket, &site);
            let started = Instant::now();
            for service in stack.services() {
                service.wait_ready(Duration::from_secs(60)).expect("it is well again");
            }
            let ready = started.elapsed();
            assert_ne!(site.run("redis-cli GET mark").trim(), name, "Redis has lost nothing, so this says nothing");
            let (ledger, acknowledged) = load.finish();
            let mut verify = stack.tool();
            let said =
                verify.args(["verify", "--wait", "20", "--ledger"]).arg(&ledger).output().expect("it runs").stdout;
            let (missing, extra) = found(&String::from_utf8_lossy(&said));
            say(&format!(
                "{name}: cut after {moment:?}, {acknowledged} acknowledged, {missing} missing, {extra} extra; Redis {}; ready \
                 after {:.0} s",
                if mended { "had to be mended" } else { "started by itself" },
                ready.as_secs_f64(),
            ));
            assert_eq!((missing, extra), (0, 0), "missing, extra");
        }
        stack.stop().expect("it ends in order");
    }
}

/// Makes the machine's Redis be found at a place that stays.
fn point(socket: &Path, site: &Site) {
    let _ = fs::remove_file(socket); // Of the boot before.
    symlink(site.machine.path("/run/redis/redis.sock").expect("it runs"), socket).expect("a link");
}
