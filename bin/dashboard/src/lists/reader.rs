//! Reads lists from MySQL.

use footfall_shared::mysql::{By, ListedArticle, RisingArticle, Store, StoreError};
use footfall_shared::protocol::{self, Article, User};
use footfall_shared::service::clock;
use serde_json::{Value, json};

use super::json::{Horizon, page, spans};
use super::route::List;

/// Reads a list as the JSON that is sent.
pub(super) async fn read(store: &Store, list: &List, horizon: Horizon) -> Result<Value, StoreError> {
    let article = |listed: &ListedArticle| json!({ "article": listed.article.to_string(), "views": protocol::shown(listed.views), "readers": protocol::shown(listed.readers) });
    let name = |listed: &ListedArticle| listed.article.to_string();
    // One more than asked for tells whether there is another page.
    Ok(match *list {
        List::ArticlesBy(by, ref after, limit) => {
            let after = after.as_ref().map(|(number, article)| (*number, article));
            let cursor = |listed: &ListedArticle| match by {
                By::Views => format!("{}.{}", listed.views, listed.article),
                By::Readers => format!("{}.{}", listed.readers, listed.article),
            };
            page("articles", store.articles_by(by, after, limit + 1).await?, limit, cursor, article)
        }
        List::Rising(limit) => {
            let tenths = |number: f64| (number * 10.0).round() / 10.0;
            let show = |rising: &RisingArticle| {
                json!({
                    "article": rising.article.to_string(),
                    "last_hour": tenths(rising.last_hour_60 as f64 / 60.0),
                    "day_before": protocol::shown(rising.day_before),
                    "rise": tenths(rising.rise()),
                })
            };
            let articles = store.articles_rising(clock::unix_minute(), limit).await?;
            json!({ "articles": articles.iter().map(show).collect::<Vec<_>>() })
        }
        List::ArticlesNamed(ref prefix, ref after, limit) => {
            let articles = store.articles_named(prefix, after.as_ref(), limit + 1).await?;
            page("articles", articles, limit, name, article)
        }
        List::Readers(ref article, ref after, limit) => {
            let readers = store.readers_of(article, after.as_ref(), limit + 1).await?;
            let show =
                |(user, views): &(User, u64)| json!({ "user": user.to_string(), "views": protocol::shown(*views) });
            page("readers", readers, limit, |(user, _)| user.to_string(), show)
        }
        List::Users(ref after, limit) => {
            let users = store.users(after.as_ref(), limit + 1).await?;
            page("users", users, limit, User::to_string, |user| json!({ "user": user.to_string() }))
        }
        List::Reads(ref user, ref after, limit) => {
            let articles = store.articles_of(user, after.as_ref(), limit + 1).await?;
            let show = |(article, views): &(Article, u64)| json!({ "article": article.to_string(), "views": protocol::shown(*views) });
            page("articles", articles, limit, |(article, _)| article.to_string(), show)
        }
        List::Hours(ref article, last) => {
            let hours = clock::last(last, clock::unix_minute() / 60);
            json!({ "hours": spans(&store.hours_of(article, *hours.start()).await?, hours, 3_600, horizon) })
        }
        List::Minutes(last) => {
            let minutes = clock::last(last, clock::unix_minute());
            json!({ "minutes": spans(&store.minutes(*minutes.start()).await?, minutes, 60, horizon) })
        }
    })
}
