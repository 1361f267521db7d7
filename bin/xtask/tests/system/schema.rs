//! A database that is the site's own as well: what others have there is left as it is, and what of our tables is not as it
//! should be is said, instead of being taken for an outage.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use footfall_drill::stack::Role;

use crate::common::{Running, eventually, get, post, start};
use crate::stores::start_alone;
use crate::upgrade::archives;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a site may have, in names that Footfall's earlier version used too, and in names that are like ours.
const OF_THE_SITE: &str = "
    CREATE TABLE users (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(50), password_hash VARCHAR(99));
    INSERT INTO users (name, password_hash) VALUES ('anna', 'x'), ('li', 'y');
    CREATE TABLE quarantine (id INT PRIMARY KEY, mail TEXT); INSERT INTO quarantine VALUES (1, 'spam');
    CREATE TABLE articles (id INT PRIMARY KEY, title TEXT, author INT, FOREIGN KEY (author) REFERENCES users (id));
    INSERT INTO articles VALUES (1, 'Hello', 1);
    CREATE DEFINER = root@localhost VIEW article_readers AS SELECT title FROM articles;
    CREATE TABLE seaql_migrations (version VARCHAR(255) NOT NULL PRIMARY KEY, applied_at BIGINT NOT NULL);
    INSERT INTO seaql_migrations VALUES ('m20250101_of_the_site', 1);
    CREATE TABLE Footfall_Users (id INT PRIMARY KEY); INSERT INTO Footfall_Users VALUES (1);
    CREATE SEQUENCE footfall;";

/// Objects that are in the way, and how they are named.
const IN_THE_WAY: [(&str, &str); 7] = [
    (
        "CREATE TABLE footfall_users (id INT PRIMARY KEY); INSERT INTO footfall_users VALUES (1)",
        "the table footfall_users",
    ),
    // Of our shape, and all the same not ours.
    ("CREATE TABLE footfall_users (user VARBINARY(128) NOT NULL PRIMARY KEY)", "the table footfall_users"),
    ("CREATE VIEW footfall_articles AS SELECT 1 AS article", "the view footfall_articles"),
    ("CREATE SEQUENCE footfall_shard_fence", "the sequence footfall_shard_fence"),
    ("CREATE TABLE article_counts (article INT)", "the table article_counts"),
    ("CREATE VIEW article_counts AS SELECT 'a' AS article, 1 AS views, 1 AS readers", "the view article_counts"),
    ("CREATE TABLE t (id INT); CREATE VIEW reader_counts AS SELECT id FROM t", "the view reader_counts"),
];

/// A database beside the one of the stack.
struct Site<'a> {
    running: &'a Running,
    database: String,
}

impl<'a> Site<'a> {
    fn new(running: &'a Running, database: &str, sql: &str) -> Self {
        let site = Self { running, database: database.to_owned() };
        site.running.stack.mariadb.query(&format!("CREATE DATABASE {database} CHARACTER SET latin1")).expect("created");
        site.sql(sql);
        site
    }

    #[track_caller]
    fn sql(&self, sql: &str) -> Vec<Vec<String>> {
        let sql = format!("USE {}; {sql}", self.database);
        self.running.stack.mariadb.query(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.running.stack.tool();
        let url = self.running.stack.mariadb.url().replace("/footfall?", &format!("/{}?", self.database));
        command.args(arguments).env("FOOTFALL_DATABASE__URL", url).stdin(Stdio::null());
        command
    }

    fn tool(&self, arguments: &[&str]) -> (i32, String) {
        outcome(self.command(arguments))
    }

    /// All that is there, with all rows.
    fn picture(&self) -> Vec<String> {
        let mut picture = Vec::new();
        for row in self.sql("SHOW FULL TABLES") {
            let (name, kind) = (&row[0], &row[1]);
            let made = self.sql(&format!("SHOW CREATE {} `{name}`", if kind == "VIEW" { "VIEW" } else { "TABLE" }));
            picture.push(made.concat().concat());
            picture.extend(self.sql(&format!("SELECT * FROM `{name}`")).into_iter().map(|row| row.join("|")));
        }
        picture
    }

    fn names(&self) -> Vec<String> {
        self.sql("SHOW TABLES").concat()
    }
}

fn outcome(mut command: Command) -> (i32, String) {
    let output = command.output().expect("the tool starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

fn tool(running: &Running, arguments: &[&str]) -> (i32, String) {
    let mut command = running.stack.tool();
    command.args(arguments).stdin(Stdio::null());
    outcome(command)
}

#[test]
fn init_changes_nothing_while_something_is_in_the_way() {
    let running = start(|options| (options.ingests, options.flushers) = (0, 0));
    for (number, (sql, named)) in IN_THE_WAY.into_iter().enumerate() {
        let site = Site::new(&running, &format!("way{number}"), sql);
        let before = site.picture();
        let (code, said) = site.tool(&["init"]);
        assert!(code == 78 && said.contains(named) && said.contains("nothing was changed"), "{sql}: {code} {said}");
        assert_eq!(site.picture(), before, "{sql}");
        assert_eq!(site.tool(&["clean", "--yes"]).0, 69, "{sql}");
        assert_eq!(site.picture(), before, "{sql}");
    }
    // All at once: each is named.
    let site = Site::new(&running, "ways", "CREATE TABLE footfall_users (a INT); CREATE TABLE reader_counts (a INT)");
    let (_, said) = site.tool(&["init"]);
    assert!(said.contains("the table footfall_users, the table reader_counts"), "{said}");
    site.sql("DROP TABLE footfall_users, reader_counts");
    assert_eq!(site.tool(&["init"]).0, 0);

    // A right that is missing: what was made stays, and is gone on with.
    let site = Site::new(&running, "rights", "");
    site.sql("CREATE USER few@localhost; GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER ON rights.* TO few@localhost");
    let as_few = |arguments: &[&str]| {
        let mut command = site.command(arguments);
        let url = running.stack.mariadb.url().replace("root@localhost/footfall", "few@localhost/rights");
        command.env("FOOTFALL_DATABASE__URL", url);
        outcome(command)
    };
    let (code, said) = as_few(&["init"]);
    assert!(code == 69 && said.contains("CREATE VIEW") && said.contains("goes on from there"), "{code} {said}");
    let (code, said) = as_few(&["quarantine", "list"]);
    assert!(code == 69 && said.contains("not set up to the end"), "{code} {said}");
    site.sql("GRANT CREATE VIEW, SHOW VIEW ON rights.* TO few@localhost");
    let (code, said) = as_few(&["init"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(as_few(&["quarantine", "list"]).0, 0);

    // Ended at any moment, it is gone on with; and of two at once one waits.
    let whole = Site::new(&running, "whole", "");
    assert_eq!(whole.tool(&["init"]).0, 0);
    for (number, delay) in [5, 15, 25, 35, 50, 70].into_iter().enumerate() {
        let site = Site::new(&running, &format!("cut{number}"), "");
        let mut first = site.command(&["init"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        std::thread::sleep(Duration::from_millis(delay));
        first.kill().expect("kill");
        first.wait().expect("wait");
        let mut second = site.command(&["init"]).stdout(Stdio::null()).spawn().expect("it starts");
        let (code, said) = site.tool(&["init"]);
        assert_eq!(code, 0, "{said}");
        assert!(second.wait().expect("wait").success());
        assert_eq!(site.names(), whole.names());
        assert_eq!(site.tool(&["quarantine", "list"]).0, 0);
    }
    // Another number of shards is refused, whatever came before.
    let before = whole.picture();
    let (code, said) = outcome(command_with(&whole, "FOOTFALL_SHARDS", "2", &["init"]));
    assert!(code == 78 && said.contains("set `shards` to 1"), "{code} {said}");
    assert_eq!(whole.picture(), before);
    // What a finished set-up has lost is not made anew without a word.
    whole.sql("DROP TABLE footfall_direct_fence");
    let (code, said) = whole.tool(&["init"]);
    assert!(code == 69 && said.contains("are missing: footfall_direct_fence"), "{code} {said}");
    whole.sql("CREATE TABLE footfall_direct_fence LIKE footfall_users");
    let (code, said) = whole.tool(&["init"]);
    assert!(code == 69 && said.contains("nothing was changed"), "the mark alone does not do: {code} {said}");
}

#[test]
fn of_inits_at_once_one_works_and_all_end_soon() {
    let running = start(|options| (options.ingests, options.flushers) = (0, 0));
    let count = |what: &str| -> u64 {
        let sql = format!("SHOW GLOBAL STATUS LIKE 'Com_{what}'");
        running.stack.mariadb.query(&sql).expect("status").concat()[1].parse().expect("a number")
    };
    let made = || ["create_view", "alter_table", "rename_table", "drop_table"].map(count);
    for round in 0..10 {
        let site = Site::new(&running, &format!("at_once{round}"), "");
        let before = made();
        let begun = Instant::now();
        let start =
            |_| site.command(&["init"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut inits: Vec<Child> = (0..3).map(start).collect();
        // In every other round one of them dies, at work or not.
        if round % 2 == 1 {
            std::thread::sleep(Duration::from_millis(20 * round));
            inits[0].kill().expect("kill");
            inits.remove(0).wait().expect("wait");
        }
        for init in inits {
            let output = init.wait_with_output().expect("it ends");
            assert!(output.status.success(), "round {round}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let took = begun.elapsed();
        println!("round {round}: {took:?}");
        assert!(took < Duration::from_secs(25), "round {round}: {took:?}");
        if round % 2 == 0 {
            assert_eq!(made(), [before[0] + 2, before[1], before[2], before[3]], "one of them has made both views");
        }
        // Where all is as it should be, nothing is written.
        let written = || ["create_table", "create_view", "insert", "update"].map(count);
        let before = written();
        assert_eq!(site.tool(&["init"]).0, 0);
        assert_eq!(written(), before);
    }
}

fn command_with(site: &Site<'_>, name: &str, value: &str, arguments: &[&str]) -> Command {
    let mut command = site.command(arguments);
    command.env(name, value);
    command
}

#[test]
fn a_site_keeps_what_is_its_own() {
    let mut running = start(|options| {
        let file = options.dir.join("site.sql");
        let foreign: String =
            (0..300).map(|n| format!("CREATE TABLE of_the_site_{n} (id INT PRIMARY KEY);\n")).collect();
        let one_line = |sql: &str| sql.replace('\n', " ").replace("; ", ";\n");
        let sql = format!(
            "CREATE DATABASE footfall CHARACTER SET utf8mb4;\nUSE footfall;\n{foreign}{}\n",
            one_line(OF_THE_SITE)
        );
        fs::write(&file, sql).expect("written");
        options.mariadb.args.push(format!("--init-file={}", file.display()));
    });
    let picture = |running: &Running| {
        let site = Site { running, database: "footfall".to_owned() };
        let is_ours = |name: &String| name.starts_with("footfall_") || name.ends_with("_counts");
        let names: Vec<String> = site.names().into_iter().filter(|name| !is_ours(name)).collect();
        let rows: Vec<_> = ["users", "quarantine", "articles", "article_readers", "seaql_migrations", "Footfall_Users"]
            .map(|name| site.sql(&format!("SELECT * FROM {name}")))
            .into();
        (names, rows)
    };
    let before = picture(&running);
    assert_eq!(before.0.len(), 300 + 7);
    running.load("ledger.tsv", "--views 2000 --articles 20 --users 100 --connections 8").finish();
    running.assert_verified(&["ledger.tsv"]);

    // The views tell ids apart by their bytes.
    for (article, user) in [("a", "u"), ("a ", "u"), ("a", "u "), ("A", "u"), ("á", "u")] {
        let body = format!(r#"{{"article":"{article}","user":"{user}"}}"#);
        assert_eq!(post(&format!("{}/v1/views", running.ingest()), &body).status, 204);
    }
    let four = "article IN ('a', 'a ', 'A', 'á')";
    let count = |running: &mut Running, sql: &str| running.sql(sql).expect("a number");
    eventually("all are stored", PATIENCE, || {
        count(&mut running, &format!("SELECT COALESCE(SUM(views), 0) FROM article_counts WHERE {four}")) == "5"
    });
    for (sql, wanted) in [
        (format!("SELECT COUNT(DISTINCT article) FROM article_counts WHERE {four}"), "4"),
        (format!("SELECT COUNT(*) FROM (SELECT article FROM article_counts WHERE {four} GROUP BY article) g"), "4"),
        ("SELECT SUM(views) FROM article_counts WHERE article = 'a'".into(), "2"),
        ("SELECT COUNT(*) FROM article_counts WHERE article = 'a  '".into(), "0"),
        (format!("SELECT COUNT(DISTINCT article) FROM reader_counts WHERE {four}"), "4"),
        ("SELECT COUNT(DISTINCT user) FROM reader_counts WHERE article = 'a'".into(), "2"),
        ("SELECT COUNT(*) FROM (SELECT user FROM reader_counts WHERE article = 'a' GROUP BY user) g".into(), "2"),
        ("SELECT COUNT(*) FROM reader_counts WHERE user = 'u'".into(), "4"),
        (
            "SELECT COUNT(*) FROM article_counts a JOIN reader_counts r ON r.article = a.article WHERE a.article = 'a'"
                .into(),
            "2",
        ),
    ] {
        assert_eq!(count(&mut running, &sql), wanted, "{sql}");
    }

    for role in [Role::Ingest, Role::Flusher] {
        running.stack.service(role, 0).terminate(PATIENCE).expect("terminate");
    }
    // What is not ours any more is not emptied, and neither is what others' rows follow.
    let stored = "SELECT SUM(views) FROM footfall_article_readers";
    let refused = [
        (
            "ALTER TABLE footfall_users COMMENT = 'accounts'",
            "ALTER TABLE footfall_users COMMENT = 'Footfall: all users'",
        ),
        (
            "RENAME TABLE footfall_quarantine TO kept; CREATE VIEW footfall_quarantine AS SELECT * FROM quarantine",
            "DROP VIEW footfall_quarantine; RENAME TABLE kept TO footfall_quarantine",
        ),
        (
            "CREATE TABLE tags (article VARBINARY(255), \
             FOREIGN KEY (article) REFERENCES footfall_articles (article) ON DELETE CASCADE)",
            "DROP TABLE tags",
        ),
    ];
    for (sql, back) in refused {
        running.stack.mariadb.query(sql).expect("changed");
        for arguments in [&["clean", "--yes"][..], &["erase", "--user", "u", "--yes"]] {
            let (code, said) = tool(&running, arguments);
            assert!(code == 69 && said.contains("not Footfall's"), "{sql}: {code} {said}");
        }
        assert_eq!(count(&mut running, stored), "2005", "{sql}");
        running.stack.mariadb.query(back).expect("changed back");
    }
    let (code, said) = tool(&running, &["clean", "--yes"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(count(&mut running, "SELECT COUNT(*) FROM footfall_article_readers"), "0");
    assert_eq!(picture(&running), before);
}

/// Changes of the tables, what is said of each, and what mends it.
const DIFFERENCES: [(&str, &str, &str); 14] = [
    (
        "ALTER TABLE footfall_articles DROP COLUMN readers_digits, DROP COLUMN readers",
        "footfall_articles lacks the column readers (`ALTER TABLE footfall_articles ADD COLUMN readers bigint unsigned NOT NULL`)",
        "ALTER TABLE footfall_articles ADD COLUMN readers BIGINT UNSIGNED NOT NULL, \
         ADD COLUMN readers_digits tinyint unsigned AS (char_length(bin(readers))) STORED, \
         ADD KEY by_readers_digits (readers_digits)",
    ),
    (
        "ALTER TABLE footfall_article_readers MODIFY views SMALLINT NOT NULL",
        "has the column views smallint NOT NULL",
        "ALTER TABLE footfall_article_readers MODIFY views BIGINT UNSIGNED NOT NULL",
    ),
    (
        "ALTER TABLE footfall_users MODIFY user VARCHAR(128) CHARACTER SET utf8mb4 NOT NULL",
        "has the column user varchar(128) CHARACTER SET utf8mb4",
        "ALTER TABLE footfall_users MODIFY user VARBINARY(128) NOT NULL",
    ),
    (
        "RENAME TABLE footfall_site_minutes TO m",
        "footfall_site_minutes is missing",
        "RENAME TABLE m TO footfall_site_minutes",
    ),
    (
        "RENAME TABLE footfall_users TO u; CREATE ALGORITHM = TEMPTABLE VIEW footfall_users AS SELECT * FROM u",
        "footfall_users is a view",
        "DROP VIEW footfall_users; RENAME TABLE u TO footfall_users",
    ),
    (
        "ALTER TABLE footfall_article_readers DROP PRIMARY KEY, ADD PRIMARY KEY (article(9), user)",
        "lacks the PRIMARY KEY (article, user)",
        "ALTER TABLE footfall_article_readers DROP PRIMARY KEY, ADD PRIMARY KEY (article, user)",
    ),
    (
        "ALTER TABLE footfall_articles DROP KEY by_views_digits",
        "lacks the KEY by_views_digits (views_digits)",
        "ALTER TABLE footfall_articles ADD KEY by_views_digits (views_digits)",
    ),
    (
        "ALTER TABLE footfall_articles MODIFY views_digits tinyint unsigned NOT NULL DEFAULT 1",
        "has the column views_digits tinyint unsigned NOT NULL DEFAULT 1 (`ALTER TABLE footfall_articles MODIFY views_digits \
         tinyint unsigned AS (char_length(bin(views))) STORED`)",
        "ALTER TABLE footfall_articles MODIFY views_digits tinyint unsigned AS (char_length(bin(views))) STORED",
    ),
    (
        "ALTER TABLE footfall_shard_fence ADD UNIQUE KEY once (position)",
        "one more unique key, once (position)",
        "ALTER TABLE footfall_shard_fence DROP KEY once",
    ),
    (
        "ALTER TABLE footfall_users ADD COLUMN mail TEXT NOT NULL",
        "one more column, mail",
        "ALTER TABLE footfall_users DROP COLUMN mail",
    ),
    ("ALTER TABLE footfall_users ENGINE = MyISAM", "the engine MyISAM", "ALTER TABLE footfall_users ENGINE = InnoDB"),
    (
        "ALTER TABLE footfall_quarantine MODIFY reason TEXT CHARACTER SET latin1 NOT NULL",
        "the column reason text CHARACTER SET latin1",
        "ALTER TABLE footfall_quarantine MODIFY reason TEXT CHARACTER SET utf8mb4 NOT NULL",
    ),
    ("DROP VIEW article_counts", "the view article_counts is missing (`footfall init` makes it)", "init"),
    (
        "CREATE OR REPLACE VIEW reader_counts AS SELECT CONVERT(article USING utf8mb4) COLLATE utf8mb4_bin AS article, \
         CONVERT(user USING utf8mb4) COLLATE utf8mb4_bin AS user, views FROM footfall_article_readers AS footfall_view",
        "compares article by utf8mb4_bin",
        "init",
    ),
];

#[test]
fn what_differs_is_said_and_no_view_is_lost_meanwhile() {
    let mut running = start(|options| options.dashboards = 1);
    let change = |running: &Running, sql: &str| match sql {
        "init" => assert_eq!(tool(running, &["init"]).0, 0),
        sql => drop(running.stack.mariadb.query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))),
    };
    let flusher = running.stack.url(Role::Flusher, 0);
    let readiness = || get(&format!("{flusher}/readyz"));
    let (mut ledgers, mut views) = (Vec::new(), 0);
    for (number, (sql, said, back)) in DIFFERENCES.into_iter().enumerate() {
        change(&running, sql);
        // Every command that reads or writes the tables says so.
        let (code, report) = tool(&running, &["quarantine", "list"]);
        assert!(code == 69 && report.contains(said), "{sql}: {code} {report}");
        // At run time too, where it is in the way of a flush.
        if number < 5 {
            views += 300;
            ledgers.push(format!("{number}.tsv"));
            let load = format!("--views 300 --articles 10 --users 40 --connections 4 --seed {number}");
            running.load(&ledgers[number], &load).finish();
            eventually(said, PATIENCE, || readiness().body.contains(said));
            assert_eq!(readiness().status, 503);
            if number == 0 {
                let stats = format!("{}/v1/stats", running.stack.url(Role::Dashboard, 0));
                eventually("the dashboard says it", PATIENCE, || get(&stats).body.contains("lacks the column readers"));
                let (code, log) = start_alone(&running, "footfall-flusher", "+0s");
                assert!(code == Some(69) && log.contains(said), "{code:?} {log}");
            }
        }
        change(&running, back);
        eventually(&format!("ready after {back}"), PATIENCE, || readiness().status == 200);
        let stored = "SELECT COALESCE(SUM(views), 0) FROM footfall_article_readers";
        eventually("all are stored", PATIENCE, || running.sql(stored) == Some(views.to_string()));
        assert_eq!(tool(&running, &["quarantine", "list"]).0, 0, "{sql}");
    }
    // Without Redis as well, views wait in the journal.
    change(&running, "RENAME TABLE footfall_site_minutes TO m");
    running.stack.redis.kill().expect("kill");
    ledgers.push("journal.tsv".to_owned());
    running.load("journal.tsv", "--views 300 --articles 10 --users 40 --connections 4 --seed 99").finish();
    let ingest = get(&format!("{}/readyz", running.ingest()));
    assert!(
        ingest.status == 200 && ingest.body.contains("this shard stands still, views wait in the journal"),
        "{ingest:?}"
    );
    change(&running, "RENAME TABLE m TO footfall_site_minutes");
    running.stack.redis.restart().expect("restart");
    let ledgers: Vec<&str> = ledgers.iter().map(String::as_str).collect();
    running.assert_verified(&ledgers);
    assert_eq!(running.sql("SELECT COUNT(*) FROM footfall_quarantine").as_deref(), Some("0"), "tables are no poison");
    let metrics = get(&format!("{flusher}/metrics")).body;
    let errors = |class: &str| {
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(&format!("footfall_errors_total{{class=\"{class}\"}} ")));
        line.and_then(|number| number.parse::<f64>().ok()).expect("a number")
    };
    assert!(errors("db_schema") > 0.0);
    assert_eq!(errors("db_down") + errors("db_behind"), 0.0, "{metrics}");
}

/// Loads the tables of the version before into a database, with a few views.
fn previous(site: &Site<'_>) {
    let archive = archives().into_iter().next().expect("an archive");
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut tar = Command::new("tar");
    tar.current_dir(folder.path()).args(["--extract", "--gzip", "--file"]).arg(&archive).arg("mysql.sql");
    assert!(tar.status().expect("tar starts").success());
    let dump = fs::read_to_string(folder.path().join(Path::new("mysql.sql"))).expect("a dump");
    let is_small = |line: &&str| {
        !["article_readers", "users", "articles", "article_hours", "shard_fence", "site_minutes"]
            .iter()
            .any(|table| line.starts_with(&format!("INSERT INTO {table} ")))
    };
    let lines: Vec<&str> = dump.lines().skip(2).filter(is_small).collect();
    site.sql(&lines.join("\n"));
    site.sql(
        "INSERT INTO articles VALUES ('a', 2001, 2); INSERT INTO users VALUES ('u'), ('v'); \
         INSERT INTO article_readers VALUES ('a', 'u', 2000), ('a', 'v', 1); INSERT INTO article_hours VALUES ('a', 7, 2001); \
         INSERT INTO site_minutes VALUES (7, 0, 2001); \
         INSERT INTO shard_fence VALUES (0, 3, 15, 3, 2001, 2, 2, 1, 0, 0)",
    );
}

#[test]
fn tables_of_the_version_before_are_taken_over_where_they_are_ours() {
    let running = start(|options| (options.ingests, options.flushers) = (0, 0));
    let fresh = Site { running: &running, database: "footfall".to_owned() };
    let (code, report) = fresh.tool(&["init"]);
    assert!(code == 0 && report.contains("nothing to do"), "{report}");
    let upgraded = |site: &Site<'_>, others: &[&str]| {
        let mut names = [fresh.names(), others.iter().map(|name| (*name).to_owned()).collect()].concat();
        names.sort_unstable();
        assert_eq!(site.names(), names);
        let (code, report) = site.tool(&["quarantine", "list"]);
        assert!(code == 0, "{report}");
        assert_eq!(site.sql("SELECT * FROM article_counts").concat(), ["a", "2001", "2"]);
        assert_eq!(site.sql("SELECT user FROM footfall_users").concat(), ["u", "v"]);
        assert_eq!(site.sql("SELECT version, shards FROM footfall_schema_version").concat(), ["4", "1"]);
        assert_eq!(site.sql("SELECT position FROM footfall_shard_fence").concat(), ["15"]);
        assert_eq!(site.sql("SELECT views_digits, readers_digits FROM footfall_articles").concat(), ["11", "2"]);
    };

    // As it was, and whatever its upgrade was ended at.
    let all = [
        "schema_version",
        "articles",
        "article_readers",
        "users",
        "article_hours",
        "site_minutes",
        "shard_fence",
        "producer_fence",
        "direct_fence",
        "quarantine",
    ];
    let marked = all.map(|name| format!("ALTER TABLE {name} COMMENT = 'Footfall: {name}'")).join("; ");
    let renamed = format!("{marked}; RENAME TABLE {}", all.map(|name| format!("{name} TO footfall_{name}")).join(", "));
    let positions = "ALTER TABLE footfall_quarantine RENAME COLUMN gen TO position; \
                     ALTER TABLE footfall_shard_fence RENAME COLUMN gen TO position";
    let cuts = [
        String::new(),
        "ALTER TABLE users COMMENT = 'Footfall: all users'".to_owned(),
        "ALTER TABLE users COMMENT = 'Footfall: all users'; ALTER TABLE articles COMMENT = 'Footfall: x'; \
         RENAME TABLE users TO footfall_users"
            .to_owned(),
        marked,
        renamed.clone(),
        format!("{renamed}; {positions}"),
        format!(
            "{renamed}; {positions}; DROP VIEW article_counts; ALTER TABLE footfall_articles DROP KEY by_views, \
             DROP KEY by_readers, ADD COLUMN views_digits tinyint unsigned AS (char_length(bin(views))) STORED, \
             ADD COLUMN readers_digits tinyint unsigned AS (char_length(bin(readers))) STORED, \
             ADD KEY by_views_digits (views_digits), ADD KEY by_readers_digits (readers_digits)"
        ),
    ];
    for (number, sql) in cuts.into_iter().enumerate() {
        let site = Site::new(&running, &format!("previous{number}"), "");
        previous(&site);
        site.sql(&format!("{sql}; DO 0"));
        let (code, report) = site.tool(&["quarantine", "list"]);
        assert!(code == 69 && report.contains("run `footfall init`"), "{code} {report}");
        let (code, report) = site.tool(&["init"]);
        assert!(code == 0 && report.contains("set up with schema version 4"), "{sql}: {code} {report}");
        upgraded(&site, &[]);
    }
    for (number, delay) in [10, 20, 30, 45, 60, 90].into_iter().enumerate() {
        let site = Site::new(&running, &format!("previous_cut{number}"), "");
        previous(&site);
        let mut first = site.command(&["init"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        std::thread::sleep(Duration::from_millis(delay));
        first.kill().expect("kill");
        first.wait().expect("wait");
        let (code, report) = site.tool(&["init"]);
        assert_eq!(code, 0, "{report}");
        upgraded(&site, &[]);
    }

    // Where the site had tables of these names first, the version before had set itself up around them.
    let site = Site::new(&running, "around", "");
    previous(&site);
    site.sql(
        "INSERT INTO seaql_migrations VALUES ('m2025_of_the_site', 1); DROP TABLE users, quarantine; \
         CREATE TABLE users (id INT PRIMARY KEY AUTO_INCREMENT, user VARBINARY(128)); INSERT INTO users (user) VALUES ('anna'); \
         CREATE TABLE quarantine (id INT PRIMARY KEY); INSERT INTO quarantine VALUES (7)",
    );
    let (code, report) = site.tool(&["init"]);
    assert!(
        code == 0 && report.contains("note: users has") && report.contains("note: quarantine has"),
        "{code} {report}"
    );
    upgraded(&site, &["users", "quarantine", "seaql_migrations"]);
    assert_eq!(site.sql("SELECT user FROM users").concat(), ["anna"]);
    assert_eq!(site.sql("SELECT id FROM quarantine").concat(), ["7"]);
    assert_eq!(site.sql("SELECT version FROM seaql_migrations").concat(), ["m2025_of_the_site"]);

    // Articles are made anew from their readers.
    let site = Site::new(&running, "articles", "");
    previous(&site);
    site.sql("DROP TABLE articles; CREATE TABLE articles (id INT PRIMARY KEY); INSERT INTO articles VALUES (7)");
    let (code, report) = site.tool(&["init"]);
    assert!(code == 0 && report.contains("note: articles has"), "{code} {report}");
    upgraded(&site, &["articles"]);

    // A finished set-up has no table of the version before.
    let site = Site::new(&running, "finished", "");
    assert_eq!(site.tool(&["init"]).0, 0);
    site.sql("ALTER TABLE footfall_shard_fence RENAME COLUMN position TO gen");
    let (code, report) = site.tool(&["init"]);
    assert!(code == 69 && report.contains("lacks the column position"), "{code} {report}");

    // What cannot be taken over is refused, and nothing is changed.
    for (number, (sql, said)) in [
        ("UPDATE schema_version SET version = 2", "has schema version 2"),
        ("ALTER TABLE shard_fence DROP COLUMN dropped; UPDATE schema_version SET version = 2", "has schema version 2"),
        ("ALTER TABLE shard_fence DROP COLUMN dropped", "shard_fence of Footfall's earlier version"),
        ("UPDATE schema_version SET shards = 4", "set `shards` to 4"),
        ("ALTER TABLE article_readers ADD COLUMN tag INT NOT NULL", "article_readers of Footfall's earlier version"),
        ("DROP TABLE producer_fence", "producer_fence of Footfall's earlier version"),
        ("CREATE TABLE footfall_users (id INT)", "the table footfall_users"),
        ("DROP VIEW article_counts; CREATE VIEW article_counts AS SELECT 1 AS article", "the view article_counts"),
    ]
    .into_iter()
    .enumerate()
    {
        let site = Site::new(&running, &format!("refused{number}"), "");
        previous(&site);
        site.sql(&format!("{sql}; DO 0"));
        let before = site.picture();
        let (code, report) = site.tool(&["init"]);
        assert!([69, 78].contains(&code) && report.contains(said), "{sql}: {code} {report}");
        assert!(report.contains("nothing was changed"), "{sql}: {report}");
        assert_eq!(site.picture(), before, "{sql}");
    }
}
