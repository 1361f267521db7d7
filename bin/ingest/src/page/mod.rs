//! The demonstration page: an article that shows its own numbers and keeps them live. And the script for pages of the
//! site.

use std::sync::LazyLock;

use footfall_shared::protocol::{Article, User};
use footfall_shared::service::http::{self, HttpResponse};
use footfall_shared::stores::reads::ArticleNumbers;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};

use crate::visitor::LeftOut;

/// The script that keeps the numbers live.
pub const SCRIPT: &str = include_str!("demopage.js");
/// The style of the page.
pub const STYLE: &str = include_str!("demopage.css");
/// The page may load nothing but its own files, and have no inline script or style.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// A transparent GIF of one pixel.
pub const PIXEL: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\
    \x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

const TEMPLATE: &str = include_str!("demopage.html");

/// The script that a page of the site includes in order to be counted and to show numbers.
const SITE_SCRIPT: &str = include_str!("footfall.js");

/// The answer with the script for pages of the site: kept for an hour, then asked for again.
#[must_use]
pub fn site_script(headers: &HeaderMap) -> HttpResponse {
    static TAG: LazyLock<String> = LazyLock::new(|| {
        let hash = u64::from_be_bytes(Sha256::digest(SITE_SCRIPT)[..8].try_into().expect("8 bytes"));
        format!("\"{hash:016x}\"")
    });
    let mut answer = if http::is_known(headers, &TAG) {
        http::empty(StatusCode::NOT_MODIFIED)
    } else {
        http::text(StatusCode::OK, "text/javascript; charset=utf-8", SITE_SCRIPT)
    };
    let headers = answer.headers_mut();
    headers.insert(ETAG, HeaderValue::from_str(&TAG).expect("hexadecimal digits"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600, must-revalidate"));
    answer
}

/// The sentence by which the page says whether its own view was counted.
fn said(left_out: Option<LeftOut>) -> &'static str {
    match left_out {
        None => "Each time this page is opened, one view is counted, exactly once.",
        Some(LeftOut::Bot) => "This view is not counted: what asks for it calls itself a bot.",
        Some(LeftOut::Prefetch) => "This view is not counted: the page was fetched ahead. Load it again to count one.",
        Some(LeftOut::Head) => "This view is not counted: only the head of the page was asked for.",
        Some(LeftOut::Gpc) => "This view is not counted: your browser asks that you are not followed.",
    }
}

/// The page of an article as one user sees it; and why its view is not counted, if it is not.
#[must_use]
pub fn render(article: &Article, user: &User, left_out: Option<LeftOut>, numbers: &ArticleNumbers) -> String {
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let at_least = || number(numbers.at_least).map(|number| format!("at least {number}"));
    let unknown = || "–".to_owned();
    // One pass: what was filled in is never looked at again.
    let mut page = String::with_capacity(TEMPLATE.len() + 512);
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").expect("the template closes what it opens");
        page.push_str(before);
        match name {
            "article" => escape_into(&mut page, article.as_str()),
            "user" => escape_into(&mut page, user.as_str()),
            "counted" => page.push_str(said(left_out)),
            "views" => page.push_str(&number(numbers.views).or_else(at_least).unwrap_or_else(unknown)),
            "readers" => page.push_str(&number(numbers.readers).unwrap_or_else(unknown)),
            "state" => page.push_str(numbers.degraded.unwrap_or("live")),
            _ => unreachable!("the template names only what is filled in here"),
        }
        rest = after;
    }
    page.push_str(rest);
    page
}

fn escape_into(page: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            _ => page.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::IF_NONE_MATCH;

    use super::*;

    #[test]
    fn the_script_is_sent_once() {
        let answer = site_script(&HeaderMap::new());
        assert_eq!(answer.status(), StatusCode::OK);
        let tag = answer.headers()[ETAG].to_str().expect("text").to_owned();
        for known in [tag.clone(), format!("\"x\", W/{tag}")] {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_str(&known).expect("text"))]);
            assert_eq!(site_script(&headers).status(), StatusCode::NOT_MODIFIED, "{known}");
        }
    }

    #[test]
    fn the_script_keeps_nothing_and_writes_only_text() {
        for word in ["cookie", "localStorage", "sessionStorage", "indexedDB", "innerHTML", "eval("] {
            let code = SITE_SCRIPT.lines().filter(|line| !line.trim_start().starts_with("//"));
            assert!(!code.into_iter().any(|line| line.contains(word)), "it has {word}");
        }
    }

    fn part(at_least: u64) -> ArticleNumbers {
        ArticleNumbers {
            article: "a".into(),
            views: None,
            at_least: Some(at_least),
            readers: None,
            pending: None,
            as_of: None,
            degraded: Some("mysql is away"),
            source: Some("cache"),
        }
    }

    #[test]
    fn a_part_is_not_shown_as_the_whole() {
        let [article, user] = [b"a", b"u"];
        let (article, user) = (Article::parse(article).expect("test id"), User::parse(user).expect("test id"));
        let whole = ArticleNumbers { views: Some(7), readers: Some(3), at_least: None, degraded: None, ..part(0) };
        for (numbers, parts) in [
            (part(8), [r#"id="views">at least 8<"#, r#"id="readers">–<"#, "role=\"status\">mysql is away<"]),
            (whole, [r#"id="views">7<"#, r#"id="readers">3<"#, "role=\"status\">live<"]),
        ] {
            let page = render(&article, &user, None, &numbers);
            assert!(parts.iter().all(|part| page.contains(part)), "{parts:?} in {page}");
        }
    }

    #[test]
    fn ids_are_text_and_nothing_else() {
        let article = Article::parse(b"</h1><script>alert('{{user}}')</script>\"").expect("test id");
        let user = User::parse(b"<img src=x onerror=y>").expect("test id");
        let page = render(&article, &user, None, &part(8));
        assert!(!page.contains("<script>alert"));
        assert!(!page.contains("<img"));
        assert!(page.contains("&lt;/h1&gt;&lt;script&gt;alert(&#39;{{user}}&#39;)&lt;/script&gt;&quot;"));
    }
}
