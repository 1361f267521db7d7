//! What is in a database under the names of our tables and views, and how it differs from what this build needs.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ConnectionTrait, DatabaseConnection};

use super::errors::{Result, StoreError};
use super::sql::statement;
use super::tables::{BYTEWISE, Column, Filled, MARK, TABLES, Table, VIEWS_OF_COUNTS, View, key_definition};

/// Something in the database that has a name: a table, a view, a sequence.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// As the server says it, such as `BASE TABLE`.
    kind: String,
    engine: String,
    comment: String,
    columns: BTreeMap<String, FoundColumn>,
    /// Columns, and whether it is unique.
    keys: BTreeMap<String, (Vec<String>, bool)>,
    /// Of a view, where this user may see it.
    definition: String,
}

#[derive(Debug, Clone)]
struct FoundColumn {
    kind: String,
    is_nullable: bool,
    default: Option<String>,
    extra: String,
    collation: String,
}

impl FoundColumn {
    /// A new row may leave it out.
    fn fills_itself(&self) -> bool {
        self.is_nullable || self.default.is_some() || self.is_computed() || self.extra.contains("auto_increment")
    }

    fn is_computed(&self) -> bool {
        ["virtual", "stored", "persistent"].iter().any(|word| self.extra.contains(word))
    }
}

/// What is in a database under the names that were asked for.
#[derive(Debug, Default)]
pub struct FoundObjects {
    found: BTreeMap<String, Found>,
}

impl FoundObjects {
    /// Looks for these names. What the user of the connection has no right to is not seen.
    pub async fn at(db: &DatabaseConnection, names: impl IntoIterator<Item = &str>) -> Result<Self> {
        let rows = async |sql: &str| Ok::<_, StoreError>(db.query_all_raw(statement(sql, [])).await?);
        // Where names of tables are not told apart by case, a server may still show them as they were written.
        let one = rows("SELECT CAST(@@lower_case_table_names AS SIGNED) AS folds").await?;
        let folds = one.first().map(|row| row.try_get::<i64>("", "folds")).transpose()?.unwrap_or(0) != 0;
        let name_of = |name: String| if folds { name.to_lowercase() } else { name };
        let names: BTreeSet<String> = names.into_iter().map(|name| format!("'{name}'")).collect();
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        let of = |column: &str| format!("TABLE_SCHEMA = DATABASE() AND {column} IN ({names})");

        // All as text: servers differ in the types of these columns.
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        let sql = format!(
            "SELECT CAST(TABLE_NAME AS CHAR) AS name, CAST(TABLE_TYPE AS CHAR) AS kind, \
             CAST(COALESCE(ENGINE, '') AS CHAR) AS engine, CAST(COALESCE(TABLE_COMMENT, '') AS CHAR) AS comment \
             FROM information_schema.TABLES WHERE {}",
            of("TABLE_NAME")
        );
        for row in rows(&sql).await? {
            let (kind, engine) = (row.try_get("", "kind")?, row.try_get("", "engine")?);
            let object = Found { kind, engine, comment: row.try_get("", "comment")?, ..Found::default() };
            found.insert(name_of(row.try_get("", "name")?), object);
        }
        let sql = format!(
            "SELECT CAST(TABLE_NAME AS CHAR) AS name, CAST(COLUMN_NAME AS CHAR) AS part, \
             CAST(COLUMN_TYPE AS CHAR) AS kind, CAST(IS_NULLABLE AS CHAR) AS nullable, \
             CAST(COLUMN_DEFAULT AS CHAR) AS filled, CAST(EXTRA AS CHAR) AS extra, \
             CAST(COALESCE(COLLATION_NAME, '') AS CHAR) AS collation_name FROM information_schema.COLUMNS WHERE {}",
            of("TABLE_NAME")
        );
        for row in rows(&sql).await? {
            let column = FoundColumn {
                kind: plain_kind(&row.try_get::<String>("", "kind")?),
                is_nullable: row.try_get::<String>("", "nullable")? == "YES",
                default: row.try_get("", "filled")?,
                extra: row.try_get::<String>("", "extra")?.to_lowercase(),
                collation: row.try_get("", "collation_name")?,
            };
            if let Some(object) = found.get_mut(&name_of(row.try_get("", "name")?)) {
                object.columns.insert(row.try_get::<String>("", "part")?.to_lowercase(), column);
            }
        }
        let sql = format!(
            "SELECT CAST(TABLE_NAME AS CHAR) AS name, CAST(INDEX_NAME AS CHAR) AS part, \
             CAST(CONCAT(COALESCE(COLUMN_NAME, '?'), IF(SUB_PART IS NULL, '', CONCAT('(', SUB_PART, ')'))) AS CHAR) AS piece, \
             CAST(NON_UNIQUE AS SIGNED) AS may_repeat FROM information_schema.STATISTICS WHERE {} \
             ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX",
            of("TABLE_NAME")
        );
        for row in rows(&sql).await? {
            if let Some(object) = found.get_mut(&name_of(row.try_get("", "name")?)) {
                let is_unique = row.try_get::<i64>("", "may_repeat")? == 0;
                let key = object.keys.entry(row.try_get("", "part")?).or_insert((Vec::new(), is_unique));
                key.0.push(row.try_get::<String>("", "piece")?.to_lowercase());
            }
        }
        let sql = format!(
            "SELECT CAST(TABLE_NAME AS CHAR) AS name, CAST(COALESCE(VIEW_DEFINITION, '') AS CHAR) AS text \
             FROM information_schema.VIEWS WHERE {}",
            of("TABLE_NAME")
        );
        for row in rows(&sql).await? {
            if let Some(object) = found.get_mut(&name_of(row.try_get("", "name")?)) {
                object.definition = row.try_get("", "text")?;
            }
        }
        Ok(Self { found })
    }

    /// What has this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Found> {
        self.found.get(name)
    }

    /// What differs from the tables and views of this build, each with what mends it.
    #[must_use]
    pub fn differences(&self) -> Vec<String> {
        let tables = TABLES.iter().flat_map(|table| table.differences(self.get(table.name)));
        tables.chain(VIEWS_OF_COUNTS.iter().filter_map(|view| view.difference(self.get(view.name)))).collect()
    }
}

impl Found {
    /// What it is, for a person.
    #[must_use]
    pub fn kind(&self) -> String {
        match self.kind.as_str() {
            "BASE TABLE" => "table".to_owned(),
            other => other.to_lowercase(),
        }
    }

    /// Whether it is a table that bears our mark.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.kind == "BASE TABLE" && self.comment.starts_with(MARK)
    }

    /// Whether it has no columns but these.
    #[must_use]
    pub fn has_only(&self, table: &Table) -> bool {
        self.columns.len() == table.columns.len() && self.has_all(table)
    }

    /// Whether it has a column of this name.
    #[must_use]
    pub fn has(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    /// Whether it has columns of all these names.
    #[must_use]
    pub fn has_all(&self, table: &Table) -> bool {
        table.columns.iter().all(|column| self.has(column.name))
    }
}

impl Table {
    /// What of a table with this name is not as it should be, each with what mends it.
    #[must_use]
    pub fn differences(&self, found: Option<&Found>) -> Vec<String> {
        let name = self.name;
        let Some(found) = found else {
            return vec![format!("the table {name} is missing, or hidden from this user")];
        };
        if found.kind != "BASE TABLE" {
            return vec![format!("{name} is a {} that is not Footfall's", found.kind())];
        }
        if !found.is_marked() {
            return vec![format!("the table {name} is not Footfall's (if it is, mark it: `{}`)", self.mark(name))];
        }
        self.misfits(found)
    }

    /// The same, whoever made it.
    #[must_use]
    pub fn misfits(&self, found: &Found) -> Vec<String> {
        let name = self.name;
        let mut misfits = Vec::new();
        let mut differs = |what: String, mend: String| {
            misfits.push(format!("the table {name} {what} (`ALTER TABLE {name} {mend}`)"));
        };
        if !found.engine.eq_ignore_ascii_case("InnoDB") {
            differs(format!("has the engine {}, not InnoDB", found.engine), "ENGINE = InnoDB".into());
        }
        for column in self.columns {
            let wanted = column.definition();
            match found.columns.get(column.name) {
                None => differs(format!("lacks the column {}", column.name), format!("ADD COLUMN {wanted}")),
                Some(has) if !column.fits(has) => {
                    differs(format!("has the column {} {}", column.name, has.describe()), format!("MODIFY {wanted}"));
                }
                Some(_) => {}
            }
        }
        for (column, has) in &found.columns {
            if !self.columns.iter().any(|known| known.name == column) && !has.fills_itself() {
                differs(
                    format!("has one more column, {column}, that no row can do without"),
                    format!("DROP COLUMN `{column}`"),
                );
            }
        }
        for (key, columns) in self.keys {
            let has = found.keys.get(*key).map(|(columns, _)| columns.as_slice());
            if has.is_none_or(|has| !has.iter().eq(columns.iter())) {
                let drop = match (has, *key) {
                    (None, _) => String::new(),
                    (Some(_), "PRIMARY") => "DROP PRIMARY KEY, ".into(),
                    (Some(_), key) => format!("DROP KEY {key}, "),
                };
                let wanted = key_definition((key, columns));
                differs(format!("lacks the {wanted}"), format!("{drop}ADD {wanted}"));
            }
        }
        for (key, (columns, is_unique)) in &found.keys {
            if *is_unique && !self.keys.iter().any(|(known, _)| known == key) {
                let what = format!("has one more unique key, {key} ({}), which rows may run into", columns.join(", "));
                differs(what, format!("DROP KEY `{key}`"));
            }
        }
        misfits
    }
}

impl Column {
    fn fits(&self, has: &FoundColumn) -> bool {
        let is_filled = match self.filled {
            Filled::Computed(_) => return has.kind == self.kind && has.is_computed(),
            Filled::Always => true,
            Filled::Counter => has.extra.contains("auto_increment"),
            Filled::Default(value) => {
                // MariaDB says `current_timestamp()`, MySQL `CURRENT_TIMESTAMP`.
                let default = has.default.as_deref().unwrap_or_default();
                default.trim_matches(['\'', '(', ')']).eq_ignore_ascii_case(value)
            }
        };
        let is_text = self.kind == "text";
        let kind_fits = has.kind == self.kind && (!is_text || has.collation.starts_with("utf8mb4"));
        kind_fits && !has.is_nullable && !has.is_computed() && is_filled
    }
}

impl FoundColumn {
    fn describe(&self) -> String {
        let charset = self.collation.split('_').next().filter(|charset| !charset.is_empty());
        let charset = charset.map(|charset| format!(" CHARACTER SET {charset}")).unwrap_or_default();
        let null = if self.is_nullable { " NULL" } else { " NOT NULL" };
        let default = self.default.as_ref().map(|default| format!(" DEFAULT {default}")).unwrap_or_default();
        format!("{}{charset}{null}{default} {}", self.kind, self.extra).trim_end().to_owned()
    }
}

impl View {
    /// Whether a view, or whatever has its name, is ours. None if this user may not see what it is made of.
    #[must_use]
    pub fn is_made_by_us(&self, found: &Found) -> Option<bool> {
        match (found.kind.as_str(), found.definition.as_str()) {
            ("VIEW", "") => None,
            ("VIEW", definition) => Some(self.is_ours(definition)),
            _ => Some(false),
        }
    }

    /// What of it is not as it should be.
    #[must_use]
    pub fn difference(&self, found: Option<&Found>) -> Option<String> {
        let name = self.name;
        let Some(found) = found else { return Some(format!("the view {name} is missing (`footfall init` makes it)")) };
        if self.is_made_by_us(found) == Some(false) {
            return Some(format!(
                "{name} is a {} that is not Footfall's (rename it, then `footfall init` makes the view)",
                found.kind()
            ));
        }
        let columns = || self.ids.iter().chain(self.counts);
        if found.columns.len() != columns().count() || columns().any(|column| !found.has(column)) {
            return Some(format!("the view {name} does not work or has other columns (`footfall init` makes it anew)"));
        }
        let folds = |id: &&&str| !BYTEWISE.contains(&found.columns[**id].collation.as_str());
        let id = self.ids.iter().find(folds)?;
        Some(format!(
            "the view {name} compares {id} by {}, which is not byte by byte (`footfall init` makes it anew)",
            found.columns[*id].collation
        ))
    }
}

/// `bigint(20) unsigned` of MariaDB is `bigint unsigned` of MySQL: the width of a whole number says nothing.
fn plain_kind(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match (kind.find('('), kind.find(')')) {
        (Some(open), Some(close)) if kind[..open].ends_with("int") && open < close => {
            format!("{}{}", &kind[..open], &kind[close + 1..])
        }
        _ => kind,
    }
}
