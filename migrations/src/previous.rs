//! The tables of schema version 3, which had no prefix: a site may have tables of the same names. Each is taken over only
//! where it is ours beyond doubt. Under its new name it then gets its new shape.

use footfall_shared::mysql::{Found, FoundObjects, TABLES, TABLES_BEFORE, Table, recorded};
use footfall_shared::service::lifecycle::EXIT_DEPENDENCY;
use sea_orm::DatabaseConnection;

use crate::{number, refuse, run};

const VERSION: u32 = 3;
const PREFIX: &str = "footfall_";
/// Where version 3 noted what it had done, in a table that other programs use as well.
const BOOKKEEPING: &str = "seaql_migrations";
const NOTED: &str = "'m0001_counts', 'm0002_fallbacks', 'm0003_lists'";
/// Without these, what was counted would be lost or counted again.
const ESSENTIAL: [&str; 3] = ["footfall_article_readers", "footfall_producer_fence", "footfall_direct_fence"];

fn name_of(table: &Table) -> &'static str {
    table.name.trim_start_matches(PREFIX)
}

/// A table as version 3 made it, but for its name.
fn shape(table: &'static Table) -> &'static Table {
    TABLES_BEFORE.iter().find(|(before, _)| before.name == table.name).map_or(table, |(before, _)| before)
}

/// Whether a table has exactly the shape that version 3 gave it.
fn has_shape(table: &'static Table, found: &Found) -> bool {
    let before = shape(table);
    found.kind() == "table" && found.has_only(before) && before.misfits(found).is_empty()
}

/// Whether a table has all that version 3 gave it, and more.
fn is_alike(table: &'static Table, found: &Found) -> bool {
    let before = shape(table);
    found.has_all(before) && !found.has_only(before)
}

/// The statement that gives a table its present shape, if it has the one of version 3 and that was another.
pub(crate) fn reshape(table: &'static Table, found: &Found) -> Option<&'static str> {
    let (_, statement) = TABLES_BEFORE.iter().find(|(before, _)| before.name == table.name)?;
    has_shape(table, found).then_some(*statement)
}

/// All names that it used.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(name_of).chain([BOOKKEEPING])
}

/// What a table that version 3 should have had, and had not, can be made from.
pub(crate) fn rows_of(table: &Table) -> Option<&'static str> {
    match table.name {
        "footfall_users" => Some(" SELECT DISTINCT user FROM footfall_article_readers"),
        "footfall_articles" => Some(
            " SELECT article, CAST(SUM(views) AS UNSIGNED) AS views, CAST(COUNT(*) AS UNSIGNED) AS readers \
             FROM footfall_article_readers GROUP BY article",
        ),
        _ => None,
    }
}

/// A set-up of version 3, or what an upgrade that was cut off has left of it.
pub(crate) struct Previous {
    tables: Vec<&'static Table>,
    /// Names of tables that are not ours.
    others: Vec<&'static str>,
    recorded: Option<(u32, u32)>,
    has_bookkeeping: bool,
}

impl Previous {
    /// Looks for tables that have exactly the shape of version 3. Two of them are unlike any that a site would have: only
    /// with these the others are believed, or with the mark that an upgrade gives them before it renames them.
    pub(crate) async fn find(
        db: &DatabaseConnection,
        look: &FoundObjects,
        missing: &[&'static Table],
    ) -> anyhow::Result<Option<Self>> {
        let has_shape = |table: &'static Table| look.get(name_of(table)).is_some_and(|found| has_shape(table, found));
        let is_marked = |table: &Table| look.get(name_of(table)).is_some_and(|found| found.is_marked());
        let versions = &TABLES[0];
        let is_there = |name| TABLES.iter().any(|table| table.name == name && has_shape(table));
        let before = if has_shape(versions) { recorded(db, name_of(versions)).await? } else { None };
        if let Some((version, _)) = before.filter(|(version, _)| *version < VERSION) {
            let sentence = format!(
                "the database has schema version {version}, from which this build cannot upgrade: run `footfall init` of a \
                 build with schema version {VERSION} first"
            );
            return Err(refuse(EXIT_DEPENDENCY, sentence));
        }
        let has_fences = is_there("footfall_shard_fence");
        let is_believed = has_shape(versions) && has_fences;
        if before.is_some() && !has_fences && missing.iter().any(|table| table.name == "footfall_shard_fence") {
            let sentence =
                "the table shard_fence of Footfall's earlier version is missing or was changed: restore it as it was";
            return Err(refuse(EXIT_DEPENDENCY, sentence.into()));
        }
        let candidates = |table: &&&'static Table| is_marked(table) || is_believed && has_shape(table);
        let tables: Vec<&'static Table> = missing.iter().filter(candidates).copied().collect();
        let at = |table: &Table| {
            if tables.iter().any(|known| known.name == table.name) { name_of(table) } else { table.name }
        };
        let is_known = |table: &Table| at(table) != table.name || look.get(table.name).is_some();

        let recorded = if is_known(versions) { recorded(db, at(versions)).await? } else { None };
        if tables.is_empty() && recorded.is_none() {
            return Ok(None);
        }
        let others: Vec<&Table> =
            missing.iter().filter(|table| !tables.iter().any(|known| known.name == table.name)).copied().collect();
        let fences = TABLES.iter().find(|table| table.name == "footfall_shard_fence" && is_known(table));
        let counted = match fences {
            Some(fences) => {
                number(db, &format!("SELECT CAST(COALESCE(SUM(views), 0) AS SIGNED) FROM {}", at(fences))).await?
            }
            None => 0,
        };
        for table in &others {
            let found = look.get(name_of(table));
            let is_alike = found.is_some_and(|found| is_alike(table, found)) && table.name != "footfall_users";
            if counted > 0 && (ESSENTIAL.contains(&table.name) || is_alike) {
                let sentence = format!(
                    "the table {} of Footfall's earlier version is missing or was changed, and {counted} views were \
                     counted in it: restore it as it was",
                    name_of(table)
                );
                return Err(refuse(EXIT_DEPENDENCY, sentence));
            }
        }
        let bookkeeping = look.get(BOOKKEEPING);
        let has_bookkeeping = bookkeeping.is_some_and(|found| found.kind() == "table" && found.has("version"));
        let others = others.into_iter().map(name_of).filter(|name| look.get(name).is_some()).collect();
        Ok(Some(Self { tables, others, recorded, has_bookkeeping }))
    }

    /// Version and number of shards.
    pub(crate) fn recorded(&self) -> Option<(u32, u32)> {
        self.recorded
    }

    pub(crate) fn renames(&self, table: &Table) -> bool {
        self.tables.iter().any(|known| known.name == table.name)
    }

    /// What gives them their present shapes, once they have their new names.
    pub(crate) fn reshapes(&self) -> Vec<&'static str> {
        let of_ours = |(before, statement): &(Table, &'static str)| self.renames(before).then_some(*statement);
        TABLES_BEFORE.iter().filter_map(of_ours).collect()
    }

    /// Marks them first, so that an upgrade that is cut off is gone on with; then all get their names in one statement: from
    /// there on no program of version 3 finds any of them, whatever their shapes.
    pub(crate) async fn rename(&self, db: &DatabaseConnection) -> anyhow::Result<()> {
        for table in &self.tables {
            run(db, &table.mark(name_of(table))).await?;
        }
        let renamed: Vec<String> =
            self.tables.iter().map(|table| format!("{} TO {}", name_of(table), table.name)).collect();
        if !renamed.is_empty() {
            run(db, &format!("RENAME TABLE {}", renamed.join(", "))).await?;
        }
        Ok(())
    }

    /// Takes our notes out of a table that may be others' too; away with it only if it held nothing else.
    pub(crate) async fn leave_bookkeeping(&self, db: &DatabaseConnection) -> anyhow::Result<()> {
        if !self.has_bookkeeping {
            return Ok(());
        }
        let ours = format!("SELECT COUNT(*) FROM {BOOKKEEPING} WHERE version IN ({NOTED})");
        if number(db, &ours).await? == 0 {
            return Ok(());
        }
        let others = format!("SELECT COUNT(*) FROM {BOOKKEEPING} WHERE version NOT IN ({NOTED})");
        if number(db, &others).await? > 0 {
            return run(db, &format!("DELETE FROM {BOOKKEEPING} WHERE version IN ({NOTED})")).await;
        }
        run(db, &format!("DROP TABLE {BOOKKEEPING}")).await
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        let note = |name: &&str| {
            format!("{name} has the name of a table of Footfall's earlier version, but is not it: it was left as it is")
        };
        self.others.iter().map(note).collect()
    }
}
