//! What the flusher tells systemd: that it is ready, and that the loop that flushes goes on. Outages do not stop that.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use footfall_drill::stack::Role;

use crate::common::{Running, Set, eventually, get, post, start};

/// A stack that tells its state to the socket, as it would tell systemd.
fn start_notified(poll_ms: &str) -> (Running, UnixDatagram) {
    let mut socket = None;
    let running = start(|options| {
        let path = options.dir.join("notify");
        socket = Some(UnixDatagram::bind(&path).expect("a socket"));
        options.set("NOTIFY_SOCKET", &path.display().to_string());
        options.set("FOOTFALL_FLUSHER__POLL_MS", poll_ms);
        options.set("FOOTFALL_REDIS__TIMEOUT_MS", "1000");
        options.set("FOOTFALL_DATABASE__TIMEOUT_MS", "1000");
    });
    (running, socket.expect("the options were set"))
}

/// What is told within this time, from now on.
fn told(socket: &UnixDatagram, time: Duration) -> Vec<String> {
    let mut buffer = [0; 1024];
    // What has waited is of before.
    socket.set_nonblocking(true).expect("a socket");
    while socket.recv(&mut buffer).is_ok() {}
    socket.set_nonblocking(false).expect("a socket");
    let end = Instant::now() + time;
    let mut told = Vec::new();
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left)).expect("a time-out");
        if let Ok(length) = socket.recv(&mut buffer) {
            told.push(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned());
        }
    }
    told
}

fn beats(socket: &UnixDatagram, time: Duration) -> usize {
    told(socket, time).iter().filter(|told| *told == "WATCHDOG=1").count()
}

/// A system that counts, and what it tells systemd.
fn counting() -> (Running, UnixDatagram) {
    let (mut running, socket) = start_notified("50");
    let views = format!("{}/v1/views", running.ingest());
    assert_eq!(post(&views, r#"{"article":"a","user":"u"}"#).status, 204);
    eventually("the flush", Duration::from_secs(10), || {
        running.metric(Role::Flusher, 0, "footfall_flush_views_total") > 0.0
    });
    (running, socket)
}

fn expect_beats(socket: &UnixDatagram, what: &str) {
    let beats = beats(socket, Duration::from_secs(8));
    println!("{what}: {beats} beats in 8 s");
    assert!(beats >= 2, "{what}: {beats} beats in 8 s");
}

#[test]
fn stores_that_hang_do_not_stop_the_heart() {
    let (mut running, socket) = counting();
    expect_beats(&socket, "all is well");
    running.stack.mariadb.pause().expect("paused");
    expect_beats(&socket, "MariaDB hangs");
    running.stack.redis.pause().expect("paused");
    expect_beats(&socket, "both hang");
}

#[test]
fn stores_that_are_away_do_not_stop_the_heart() {
    let (mut running, socket) = counting();
    running.stack.mariadb.kill().expect("killed");
    expect_beats(&socket, "MariaDB is away");
    running.stack.redis.kill().expect("killed");
    expect_beats(&socket, "both are away");
}

#[test]
fn a_loop_that_stands_still_is_not_covered_up() {
    // It comes round once, and then waits for an hour: nothing else of the process stands still.
    let (mut running, socket) = start_notified("3600000");
    assert!(beats(&socket, Duration::from_secs(5)) <= 1, "the last of the start");
    assert_eq!(beats(&socket, Duration::from_secs(5)), 0);
    let livez = format!("http://{}/livez", running.stack.service(Role::Flusher, 0).admin());
    assert_eq!(get(&livez).status, 200);
}

#[test]
fn systemd_hears_of_start_and_end() {
    let (mut running, socket) = start_notified("50");
    running.stack.service(Role::Flusher, 0).terminate(Duration::from_secs(20)).expect("ended");
    // All that is said from here on is of its next life.
    let (mut buffer, mut all) = ([0; 1024], Vec::new());
    socket.set_nonblocking(true).expect("a socket");
    while let Ok(length) = socket.recv(&mut buffer) {
        all.push(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned());
    }
    let count = |wanted: &str| all.iter().filter(|told| *told == wanted).count();
    assert_eq!((count("READY=1"), count("STOPPING=1")), (2, 1), "ingest and flusher; the flusher: {all:?}");
}
