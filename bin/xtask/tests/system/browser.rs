//! What people see: the pages in a real Chromium, driven through chromedriver.

use std::time::{Duration, Instant};

use footfall_drill::stack::Role;
use serde_json::json;

use crate::common::{eventually, get, post};
use driver::{Browser, start_with_browser};

pub(crate) mod driver;
mod links;
mod looks;
mod snippet;
mod unknown;

/// For what the page learns from a service that runs, beside other tests.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// For a first start of the browser on a busy machine, and for a page to find a service that came back: it asks
/// after up to 15 s, see RETRY_MS_MAX in connection.js.
pub(crate) const PATIENT: Duration = Duration::from_secs(30);
/// An article that is code to whoever forgets that it is text.
const EVIL: &str = "<script>document.title='pwned'</script>";
const EVIL_PATH: &str = "%3Cscript%3Edocument.title%3D'pwned'%3C%2Fscript%3E";

#[test]
fn the_demo_page_stays_live_and_shows_names_as_text() {
    let (running, browser) = start_with_browser(|_| {});
    let ingest = running.ingest();

    browser.visit(&format!("{ingest}/demopage/yumo?usrid=1"));
    assert_eq!(browser.text("#views"), "1");
    browser.run("window.mark = 'not loaded again'");
    for user in [1, 2, 3] {
        assert_eq!(get(&format!("{ingest}/demopage/yumo?usrid={user}")).status, 200);
    }
    let counted = Instant::now();
    browser.wait_for("#views", "4", SOON);
    browser.wait_for("#readers", "3", SOON.saturating_sub(counted.elapsed()));
    println!("4 views and 3 readers are shown after {:?}", counted.elapsed());
    assert_eq!(browser.text("#state"), "live");
    assert_eq!(browser.run("return window.mark"), "not loaded again");

    browser.visit(&format!("{ingest}/demopage/{EVIL_PATH}?usrid={EVIL_PATH}"));
    assert_eq!((browser.text("h1"), browser.text("main b")), (EVIL.to_owned(), EVIL.to_owned()));
    // A script that ran would have left only its own word.
    assert_eq!(browser.run("return document.title"), EVIL);
    assert_eq!(browser.run("return document.scripts.length"), 1);
    // And the page asks for the numbers of just this article.
    assert_eq!(post(&format!("{ingest}/v1/views"), &json!({"article": EVIL, "user": "u"}).to_string()).status, 204);
    browser.wait_for("#views", "2", SOON);
    browser.assert_no_errors();
}

#[test]
fn the_dashboard_shows_what_mysql_has() {
    const EVIL_VIEWS: usize = 2_000;
    const LOAD_VIEWS: usize = 3_000;
    let (mut running, browser) = start_with_browser(|options| options.dashboards = 1);
    browser.visit(&running.stack.url(Role::Dashboard, 0));
    browser.wait_for("#connection", "live", PATIENT);
    browser.wait_for("#views", "0", SOON);
    browser.run("window.mark = 'not loaded again'");

    let view = json!({"article": EVIL, "user": "u"}).to_string();
    let views = vec![view; EVIL_VIEWS].join("\n");
    assert_eq!(post(&format!("{}/v1/views", running.ingest()), &views).status, 200);
    // For so long that a browser that has hardly any of the machine is asked more than once.
    let load = format!("--views {LOAD_VIEWS} --articles 20 --users 100 --connections 8 --rate 500");
    let mut load = running.load("ledger.tsv", &load);
    let mut shown = Vec::new();
    while load.is_running() {
        shown.push(browser.number("#views"));
    }
    load.finish();
    assert!(shown.is_sorted(), "the total went backwards: {shown:?}");
    let (before, after) = (EVIL_VIEWS as u64, (EVIL_VIEWS + LOAD_VIEWS) as u64);
    assert!(shown.iter().any(|views| before < *views && *views < after), "nothing moved during the load: {shown:?}");

    running.assert_verified(&["ledger.tsv"]);
    let sum = running.sql("SELECT SUM(views) FROM article_counts").expect("a sum");
    assert_eq!(sum, after.to_string());
    let total = "5,000";
    browser.wait_for("#views", total, SOON);
    browser.wait_for("#pending", "0", SOON);
    let users = running.sql("SELECT COUNT(DISTINCT user) FROM reader_counts").expect("a count");
    browser.wait_for("#readers", &users, SOON);
    let stored = running
        .stack
        .mariadb
        .query("SELECT article, views, readers FROM article_counts ORDER BY views DESC, article LIMIT 3")
        .expect("query");
    assert_eq!(stored[0][0], EVIL, "{stored:?}");
    for (line, wanted) in stored.iter().enumerate() {
        let cell = |cell: &str| browser.text(&format!("#top tr:nth-child({}) {cell}", line + 1));
        eventually(&format!("line {line} of the articles shows {wanted:?}"), SOON, || {
            [cell("th"), cell("td:nth-child(3)").replace(',', ""), cell("td:nth-child(4)")] == wanted[..]
        });
    }
    // It stays there: nothing that arrives later counts twice.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(browser.text("#views"), total);
    browser.wait_for("#status-title", "All systems operational", SOON);
    assert_eq!(browser.run("return document.title"), format!("{total} views · Footfall"));
    assert_eq!(browser.run("return window.mark"), "not loaded again");
    browser.assert_no_errors();
}

#[test]
fn a_keyboard_reaches_everything() {
    let (running, browser) = start_with_browser(|options| options.dashboards = 1);
    let dashboard = running.stack.url(Role::Dashboard, 0);
    browser.visit(&dashboard);
    assert_eq!(post(&format!("{}/v1/views", running.ingest()), r#"{"article":"yumo","user":"u"}"#).status, 204);
    browser.wait_for("#pending", "0", SOON);
    browser.wait_for("#top tr th", "yumo", SOON);
    looks::assert_a_keyboard_reaches_everything(&browser, &dashboard);
}

#[test]
fn the_dashboard_says_when_it_is_not_live() {
    let (mut running, browser) = start_with_browser(|options| options.dashboards = 1);
    browser.visit(&running.stack.url(Role::Dashboard, 0));
    let views = format!("{}/v1/views", running.ingest());
    let view = r#"{"article":"yumo","user":"1"}"#;
    assert_eq!(post(&views, view).status, 204);
    browser.wait_for("#views", "1", SOON);
    assert_live(&browser, SOON);
    browser.run("window.mark = 'not loaded again'");

    // Stopped: it says good-bye.
    let status = running.stack.service(Role::Dashboard, 0).terminate(Duration::from_secs(10)).expect("ends");
    assert!(status.success(), "{status}");
    assert_not_live(&browser, SOON);
    assert_eq!(post(&views, view).status, 204);
    running.stack.service(Role::Dashboard, 0).restart().expect("restarts");
    assert_live(&browser, PATIENT);
    browser.wait_for("#views", "2", SOON);

    // The page of an article has a connection of its own.
    browser.run("location.hash = '#/article/yumo'");
    browser.wait_for("#article-views", "2", SOON);
    browser.wait_for("#list tbody th", "1", SOON);
    // Hanging, its connections open: silence is noticed after 5 s, see SILENCE_MS_MAX in
    // connection.js.
    running.stack.service(Role::Dashboard, 0).pause().expect("pauses");
    assert_not_live(&browser, Duration::from_secs(5) + SOON);
    assert_eq!(post(&views, view).status, 204);
    running.stack.service(Role::Dashboard, 0).resume().expect("goes on");
    assert_live(&browser, PATIENT);
    browser.wait_for("#article-views", "3", SOON);
    browser.run("location.hash = '#/'");
    browser.wait_for("#views", "3", SOON);
    assert_eq!(browser.run("return window.mark"), "not loaded again");
}

/// How many things move.
const MOVING: &str = "return document.getAnimations().filter((animation) => animation.playState === 'running').length";

/// Whether the numbers are grey and hatched.
const LOOKS_OLD: &str = "const style = (element) => getComputedStyle(element);
    const main = document.getElementById('main');
    return [style(main).color === style(document.querySelector('footer p')).color, style(main).backgroundImage !== 'none']";

#[track_caller]
fn assert_live(browser: &Browser, limit: Duration) {
    let took = browser.wait_for("#connection", "live", limit);
    println!("live after {took:?}");
    browser.wait_for("#status-title", "All systems operational", PATIENT);
    assert_eq!(browser.run(LOOKS_OLD), json!([false, false]));
}

#[track_caller]
fn assert_not_live(browser: &Browser, limit: Duration) {
    let took = browser.wait_for("#connection", "reconnecting", limit);
    println!("reconnecting after {took:?}");
    assert_eq!(browser.text("#status-title"), "Connection to the dashboard lost");
    assert_eq!(browser.run(LOOKS_OLD), json!([true, true]));
    assert_eq!(browser.run(MOVING), 0);
    let text = browser.text("body");
    assert!(text.lines().all(|line| line != "live") && !text.contains("All systems operational"), "{text}");
}
