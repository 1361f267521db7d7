//! What Footfall aims at, beside what was measured.

use crate::growth::{DOUBLED, GROWTH, GROWTH_FACTOR, GROWTH_LEAST};
use crate::outage::OUTAGE;
use crate::report::{Figure, Report, Wanted, thousands};
use crate::run::{
    ALWAYS, BARE, BATCHES, DRAINS, LATENCY, MARIADB_ALONE, ONE_SCRIPT, QUEUE, READS, STEADY, VIEWS, WHOLE,
};

/// Adds the targets of everything that was measured.
pub(crate) fn compare(report: &mut Report) {
    let median = |report: &Report, table, peer, load: &str, figure| report.row(table, peer, load)?.median(figure);
    for verb in ["POST", "GET"] {
        for connections in [64, 512] {
            let load = format!("{verb}, {connections} connections");
            let of_limit = |report: &Report, peer| median(report, VIEWS, peer, &load, Figure::OfLimit);
            let cpu = |report: &Report, peer| median(report, VIEWS, peer, &load, Figure::CpuAll);
            let queue = of_limit(report, QUEUE);
            report.target(format!("{load}: {QUEUE}, of the limit"), Wanted::AtLeast(0.85), queue);
            let ratio = cpu(report, QUEUE).zip(cpu(report, BARE)).map(|(ours, bare)| ours / bare);
            report.target(format!("{load}: CPU of ingest and Redis, of the limit's"), Wanted::AtMost(1.3), ratio);
            let always = of_limit(report, ALWAYS);
            let wanted = if connections == 64 { 0.55 } else { 0.80 };
            report.target(format!("{load}: {ALWAYS}, of the limit"), Wanted::AtLeast(wanted), always);
            let whole = of_limit(report, WHOLE);
            report.target(format!("{load}: {WHOLE}, of the limit"), Wanted::AtLeast(0.70), whole);
            let one = of_limit(report, ONE_SCRIPT);
            let ratio = whole.zip(one).map(|(whole, one)| whole / one);
            report.target(format!("{load}: {WHOLE}, of {ONE_SCRIPT}"), Wanted::AtLeast(1.8), ratio);
        }
    }
    let batches = median(report, BATCHES, WHOLE, "8 connections", Figure::PerSecond);
    let single = median(report, VIEWS, WHOLE, "POST, 64 connections", Figure::PerSecond);
    let ratio = batches.zip(single).map(|(batches, single)| batches / single);
    report.target("views/s by 1,000 in a request, of single ones", Wanted::AtLeast(8.0), ratio);
    let p99 = median(report, LATENCY, WHOLE, "POST, 64 connections, half of the maximal rate", Figure::P99Ms);
    report.target("p99 at half of the maximal rate, in ms", Wanted::AtMost(5.0), p99);
    let reads = median(report, READS, WHOLE, "GET, 64 connections", Figure::OfLimit);
    report.target("reads of a cached article, of the limit", Wanted::AtLeast(0.75), reads);

    let redis = median(report, DRAINS, WHOLE, "of 1,000 in a request", Figure::RedisBytes);
    report.target("Redis, bytes per view that waits, ids of 10 bytes", Wanted::AtMost(40.0), redis);
    let flusher = median(report, DRAINS, WHOLE, "of 1,000 in a request", Figure::MemoryMib);
    report.target("the flusher's memory while it drains, in MiB", Wanted::AtMost(128.0), flusher);
    let steady = |report: &Report, figure| median(report, STEADY, WHOLE, "8 connections", figure);
    let transactions = steady(report, Figure::TransactionsPerSecond);
    report.target("transactions per second at 20,000 views/s", Wanted::AtMost(20.0), transactions);
    let rows = steady(report, Figure::RowsPerView);
    report.target("rows that MariaDB writes per view at 20,000 views/s", Wanted::AtMost(1.15), rows);

    for (table, load) in [(VIEWS, "POST, 64 connections"), (BATCHES, "8 connections"), (STEADY, "8 connections")] {
        let ratio = median(report, table, WHOLE, load, Figure::CpuOfLimits);
        report.target(format!("{table}, {load}: CPU of all, of the limits'"), Wanted::AtMost(1.15), ratio);
    }
    let drain = median(report, DRAINS, WHOLE, "of 1,000 in a request", Figure::OfLimit);
    report.target("the flusher's rows/s, of MariaDB's alone", Wanted::AtLeast(0.85), drain);
    let outages: Vec<_> = report.rows.iter().filter(|row| row.table == OUTAGE).collect();
    let ratio = outages.first().and_then(|row| row.median(Figure::CatchUpOfOutage));
    report.target("seconds to catch up at 20,000 views/s, per second of outage", Wanted::AtMost(0.2), ratio);
    growth(report);
}

/// How much more of its CPU time a view takes with twice the rows, beyond what it takes MariaDB alone.
fn growth(report: &mut Report) {
    let cpu = |table, peer, figure| -> Vec<f64> {
        let rows = report.rows.iter().filter(|row| row.table == table && row.peer == peer);
        rows.filter_map(|row| row.median(figure)).collect()
    };
    let both = |table| (cpu(table, WHOLE, Figure::CpuAll), cpu(table, MARIADB_ALONE, Figure::CpuMariaDb));
    let (ours, alone) = both(GROWTH);
    let doubled = both(DOUBLED);
    let doubled = doubled.0.iter().zip(&doubled.1).zip(["articles", "users"]);
    let doubled: Vec<_> = ours.first().zip(alone.first()).map_or(vec![], |(our_usual, alone_usual)| {
        doubled.map(|((ours, alone), what)| (what, ((ours - our_usual) - (alone - alone_usual)) / our_usual)).collect()
    });
    let steps: Vec<f64> = ours
        .windows(2)
        .zip(alone.windows(2))
        .map(|(ours, alone)| ((ours[1] - ours[0]) - (alone[1] - alone[0])) / ours[0] / GROWTH_FACTOR.log2())
        .collect();
    for (index, more) in steps.into_iter().enumerate() {
        let what = format!(
            "CPU per view with twice the rows, beyond MariaDB alone, from {} rows on, in percent",
            thousands(GROWTH_LEAST * GROWTH_FACTOR.powi(index as i32))
        );
        report.target(what, Wanted::AtMost(10.0), Some(100.0 * more));
    }
    for (twice, more) in doubled {
        let what = format!("CPU per view with twice the {twice}, beyond MariaDB alone, in percent");
        report.target(what, Wanted::AtMost(10.0), Some(100.0 * more));
    }
}
