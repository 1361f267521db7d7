//! What a database needs to become ours, found out before anything is changed.

use anyhow::Context;
use footfall_shared::mysql::{
    BYTEWISE, FoundObjects, INIT_LEASE, SCHEMA_VERSION, TABLES, Table, VIEWS_OF_COUNTS, View, recorded,
};
use footfall_shared::service::lifecycle::{EXIT_CONFIGURATION, EXIT_DEPENDENCY};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use crate::previous::{self, Previous};
use crate::{number, refuse, run};

/// What is to be done.
pub(crate) struct Plan {
    previous: Option<Previous>,
    /// What gives tables of ours that have their names already their present shape.
    reshape: Vec<&'static str>,
    missing: Vec<&'static Table>,
    /// Views that are to be made, in place of one of ours where there is one.
    views: Vec<&'static View>,
    /// The collation of their ids.
    collation: String,
    /// Whether a finished set-up of this version has all its rows.
    is_recorded: bool,
}

/// The table that has the version.
const VERSIONS: &Table = &TABLES[0];

impl Plan {
    /// Looks at everything that bears a name of ours, of this version or the one before.
    pub(crate) async fn make(db: &DatabaseConnection, shards: u16) -> anyhow::Result<Self> {
        let views = VIEWS_OF_COUNTS.iter().map(|view| view.name);
        let look = FoundObjects::at(
            db,
            TABLES.iter().map(|table| table.name).chain(views).chain(previous::names()).chain([INIT_LEASE.name]),
        )
        .await?;

        let versions = look.get(VERSIONS.name).filter(|found| found.is_marked() && VERSIONS.misfits(found).is_empty());
        let finished = match versions {
            Some(_) => recorded(db, VERSIONS.name).await?.filter(|(version, _)| *version >= SCHEMA_VERSION),
            None => None,
        };
        let (mut in_the_way, mut misfits, mut missing, mut reshape) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for table in &TABLES {
            match look.get(table.name) {
                None => missing.push(table),
                Some(found) if found.is_marked() => match previous::reshape(table, found) {
                    Some(statement) if finished.is_none() => reshape.push(statement),
                    _ => misfits.extend(table.misfits(found)),
                },
                Some(found) => in_the_way.push(format!("the {} {}", found.kind(), table.name)),
            }
        }
        if let Some(found) = look.get(INIT_LEASE.name).filter(|found| !found.is_marked()) {
            in_the_way.push(format!("the {} {}", found.kind(), INIT_LEASE.name));
        }
        let mut views = Vec::new();
        for view in &VIEWS_OF_COUNTS {
            let found = look.get(view.name);
            match found.map(|found| (found, view.is_made_by_us(found))) {
                Some((found, Some(false))) => in_the_way.push(format!("the {} {}", found.kind(), view.name)),
                Some((_, None)) => {
                    let sentence = "the user of database.url may not see what the views of the database are made of: grant \
                                    SHOW VIEW, best all rights on its database";
                    return Err(refuse(EXIT_CONFIGURATION, sentence.into()));
                }
                _ if view.difference(found).is_some() => views.push(view),
                _ => {}
            }
        }
        if !in_the_way.is_empty() {
            let sentence = format!(
                "in the database is already, and was not made by Footfall: {}. Rename what is in the way, or give Footfall a \
                 database of its own",
                in_the_way.join(", ")
            );
            return Err(refuse(EXIT_CONFIGURATION, sentence));
        }
        if !misfits.is_empty() {
            let sentence = format!("Footfall's tables were changed by somebody else: {}", misfits.join("; "));
            return Err(refuse(EXIT_DEPENDENCY, sentence));
        }

        let previous = if finished.is_none() { Previous::find(db, &look, &missing).await? } else { None };
        if let Some((version, _)) = finished.filter(|(version, _)| *version > SCHEMA_VERSION) {
            let sentence = format!(
                "the database has schema version {version}, this build knows {SCHEMA_VERSION}: use the build that belongs to it"
            );
            return Err(refuse(EXIT_DEPENDENCY, sentence));
        }
        if finished.is_some() && !missing.is_empty() {
            let names: Vec<&str> = missing.iter().map(|table| table.name).collect();
            let sentence = format!(
                "tables of a finished set-up are missing: {}. Restore them from a backup; made anew they would be empty, and \
                 the books would not balance",
                names.join(", ")
            );
            return Err(refuse(EXIT_DEPENDENCY, sentence));
        }
        let recorded = finished.or_else(|| previous.as_ref().and_then(Previous::recorded));
        if let Some((_, recorded)) = recorded.filter(|(_, recorded)| *recorded != u32::from(shards)) {
            let sentence = format!(
                "this database was set up with {recorded} shards, the configuration says {shards}: set `shards` to {recorded}"
            );
            return Err(refuse(EXIT_CONFIGURATION, sentence));
        }
        reshape.extend(previous.iter().flat_map(Previous::reshapes));
        let has_fences = "SELECT COUNT(*) FROM footfall_shard_fence";
        let is_recorded = finished.is_some() && number(db, has_fences).await? >= i64::from(shards);
        Ok(Self { previous, reshape, missing, views, collation: bytewise(db).await?, is_recorded })
    }

    /// Whether nothing is to be done.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { previous, reshape, missing, views, collation: _, is_recorded } = self;
        *is_recorded && previous.is_none() && reshape.is_empty() && missing.is_empty() && views.is_empty()
    }

    /// Every statement may be the last one: a second run goes on from there.
    pub(crate) async fn carry_out(&self, db: &DatabaseConnection, shards: u16) -> anyhow::Result<()> {
        if let Some(previous) = &self.previous {
            previous.rename(db).await?;
        }
        for statement in &self.reshape {
            run(db, statement).await?;
        }
        let is_renamed = |table: &Table| self.previous.as_ref().is_some_and(|previous| previous.renames(table));
        for table in self.missing.iter().filter(|table| !is_renamed(table)) {
            let rows = self.previous.as_ref().and_then(|_| previous::rows_of(table)).unwrap_or_default();
            run(db, &format!("{}{rows}", table.create())).await?;
        }
        if let Some(previous) = &self.previous {
            previous.leave_bookkeeping(db).await?;
        }
        for view in &self.views {
            run(db, &view.create(&self.collation)).await?;
        }
        for shard in 0..shards {
            run(db, &format!("INSERT IGNORE INTO footfall_shard_fence (shard) VALUES ({shard})")).await?;
        }
        let record = format!(
            "INSERT INTO {} (one, version, shards) VALUES (1, {SCHEMA_VERSION}, {shards}) \
             ON DUPLICATE KEY UPDATE version = VALUES(version)",
            VERSIONS.name
        );
        run(db, &record).await
    }

    /// What a person should know.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.previous.as_ref().map(Previous::notes).unwrap_or_default()
    }
}

/// A collation that compares text by its bytes, a space at the end too.
async fn bytewise(db: &DatabaseConnection) -> anyhow::Result<String> {
    let sql = format!(
        "SELECT CAST(COLLATION_NAME AS CHAR) AS name FROM information_schema.COLLATIONS WHERE COLLATION_NAME IN ('{}')",
        BYTEWISE.join("', '")
    );
    let rows = db.query_all_raw(Statement::from_string(DbBackend::MySql, sql)).await?;
    let names = rows.iter().map(|row| row.try_get("", "name")).collect::<Result<Vec<String>, _>>()?;
    let first = BYTEWISE.iter().find(|name| names.iter().any(|known| known == *name));
    let sentence = "the database has no collation that compares text by its bytes: it must be MariaDB 10.6 or MySQL 8.0.17, \
                    or later";
    first.map(|name| (*name).to_owned()).context(sentence)
}
