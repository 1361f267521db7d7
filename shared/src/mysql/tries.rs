//! How often a transaction is tried, and how it is tried next.

use std::sync::LazyLock;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction};

use super::errors::{Result, StoreError};
use super::rows::Poison;
use crate::protocol::errors::{ErrorClass, Grade};
use crate::service::random;
use crate::service::telemetry::{self, IntCounter};

/// A transaction that MySQL has rolled back is done again this often, before anybody hears of it.
pub(super) const REPEATS: usize = 3;
/// The same for a statement that sets the database up. More often, because several `footfall init` at once are expected, and
/// nobody waits for an answer.
const SET_UP_REPEATS: usize = 20;
/// The pause before the first repeat; each is twice as long as the one before, and half of it is chance: two that are in
/// each other's way shall not meet again.
const REPEAT_PAUSE: Duration = Duration::from_millis(10);
/// However often it is.
const REPEAT_PAUSE_MAX: Duration = Duration::from_millis(500);
/// Pauses between the tries of a transaction that fails with an error of which nobody knows whether it passes.
const UNKNOWN_PAUSES_MS: [u64; 3] = [100, 300, 1_000];

static REPEATED: LazyLock<IntCounter> = LazyLock::new(|| {
    telemetry::counter(
        "footfall_transactions_repeated_total",
        "Transactions that MySQL rolled back, because another one was in the way, and that were done again.",
    )
});

/// Shows the counter before the first repeat.
pub(super) fn show() {
    LazyLock::force(&REPEATED);
}

/// Does a transaction. Where MySQL has rolled it back because another one was in the way, it is done again, `repeats` times
/// at most: nothing is wrong with the server, and nobody need hear of it. What is done again begins with the fence, so it
/// is exact whatever became of the try before.
pub(super) async fn repeated<T, F>(repeats: usize, once: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    repeated_after(StoreError::was_rolled_back, repeats, once).await
}

/// Does a statement that is a transaction of its own, for whoever sets the database up: what is done twice must come to the
/// same. Answers how many rows it changed. It is done again after a conflict, in which it was taken back (in a Galera cluster
/// that is also how a node hears of a change of tables at another one), but not after a lock was waited for too long: whoever
/// holds a table for so long may hold it longer, and a person must hear of that.
///
/// # Errors
///
/// What MySQL says.
pub async fn execute_alone(db: &DatabaseConnection, sql: &str) -> Result<u64> {
    let once = || async { Ok(db.execute_unprepared(sql).await?.rows_affected()) };
    repeated_after(StoreError::is_conflict, SET_UP_REPEATS, once).await
}

async fn repeated_after<T, F>(
    is_repeated: impl Fn(&StoreError) -> bool,
    repeats: usize,
    mut once: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    for repeat in 0..repeats {
        match once().await {
            Err(error) if is_repeated(&error) => {
                REPEATED.inc();
                let pause = (REPEAT_PAUSE * (1 << repeat.min(8))).min(REPEAT_PAUSE_MAX);
                tokio::time::sleep(pause.mul_f64(0.5 + (random::number() % 1_000) as f64 / 1_000.0)).await;
            }
            result => return result,
        }
    }
    once().await
}

/// Passes on how a transaction went. A lock that was waited for too long takes back one statement only (unless the server
/// has `innodb_rollback_on_timeout`), and the rest would keep its locks: so all of it is taken back first.
pub(super) async fn unless_rolled_back<T>(
    transaction: DatabaseTransaction,
    written: Result<T>,
) -> Result<(DatabaseTransaction, T)> {
    match written {
        Ok(written) => Ok((transaction, written)),
        Err(error) => {
            if error.was_rolled_back() {
                // If that fails the connection is broken, which takes everything back as well.
                let _ = transaction.rollback().await;
            }
            Err(error)
        }
    }
}

/// How a transaction is tried again whose error may be about a row.
pub(super) struct Tries {
    poison: Poison,
    pauses_ms: std::slice::Iter<'static, u64>,
}

impl Tries {
    pub(super) fn new() -> Self {
        Self { poison: Poison::Fails, pauses_ms: UNKNOWN_PAUSES_MS.iter() }
    }

    pub(super) fn poison(&self) -> Poison {
        self.poison
    }

    /// Whether to try again after this error: an unknown one is waited for, but not for ever; then, as with one that is
    /// about the values of a row, the rows are looked for that MySQL refuses.
    /// Not if the tables are to blame, which can be mended: then that is the error, which `tables_fit` finds out.
    pub(super) async fn go_on(
        &mut self,
        error: StoreError,
        tables_fit: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        if self.poison == Poison::IsLeftOut || !error.class().may_be_a_row() {
            return Err(error);
        }
        match self.pauses_ms.next() {
            Some(ms) if error.class() == ErrorClass::DbUnknown => tokio::time::sleep(Duration::from_millis(*ms)).await,
            _ => {
                tables_fit.await?;
                self.poison = Poison::IsLeftOut;
            }
        }
        Ok(())
    }
}
