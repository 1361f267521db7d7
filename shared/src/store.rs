//! MySQL or MariaDB: where views are counted for good. Only this module knows SQL.

use std::time::Duration;

use sea_orm::sqlx::{Connection, Executor};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, QueryResult,
    Statement, TransactionTrait, Value,
};

use crate::config;
use crate::counter::{Article, Growth, Producer, Row, Shard, User};

/// The schema that this build reads and writes; `footfall init` brings a database to it.
pub const SCHEMA_VERSION: u32 = 1;

/// What a call of the store can fail with.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// MySQL did not answer, or refused.
    #[error("mysql: {0}")]
    Db(#[from] DbErr),
    /// The tables are missing or belong to another version.
    #[error("{0}")]
    Schema(String),
    /// What MySQL holds does not add up.
    #[error("mysql holds damaged data: {0}")]
    Corrupt(&'static str),
}

type Result<T> = std::result::Result<T, StoreError>;

/// The position of a shard in MySQL, and its running totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The current epoch; only data sets opened under it may flush.
    pub epoch: u64,
    /// The last generation in MySQL.
    pub generation: u64,
    /// The epoch under which `generation` was flushed.
    pub flush_epoch: u64,
    /// Views in MySQL.
    pub views: u64,
    /// (article, user) pairs in MySQL.
    pub readers: u64,
    /// Users that were first seen in this shard.
    pub users: u64,
    /// Articles in MySQL.
    pub articles: u64,
}

/// What a recovery learns when it begins a new epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The new epoch.
    pub epoch: u64,
    /// The last generation in MySQL.
    pub generation: u64,
    /// The epoch under which it was flushed.
    pub flush_epoch: u64,
    /// The last batch of every producer in MySQL.
    pub producers: Vec<(Producer, u64)>,
}

/// Sealed generations of one shard, folded, as one transaction writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flush {
    /// First generation.
    pub first: u64,
    /// Last generation.
    pub last: u64,
    /// Sorted by (article, user), each pair once.
    pub rows: Vec<Row>,
    /// Views per article and hour since 1970, sorted, each pair once.
    pub hours: Vec<(Article, u32, u64)>,
    /// Views per minute since 1970, sorted.
    pub minutes: Vec<(u32, u64)>,
    /// Per producer its last batch and its cumulative views, sorted.
    pub producers: Vec<(Producer, u64, u64)>,
}

impl Flush {
    /// Views in it.
    #[must_use]
    pub fn views(&self) -> u64 {
        self.rows.iter().map(|row| row.views).sum()
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
    Now(Vec<Growth>),
    /// MySQL already had generations up to this one, at least the flush's first.
    Before {
        /// The last generation in MySQL.
        generation: u64,
    },
    /// The shard was opened under another epoch: this data set may not flush (I6).
    Fenced {
        /// The current epoch.
        epoch: u64,
    },
    /// MySQL lacks generations before this flush.
    Hole {
        /// The last generation in MySQL.
        generation: u64,
    },
}

/// One article's row, with the generation up to which it is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredArticle {
    /// The current epoch.
    pub epoch: u64,
    /// The last generation in MySQL.
    pub generation: u64,
    /// Views in MySQL.
    pub views: u64,
    /// Readers in MySQL.
    pub readers: u64,
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: DatabaseConnection,
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

/// Sorted rows as one JSON parameter: one prepared statement serves any number of rows. The columns are
/// VARBINARY, so ids keep being compared by bytes.
const READER_ROWS: &str = "JSON_TABLE(?, '$[*]' COLUMNS (i FOR ORDINALITY, a VARBINARY(1024) PATH '$[0]', \
     u VARBINARY(1024) PATH '$[1]', n BIGINT UNSIGNED PATH '$[2]')) j";

impl Store {
    /// Checks the URL; connects later.
    pub async fn new(database: &config::Database) -> Result<Self> {
        let timeout = config::ms(database.timeout_ms);
        let mut options = ConnectOptions::new(&database.url.0);
        options
            .connect_lazy(true)
            .max_connections(database.connections_max)
            .connect_timeout(timeout)
            .acquire_timeout(timeout)
            .sqlx_logging(false)
            .idle_timeout(SESSION_IDLE_MAX / 2)
            .map_sqlx_mysql_pool_opts(move |pool| {
                pool.after_connect(|connection, _| {
                    Box::pin(async move {
                        for statement in SESSION {
                            connection.execute(statement).await?;
                        }
                        Ok(())
                    })
                })
                // One that was cut off in the middle of an answer is neither used again nor waited for.
                .after_release(move |connection, _| {
                    Box::pin(async move {
                        let answer = tokio::time::timeout(timeout, connection.ping()).await;
                        answer.map_err(|_| sea_orm::sqlx::Error::PoolTimedOut)?.map(|()| true)
                    })
                })
            });
        Ok(Self {
            db: Database::connect(options).await?,
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

    /// Refuses a database of another schema version or another number of shards.
    pub async fn check_schema(&self, shards: u16) -> Result<()> {
        let missing = "the database has no Footfall tables: run `footfall init`";
        let row = match self.one("SELECT version, shards FROM schema_version", []).await {
            Ok(row) => row.ok_or_else(|| StoreError::Schema(missing.into()))?,
            Err(StoreError::Db(error)) if mysql_code(&error) == Some(NO_SUCH_TABLE) => {
                return Err(StoreError::Schema(missing.into()));
            }
            Err(error) => return Err(error),
        };
        let (version, recorded): (u32, u32) = (row.try_get("", "version")?, row.try_get("", "shards")?);
        if version != SCHEMA_VERSION {
            return Err(StoreError::Schema(format!(
                "the database has schema version {version}, this build needs {SCHEMA_VERSION}: run `footfall init` of this build, \
                 or use the build that belongs to the schema"
            )));
        }
        if recorded != u32::from(shards) {
            return Err(StoreError::Schema(format!(
                "the database was set up with {recorded} shards, the configuration says {shards}: set `shards` to {recorded}"
            )));
        }
        Ok(())
    }

    /// The position of a shard.
    pub async fn fence(&self, shard: Shard) -> Result<Fence> {
        let sql = "SELECT epoch, gen, flush_epoch, views, readers, users, articles FROM shard_fence WHERE shard = ?";
        let row = self.one(sql, [shard.0.into()]).await?.ok_or(NO_FENCE)?;
        fence_of(&row)
    }

    /// Begins the epoch after `epoch` of a shard: no flush under an older one commits from here on. Answers none if
    /// another process has begun it.
    pub async fn next_epoch(&self, shard: Shard, epoch: u64) -> Result<Option<Recovery>> {
        in_time(TRANSACTION_MAX, self.next_epoch_transaction(shard, epoch)).await
    }

    async fn next_epoch_transaction(&self, shard: Shard, epoch: u64) -> Result<Option<Recovery>> {
        let transaction = self.db.begin().await?;
        let sql = "SELECT epoch, gen, flush_epoch, views, readers, users, articles FROM shard_fence WHERE shard = ? FOR UPDATE";
        let row = transaction.query_one_raw(statement(sql, [shard.0.into()])).await?.ok_or(NO_FENCE)?;
        let fence = fence_of(&row)?;
        if fence.epoch != epoch {
            transaction.rollback().await?;
            return Ok(None);
        }
        let epoch = epoch + 1;
        let sql = "UPDATE shard_fence SET epoch = ? WHERE shard = ?";
        transaction.execute_raw(statement(sql, [epoch.into(), shard.0.into()])).await?;
        let sql = "SELECT producer, batch FROM producer_fence WHERE shard = ?";
        let producers = transaction
            .query_all_raw(statement(sql, [shard.0.into()]))
            .await?
            .iter()
            .map(|row| Ok((Producer(row.try_get("", "producer")?), row.try_get("", "batch")?)))
            .collect::<Result<_>>()?;
        transaction.commit().await?;
        Ok(Some(Recovery { epoch, generation: fence.generation, flush_epoch: fence.flush_epoch, producers }))
    }

    /// Writes a flush in one transaction, unless the fence says that it must not be written. Safe to
    /// repeat after an error, whatever became of the first try: the fence knows.
    pub async fn commit(&self, shard: Shard, epoch: u64, flush: &Flush) -> Result<Committed> {
        in_time(TRANSACTION_MAX, self.commit_transaction(shard, epoch, flush)).await
    }

    async fn commit_transaction(&self, shard: Shard, epoch: u64, flush: &Flush) -> Result<Committed> {
        let transaction = self.db.begin().await?;
        // I4, I5: one writer per shard at a time, from here to COMMIT.
        let sql = "SELECT epoch, gen, flush_epoch, views, readers, users, articles FROM shard_fence WHERE shard = ? FOR UPDATE";
        let row = transaction.query_one_raw(statement(sql, [shard.0.into()])).await?.ok_or(NO_FENCE)?;
        let fence = fence_of(&row)?;
        if self.fence_is_on() {
            let refused = if fence.epoch != epoch {
                Some(Committed::Fenced { epoch: fence.epoch })
            } else if fence.generation >= flush.first {
                Some(Committed::Before { generation: fence.generation })
            } else if fence.generation + 1 != flush.first {
                Some(Committed::Hole { generation: fence.generation })
            } else {
                None
            };
            if let Some(refused) = refused {
                transaction.rollback().await?;
                return Ok(refused);
            }
        }

        let mut growth = Vec::new();
        let mut new_users: Vec<&User> = Vec::new();
        let mut readers = 0u64;
        let mut is_new = vec![false; flush.rows.len()];
        for (chunk, is_new) in flush.rows.chunks(STATEMENT_ROWS_MAX).zip(is_new.chunks_mut(STATEMENT_ROWS_MAX)) {
            let json = json_rows(chunk.iter().map(|row| (row.article.as_str(), row.user.as_str(), row.views)));
            // Which pairs are new is asked first: the affected rows of an upsert give only their sum over
            // all articles. It is still true at the upsert, because the fence row is locked.
            let sql = format!(
                "SELECT CAST(j.i AS SIGNED) FROM {READER_ROWS} LEFT JOIN article_readers r ON r.article = j.a AND r.user = j.u WHERE r.article IS NULL"
            );
            let new = transaction.query_all_raw(statement(&sql, [json.as_str().into()])).await?;
            for row in &new {
                let ordinal: i64 = row.try_get_by_index(0)?;
                let index = usize::try_from(ordinal - 1).ok();
                *index
                    .and_then(|index| is_new.get_mut(index))
                    .ok_or(StoreError::Corrupt("a row that was not asked for"))? = true;
            }
            let sql = format!(
                "INSERT INTO article_readers (article, user, views) SELECT j.a, j.u, j.n FROM {READER_ROWS} \
                 ON DUPLICATE KEY UPDATE views = article_readers.views + j.n"
            );
            // 1 affected row per insert, 2 per changed row; every row changes, because it gets at least one view.
            let affected = transaction.execute_raw(statement(&sql, [json.into()])).await?.rows_affected();
            if affected + new.len() as u64 != 2 * chunk.len() as u64 {
                return Err(StoreError::Corrupt("the readers that were new are not those that were inserted"));
            }
        }
        let mut flags = is_new.iter();
        for rows in flush.articles() {
            let mut new_readers = 0u64;
            for (row, is_new) in rows.iter().zip(&mut flags) {
                if *is_new {
                    new_readers += 1;
                    new_users.push(&row.user);
                }
            }
            readers += new_readers;
            growth.push(Growth {
                article: rows[0].article.clone(),
                views: rows.iter().map(|row| row.views).sum(),
                readers: Some(new_readers),
            });
        }
        new_users.sort_unstable();
        new_users.dedup();

        let users = insert_users(&transaction, &new_users).await?;
        let articles = upsert_articles(&transaction, &growth).await?;
        upsert_hours(&transaction, &flush.hours).await?;
        upsert_minutes(&transaction, shard, &flush.minutes).await?;
        upsert_producers(&transaction, shard, &flush.producers).await?;

        let sql = "UPDATE shard_fence SET gen = ?, flush_epoch = ?, views = views + ?, readers = readers + ?, users = users + ?, \
                   articles = articles + ? WHERE shard = ? AND epoch = ? AND gen = ?";
        let values = [
            flush.last.into(),
            epoch.into(),
            flush.views().into(),
            readers.into(),
            users.into(),
            articles.into(),
            shard.0.into(),
            fence.epoch.into(),
            fence.generation.into(),
        ];
        if transaction.execute_raw(statement(sql, values)).await?.rows_affected() != 1 {
            return Err(StoreError::Corrupt("the fence row changed while it was locked"));
        }
        transaction.commit().await?;
        Ok(Committed::Now(growth))
    }

    #[cfg(not(feature = "mutants"))]
    fn fence_is_on(&self) -> bool {
        true
    }

    #[cfg(feature = "mutants")]
    fn fence_is_on(&self) -> bool {
        !self.fence_is_off
    }

    /// One article's numbers with the generation that they belong to, in one consistent look.
    pub async fn article(&self, shard: Shard, article: &Article) -> Result<StoredArticle> {
        let sql = "SELECT f.epoch, f.gen, a.views, a.readers \
                   FROM shard_fence f LEFT JOIN articles a ON a.article = ? WHERE f.shard = ?";
        let row = self.one(sql, [article.as_bytes().to_vec().into(), shard.0.into()]).await?.ok_or(NO_FENCE)?;
        Ok(StoredArticle {
            epoch: row.try_get("", "epoch")?,
            generation: row.try_get("", "gen")?,
            views: row.try_get::<Option<u64>>("", "views")?.unwrap_or(0),
            readers: row.try_get::<Option<u64>>("", "readers")?.unwrap_or(0),
        })
    }

    /// The articles with the most views in MySQL: article, views, readers.
    pub async fn top_articles(&self, limit: u32) -> Result<Vec<(Article, u64, u64)>> {
        let sql = "SELECT article, views, readers FROM articles ORDER BY views DESC, article LIMIT ?";
        self.all(sql, [limit.into()])
            .await?
            .iter()
            .map(|row| Ok((article_of(row)?, row.try_get("", "views")?, row.try_get("", "readers")?)))
            .collect()
    }

    /// One consistent look for `footfall verify`: the fences, the sums of I4 and I9, and the views of
    /// every pair of the given articles.
    pub async fn audit(&self, articles: &[Article]) -> Result<Audit> {
        let transaction = self
            .db
            .begin_with_config(Some(sea_orm::IsolationLevel::RepeatableRead), Some(sea_orm::AccessMode::ReadOnly))
            .await?;
        let sql =
            "SELECT shard, epoch, gen, flush_epoch, views, readers, users, articles FROM shard_fence ORDER BY shard";
        let fences =
            transaction.query_all_raw(statement(sql, [])).await?.iter().map(fence_of).collect::<Result<Vec<_>>>()?;
        let sums = "SELECT (SELECT CAST(COALESCE(SUM(views), 0) AS UNSIGNED) FROM article_readers) AS reader_views, \
                    (SELECT CAST(COUNT(*) AS UNSIGNED) FROM article_readers) AS reader_rows, \
                    (SELECT CAST(COUNT(*) AS UNSIGNED) FROM users) AS users, \
                    (SELECT CAST(COALESCE(SUM(views), 0) AS UNSIGNED) FROM producer_fence) AS fenced_views";
        let row = transaction.query_one_raw(statement(sums, [])).await?.ok_or(NO_FENCE)?;
        let (reader_views, reader_rows) = (row.try_get("", "reader_views")?, row.try_get("", "reader_rows")?);
        let (users, fenced_views) = (row.try_get("", "users")?, row.try_get("", "fenced_views")?);
        let torn = "SELECT a.article FROM articles a LEFT JOIN (SELECT article, SUM(views) AS views, COUNT(*) AS readers \
                    FROM article_readers GROUP BY article) r ON r.article = a.article \
                    WHERE a.views <> COALESCE(r.views, 0) OR a.readers <> COALESCE(r.readers, 0) \
                    UNION SELECT r.article FROM article_readers r LEFT JOIN articles a ON a.article = r.article \
                    WHERE a.article IS NULL LIMIT 20";
        let torn =
            transaction.query_all_raw(statement(torn, [])).await?.iter().map(article_of).collect::<Result<_>>()?;
        let mut pairs = Vec::new();
        for chunk in articles.chunks(STATEMENT_ROWS_MAX) {
            let json = json_rows(chunk.iter().map(|article| (article.as_str(),)));
            let sql = "SELECT r.article, r.user, r.views FROM JSON_TABLE(?, '$[*]' COLUMNS (a VARBINARY(1024) PATH '$[0]')) j \
                       JOIN article_readers r ON r.article = j.a";
            for row in transaction.query_all_raw(statement(sql, [json.into()])).await? {
                pairs.push(Row { article: article_of(&row)?, user: user_of(&row)?, views: row.try_get("", "views")? });
            }
        }
        transaction.rollback().await?;
        Ok(Audit { fences, reader_views, reader_rows, users, fenced_views, torn, pairs })
    }

    /// Deletes all counts, and puts every shard behind all generations that Redis may hold.
    pub async fn delete_everything(&self) -> Result<()> {
        let transaction = self.db.begin().await?;
        transaction.query_all_raw(statement("SELECT shard FROM shard_fence ORDER BY shard FOR UPDATE", [])).await?;
        for table in [
            "article_hours",
            "site_minutes",
            "article_readers",
            "articles",
            "users",
            "producer_fence",
            "direct_fence",
            "quarantine",
        ] {
            transaction.execute_raw(statement(&format!("DELETE FROM {table}"), [])).await?;
        }
        let sql = "UPDATE shard_fence SET epoch = epoch + 1, flush_epoch = epoch, views = 0, readers = 0, users = 0, articles = 0";
        transaction.execute_raw(statement(sql, [])).await?;
        Ok(transaction.commit().await?)
    }

    async fn one<const N: usize>(&self, sql: &str, values: [Value; N]) -> Result<Option<QueryResult>> {
        in_time(self.timeout, async { Ok(self.db.query_one_raw(statement(sql, values)).await?) }).await
    }

    async fn all<const N: usize>(&self, sql: &str, values: [Value; N]) -> Result<Vec<QueryResult>> {
        in_time(self.timeout, async { Ok(self.db.query_all_raw(statement(sql, values)).await?) }).await
    }
}

/// What [`Store::audit`] found.
#[derive(Debug, Clone)]
pub struct Audit {
    /// Position and running totals, by shard.
    pub fences: Vec<Fence>,
    /// Sum of all (article, user) views.
    pub reader_views: u64,
    /// Number of (article, user) pairs.
    pub reader_rows: u64,
    /// Number of users.
    pub users: u64,
    /// Sum of the producers' cumulative views (I9).
    pub fenced_views: u64,
    /// Articles whose views or readers are not the sum of their readers' rows (I4), the first ones.
    pub torn: Vec<Article>,
    /// Views per pair, of the articles that were asked for.
    pub pairs: Vec<Row>,
}

const NO_FENCE: StoreError = StoreError::Corrupt("the fence of the shard is missing: run `footfall init`");

/// <https://mariadb.com/kb/en/mariadb-error-codes/>: the table does not exist.
const NO_SUCH_TABLE: u16 = 1146;

/// The longest that a transaction may take. A server that vanished never answers, and a transaction that is cut off may
/// have been committed: the fence tells the repeat.
const TRANSACTION_MAX: Duration = Duration::from_secs(60);

async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let timed_out = |_| StoreError::Db(DbErr::Custom(format!("no answer within {limit:?}")));
    tokio::time::timeout(limit, work).await.map_err(timed_out)?
}

/// The server's error number, if the server answered with an error.
fn mysql_code(error: &DbErr) -> Option<u16> {
    use sea_orm::sqlx::mysql::MySqlDatabaseError;
    let (DbErr::Exec(error) | DbErr::Query(error)) = error else { return None };
    let sea_orm::RuntimeErr::SqlxError(error) = error else { return None };
    Some(error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?.number())
}

fn statement<const N: usize>(sql: &str, values: [Value; N]) -> Statement {
    Statement::from_sql_and_values(DbBackend::MySql, sql, values)
}

fn json_rows(rows: impl Iterator<Item = impl serde::Serialize>) -> String {
    serde_json::to_string(&rows.collect::<Vec<_>>()).expect("ids and numbers always have a JSON form")
}

fn fence_of(row: &QueryResult) -> Result<Fence> {
    Ok(Fence {
        epoch: row.try_get("", "epoch")?,
        generation: row.try_get("", "gen")?,
        flush_epoch: row.try_get("", "flush_epoch")?,
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

/// Adds users who are not known yet; answers how many those were.
async fn insert_users(transaction: &DatabaseTransaction, users: &[&User]) -> Result<u64> {
    let mut added = 0;
    for chunk in users.chunks(STATEMENT_ROWS_MAX) {
        let json = json_rows(chunk.iter().map(|user| (user.as_str(),)));
        let sql = "INSERT IGNORE INTO users (user) SELECT j.u FROM JSON_TABLE(?, '$[*]' COLUMNS (u VARBINARY(1024) PATH '$[0]')) j";
        added += transaction.execute_raw(statement(sql, [json.into()])).await?.rows_affected();
    }
    Ok(added)
}

/// Adds to the articles; answers how many were new.
async fn upsert_articles(transaction: &DatabaseTransaction, growth: &[Growth]) -> Result<u64> {
    let mut added = 0;
    for chunk in growth.chunks(STATEMENT_ROWS_MAX) {
        let json = json_rows(chunk.iter().map(|part| (part.article.as_str(), part.views, part.readers)));
        let sql = "INSERT INTO articles (article, views, readers) SELECT j.a, j.v, j.r FROM JSON_TABLE(?, '$[*]' COLUMNS \
                   (a VARBINARY(1024) PATH '$[0]', v BIGINT UNSIGNED PATH '$[1]', r BIGINT UNSIGNED PATH '$[2]')) j \
                   ON DUPLICATE KEY UPDATE views = articles.views + j.v, readers = articles.readers + j.r";
        let affected = transaction.execute_raw(statement(sql, [json.into()])).await?.rows_affected();
        added += (2 * chunk.len() as u64)
            .checked_sub(affected)
            .ok_or(StoreError::Corrupt("more rows affected than written"))?;
    }
    Ok(added)
}

async fn upsert_hours(transaction: &DatabaseTransaction, hours: &[(Article, u32, u64)]) -> Result<()> {
    for chunk in hours.chunks(STATEMENT_ROWS_MAX) {
        let json = json_rows(chunk.iter().map(|(article, hour, views)| (article.as_str(), hour, views)));
        let sql = "INSERT INTO article_hours (article, hour, views) SELECT j.a, j.h, j.n FROM JSON_TABLE(?, '$[*]' COLUMNS \
                   (a VARBINARY(1024) PATH '$[0]', h INT UNSIGNED PATH '$[1]', n BIGINT UNSIGNED PATH '$[2]')) j \
                   ON DUPLICATE KEY UPDATE views = article_hours.views + j.n";
        transaction.execute_raw(statement(sql, [json.into()])).await?;
    }
    Ok(())
}

async fn upsert_minutes(transaction: &DatabaseTransaction, shard: Shard, minutes: &[(u32, u64)]) -> Result<()> {
    for (minute, views) in minutes {
        let sql = "INSERT INTO site_minutes (minute, shard, views) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE views = views + VALUES(views)";
        transaction.execute_raw(statement(sql, [(*minute).into(), shard.0.into(), (*views).into()])).await?;
    }
    Ok(())
}

async fn upsert_producers(
    transaction: &DatabaseTransaction,
    shard: Shard,
    producers: &[(Producer, u64, u64)],
) -> Result<()> {
    for (producer, batch, views) in producers {
        let sql = "INSERT INTO producer_fence (shard, producer, batch, views) VALUES (?, ?, ?, ?) \
                   ON DUPLICATE KEY UPDATE batch = VALUES(batch), views = VALUES(views)";
        let values = [shard.0.into(), producer.0.into(), (*batch).into(), (*views).into()];
        transaction.execute_raw(statement(sql, values)).await?;
    }
    Ok(())
}
