//! What Footfall aims at, beside what was measured.

use crate::lines;
use crate::names::{
    BATCHES, CACHED, DIRECT, DRAINS, DRAINS_LOAD, KILLS, KILLS_LOAD, LATENCY, OUTAGE, QUEUE, READS, STEADY, VIEWS,
    WHOLE,
};
use crate::report::{Figure, Report, Wanted};
use Wanted::{AtLeast, AtMost};

const BY_1000: &str = "8 connections";
const HALF: &str = "POST, 64 connections, half of the maximal rate";

/// Adds the targets of everything that was measured.
pub(crate) fn compare(report: &mut Report, lines: Option<f64>) {
    stores(report);
    limits(report);
    peers(report);
    let get = |report: &Report, table, load, figure| report.row(table, WHOLE, load)?.median(figure);

    let p99 = get(report, LATENCY, HALF, Figure::P99Ms);
    report.target("p99 at half of the maximal rate, ms", AtMost(5.0), p99);
    let outage = report.rows.iter().find(|row| row.table == OUTAGE);
    let [caught_up, after] = [Figure::CatchUpOfOutage, Figure::MemoryMib].map(|figure| outage?.median(figure));
    report.target("catching up with 20,000 views/s coming in, s per s of outage", AtMost(0.5), caught_up);
    let reads = get(report, READS, "GET, 64 connections", Figure::OfLimit);
    report.target("reads of a cached article, of bare hyper's", AtLeast(0.65), reads);
    let waiting = get(report, DRAINS, DRAINS_LOAD, Figure::RedisBytes);
    report.target("bytes in Redis per waiting view, ids of 10 bytes", AtMost(28.0), waiting);
    // Whichever was more; it is the most that it ever had.
    let drained = get(report, DRAINS, DRAINS_LOAD, Figure::MemoryMib);
    let memory = drained.into_iter().chain(after).reduce(f64::max);
    report.target("flusher's memory, the most that it ever had, MiB", AtMost(64.0), memory);
    for (what, figure) in [("lost", Figure::Lost), ("doubled", Figure::Doubled)] {
        let views = get(report, KILLS, KILLS_LOAD, figure);
        report.target(format!("views {what} when the flusher is killed"), AtMost(0.0), views);
    }
    let what = "lines of the path from Redis to MariaDB: scripts, queue, follower, recovery, flusher";
    report.target(what, AtMost((lines::BEFORE * 2.0 / 3.0).floor()), lines);
}

/// What a view takes of each store.
fn stores(report: &mut Report) {
    let get = |report: &Report, table, load, figure| report.row(table, WHOLE, load)?.median(figure);
    let steady = |report: &Report, figure| get(report, STEADY, BY_1000, figure);
    let single = get(report, VIEWS, "POST, 64 connections", Figure::CpuRedis);
    report.target("Redis's CPU per view, 64 connections, µs", AtMost(3.0), single);
    let many = get(report, BATCHES, BY_1000, Figure::CpuRedis);
    report.target("the same, 1,000 views in a request", AtMost(0.3), many);
    let held = steady(report, Figure::HeldMs);
    report.target("longest time that a script holds Redis at 20,000 views/s, ms", AtMost(1.0), held);
    let mariadb = steady(report, Figure::CpuMariaDb);
    report.target("MariaDB's CPU per view at 20,000 views/s, µs", AtMost(15.0), mariadb);
    let rows = steady(report, Figure::RowsPerView);
    report.target("rows given to MariaDB per view at 20,000 views/s", AtMost(1.9), rows);
}

/// What ours comes to beside what limits it.
fn limits(report: &mut Report) {
    for (table, load, what, wanted) in [
        (VIEWS, "POST, 64 connections", "single views", 1.25),
        (BATCHES, BY_1000, "1,000 in a request", 1.15),
        (STEADY, BY_1000, "steady 20,000 views/s", 1.25),
    ] {
        let ratio = report.row(table, WHOLE, load).and_then(|row| row.median(Figure::CpuOfLimits));
        report.target(format!("CPU of everything, of the sum of the limits: {what}"), AtMost(wanted), ratio);
    }
    for (peer, at_64, at_512) in [(QUEUE, 0.70, 0.75), (WHOLE, 0.55, 0.60)] {
        for (connections, wanted) in [(64, at_64), (512, at_512)] {
            let row = report.row(VIEWS, peer, &format!("POST, {connections} connections"));
            let ratio = row.and_then(|row| row.median(Figure::OfLimit));
            report.target(format!("{peer}, of bare hyper's views/s: {connections}"), AtLeast(wanted), ratio);
        }
    }
}

/// What ours comes to beside what people run.
fn peers(report: &mut Report) {
    for peer in [CACHED, DIRECT] {
        for connections in [64, 512] {
            let load = format!("POST, {connections} connections");
            let median = |peer, figure| report.row(VIEWS, peer, &load)?.median(figure);
            let both = |figure| median(WHOLE, figure).zip(median(peer, figure));
            // Both as parts of what the bare server did in the same round.
            let rate = both(Figure::OfLimit).map(|(ours, theirs)| ours / theirs);
            let cpu = both(Figure::CpuAll).map(|(ours, theirs)| theirs / ours);
            report.target(format!("views/s of {WHOLE}, of {peer}: {connections}"), AtLeast(2.0), rate);
            report.target(format!("CPU of {peer}, of {WHOLE}: {connections}"), AtLeast(2.0), cpu);
        }
    }
}
