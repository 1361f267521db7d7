//! The database: its pool of connections, how each of them is set up, and reads that end in time.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::Connection;
use sea_orm::{
    ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, QueryResult, TransactionTrait, Value,
};

use super::cluster::{Turns, set_up_session};
use super::errors::{Result, StoreError, mysql_code};
use super::known::KnownUsers;
use super::reach::{self, Reach};
use super::sql::{in_time, statement};
use super::{tries, url};
use crate::service::config;
use crate::service::contain::contain_this_task;

/// A step in MySQL that is under way.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(super) db: DatabaseConnection,
    pub(super) reach: Arc<Reach>,
    pub(super) known: KnownUsers,
    pub(super) turns: Arc<Turns>,
    pub(super) timeout: Duration,
}

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
    pub fn new(database: &config::Database) -> StoreFuture<'_, Self> {
        Box::pin(Self::checked(database))
    }

    async fn checked(database: &config::Database) -> Result<Self> {
        let timeout = database.timeout;
        let mut options = url::connect_options(database);
        options
            .connect_lazy(true)
            .max_connections(database.connections_max.get())
            .idle_timeout(SESSION_IDLE_MAX / 2)
            .map_sqlx_mysql_pool_opts(move |pool| {
                pool.after_connect(|connection, _| {
                    Box::pin(async move {
                        set_up_session(connection, &SESSION).await?;
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
        tries::show();
        Ok(Self {
            reach: Arc::new(Reach::new(database.url.place(), url::mysql_options(database)?, timeout)),
            db: Database::connect(options).await?,
            known: KnownUsers::default(),
            turns: Arc::default(),
            timeout,
        })
    }

    /// A transaction on a connection of its own.
    pub(super) async fn begin(&self) -> Result<DatabaseTransaction> {
        self.reach.step(self.db.begin()).await
    }

    pub(super) async fn one<const N: usize>(&self, sql: &str, values: [Value; N]) -> Result<Option<QueryResult>> {
        let sql = self.bounded(sql);
        let work = self.reach.step(self.db.query_one_raw(statement(&sql, values)));
        self.explained(self.in_read_time(in_time(self.timeout, work).await)).await
    }

    pub(super) async fn all(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<Vec<QueryResult>> {
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

/// What MariaDB and MySQL say of a read that they have ended.
const READ_ENDED: [u16; 2] = [1969, 3024];
