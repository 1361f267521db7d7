//! `footfall quarantine`: what could not be counted is looked at, counted after all, or given up.

mod list;
mod logs;

use std::fmt;
use std::process::ExitCode;
use std::str::FromStr;

use footfall_shared::mysql::{Fences, Replayed, Store};
use footfall_shared::redis::Redis;
use footfall_shared::service::config::Config;

use crate::aside::AsideId;
use crate::failure::{self, Failure};
use crate::terminal::{confirm, count, print};
use crate::{DIFFERENCE_FOUND, Result};

/// Rows that are read from MySQL at once.
const PAGE: u32 = 1_000;

/// Shows what could not be counted, counts it after all, or gives it up
///
/// Two things wait here for a person. A row, named by its number, are views that MySQL refused, with its reason; or views
/// that were lost with a damaged journal: their reader and article are not known, so they can only be dropped. A log,
/// named `aside:<shard>:<epoch>:<first>`, are the batches of an overtaken or damaged history of Redis: usually all of
/// them were sent again and are counted, and `list` says how many are not.
///
/// The exit code is 0 if all was done, 1 if something had to stay.
#[derive(clap::Args)]
#[command(after_help = "Example: MySQL refused rows until a constraint was dropped\n  footfall quarantine list\n  \
                        footfall quarantine replay --all")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    List(list::ListArgs),
    Show(list::ShowArgs),
    /// Counts it after all, exactly once
    ///
    /// A row is counted, and leaves the quarantine, in one transaction; if MySQL still refuses it, it stays. The batches
    /// of a log go to Redis once more under the numbers that they always had, so what is counted already is skipped; the
    /// log is deleted when MySQL has all of it. Of a log with a gap or with damage, what can be counted is counted, and
    /// the log stays.
    Replay(Which),
    /// Gives it up, for good
    ///
    /// The views of a row stay in the books as dropped. Those of a log that are not counted anywhere are gone.
    Drop(Which),
}

#[derive(clap::Args)]
struct Which {
    /// A number, or `aside:<shard>:<epoch>:<first>`, as `list` shows them
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<Id>,
    /// Everything there is
    #[arg(long)]
    all: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

/// Names one thing in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Id {
    Row(u64),
    Log(AsideId),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(id) => id.fmt(f),
            Self::Log(id) => id.fmt(f),
        }
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.parse() {
            Ok(number) => Ok(Self::Row(number)),
            Err(_) => text.parse().map(Self::Log).map_err(|why| format!("{why}, and not a number")),
        }
    }
}

/// The stores.
struct Stores<'a> {
    config: &'a Config,
    store: Store,
    redis: Redis,
}

pub(crate) async fn run(config: &Config, args: &Args) -> Result {
    let store = Store::new(&config.database).await?;
    let stores = Stores { config, store, redis: failure::redis(config)? };
    stores.store.check_schema(config.shards.get()).await?;
    match &args.action {
        Action::List(args) => list::list(&stores, args).await,
        Action::Show(args) => list::show(&stores, args).await,
        Action::Replay(which) => stores.replay(which).await,
        Action::Drop(which) => stores.drop(which).await,
    }
}

impl Stores<'_> {
    /// What is meant, in an order in which logs follow each other.
    async fn ids(&self, which: &Which) -> Result<Vec<Id>> {
        if !which.all {
            return Ok(which.ids.clone());
        }
        let mut ids = Vec::new();
        let mut after = 0;
        loop {
            let page = self.store.quarantined(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            ids.extend(page.iter().map(|row| Id::Row(row.id)));
        }
        ids.extend(logs::ids(self).await?.into_iter().map(Id::Log));
        Ok(ids)
    }

    async fn replay(&self, which: &Which) -> Result {
        let ids = self.ids(which).await?;
        if ids.is_empty() {
            return nothing();
        }
        let what = count(ids.len() as u64, "entry");
        confirm(&format!("Count {what} of the quarantine after all?"), "nothing was counted", which.yes).await?;
        let (mut counted, mut left, mut gone) = (0, 0, 0);
        for id in ids {
            let so_far = || format!("{} counted, {} stayed", count(counted, "entry"), count(left, "entry"));
            match self.replay_one(id, which.all).await.map_err(|failure| failure.with(&so_far()))? {
                Became::Counted => counted += 1,
                Became::Gone => gone += 1,
                Became::Stayed(why) => {
                    left += 1;
                    print(&format!("{id} stays: {why}\n"))?;
                }
            }
        }
        let gone =
            if gone == 0 { String::new() } else { format!(", {} dealt with by somebody else", count(gone, "entry")) };
        print(&format!("{} counted, {} stayed{gone}\n", count(counted, "entry"), count(left, "entry")))?;
        Ok(if left == 0 { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENCE_FOUND) })
    }

    async fn replay_one(&self, id: Id, may_be_gone: bool) -> Result<Became> {
        Ok(match id {
            Id::Log(id) => logs::replay(self, id).await?.map_or(Became::Counted, Became::Stayed),
            Id::Row(row) => match self.store.replay(row).await? {
                Replayed::Counted => Became::Counted,
                Replayed::Missing if may_be_gone => Became::Gone, // Somebody else was faster.
                Replayed::Missing => return Err(missing(id)),
                Replayed::Refused(reason) => Became::Stayed(format!("MySQL still refuses it: {reason}")),
                Replayed::Unknown => {
                    Became::Stayed("its reader and article are not known: it can only be dropped".into())
                }
            },
        })
    }

    async fn drop(&self, which: &Which) -> Result {
        let ids = self.ids(which).await?;
        if ids.is_empty() {
            return nothing();
        }
        let what = count(ids.len() as u64, "entry");
        confirm(&format!("Give up {what} of the quarantine, for good?"), "nothing was dropped", which.yes).await?;
        let (mut dropped, mut gone) = (0, 0);
        for id in ids {
            let so_far = || format!("{} dropped", count(dropped, "entry"));
            match self.drop_one(id, which.all).await.map_err(|failure| failure.with(&so_far()))? {
                true => dropped += 1,
                false => gone += 1,
            }
        }
        let gone =
            if gone == 0 { String::new() } else { format!(", {} dealt with by somebody else", count(gone, "entry")) };
        print(&format!("{} dropped{gone}\n", count(dropped, "entry")))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Answers whether it was there.
    async fn drop_one(&self, id: Id, may_be_gone: bool) -> Result<bool> {
        let was_there = match id {
            Id::Row(row) => self.store.drop_quarantined(row).await?,
            Id::Log(AsideId { shard, epoch, first }) => self.redis.shard(shard).drop_aside(epoch, first).await?,
        };
        if was_there || may_be_gone { Ok(was_there) } else { Err(missing(id)) }
    }
}

/// What a replay made of an entry.
enum Became {
    Counted,
    /// It was not there any more.
    Gone,
    Stayed(String),
}

fn nothing() -> Result {
    print("nothing is in quarantine: there was nothing to do\n")?;
    Ok(ExitCode::SUCCESS)
}

fn missing(id: impl fmt::Display) -> Failure {
    Failure::Usage(format!(
        "there is nothing with the id {id} in quarantine; `footfall quarantine list` shows what there is"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use footfall_shared::protocol::Shard;

    #[test]
    fn ids_are_read_as_they_are_shown() {
        let log = AsideId { shard: Shard(0), epoch: 2, first: 3 };
        for (text, id) in [("17", Id::Row(17)), ("aside:0:2:3", Id::Log(log))] {
            assert_eq!(text.parse(), Ok(id));
            assert_eq!(id.to_string(), text);
        }
        assert!("seventeen".parse::<Id>().is_err());
    }
}
