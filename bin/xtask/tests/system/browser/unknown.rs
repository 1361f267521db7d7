//! What is not known is not drawn as a number: on a page of a site, and on the dashboard, while stores are away.

use std::time::Duration;

use fantoccini::key::Key;
use footfall_drill::stack::Role;
use serde_json::json;

use super::driver::{Browser, start_with_browser};
use super::snippet::{NUMBERS, Site};
use super::{PATIENT, SOON};
use crate::common::{Set, eventually, post};

/// How many minutes are drawn, and how many of them as not known.
const MINUTES: &str =
    "return [document.querySelectorAll('.plot rect').length, document.querySelectorAll('.plot rect.unknown').length]";
/// How many answers about articles this page has had.
const ANSWERS: &str = "return performance.getEntriesByType('resource')
    .filter(({ name, responseEnd }) => name.includes('/v1/articles/') && responseEnd > 0).length";

#[track_caller]
fn assert_verdict(browser: &Browser, level: &str, says: &str) {
    let verdict =
        "const verdict = document.querySelector('.verdict'); return [verdict?.dataset.level, verdict?.innerText ?? '']";
    eventually(&format!("the conservation check is {level}"), PATIENT, || {
        let verdict = browser.run(verdict);
        let text = verdict[1].as_str().expect("a text");
        verdict[0] == level && text.contains(says) && text.contains("as of ")
    });
}

#[test]
fn what_is_not_known_is_not_drawn_as_a_number() {
    let site = Site::new();
    let (mut running, browser) = start_with_browser(|options| {
        options.dashboards = 1;
        options.set("FOOTFALL_INGEST__ANONYMOUS", "true");
        options.set("FOOTFALL_INGEST__ALLOWED_ORIGINS", &site.url());
        // Nothing is cached any more when it is asked for.
        options.set("FOOTFALL_READS__TTL_MS", "300");
        options.set("FOOTFALL_READS__WARM_TTL_MS", "300");
    });
    let ingest = running.ingest();
    let tag = format!("<script defer src=\"{ingest}/footfall.js\"></script>{NUMBERS}");
    site.serve(&ingest, move |_| tag.clone());
    let views = format!("{ingest}/v1/views");
    let send = |count: usize| {
        let view = |number| json!({"article": "popular", "user": format!("u{}", number % 10)}).to_string();
        assert_eq!(post(&views, &(0..count).map(view).collect::<Vec<_>>().join("\n")).status, 200);
    };
    send(50);
    eventually("stored", PATIENT, || running.sql("SELECT SUM(views) FROM article_counts").as_deref() == Some("50"));
    let dashboard = running.stack.url(Role::Dashboard, 0);
    browser.visit(&dashboard);
    browser.wait_for("#views", "50", SOON);
    eventually("all minutes are known", PATIENT, || browser.run(MINUTES) == json!([60, 0]));
    assert_verdict(&browser, "ok", "Balanced");

    // MySQL away. What waits is a part, and the page of a site leaves it.
    running.stack.mariadb.kill().expect("killed");
    std::thread::sleep(Duration::from_secs(1));
    send(8);
    browser.visit(&site.url());
    eventually("two answers", PATIENT, || browser.run(ANSWERS) == 2);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!([browser.text("#popular"), browser.text("#readers"), browser.text("#views")], ["–"; 3]);
    browser.visit(&format!("{ingest}/demopage/popular?usrid=u1"));
    assert_eq!([browser.text("#views"), browser.text("#readers")], ["at least 9", "–"]);
    browser.visit(&dashboard);
    assert_verdict(&browser, "unknown", "Currently unknown");
    browser.visit(&format!("{dashboard}/#/article/popular"));
    browser.wait_for("#article-views", "≥ 9", PATIENT);
    assert_eq!([browser.text("#article-readers"), browser.text("#article-pending")], ["–"; 2]);
    assert!(browser.text("#article-note").contains("only a part of its views is known"));
    assert_eq!(browser.run("return document.body.classList.contains('old-article')"), true);

    // Of a dashboard that is started now the total is known, since nothing was flushed; minutes are not, whose time it has
    // not seen.
    browser.visit("about:blank");
    let service = running.stack.service(Role::Dashboard, 0);
    service.kill().expect("killed");
    service.restart().expect("restarted");
    browser.visit(&dashboard);
    browser.wait_for("#views", "60", PATIENT);
    browser.wait_for("#pending", "10", SOON);
    eventually("minutes are not known", PATIENT, || browser.run(MINUTES)[1].as_u64() >= Some(59));
    assert_eq!(browser.run("return document.querySelector('#books').hidden"), true);
    browser.run("document.querySelector('.plot').focus()");
    browser.press(&[Key::Left]);
    let read = browser.run("return document.querySelector('.plot').getAttribute('aria-valuetext')");
    assert!(read.as_str().is_some_and(|read| read.contains("unknown, at least")), "{read}");
    assert!(browser.violations().is_empty(), "{:?}", browser.violations());
    running.stack.mariadb.restart().expect("restarted");
    browser.wait_for("#status-title", "All systems operational", PATIENT);
    eventually("all minutes are known again", PATIENT, || browser.run(MINUTES) == json!([60, 0]));
    assert_verdict(&browser, "ok", "Balanced");

    // Redis away: nothing flows that anybody could know of.
    let _load = running.load("l.tsv", "--views 1000000 --articles 3 --users 50 --connections 2 --rate 25");
    eventually("a rate", PATIENT, || browser.text("#rate").parse::<f64>().is_ok_and(|rate| rate > 5.0));
    running.stack.redis.kill().expect("killed");
    browser.wait_for("#rate", "–", PATIENT);
    std::thread::sleep(Duration::from_secs(3));
    let facts = browser.run("return [...document.querySelectorAll('.fact')].map((fact) => fact.textContent)");
    assert_eq!(facts, json!(["– views/s", "– views/s", "– views/s"]));
    assert!(browser.text("#views").starts_with("≥ "), "{}", browser.text("#views"));
    assert_eq!([browser.text("#pending"), browser.text("#lag"), browser.text("#redis-hits")], ["–"; 3]);
    assert_verdict(&browser, "unknown", "Currently unknown");
    let title = browser.run("return document.title");
    assert_eq!(title, "Footfall");
}
