//! The public paths: which service answers which of them behind one address. Both services answer by this list, and the
//! samples for load balancers are checked against it. Pure.
//!
//! A path is taken apart as it was sent, and an id is decoded only when it stands alone: the `%2F` in an id divides
//! nothing, be the article called `/club/readers` or `../x`.

use percent_encoding::percent_decode_str;

/// `POST` of views.
pub const VIEWS: &str = "/v1/views";
/// A view, by an image.
pub const PIXEL: &str = "/v1/pixel.gif";
/// A view, by a demonstration page. Everything behind is the article.
pub const DEMOPAGE: &str = "/demopage/{article...}";
/// What the demonstration page does.
pub const DEMOPAGE_SCRIPT: &str = "/assets/demopage.js";
/// What the demonstration page looks like.
pub const DEMOPAGE_STYLE: &str = "/assets/demopage.css";
/// The script for pages of the site.
pub const SITE_SCRIPT: &str = "/footfall.js";
/// An article's numbers. The dashboard answers it too, to those who may see it; behind one address ingest does, to all.
pub const ARTICLE: &str = "/v1/articles/{article}";

/// What counts or belongs to a counted page: ingest's.
pub const INGEST: [&str; 7] = [VIEWS, PIXEL, DEMOPAGE, DEMOPAGE_SCRIPT, DEMOPAGE_STYLE, SITE_SCRIPT, ARTICLE];

/// The live numbers: a WebSocket, or the page.
pub const REALTIME: &str = "/realtime";
/// The form for the token.
pub const LOGIN: &str = "/login";
/// Ends a browser's session.
pub const LOGOUT: &str = "/logout";
/// What programs may ask the dashboard.
pub const OPENAPI: &str = "/openapi.json";
/// The current snapshot.
pub const STATS: &str = "/v1/stats";
/// The live numbers of the last minutes.
pub const HISTORY: &str = "/v1/history";
/// All articles.
pub const ARTICLES: &str = "/v1/articles";
/// Who has read an article.
pub const ARTICLE_READERS: &str = "/v1/articles/{article}/readers";
/// When an article was read.
pub const ARTICLE_HOURS: &str = "/v1/articles/{article}/hours";
/// All users.
pub const USERS: &str = "/v1/users";
/// What a user has read.
pub const USER_ARTICLES: &str = "/v1/users/{user}/articles";
/// When the site was read.
pub const MINUTES: &str = "/v1/minutes";
/// Whether the process lives. Every service has it, behind one address it is the dashboard's.
pub const LIVEZ: &str = "/livez";
/// Whether the process can do its work; the same.
pub const READYZ: &str = "/readyz";

/// All the rest is the dashboard's, and this is what there is of it.
pub const DASHBOARD: [&str; 16] = [
    "/",
    "/assets/{file}",
    REALTIME,
    LOGIN,
    LOGOUT,
    OPENAPI,
    STATS,
    HISTORY,
    ARTICLES,
    ARTICLE_READERS,
    ARTICLE_HOURS,
    USERS,
    USER_ARTICLES,
    MINUTES,
    LIVEZ,
    READYZ,
];

/// The id in a path of this form, still encoded; empty if the form has none. `{article}` is one part of a path,
/// `{article...}` all that is left of it.
#[must_use]
pub fn id_in<'a>(form: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, rest)) = form.split_once('{') else { return (path == form).then_some("") };
    let (name, after) = rest.split_once('}')?;
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (name.ends_with("...") || !id.contains('/')).then_some(id)
}

/// A `%` that begins no byte.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no percent-encoded byte: a % itself is written %25")]
pub struct NotEncoded(String);

/// The bytes that a part of a path, or a value of a query, stands for.
///
/// # Errors
///
/// If there is a `%` that two hexadecimal digits do not follow: whoever sent it has encoded nothing, or too much.
pub fn decode(encoded: &str) -> Result<Vec<u8>, NotEncoded> {
    for (_, rest) in encoded.match_indices('%').map(|(at, _)| encoded.split_at(at)) {
        if !matches!(rest.as_bytes(), [_, high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()) {
            return Err(NotEncoded(rest.chars().take(3).filter(|character| !character.is_control()).collect()));
        }
    }
    Ok(percent_decode_str(encoded).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_part_of_a_path_as_it_was_sent() {
        for (form, path, id) in [
            (VIEWS, "/v1/views", Some("")),
            (VIEWS, "/v1/views/", None),
            (VIEWS, "//v1/views", None),
            (ARTICLE, "/v1/articles/a%2Freaders", Some("a%2Freaders")),
            (ARTICLE, "/v1/articles/a/readers", None),
            (ARTICLE, "/v1/articles/", Some("")),
            (ARTICLE, "/v1/articles", None),
            (ARTICLE_READERS, "/v1/articles/a%2Freaders", None),
            (ARTICLE_READERS, "/v1/articles/a/readers", Some("a")),
            (ARTICLE_READERS, "/v1/articles/club%2Freaders/readers", Some("club%2Freaders")),
            (ARTICLE_READERS, "/v1/articles/a/b/readers", None),
            (DEMOPAGE, "/demopage/a/b%2Fc", Some("a/b%2Fc")),
            (DEMOPAGE, "/demopage", None),
        ] {
            assert_eq!(id_in(form, path), id, "{path} as {form}");
        }
    }

    #[test]
    fn no_path_is_in_the_list_twice() {
        let sample = |form: &str| form.replace("...", "").replace("{article}", "a").replace("{user}", "u");
        for form in INGEST.iter().chain(&DASHBOARD) {
            let path = sample(form).replace("{file}", "app.js");
            let owners = |forms: &[&str]| forms.iter().filter(|form| id_in(form, &path).is_some()).count();
            // A file of the demonstration page would fit `/assets/{file}` too: ingest's come first.
            let expected = if INGEST.contains(form) { (1, usize::from(path.starts_with("/assets/"))) } else { (0, 1) };
            assert_eq!((owners(&INGEST), owners(&DASHBOARD)), expected, "{path}");
        }
    }

    #[test]
    fn what_is_not_encoded_is_said() {
        assert_eq!(decode("a%2Fb+%e6%98%A5").expect("encoded"), "a/b+春".as_bytes());
        for (wrong, named) in [("100%", "%"), ("%zz", "%zz"), ("a%2", "%2"), ("%%41", "%%4"), ("%é1", "%é1")] {
            let error = decode(wrong).expect_err(wrong).to_string();
            assert!(error.starts_with(&format!("`{named}` is no")), "{error}");
        }
    }
}
