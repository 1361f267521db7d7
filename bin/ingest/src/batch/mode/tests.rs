//! What the documents say of the modes is what the code does.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::*;
use crate::batch::status::said;
use footfall_shared::protocol::errors::Severity;

const WELL: Health =
    Health { has_room: true, journal: JournalHealth::Works, is_open: true, redis: None, backlog: 1, mysql: None };
const WITHOUT_JOURNAL: Health = Health { journal: JournalHealth::Off, ..WELL };
const REDIS_AWAY: Option<ErrorClass> = Some(ErrorClass::CacheDown);
const REDIS_FULL: Option<ErrorClass> = Some(ErrorClass::CacheFull);
const MYSQL_AWAY: Option<ErrorClass> = Some(ErrorClass::DbDown);
/// MySQL is older than what it once confirmed. Whoever opens the data set in Redis finds that out.
const MYSQL_OLDER: Option<ErrorClass> = Some(ErrorClass::DbBehind);

/// The promise table, as far as it says where a new view goes: a row's failure, what ingest knows then, and the mode.
const PROMISED: [(&str, Health, Mode); 19] = [
    ("a flusher is killed, stands still, or several run at once", WELL, Mode::Redis),
    ("a flusher is killed, stands still, or several run at once", WITHOUT_JOURNAL, Mode::Redis),
    ("Redis is killed, or comes back older or empty; ingest lives", Health { is_open: false, ..WELL }, Mode::Opening),
    ("Redis is killed, or comes back older or empty; ingest lives", Health { backlog: 9, ..WELL }, Mode::CatchingUp),
    ("an ingest is killed", WELL, Mode::Redis),
    ("Redis is away or full", Health { redis: REDIS_AWAY, ..WELL }, Mode::Direct(Reason::RedisAway)),
    ("Redis is away or full", Health { redis: REDIS_FULL, ..WELL }, Mode::Direct(Reason::RedisFull)),
    ("Redis is away or full", Health { redis: REDIS_AWAY, ..WITHOUT_JOURNAL }, Mode::Direct(Reason::RedisAway)),
    ("Redis is away or full", Health { redis: REDIS_FULL, ..WITHOUT_JOURNAL }, Mode::Direct(Reason::RedisFull)),
    ("MySQL is away, or read-only", Health { mysql: MYSQL_AWAY, ..WELL }, Mode::Redis),
    ("MySQL is away, or read-only", Health { mysql: MYSQL_AWAY, ..WITHOUT_JOURNAL }, Mode::Redis),
    ("both are away", Health { redis: REDIS_AWAY, mysql: MYSQL_AWAY, ..WELL }, Mode::JournalOnly(Reason::RedisAway)),
    ("both are away", Health { redis: REDIS_FULL, mysql: MYSQL_AWAY, ..WELL }, Mode::JournalOnly(Reason::RedisFull)),
    (
        "both are away",
        Health { redis: REDIS_AWAY, mysql: MYSQL_AWAY, ..WITHOUT_JOURNAL },
        Mode::Unavailable(Reason::RedisAway),
    ),
    ("the journal's disk is full", Health { has_room: false, ..WELL }, Mode::Full),
    ("MySQL refuses a row", WELL, Mode::Redis),
    (
        "MySQL is restored from an older backup",
        Health { redis: MYSQL_OLDER, ..WELL },
        Mode::JournalOnly(Reason::MysqlClosed),
    ),
    (
        "MySQL is restored from an older backup",
        Health { redis: REDIS_AWAY, mysql: MYSQL_OLDER, ..WELL },
        Mode::JournalOnly(Reason::MysqlClosed),
    ),
    (
        "MySQL is restored from an older backup",
        Health { redis: MYSQL_OLDER, ..WITHOUT_JOURNAL },
        Mode::Unavailable(Reason::MysqlClosed),
    ),
];

/// The other rows: they are about views that were acknowledged before.
const ABOUT_OLD_VIEWS: [&str; 7] = [
    "Redis fails over to a replica, which may lack the latest views; ingest lives",
    "a slot of a Redis Cluster moves to another node, or is left half moved",
    "every process is killed at once",
    "one machine of several loses its power",
    "the machine that has all of it loses its power, or those of ingest and Redis at once",
    "all ingests are killed **and** Redis loses its data",
    "the journal's disk loses or damages records **and** Redis loses its data",
];

#[test]
fn each_promise_has_its_mode() {
    for (failure, health, expected) in PROMISED {
        assert_eq!(mode(&health), expected, "{failure}: {health:?}");
    }
}

/// What the promise table calls the place where a view is kept.
fn home(mode: Mode) -> &'static str {
    match mode {
        Mode::Opening | Mode::Redis | Mode::CatchingUp => "Redis",
        Mode::Direct(_) => "MySQL directly",
        Mode::JournalOnly(_) => "journal",
        Mode::Unavailable(_) | Mode::Full => "503",
    }
}

/// The rows of the table that begins like this, wherever in the documents it stands, cell by cell.
fn table(begin: &str) -> Vec<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let documents = fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let documents = documents.chain([root.join("README.md")]);
    let texts = documents.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut texts = texts.map(|path| fs::read_to_string(path).expect("text"));
    let text = texts.find(|text| text.contains(begin)).unwrap_or_else(|| panic!("no document has the table {begin}"));
    let rows = text.lines().skip_while(|line| !line.starts_with(begin)).skip(2);
    rows.map_while(|line| Some(line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").map(str::to_owned).collect()))
        .collect()
}

/// The rows of the promise table: failure -> what is lost, by column.
fn promises() -> BTreeMap<String, Vec<String>> {
    let rows = table("| failure | journal, `always` |").into_iter();
    rows.map(|mut row| (row.remove(0), row)).collect()
}

#[test]
fn the_documents_promise_the_same() {
    let promises = promises();
    for failure in promises.keys() {
        let is_known = PROMISED.iter().any(|(known, ..)| known == failure) || ABOUT_OLD_VIEWS.contains(&&**failure);
        assert!(is_known, "which mode is this? {failure}");
    }
    for (failure, health, mode) in PROMISED {
        let cells = promises.get(failure).unwrap_or_else(|| panic!("the promise table has no row `{failure}`"));
        let columns = if health.journal == JournalHealth::Off { 2..4 } else { 0..2 };
        for cell in &cells[columns] {
            if let Some(place) = cell.strip_prefix("none lost: ") {
                assert_eq!(home(mode), place, "{failure}: {mode:?}");
            }
        }
    }
}

/// The journal's failures change what is acknowledged and what is shown, not where views go.
#[test]
fn room_comes_first_and_a_failing_disk_changes_nothing() {
    for (_, health, expected) in PROMISED {
        assert_eq!(mode(&Health { has_room: false, ..health }), Mode::Full);
        if health.journal == JournalHealth::Works {
            assert_eq!(mode(&Health { journal: JournalHealth::Fails, ..health }), expected);
        }
    }
}

/// Everything that a shard can know, as far as a mode depends on it.
fn every_health() -> impl Iterator<Item = Health> {
    let redis =
        [None, Some(ErrorClass::CacheReadOnly), REDIS_AWAY, REDIS_FULL, MYSQL_OLDER, Some(ErrorClass::DbSchema)];
    let mysql = [None, MYSQL_AWAY, MYSQL_OLDER, Some(ErrorClass::DbSchema)];
    let stores = redis.into_iter().flat_map(move |redis| mysql.map(|mysql| (redis, mysql)));
    let rest = [WELL, WITHOUT_JOURNAL]
        .into_iter()
        .flat_map(|health| [true, false].map(|is_open| Health { is_open, ..health }));
    let rest = rest.flat_map(|health| [0, 1, 2, 9].map(|backlog| Health { backlog, ..health }));
    let rest = rest.flat_map(|health| [true, false].map(|has_room| Health { has_room, ..health }));
    rest.flat_map(move |health| stores.clone().map(move |(redis, mysql)| Health { redis, mysql, ..health }))
}

/// How the mode table calls the state of Redis, of MySQL, and of the journal, in the order of its columns. There may be
/// several names for one.
fn situation(health: &Health) -> [Vec<&'static str>; 3] {
    let redis = match health.redis {
        None if health.backlog > 1 => "answers, and more than one batch waits for it",
        None if !health.is_open => "answers, and its data set is not open",
        None => "answers in time",
        Some(ErrorClass::CacheReadOnly) => "read-only",
        Some(ErrorClass::CacheFull) => "full",
        Some(ErrorClass::CacheDown) => "away",
        Some(_) => "not opened because of MySQL",
    };
    let mysql = match health.redis.filter(|class| class.closes_mysql()).or(health.mysql) {
        None => "answers",
        Some(ErrorClass::DbBehind) => "behind",
        Some(ErrorClass::DbSchema) => "with other tables",
        Some(_) => "away",
    };
    let journal = match (health.has_room, health.journal) {
        (false, _) => vec!["has no room"],
        (true, JournalHealth::Off) => vec!["has room", "is off, and memory has room"],
        (true, _) => vec!["has room", "is on and has room"],
    };
    [vec![redis, "any"], vec![mysql, "any"], journal]
}

/// Whether a cell such as `away, read-only, or full` names one of these.
fn names(cell: &str, words: &[&str]) -> bool {
    let listed = cell.split(", ").flat_map(|part| part.split(" or ")).map(|part| part.trim_start_matches("or "));
    words.contains(&cell) || listed.into_iter().any(|part| words.contains(&part))
}

/// What the mode table says of `/readyz`.
fn readiness(mode: Mode, health: &Health) -> &'static str {
    match said(mode, health) {
        None => "as before; not ready at the start",
        Some((true, None)) => "ready",
        Some((true, Some((Severity::Critical, _)))) => "ready, and critical",
        Some((true, Some(_))) => "ready, but degraded",
        Some((false, _)) => "not ready",
    }
}

#[test]
fn the_mode_table_says_what_the_code_does() {
    let rows = table("| mode | Redis | MySQL | journal |");
    let name = |mode| format!("{mode:?}").split('(').next().map(str::to_owned);
    let mut seen = vec![false; rows.len()];
    for health in every_health() {
        let mode = mode(&health);
        let situation = situation(&health);
        let fits = |row: &&Vec<String>| row[1..4].iter().zip(&situation).all(|(cell, words)| names(cell, words));
        let fitting: Vec<&Vec<String>> = rows.iter().filter(fits).collect();
        let [row] = fitting[..] else { panic!("{health:?} fits {} rows: {fitting:?}", fitting.len()) };
        assert_eq!(Some(&row[0]), name(mode).as_ref(), "{health:?}");
        let [_, _, _, _, _, acknowledged, seen_by_client, readyz] = &row[..] else { panic!("8 columns: {row:?}") };
        let is_refused = home(mode) == "503";
        assert_eq!(acknowledged == "never", is_refused, "{row:?}");
        assert_eq!(seen_by_client.starts_with("503"), is_refused, "{row:?}");
        // A data set may be closed again behind batches that wait; then what was said before holds.
        let is_told = health.is_open || mode == Mode::Opening || health.redis.is_some() || mode == Mode::Full;
        if is_told {
            assert_eq!(readyz, readiness(mode, &health), "{health:?}: {row:?}");
            let is_degraded = matches!(said(mode, &health), Some((_, Some(_))));
            assert_eq!(seen_by_client.contains("`Footfall-Degraded`"), is_degraded && !is_refused, "{row:?}");
        }
        seen[rows.iter().position(|other| other == row).expect("it is one of them")] = true;
    }
    assert!(!seen.is_empty() && seen.iter().all(|seen| *seen), "rows for what does not happen: {seen:?}, {rows:?}");
}
