//! The MariaDB sandbox on a real server.

use std::path::Path;

use footfall_sandbox::{MariaDb, MariaDbOptions};
use tempfile::TempDir;

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

fn start(dir: &Path) -> std::io::Result<MariaDb> {
    let options = MariaDbOptions { database: "numbers".to_owned(), buffer_pool_mib: 32, ..MariaDbOptions::default() };
    MariaDb::start(dir, &options)
}

#[test]
fn committed_rows_survive_kill_9() -> Result {
    let dir = TempDir::new()?;
    let mut mariadb = start(dir.path())?;
    assert!(mariadb.url().starts_with("mysql://root@localhost/numbers?socket=/tmp/"));
    mariadb.query("CREATE TABLE t (id INT PRIMARY KEY, text VARCHAR(20))")?;
    mariadb.query("INSERT INTO t VALUES (1, 'tab\tumlaut ü'), (2, NULL)")?;
    mariadb.query("BEGIN; INSERT INTO t VALUES (3, 'never committed')")?;
    mariadb.kill()?;
    assert!(mariadb.query("SELECT 1").is_err());
    mariadb.restart()?;
    let rows = mariadb.query("SELECT id, text FROM t ORDER BY id")?;
    assert_eq!(rows, [["1", "tab\tumlaut ü"], ["2", "NULL"]]);

    mariadb.stop()?;
    drop(mariadb);
    let mariadb = start(dir.path())?;
    assert_eq!(mariadb.query("SELECT COUNT(*) FROM t")?, [["2"]]);
    Ok(())
}

#[test]
fn it_is_strict_and_speaks_utf8mb4() -> Result {
    let dir = TempDir::new()?;
    let mariadb = start(dir.path())?;
    mariadb.query("CREATE TABLE t (letter CHAR(1))")?;
    mariadb.query("INSERT INTO t VALUES ('🚶')")?;
    assert_eq!(mariadb.query("SELECT letter FROM t")?, [["🚶"]]);
    let error = mariadb.query("INSERT INTO t VALUES ('ab')").expect_err("too long");
    assert!(error.to_string().contains("Data too long"), "{error}");
    Ok(())
}

#[test]
fn two_do_not_see_each_other() -> Result {
    let dir = TempDir::new()?;
    let mut one = start(&dir.path().join("one"))?;
    let two = start(&dir.path().join("two"))?;
    one.query("CREATE TABLE only_in_one (id INT)")?;
    assert!(two.query("SELECT * FROM only_in_one").is_err());
    one.pause()?;
    assert_eq!(two.query("SELECT 1")?, [["1"]]);
    one.resume()?;
    assert!(one.query("SELECT * FROM only_in_one")?.is_empty());
    Ok(())
}

#[test]
fn a_database_name_cannot_smuggle_sql() -> Result {
    let dir = TempDir::new()?;
    let options = MariaDbOptions { database: "x; DROP DATABASE mysql".to_owned(), ..MariaDbOptions::default() };
    assert!(MariaDb::start(dir.path(), &options).is_err());
    Ok(())
}

#[test]
fn its_folder_may_have_any_name() -> Result {
    let dir = TempDir::new()?;
    let deep = "a folder with a long name/".repeat(6);
    let mariadb = start(&dir.path().join(deep).join("it's \u{e9} \"$x\" %s ;#a"))?;
    assert_eq!(mariadb.query("SELECT 1")?, [["1"]]);
    Ok(())
}
