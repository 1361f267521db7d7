//! What people see: the pages in a real Chromium, driven through chromedriver.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use footfall_drill::stack::{Role, StackOptions};
use footfall_sandbox::{Process, find_program};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use url::Url;

use crate::common::{Running, eventually, get, post, start};

/// For what the page learns from a service that runs.
const SOON: Duration = Duration::from_secs(3);
/// For a first start of the browser on a busy machine, and for a page to find a service that came back: it asks
/// after up to 15 s, see `lost` in app.js.
const PATIENT: Duration = Duration::from_secs(30);
/// An article that is code to whoever forgets that it is text.
const EVIL: &str = "<script>document.title='pwned'</script>";
const EVIL_PATH: &str = "%3Cscript%3Edocument.title%3D'pwned'%3C%2Fscript%3E";

/// A Chromium with one tab and a fresh profile.
struct Browser {
    /// None only while it is being dropped.
    client: Option<Client>,
    runtime: Runtime,
    driver: Process,
}

impl Browser {
    fn open(running: &Running, [browser, driver]: [PathBuf; 2]) -> Self {
        let home = running.path("browser");
        std::fs::create_dir(&home).expect("folder");
        let mut command = Command::new(driver);
        // The system chooses the port: one that a test finds free may be taken until the driver opens it.
        command.arg("--port=0").env("HOME", &home);
        let mut driver = Process::spawn(command, &running.path("logs/chromedriver.log")).expect("chromedriver starts");
        let log = driver.log().to_owned();
        let mut port = None;
        let announced = driver.wait_until(PATIENT, || {
            let text = std::fs::read_to_string(&log)?;
            port = text
                .split_once("successfully on port ")
                .and_then(|(_, rest)| rest.split_once('.'))
                .map(|(port, _)| port.to_owned());
            if port.is_some() { Ok(()) } else { Err(std::io::Error::other("it has not named its port")) }
        });
        announced.unwrap_or_else(|error| panic!("{error}"));
        let url = format!("http://127.0.0.1:{}", port.expect("wait_until succeeded"));

        let profile = format!("--user-data-dir={}", home.join("profile").display());
        let options = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": {
                "binary": browser,
                "args": [
                    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                    "--disable-background-networking", "--disable-component-update", "--disable-sync",
                    // Between driver and browser a pipe: it needs no port, and the browser ends when the driver does.
                    "--remote-debugging-pipe", &profile,
                ],
            },
        });
        let Value::Object(options) = options else { unreachable!("it is written with braces") };
        // One thread of our own, because the tests and all that they share block.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let client = runtime
            .block_on(ClientBuilder::new(HttpConnector::new()).capabilities(options).connect(&url))
            .unwrap_or_else(|error| panic!("chromium does not start: {error}"));
        Self { client: Some(client), runtime, driver }
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect("open until it is dropped")
    }

    /// Opens an address and waits until it is loaded.
    fn visit(&self, url: &str) {
        self.runtime.block_on(self.client().goto(url)).unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    /// What the body of a function answers in the page.
    #[track_caller]
    fn run(&self, script: &str) -> Value {
        let answer = self.runtime.block_on(self.client().execute(script, Vec::new()));
        answer.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// The text of an element as it is seen: nothing of what is hidden. Of an element that is not there, or not there
    /// any more, what can be no text: it may come.
    #[track_caller]
    fn text(&self, selector: &str) -> String {
        let text = self.runtime.block_on(async { self.client().find(Locator::Css(selector)).await?.text().await });
        text.unwrap_or_else(|error| {
            let is_missing = error.is_no_such_element() || error.is_stale_element_reference();
            assert!(is_missing, "{selector}: {error}");
            "(no such element)".to_owned()
        })
    }

    /// The whole number that an element shows.
    #[track_caller]
    fn number(&self, selector: &str) -> u64 {
        let text = self.text(selector);
        text.replace(',', "").parse().unwrap_or_else(|_| panic!("{selector} shows {text:?}, not a number"))
    }

    /// Waits until an element shows a text; answers how long that took.
    #[track_caller]
    fn wait_for(&self, selector: &str, wanted: &str, limit: Duration) -> Duration {
        let started = Instant::now();
        loop {
            let text = self.text(selector);
            if text == wanted {
                return started.elapsed();
            }
            assert!(started.elapsed() < limit, "{selector} shows {text:?}, not {wanted:?}, after {limit:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The errors in the browser's log since this was asked last: scripts that failed, what the page's policy refused,
    /// files that could not be loaded.
    #[track_caller]
    fn errors(&self) -> Vec<String> {
        let log = self.runtime.block_on(self.client().issue_cmd(BrowserLog));
        let log = log.unwrap_or_else(|error| panic!("the browser's log: {error}"));
        let lines = log.as_array().expect("a list of log lines").iter();
        lines.filter(|line| line["level"] == "SEVERE").map(|line| line["message"].to_string()).collect()
    }

    /// No errors, and also the proof that one would have been seen.
    #[track_caller]
    fn assert_no_errors(&self) {
        assert_eq!(self.errors(), Vec::<String>::new());
        self.run("const code = document.createElement('script'); code.textContent = '1'; document.body.append(code);");
        let errors = self.errors();
        assert!(errors.len() == 1 && errors[0].contains("Content Security Policy"), "{errors:?}");
    }
}

/// Ends the browser before its driver and its profile go.
impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            let closing = async { tokio::time::timeout(Duration::from_secs(10), client.close()).await };
            // If it fails, the end of the driver ends the browser.
            let _ = self.runtime.block_on(closing);
        }
        let _ = self.driver.kill();
    }
}

/// Chromium's own command, because W3C has none for the log: the lines since the last call.
#[derive(Debug)]
struct BrowserLog;

impl WebDriverCompatibleCommand for BrowserLog {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.expect("the session is open")))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({"type": "browser"}).to_string()))
    }
}

/// A stack and a browser that looks at it; the browser is dropped first.
fn start_with_browser(change: impl FnOnce(&mut StackOptions)) -> (Running, Browser) {
    let programs = [("chromium", "chromium"), ("chromedriver", "chromium-driver")].map(|(name, package)| {
        find_program(name).unwrap_or_else(|| {
            panic!("{name} is not installed: it is in the Debian package {package}, which `cargo xtask test` installs")
        })
    });
    let running = start(change);
    let browser = Browser::open(&running, programs);
    (running, browser)
}

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
    browser.wait_for("#connection", "live", SOON);
    browser.wait_for("#views", "0", SOON);
    browser.run("window.mark = 'not loaded again'");

    let view = json!({"article": EVIL, "user": "u"}).to_string();
    let views = vec![view; EVIL_VIEWS].join("\n");
    assert_eq!(post(&format!("{}/v1/views", running.ingest()), &views).status, 200);
    let load = format!("--views {LOAD_VIEWS} --articles 20 --users 100 --connections 8 --rate 1500");
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
            [cell("th span"), cell("td:nth-child(2)").replace(',', ""), cell("td:nth-child(3)")] == wanted[..]
        });
    }
    // It stays there: nothing that arrives later counts twice.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(browser.text("#views"), total);
    browser.wait_for("#status-title", "All is well", SOON);
    assert_eq!(browser.run("return document.title"), format!("{total} views · Footfall"));
    assert_eq!(browser.run("return window.mark"), "not loaded again");
    browser.assert_no_errors();
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

    // Hanging, its connections open: silence is noticed after 5 s, see SILENCE_MS_MAX in app.js.
    running.stack.service(Role::Dashboard, 0).pause().expect("pauses");
    assert_not_live(&browser, Duration::from_secs(5) + SOON);
    assert_eq!(post(&views, view).status, 204);
    running.stack.service(Role::Dashboard, 0).resume().expect("goes on");
    assert_live(&browser, PATIENT);
    browser.wait_for("#views", "3", SOON);
    assert_eq!(browser.run("return window.mark"), "not loaded again");
}

/// How faint the numbers are.
const OPACITY: &str = "return getComputedStyle(document.querySelector('#numbers > section')).opacity";

#[track_caller]
fn assert_live(browser: &Browser, limit: Duration) {
    let took = browser.wait_for("#connection", "live", limit);
    println!("live after {took:?}");
    browser.wait_for("#status-title", "All is well", PATIENT);
    assert_eq!(browser.run(OPACITY), "1");
}

#[track_caller]
fn assert_not_live(browser: &Browser, limit: Duration) {
    let took = browser.wait_for("#connection", "not connected", limit);
    println!("not connected after {took:?}");
    assert_eq!(browser.text("#status-title"), "Not connected to the dashboard");
    assert_eq!(browser.run(OPACITY), "0.5");
    let text = browser.text("body");
    assert!(!text.contains("live") && !text.contains("All is well"), "{text}");
}
