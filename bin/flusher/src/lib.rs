//! The daemon that moves pending views from Redis to MySQL, exactly once.

// They panic when nobody reads, or a disk is full.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod flush;
pub mod fold;
mod held;
pub mod metrics;
mod pace;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use footfall_shared::mysql::{Fences, Store};
use footfall_shared::protocol::Shard;
use footfall_shared::redis::Redis;
use footfall_shared::redis::presence;
use footfall_shared::service::config::{self, Config};
use footfall_shared::service::lifecycle::{self, Lifecycle, Watchdog};
use footfall_shared::service::{admin, telemetry};
use footfall_shared::stores;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Moves counted views from Redis to MySQL or MariaDB, in transactions, each view exactly once.
///
/// Any number of flushers may run; one is enough. A flush starts when 30 views or 10 articles wait, or a
/// view has waited for a second, and takes everything that waits.
/// Configuration: defaults, then --config FILE (TOML), then the environment, for example
/// FOOTFALL_REDIS__URL, FOOTFALL_DATABASE__URL, FOOTFALL_FLUSHER__UPDATES.
/// SIGTERM: flushes once more, exit 0. A second one, after a second or more, ends at once, which loses nothing either.
#[derive(Parser)]
#[command(
    name = "footfall-flusher",
    version,
    after_long_help = config::help(&["redis", "database", "log", "reads", "flusher"])
)]
struct Flags {
    /// The configuration file.
    #[arg(long, env = "FOOTFALL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write the address at which this process listens to a file.
    #[arg(long, value_name = "FILE", hide = true)]
    announce: Option<PathBuf>,
}

/// The whole program.
pub fn main() -> ExitCode {
    let flags = Flags::parse();
    lifecycle::main(flags.config.as_deref(), |config, lifecycle| async move {
        let admin = lifecycle::bind(config.flusher.admin).await?;
        admin::announce(flags.announce.as_deref(), &[("admin", &admin)])?;
        let store = Store::new(&config.database).await?;
        run(config, store, admin, lifecycle).await
    })
}

/// How long the last flush may take after a signal.
const LAST_FLUSH: Duration = Duration::from_secs(10);

async fn run(config: Config, store: Store, admin: TcpListener, mut lifecycle: Lifecycle) -> anyhow::Result<()> {
    let redis = Redis::new(&config.redis, config.redis.timeout)?;
    stores::check(&redis, &store, config.shards.get()).await?;
    let readiness = telemetry::Readiness::default();
    let metrics = metrics::Metrics::new();
    let port = admin.local_addr()?.port();
    let presence = presence::report(redis.clone(), "flusher", port, readiness.clone(), lifecycle.stop());
    lifecycle.spawn("presence", presence);
    lifecycle.spawn("admin server", admin::serve(admin, readiness.clone(), lifecycle.stop()));
    let store: Arc<dyn Fences> = Arc::new(store);
    let watchdog = Watchdog::default();
    let mut shards = JoinSet::new();
    for shard in Shard::all(config.shards.get()) {
        readiness.set_part(&format!("shard {shard}"), Some("not looked at yet".into()));
        let flusher = flush::Flusher::new(
            &config,
            redis.shard(shard),
            Arc::clone(&store),
            readiness.clone(),
            metrics.clone(),
            watchdog.watch(),
        );
        shards.spawn(flusher.run(lifecycle.stop()));
    }
    lifecycle.spawn("flushers", async move {
        shards.join_all().await;
        Ok(())
    });
    lifecycle.run(LAST_FLUSH).await
}
