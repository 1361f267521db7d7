//! Pages of what MySQL holds, for people who browse. Each page begins behind the last entry of the one before, so that
//! what is written in between neither repeats nor skips an entry that kept its place.

use std::collections::BTreeSet;

use sea_orm::{QueryResult, Value};

use super::errors::{Result, StoreError};
use super::sql::{article_of, in_time, json_rows, user_of};
use super::store::Store;
use crate::protocol::{Article, Row, User};

/// An article and its numbers in MySQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedArticle {
    /// Which.
    pub article: Article,
    /// Views in MySQL.
    pub views: u64,
    /// Its readers.
    pub readers: u64,
}

/// By which number articles are listed, greatest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// Views in MySQL.
    Views,
    /// Readers.
    Readers,
}

/// An article that is read more than it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RisingArticle {
    /// Which.
    pub article: Article,
    /// Its views in the last hour, in sixtieths: the hour before the present one counts for the minutes that are left.
    pub last_hour_60: u64,
    /// Its views in the 24 hours before these two.
    pub day_before: u64,
}

impl RisingArticle {
    /// By how many views the last hour is above the mean hour of the day before.
    #[must_use]
    pub fn rise(&self) -> f64 {
        self.rise_120() as f64 / 120.0
    }

    fn rise_120(&self) -> i128 {
        2 * i128::from(self.last_hour_60) - 5 * i128::from(self.day_before)
    }
}

/// Articles with most views in each of the last two hours, among which those that rise are looked for.
const RISING_CANDIDATES: u32 = 1_000;

impl Store {
    /// The articles with the most views in MySQL: article, views, readers.
    pub async fn top_articles(&self, limit: u32) -> Result<Vec<(Article, u64, u64)>> {
        let articles = self.articles_by(By::Views, None, limit).await?;
        Ok(articles.into_iter().map(|listed| (listed.article, listed.views, listed.readers)).collect())
    }

    /// Articles by a number, greatest first, then by name, last first; from behind an article with that number.
    pub async fn articles_by(&self, by: By, after: Option<(u64, &Article)>, limit: u32) -> Result<Vec<ListedArticle>> {
        // Several reads in the time of one.
        in_time(self.timeout, self.articles_by_digits(by, after, limit)).await
    }

    /// From those with the most digits on. An article that grows meanwhile moves to where was looked before: it is left
    /// out, as one that rises past the end of an earlier page is, and never there twice.
    async fn articles_by_digits(
        &self,
        by: By,
        mut after: Option<(u64, &Article)>,
        limit: u32,
    ) -> Result<Vec<ListedArticle>> {
        let column = match by {
            By::Views => "views",
            By::Readers => "readers",
        };
        let mut articles: Vec<ListedArticle> = Vec::new();
        let mut digits = after.map_or(u64::BITS + 1, |(number, _)| digits_of(number) + 1);
        while articles.len() < limit as usize {
            let sql = format!("SELECT MAX({column}_digits) AS digits FROM footfall_articles WHERE {column}_digits < ?");
            let Some(next) = self
                .one(&sql, [digits.into()])
                .await?
                .ok_or(StoreError::Corrupt("a maximum has no row"))?
                .try_get::<Option<u8>>("", "digits")?
            else {
                break;
            };
            digits = next.into();
            let (key, mut values) = (format!("by_{column}_digits"), vec![Value::from(digits)]);
            let mut sql = format!(
                "SELECT article, views, readers FROM footfall_articles FORCE INDEX ({key}) WHERE {column}_digits = ?"
            );
            let behind = after.take().filter(|(number, _)| digits_of(*number) == digits);
            if digits == 1 {
                // All of these have the same number, and a flood leaves many of them: the index has them in order.
                if let Some((_, article)) = behind {
                    sql.push_str(" AND article < ?");
                    values.push(bytes(article.as_bytes()));
                }
                sql.push_str(" ORDER BY article DESC LIMIT ?");
            } else {
                if let Some((number, article)) = behind {
                    sql.push_str(&format!(" AND ({column} < ? OR {column} = ? AND article < ?)"));
                    values.extend([number.into(), number.into(), bytes(article.as_bytes())]);
                }
                sql.push_str(&format!(" ORDER BY {column} DESC, article DESC LIMIT ?"));
            }
            values.push((limit - articles.len() as u32).into());
            articles.extend(self.listed(&sql, values, listed_article).await?);
        }
        Ok(articles)
    }

    /// Articles by name, in the order of their bytes, whose name begins with `prefix`; from behind `after`.
    pub async fn articles_named(
        &self,
        prefix: &[u8],
        after: Option<&Article>,
        limit: u32,
    ) -> Result<Vec<ListedArticle>> {
        let (mut sql, mut values) =
            (String::from("SELECT article, views, readers FROM footfall_articles WHERE TRUE"), vec![]);
        match after {
            Some(after) => {
                sql.push_str(" AND article > ?");
                values.push(bytes(after.as_bytes()));
            }
            None => {
                sql.push_str(" AND article >= ?");
                values.push(bytes(prefix));
            }
        }
        if let Some(end) = behind(prefix) {
            sql.push_str(" AND article < ?");
            values.push(bytes(&end));
        }
        sql.push_str(" ORDER BY article LIMIT ?");
        values.push(limit.into());
        self.listed(&sql, values, listed_article).await
    }

    /// The articles that rise most at this minute since 1970 UTC, most first. None is left out that rises more than one
    /// that is there.
    pub async fn articles_rising(&self, minute: u32, limit: u32) -> Result<Vec<RisingArticle>> {
        // Three reads in the time of one.
        in_time(self.timeout, self.rising_at(minute, limit)).await
    }

    async fn rising_at(&self, minute: u32, limit: u32) -> Result<Vec<RisingArticle>> {
        // With a sign: a clock may stand in the first hours of 1970, and hours before them are in no row.
        let (hour, left) = (i64::from(minute / 60), i64::from(60 - minute % 60));
        // Hour by hour, the most first: MySQL goes once through either hour and keeps no more than what it answers. To add
        // up the two hours of every article first takes 25 times as long when there are a million of them.
        let sql = "SELECT article, views FROM footfall_article_hours WHERE hour = ? ORDER BY views DESC, article DESC LIMIT ?";
        let (mut names, mut left_out_60) = (BTreeSet::new(), 0_u64);
        for (hour, weight) in [(hour, 60), (hour - 1, left.unsigned_abs())] {
            let of = |row: &QueryResult| Ok((article_of(row)?, row.try_get::<u64>("", "views")?));
            let most = self.listed(sql, vec![hour.into(), RISING_CANDIDATES.into()], of).await?;
            // Any article that is not among them has at most as many.
            if let Some((_, least)) = most.last().filter(|_| most.len() >= RISING_CANDIDATES as usize) {
                left_out_60 = left_out_60.saturating_add(least.saturating_mul(weight));
            }
            names.extend(most.into_iter().map(|(article, _)| article));
        }
        // The order of the tables is ours: few articles, and each one's hours by their own key.
        let sql = "SELECT h.article, \
                     CAST(SUM(CAST(h.views AS DECIMAL(30)) * IF(h.hour = ?, 60, IF(h.hour = ?, ?, 0))) AS UNSIGNED) AS last_hour, \
                     CAST(SUM(IF(h.hour < ?, h.views, 0)) AS UNSIGNED) AS day_before \
                   FROM JSON_TABLE(?, '$[*]' COLUMNS (a VARBINARY(1024) PATH '$[0]')) c \
                   STRAIGHT_JOIN footfall_article_hours h FORCE INDEX (by_article) \
                     ON h.article = c.a AND h.hour BETWEEN ? AND ? GROUP BY h.article";
        let json = json_rows(names.iter().map(|article| (article.as_str(),)));
        let numbers = [hour, hour - 1, left, hour - 1].map(Value::from);
        let values = numbers.into_iter().chain([json.into(), (hour - 25).into(), hour.into()]).collect();
        let candidates = self.listed(sql, values, |row| {
            let last_hour_60 = row.try_get("", "last_hour")?;
            Ok(RisingArticle { article: article_of(row)?, last_hour_60, day_before: row.try_get("", "day_before")? })
        });
        Ok(rising(candidates.await?, left_out_60, limit))
    }

    /// The readers of an article and how often each has read it, by name; from behind `after`.
    pub async fn readers_of(&self, article: &Article, after: Option<&User>, limit: u32) -> Result<Vec<(User, u64)>> {
        let sql =
            "SELECT user, views FROM footfall_article_readers WHERE article = ? AND user > ? ORDER BY user LIMIT ?";
        let after = after.map_or(&[][..], User::as_bytes);
        let values = vec![bytes(article.as_bytes()), bytes(after), limit.into()];
        self.listed(sql, values, |row| Ok((user_of(row)?, row.try_get("", "views")?))).await
    }

    /// What a user has read and how often, by the article's name; from behind `after`.
    pub async fn articles_of(&self, user: &User, after: Option<&Article>, limit: u32) -> Result<Vec<(Article, u64)>> {
        let sql = "SELECT article, views FROM footfall_article_readers WHERE user = ? AND article > ? ORDER BY article LIMIT ?";
        let after = after.map_or(&[][..], Article::as_bytes);
        let values = vec![bytes(user.as_bytes()), bytes(after), limit.into()];
        self.listed(sql, values, |row| Ok((article_of(row)?, row.try_get("", "views")?))).await
    }

    /// How often each user has read each article, by article, then by user; from behind `after`.
    pub async fn rows(&self, after: Option<&Row>, limit: u32) -> Result<Vec<Row>> {
        let sql = "SELECT article, user, views FROM footfall_article_readers WHERE article >= ? AND (article > ? OR user > ?) \
                   ORDER BY article, user LIMIT ?";
        let (article, user) = after.map_or((&[][..], &[][..]), |row| (row.article.as_bytes(), row.user.as_bytes()));
        let values = vec![bytes(article), bytes(article), bytes(user), limit.into()];
        self.listed(sql, values, |row| {
            Ok(Row { article: article_of(row)?, user: user_of(row)?, views: row.try_get("", "views")? })
        })
        .await
    }

    /// All users, by name; from behind `after`.
    pub async fn users(&self, after: Option<&User>, limit: u32) -> Result<Vec<User>> {
        let sql = "SELECT user FROM footfall_users WHERE user > ? ORDER BY user LIMIT ?";
        let values = vec![bytes(after.map_or(&[][..], User::as_bytes)), limit.into()];
        self.listed(sql, values, user_of).await
    }

    /// Views of an article in each hour since 1970 UTC, from `first` on; hours without views are left out.
    pub async fn hours_of(&self, article: &Article, first: u32) -> Result<Vec<(u32, u64)>> {
        let sql = "SELECT hour AS at, views FROM footfall_article_hours WHERE article = ? AND hour >= ? ORDER BY hour";
        self.listed(sql, vec![bytes(article.as_bytes()), first.into()], at_and_views).await
    }

    /// Views of the site in each minute since 1970 UTC, from `first` on; minutes without views are left out.
    pub async fn minutes(&self, first: u32) -> Result<Vec<(u32, u64)>> {
        let sql = "SELECT minute AS at, CAST(SUM(views) AS UNSIGNED) AS views FROM footfall_site_minutes \
                   WHERE minute >= ? GROUP BY minute ORDER BY minute";
        self.listed(sql, vec![first.into()], at_and_views).await
    }

    async fn listed<T>(&self, sql: &str, values: Vec<Value>, of: impl Fn(&QueryResult) -> Result<T>) -> Result<Vec<T>> {
        self.all(sql, values).await?.iter().map(of).collect()
    }
}

/// Binary digits of a count, as the columns of [`TABLES`](super::tables::TABLES) have them. No article there has a count of 0.
fn digits_of(count: u64) -> u32 {
    u64::BITS - count.leading_zeros()
}

pub(super) fn bytes(id: &[u8]) -> Value {
    id.to_vec().into()
}

/// The first bytes behind all that begin with `prefix`; none if nothing can be.
pub(super) fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// The `limit` candidates that rise most. An article that is not among them may rise by up to `left_out_60` sixtieths of a
/// view: what rises less is not listed.
fn rising(mut candidates: Vec<RisingArticle>, left_out_60: u64, limit: u32) -> Vec<RisingArticle> {
    let least = (2 * i128::from(left_out_60)).max(1);
    candidates.retain(|candidate| candidate.rise_120() >= least);
    candidates.sort_by(|a, b| (b.rise_120(), &b.article).cmp(&(a.rise_120(), &a.article)));
    candidates.truncate(limit as usize);
    candidates
}

fn listed_article(row: &QueryResult) -> Result<ListedArticle> {
    Ok(ListedArticle {
        article: article_of(row)?,
        views: row.try_get("", "views")?,
        readers: row.try_get("", "readers")?,
    })
}

fn at_and_views(row: &QueryResult) -> Result<(u32, u64)> {
    Ok((row.try_get("", "at")?, row.try_get("", "views")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rises_most_is_first_and_none_that_may_rise_more_is_left_out() {
        let candidate = |name: &str, last_hour_60, day_before| RisingArticle {
            article: Article::parse(name.as_bytes()).expect("test id"),
            last_hour_60,
            day_before,
        };
        let candidates = vec![
            candidate("new", 300, 0),
            candidate("usual", 1_200, 480),
            candidate("more", 1_200, 24),
            candidate("less", 60, 48),
        ];
        let names = |left_out_60, limit| -> Vec<String> {
            rising(candidates.clone(), left_out_60, limit).iter().map(|rising| rising.article.to_string()).collect()
        };
        assert_eq!(candidate("more", 1_200, 24).rise(), 19.0);
        assert_eq!(names(0, 9), ["more", "new"], "neither `usual`, which does not rise, nor `less`, which falls");
        assert_eq!(names(0, 1), ["more"]);
        assert_eq!(names(300, 9), ["more", "new"], "one that is left out rises by no more than `new`");
        assert_eq!(names(301, 9), ["more"], "it may rise by more than `new`");
    }

    #[test]
    fn a_prefix_ends_where_nothing_begins_with_it_any_more() {
        assert_eq!(behind(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(behind(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!((behind(b""), behind(b"\xff")), (None, None));
    }
}
