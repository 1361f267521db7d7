//! The script for pages of a site, in pages of another origin.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use footfall_drill::stack::Role;
use serde_json::json;

use super::driver::{Browser, start_with_browser};
use super::{PATIENT, SOON};
use crate::access::TOKEN;
use crate::balancer::{start_haproxy, start_nginx};
use crate::common::{Running, Set, eventually, get, post};

/// A site of articles, served until the tests end.
pub(super) struct Site {
    listener: TcpListener,
}

impl Site {
    pub(super) fn new() -> Self {
        Self { listener: TcpListener::bind(("127.0.0.1", 0)).expect("a port") }
    }

    /// The same site by a name.
    fn named(&self) -> String {
        self.url().replace("127.0.0.1", "localhost")
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().expect("it listens"))
    }

    /// Every path is an article, with what `tags` says in its head and behind it.
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
         {}",
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

/// Elements for three numbers.
pub(super) const NUMBERS: &str = "<p><b id=\"views\" data-footfall-views>–</b> <b id=\"readers\" data-footfall-readers=\"popular\">–</b>\
                       <b id=\"popular\" data-footfall-views=\"popular\">–</b>";

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
    });
    let ingest = running.ingest();
    let tag = |more: &str| format!("<script defer src=\"{ingest}/footfall.js\" {more}></script>");
    let (plain, named, async_tag) = (tag(""), tag("data-article=\"a &lt;b&gt;\" data-user=\"7\""), tag("async"));
    site.serve(&ingest, move |path| match path {
        "/one" => format!("{plain}<link rel=\"canonical\" href=\"/articles/one?page=2\">{NUMBERS}"),
        "/named" => format!("{named}{NUMBERS}"),
        "/twice" => format!("{async_tag}{plain}{NUMBERS}"),
        _ => format!("{plain}{NUMBERS}"),
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

/// The lines that the README shows, as somebody would copy them, with the address of ingest put in.
fn readme_tag(ingest: &str) -> String {
    let readme = std::fs::read_to_string(xtask::root().join("README.md")).expect("README.md");
    let shown = readme.split("```html\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a tag");
    assert_eq!(shown.matches("https://count.example").count(), 1, "{shown}");
    shown.replace("https://count.example", ingest)
}

#[test]
fn the_tag_of_the_readme_works_as_shown_behind_each_sample() {
    let site = Site::new();
    // A fresh installation, but for the token that the samples ask for.
    let (mut running, browser) = start_with_browser(|options| {
        options.dashboards = 1;
        options.env.retain(|(name, _)| name != "FOOTFALL_INGEST__BOTS");
        options.set("FOOTFALL_DASHBOARD__TOKEN", TOKEN);
    });
    let address = |role| running.stack.url(role, 0).replace("http://", "");
    let (ingest, dashboard) = (address(Role::Ingest), address(Role::Dashboard));
    let logs = running.path("logs");
    let (_haproxy, haproxy) = start_haproxy(&logs, 61_089, [&ingest, &ingest], &dashboard, &[]);
    let (_nginx, nginx) = start_nginx(&logs, 61_090, [&ingest, &ingest], &dashboard);
    let fronts = [running.ingest(), haproxy.clone(), nginx.clone()];
    let tags: Vec<String> = fronts.iter().map(|front| readme_tag(front)).collect();
    site.serve(&fronts.join(" "), move |path| {
        let number: usize = path.rsplit('/').next().and_then(|name| name.parse().ok()).unwrap_or_default();
        format!("<p id=\"tag\">{}", tags[number])
    });
    let (here, site) = (site.url(), site.named());

    // As it calls itself, this browser is a bot: it is told so, in the page and by the demonstration page.
    browser.visit(&format!("{here}/bot/0"));
    browser.wait_for("#tag", "Read 0 times, by 0 people", PATIENT);
    let said = browser.said();
    assert!(said.contains("this view is not counted: this browser calls itself a bot"), "{said}");
    browser.visit(&format!("{}/demopage/yumo?usrid=1", fronts[0]));
    assert_eq!(browser.text("#counted"), "This view is not counted: what asks for it calls itself a bot.");
    browser.pass_for_a_person();
    browser.visit(&format!("{}/demopage/yumo?usrid=1", fronts[0]));
    assert_eq!(browser.text("#counted"), "Each time this page is opened, one view is counted, exactly once.");

    for (number, front) in fronts.iter().enumerate() {
        let page = format!("{site}/articles/{number}");
        browser.visit(&page);
        let readers = format!("SELECT readers FROM article_counts WHERE article = '/articles/{number}'");
        eventually("a reader", SOON, || running.sql(&readers).as_deref() == Some("1"));
        browser.reload();
        browser.wait_for("#tag", "Read 2 times, by 1 people", SOON);
        browser.assert_no_errors();
        println!("behind {front}: {}", browser.text("#tag"));
    }

    // The dashboard says that the balancers are not believed: else nobody would notice that all readers are one.
    let reasons = || get(&format!("{}/v1/stats", fronts[1])).json()["instances"].to_string();
    eventually("a word about the proxies", SOON, || reasons().contains("`http.trusted_proxies` does not name"));

    // And through each the dashboard itself: the WebSocket, and the form.
    for front in [&haproxy, &nginx] {
        browser.visit(front);
        browser.wait_for("#connection", "live", PATIENT);
        browser.visit(&format!("{front}/login"));
        browser.send("#token", TOKEN);
        browser.wait_for("#connection", "live", PATIENT);
        assert_eq!(browser.run("return fetch('/v1/users').then((answer) => answer.status)"), 200);
    }
}

#[test]
fn the_page_among_the_examples_counts_and_shows() {
    let (mut running, browser) = start_with_browser(|_| {});
    let page = std::fs::read_to_string(xtask::root().join("docs/examples/page.html")).expect("an example");
    let page = page.replace("http://127.0.0.1:8000", &running.ingest());
    let site = Site::new();
    site.serve(&running.ingest(), move |_| page.clone());
    browser.visit(&site.url());
    let views = "SELECT views FROM article_counts WHERE article = 'an article'";
    eventually("a view", SOON, || running.sql(views).as_deref() == Some("1"));
    browser.reload();
    browser.wait_for("#counts", "Read 2 times, by 1 people", SOON);
    browser.assert_no_errors();
}

#[test]
fn what_is_not_counted_is_said_in_the_console_and_on_the_dashboard() {
    let site = Site::new();
    let (mut running, browser) = start_with_browser(|options| {
        options.dashboards = 1;
        options.set("FOOTFALL_INGEST__ANONYMOUS", "false");
        options.set("FOOTFALL_INGEST__ALLOWED_ORIGINS", &site.url());
    });
    let ingest = running.ingest();
    let tag = |more: &str| format!("<script defer src=\"{ingest}/footfall.js\" {more}></script>{NUMBERS}");
    let (nobody, somebody) = (tag(""), tag("data-user=\"7\""));
    site.serve(&ingest, move |path| if path == "/nobody" { nobody.clone() } else { somebody.clone() });
    let (site, other) = (site.url(), site.named());
    let instances = |running: &Running| {
        get(&format!("{}/v1/stats", running.stack.url(Role::Dashboard, 0))).json()["instances"].to_string()
    };

    // 258 bytes: refused, and said by the page and to whoever runs the system.
    let long = format!("{site}/{}", "x".repeat(257));
    browser.visit(&long);
    let mut said = String::new();
    eventually("the refusal is said", PATIENT, || {
        said += &browser.said();
        said.contains("this view is not counted: the article id has 258 bytes: at most 255 are allowed")
    });
    eventually("and on the dashboard", SOON, || {
        instances(&running).contains("an id in them is empty, too long or no text")
    });
    let events = get(&format!("{}/v1/stats", running.stack.url(Role::Dashboard, 0))).json()["events"].to_string();
    assert!(events.contains("needs attention"), "{events}");
    browser.visit(&format!("{site}/nobody"));
    eventually("who is missing is said", SOON, || browser.said().contains("missing field `user`"));
    eventually("and on the dashboard", SOON, || instances(&running).contains("set `ingest.anonymous`"));
    for (reason, count) in [("bad_id", 1.0), ("no_user", 1.0)] {
        let metric = format!("footfall_views_rejected_total{{reason=\"{reason}\"}}");
        assert_eq!(running.metric(Role::Ingest, 0, &metric), count, "{reason}");
    }
    browser.visit(&running.stack.url(Role::Dashboard, 0));
    browser.wait_for("#connection", "live", PATIENT);
    let shown = || browser.text("#instances");
    eventually("a person sees it", SOON, || shown().contains("views are refused, because they name no reader"));
    browser.speak("zh-CN");
    browser.reload();
    eventually("in Chinese", PATIENT, || shown().contains("因为没有指明读者"));

    // A site that may not read: its views count, and it is told what to set.
    browser.visit(&format!("{other}/elsewhere"));
    let wanted = format!("ingest.allowed_origins must name {other}");
    let mut said = String::new();
    eventually("it is said", SOON, || {
        said += &browser.said();
        said.contains(&wanted)
    });
    eventually("it is counted", SOON, || views(&running, "/elsewhere") == 1);
    assert_eq!(browser.text("#views"), "–");

    before_each_page(&browser, "Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', { value: true })");
    browser.visit(&format!("{site}/private"));
    eventually("who objects is told", SOON, || browser.said().contains("asks that nobody is followed"));
    assert_eq!(views(&running, "/private"), 0);
}

/// How a page is named: docs/site.md.
struct Named {
    address: String,
    canonical: Option<String>,
    article: Option<String>,
    name: String,
}

#[test]
fn a_page_is_named_as_the_table_says() {
    let table = std::fs::read_to_string(xtask::root().join("docs/examples/page-names.json")).expect("the table");
    let site = Site::new();
    let here = site.named();
    let port = here.rsplit(':').next().expect("a port").to_owned();
    let on_site = |address: &str| {
        address
            .replace("https://site.example:4/", "http://localhost:4/")
            .replace("https://www.site.example", &format!("http://www.localhost:{port}"))
            .replace("https://site.example", &here)
    };
    let table: Vec<BTreeMap<String, String>> = serde_json::from_str(&table).expect("cases");
    let table: Vec<Named> = table
        .iter()
        .map(|case| Named {
            address: on_site(&case["address"]),
            canonical: case.get("canonical").map(|canonical| on_site(canonical)),
            article: case.get("article").cloned(),
            name: case["name"].clone(),
        })
        .collect();
    let (mut running, browser) = start_with_browser(|_| {});
    let ingest = running.ingest();
    let heads: BTreeMap<String, String> = table
        .iter()
        .map(|case| {
            let target =
                case.address.strip_prefix(&here).and_then(|rest| rest.split('#').next()).expect("of this site");
            let article =
                case.article.as_ref().map(|article| format!("data-article=\"{article}\"")).unwrap_or_default();
            let canonical =
                case.canonical.as_ref().map(|canonical| format!("<link rel=\"canonical\" href=\"{canonical}\">"));
            let canonical = canonical.unwrap_or_default();
            (
                target.to_owned(),
                format!("<script defer src=\"{ingest}/footfall.js\" {article}></script>{canonical}{NUMBERS}"),
            )
        })
        .collect();
    site.serve(&ingest, move |path| {
        heads.get(path).cloned().unwrap_or_else(|| format!("<p>{path} is not in the table"))
    });

    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for case in &table {
        let times = expected.entry(case.name.clone()).or_default();
        *times += 1;
        browser.visit(&case.address);
        // Counted, and asked for under the same name.
        browser.wait_for("#views", &times.to_string(), PATIENT);
    }
    let total = "SELECT SUM(views) FROM article_counts";
    eventually("all in MySQL", SOON, || running.sql(total) == Some(table.len().to_string()));
    let rows = running.stack.mariadb.query("SELECT article, views FROM article_counts").expect("query");
    let counted: BTreeMap<String, u64> =
        rows.into_iter().map(|row| (row[0].clone(), row[1].parse().expect("a number"))).collect();
    assert_eq!(counted, expected);
}
