//! The script for pages of a site, in pages of another origin.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use footfall_drill::stack::Role;
use serde_json::json;

use super::driver::{Browser, start_with_browser};
use super::{PATIENT, SOON};
use crate::common::{Running, Set, eventually, post};

/// A site of articles, served until the tests end.
pub(super) struct Site {
    listener: TcpListener,
}

impl Site {
    pub(super) fn new() -> Self {
        Self { listener: TcpListener::bind(("127.0.0.1", 0)).expect("a port") }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().expect("it listens"))
    }

    /// Every path is an article, with what `tags` says in its head.
    pub(super) fn serve(&self, ingest: &str, tags: impl Fn(&str) -> String + Send + Sync + 'static) {
        let listener = self.listener.try_clone().expect("clone");
        let (ingest, tags) = (ingest.to_owned(), Arc::new(tags));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (ingest, tags) = (ingest.clone(), Arc::clone(&tags));
                // A browser opens connections that it may never use.
                std::thread::spawn(move || drop(answer(stream, &ingest, &*tags)));
            }
        });
    }
}

fn answer(mut stream: TcpStream, ingest: &str, tags: impl Fn(&str) -> String) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENT))?;
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).unwrap_or_default();
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{path}</title><link rel=\"icon\" href=\"data:,\">\
         {}<p><b id=\"views\" data-footfall-views>–</b> <b id=\"readers\" data-footfall-readers=\"popular\">–</b>\
         <b id=\"popular\" data-footfall-views=\"popular\">–</b>",
        tags(path)
    );
    let policy = format!("default-src 'none'; img-src data:; script-src {ingest}; connect-src {ingest}");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: {}\r\n\
         Content-Security-Policy: {policy}\r\n\r\n",
        page.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(page.as_bytes())
}

fn views(running: &Running, path: &str) -> serde_json::Value {
    running.article(&path.replace('/', "%2F"))["views"].clone()
}

/// Runs in every page that is loaded from now on, before anything else does.
fn before_each_page(browser: &Browser, script: &str) {
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script }));
}

#[test]
fn the_script_counts_one_view_per_page_view() {
    let site = Site::new();
    let (mut running, browser) = start_with_browser(|options| {
        options.set("FOOTFALL_INGEST__ALLOWED_ORIGINS", &site.url());
        options.set("FOOTFALL_INGEST__ANONYMOUS", "true");
    });
    let ingest = running.ingest();
    let tag = |more: &str| format!("<script defer src=\"{ingest}/footfall.js\" {more}></script>");
    let (plain, named, async_tag) = (tag(""), tag("data-article=\"a &lt;b&gt;\" data-user=\"7\""), tag("async"));
    site.serve(&ingest, move |path| match path {
        "/one" => format!("{plain}<link rel=\"canonical\" href=\"/articles/one?page=2\">"),
        "/named" => named.clone(),
        "/twice" => format!("{async_tag}{plain}"),
        _ => plain.clone(),
    });
    let site = site.url();
    for user in ["1", "2", "2"] {
        let view = json!({"article": "popular", "user": user}).to_string();
        assert_eq!(post(&format!("{ingest}/v1/views"), &view).status, 204);
    }
    eventually("two readers", SOON, || running.article("popular")["readers"] == 2);

    // Loaded, loaded again, and back from the back/forward cache.
    browser.visit(&format!("{site}/one"));
    browser.wait_for("#views", "1", PATIENT);
    browser.wait_for("#readers", "2", SOON);
    browser.wait_for("#popular", "3", SOON);
    browser.reload();
    browser.wait_for("#views", "2", SOON);
    browser.run("window.mark = 'the same page'");
    browser.visit(&format!("{site}/%E6%98%A5%20x"));
    browser.wait_for("#views", "1", SOON);
    browser.back();
    browser.wait_for("#views", "3", SOON);
    assert_eq!(browser.run("return window.mark"), "the same page");
    for path in ["/named", "/twice"] {
        browser.visit(&format!("{site}{path}"));
        browser.wait_for("#views", "1", SOON);
    }
    assert_eq!(browser.run("return [document.cookie, localStorage.length, sessionStorage.length]"), json!(["", 0, 0]));
    browser.assert_no_errors();

    // The answer comes long after the tab is closed; the script itself is in the browser's cache.
    running.stack.service(Role::Ingest, 0).pause().expect("pauses");
    browser.visit_in_a_tab(&format!("{site}/closed"));
    std::thread::sleep(Duration::from_millis(500));
    running.stack.service(Role::Ingest, 0).resume().expect("goes on");
    eventually("the closed tab's view", SOON, || views(&running, "/closed") == 1);

    // What is lost on the way back is sent once more, under the same id; and a beacon is enough.
    before_each_page(
        &browser,
        "const real = fetch; window.fetch = async (...what) => { await real(...what); if (what[1].body) throw 1; }",
    );
    browser.visit(&format!("{site}/unread"));
    eventually("the view", SOON, || views(&running, "/unread") == 1);
    before_each_page(&browser, "window.fetch = async () => { throw 1; }");
    browser.visit(&format!("{site}/beacon"));
    eventually("the beacon's view", SOON, || views(&running, "/beacon") == 1);
    before_each_page(&browser, "window.fetch = real");
    before_each_page(&browser, "Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', { value: true })");
    browser.visit(&format!("{site}/private"));
    browser.wait_for("#popular", "3", SOON);

    let total = "SELECT SUM(views) FROM article_counts WHERE article <> 'popular'";
    eventually("all in MySQL", SOON, || running.sql(total).as_deref() == Some("9"));
    let rows = "SELECT article, LEFT(user, 5), views FROM reader_counts WHERE article <> 'popular' ORDER BY article";
    let rows = running.stack.mariadb.query(rows).expect("query");
    assert_eq!(
        rows,
        [
            ["/articles/one", "anon:", "3"],
            ["/beacon", "anon:", "1"],
            ["/closed", "anon:", "1"],
            ["/twice", "anon:", "1"],
            ["/unread", "anon:", "1"],
            ["/春 x", "anon:", "1"],
            ["a <b>", "7", "1"],
        ]
    );
}
