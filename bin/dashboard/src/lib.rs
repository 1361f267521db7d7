//! The dashboard: live numbers for people, over a page and a WebSocket.
//!
//! | module | what |
//! | --- | --- |
//! | `feed` | the live numbers, as a state machine without I/O |
//! | `reader` | reads Redis and MySQL for the feed, once for all viewers |
//! | `numbers`, `conservation`, `events`, `instances` | the arithmetic of the feed |
//! | `snapshot`, `frame` | what is shown at one moment, and the messages made of it |
//! | `client`, `inbound` | the WebSocket of one viewer |
//! | `watched` | the live numbers of one article |
//! | `history` | the last minutes of the live numbers |
//! | `lists` | lists from MySQL, page by page |
//! | `access` | who may see what |
//! | `routes`, `assets` | which request gets which response |

// They panic when nobody reads, or a disk is full.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod access;
mod assets;
mod client;
mod conservation;
mod events;
mod feed;
mod frame;
mod history;
mod inbound;
mod instances;
mod lists;
mod now;
mod numbers;
mod reader;
mod routes;
mod snapshot;
mod watched;

use std::num::NonZeroU32;
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
use crate::frame::Frame;
use crate::history::History;
use crate::lists::{Lists, Source};
use crate::now::Now;
use crate::numbers::StoredUntil;
use crate::reader::{Outputs, Reader};
use crate::routes::Routes;
use crate::watched::Watched;

/// How long a store may take to answer, unless the configuration says less: a viewer shall learn of a hanging store within
/// about two seconds.
const STORE_TIMEOUT_MAX: Duration = ms(1_000);
/// The one reader needs one connection, and one more while a lost one is given up.
const DATABASE_CONNECTIONS_MAX: NonZeroU32 = NonZeroU32::new(2).expect("it is not 0");

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
    let timeout = config.redis.timeout.min(STORE_TIMEOUT_MAX);
    let redis = Redis::new(&config.redis, timeout)?;
    let store = Store::new(&Database {
        connections_max: config.database.connections_max.min(DATABASE_CONNECTIONS_MAX),
        timeout: config.database.timeout.min(STORE_TIMEOUT_MAX),
        ..config.database.clone()
    })
    .await?;
    stores::check(&redis, &store, config.shards.get()).await?;

    let readiness = Readiness::not_yet("no numbers were read yet");
    // Lists have a pool of their own: slow ones must not hold up the live numbers.
    let counts = HitCounts::default();
    let history = Store::new(&config.database).await?;
    let reads = Arc::new(Reads::new(
        &redis,
        Arc::new(history.clone()),
        counts.clone(),
        &config.reads,
        config.shards.get(),
        timeout,
    ));
    let stored_until = Arc::new(StoredUntil::default());
    let replica = match &config.database.read_url {
        Some(url) => Some(Store::new(&Database { url: url.clone(), ..config.database.clone() }).await?),
        None => None,
    };
    let source = Source::new(history, replica, Arc::clone(&stored_until));
    let lists = Lists::new(source, &config.database, counts.clone(), config.reads.ttl);
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
    let period = Duration::from_secs(1) / config.dashboard.updates_per_second.get();
    let feed = Feed::new(Now::read(), period, config.shards.get());
    let (sender, frames) = watch::channel(Frame::first(feed.snapshot()));
    let history = Arc::new(History::default());
    let outputs = Outputs { frames: sender, history: Arc::clone(&history), stored_until, readiness: readiness.clone() };
    let reader = Reader::new(redis, Arc::clone(&reads), store, config.shards.get());
    lifecycle.spawn("feed", reader.run(feed, outputs, lifecycle.stop()));
    let watched = Arc::new(Watched::new(Arc::clone(&reads), period));
    lifecycle.spawn("admin server", admin::serve(listeners.admin, readiness.clone(), lifecycle.stop()));

    let viewers_max = lifecycle::connections_max(
        "dashboard.connections_max",
        config.dashboard.connections_max.get(),
        config.shards.get(),
    );
    let drain = config.dashboard.drain.unwrap_or_default();
    let limits = Limits {
        connections_max: viewers_max,
        connections_per_address_max: config.http.connections_per_address_max.get(),
        trusted_proxies: config.http.trusted_proxies.clone(),
        header_timeout: config.dashboard.header_timeout,
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
            async move { routes.respond(client, request).await }
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
    // Viewers get a close frame at once; the two seconds are for one that is slow to read it.
    lifecycle.run(drain + Duration::from_secs(2)).await
}
