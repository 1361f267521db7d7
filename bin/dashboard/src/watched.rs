//! Articles that viewers watch: each is read once per period, whatever the number of viewers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use footfall_shared::protocol::Article;
use footfall_shared::service::telemetry::{self, IntGauge};
use footfall_shared::stores::reads::{ArticleNumbers, Reads};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::frame::Frame;

/// Articles that can be watched at once.
const ARTICLES_MAX: usize = 1_000;

/// The articles that are watched now.
pub(crate) struct Watched {
    reads: Arc<Reads>,
    period: Duration,
    articles: Mutex<HashMap<Article, watch::Sender<Frame>>>,
    articles_now: IntGauge,
}

/// What a viewer of one article sees; null what is not known.
#[derive(Debug, Clone, Serialize)]
struct ArticleSnapshot {
    article: String,
    views: Option<u64>,
    /// The views that are known of, where that is a part.
    at_least: Option<u64>,
    readers: Option<u64>,
    pending: Option<u64>,
    as_of: Option<String>,
    /// Why the numbers may be behind; null while all is well.
    degraded: Option<&'static str>,
}

impl ArticleSnapshot {
    fn initial(article: &Article) -> Self {
        let article = article.to_string();
        Self { article, views: None, at_least: Some(0), readers: None, pending: None, as_of: None, degraded: None }
    }

    fn of(numbers: ArticleNumbers) -> Self {
        let ArticleNumbers { article, views, at_least, readers, pending, as_of, degraded, source: _ } = numbers;
        Self { article, views, at_least, readers, pending, as_of, degraded }
    }
}

impl Watched {
    /// Reads each article once per `period`.
    #[must_use]
    pub(crate) fn new(reads: Arc<Reads>, period: Duration) -> Self {
        let articles_now = telemetry::gauge("footfall_dashboard_watched_articles", "Articles that somebody watches.");
        Self { reads, period, articles: Mutex::default(), articles_now }
    }

    /// The numbers of an article from now on; none if too many articles are watched.
    pub(crate) fn watch(self: &Arc<Self>, article: Article) -> Option<watch::Receiver<Frame>> {
        let mut articles = self.articles();
        if let Some(frames) = articles.get(&article) {
            return Some(frames.subscribe());
        }
        if articles.len() >= ARTICLES_MAX {
            return None;
        }
        let (sender, frames) = watch::channel(Frame::first(&ArticleSnapshot::initial(&article)));
        articles.insert(article.clone(), sender);
        self.articles_now.inc();
        tokio::spawn(Arc::clone(self).read(article));
        Some(frames)
    }

    /// Reads an article until nobody watches it any more.
    async fn read(self: Arc<Self>, article: Article) {
        let mut ticks = interval(self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let snapshot = ArticleSnapshot::of(self.reads.article(&article).await);
            // A new viewer subscribes under the same lock: so no viewer is left with an article that is not read any more.
            let mut articles = self.articles();
            match articles.get(&article) {
                Some(frames) if frames.receiver_count() > 0 => {
                    frames.send_modify(|frame| *frame = frame.next(&snapshot));
                }
                _ => {
                    articles.remove(&article);
                    self.articles_now.dec();
                    return;
                }
            }
        }
    }

    fn articles(&self) -> MutexGuard<'_, HashMap<Article, watch::Sender<Frame>>> {
        self.articles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
