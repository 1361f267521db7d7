//! Faults of stores of several servers.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use footfall_proof::{Lag, Loss, Outage, SlotEnd};
use footfall_sandbox::{Galera, Process, find_program};

use super::Healing;
use crate::lab::{Lab, NotHit, Skip};
use crate::several::{Group, Several};

/// As long as the manual has an operator wait for it.
const INIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The Redis servers.
fn group(lab: &mut Lab) -> anyhow::Result<&mut Group> {
    match &mut lab.several {
        Some(Several::Redis(group)) => Ok(group),
        _ => Err(Skip("this stack has a single Redis".to_owned()).into()),
    }
}

fn galera(lab: &mut Lab) -> anyhow::Result<&mut Galera> {
    match &mut lab.several {
        Some(Several::MySql(galera)) => Ok(galera),
        _ => Err(Skip("this stack has a single MariaDB".to_owned()).into()),
    }
}

/// So many times the shards get another server, or another life of the one that they have.
fn change(lab: &mut Lab, shards: &[u16], times: u64) {
    for shard in shards {
        *lab.changes.entry(*shard).or_default() += times;
    }
}

pub(super) fn lose_master(lab: &mut Lab, shard: u16, how: Loss) -> anyhow::Result<Option<Healing>> {
    let all = lab.shards();
    let group = group(lab)?;
    group.settle()?;
    if how == Loss::Hung {
        group.wait_for_sentinels();
    }
    let master = group.master(shard)?;
    let shards = group.shards_of(master, all)?;
    match how {
        Loss::Killed => group.server(master).kill()?,
        Loss::Hung => group.server(master).pause()?,
        Loss::HandedOver => group.hand_over(master)?,
    }
    group.failed_over = Some(Instant::now());
    // Touched at least.
    change(lab, &shards, u64::from(how == Loss::HandedOver));
    if how == Loss::HandedOver {
        return Ok(None);
    }
    Ok(Some(Box::new(move |lab| {
        let group = self::group(lab)?;
        let is_taken_over = group.master(shard)? != master;
        if how == Loss::Killed {
            group.server(master).restart()?;
            if group.behind == 0 {
                group.let_in(master)?;
            }
        } else {
            group.server(master).resume()?;
        }
        // Whoever was not replaced yet may still be. A node of a cluster that wakes takes the others for away for a moment,
        // and may be chosen again. Then this is one change more.
        change(lab, &shards, 1 + u64::from(!is_taken_over || how == Loss::Hung));
        Ok(())
    })))
}

pub(super) fn hold_replicas(lab: &mut Lab, shard: u16, how: Lag) -> anyhow::Result<Healing> {
    let group = group(lab)?;
    let master = group.master(shard)?;
    let replicas = group.replicas(master);
    if replicas.is_empty() {
        // One that was lost before is still away.
        return Err(NotHit("a master with a replica".to_owned()).into());
    }
    group.behind += 1;
    for replica in &replicas {
        let server = group.server(*replica);
        match how {
            Lag::Hung => server.pause()?,
            Lag::CutOff => {
                // A master without a password refuses whoever names one.
                server.query(&["CONFIG", "SET", "masterauth", "wrong"])?;
                server.query(&["CLIENT", "KILL", "TYPE", "master"])?;
                group.cut_off.insert(*replica);
            }
        }
    }
    Ok(Box::new(move |lab| {
        let group = self::group(lab)?;
        group.behind -= 1;
        for replica in replicas {
            match how {
                Lag::Hung => group.server(replica).resume()?,
                // One that has become the master meanwhile, and was killed as that, is let in when it is back.
                Lag::CutOff if !group.server(replica).process().is_running() => {}
                Lag::CutOff => group.let_in(replica)?,
            }
        }
        Ok(())
    }))
}

pub(super) fn move_slot(lab: &mut Lab, shard: u16, times: u64) -> anyhow::Result<Option<Healing>> {
    let group = group(lab)?;
    group.settle()?;
    let (slot, mut from) = (group.slot(shard)?, group.master(shard)?);
    for _ in 0..times {
        let (cluster, to) = group.next(from)?;
        cluster.move_slot(slot, from, to)?;
        from = to;
    }
    change(lab, &[shard], times);
    Ok(None)
}

pub(super) fn half_move_slot(lab: &mut Lab, shard: u16, end: SlotEnd) -> anyhow::Result<Healing> {
    let group = group(lab)?;
    group.settle()?;
    let (slot, from) = (group.slot(shard)?, group.master(shard)?);
    let (cluster, to) = group.next(from)?;
    cluster.half_move_slot(slot, from, to)?;
    change(lab, &[shard], 0);
    Ok(Box::new(move |lab| {
        let (cluster, _) = self::group(lab)?.next(from)?;
        match end {
            SlotEnd::Finished => cluster.move_slot(slot, from, to)?,
            SlotEnd::TakenBack => cluster.take_back_slot(slot, from, to)?,
        }
        // What is taken back is missed, and then it is there again.
        change(lab, &[shard], if end == SlotEnd::Finished { 1 } else { 2 });
        Ok(())
    }))
}

pub(super) fn put_node_out(lab: &mut Lab, node: usize, how: Outage) -> anyhow::Result<Healing> {
    let log = lab.path("behind.log");
    let galera = galera(lab)?;
    galera.wait_whole()?;
    match how {
        Outage::Killed => galera.kill(node)?,
        Outage::Stopped => galera.stop(node)?,
        Outage::Hung => galera.node(node).pause()?,
        Outage::Behind => {
            let mut client = Command::new(find_program("mariadb").context("mariadb is not installed")?);
            client
                .args(["--no-defaults", "--user=root"])
                .arg("--execute=FLUSH TABLES WITH READ LOCK; SELECT SLEEP(3600)")
                .arg(format!("--socket={}", galera.node(node).socket().display()));
            let mut client = Process::spawn(client, &log)?;
            return Ok(Box::new(move |lab| {
                client.kill()?;
                // The server goes on sleeping for it.
                let node = self::galera(lab)?.node(node);
                let asleep = "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(3600)%'";
                for id in node.query(asleep)?.iter().flatten() {
                    node.query(&format!("KILL {id}"))?;
                }
                Ok(self::galera(lab)?.wait_whole()?)
            }));
        }
    }
    Ok(Box::new(move |lab| {
        let galera = self::galera(lab)?;
        if how == Outage::Hung {
            galera.node(node).resume()?;
            return Ok(galera.wait_whole()?);
        }
        Ok(galera.rejoin(node)?)
    }))
}

/// All of them end well, whoever comes first.
pub(super) fn init(lab: &mut Lab, count: usize) -> anyhow::Result<Option<Healing>> {
    let urls: Vec<String> = match &lab.several {
        Some(Several::MySql(galera)) => galera.nodes().map(|(node, _)| galera.url(node)).collect(),
        _ => Vec::new(),
    };
    let mut inits = Vec::new();
    for number in 0..count {
        let mut command = lab.stack.tool();
        command.arg("init");
        if !urls.is_empty() {
            command.env("FOOTFALL_DATABASE__URL", &urls[number % urls.len()]);
        }
        let log = lab.path("init.log");
        inits.push(Process::spawn(command, &log)?);
    }
    for mut init in inits {
        let status = init.wait(INIT_TIMEOUT)?;
        ensure!(status.success(), init.failure(&format!("failed ({status})")));
    }
    Ok(None)
}

/// The single Redis of a stack whose MySQL is a cluster was changed.
pub(super) fn redis_changes(lab: &mut Lab, times: u64) {
    let shards: Vec<u16> = (0..lab.shards()).collect();
    change(lab, &shards, times);
}
