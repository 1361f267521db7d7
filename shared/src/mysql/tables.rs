//! Footfall's tables and views: all of them, and how each has to look. `footfall init` makes them from this list, a
//! database is compared with it before it is written to, and `footfall clean` deletes from nothing else.

/// The comment of every table of ours begins with it. Only this says whose a table is: its name may be anybody's.
pub(super) const MARK: &str = "Footfall: ";

/// The alias in the definition of every view of ours, which has no comment: it says whose a view is.
const VIEW_MARK: &str = "footfall_view";

/// Collations of MariaDB and of MySQL that compare text by its bytes, a space at the end too.
pub const BYTEWISE: [&str; 2] = ["utf8mb4_nopad_bin", "utf8mb4_0900_bin"];

/// A table, as this build needs it.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// What it holds, for whoever finds it.
    holds: &'static str,
    pub(super) columns: &'static [Column],
    /// Names and columns; the primary one is `PRIMARY`.
    pub(super) keys: &'static [(&'static str, &'static [&'static str])],
    /// Whether it holds counts, which `footfall clean` deletes; else it belongs to the set-up.
    pub(super) holds_counts: bool,
}

/// A column, which is never NULL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) filled: Filled,
}

/// Who fills a column in a new row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// We do, always.
    Always,
    /// The server, unless we do.
    Default(&'static str),
    /// The server, by counting.
    Counter,
    /// The server, from the other columns.
    Computed(&'static str),
}

const fn column(name: &'static str, kind: &'static str) -> Column {
    Column { name, kind, filled: Filled::Always }
}

/// How many binary digits a count has: the order of articles, roughly. An index on the count itself would be rewritten at
/// every view, one on this is when the count has doubled.
const fn digits(name: &'static str, expression: &'static str) -> Column {
    Column { name, kind: "tinyint unsigned", filled: Filled::Computed(expression) }
}

const fn count(name: &'static str) -> Column {
    Column { name, kind: "bigint unsigned", filled: Filled::Default("0") }
}

/// Ids compare by bytes, without case, accent or trailing-space folding.
const ARTICLE: Column = column("article", "varbinary(255)");
/// See [`ARTICLE`].
const USER: Column = column("user", "varbinary(128)");
const SHARD: Column = column("shard", "smallint unsigned");
const VIEWS: Column = column("views", "bigint unsigned");
const READERS: Column = column("readers", "bigint unsigned");
const PRODUCER: Column = column("producer", "bigint unsigned");
const BATCH: Column = column("batch", "bigint unsigned");

/// All tables.
pub const TABLES: [Table; 10] = [
    Table {
        name: "footfall_schema_version",
        holds: "the version of these tables; written last, when all of them are there",
        columns: &[
            column("one", "tinyint unsigned"),
            column("version", "int unsigned"),
            column("shards", "int unsigned"),
        ],
        keys: &[("PRIMARY", &["one"])],
        holds_counts: false,
    },
    Table {
        name: "footfall_articles",
        holds: "views and readers per article",
        columns: &[
            ARTICLE,
            VIEWS,
            READERS,
            digits("views_digits", "char_length(bin(views))"),
            digits("readers_digits", "char_length(bin(readers))"),
        ],
        keys: &[
            ("PRIMARY", &["article"]),
            ("by_views_digits", &["views_digits"]),
            ("by_readers_digits", &["readers_digits"]),
        ],
        holds_counts: true,
    },
    Table {
        name: "footfall_article_readers",
        holds: "views per article and user",
        columns: &[ARTICLE, USER, VIEWS],
        keys: &[("PRIMARY", &["article", "user"]), ("by_user", &["user"])],
        holds_counts: true,
    },
    Table {
        name: "footfall_users",
        holds: "all users",
        columns: &[USER],
        keys: &[("PRIMARY", &["user"])],
        holds_counts: true,
    },
    // By hour first: what rose in the last hours lies together, and old hours are not touched again.
    Table {
        name: "footfall_article_hours",
        holds: "views per article and hour since 1970 UTC",
        columns: &[ARTICLE, column("hour", "int unsigned"), VIEWS],
        keys: &[("PRIMARY", &["hour", "article"]), ("by_article", &["article", "hour"])],
        holds_counts: true,
    },
    // With the shard in the key, so that two shards never wait for the same row.
    Table {
        name: "footfall_site_minutes",
        holds: "views per minute since 1970 UTC and shard",
        columns: &[column("minute", "int unsigned"), SHARD, VIEWS],
        keys: &[("PRIMARY", &["minute", "shard"])],
        holds_counts: true,
    },
    // The position of each shard, written in the same transaction as the counts that it speaks of; running totals, so
    // that the site's numbers are one row; `version`, which grows whenever the counts change by anything but a flush; and
    // the views that a person has dropped from quarantine, or forgotten with their article.
    Table {
        name: "footfall_shard_fence",
        holds: "per shard up to where its views are counted, and totals",
        columns: &[
            SHARD,
            count("epoch"),
            count("position"),
            count("flush_epoch"),
            count("views"),
            count("readers"),
            count("users"),
            count("articles"),
            count("version"),
            count("dropped"),
        ],
        keys: &[("PRIMARY", &["shard"])],
        holds_counts: false,
    },
    // `repeats`: views left out because their id was counted before.
    Table {
        name: "footfall_producer_fence",
        holds: "per life of an ingest its last batch through Redis",
        columns: &[SHARD, PRODUCER, BATCH, VIEWS, count("repeats")],
        keys: &[("PRIMARY", &["shard", "producer"])],
        holds_counts: true,
    },
    Table {
        name: "footfall_direct_fence",
        holds: "per life of an ingest its last batch that did not come through Redis",
        columns: &[SHARD, PRODUCER, BATCH, VIEWS],
        keys: &[("PRIMARY", &["shard", "producer"])],
        holds_counts: true,
    },
    Table {
        name: "footfall_quarantine",
        holds: "rows that could not be stored, with the reason, until a person decides",
        columns: &[
            Column { name: "id", kind: "bigint unsigned", filled: Filled::Counter },
            SHARD,
            column("epoch", "bigint unsigned"),
            column("position", "bigint unsigned"),
            ARTICLE,
            USER,
            VIEWS,
            column("reason", "text"),
            Column { name: "since", kind: "timestamp", filled: Filled::Default("CURRENT_TIMESTAMP") },
        ],
        keys: &[("PRIMARY", &["id"])],
        holds_counts: true,
    },
];

/// Which `footfall init` is at work. None of [`TABLES`]: `init` makes it when it has something to do, and nobody else needs
/// it.
pub const INIT_LEASE: Table = Table {
    name: "footfall_init_lease",
    holds: "which footfall init is at work, and until when it counts as alive",
    columns: &[
        column("one", "tinyint unsigned"),
        column("holder", "bigint unsigned"),
        column("until_us", "bigint unsigned"),
    ],
    keys: &[("PRIMARY", &["one"])],
    holds_counts: false,
};

/// Tables that version 3 had in another shape, under the names that they have now, and the statement that brings each from
/// there to its present shape: at once, or not at all.
pub const TABLES_BEFORE: [(Table, &str); 3] = [
    (
        Table {
            name: "footfall_articles",
            holds: "",
            columns: &[ARTICLE, VIEWS, READERS],
            keys: &[("PRIMARY", &["article"]), ("by_views", &["views"]), ("by_readers", &["readers"])],
            holds_counts: true,
        },
        "ALTER TABLE footfall_articles DROP KEY by_views, DROP KEY by_readers, \
         ADD COLUMN views_digits tinyint unsigned AS (char_length(bin(views))) STORED, \
         ADD COLUMN readers_digits tinyint unsigned AS (char_length(bin(readers))) STORED, \
         ADD KEY by_views_digits (views_digits), ADD KEY by_readers_digits (readers_digits)",
    ),
    (
        Table {
            name: "footfall_shard_fence",
            holds: "",
            columns: &[
                SHARD,
                count("epoch"),
                count("gen"),
                count("flush_epoch"),
                count("views"),
                count("readers"),
                count("users"),
                count("articles"),
                count("version"),
                count("dropped"),
            ],
            keys: &[("PRIMARY", &["shard"])],
            holds_counts: false,
        },
        "ALTER TABLE footfall_shard_fence RENAME COLUMN gen TO position",
    ),
    (
        Table {
            name: "footfall_quarantine",
            holds: "",
            columns: &[
                Column { name: "id", kind: "bigint unsigned", filled: Filled::Counter },
                SHARD,
                column("epoch", "bigint unsigned"),
                column("gen", "bigint unsigned"),
                ARTICLE,
                USER,
                VIEWS,
                column("reason", "text"),
                Column { name: "since", kind: "timestamp", filled: Filled::Default("CURRENT_TIMESTAMP") },
            ],
            keys: &[("PRIMARY", &["id"])],
            holds_counts: true,
        },
        "ALTER TABLE footfall_quarantine RENAME COLUMN gen TO position",
    ),
];

impl Table {
    /// Its comment, by which it is known.
    #[must_use]
    pub fn comment(&self) -> String {
        format!("{MARK}{}", self.holds)
    }

    /// The statement that makes it. Fails if there is anything of this name.
    #[must_use]
    pub fn create(&self) -> String {
        let columns = self.columns.iter().map(Column::definition);
        let parts: Vec<String> = columns.chain(self.keys.iter().map(|key| key_definition(*key))).collect();
        let (name, comment) = (self.name, self.comment());
        format!(
            "CREATE TABLE {name} ({}) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = '{comment}'",
            parts.join(", ")
        )
    }

    /// The statement that marks the table of this name as ours.
    #[must_use]
    pub fn mark(&self, name: &str) -> String {
        format!("ALTER TABLE {name} COMMENT = '{}'", self.comment())
    }
}

impl Column {
    pub(super) fn definition(&self) -> String {
        let (name, kind) = (self.name, self.kind);
        match self.filled {
            Filled::Always => format!("{name} {kind} NOT NULL"),
            Filled::Default(value) => format!("{name} {kind} NOT NULL DEFAULT {value}"),
            Filled::Counter => format!("{name} {kind} NOT NULL AUTO_INCREMENT"),
            // MariaDB takes no NOT NULL here.
            Filled::Computed(expression) => format!("{name} {kind} AS ({expression}) STORED"),
        }
    }
}

pub(super) fn key_definition((name, columns): (&str, &[&str])) -> String {
    let columns = columns.join(", ");
    if name == "PRIMARY" { format!("PRIMARY KEY ({columns})") } else { format!("KEY {name} ({columns})") }
}

/// A view for analysts: its name and its columns stay, whatever becomes of the tables.
#[derive(Debug)]
pub struct View {
    /// Its name.
    pub name: &'static str,
    /// The table behind it.
    from: &'static str,
    /// Ids, as text that compares by bytes.
    pub(super) ids: &'static [&'static str],
    pub(super) counts: &'static [&'static str],
}

/// Both views.
pub const VIEWS_OF_COUNTS: [View; 2] = [
    View { name: "article_counts", from: "footfall_articles", ids: &["article"], counts: &["views", "readers"] },
    View { name: "reader_counts", from: "footfall_article_readers", ids: &["article", "user"], counts: &["views"] },
];

impl View {
    /// The statement that makes it, in place of one of ours.
    #[must_use]
    pub fn create(&self, collation: &str) -> String {
        let id = |id: &&str| format!("CONVERT({VIEW_MARK}.{id} USING utf8mb4) COLLATE {collation} AS {id}");
        let count = |count: &&str| format!("{VIEW_MARK}.{count} AS {count}");
        let columns: Vec<String> = self.ids.iter().map(id).chain(self.counts.iter().map(count)).collect();
        format!(
            "CREATE OR REPLACE VIEW {} AS SELECT {} FROM {} AS {VIEW_MARK}",
            self.name,
            columns.join(", "),
            self.from
        )
    }

    /// Whether a server's text of a view says that it is ours, of this version or of the one before.
    pub(super) fn is_ours(&self, definition: &str) -> bool {
        let text: String = definition.chars().filter(|character| !matches!(character, '`' | '"' | '(' | ')')).collect();
        let text = text.to_lowercase();
        // What version 3 made, whose tables had no prefix, and whose views had no mark.
        let before = self.from.trim_start_matches("footfall_");
        let had_columns =
            |id: &&str| text.contains(&format!("{before}.{id} using utf8mb4 collate utf8mb4_bin as {id}"));
        let is_from = |table: &str, alias: &str| {
            let end = format!("{table}{alias}");
            text.ends_with(&format!(" {end}")) || text.ends_with(&format!(".{end}"))
        };
        is_from(self.from, &format!(" {VIEW_MARK}")) || is_from(before, "") && self.ids.iter().all(had_columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_known_by_what_it_is_made_of() {
        let [articles, readers] = &VIEWS_OF_COUNTS;
        for (view, definition, is_ours) in [
            // MariaDB and MySQL, of this version and of the one before.
            (
                articles,
                "select convert(`footfall_view`.`article` using utf8mb4) collate utf8mb4_nopad_bin AS `article`,\
                 `footfall_view`.`views` AS `views`,`footfall_view`.`readers` AS `readers` \
                 from `site`.`footfall_articles` `footfall_view`",
                true,
            ),
            (
                articles,
                "select (convert(`footfall_view`.`article` using utf8mb4) collate utf8mb4_0900_bin) AS `article`,\
                 `footfall_view`.`views` AS `views`,`footfall_view`.`readers` AS `readers` \
                 from `footfall_articles` `footfall_view`",
                true,
            ),
            (
                articles,
                "select convert(`site`.`articles`.`article` using utf8mb4) collate utf8mb4_bin AS `article`,\
                 `site`.`articles`.`views` AS `views`,`site`.`articles`.`readers` AS `readers` from `site`.`articles`",
                true,
            ),
            (
                readers,
                "select (convert(`site`.`article_readers`.`article` using utf8mb4) collate utf8mb4_bin) AS `article`,\
                 (convert(`site`.`article_readers`.`user` using utf8mb4) collate utf8mb4_bin) AS `user`,\
                 `site`.`article_readers`.`views` AS `views` from `site`.`article_readers`",
                true,
            ),
            (
                articles,
                "select `articles`.`id` AS `article`,count(0) AS `views`,1 AS `readers` from `site`.`articles`",
                false,
            ),
            (articles, "select `a`.`article` AS `article` from `site`.`footfall_articles` `a`", false),
            (articles, "select 'footfall_view' AS `article`", false),
            (
                readers,
                "select `footfall_view`.`article` AS `article` from `site`.`footfall_articles` `footfall_view`",
                false,
            ),
        ] {
            assert_eq!(view.is_ours(definition), is_ours, "{definition}");
        }
    }

    #[test]
    fn all_names_are_our_own() {
        let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
        assert!(names.iter().all(|name| name.starts_with("footfall_")), "{names:?}");
        assert!(TABLES.iter().all(|table| table.create().contains(&format!("COMMENT = '{MARK}"))));
    }
}
