//! What a view costs when more rows are stored.

use crate::names::{MARIADB_ALONE, WHOLE};
use crate::report::{Figure, thousands};
use crate::run::Bench;
use crate::scene::{Scene, Stored};
use crate::traffic::Crowd;

const GROWTH: &str = "20,000 views/s on top of stored rows";

const DOUBLED: &str = "20,000 views/s of twice as many, on top of 100,000 stored rows";

/// Rows at the first step.
const GROWTH_LEAST: f64 = 100_000.0;
/// So many times as many at each step.
const GROWTH_FACTOR: f64 = 10.0;

/// What MariaDB says of one, and how many are put up with.
const DEADLOCK: &str = "ERROR 1213";
const DEADLOCKS_MAX: usize = 5;

impl Bench<'_> {
    /// Ours and MariaDB alone, on the same tables.
    pub(crate) fn growth(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.args.rounds {
            self.scene.drain()?;
            self.scene.empty_tables()?;
            let (mut rows, mut stored) = (GROWTH_LEAST, 0.0);
            while rows <= self.args.growth as f64 {
                let name = format!("{} rows", thousands(rows));
                self.bar.set_message(format!("growth, {name}"));
                self.scene.fill_tables(rows - stored)?;
                if stored == 0.0 {
                    self.doubled()?;
                }
                self.grown(GROWTH, &name)?;
                (rows, stored) = (rows * GROWTH_FACTOR, rows);
            }
        }
        Ok(())
    }

    /// Twice the articles, then twice the users.
    fn doubled(&mut self) -> anyhow::Result<()> {
        let Crowd { articles, users } = Crowd::USUAL;
        for (name, crowd) in
            [("articles", Crowd { articles: 2 * articles, users }), ("users", Crowd { articles, users: 2 * users })]
        {
            self.bar.set_message(format!("growth, twice the {name}"));
            self.scene.crowd = crowd;
            self.grown(DOUBLED, name)?;
        }
        self.scene.crowd = Crowd::USUAL;
        Ok(())
    }

    fn grown(&mut self, table: &'static str, name: &str) -> anyhow::Result<()> {
        let Stored { sent, counts, .. } = self.scene.send_and_store(&self.steady_load())?;
        let transaction = (Figure::TransactionViews, counts.transaction_views());
        let mut figures = sent.cpu.clone();
        figures.push(transaction);
        self.report.add(table, WHOLE, name, &figures);
        let alone = self.scene.mariadb_alone(transaction.1, sent.report.views)?;
        self.report.add(table, MARIADB_ALONE, name, &[(Figure::CpuMariaDb, alone.cpu)]);
        Ok(())
    }
}

impl Scene {
    /// Leaves about so many rows of readers, whatever was stored before. Users stay: the flusher remembers them.
    pub(crate) fn renew_tables(&mut self, rows: f64) -> anyhow::Result<()> {
        self.drain()?;
        self.stack
            .mariadb
            .query("TRUNCATE footfall_article_readers; TRUNCATE footfall_articles; TRUNCATE footfall_article_hours")?;
        self.fill_tables(rows)?;
        self.drain()
    }

    /// Takes away all counts of readers, users, articles and hours; what the services remember of them stays.
    pub(crate) fn empty_tables(&self) -> anyhow::Result<()> {
        self.stack
            .mariadb
            .query("TRUNCATE footfall_article_readers; TRUNCATE footfall_users; TRUNCATE footfall_articles; TRUNCATE footfall_article_hours")?;
        Ok(())
    }

    /// Adds about so many rows of readers, of the articles and users that the traffic has, and what belongs to them.
    pub(crate) fn fill_tables(&self, rows: f64) -> anyhow::Result<()> {
        let Crowd { articles, users } = Crowd::USUAL;
        // e to a uniform power is close to Zipf's law.
        let sql = format!(
            "INSERT IGNORE INTO footfall_article_readers (article, user, views)
                 SELECT CONCAT('a', LPAD(FLOOR(EXP(RAND({rows}) * LN({articles}))) - 1, 9, '0')) AS a,
                        CONCAT('u', LPAD(FLOOR(RAND({rows} + 1) * {users}), 9, '0')) AS u, 1
                 FROM seq_1_to_{rows} ORDER BY a, u;
             INSERT IGNORE INTO footfall_users (user) SELECT DISTINCT user FROM footfall_article_readers ORDER BY user;
             REPLACE INTO footfall_articles (article, views, readers)
                 SELECT article, SUM(views), COUNT(*) FROM footfall_article_readers GROUP BY article;
             REPLACE INTO footfall_article_hours (article, hour, views)
                 SELECT article, UNIX_TIMESTAMP() DIV 3600 - 1, views FROM footfall_articles"
        );
        // Each statement is its own transaction, and all of them may be done again: what a peer was asked for last may still
        // be under way, and one of the two has to give way.
        let mut result = self.stack.mariadb.query(&sql);
        for _ in 0..DEADLOCKS_MAX {
            match &result {
                Err(error) if error.to_string().contains(DEADLOCK) => result = self.stack.mariadb.query(&sql),
                _ => break,
            }
        }
        result?;
        Ok(())
    }
}
