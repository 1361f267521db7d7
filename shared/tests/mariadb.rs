//! The store on a real MariaDB: users are there whenever a reader is, whoever deleted some meanwhile; shards that write the
//! same users do not stand in each other's way; what MySQL rolls back is done again; and pages are right in a table that is
//! written.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use footfall_sandbox::{MariaDb, MariaDbOptions};
use footfall_shared::mysql::{BYTEWISE, By, Fences, Store, StoreError, TABLES, VIEWS_OF_COUNTS, Which, execute_alone};
use footfall_shared::protocol::errors::{ErrorClass, Grade};
use footfall_shared::protocol::{
    Article, Batch, Committed, Direct, Flush, Producer, ProducerBatches, Row, Shard, User, total,
};
use footfall_shared::service::config;
use sea_orm::{ConnectionTrait, Database, TransactionTrait};

const PRODUCER: Producer = Producer(u64::MAX);

fn article(name: &str) -> Article {
    Article::parse(name.as_bytes()).expect("test id")
}

fn user(name: &str) -> User {
    User::parse(name.as_bytes()).expect("test id")
}

/// A database with all tables, and flushes that follow each other.
struct Fixture {
    mariadb: MariaDb,
    store: Store,
    shards: u16,
    _dir: tempfile::TempDir,
}

impl Fixture {
    async fn begin(shards: u16) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let mariadb = MariaDb::start(dir.path(), &MariaDbOptions::default()).expect("MariaDB");
        for table in &TABLES {
            mariadb.query(&table.create()).expect("created");
        }
        for view in &VIEWS_OF_COUNTS {
            mariadb.query(&view.create(BYTEWISE[0])).expect("created");
        }
        for shard in 0..shards {
            mariadb
                .query(&format!("INSERT INTO footfall_shard_fence (shard, epoch) VALUES ({shard}, 1)"))
                .expect("a fence");
        }
        let database = config::Database { url: mariadb.url().parse().expect("a URL"), ..config::Database::default() };
        let store = Store::new(&database).await.expect("a URL");
        Self { mariadb, store, shards, _dir: dir }
    }

    /// The next flush of a shard, after whatever MySQL has.
    async fn flush(&self, shard: Shard, mut rows: Vec<Row>) -> Flush {
        rows.sort_by(|a, b| (&a.article, &a.user).cmp(&(&b.article, &b.user)));
        let position = self.store.fence(shard).await.expect("a fence").position;
        let fences = self.store.producer_fences().await.expect("fences");
        let (batch, before) = fences.get(&(shard, PRODUCER)).copied().unwrap_or_default();
        let views = total(rows.iter().map(|row| row.views));
        let (number, cumulative_views) = (batch + 1, before + views);
        let part =
            ProducerBatches { producer: PRODUCER, first: number, last: number, cumulative_views, views, repeats: 0 };
        Flush { first: position + 1, last: position + 1, rows, producers: vec![part], ..Flush::default() }
    }

    /// One flush in each shard that these articles are in.
    async fn commit(&self, rows: &[(&str, &str)]) {
        let rows: Vec<Row> =
            rows.iter().map(|(name, by)| Row { article: article(name), user: user(by), views: 1 }).collect();
        for shard in Shard::all(self.shards) {
            let rows = rows.iter().filter(|row| Shard::of(&row.article, self.shards) == shard).cloned().collect();
            let epoch = self.store.fence(shard).await.expect("a fence").epoch;
            let flush = self.flush(shard, rows).await;
            let committed = self.store.commit(shard, epoch, &flush).await.expect("committed");
            assert!(matches!(committed, Committed::Now { quarantined: 0, .. }), "{committed:?}");
        }
    }

    fn sql(&self, sql: &str) -> Vec<String> {
        self.mariadb.query(sql).unwrap_or_else(|error| panic!("{sql}: {error}")).concat()
    }

    /// Every reader is a user, every user a reader, and the fences know how many there are (I4).
    #[track_caller]
    fn assert_right(&self, when: &str) {
        let users = self.sql("SELECT user FROM footfall_users ORDER BY user");
        assert_eq!(users, self.sql("SELECT DISTINCT user FROM footfall_article_readers ORDER BY user"), "{when}");
        assert_eq!(self.sql("SELECT SUM(users) FROM footfall_shard_fence"), [users.len().to_string()], "{when}");
        let sums = self.sql("SELECT article, views, readers FROM footfall_articles ORDER BY article");
        let of_readers = "SELECT article, SUM(views), COUNT(*) FROM footfall_article_readers GROUP BY article";
        assert_eq!(sums, self.sql(of_readers), "{when}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_there_whenever_a_reader_is() {
    let fixture = Fixture::begin(2).await;
    let Fixture { store, shards, .. } = &fixture;
    let of_u = |names: &[&'static str]| names.iter().map(|name| (*name, "u")).collect::<Vec<_>>();
    fixture.commit(&[("a", "u"), ("a", "v"), ("b", "u")]).await;
    fixture.assert_right("after the first flush");
    fixture.commit(&[of_u(&["c", "d", "e", "f", "g", "h"]), vec![("a", "v")]].concat()).await;
    fixture.assert_right("when both were known");
    let is_in = |shard: u16| {
        ["a", "b", "c", "d", "e", "f", "g", "h"].iter().any(|name| Shard::of(&article(name), *shards) == Shard(shard))
    };
    assert!(is_in(0) && is_in(1), "both shards know one");

    store.erase(&user("u"), *shards).await.expect("erased");
    fixture.commit(&of_u(&["i", "j", "k"])).await;
    assert_eq!(fixture.sql("SELECT COUNT(*) FROM footfall_users WHERE user = 'u'"), ["1"], "after an erasure");
    store.delete_everything().await.expect("deleted");
    fixture.commit(&[("a", "u"), ("a", "v"), ("b", "u")]).await;
    fixture.assert_right("after clean");

    fixture.commit(&[of_u(&["c", "d", "e", "f", "g", "h"]), vec![("c", "v")]].concat()).await;
    for which in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"].map(|name| Which::Article(article(name))) {
        store.forget(&which, *shards, |_| {}).await.expect("forgotten");
    }
    fixture.assert_right("when all is forgotten");
    fixture.commit(&[of_u(&["b", "c", "d", "e", "f", "g", "h"]), vec![("a", "v")]].concat()).await;
    fixture.assert_right("after articles were forgotten");

    // A transaction that was taken back has stored nobody.
    fixture.sql(
        "DELIMITER //\nCREATE TRIGGER broken BEFORE UPDATE ON footfall_shard_fence FOR EACH ROW \
                 SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'no'//",
    );
    let shard = Shard::of(&article("a"), *shards);
    let epoch = store.fence(shard).await.expect("a fence").epoch;
    let flush = fixture.flush(shard, vec![Row { article: article("a"), user: user("x"), views: 1 }]).await;
    store.commit(shard, epoch, &flush).await.expect_err("it was taken back");
    fixture.sql("DROP TRIGGER broken");
    store.commit(shard, epoch, &flush).await.expect("committed");
    fixture.assert_right("after a rollback");

    // MySQL comes back as it was before the last flush, which is written again; and what comes then.
    fixture.commit(&[("a", "y")]).await;
    let fence = format!(
        "UPDATE footfall_shard_fence SET position = position - 1, views = views - 1, readers = readers - 1, \
         users = users - 1 WHERE shard = {shard}"
    );
    for sql in [
        "DELETE FROM footfall_users WHERE user = 'y'",
        "DELETE FROM footfall_article_readers WHERE user = 'y'",
        "UPDATE footfall_articles SET views = views - 1, readers = readers - 1 WHERE article = 'a'",
        &format!("UPDATE footfall_producer_fence SET batch = batch - 1, views = views - 1 WHERE shard = {shard}"),
        &fence,
    ] {
        fixture.sql(sql);
    }
    fixture.assert_right("as it was before");
    fixture.commit(&[("a", "y"), ("b", "y")]).await;
    fixture.assert_right("after MySQL came back older");
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_store_the_same_users_are_no_deadlock() {
    const SHARDS: u16 = 4;
    const FLUSHES: u32 = 2;
    const ROWS: u32 = 10_000;
    let fixture = Fixture::begin(SHARDS).await;
    let drain = async |shard: Shard| {
        for number in 0..FLUSHES {
            // Each shard's articles have the users in another order.
            let row = |n: u32| {
                let (name, by) = (n * 7_919 % 1_000, (n * 7_907 + u32::from(shard.0) * 2_503) % ROWS);
                let (name, by) = (format!("{shard}-{name:05}"), format!("u{number}-{by:05}"));
                Row { article: article(&name), user: user(&by), views: 1 }
            };
            let flush = fixture.flush(shard, (0..ROWS).map(row).collect()).await;
            let committed = fixture.store.commit(shard, 1, &flush).await.expect("no error at all");
            assert!(matches!(committed, Committed::Now { quarantined: 0, .. }), "{committed:?}");
        }
    };
    tokio::join!(drain(Shard(0)), drain(Shard(1)), drain(Shard(2)), drain(Shard(3)));
    assert_eq!(fixture.sql("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'"), ["Innodb_deadlocks", "0"]);
    let views = u32::from(SHARDS) * FLUSHES * ROWS;
    assert_eq!(fixture.sql("SELECT SUM(views) FROM footfall_article_readers"), [views.to_string()]);
    assert_eq!(fixture.sql("SELECT SUM(users) FROM footfall_shard_fence"), [(FLUSHES * ROWS).to_string()]);
    fixture.assert_right("at the end");
}

/// Transactions that were done again, in this process.
fn repeats() -> f64 {
    let metrics = prometheus::gather();
    let of = metrics.iter().find(|family| family.name() == "footfall_transactions_repeated_total");
    of.expect("it is shown before the first").get_metric()[0].get_counter().get_value()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_loses_a_deadlock_is_done_again() {
    let fixture = Fixture::begin(1).await;
    fixture.commit(&[("a", "u")]).await;
    let flush = fixture.flush(Shard(0), vec![Row { article: article("a"), user: user("v"), views: 1 }]).await;
    let db = Database::connect(fixture.mariadb.url()).await.expect("connected");
    let other = db.begin().await.expect("begun");
    // It has written more, so it is not the one that InnoDB takes back.
    let many = "INSERT INTO footfall_quarantine (shard, epoch, position, article, user, views, reason) \
                SELECT 0, 1, 0, seq, seq, 1, 'another' FROM seq_1_to_1000";
    for sql in [many, "SELECT views FROM footfall_articles WHERE article = 'a' FOR UPDATE"] {
        other.execute_unprepared(sql).await.expect(sql);
    }
    let (store, flushed) = (fixture.store.clone(), flush.clone());
    let commit = tokio::spawn(async move { store.commit(Shard(0), 1, &flushed).await });
    let waiting = "SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'";
    let deadline = Instant::now() + Duration::from_secs(9);
    while fixture.sql(waiting) != ["1"] {
        assert!(Instant::now() < deadline, "the flush does not wait for the article");
        // InnoDB shows the same again to whoever asks within a tenth of a second.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let sql = "SELECT position FROM footfall_shard_fence WHERE shard = 0 FOR UPDATE";
    other.execute_unprepared(sql).await.expect("the flush was taken back");
    other.rollback().await.expect("rolled back");
    let committed = commit.await.expect("no panic").expect("it was done again");
    assert!(matches!(committed, Committed::Now { quarantined: 0, .. }), "{committed:?}");
    assert_eq!(fixture.sql("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'"), ["Innodb_deadlocks", "1"]);
    assert_eq!(fixture.sql("SELECT user, views FROM footfall_article_readers"), ["u", "1", "v", "1"]);
    fixture.assert_right("after the deadlock");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_mysql_rolls_back_is_done_again_three_times() {
    let fixture = Fixture::begin(1).await;
    // The last statement of every transaction fails as often as a table says that no transaction protects.
    fixture.sql("CREATE TABLE refusals (n INT NOT NULL) ENGINE = MyISAM");
    fixture.sql("INSERT INTO refusals VALUES (0)");
    let mut number = 0;
    for (code, state) in [(1205, "HY000"), (1213, "40001"), (3101, "HY000")] {
        fixture.sql(&format!(
            "DELIMITER //\nCREATE OR REPLACE TRIGGER refused BEFORE UPDATE ON footfall_shard_fence FOR EACH ROW BEGIN \
             IF (SELECT n FROM refusals) > 0 THEN UPDATE refusals SET n = n - 1; \
             SIGNAL SQLSTATE '{state}' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'no'; END IF; END//"
        ));
        for (refusals, is_done) in [(3, true), (4, false)] {
            let refuse = || fixture.sql(&format!("UPDATE refusals SET n = {refusals}"));
            let is_right = |when: &str, error: Option<StoreError>| {
                let when = format!("{when}, {refusals} times {code}: {error:?}");
                assert!(error.is_none_or(|error| !is_done && error.class() == ErrorClass::DbTransient), "{when}");
                assert_eq!(fixture.sql("SELECT n FROM refusals"), ["0"], "{when}");
                fixture.assert_right(&when);
            };
            let row = Row { article: article("a"), user: user("u"), views: 1 };
            let flush = fixture.flush(Shard(0), vec![row.clone()]).await;
            let before = repeats();
            refuse();
            is_right("a flush", fixture.store.commit(Shard(0), 1, &flush).await.err());
            assert!(repeats() >= before + 3.0, "it is counted");
            let committed = fixture.store.commit(Shard(0), 1, &flush).await.expect("nothing is in the way");
            assert_eq!(matches!(committed, Committed::Before { .. }), is_done, "{committed:?}");

            number += 1;
            let batch = Batch {
                producer: PRODUCER,
                number,
                cumulative_views: number,
                minute: 600,
                repeats: 0,
                rows: vec![row],
                ids: vec![],
            };
            refuse();
            is_right("a direct batch", fixture.store.commit_direct(Shard(0), &batch).await.err());
            let committed = fixture.store.commit_direct(Shard(0), &batch).await.expect("nothing is in the way");
            assert_eq!(matches!(committed, Direct::Before), is_done, "{committed:?}");
            assert_eq!(fixture.sql("SELECT views FROM footfall_articles"), [(2 * number).to_string()]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sets_the_database_up_is_done_again_after_a_conflict_and_not_after_a_long_wait() {
    let fixture = Fixture::begin(1).await;
    fixture.sql("CREATE TABLE refusals (n INT NOT NULL) ENGINE = MyISAM");
    fixture.sql("INSERT INTO refusals VALUES (0)");
    fixture.sql("CREATE TABLE lease (holder INT NOT NULL) ENGINE = InnoDB");
    let db = Database::connect(fixture.mariadb.url()).await.expect("connected");
    for (code, state, is_done) in [(1213, "40001", true), (1205, "HY000", false)] {
        fixture.sql("UPDATE refusals SET n = 5");
        fixture.sql(&format!(
            "DELIMITER //\nCREATE OR REPLACE TRIGGER refused BEFORE INSERT ON lease FOR EACH ROW BEGIN \
             IF (SELECT n FROM refusals) > 0 THEN UPDATE refusals SET n = n - 1; \
             SIGNAL SQLSTATE '{state}' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'no'; END IF; END//"
        ));
        let result = execute_alone(&db, &format!("INSERT INTO lease VALUES ({code})")).await;
        assert_eq!(result.as_ref().ok(), is_done.then_some(&1), "{code}: {result:?}");
        assert_eq!(fixture.sql("SELECT n FROM refusals"), [if is_done { "0" } else { "4" }], "{code}");
    }
    assert_eq!(fixture.sql("SELECT holder FROM lease"), ["1213"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_producers_cost_as_many_statements_as_one() {
    let fixture = Fixture::begin(1).await;
    let statements =
        || -> u64 { fixture.sql("SHOW GLOBAL STATUS LIKE 'Com_stmt_execute'")[1].parse().expect("a number") };
    let mut position = 0;
    let mut commit = async |producers: std::ops::Range<u64>, first: u64, before: u64| {
        position += 1;
        let of = |number| ProducerBatches {
            producer: Producer(u64::MAX - number),
            first,
            last: first + 1,
            cumulative_views: before + 2,
            views: 2,
            repeats: 1,
        };
        let producers: Vec<ProducerBatches> = producers.rev().map(of).collect();
        let rows = vec![Row { article: article("a"), user: user("u"), views: 2 * producers.len() as u64 }];
        let flush = Flush { first: position, last: position, rows, producers, ..Flush::default() };
        let asked = statements();
        let committed = fixture.store.commit(Shard(0), 1, &flush).await.expect("committed");
        (committed, statements() - asked)
    };
    commit(0..1, 1, 0).await;
    let (_, of_one) = commit(0..1, 3, 2).await;
    let (committed, of_all) = commit(1..31, 1, 0).await;
    assert!(matches!(committed, Committed::Now { quarantined: 0, .. }), "{committed:?}");
    assert_eq!(of_all, of_one);
    let (committed, _) = commit(1..31, 3, 2).await;
    assert!(matches!(committed, Committed::Now { quarantined: 0, .. }), "{committed:?}");
    let fences = "SELECT DISTINCT batch, views, repeats FROM footfall_producer_fence";
    assert_eq!(fixture.sql(fences), ["4", "4", "2"]);
    // One of them does not follow (I1): nothing is written.
    let (committed, _) = commit(30..32, 5, 4).await;
    assert!(matches!(committed, Committed::Gap { producer } if producer == Producer(u64::MAX - 31)), "{committed:?}");
    assert_eq!(fixture.sql("SELECT position FROM footfall_shard_fence"), ["4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_all_articles_in_order_each_once() {
    let fixture = Fixture::begin(1).await;
    // Counts at both ends of every number of digits, several articles with each, and one of them all.
    fixture.sql(
        "INSERT INTO footfall_articles (article, views, readers) \
         SELECT CONCAT('a', b.seq, '-', o.seq, '-', n.seq), GREATEST(1, (1 << b.seq) + o.seq - LEAST(2, 1 << b.seq)), \
         GREATEST(1, (1 << (b.seq DIV 3)) + o.seq - LEAST(2, 1 << (b.seq DIV 3))) FROM seq_0_to_52 b, seq_0_to_3 o, seq_1_to_3 n",
    );
    for (by, column) in [(By::Views, "views"), (By::Readers, "readers")] {
        let sorted = format!("SELECT article FROM footfall_articles ORDER BY {column} DESC, article DESC");
        let wanted = fixture.sql(&sorted);
        assert_eq!(wanted.len(), 53 * 4 * 3);
        for limit in [1, 7, 50, 1_000] {
            let mut listed: Vec<String> = Vec::new();
            let mut after: Option<(u64, Article)> = None;
            loop {
                let behind = after.as_ref().map(|(number, article)| (*number, article));
                let page = fixture.store.articles_by(by, behind, limit).await.expect("a page");
                let Some(last) = page.last() else { break };
                let number = if by == By::Views { last.views } else { last.readers };
                after = Some((number, last.article.clone()));
                listed.extend(page.iter().map(|listed| listed.article.to_string()));
            }
            assert_eq!(listed, wanted, "by {column}, {limit} in a page");
        }
    }
    let top: BTreeMap<_, _> = fixture
        .store
        .top_articles(3)
        .await
        .expect("a page")
        .into_iter()
        .map(|(name, views, _)| (name, views))
        .collect();
    assert!(top.values().all(|views| *views == (1 << 52) + 1), "{top:?}");
}
