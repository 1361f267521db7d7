//! Which list a request reads: one table of paths and parameters, and what each list is like.

use footfall_shared::mysql::By;
use footfall_shared::protocol::{Article, User};
use footfall_shared::service::paths;
use footfall_shared::stores::reads::Interface;
use hyper::StatusCode;

use super::query::{LIMIT, NOT_A_CURSOR, Query, Rejection, bad_request, id};

/// Rising articles, at most: those that are read a little more than they were are nothing to tell.
const RISING_MAX: u32 = 100;
/// One for each variant of [`List`].
pub(super) const KINDS: usize = 8;

/// What a request reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// The numbers of one article.
    Article(Article),
    /// A list.
    List(List),
}

/// A list that can be requested.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum List {
    /// Articles by a number, from behind an article with that number.
    ArticlesBy(By, Option<(u64, Article)>, u32),
    /// Articles that are read more than they were.
    Rising(u32),
    /// Articles whose name begins so, from behind one.
    ArticlesNamed(Vec<u8>, Option<Article>, u32),
    /// An article's readers.
    Readers(Article, Option<User>, u32),
    /// An article's views in each of the last hours.
    Hours(Article, u32),
    /// All users.
    Users(Option<User>, u32),
    /// What a user has read.
    Reads(User, Option<Article>, u32),
    /// The site's views in each of the last minutes.
    Minutes(u32),
}

impl Resource {
    /// Whether it says who reads what.
    pub(crate) fn is_about_readers(&self) -> bool {
        matches!(self, Self::List(List::Readers(..) | List::Users(..) | List::Reads(..)))
    }

    /// Finds out what a request reads; none if there is nothing at this path.
    pub(crate) fn parse(path: &str, query: Option<&str>) -> Option<Result<Self, Rejection>> {
        match paths::id_in(paths::ARTICLE, path) {
            Some(article) => Some(id(article, Article::parse).map(Self::Article)),
            None => Some(List::parse(path, query)?.map(Self::List)),
        }
    }
}

/// Which article a WebSocket is about; none if about all.
pub(crate) fn watched_article(query: Option<&str>) -> Result<Option<Article>, Rejection> {
    let query = Query::parse(query.unwrap_or(""))?;
    query.knows(&["article"])?;
    let article = query.get("article").map(|article| Article::parse(article.as_bytes())).transpose();
    article.map_err(|error| Rejection(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
}

/// How a list is requested.
pub(crate) struct ListRoute {
    /// The path; its part in braces, if there is one, stands for an id.
    pub(crate) path: &'static str,
    /// The query parameters that it knows.
    pub(crate) parameters: &'static [&'static str],
    /// Which list it is, with this id.
    list: fn(&str, &Query) -> Result<List, Rejection>,
}

const PAGED: &[&str] = &["after", "limit"];

/// All lists.
pub(crate) const ROUTES: [ListRoute; 6] = [
    ListRoute {
        path: paths::ARTICLES,
        parameters: &["by", "prefix", "after", "limit"],
        list: |_, query| List::articles(query),
    },
    ListRoute {
        path: paths::ARTICLE_READERS,
        parameters: PAGED,
        list: |article, query| {
            Ok(List::Readers(id(article, Article::parse)?, query.after(User::parse)?, query.limit()?))
        },
    },
    ListRoute {
        path: paths::ARTICLE_HOURS,
        parameters: &["last"],
        list: |article, query| Ok(List::Hours(id(article, Article::parse)?, query.last()?)),
    },
    ListRoute {
        path: paths::USERS,
        parameters: PAGED,
        list: |_, query| Ok(List::Users(query.after(User::parse)?, query.limit()?)),
    },
    ListRoute {
        path: paths::USER_ARTICLES,
        parameters: PAGED,
        list: |user, query| Ok(List::Reads(id(user, User::parse)?, query.after(Article::parse)?, query.limit()?)),
    },
    ListRoute { path: paths::MINUTES, parameters: &["last"], list: |_, query| Ok(List::Minutes(query.last()?)) },
];

impl List {
    fn parse(path: &str, query: Option<&str>) -> Option<Result<List, Rejection>> {
        let (route, id) = ROUTES.iter().find_map(|route| Some((route, paths::id_in(route.path, path)?)))?;
        Some(Query::parse(query.unwrap_or("")).and_then(|query| {
            query.knows(route.parameters)?;
            (route.list)(id, &query)
        }))
    }

    fn articles(query: &Query) -> Result<List, Rejection> {
        let by = match (query.get("by"), query.get("prefix")) {
            (Some("name"), _) | (None, Some(_)) => {
                let prefix = query.get("prefix").unwrap_or("").as_bytes().to_vec();
                return Ok(List::ArticlesNamed(prefix, query.after(Article::parse)?, query.limit()?));
            }
            (Some("views") | None, None) => By::Views,
            (Some("readers"), None) => By::Readers,
            (Some("rise"), None) => {
                query.knows(&["by", "limit"])?;
                return Ok(List::Rising(query.number("limit", LIMIT.min(RISING_MAX), RISING_MAX)?));
            }
            (Some("views" | "readers" | "rise"), Some(_)) => {
                return Err(bad_request("a search by `prefix` is listed by name"));
            }
            (Some(_), _) => return Err(bad_request("`by` is one of: views, readers, rise, name")),
        };
        let after = query.get("after").map(|after| {
            let (number, article) = after.split_once('.').ok_or(NOT_A_CURSOR)?;
            let number = number.parse().map_err(|_| NOT_A_CURSOR)?;
            Ok((number, Article::parse(article.as_bytes()).map_err(|_| NOT_A_CURSOR)?))
        });
        let after = after.transpose().map_err(|message: &str| bad_request(message))?;
        Ok(List::ArticlesBy(by, after, query.limit()?))
    }

    pub(super) fn kind(&self) -> usize {
        match self {
            Self::ArticlesBy(..) => 0,
            Self::Rising(_) => 1,
            Self::ArticlesNamed(..) => 2,
            Self::Readers(..) => 3,
            Self::Hours(..) => 4,
            Self::Users(..) => 5,
            Self::Reads(..) => 6,
            Self::Minutes(_) => 7,
        }
    }

    pub(super) fn entries_max(&self) -> u32 {
        match self {
            Self::ArticlesBy(.., max) | Self::ArticlesNamed(.., max) | Self::Rising(max) | Self::Readers(.., max) => {
                *max
            }
            Self::Hours(_, max) | Self::Users(_, max) | Self::Reads(.., max) | Self::Minutes(max) => *max,
        }
    }

    /// Whether it may be some seconds old. A page behind a number may not: an article could have risen onto an earlier page
    /// that was read since, and would be listed twice.
    pub(super) fn may_be_cached(&self) -> bool {
        !matches!(self, Self::ArticlesBy(_, Some(_), _))
    }

    pub(super) fn interface(&self) -> Interface {
        match self {
            Self::ArticlesBy(..) | Self::ArticlesNamed(..) | Self::Rising(_) | Self::Hours(..) | Self::Minutes(_) => {
                Interface::Lists
            }
            Self::Readers(..) => Interface::Readers,
            Self::Users(..) | Self::Reads(..) => Interface::Users,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::query::SPAN;
    use super::*;

    fn article(id: &str) -> Article {
        Article::parse(id.as_bytes()).expect("test id")
    }

    fn parse(path: &str, query: &str) -> Result<List, Rejection> {
        List::parse(path, Some(query)).expect("there is such a list")
    }

    #[test]
    fn lists_are_found_by_path_and_query() {
        assert_eq!(parse("/v1/articles", ""), Ok(List::ArticlesBy(By::Views, None, LIMIT)));
        let after = Some((7, article("a.b c")));
        assert_eq!(
            parse("/v1/articles", "by=readers&after=7.a.b+c&limit=5"),
            Ok(List::ArticlesBy(By::Readers, after, 5))
        );
        assert_eq!(parse("/v1/articles", "prefix=%C3%A4"), Ok(List::ArticlesNamed("ä".into(), None, LIMIT)));
        assert_eq!(parse("/v1/articles/a%2Fb/readers", ""), Ok(List::Readers(article("a/b"), None, LIMIT)));
        assert_eq!(parse("/v1/articles/a/hours", "last=3"), Ok(List::Hours(article("a"), 3)));
        let user = User::parse(b"u").expect("test id");
        assert_eq!(parse("/v1/users/u/articles", "after=x"), Ok(List::Reads(user, Some(article("x")), LIMIT)));
        assert_eq!(parse("/v1/articles", "by=rise&limit=9"), Ok(List::Rising(9)));
        assert_eq!(parse("/v1/minutes", ""), Ok(List::Minutes(SPAN)));
        for path in ["/v1/nothing", "/v1/articles/a/b/readers", "/v1/users/u", "/v1/minutes/"] {
            assert_eq!(List::parse(path, None), None, "{path}");
        }
        assert_eq!(List::parse("/v1/articles/a", None), None);
        assert_eq!(Resource::parse("/v1/articles/a%2Fb", None), Some(Ok(Resource::Article(article("a/b")))));
        assert!(Resource::parse("/v1/articles/", None).is_some_and(|resource| resource.is_err()));
    }

    #[test]
    fn what_cannot_be_meant_is_rejected_with_a_message() {
        for (path, query, status) in [
            ("/v1/articles", "limit=0", 400),
            ("/v1/articles", "limit=1001", 400),
            ("/v1/articles", "limit=5&limit=6", 400),
            ("/v1/articles", "by=weight", 400),
            ("/v1/articles", "by=views&prefix=a", 400),
            ("/v1/articles", "by=rise&after=1.a", 400),
            ("/v1/articles", "by=rise&limit=101", 400),
            ("/v1/articles", "after=a", 400),
            ("/v1/articles", "order=views", 400),
            ("/v1/users", "after=", 400),
            ("/v1/users", "after=%FF", 400),
            ("/v1/articles//readers", "", 422),
            ("/v1/articles/%00/readers", "", 422),
            ("/v1/minutes", "last=1441", 400),
        ] {
            let Err(Rejection(found, message)) = parse(path, query) else { panic!("{path}?{query} is taken") };
            assert_eq!(found.as_u16(), status, "{path}?{query}: {message}");
        }
    }
}
