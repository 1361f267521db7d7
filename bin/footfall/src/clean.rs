//! `footfall clean`: deletes all counts.

use std::process::ExitCode;
use std::time::Duration;

use footfall_shared::mysql::{Fences, Store};
use footfall_shared::protocol::Shard;
use footfall_shared::redis::Redis;
use footfall_shared::service::config::Config;
use tokio::net::TcpStream;

use crate::failure::{self, Failure};
use crate::terminal::{confirm, count, print};
use crate::{Result, url};

/// How long a service that may be running has to take a connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Deletes all counts from MySQL and from Redis, for good
///
/// Stop the services first: views that an ingest still holds would be counted after the cleaning. Other keys in Redis
/// and other tables in MySQL stay as they are, and so does the set-up that `footfall init` made.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    /// Clean stores on other machines too
    #[arg(long)]
    even_remote: bool,
}

pub(crate) async fn run(config: &Config, args: &Args) -> Result {
    let stores = [
        ("database.url", config.database.url.to_string(), config.database.url.is_local()),
        ("redis.url", config.redis.url.to_string(), config.redis.is_local()),
    ];
    if let Some((name, remote, _)) = stores.iter().find(|(_, _, is_local)| !is_local)
        && !args.even_remote
    {
        return Err(Failure::Usage(format!(
            "{name} is {remote}, on another machine: nothing was deleted; give --even-remote if you mean it"
        )));
    }
    let store = Store::new(&config.database).await?;
    let redis = failure::redis(config)?;
    store.check_schema(config.shards.get()).await?;
    refuse_while_services_run(config, &redis).await?;
    let (database, queue) = (&config.database.url, &config.redis.url);
    let question = format!("Delete all counts in {database} and {queue}? Are all ingests and flushers stopped?");
    confirm(&question, "nothing was deleted", args.yes).await?;

    // MySQL first: it also begins a new epoch, so that nothing that Redis still holds can be flushed.
    store.delete_everything().await?;
    print(&format!("{database}: all counts deleted\n"))?;
    let keys = redis.delete_everything().await.map_err(|error| {
        let half = "All counts in MySQL are deleted, those in Redis are not: run the same once more";
        Failure::from(error).with(half)
    })?;
    print(&format!("{queue}: {} deleted; nothing is counted any more\n", count(keys, "key")))?;
    Ok(ExitCode::SUCCESS)
}

/// Best effort, against a slip of the mind: a flusher shows by its lease while it works, and services with this
/// configuration show by the ports that they listen on. The dashboard only reads.
async fn refuse_while_services_run(config: &Config, redis: &Redis) -> Result<()> {
    let refuse =
        |who: String| Failure::Usage(format!("{who}: nothing was deleted; stop ingest and flusher, then try again"));
    let ingest = url::HttpUrl::parse(config.ingest.url.as_str())?.address;
    let ports = [
        ("ingest", ingest),
        ("ingest", config.ingest.admin.to_string()),
        ("flusher", config.flusher.admin.to_string()),
    ];
    for (service, address) in ports {
        let connect = TcpStream::connect(&address);
        if matches!(tokio::time::timeout(PROBE_TIMEOUT, connect).await, Ok(Ok(_))) {
            return Err(refuse(format!("the {service} answers at {address}")));
        }
    }
    for shard in Shard::all(config.shards.get()) {
        if let Some(holder) = redis.shard(shard).lease_holder().await? {
            return Err(refuse(format!("the flusher {holder} is at work")));
        }
    }
    Ok(())
}
