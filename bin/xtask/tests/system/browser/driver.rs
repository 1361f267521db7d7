//! A Chromium, driven through chromedriver.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use footfall_drill::packages;
use footfall_drill::stack::StackOptions;
use footfall_sandbox::{Process, find_program};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use url::Url;

use super::PATIENT;
use crate::common::{Running, Set, start, start_to_measure};

/// A Chromium with one tab and a fresh profile.
pub(crate) struct Browser {
    /// None only while it is being dropped.
    client: Option<Client>,
    runtime: Runtime,
    driver: Process,
}

impl Browser {
    pub(crate) fn open(running: &Running) -> Self {
        let home = running.path("browser");
        std::fs::create_dir(&home).expect("folder");
        // It takes a port that is free for IPv4, and ends if another has the same one for IPv6.
        let start = || start_driver(&home, &running.path("logs/chromedriver.log"));
        let started = start().or_else(|_| start()).or_else(|_| start());
        let (driver, url) = started.unwrap_or_else(|error| panic!("{error}"));
        let profile = format!("--user-data-dir={}", home.join("profile").display());
        let options = json!({
            "browserName": "chrome",
            // Beside other tests a browser may get no core for long. A test that waits for something says how long itself.
            "timeouts": { "script": 120_000 },
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": {
                "binary": find_program("chromium").expect("required above"),
                "args": [
                    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--lang=en",
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
    pub(crate) fn visit(&self, url: &str) {
        self.runtime.block_on(self.client().goto(url)).unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    /// Loads the page again.
    pub(crate) fn reload(&self) {
        self.runtime.block_on(self.client().refresh()).unwrap_or_else(|error| panic!("reload: {error}"));
    }

    /// Goes back to the page before.
    pub(crate) fn back(&self) {
        self.runtime.block_on(self.client().back()).unwrap_or_else(|error| panic!("back: {error}"));
    }

    /// Opens an address in a tab of its own, which is closed as soon as it is loaded.
    pub(crate) fn visit_in_a_tab(&self, url: &str) {
        let visit = async {
            let client = self.client();
            let before = client.window().await?;
            client.switch_to_window(client.new_window(true).await?.handle).await?;
            client.goto(url).await?;
            client.close_window().await?;
            client.switch_to_window(before).await
        };
        self.runtime.block_on(visit).unwrap_or_else(|error| panic!("{url} in a tab: {error}"));
    }

    /// What the body of a function answers in the page.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        let answer = self.runtime.block_on(self.client().execute(script, Vec::new()));
        answer.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// What a command of Chromium's own answers.
    #[track_caller]
    fn own(&self, path: &'static str, body: Value) -> Value {
        let answer = self.runtime.block_on(self.client().issue_cmd(Own { path, body }));
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[track_caller]
    pub(crate) fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.own("goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    /// Makes the page so wide; 0 leaves that to the window.
    #[track_caller]
    pub(crate) fn resize(&self, width: u32) {
        let height = if width < 600 { 844 } else { 900 };
        // They take room in some pages and not in others.
        self.devtools("Emulation.setScrollbarsHidden", json!({"hidden": true}));
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size);
    }

    /// What the system says that its person prefers.
    #[track_caller]
    pub(crate) fn prefer(&self, feature: &str, value: &str) {
        let media = json!({"features": [{"name": feature, "value": value}]});
        self.devtools("Emulation.setEmulatedMedia", media);
    }

    /// The language that the browser is set to.
    #[track_caller]
    pub(crate) fn speak(&self, language: &str) {
        let agent = self.run("return navigator.userAgent");
        self.devtools("Emulation.setUserAgentOverride", json!({"userAgent": agent, "acceptLanguage": language}));
    }

    /// Writes into a field and sends its form.
    #[track_caller]
    pub(crate) fn send(&self, selector: &str, text: &str) {
        let sending = async { self.client().find(Locator::Css(selector)).await?.send_keys(&format!("{text}\n")).await };
        self.runtime.block_on(sending).unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// The whole page as a picture, below `target/footfall-screenshots`.
    #[track_caller]
    pub(crate) fn picture(&self, name: &str) {
        let size = self.run("return [document.documentElement.clientWidth, document.documentElement.scrollHeight]");
        let clip = json!({"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1});
        let picture = self.devtools("Page.captureScreenshot", json!({"captureBeyondViewport": true, "clip": clip}));
        let folder = xtask::target_dir().join("footfall-screenshots");
        std::fs::create_dir_all(&folder).expect("a folder");
        let bytes = base64(picture["data"].as_str().expect("a picture"));
        std::fs::write(folder.join(format!("{name}.png")), bytes).expect("a file");
    }

    /// Presses keys one after the other, wherever the focus is.
    #[track_caller]
    pub(crate) fn press(&self, keys: &[Key]) {
        let mut actions = KeyActions::new("keyboard".to_owned());
        for key in keys {
            let value = char::from(*key);
            actions = actions.then(KeyAction::Down { value }).then(KeyAction::Up { value });
        }
        self.runtime.block_on(self.client().perform_actions(actions)).unwrap_or_else(|error| panic!("{error}"));
    }

    /// What axe-core finds wrong, a line each: which rule, and where.
    #[track_caller]
    pub(crate) fn violations(&self) -> Vec<String> {
        if self.run("return window.axe === undefined") == true {
            self.run(&axe());
        }
        let script = "const done = arguments[0]; axe.run().then(
            ({ violations }) => done(violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`))),
            (error) => done([`axe failed: ${error}`]))";
        let found = self.runtime.block_on(self.client().execute_async(script, Vec::new()));
        let found = found.unwrap_or_else(|error| panic!("axe: {error}"));
        found.as_array().expect("a list").iter().map(|line| line.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The text of an element as it is seen: nothing of what is hidden. Of an element that is not there, or not there
    /// any more, what can be no text: it may come.
    #[track_caller]
    pub(crate) fn text(&self, selector: &str) -> String {
        let text = self.runtime.block_on(async { self.client().find(Locator::Css(selector)).await?.text().await });
        text.unwrap_or_else(|error| {
            let is_missing = error.is_no_such_element() || error.is_stale_element_reference();
            assert!(is_missing, "{selector}: {error}");
            "(no such element)".to_owned()
        })
    }

    /// The whole number that an element shows.
    #[track_caller]
    pub(crate) fn number(&self, selector: &str) -> u64 {
        let text = self.text(selector);
        text.replace(',', "").parse().unwrap_or_else(|_| panic!("{selector} shows {text:?}, not a number"))
    }

    /// Waits until an element shows a text; answers how long that took.
    #[track_caller]
    pub(crate) fn wait_for(&self, selector: &str, wanted: &str, limit: Duration) -> Duration {
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

    /// Clicks on an element, as a person does.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        let clicking = async { self.client().find(Locator::Css(selector)).await?.click().await };
        self.runtime.block_on(clicking).unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Calls itself as the browsers of people do: by itself this one says that it is headless.
    pub(crate) fn pass_for_a_person(&self) {
        let agent = self.run("return navigator.userAgent.replace('Headless', '')");
        self.devtools("Emulation.setUserAgentOverride", json!({ "userAgent": agent }));
    }

    /// What was said in the browser's log, at any level, since it was asked last.
    #[track_caller]
    pub(crate) fn said(&self) -> String {
        self.log().iter().map(|line| format!("{}\n", line["message"])).collect()
    }

    #[track_caller]
    fn log(&self) -> Vec<Value> {
        self.own("se/log", json!({"type": "browser"})).as_array().expect("a list of log lines").clone()
    }

    /// The errors in the browser's log since this was asked last: scripts that failed, what the page's policy refused,
    /// files that could not be loaded.
    #[track_caller]
    pub(crate) fn errors(&self) -> Vec<String> {
        let log = self.log();
        let errors = log.iter().filter(|line| line["level"] == "SEVERE");
        errors.map(|line| line["message"].to_string()).collect()
    }

    /// No errors, and also the proof that one would have been seen.
    #[track_caller]
    pub(crate) fn assert_no_errors(&self) {
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

/// A command of Chromium's own, where W3C has none.
#[derive(Debug)]
struct Own {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Own {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.expect("the session is open"), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

/// Starts chromedriver; answers where it listens.
fn start_driver(home: &Path, log: &Path) -> std::io::Result<(Process, String)> {
    let mut command = Command::new(find_program("chromedriver").expect("required above"));
    // The system chooses the port: one that a test finds free may be taken until the driver opens it.
    command.arg("--port=0").env("HOME", home);
    let mut driver = Process::spawn(command, log)?;
    let mut port = None;
    driver.wait_until(PATIENT, || {
        let text = std::fs::read_to_string(log)?;
        port = text
            .split_once("successfully on port ")
            .and_then(|(_, rest)| rest.split_once('.'))
            .map(|(port, _)| port.to_owned());
        if port.is_some() { Ok(()) } else { Err(std::io::Error::other("it has not named its port")) }
    })?;
    Ok((driver, format!("http://127.0.0.1:{}", port.expect("wait_until succeeded"))))
}

/// A stack and a browser that looks at it. The browser is dropped first.
pub(crate) fn start_with_browser(change: impl FnOnce(&mut StackOptions)) -> (Running, Browser) {
    with_browser(start(with_bots(change)))
}

/// The same, while no other test has a stack.
pub(crate) fn start_with_browser_to_measure(change: impl FnOnce(&mut StackOptions)) -> (Running, Browser) {
    with_browser(start_to_measure(with_bots(change)))
}

/// This browser says that it is headless, and counts all the same.
fn with_bots(change: impl FnOnce(&mut StackOptions)) -> impl FnOnce(&mut StackOptions) {
    |options| {
        options.set("FOOTFALL_INGEST__BOTS", "bot");
        change(options);
    }
}

fn with_browser(running: Running) -> (Running, Browser) {
    packages::require(xtask::packages::BROWSER)
        .unwrap_or_else(|missing| panic!("{missing}\n`cargo xtask test` installs them."));
    let browser = Browser::open(&running);
    (running, browser)
}

/// axe-core, as the Python package of `tests/requirements.txt` has it.
fn axe() -> String {
    let library = xtask::target_dir().join("footfall-python/lib");
    let pythons = std::fs::read_dir(&library).into_iter().flatten().flatten();
    let file = pythons
        .map(|python| python.path().join("site-packages/axe_playwright_python/axe.min.js"))
        .find(|file| file.exists())
        .unwrap_or_else(|| {
            panic!("there is no axe_playwright_python below {}: `cargo xtask test` installs it", library.display())
        });
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The bytes that a text in base64 stands for.
fn base64(text: &str) -> Vec<u8> {
    let digit = |character: u8| match character {
        b'A'..=b'Z' => u32::from(character - b'A'),
        b'a'..=b'z' => u32::from(character - b'a') + 26,
        b'0'..=b'9' => u32::from(character - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let text = text.trim_end_matches('=').as_bytes();
    let groups = text.chunks(4).flat_map(|group| {
        let bits = (0..4).fold(0, |bits, index| bits << 6 | group.get(index).map_or(0, |character| digit(*character)));
        bits.to_be_bytes()[1..group.len()].to_vec()
    });
    groups.collect()
}
