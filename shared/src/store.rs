//! MySQL or MariaDB: where views are counted for good. Only this module knows SQL.

mod audit;
mod forget;
mod known;
mod lists;
mod quarantine;
mod reach;
mod restore;
mod rows;
mod schema;
mod server;
mod tables;
mod transaction;
mod url;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::{Connection, Executor};
use sea_orm::{
    ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, QueryResult, Statement,
    TransactionTrait, Value,
};

use crate::config;
use crate::contain::{contain_this_task, contained};
use crate::counter::{Article, Batch, Growth, Producer, Row, Shard, User, shown, total};
use crate::grading::mysql_code;

use known::KnownUsers;
use reach::Reach;

pub use audit::{Audit, Books, ProducerFences, column};
pub use forget::{COUNTED_MAX, Forgotten, Which};
pub use lists::{By, ListedArticle, RisingArticle};
pub use quarantine::{Quarantined, Replayed};
pub use restore::{Known, Lost, Positions};
pub use schema::{Found, Look, recorded};
pub use tables::{BYTEWISE, MARK, TABLES, TABLES_BEFORE, Table, VIEWS_OF_COUNTS, View};
pub use url::connect_options;

/// The schema that this build reads and writes; `footfall init` brings a database to it.
pub const SCHEMA_VERSION: u32 = 4;

/// What a call of the store can fail with.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// MySQL did not answer, or refused.
    #[error("mysql: {0}")]
    Db(#[from] DbErr),
    /// There is no connection to MySQL.
    #[error("mysql at {place}: {why}")]
    Unreachable {
        /// Its address or socket.
        place: String,
        /// In the words of MySQL or of the operating system.
        why: String,
    },
    /// The tables are missing, are not as this build needs them, or belong to another version.
    #[error("{0}")]
    Schema(String),
    /// What MySQL holds does not add up.
    #[error("mysql holds damaged data: {0}")]
    Corrupt(&'static str),
    /// A read needed too long, and MySQL has ended it.
    #[error(
        "mysql ended a read that needed more than {0:?}: there is too much to look through; raise database.timeout_ms, or \
         delete with `footfall forget` what a flood has left"
    )]
    TooLong(Duration),
    /// It refuses rows, and every other too that is tried in their place: no row is to blame.
    #[error(
        "mysql refuses every row, not only some, so views wait: {0}; look at what has changed \
         in its tables, triggers and settings"
    )]
    RefusesAll(String),
}

impl StoreError {
    /// No answer came in time.
    #[must_use]
    pub fn timed_out(limit: Duration) -> Self {
        Self::Db(DbErr::Custom(format!("no answer within {limit:?}")))
    }
}

type Result<T> = std::result::Result<T, StoreError>;

/// The position of a shard in MySQL, and its running totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The current epoch; only data sets opened under it may flush.
    pub epoch: u64,
    /// The last position in MySQL.
    pub position: u64,
    /// The epoch under which `position` was flushed.
    pub flush_epoch: u64,
    /// Grows whenever the counts change by anything but a flush: values cached before are not valid any more.
    pub version: u64,
    /// Views in MySQL.
    pub views: u64,
    /// (article, user) pairs in MySQL.
    pub readers: u64,
    /// Users that were first seen in this shard.
    pub users: u64,
    /// Articles in MySQL.
    pub articles: u64,
}

impl Fence {
    /// Why a flush that begins with position `first`, of a data set that was opened under `epoch`, must not be written;
    /// none if it must (I5, I6).
    #[must_use]
    pub fn refuses(&self, epoch: u64, first: u64) -> Option<Committed> {
        if self.epoch != epoch {
            Some(Committed::Fenced { epoch: self.epoch })
        } else if self.position >= first {
            Some(Committed::Before { position: self.position, version: self.version })
        } else if first - self.position != 1 {
            Some(Committed::Hole { position: self.position })
        } else {
            None
        }
    }
}

/// What a recovery learns when it begins a new epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The new epoch.
    pub epoch: u64,
    /// The last position in MySQL.
    pub position: u64,
    /// The epoch under which it was flushed.
    pub flush_epoch: u64,
    /// See [`Fence::version`].
    pub version: u64,
    /// The last batch of every producer in MySQL, and its cumulative views.
    pub producers: Vec<(Producer, u64, u64)>,
}

/// The batches of one producer in a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Whose.
    pub producer: Producer,
    /// Number of the first one.
    pub first: u64,
    /// Number of the last one; those between are all there.
    pub last: u64,
    /// Views up to and including the last one, as the producer says.
    pub cumulative_views: u64,
    /// Views in them, repeats too.
    pub views: u64,
    /// Views left out because their id was counted before.
    pub repeats: u64,
}

impl Part {
    /// Whether these batches follow what MySQL has of the producer, `(number, cumulative views)` (I1); if so, how many
    /// views before or between them were lost: the producer numbered them and could not keep them.
    #[must_use]
    pub fn follows(&self, fenced: (u64, u64)) -> Option<u64> {
        let lost = self.cumulative_views.checked_sub(fenced.1)?.checked_sub(self.views)?;
        (Some(self.first) == fenced.0.checked_add(1)).then_some(lost)
    }
}

/// Entries of one shard's log, folded, as one transaction writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flush {
    /// First position.
    pub first: u64,
    /// Last position.
    pub last: u64,
    /// Sorted by (article, user), each pair once.
    pub rows: Vec<Row>,
    /// Views per article and hour since 1970, sorted, each pair once.
    pub hours: Vec<(Article, u32, u64)>,
    /// Views per minute since 1970, sorted.
    pub minutes: Vec<(u32, u64)>,
    /// Sorted by producer.
    pub producers: Vec<Part>,
}

impl Flush {
    /// Views in it.
    #[must_use]
    pub fn views(&self) -> u64 {
        total(self.rows.iter().map(|row| row.views))
    }

    /// Rows per article, in article order.
    pub fn articles(&self) -> impl Iterator<Item = &[Row]> {
        self.rows.chunk_by(|a, b| a.article == b.article)
    }
}

/// What became of a flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// It is in MySQL, by this call.
    Now {
        /// What it added.
        growth: Vec<Growth>,
        /// See [`Fence::version`].
        version: u64,
        /// Views that MySQL refused or that were lost: they are in quarantine instead.
        quarantined: u64,
    },
    /// MySQL already had the log up to this position, at least the flush's first.
    Before {
        /// The last position in MySQL.
        position: u64,
        /// See [`Fence::version`].
        version: u64,
    },
    /// The shard was opened under another epoch: this data set may not flush (I6).
    Fenced {
        /// The current epoch.
        epoch: u64,
    },
    /// MySQL lacks entries before this flush.
    Hole {
        /// The last position in MySQL.
        position: u64,
    },
    /// The batches of a producer do not follow those that MySQL has: what Redis holds does not add up.
    Gap {
        /// Whose.
        producer: Producer,
    },
}

/// What became of a batch that went to MySQL directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direct {
    /// It is in MySQL, by this call.
    Now {
        /// Views that MySQL refused or that were lost: they are in quarantine instead.
        quarantined: u64,
    },
    /// MySQL had it already.
    Before,
    /// MySQL lacks batches before it.
    Behind {
        /// The last one that it has.
        number: u64,
    },
}

/// When the views of a batch were that somebody else has counted: what is not in it is in no history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histories {
    /// Views per article and hour since 1970, sorted, each pair once.
    pub hours: Vec<(Article, u32, u64)>,
    /// Views per minute since 1970, sorted.
    pub minutes: Vec<(u32, u64)>,
}

/// A step in MySQL that is under way.
pub type Step<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// What the protocol asks of MySQL. A trait, so that a simulation can be another world for the same code.
pub trait Fences: Send + Sync {
    /// Refuses a database of another schema version or another number of shards.
    fn check_schema(&self, shards: u16) -> Step<'_, ()>;
    /// The position of a shard.
    fn fence(&self, shard: Shard) -> Step<'_, Fence>;
    /// Begins the epoch after `epoch` of a shard: no flush under an older one commits from here on. Answers none if
    /// another process has begun it.
    fn next_epoch(&self, shard: Shard, epoch: u64) -> Step<'_, Option<Recovery>>;
    /// Writes a flush in one transaction, unless the fence says that it must not be written. Safe to
    /// repeat after an error, whatever became of the first try: the fence knows.
    fn commit<'a>(&'a self, shard: Shard, epoch: u64, flush: &'a Flush) -> Step<'a, Committed>;
    /// Writes a batch of the direct path in one transaction, once, however often it is called.
    fn commit_direct<'a>(&'a self, shard: Shard, batch: &'a Batch) -> Step<'a, Direct>;
    /// One article's row and the position of its shard, in one snapshot.
    fn article<'a>(&'a self, shard: Shard, article: &'a Article) -> Step<'a, StoredArticle>;
}

/// One article's row, with the position up to which it is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredArticle {
    /// The current epoch.
    pub epoch: u64,
    /// The last position in MySQL.
    pub position: u64,
    /// See [`Fence::version`].
    pub version: u64,
    /// Views of all articles of its shard in MySQL.
    pub shard_views: u64,
    /// Views in MySQL, as they are shown: Redis's scripts reckon with them.
    pub views: u64,
    /// Readers in MySQL.
    pub readers: u64,
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: DatabaseConnection,
    reach: Arc<Reach>,
    known: KnownUsers,
    timeout: Duration,
    #[cfg(feature = "mutants")]
    fence_is_off: bool,
}

/// Rows in one statement: keeps its JSON far below the 16 MiB that MariaDB takes by default
/// (`max_allowed_packet`) even when all ids have their greatest length.
const STATEMENT_ROWS_MAX: usize = 5_000;

/// MySQL ends a session that is silent for so long, and with it the locks of a flusher that stands still or was cut off.
const SESSION_IDLE_MAX: Duration = Duration::from_secs(60);

/// What every session sets: a value that does not fit is an error, never silently cut; no lock outlives its owner for
/// long; and no gap locks, so that shards do not wait for each other.
const SESSION: [&str; 2] = [
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', SESSION wait_timeout = 60, \
     SESSION innodb_lock_wait_timeout = 10",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
];

impl Store {
    /// Checks the URL; connects later.
    pub fn new(database: &config::Database) -> Step<'_, Self> {
        Box::pin(Self::checked(database))
    }

    async fn checked(database: &config::Database) -> Result<Self> {
        let timeout = database.timeout;
        let mut options = connect_options(database);
        options
            .connect_lazy(true)
            .max_connections(database.connections_max.get())
            .idle_timeout(SESSION_IDLE_MAX / 2)
            .map_sqlx_mysql_pool_opts(move |pool| {
                pool.after_connect(|connection, _| {
                    Box::pin(async move {
                        for statement in SESSION {
                            connection.execute(statement).await?;
                        }
                        reach::connected();
                        Ok(())
                    })
                })
                .before_acquire(|_, _| {
                    reach::connected();
                    Box::pin(async { Ok(true) })
                })
                // One that was cut off in the middle of an answer is neither used again nor waited for.
                .after_release(move |connection, _| {
                    Box::pin(async move {
                        contain_this_task();
                        let answer = tokio::time::timeout(timeout, connection.ping()).await;
                        answer.map_err(|_| sea_orm::sqlx::Error::PoolTimedOut)?.map(|()| true)
                    })
                })
            });
        Ok(Self {
            reach: Arc::new(Reach::new(database.url.place(), url::mysql_options(database)?, timeout)),
            db: Database::connect(options).await?,
            known: KnownUsers::default(),
            timeout,
            #[cfg(feature = "mutants")]
            fence_is_off: false,
        })
    }

    /// The same store without its fence, to show that the tests notice.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn without_fence(mut self) -> Self {
        self.fence_is_off = true;
        self
    }

    async fn fence_of_shard(&self, shard: Shard) -> Result<Fence> {
        let sql = "SELECT epoch, position, flush_epoch, version, views, readers, users, articles FROM footfall_shard_fence WHERE shard = ?";
        let row = self.one(sql, [shard.0.into()]).await?.ok_or(NO_FENCE)?;
        fence_of(&row)
    }

    #[cfg(not(feature = "mutants"))]
    fn fence_is_on(&self) -> bool {
        true
    }

    #[cfg(feature = "mutants")]
    fn fence_is_on(&self) -> bool {
        !self.fence_is_off
    }

    /// One article's numbers with the position that they belong to, in one consistent look.
    pub async fn article(&self, shard: Shard, article: &Article) -> Result<StoredArticle> {
        let sql = "SELECT f.epoch, f.position, f.version, f.views AS shard_views, a.views, a.readers \
                   FROM footfall_shard_fence f LEFT JOIN footfall_articles a ON a.article = ? WHERE f.shard = ?";
        let row = self.one(sql, [article.as_bytes().to_vec().into(), shard.0.into()]).await?.ok_or(NO_FENCE)?;
        Ok(StoredArticle {
            epoch: row.try_get("", "epoch")?,
            position: row.try_get("", "position")?,
            version: row.try_get("", "version")?,
            shard_views: row.try_get("", "shard_views")?,
            views: shown(row.try_get::<Option<u64>>("", "views")?.unwrap_or(0)),
            readers: row.try_get::<Option<u64>>("", "readers")?.unwrap_or(0),
        })
    }

    /// The articles with the most views in MySQL: article, views, readers.
    pub async fn top_articles(&self, limit: u32) -> Result<Vec<(Article, u64, u64)>> {
        let articles = self.articles_by(By::Views, None, limit).await?;
        Ok(articles.into_iter().map(|listed| (listed.article, listed.views, listed.readers)).collect())
    }

    /// Writes a batch of an import in one transaction, once, however often it is called: as one of the direct path, but
    /// its views were at many times.
    pub async fn import(&self, shard: Shard, batch: &Batch, histories: &Histories) -> Result<Direct> {
        let work = transaction::import(self, shard, batch, histories);
        self.explained(in_time(TRANSACTION_MAX, work).await).await
    }

    /// Deletes all counts. Begins an epoch in every shard: what Redis holds of an older one is not counted any more.
    pub async fn delete_everything(&self) -> Result<()> {
        self.tables_fit().await?;
        self.refuse_followers().await?;
        let transaction = self.begin().await?;
        transaction
            .query_all_raw(statement("SELECT shard FROM footfall_shard_fence ORDER BY shard FOR UPDATE", []))
            .await?;
        for table in TABLES.iter().filter(|table| table.holds_counts) {
            transaction.execute_raw(statement(&format!("DELETE FROM {}", table.name), [])).await?;
        }
        let sql = "UPDATE footfall_shard_fence SET epoch = epoch + 1, flush_epoch = epoch, version = version + 1, views = 0, readers = 0, \
                   users = 0, articles = 0, dropped = 0";
        transaction.execute_raw(statement(sql, [])).await?;
        Ok(transaction.commit().await?)
    }

    /// A transaction on a connection of its own.
    async fn begin(&self) -> Result<DatabaseTransaction> {
        self.reach.step(self.db.begin()).await
    }

    async fn one<const N: usize>(&self, sql: &str, values: [Value; N]) -> Result<Option<QueryResult>> {
        let sql = self.bounded(sql);
        let work = self.reach.step(self.db.query_one_raw(statement(&sql, values)));
        self.explained(self.in_read_time(in_time(self.timeout, work).await)).await
    }

    async fn all(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<Vec<QueryResult>> {
        let sql = self.bounded(sql);
        let work = self.reach.step(self.db.query_all_raw(statement(&sql, values)));
        self.explained(self.in_read_time(in_time(self.timeout, work).await)).await
    }

    /// For how long MySQL works at a read: a little less than anybody waits for it, so that its answer is heard and the
    /// connection can be used again.
    fn read_max(&self) -> Duration {
        self.timeout * 9 / 10
    }

    /// The text of a read that MySQL itself ends after [`Store::read_max`], whether or not anybody waits for it still: it
    /// does not notice that a client has gone. No setting of the session, which would cut flushes off too. MariaDB reads the
    /// comment in front and MySQL the hint; each passes over the other.
    fn bounded(&self, sql: &str) -> String {
        let limit = self.read_max();
        match sql.strip_prefix("SELECT ") {
            Some(rest) => format!(
                "/*M! SET STATEMENT max_statement_time = {}.{:03} FOR */ SELECT /*+ MAX_EXECUTION_TIME({}) */ {rest}",
                limit.as_secs(),
                limit.subsec_millis(),
                limit.as_millis()
            ),
            None => sql.to_owned(), // `SHOW` needs no time.
        }
    }

    fn in_read_time<T>(&self, result: Result<T>) -> Result<T> {
        match result {
            Err(StoreError::Db(error)) if mysql_code(&error).is_some_and(|code| READ_ENDED.contains(&code)) => {
                Err(StoreError::TooLong(self.read_max()))
            }
            result => result,
        }
    }
}

impl Fences for Store {
    fn check_schema(&self, shards: u16) -> Step<'_, ()> {
        Box::pin(self.schema_is_right(shards))
    }

    fn fence(&self, shard: Shard) -> Step<'_, Fence> {
        Box::pin(self.fence_of_shard(shard))
    }

    fn next_epoch(&self, shard: Shard, epoch: u64) -> Step<'_, Option<Recovery>> {
        let work = transaction::next_epoch(self, shard, epoch);
        Box::pin(async { self.explained(in_time(TRANSACTION_MAX, work).await).await })
    }

    fn commit<'a>(&'a self, shard: Shard, epoch: u64, flush: &'a Flush) -> Step<'a, Committed> {
        let work = transaction::commit(self, shard, epoch, flush);
        Box::pin(async { self.explained(in_time(TRANSACTION_MAX, work).await).await })
    }

    fn commit_direct<'a>(&'a self, shard: Shard, batch: &'a Batch) -> Step<'a, Direct> {
        let work = transaction::commit_direct(self, shard, batch);
        Box::pin(async { self.explained(in_time(TRANSACTION_MAX, work).await).await })
    }

    fn article<'a>(&'a self, shard: Shard, article: &'a Article) -> Step<'a, StoredArticle> {
        Box::pin(Store::article(self, shard, article))
    }
}

/// What MariaDB and MySQL say of a read that they have ended.
const READ_ENDED: [u16; 2] = [1969, 3024];

const NO_FENCE: StoreError = StoreError::Corrupt("the fence of the shard is missing: run `footfall init`");

/// The longest that a transaction may take. A server that vanished never answers, and a transaction that is cut off may
/// have been committed: the fence tells the repeat. `WatchdogSec` in systemd/footfall-flusher.service must be longer.
const TRANSACTION_MAX: Duration = Duration::from_secs(60);

async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    // The client library panics over some answers that are none, instead of saying so.
    let answer = tokio::time::timeout(limit, contained(work)).await.map_err(|_| StoreError::timed_out(limit))?;
    answer.unwrap_or_else(|why| Err(StoreError::Db(DbErr::Custom(format!("the answer makes no sense ({why})")))))
}

fn statement(sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::MySql, sql, values)
}

fn json_rows(rows: impl Iterator<Item = impl serde::Serialize>) -> String {
    serde_json::to_string(&rows.collect::<Vec<_>>()).expect("ids and numbers always have a JSON form")
}

fn fence_of(row: &QueryResult) -> Result<Fence> {
    Ok(Fence {
        epoch: row.try_get("", "epoch")?,
        position: row.try_get("", "position")?,
        flush_epoch: row.try_get("", "flush_epoch")?,
        version: row.try_get("", "version")?,
        views: row.try_get("", "views")?,
        readers: row.try_get("", "readers")?,
        users: row.try_get("", "users")?,
        articles: row.try_get("", "articles")?,
    })
}

fn article_of(row: &QueryResult) -> Result<Article> {
    let bytes: Vec<u8> = row.try_get("", "article")?;
    Article::parse(&bytes).map_err(|_| StoreError::Corrupt("an article id that breaks the rules"))
}

fn user_of(row: &QueryResult) -> Result<User> {
    let bytes: Vec<u8> = row.try_get("", "user")?;
    User::parse(&bytes).map_err(|_| StoreError::Corrupt("a user id that breaks the rules"))
}
