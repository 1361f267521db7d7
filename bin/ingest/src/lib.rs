//! The HTTP service that counts: request -> view -> batch -> Redis, then the answer.

pub mod batch;
pub mod page;
pub mod request;
pub mod routes;

use std::sync::Arc;
use std::time::Duration;

use footfall_shared::config::{Config, ms};
use footfall_shared::lifecycle::{self, Lifecycle};
use footfall_shared::queue::Redis;
use footfall_shared::reads::Reads;
use footfall_shared::store::Store;
use footfall_shared::{http, telemetry};
use tokio::net::TcpListener;

/// Where the service listens.
pub struct Listeners {
    /// Views and reads.
    pub public: TcpListener,
    /// `/metrics`.
    pub admin: TcpListener,
}

/// Runs until a signal.
pub async fn run(config: Config, listeners: Listeners, mut lifecycle: Lifecycle) -> anyhow::Result<()> {
    let redis = Redis::new(&config.redis.url.0, ms(config.redis.timeout_ms))?;
    let store = Store::new(&config.database).await?;
    lifecycle::check_schema(&store, config.shards).await?;
    let readiness = telemetry::Readiness::default();
    let reads = Arc::new(Reads::new(redis.clone(), store.clone(), config.shards, ms(config.reads.ttl_ms)));
    let (intake, batchers) = batch::start(&config, &redis, &store, &readiness);

    let report = Arc::clone(&reads);
    lifecycle.spawn("report of hit rates", {
        let stop = lifecycle.stop();
        async move {
            stop.run_until_cancelled(report.report("article", Duration::from_secs(1))).await;
            Ok(())
        }
    });
    lifecycle.spawn("admin server", telemetry::serve_admin(listeners.admin, readiness.clone(), lifecycle.stop()));
    lifecycle.spawn("drain", {
        let (stop, readiness) = (lifecycle.stop(), readiness.clone());
        async move {
            stop.cancelled().await;
            readiness.set(Some("this process is stopping".into()));
            Ok(())
        }
    });

    let drain = ms(config.ingest.drain_ms);
    let limits = http::Limits {
        connections_max: config.ingest.connections_max,
        header_timeout: ms(config.ingest.header_timeout_ms),
        drain,
    };
    let routes = Arc::new(routes::Routes::new(&config, intake, reads, readiness));
    let stop = lifecycle.stop();
    lifecycle.spawn("server", async move {
        http::serve(listeners.public, limits, stop, move |request| Arc::clone(&routes).answer(request)).await?;
        // The server's end has dropped the last intake: the batchers finish what they have and end.
        if tokio::time::timeout(Duration::from_secs(1), batchers.join_all()).await.is_err() {
            tracing::warn!("views without an acknowledgement were left behind: Redis could not be reached");
        }
        Ok(())
    });
    lifecycle.run(drain + Duration::from_secs(3)).await
}
