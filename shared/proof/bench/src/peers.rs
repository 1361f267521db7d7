//! `footfall-bench peer`: what ours is compared with. Each takes the same requests apart, and all but the first bring the
//! same rows of MySQL to the same counts.

mod cached;
mod direct;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use footfall_ingest::posted::{self, Posted};
use footfall_ingest::request::{self, Rejection, Sent};
use footfall_shared::protocol::View;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use redis::aio::MultiplexedConnection;
use sea_orm::sqlx::MySqlPool;
use tokio::net::TcpListener;

pub(crate) use cached::{DIRTY, PASSES};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// Reads the request and answers: the limit of what any server on hyper can do.
    Bare,
    /// Counts each view in Redis by a script, and answers when that was carried out.
    Cached,
    /// No server: the job of [`Peer::Cached`] that moves the counts into MySQL.
    Mover,
    /// Counts each view in MySQL, and answers when that was carried out.
    Direct,
}

/// How to run it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_enum)]
    peer: Peer,
    /// The Redis of [`Peer::Cached`] and [`Peer::Mover`].
    #[arg(long)]
    redis: Option<String>,
    /// The MySQL of [`Peer::Mover`] and [`Peer::Direct`].
    #[arg(long)]
    mysql: Option<String>,
    /// The file in which a server says where it listens.
    #[arg(long)]
    announce: Option<PathBuf>,
}

/// Where a server counts.
#[derive(Clone)]
enum Counter {
    Nowhere,
    Redis(MultiplexedConnection),
    MySql(MySqlPool),
}

impl Counter {
    async fn count(&self, view: &View) -> anyhow::Result<()> {
        match self {
            Self::Nowhere => {}
            Self::Redis(redis) => cached::count(redis.clone(), view).await?,
            Self::MySql(pool) => direct::count(pool, view).await?,
        }
        Ok(())
    }
}

/// Serves, or moves, until it is killed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // As our own services do: on few cores a second thread only takes time from the load and the stores.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let redis = async {
            let client = redis::Client::open(args.redis.as_deref().context("--redis is missing")?)?;
            anyhow::Ok(client.get_multiplexed_async_connection().await?)
        };
        let mysql = || args.mysql.as_deref().context("--mysql is missing");
        match args.peer {
            Peer::Bare => serve(args, Counter::Nowhere).await,
            Peer::Cached => serve(args, Counter::Redis(redis.await?)).await,
            Peer::Direct => serve(args, Counter::MySql(direct::pool(mysql()?).await?)).await,
            Peer::Mover => cached::move_for_ever(redis.await?, mysql()?).await,
        }
    })
}

async fn serve(args: &Args, counter: Counter) -> anyhow::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let announce = args.announce.as_ref().context("--announce is missing")?;
    std::fs::write(announce, listener.local_addr()?.to_string())?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let counter = counter.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, counter.clone()));
            // A client that goes away is no error.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, counter: Counter) -> Result<Response<Full<Bytes>>, Infallible> {
    let refuse = |status, message: String| {
        let mut answer = Response::new(Full::from(message));
        *answer.status_mut() = status;
        Ok(answer)
    };
    let views = match views(request).await {
        Ok(views) => views,
        Err(rejection) => return refuse(rejection.reason.status(), rejection.message),
    };
    for view in &views {
        if let Err(error) = counter.count(view).await {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}"));
        }
    }
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    Ok(answer)
}

async fn views(request: Request<Incoming>) -> Result<Vec<View>, Rejection> {
    if request.method() == Method::GET {
        request::article_in_path(request.uri().path().strip_prefix("/v1/articles/").unwrap_or_default())?;
        return Ok(vec![]);
    }
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Ok(match posted::posted(&body, false, usize::MAX)? {
        Posted::One(sent) => Vec::from_iter(view(sent)),
        Posted::Many(many) => many.sent.into_iter().filter_map(|(_, sent)| view(sent)).collect(),
    })
}

/// Each view of a load has a user.
fn view(Sent { article, user, id }: Sent) -> Option<View> {
    Some(View { article, user: user?, id })
}
