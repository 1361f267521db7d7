//! The dashboard: live numbers for people, over a page and a WebSocket.
//!
//! `feed` reads Redis and MySQL, once for all; `numbers` adds up; `conservation` keeps the books; `frame` says it in
//! JSON; `events` tells what happened, `history` where the numbers come from, `instances` who is there; `access` says who
//! may see what; `client` is one viewer; `lists` answers pages of lists; `watched` is one article, live; `routes` is who
//! gets what.

// They panic when nobody reads, or a disk is full.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod access;
mod assets;
pub mod client;
pub mod conservation;
pub mod events;
pub mod feed;
pub mod frame;
pub mod history;
mod instances;
pub mod lists;
pub mod numbers;
mod quiet;
pub mod routes;
pub mod watched;

use std::sync::Arc;
use std::time::Duration;

use footfall_shared::mysql::Store;
use footfall_shared::redis::Redis;
use footfall_shared::redis::presence;
use footfall_shared::service::admin;
use footfall_shared::service::config::{Config, Database, ms};
use footfall_shared::service::http::{self, Limits};
use footfall_shared::service::lifecycle::{self, Lifecycle, Service};
use footfall_shared::service::telemetry::Readiness;
use footfall_shared::stores;
use footfall_shared::stores::reads::{HitCounts, Reads};
use hyper::Request;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::access::Access;
use crate::feed::Feed;
use crate::history::History;
use crate::lists::Lists;
use crate::numbers::StoredUntil;
use crate::routes::Routes;
use crate::watched::Watched;

/// How long a store may take to answer, if the configuration does not say less: a viewer shall hear of
/// a hanging store within about two seconds.
const STORE_TIMEOUT_MAX: Duration = ms(1_000);
/// The one reader needs one connection, and one more while a lost one is given up.
const DATABASE_CONNECTIONS_MAX: u32 = 2;

/// Where the dashboard listens.
pub struct Listeners {
    /// The page and the WebSocket.
    pub page: TcpListener,
    /// `/metrics`.
    pub admin: TcpListener,
}

/// Runs until a signal.
pub fn run(config: Config, listeners: Listeners, lifecycle: Lifecycle) -> Service {
    Box::pin(serve(config, listeners, lifecycle))
}

async fn serve(config: Config, listeners: Listeners, mut lifecycle: Lifecycle) -> anyhow::Result<()> {
    let timeout = config.redis.timeout_ms.min(STORE_TIMEOUT_MAX);
    let redis = Redis::new(&config.redis, timeout)?;
    let store = Store::new(&Database {
        connections_max: config.database.connections_max.min(DATABASE_CONNECTIONS_MAX),
        timeout_ms: config.database.timeout_ms.min(STORE_TIMEOUT_MAX),
        ..config.database.clone()
    })
    .await?;
    stores::check(&redis, &store, config.shards).await?;

    let readiness = Readiness::not_yet("no numbers were read yet");
    // A pool of their own: lists that take their time must not stop the live numbers.
    let counts = HitCounts::default();
    let history = Store::new(&config.database).await?;
    let reads =
        Arc::new(Reads::new(&redis, Arc::new(history.clone()), counts.clone(), &config.reads, config.shards, timeout));
    let stored_until = Arc::new(StoredUntil::default());
    let lists = Lists::new(history, &config.database, counts.clone(), config.reads.ttl_ms, Arc::clone(&stored_until));
    lifecycle.spawn("report of hit rates", {
        let (redis, stop) = (redis.clone(), lifecycle.stop());
        async move {
            stop.run_until_cancelled(counts.report(&redis, Duration::from_secs(1))).await;
            Ok(())
        }
    });
    let port = listeners.page.local_addr()?.port();
    let presence = presence::report(redis.clone(), "dashboard", port, readiness.clone(), lifecycle.stop());
    lifecycle.spawn("presence", presence);
    let feed = Feed::new(redis, Arc::clone(&reads), store, config.shards, stored_until);
    let history = Arc::new(History::default());
    let (sender, frames) = watch::channel(feed.first_frame());
    let period = Duration::from_secs(1) / config.dashboard.updates_per_second;
    let watched = Arc::new(Watched::new(Arc::clone(&reads), period));
    lifecycle.spawn("feed", feed.run(period, sender, Arc::clone(&history), readiness.clone(), lifecycle.stop()));
    lifecycle.spawn("admin server", admin::serve(listeners.admin, readiness.clone(), lifecycle.stop()));

    let viewers_max =
        lifecycle::connections_max("dashboard.connections_max", config.dashboard.connections_max, config.shards);
    let drain = config.dashboard.drain_ms;
    let limits = Limits {
        connections_max: viewers_max,
        connections_per_address_max: config.http.connections_per_address_max,
        trusted_proxies: config.http.trusted_proxies.clone(),
        header_timeout: config.dashboard.header_timeout_ms,
        drain,
        announced_by: config.http.announced_by(),
    };
    let access = Access::new(&config.dashboard);
    let routes = Arc::new(Routes::new(
        access,
        frames,
        history,
        watched,
        reads,
        lists,
        readiness.clone(),
        viewers_max,
        lifecycle.stop(),
    ));
    let handler = {
        let (routes, proxies) = (Arc::clone(&routes), Arc::new(config.http.trusted_proxies));
        move |peer, request: Request<Incoming>| {
            let client = proxies.client(peer, request.headers());
            let routes = Arc::clone(&routes);
            async move { routes.answer(client, request).await }
        }
    };
    let stop = lifecycle.stop();
    lifecycle.spawn("page", async move {
        http::serve(listeners.page, limits, stop, handler).await?;
        routes.viewers_gone().await;
        Ok(())
    });
    let stop = lifecycle.stop();
    lifecycle.spawn("drain", async move {
        stop.cancelled().await;
        readiness.set(Some("this process is stopping".into()));
        Ok(())
    });
    // Viewers are told to go at once; this is for one that does not read just then.
    lifecycle.run(drain + Duration::from_secs(2)).await
}
