//! Faults of MariaDB.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use footfall_sandbox::{Process, find_program};
use rand::rngs::StdRng;

use super::{Expect, Fault, Healing, Part, pause};
use crate::http;
use crate::lab::{Lab, Scale};
use crate::load::Shape;

const MYSQL: &[Part] = &[Part::MySql];

pub(super) const FAULTS: &[Fault] = &[
    Fault::new("mysql-killed", "MariaDB is killed and started again.", MYSQL, |lab, _| {
        lab.stack.mariadb.kill()?;
        Ok(Box::new(|lab| Ok(lab.stack.mariadb.restart()?)))
    }),
    Fault::new(
        "mysql-paused",
        "MariaDB stands still with all its connections open, as a hanging machine does.",
        MYSQL,
        |lab, _| {
            lab.stack.mariadb.pause()?;
            Ok(Box::new(|lab| Ok(lab.stack.mariadb.resume()?)))
        },
    )
    .lasts((1_200, 1_600), (2_000, 15_000)),
    Fault::new("mysql-read-only", "MariaDB becomes read_only, and writable again.", MYSQL, |lab, _| {
        lab.sql("SET GLOBAL read_only = 1")?;
        Ok(Box::new(|lab| lab.sql("SET GLOBAL read_only = 0")))
    }),
    Fault::new(
        "deadlocks",
        "Another session takes the same locks in the opposite order, so that the flusher's transactions are rolled back.",
        MYSQL,
        deadlocks,
    )
    .lasts((0, 0), (0, 0)),
    Fault::new(
        "lock-time-outs",
        "Another session holds the shard's lock for longer than innodb_lock_wait_timeout.",
        MYSQL,
        |lab, _| {
            let mut rival = rival(
                lab,
                "BEGIN; SELECT * FROM footfall_shard_fence FOR UPDATE; SELECT SLEEP(11.5); ROLLBACK",
            )?;
            Ok(Box::new(move |_| {
                rival.wait(Duration::from_secs(30))?;
                Ok(())
            }))
        },
    )
    .lasts((11_000, 11_000), (11_000, 11_000))
    .not_in_share("the time-out is 10 s"),
    Fault::new(
        "poison-rows",
        "MariaDB refuses the rows of some users for good; all others go on being counted.",
        MYSQL,
        poison,
    )
    .expect(Expect::Quarantined)
    .lasts((800, 1_200), (1_000, 3_000)),
    Fault::new(
        "mysql-older-restored",
        "MariaDB comes back from a backup: the shard must stand still and say so, until the newest data are back.",
        &[Part::MySql, Part::Flusher],
        older,
    )
    .expect(Expect::Halts),
    Fault::new(
        "million-readers",
        "One article gets up to a million readers while MariaDB is away (30,000 in a short run).",
        MYSQL,
        |lab, _| {
            lab.stack.mariadb.kill()?;
            Ok(Box::new(|lab| Ok(lab.stack.mariadb.restart()?)))
        },
    )
    .under(|scale| match scale {
        Scale::Short => Shape { rate: 12_000, articles: 1, users: 30_000, batch: 100, ..Shape::default() },
        Scale::Long => Shape { rate: 60_000, articles: 1, users: 1_000_000, batch: 200, ..Shape::default() },
    })
    .lasts((1_500, 1_500), (25_000, 25_000)),
];

/// Another client of MariaDB, at work beside the flusher. It goes on after errors.
fn rival(lab: &mut Lab, sql: &str) -> anyhow::Result<Process> {
    let mut command = Command::new(find_program("mariadb").context("mariadb is not installed")?);
    command
        .args(["--no-defaults", "--user=root", "--database=footfall", "--batch", "--force"])
        .arg(format!("--socket={}", lab.stack.mariadb.socket().display()))
        .arg(format!("--execute={sql}"));
    let log = lab.path("rival.log");
    Ok(Process::spawn(command, &log)?)
}

fn deadlocks(lab: &mut Lab, random: &mut StdRng) -> anyhow::Result<Healing> {
    const COUNT: &str = "SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'";
    pause(random, 0, 300);
    let before = lab.number(COUNT)?;
    // InnoDB rolls back whoever has changed fewer rows: that must not be the rival.
    lab.sql(
        "CREATE DATABASE IF NOT EXISTS rival; CREATE TABLE IF NOT EXISTS rival.weight (n INT PRIMARY KEY) ENGINE = InnoDB",
    )?;
    let article = format!("{}1", lab.article_prefix);
    let once = format!(
        "BEGIN; INSERT INTO rival.weight SELECT seq FROM seq_1_to_3000; \
         SELECT views FROM footfall_articles WHERE article = '{article}' FOR UPDATE; SELECT SLEEP(0.15); \
         SELECT epoch FROM footfall_shard_fence FOR UPDATE; ROLLBACK; "
    );
    let mut rival = rival(lab, &once.repeat(lab.scaled(6, 20)))?;
    rival.wait(Duration::from_secs(60))?;
    let after = lab.number(COUNT)?;
    lab.wait_for("a deadlock", || after > before)?;
    Ok(super::nothing())
}

fn poison(lab: &mut Lab, _: &mut StdRng) -> anyhow::Result<Healing> {
    // Rows that are there already are not looked at: they are refused at their next change.
    lab.sql(&format!(
        "SET SESSION check_constraint_checks = 0; ALTER TABLE footfall_article_readers \
         ADD CONSTRAINT poison CHECK (NOT (article LIKE '{}%' AND user LIKE '%77'))",
        lab.article_prefix
    ))?;
    Ok(Box::new(|lab| lab.sql("ALTER TABLE footfall_article_readers DROP CONSTRAINT poison")))
}

/// How the flusher says that MySQL went back.
const OLDER: &str = "MySQL is older than Redis";

fn older(lab: &mut Lab, random: &mut StdRng) -> anyhow::Result<Healing> {
    let data = lab.dir().join("mariadb/data");
    let (backup, newest) = (lab.path("backup"), lab.path("newest"));
    lab.stack.mariadb.stop()?;
    copy(&data, &backup)?;
    lab.stack.mariadb.restart()?;
    // Some flushes more.
    let flushed = "SELECT position FROM footfall_shard_fence";
    let before = lab.number(flushed)?;
    lab.wait_for("a flush", || lab.number(flushed).is_ok_and(|now| now > before + 2))?;
    pause(random, 0, 500);
    lab.stack.mariadb.stop()?;
    fs::rename(&data, &newest)?;
    fs::rename(&backup, &data)?;
    lab.stack.mariadb.restart()?;

    let flushers: Vec<_> = lab.targets().into_iter().filter(|target| !target.serves_clients).collect();
    let says_so = || {
        flushers.iter().any(|flusher| {
            let answer = http::get(flusher.address, "/readyz", Duration::from_millis(500));
            answer.is_ok_and(|answer| answer.status == 503 && answer.body.contains(OLDER))
        })
    };
    lab.wait_for("a flusher that says that MySQL is older", says_so)?;
    let before = lab.number("SELECT SUM(views) FROM footfall_article_readers")?;
    Ok(Box::new(move |lab| {
        ensure!(
            lab.number("SELECT SUM(views) FROM footfall_article_readers")? == before,
            "views were added to the older data"
        );
        lab.stack.mariadb.stop()?;
        fs::remove_dir_all(&data)?;
        fs::rename(&newest, &data)?;
        Ok(lab.stack.mariadb.restart()?)
    }))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp").arg("-a").args([from, to]).status()?;
    ensure!(status.success(), "{} could not be copied", from.display());
    Ok(())
}
