//! How the pages look, in every state, and whether everybody can use them. The pictures are for eyes: they are in
//! `target/footfall-screenshots`.

use std::time::Duration;

use fantoccini::key::Key;
use footfall_drill::stack::Role;
use serde_json::{Value, json};

use super::driver::{Browser, start_with_browser};
use super::{EVIL, MOVING, PATIENT, SOON};
use crate::common::{Running, Set, post};

const TOKEN: &str = "6f1c0e9ab7d24835-everything";
const WIDTHS: [u32; 2] = [1440, 390];
const THEMES: [&str; 2] = ["light", "dark"];
const LANGUAGES: [&str; 2] = ["en", "zh-CN"];

/// Articles as people name them, and as nobody should; how often each was read.
fn articles() -> Vec<(String, u64)> {
    let long = "a-name-without-a-single-space-".repeat(9)[..255].to_owned();
    let names = [
        "How the river got its new bridge",
        "春运首日：北京西站发送旅客逾三十万人次",
        "The quiet return of the night train",
        long.as_str(),
        "كيف نقرأ الأخبار في زمن السرعة",
        EVIL,
        "Bread, again: a winter of sourdough",
        "为什么我们仍然需要地方报纸",
        "Letters to the editor, week 47",
        "docs/install/debian",
        "What the census does not count",
        "Chess: the end game of the century",
    ];
    names.iter().zip(1..).map(|(name, rank)| ((*name).to_owned(), 900 / rank)).collect()
}

/// Brings a day of reading: a little of it as views, the past as MySQL has it.
fn bring_readers(running: &mut Running) {
    let users = ["anna", "李雷", "b.okafor@news.example", "7f3a0c", "مريم"];
    for (article, views) in articles() {
        let view = |number| {
            let user = format!("{}{}", users[number as usize % users.len()], number % 17);
            json!({"article": article, "user": user}).to_string()
        };
        let body: Vec<String> = (0..views).map(view).collect();
        assert_eq!(post(&format!("{}/v1/views", running.ingest()), &body.join("\n")).status, 200);
    }
    running.sql(
        "INSERT INTO footfall_site_minutes SELECT FLOOR(UNIX_TIMESTAMP() / 60) - seq, 999, \
         ROUND(2100 + 900 * SIN(seq / 9) + 250 * SIN(seq * 1.7)) FROM seq_1_to_59",
    );
    let hours = "INSERT INTO footfall_article_hours (article, hour, views) SELECT article, FLOOR(UNIX_TIMESTAMP() / 3600) - seq, \
                 ROUND(600 + 420 * SIN(seq / 3.8) + 90 * SIN(seq * 1.3)) FROM footfall_articles, seq_1_to_47";
    running.sql(hours);
}

/// Uses the switches of the header.
#[track_caller]
fn choose(browser: &Browser, theme: &str, language: &str) {
    browser.run(&format!(
        "const theme = document.getElementById('theme');
        theme.value = '{theme}';
        theme.dispatchEvent(new Event('change'));
        if (document.documentElement.lang !== '{language}') document.getElementById('language').click();"
    ));
}

/// Pictures in each width, theme and language; nothing may stick out, and in Chinese no English may be left.
#[track_caller]
fn look(browser: &Browser, name: &str, styles: &[(&str, &str)]) {
    for (theme, language) in styles {
        choose(browser, theme, language);
        // For what is read anew in the other language.
        std::thread::sleep(Duration::from_millis(250));
        for width in WIDTHS {
            browser.resize(width);
            let sizes =
                browser.run("const page = document.documentElement; return [page.scrollWidth, page.clientWidth]");
            assert_eq!(sizes, json!([width, width]), "{name} sticks out at {width} px");
            browser.picture(&format!("{name}-{width}-{theme}-{language}"));
        }
        if *language == "zh-CN" {
            assert_eq!(browser.run(ENGLISH), json!([]), "{name} is not all Chinese");
        }
    }
}

/// Texts of two English words or more, but for names, what is to be typed, and errors in MySQL's own words.
const ENGLISH: &str = r"const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) {
        const text = walker.currentNode.data.replace(/footfall verify|mysql( at \S+)?: .*/, '');
        if (/[A-Za-z]{2,} [a-z]{2,}/.test(text) && !walker.currentNode.parentElement.closest('[translate=no], template, noscript'))
            found.push(text);
    }
    return found";

fn all_styles() -> Vec<(&'static str, &'static str)> {
    LANGUAGES.iter().flat_map(|language| THEMES.iter().map(move |theme| (*theme, *language))).collect()
}

/// No violation in either theme.
#[track_caller]
fn assert_usable(browser: &Browser, name: &str) {
    for theme in THEMES {
        choose(browser, theme, "en");
        let violations = browser.violations();
        assert!(violations.is_empty(), "{name}, {theme}: {}", violations.join("\n"));
    }
}

#[test]
fn every_page_looks_right_and_can_be_used_by_everybody() {
    let (mut running, browser) = start_with_browser(|options| {
        options.dashboards = 1;
        options.set("FOOTFALL_DASHBOARD__TOKEN", TOKEN);
    });
    bring_readers(&mut running);
    let load = running.load("l.tsv", "--views 1000000 --articles 3 --users 50 --connections 2 --rate 25");
    let dashboard = running.stack.url(Role::Dashboard, 0);
    browser.resize(WIDTHS[0]);
    let some = [("light", "en"), ("dark", "zh-CN")];

    // As the system says, until somebody chooses.
    let login = format!("{dashboard}/login");
    browser.prefer("prefers-color-scheme", "dark");
    browser.speak("zh-CN,zh,en");
    browser.visit(&login);
    let chosen =
        "const page = getComputedStyle(document.body); return [document.documentElement.lang, page.backgroundColor]";
    assert_eq!(browser.run(chosen), json!(["zh-CN", "rgb(21, 22, 27)"]));
    browser.prefer("prefers-reduced-motion", "reduce");
    browser.speak("en");
    browser.visit(&login);
    assert_eq!(browser.run(chosen), json!(["en", "rgb(251, 250, 247)"]));

    // Who reads what is for those with the token; the page says so, and where to show it.
    browser.visit(&format!("{dashboard}/#/readers"));
    browser.wait_for("#list .problem span", "A token is required to see who reads what.", SOON);
    assert_eq!(browser.run("const link = document.querySelector('#list a'); link.click(); return link.hash"), "");
    super::eventually("the form", SOON, || browser.text("h1") == "Log in");
    browser.send("#token", "wrong");
    browser.wait_for("#failure span", "Invalid token.", SOON);
    look(&browser, "login", &some);
    assert_usable(&browser, "login");
    choose(&browser, "light", "en");
    browser.send("#token", TOKEN);
    let refused = browser.errors();
    assert!(refused.iter().all(|error| error.contains("status of 401")), "{refused:?}");

    browser.wait_for("#connection", "live", PATIENT);
    browser.wait_for("#status-title", "All systems operational", PATIENT);
    assert_eq!(browser.run(MOVING), 0, "something moves for who wants no motion");
    // For lines that are more than dots.
    std::thread::sleep(Duration::from_secs(2));
    look(&browser, "overview", &all_styles());
    assert_usable(&browser, "overview");

    browser.resize(WIDTHS[0]);
    let names = articles();
    for (page, hash, ready) in [
        ("articles", "#/articles".to_owned(), "#list th a"),
        ("article", format!("#/article/{}", percent(&names[0].0)), "#list th a"),
        ("article-long", format!("#/article/{}", percent(&names[3].0)), "#list th a"),
        ("readers", "#/readers".to_owned(), "#list th a"),
        ("reader", format!("#/reader/{}", percent("anna0")), "#list th a"),
    ] {
        browser.run(&format!("location.hash = {}", json!(hash)));
        super::eventually(page, SOON, || browser.text(ready) != "(no such element)");
        look(&browser, page, &some);
        if page != "article-long" {
            assert_usable(&browser, page);
        }
        browser.resize(WIDTHS[0]);
    }
    assert_eq!(browser.errors(), Vec::<String>::new());

    browser.run("location.hash = '#/'");
    drop(load);
    running.stack.mariadb.kill().expect("killed");
    super::eventually("degraded", PATIENT, || browser.text("#status-title").starts_with("Degraded"));
    look(&browser, "degraded", &all_styles());
    assert_usable(&browser, "degraded");

    let ended = running.stack.service(Role::Dashboard, 0).terminate(Duration::from_secs(10));
    assert!(ended.expect("ends").success());
    browser.wait_for("#connection", "reconnecting", SOON);
    look(&browser, "disconnected", &all_styles());
    assert_usable(&browser, "disconnected");
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// All that a keyboard must reach, in the order of the page.
const REACHABLE: &str = "return [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex]')]
    .filter((element) => element.tabIndex >= 0 && !element.disabled && element.checkVisibility() && element.closest('details:not([open]) > :not(summary)') === null)
    .map(NAME)";
const FOCUSED: &str = "const element = document.activeElement; return element === document.body ? null : NAME(element)";

fn with_name(script: &str) -> String {
    script.replace(
        "NAME",
        "((element) => element.id || element.getAttribute('href') || element.className || element.tagName)",
    )
}

/// On the page of now, with nothing that moves.
#[track_caller]
pub(super) fn assert_a_keyboard_reaches_everything(browser: &Browser, dashboard: &str) {
    let reachable = browser.run(&with_name(REACHABLE));
    let focused = || browser.run(&with_name(FOCUSED));
    let mut reached = Vec::new();
    for _ in 0..60 {
        browser.press(&[Key::Tab]);
        match focused() {
            Value::Null => break,
            name => reached.push(name),
        }
    }
    assert_eq!(Value::from(reached), reachable);
    assert_eq!(reachable[0], "skip");
    assert!(reachable.as_array().is_some_and(|all| all.len() > 12), "{reachable}");

    // The switches.
    browser.run("document.getElementById('language').focus()");
    browser.press(&[Key::Enter]);
    assert_eq!(browser.run("return document.documentElement.lang"), "zh-CN");
    browser.wait_for("#status-title", "一切正常", SOON);
    assert_eq!(focused(), "language");
    browser.press(&[Key::Enter, Key::Tab, Key::Down, Key::Down]);
    assert_eq!(browser.run("return document.documentElement.lang + document.documentElement.dataset.theme"), "endark");

    // A bar at a time, a tab at a time. Two bars before the newest minute nothing was viewed, even if that has just begun.
    browser.run("document.querySelector('.plot').focus()");
    browser.press(&[Key::Left, Key::Left]);
    let read = browser.run("return document.querySelector('.plot').getAttribute('aria-valuetext')");
    assert!(read.as_str().is_some_and(|read| read.ends_with(": 0 views")), "{read}");
    browser.run("document.getElementById('by-views').focus()");
    browser.press(&[Key::Left]);
    assert_eq!(focused(), "by-rise");
    assert_eq!(browser.run("return document.getElementById('by-rise').getAttribute('aria-selected')"), "true");

    // Everything is remembered; the skip link skips.
    browser.visit(dashboard);
    assert_eq!(browser.run("return document.documentElement.lang + document.documentElement.dataset.theme"), "endark");
    browser.press(&[Key::Tab, Key::Enter, Key::Tab]);
    assert_eq!(focused(), "plot");
}
