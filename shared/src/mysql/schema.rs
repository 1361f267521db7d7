//! Whether a database is as this build needs it; if not, what differs and how to mend it.

use sea_orm::{ConnectionTrait, DatabaseConnection};

use super::errors::{Result, StoreError};
use super::look::FoundObjects;
use super::sql::{in_time, statement};
use super::store::Store;
use super::tables::{TABLES, VIEWS_OF_COUNTS};
use crate::protocol::errors::{ErrorClass, Grade};

/// The schema that this build reads and writes; `footfall init` brings a database to it.
pub const SCHEMA_VERSION: u32 = 4;

/// Version and number of shards that a table of this name says the database was set up with; none if it says nothing yet.
pub async fn recorded(db: &DatabaseConnection, table: &str) -> Result<Option<(u32, u32)>> {
    let sql = format!("SELECT version, shards FROM {table} WHERE one = 1");
    let Some(row) = db.query_one_raw(statement(&sql, [])).await? else { return Ok(None) };
    Ok(Some((row.try_get("", "version")?, row.try_get("", "shards")?)))
}

/// What every difference is followed by.
const UNTIL_THEN: &str = "counting goes on by itself when that is mended, and until then views wait";

impl Store {
    async fn look(&self) -> Result<FoundObjects> {
        let names = TABLES.iter().map(|table| table.name).chain(VIEWS_OF_COUNTS.iter().map(|view| view.name));
        in_time(self.timeout, self.reach.step(FoundObjects::at(&self.db, names))).await
    }

    /// Refuses tables that are not ours or not as this build needs them.
    pub(super) async fn tables_fit(&self) -> Result<()> {
        refuse(&self.look().await?.differences())
    }

    pub(super) async fn schema_is_right(&self, shards: u16) -> Result<()> {
        let look = self.look().await?;
        let [versions, ..] = &TABLES;
        let Some(found) = look.get(versions.name) else {
            let missing = "the database has no Footfall tables, or those of an earlier version: run `footfall init`";
            return Err(StoreError::Schema(missing.into()));
        };
        refuse(&versions.differences(Some(found)))?;
        let recorded = in_time(self.timeout, self.reach.step(recorded(&self.db, versions.name))).await?;
        let Some((version, recorded)) = recorded else {
            let unfinished = "the database is not set up to the end: run `footfall init` again";
            return Err(StoreError::Schema(unfinished.into()));
        };
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
        refuse(&look.differences())
    }

    /// An error that is about tables, in words that say what of them differs.
    pub(super) async fn explained<T>(&self, result: Result<T>) -> Result<T> {
        match result {
            Err(StoreError::Db(error)) if error.class() == ErrorClass::DbSchema => {
                self.tables_fit().await?;
                Err(StoreError::Schema(format!(
                    "MySQL refuses what Footfall's tables are for ({error}): does the user of database.url have the \
                     rights SELECT, INSERT, UPDATE and DELETE on all of them? {UNTIL_THEN}"
                )))
            }
            result => result,
        }
    }

    /// Refuses to delete while foreign keys of others' tables follow ours: their rows would go too, or forbid it.
    pub(super) async fn refuse_followers(&self) -> Result<()> {
        let names: Vec<String> = TABLES.iter().map(|table| format!("'{}'", table.name)).collect();
        let sql = format!(
            "SELECT DISTINCT CAST(CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) AS CHAR) AS follower, \
             CAST(REFERENCED_TABLE_NAME AS CHAR) AS followed FROM information_schema.KEY_COLUMN_USAGE \
             WHERE REFERENCED_TABLE_SCHEMA = DATABASE() AND REFERENCED_TABLE_NAME IN ({})",
            names.join(", ")
        );
        let Some(row) = self.one(&sql, []).await? else { return Ok(()) };
        let (follower, followed): (String, String) = (row.try_get("", "follower")?, row.try_get("", "followed")?);
        Err(StoreError::Schema(format!(
            "nothing was changed: a foreign key of the table {follower}, which is not Footfall's, follows {followed}; drop \
             that key first"
        )))
    }
}

fn refuse(differences: &[String]) -> Result<()> {
    if differences.is_empty() {
        return Ok(());
    }
    let (shown, rest) = differences.split_at(differences.len().min(DIFFERENCES_MAX));
    let more = if rest.is_empty() { String::new() } else { format!("; and {} more", rest.len()) };
    Err(StoreError::Schema(format!(
        "the tables are not as this build needs them: {}{more}; {UNTIL_THEN}",
        shown.join("; ")
    )))
}

/// In one sentence.
const DIFFERENCES_MAX: usize = 5;
