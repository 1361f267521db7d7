//! The clients of ingest: they send views, hear what became of them or not, and repeat what has ids.

use std::sync::Arc;
use std::time::Duration;

use footfall_ingest::intake::NotCounted;
use footfall_shared::protocol::{Article, User, View, ViewId};

use crate::books::Pair;
use crate::mysql::POISON;
use crate::processes::World;
use crate::stage::{INGESTS, sleep_ms};
use footfall_proof::{Dice, Settings};

/// How often a client tries again.
const TRIES_MAX: usize = 8;

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// When it is sent first.
    pub at_ms: u64,
    views: Vec<View>,
    pairs: Vec<Pair>,
    has_ids: bool,
    ingest: usize,
    /// Sent to both ingests at once, by a client that knows no better.
    is_double: bool,
    /// How long the client waits; it may be less patient than ingest.
    patience_ms: u64,
}

/// All requests of a run.
#[must_use]
pub fn requests(dice: &Dice, settings: &Settings) -> Vec<Request> {
    let mut users = 0;
    let mut requests: Vec<Request> = (0..settings.requests)
        .map(|_| {
            let has_ids = dice.chance(settings.ids_percent);
            let mut views: Vec<View> = vec![];
            for _ in 0..dice.pick(&[1, 1, 1, 2, 5]) {
                users += 1;
                let article = format!("a{}", dice.range(1, settings.articles));
                // Most users come once, so that each of their views can be told from all others.
                let user = match () {
                    () if has_ids => format!("u{users}"),
                    () if dice.chance(settings.poison_percent) => POISON.into(),
                    () if dice.chance(30) => format!("often{}", dice.range(1, 3)),
                    () => format!("u{users}"),
                };
                views.push(View {
                    article: Article::parse(article.as_bytes()).expect("it is short"),
                    id: has_ids.then(|| ViewId::parse(user.as_bytes()).expect("it is short")),
                    user: User::parse(user.as_bytes()).expect("it is short"),
                });
            }
            Request {
                at_ms: dice.range(0, settings.traffic_ms),
                pairs: views.iter().map(|view| (view.article.as_str().into(), view.user.as_str().into())).collect(),
                views,
                has_ids,
                ingest: dice.index(INGESTS),
                is_double: has_ids && dice.chance(10),
                patience_ms: dice.pick(&[30_000, 30_000, 30_000, 20]),
            }
        })
        .collect();
    requests.sort_by_key(|request| request.at_ms);
    requests
}

/// Sends a request until it is acknowledged, or until the client must give up.
pub async fn send(world: Arc<World>, request: Request) {
    if request.is_double {
        let (world, request) = (Arc::clone(&world), request.clone());
        tokio::spawn(async move { send_to(&world, &request, (request.ingest + 1) % INGESTS).await });
    }
    send_to(&world, &request, request.ingest).await;
}

async fn send_to(world: &World, request: &Request, mut ingest: usize) {
    let Request { views, pairs, has_ids, .. } = request;
    for _ in 0..TRIES_MAX {
        let Some(reached) = world.reach(ingest) else {
            sleep_ms(300).await;
            ingest = (ingest + 1) % INGESTS;
            continue;
        };
        world.books.attempt(pairs, *has_ids, world.stage.trace.now_ms());
        let counted = {
            let patience = Duration::from_millis(request.patience_ms);
            let count = tokio::time::timeout(patience, reached.intake.count(views.clone()));
            tokio::select! {
                biased;
                counted = count => counted.ok(),
                () = reached.closed.cancelled() => None,
            }
        };
        let code = match counted {
            Some(Ok(())) => 0,
            Some(Err(NotCounted::Full)) => 1,
            Some(Err(NotCounted::Unknown)) => 2,
            None => 3,
        };
        world.stage.trace.note("client", &[ingest as u64, code, views.len() as u64], || {
            let users: Vec<&str> = views.iter().map(|view| view.user.as_str()).collect();
            format!("{users:?} at ingest {ingest} ({}), ids {has_ids}: {counted:?}", reached.producer)
        });
        drop(reached);
        match counted {
            Some(Ok(())) => return world.books.acknowledged(pairs, *has_ids, world.stage.trace.now_ms()),
            Some(Err(NotCounted::Full)) => world.books.refused(pairs, *has_ids),
            // Nobody knows what became of it: only an id makes a repeat harmless.
            Some(Err(NotCounted::Unknown)) | None if *has_ids => ingest = (ingest + 1) % INGESTS,
            Some(Err(NotCounted::Unknown)) | None => return,
        }
        sleep_ms(200).await;
    }
}
