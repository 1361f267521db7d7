//! Faults of MariaDB.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use footfall_proof::{Point, Store, Who};
use footfall_sandbox::{Action, Message, Process, find_program};

use super::{Healing, place, services};
use crate::http;
use crate::lab::{Lab, Matcher};

pub(super) fn restart(lab: &mut Lab) -> anyhow::Result<Healing> {
    lab.stack.mariadb.kill()?;
    Ok(Box::new(|lab| Ok(lab.stack.mariadb.restart()?)))
}

pub(super) fn pause(lab: &mut Lab) -> anyhow::Result<Healing> {
    lab.stack.mariadb.pause()?;
    Ok(Box::new(|lab| Ok(lab.stack.mariadb.resume()?)))
}

pub(super) fn read_only(lab: &mut Lab) -> anyhow::Result<Healing> {
    lab.sql("SET GLOBAL read_only = 1")?;
    Ok(Box::new(|lab| lab.sql("SET GLOBAL read_only = 0")))
}

/// Another session holds the shard's lock.
pub(super) fn hold_lock(lab: &mut Lab, ms: u64) -> anyhow::Result<Healing> {
    let seconds = ms as f64 / 1_000.0;
    let sql = format!("BEGIN; SELECT * FROM footfall_shard_fence FOR UPDATE; SELECT SLEEP({seconds}); ROLLBACK");
    let mut rival = rival(lab, &sql)?;
    Ok(Box::new(move |_| {
        rival.wait(Duration::from_secs(30))?;
        Ok(())
    }))
}

/// Kills the sessions that are in the middle of a transaction.
pub(super) fn kill_sessions(lab: &mut Lab) -> anyhow::Result<Option<Healing>> {
    let writes: Matcher = Arc::new(|message: &Message| message.runs_sql("INSERT"));
    let (_, held) = lab.catch(Who::Flushers, Store::MySql, "a write", &writes, Action::HoldRequest)?;
    let sessions = lab.stack.mariadb.query("SELECT trx_mysql_thread_id FROM information_schema.innodb_trx")?;
    for session in sessions.iter().flatten() {
        // It may have ended by itself meanwhile.
        let _ = lab.stack.mariadb.query(&format!("KILL CONNECTION {session}"));
    }
    held.release();
    Ok(None)
}

/// Puts the fence back to where it was before a flush, after the flush was committed and before the flusher knows: what
/// it writes again then is counted twice.
pub(super) fn forget_fence(lab: &mut Lab) -> anyhow::Result<Healing> {
    let (_, locks) = place(lab, Point::Lock)?;
    let (_, commits) = place(lab, Point::Commit)?;
    let (flusher, held) = lab.catch(Who::Flushers, Store::MySql, Point::Lock, &locks, Action::HoldRequest)?;
    // Else another one may flush more, and tell Redis, before the fence is put back: then MySQL would be older than Redis,
    // which every flusher notices.
    let others = lab.each(Who::Flushers).into_iter().filter(|other| *other != flusher);
    let resume = others.map(|other| services::pause(lab, other)).collect::<anyhow::Result<Vec<_>>>()?;
    lab.sql(
        "CREATE DATABASE IF NOT EXISTS rival; \
         CREATE OR REPLACE TABLE rival.shard_fence AS SELECT * FROM footfall_shard_fence; \
         CREATE OR REPLACE TABLE rival.producer_fence AS SELECT * FROM footfall_producer_fence",
    )?;
    let commit = lab.inject_all(flusher, Store::MySql, &commits, Action::HoldReply, 1);
    held.release();
    lab.wait_for("a COMMIT", || commit.iter().any(|rule| rule.held() > 0))?;
    lab.sql(
        "UPDATE footfall_shard_fence now JOIN rival.shard_fence old ON old.shard = now.shard \
         SET now.position = old.position, now.flush_epoch = old.flush_epoch; \
         DELETE FROM footfall_producer_fence; \
         INSERT INTO footfall_producer_fence SELECT * FROM rival.producer_fence",
    )?;
    commit.iter().for_each(|rule| rule.drop_held());
    Ok(Box::new(move |lab| resume.into_iter().try_for_each(|resume| resume(lab))))
}

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

pub(super) fn deadlocks(lab: &mut Lab, times: u64) -> anyhow::Result<Option<Healing>> {
    const COUNT: &str = "SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'";
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
    let mut rival = rival(lab, &once.repeat(times as usize))?;
    rival.wait(Duration::from_secs(60))?;
    let after = lab.number(COUNT)?;
    lab.wait_for("a deadlock", || after > before)?;
    Ok(None)
}

pub(super) fn poison(lab: &mut Lab) -> anyhow::Result<Healing> {
    // Rows that are there already are not looked at: they are refused at their next change.
    lab.sql(&format!(
        "SET SESSION check_constraint_checks = 0; ALTER TABLE footfall_article_readers \
         ADD CONSTRAINT poison CHECK (NOT (article LIKE '{}%' AND user LIKE '%77'))",
        lab.article_prefix
    ))?;
    let before = lab.quarantined()?;
    Ok(Box::new(move |lab| {
        // Few views are refused, and on a busy machine none is flushed for a while: without one it would prove nothing.
        let refused = lab.wait_for("a view in quarantine", || lab.quarantined().is_ok_and(|views| views > before));
        lab.sql("ALTER TABLE footfall_article_readers DROP CONSTRAINT poison")?;
        refused
    }))
}

/// How the flusher says that MySQL went back.
const OLDER: &str = "MySQL is older than Redis";

pub(super) fn older(lab: &mut Lab, after: Duration) -> anyhow::Result<Healing> {
    let data = lab.dir().join("mariadb/data");
    let (backup, newest) = (lab.path("backup"), lab.path("newest"));
    lab.stack.mariadb.stop()?;
    copy(&data, &backup)?;
    lab.stack.mariadb.restart()?;
    // Some flushes more.
    let flushed = "SELECT position FROM footfall_shard_fence";
    let before = lab.number(flushed)?;
    lab.wait_for("a flush", || lab.number(flushed).is_ok_and(|now| now > before + 2))?;
    thread::sleep(after);
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
