//! `footfall-bench peer`: the servers that ours is compared with. Each counts the same requests.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::Context;
use footfall_ingest::posted::{self, Posted};
use footfall_ingest::request::{self, Refusal, Sent};
use footfall_shared::counter::View;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use redis::Script;
use redis::aio::MultiplexedConnection;
use tokio::net::TcpListener;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// Reads the request and answers: the limit of what any server on hyper can do.
    Bare,
    /// Sends one EVALSHA for each view, and answers when it was carried out: what most would write.
    OneScript,
}

/// How to run it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_enum)]
    peer: Peer,
    /// The Redis of [`Peer::OneScript`].
    #[arg(long)]
    redis: Option<String>,
    /// The file that says where it listens.
    #[arg(long)]
    announce: PathBuf,
}

/// The usual three things of a counter: how often, by whom, and what the next flush must look at.
static COUNT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
         redis.call('HINCRBY', KEYS[2], ARGV[2], 1)
         redis.call('SADD', KEYS[3], ARGV[1])",
    )
});

/// Serves until it is killed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // As our own services do: on few cores a second thread only takes time from the load and the stores.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        std::fs::write(&args.announce, listener.local_addr()?.to_string())?;
        let redis = match (args.peer, &args.redis) {
            (Peer::Bare, _) => None,
            (Peer::OneScript, url) => {
                let client = redis::Client::open(url.as_deref().context("--redis is missing")?)?;
                Some(client.get_multiplexed_async_connection().await?)
            }
        };
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let redis = redis.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(request, redis.clone()));
                // A client that goes away is no error.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

async fn answer(
    request: Request<Incoming>,
    redis: Option<MultiplexedConnection>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let views = match views(request).await {
        Ok(views) => views,
        Err(refusal) => {
            let mut answer = Response::new(Full::from(refusal.sentence));
            *answer.status_mut() = refusal.reason.status();
            return Ok(answer);
        }
    };
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    if let Some(mut redis) = redis {
        for View { article, user, .. } in views {
            let mut count = COUNT.key("bench:articles");
            count.key(format!("bench:readers:{article}")).key("bench:dirty").arg(article.as_bytes());
            if count.arg(user.as_bytes()).invoke_async::<()>(&mut redis).await.is_err() {
                *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
        }
    }
    Ok(answer)
}

async fn views(request: Request<Incoming>) -> Result<Vec<View>, Refusal> {
    if request.method() == Method::GET {
        let uri = request.uri();
        if let Some(article) = uri.path().strip_prefix("/v1/articles/") {
            request::article_in_path(article)?;
            return Ok(vec![]);
        }
        let article = request::article_in_query(uri.query(), "article")?;
        let user = request::user_in_query(uri.query(), "user")?;
        let id = request::view_id_in_query(uri.query(), "id")?;
        return Ok(Vec::from_iter(view(Sent { article, user, id })));
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
