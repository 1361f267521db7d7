//! Serves lists from memory while they are fresh, and limits how many are read from MySQL at once.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use footfall_shared::mysql::StoreError;
use footfall_shared::protocol::errors::Grade;
use footfall_shared::service::breaker::Breaker;
use footfall_shared::service::clock;
use footfall_shared::service::config::Database;
use footfall_shared::service::http::{self, HttpResponse};
use footfall_shared::service::telemetry::{self, IntCounter};
use footfall_shared::stores::reads::HitCounts;
use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::json::ListBody;
use super::reader;
use super::route::{KINDS, List};
use super::source::Source;

/// Lists of one kind that are requested at once.
const REQUESTS_MAX: usize = 8;
/// Entries of all lists that are cached: some tens of MB.
const CACHED_ENTRIES_MAX: u64 = 50_000;
/// A list that lacks something is read again after this time already.
const INCOMPLETE_TTL: Duration = Duration::from_secs(1);

/// Serves lists. Apart from the live numbers, so that a list that takes its time does not hold these up.
pub(crate) struct Lists {
    source: Source,
    kinds: [Kind; KINDS],
    cache: Cache<List, Slot, Entries>,
    /// How long a list is cached.
    ttl: Duration,
    /// How long a read waits for its permit.
    timeout: Duration,
    counts: HitCounts,
    rejected: IntCounter,
}

/// Lists that take about as long as each other. Each kind has a breaker, permits and a share of the connections to MySQL:
/// one that has become slow does not hold up the others.
struct Kind {
    mysql: Mutex<Breaker>,
    /// Requests at once: one that gets no permit is rejected.
    requests: Arc<Semaphore>,
    /// Reads in MySQL at once: the other requests wait for a permit.
    reads: Arc<Semaphore>,
}

/// The right to read a list from MySQL.
struct ReadPermit {
    _request: OwnedSemaphorePermit,
    _read: OwnedSemaphorePermit,
}

/// One list as it was read last. Whoever reads it again holds the lock, so that all others who want it wait for that read.
type Slot = Arc<tokio::sync::Mutex<Option<CachedList>>>;

struct CachedList {
    since: Instant,
    read_at: String,
    as_of: Option<String>,
    list: serde_json::Value,
    /// What MySQL lacked then, in a message.
    missing: Option<String>,
}

impl CachedList {
    fn is_fresh(&self, ttl: Duration) -> bool {
        self.since.elapsed() < if self.missing.is_some() { ttl.min(INCOMPLETE_TTL) } else { ttl }
    }

    fn response(&self, degraded: Option<String>) -> HttpResponse {
        let degraded = degraded.or_else(|| self.missing.clone());
        http::json(
            StatusCode::OK,
            &ListBody { list: &self.list, read_at: &self.read_at, as_of: self.as_of.as_deref(), degraded },
        )
    }
}

/// Weighs a list by the entries that it may have.
#[derive(Clone)]
struct Entries;

impl Weighter<List, Slot> for Entries {
    fn weight(&self, list: &List, _: &Slot) -> u64 {
        u64::from(list.entries_max())
    }
}

impl Lists {
    /// Reads from there, over half of its connections for each kind of list at most, and caches each list for `ttl`.
    pub(crate) fn new(source: Source, database: &Database, counts: HitCounts, ttl: Duration) -> Self {
        let rejected =
            telemetry::counter("footfall_dashboard_lists_refused_total", "Lists refused because too many were read.");
        let reads = (database.connections_max.get() as usize / 2).clamp(1, REQUESTS_MAX);
        let kind = |_| Kind {
            mysql: Mutex::new(Breaker::new(0)),
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            reads: Arc::new(Semaphore::new(reads)),
        };
        Self {
            source,
            kinds: std::array::from_fn(kind),
            cache: Cache::with_weighter(1_000, CACHED_ENTRIES_MAX, Entries),
            ttl,
            timeout: database.timeout,
            counts,
            rejected,
        }
    }

    /// The response to a request for a list.
    pub(crate) async fn respond(self: &Arc<Self>, list: List) -> HttpResponse {
        let slot = if list.may_be_cached() {
            let Ok(slot) = self.cache.get_or_insert_with(&list, || Ok::<_, Infallible>(Slot::default()));
            slot
        } else {
            Slot::default()
        };
        let mut cached = slot.lock_owned().await;
        if let Some(cached) = cached.as_ref().filter(|cached| cached.is_fresh(self.ttl)) {
            self.counts.hit(list.interface());
            return cached.response(None);
        }
        let interface = list.interface();
        let (cached, read) = match self.permit(&list).await {
            Ok(permit) => {
                // The client may go away, and MySQL does not notice: it works on to the end or to the time limit. So the
                // read keeps its permit until then, and what it found is there for the next request.
                let lists = Arc::clone(self);
                let read = tokio::spawn(async move {
                    let _permit = permit;
                    let read = lists.read(&list).await.map(|list| *cached = Some(list));
                    (cached, read)
                });
                let Ok(read) = read.await else {
                    return unavailable("lists come from MySQL, which cannot be read now");
                };
                read
            }
            Err(reason) => (cached, Err(reason)),
        };
        match (cached.as_ref(), read) {
            (Some(cached), Ok(())) => cached.response(None),
            // An old list, with the reason why it is old.
            (Some(cached), Err(reason)) => {
                self.counts.hit(interface);
                cached.response(Some(reason))
            }
            (None, read) => unavailable(&read.err().unwrap_or_default()),
        }
    }

    /// A permit to read a list, if one is free in time and MySQL is well, as far as is known.
    async fn permit(&self, list: &List) -> Result<ReadPermit, String> {
        let kind = &self.kinds[list.kind()];
        let is_well = || {
            let allows = lock(&kind.mysql).allows(Instant::now());
            allows.then_some(()).ok_or("lists come from MySQL, which could not be read a moment ago")
        };
        is_well()?;
        let too_many = || {
            self.rejected.inc();
            "too many lists are read at the moment: try again"
        };
        let request = Arc::clone(&kind.requests).try_acquire_owned().map_err(|_| too_many())?;
        let read = timeout(self.timeout, Arc::clone(&kind.reads).acquire_owned()).await;
        let read = read.ok().and_then(Result::ok).ok_or_else(too_many)?;
        // It may have failed while this one waited.
        is_well()?;
        Ok(ReadPermit { _request: request, _read: read })
    }

    async fn read(&self, list: &List) -> Result<CachedList, String> {
        let mysql = &self.kinds[list.kind()].mysql;
        self.counts.miss(list.interface());
        let since = Instant::now();
        let read = async {
            let horizon = self.source.horizon().await?;
            Ok::<_, StoreError>((horizon, reader::read(self.source.store(), list, horizon).await?))
        };
        match read.await {
            Ok((horizon, list)) => {
                lock(mysql).succeeded();
                let (read_at, as_of) = (clock::rfc3339(horizon.now_ms), horizon.stored_until_ms.map(clock::rfc3339));
                Ok(CachedList { since, read_at, as_of, list, missing: horizon.missing() })
            }
            Err(error) => {
                error.class().count();
                lock(mysql).failed(error.class(), Instant::now());
                Err(format!("lists come from {}, which cannot be read now: {error}", self.source.name()))
            }
        }
    }
}

fn unavailable(reason: &str) -> HttpResponse {
    let mut response = http::sentence(StatusCode::SERVICE_UNAVAILABLE, reason);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn lock(breaker: &Mutex<Breaker>) -> MutexGuard<'_, Breaker> {
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
}
