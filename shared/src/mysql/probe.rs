//! Whether a server lets us do what the protocol does, tried without changing anything.

use sea_orm::ConnectionTrait;

use super::errors::{Result, StoreError};
use super::sql::{in_time, statement};
use super::store::Store;
use super::tables::{Filled, TABLES, Table};
use crate::service::clock;
use crate::service::finding::Finding;

/// What a flush, a batch of the direct path and the operator's tool do to a table, done to no row. Rights, a read-only
/// server and what is wrong with a table are found all the same.
fn changes_of_nothing(table: &Table) -> [String; 3] {
    let name = table.name;
    let written = table.columns.iter().filter(|column| !matches!(column.filled, Filled::Computed(_)));
    let columns = written.map(|column| format!("`{}`", column.name)).collect::<Vec<_>>();
    let (first, columns) = (columns[0].as_str(), columns.join(", "));
    [
        format!("INSERT INTO {name} ({columns}) SELECT {columns} FROM {name} WHERE 1 = 0"),
        format!("UPDATE {name} SET {first} = {first} WHERE 1 = 0"),
        format!("DELETE FROM {name} WHERE 1 = 0"),
    ]
}

impl Store {
    /// Fails where Footfall's tables could not be written now: for want of a right, on a read-only server, on one that hangs.
    pub async fn probe(&self) -> Result<()> {
        let work = async {
            let transaction = self.begin().await?;
            for sql in TABLES.iter().flat_map(changes_of_nothing) {
                transaction.execute_raw(statement(&sql, [])).await?;
            }
            Ok::<_, StoreError>(transaction.rollback().await?)
        };
        self.explained(in_time(self.timeout, work).await).await
    }

    /// Which server and version answers, in words.
    pub async fn version(&self) -> Result<String> {
        let Some(row) = self.one("SELECT VERSION() AS version", []).await? else { return Ok(String::new()) };
        let version: String = row.try_get("", "version")?;
        Ok(if version.contains("MariaDB") { version } else { format!("MySQL {version}") })
    }

    /// What there is to say of the server's clock.
    pub async fn clock(&self) -> Result<Option<Finding>> {
        let asked = clock::unix_ms();
        let sql = "SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS UNSIGNED) AS unix_ms";
        let Some(row) = self.one(sql, []).await? else { return Ok(None) };
        Ok(clock::difference("the database", row.try_get("", "unix_ms")?, asked))
    }
}
