//! The HTTP service that counts: request -> view -> batch -> Redis, then the answer.

// They panic when nobody reads, or a disk is full.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod adopt;
mod batch;
pub mod blocking;
pub mod bodies;
mod bots;
pub mod budgets;
pub mod counting;
mod direct;
#[cfg(test)]
mod fixture;
mod graded;
mod ids;
pub mod intake;
mod lane;
mod link;
mod origins;
pub mod page;
pub mod posted;
pub mod request;
pub mod routes;
pub mod visitor;

use std::sync::Arc;
use std::time::Duration;

use footfall_journal::{Disk, Folder};
use footfall_shared::mysql::Store;
use footfall_shared::protocol::Producer;
use footfall_shared::redis::Redis;
use footfall_shared::redis::presence;
use footfall_shared::service::config::{Config, Journal, ms};
use footfall_shared::service::lifecycle::{self, EXIT_CONFIGURATION, ExitError, Lifecycle, Service};
use footfall_shared::service::{admin, http, random, telemetry};
use footfall_shared::stores;
use footfall_shared::stores::reads::{HitCounts, Reads};
use tokio::net::TcpListener;
use tracing::warn;

use crate::blocking::Blocking;
use crate::counting::{Counting, Dependencies};
use crate::visitor::{Salts, Visitors};

/// Where the service listens.
pub struct Listeners {
    /// Views and reads.
    pub public: TcpListener,
    /// `/metrics`.
    pub admin: TcpListener,
}

/// Runs until a signal.
pub fn run(config: Config, listeners: Listeners, lifecycle: Lifecycle) -> Service {
    Box::pin(serve(config, listeners, lifecycle))
}

async fn serve(config: Config, listeners: Listeners, mut lifecycle: Lifecycle) -> anyhow::Result<()> {
    let redis = Redis::new(&config.redis, config.redis.timeout)?;
    let store = Store::new(&config.database).await?;
    stores::check(&redis, &store, config.shards.get()).await?;
    let readiness = telemetry::Readiness::default();
    let patience = config.redis.timeout.min(READ_PATIENCE_MAX);
    let counts = HitCounts::default();
    let reads = Arc::new(Reads::new(
        &redis,
        Arc::new(store.clone()),
        counts.clone(),
        &config.reads,
        config.shards.get(),
        patience,
    ));
    lifecycle.spawn("report of hit rates", {
        let (redis, stop) = (redis.clone(), lifecycle.stop());
        async move {
            stop.run_until_cancelled(counts.report(&redis, Duration::from_secs(1))).await;
            Ok(())
        }
    });
    let port = listeners.public.local_addr()?.port();
    let presence = presence::report(redis.clone(), "ingest", port, readiness.clone(), lifecycle.stop());
    lifecycle.spawn("presence", presence);
    let salts = if config.ingest.anonymous { Some(Arc::new(Salts::agreed(&redis).await)) } else { None };
    if let Some(salts) = &salts {
        lifecycle.spawn("salts of the days", Arc::clone(salts).keep(redis.clone(), lifecycle.stop()));
    }
    let visitors = Visitors::new(&config, salts, readiness.clone());
    let disk = journal_folder(&config.ingest.journal)?;
    let counting = Counting::start(
        &config,
        Dependencies {
            redis,
            fences: Arc::new(store),
            disk,
            blocking: Blocking::Threads,
            producer: Producer(random::number()),
            readiness: readiness.clone(),
        },
    )?;

    lifecycle.spawn("admin server", admin::serve(listeners.admin, readiness.clone(), lifecycle.stop()));
    lifecycle.spawn("drain", {
        let (stop, readiness) = (lifecycle.stop(), readiness.clone());
        async move {
            stop.cancelled().await;
            readiness.set(Some("this process is stopping".into()));
            Ok(())
        }
    });

    let drain = config.ingest.drain.unwrap_or_default();
    let limits = http::Limits {
        connections_max: lifecycle::connections_max(
            "ingest.connections_max",
            config.ingest.connections_max.get(),
            config.shards.get(),
        ),
        connections_per_address_max: config.http.connections_per_address_max.get(),
        trusted_proxies: config.http.trusted_proxies.clone(),
        header_timeout: config.ingest.header_timeout,
        drain,
        announced_by: config.http.announced_by(),
    };
    let routes = Arc::new(routes::Routes::new(&config, counting.intake.clone(), reads, visitors, readiness));
    let stop = lifecycle.stop();
    lifecycle.spawn("server", async move {
        let handler = move |peer, request| Arc::clone(&routes).answer(peer, request);
        http::serve(listeners.public, limits, stop, handler).await?;
        // The server's end has dropped the routes: the batchers finish what clients wait for and end.
        if tokio::time::timeout(Duration::from_secs(1), counting.end()).await.is_err() {
            warn!("views without an acknowledgement were left behind: neither Redis nor MySQL could be reached");
        }
        Ok(())
    });
    lifecycle.run(drain + Duration::from_secs(3)).await
}

/// A read waits no longer than this for a store that hangs.
const READ_PATIENCE_MAX: Duration = ms(500);

fn journal_folder(journal: &Journal) -> Result<Option<Arc<dyn Disk>>, ExitError> {
    let Some(path) = journal.folder() else {
        warn!(
            "the journal is off: views that Redis loses are lost if this process ends too, and none is counted while \
             Redis and MySQL are both away"
        );
        return Ok(None);
    };
    let folder = Folder::open(path).map_err(|error| ExitError {
        code: EXIT_CONFIGURATION,
        sentence: format!(
            "the journal cannot be kept in {journal}: {error}; set ingest.journal (FOOTFALL_INGEST__JOURNAL) to a folder \
             of this process's own, or to `off`"
        ),
    })?;
    Ok(Some(Arc::new(folder)))
}
