//! Why a server cannot be reached: in its own words or in the operating system's, with its address, and soon.
//!
//! The pool takes a server that refuses connections for one that is about to start: it tries until its time is over, and
//! then says only that. So beside a step that has waited for its connection for a while, one connection is tried directly:
//! what goes wrong with that one is the reason, and the step ends with it. One try serves all steps that wait.

use std::cell::Cell;
use std::time::Duration;

use sea_orm::sqlx::mysql::MySqlConnectOptions;
use sea_orm::sqlx::{ConnectOptions, Connection, Error};
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::errors::{Result, StoreError};

/// A connection on the same network is made in less.
const PATIENCE: Duration = Duration::from_millis(100);
/// A server that answers, and lets nobody in just now, may do so when another connection has become free.
const PATIENCE_WITH_ANSWER: Duration = Duration::from_millis(700);
/// No more than one try in so long.
const PERIOD: Duration = Duration::from_millis(500);

tokio::task_local! {
    /// Whether the step that is under way has its connection: from then on nothing is said of other ones.
    static IS_CONNECTED: Cell<bool>;
}

/// Notes that the step that is under way has got its connection. The pool calls back within the step.
pub(super) fn connected() {
    // Outside of a step nobody wants to know.
    let _ = IS_CONNECTED.try_with(|is_connected| is_connected.set(true));
}

/// What went wrong with a direct try.
#[derive(Debug, Clone)]
struct ConnectError {
    why: String,
    /// By the server itself.
    is_answer: bool,
}

/// The way to a server.
pub(super) struct Reach {
    /// Address or socket.
    place: String,
    options: MySqlConnectOptions,
    limit: Duration,
    /// When it was tried last, and with what success.
    tried: Mutex<Option<(Instant, Option<ConnectError>)>>,
}

impl Reach {
    pub(super) fn new(place: String, options: MySqlConnectOptions, limit: Duration) -> Self {
        Self { place, options, limit, tried: Mutex::default() }
    }

    /// Does a step that begins with taking a connection from the pool.
    pub(super) async fn step<T, E: Into<StoreError>>(
        &self,
        work: impl Future<Output = std::result::Result<T, E>>,
    ) -> Result<T> {
        let raced = async {
            tokio::select! {
                biased;
                result = work => result.map_err(|error| self.explain(error.into())),
                failure = self.failure() => Err(self.unreachable(failure.why)),
            }
        };
        IS_CONNECTED.scope(Cell::new(false), raced).await
    }

    /// What stands in the way; never ends if nothing does, or if the step goes on without.
    async fn failure(&self) -> ConnectError {
        let since = Instant::now();
        sleep(PATIENCE).await;
        loop {
            if IS_CONNECTED.with(Cell::get) {
                std::future::pending::<()>().await;
            }
            match self.try_directly().await {
                Some(failure)
                    if !IS_CONNECTED.with(Cell::get)
                        && (!failure.is_answer || since.elapsed() >= PATIENCE_WITH_ANSWER) =>
                {
                    return failure;
                }
                _ => sleep(PERIOD / 4).await,
            }
        }
    }

    async fn try_directly(&self) -> Option<ConnectError> {
        let mut tried = self.tried.lock().await;
        if let Some((at, failure)) = &*tried
            && at.elapsed() < PERIOD
        {
            return failure.clone();
        }
        let connect = async { self.options.connect().await?.close().await };
        let failure = match timeout(self.limit, connect).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(ConnectError { why: words(&error), is_answer: matches!(error, Error::Database(_)) }),
            Err(_) => Some(ConnectError { why: format!("no answer within {:?}", self.limit), is_answer: false }),
        };
        *tried = Some((Instant::now(), failure.clone()));
        failure
    }

    /// What the pool says of a connection that it could not make, with the place.
    fn explain(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Db(DbErr::Conn(RuntimeErr::SqlxError(error))) => self.unreachable(words(&error)),
            StoreError::Db(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) => {
                self.unreachable(format!("no connection was made or became free within {:?}", self.limit))
            }
            error => error,
        }
    }

    fn unreachable(&self, why: String) -> StoreError {
        StoreError::Unreachable { place: self.place.clone(), why }
    }
}

/// The reason alone, without what the library says around it.
fn words(error: &Error) -> String {
    match error {
        Error::Io(error) => error.to_string(),
        Error::Database(error) => error.message().to_owned(),
        Error::Tls(error) => format!("TLS cannot be used: {error}"),
        error => error.to_string(),
    }
}
