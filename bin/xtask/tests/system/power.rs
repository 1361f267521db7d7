//! After a power cut: Redis's file ends in zeros, so that it does not start; it is mended as the runbook says.
//!
//! The machine itself is cut off in `tests/machine`, where that can be had; this one runs everywhere.

use std::process::Command;
use std::time::Duration;

use footfall_drill::stack::Role;

use crate::common::{Set, eventually, get, start};

#[test]
fn a_redis_that_does_not_start_after_a_power_cut_is_mended_as_the_runbook_says() {
    let mut running = start(|options| options.set("FOOTFALL_INGEST__DURABILITY", "power"));
    let ledger = "power.tsv";
    let load = running.load(ledger, "--views 6000 --rate 2000 --articles 200 --users 2000 --connections 64");
    std::thread::sleep(Duration::from_millis(1_500));
    // All of it at once, in the midst of the load.
    for (role, index) in [(Role::Ingest, 0), (Role::Flusher, 0)] {
        running.stack.service(role, index).kill().expect("killed");
    }
    running.stack.redis.kill().expect("killed");
    running.stack.redis.blank_aof(4_096).expect("blanked");
    let error = running.stack.redis.restart().expect_err("its file is damaged").to_string();
    assert!(error.contains("Bad file format reading the append only file"), "{error}");

    // Meanwhile everything counts without it.
    for (role, index) in [(Role::Ingest, 0), (Role::Flusher, 0)] {
        running.stack.service(role, index).restart().expect("started");
    }
    let ready = format!("{}/readyz", running.ingest());
    eventually("it counts without Redis", Duration::from_secs(10), || get(&ready).body.contains("degraded"));
    println!("{}", load.finish());

    // Who runs it answers the one question that it asks.
    let mended = Command::new("sh")
        .args([
            "-euc",
            &xtask::commands_of_runbook("After a power cut").replace("redis-check-aof", "echo y | redis-check-aof"),
        ])
        .current_dir(running.path("redis/data"))
        .output()
        .expect("a shell");
    assert!(mended.status.success(), "{}", String::from_utf8_lossy(&mended.stdout));
    running.stack.redis.restart().expect("it starts again");
    eventually("all is well again", Duration::from_secs(20), || {
        let answer = get(&ready);
        answer.status == 200 && !answer.body.contains("degraded")
    });
    running.assert_verified(&[ledger]);
}
