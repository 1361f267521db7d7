//! What the tests of the whole system share: a stack in a folder of its own, HTTP, load and verification.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use footfall_drill::stack::{Role, Stack, StackOptions};
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// A stack that is gone, with its data, at the end of the test.
pub(crate) struct Running {
    pub(crate) stack: Stack,
    dir: TempDir,
    _turn: Turn,
}

/// The machine, for the time of a test.
enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// A failed test shows what the services said last.
impl Drop for Running {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for log in std::fs::read_dir(self.dir.path().join("logs")).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(log.path()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("--- {}", log.file_name().display());
            for line in &lines[lines.len().saturating_sub(30)..] {
                eprintln!("{line}");
            }
        }
    }
}

/// Read by tests that do not mind the load of others, written by those that measure.
static MACHINE: RwLock<()> = RwLock::new(());

/// Options of a stack in a temporary folder; the programs are those that were built with this test.
pub(crate) fn options(dir: &TempDir) -> StackOptions {
    let mut options = StackOptions::new(dir.path(), program("."));
    options.dashboards = 0;
    options.set("FOOTFALL_INGEST__DRAIN_MS", "2000");
    options
}

pub(crate) trait Set {
    fn set(&mut self, name: &str, value: &str);
}

impl Set for StackOptions {
    fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }
}

/// Starts a stack with changed options, beside those of other tests.
pub(crate) fn start(change: impl FnOnce(&mut StackOptions)) -> Running {
    let guard = MACHINE.read().unwrap_or_else(PoisonError::into_inner); // A failed test has had its turn too.
    launch(Turn::Shared { _guard: guard }, change)
}

/// The same, while no other test has a stack: for what measures time or memory, or needs the machine's full speed.
pub(crate) fn start_to_measure(change: impl FnOnce(&mut StackOptions)) -> Running {
    let guard = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    launch(Turn::Alone { _guard: guard }, change)
}

fn launch(turn: Turn, change: impl FnOnce(&mut StackOptions)) -> Running {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut options = options(&dir);
    change(&mut options);
    let stack = Stack::start(options).unwrap_or_else(|error| panic!("{error:#}"));
    Running { stack, dir, _turn: turn }
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

pub(crate) fn get(url: &str) -> Answer {
    request("GET", url, &[], b"")
}

pub(crate) fn post(url: &str, body: &str) -> Answer {
    request("POST", url, &[], body.as_bytes())
}

/// One request over a connection of its own, as bytes: nothing is corrected on the way.
pub(crate) fn request(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let rest = url.strip_prefix("http://").expect("http URL");
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut head = format!(
        "{method} {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n",
        if path.is_empty() { "/" } else { path }
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if method == "POST" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    raw(host, &[head.as_bytes(), body].concat())
}

/// Sends bytes and reads the answer until the server closes.
pub(crate) fn raw(host: &str, bytes: &[u8]) -> Answer {
    exchange(TcpStream::connect(host).expect("connect"), bytes)
}

/// The same over a connection that is there.
pub(crate) fn exchange(mut stream: TcpStream, bytes: &[u8]) -> Answer {
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("time-out");
    let mut writer = stream.try_clone().expect("clone");
    let bytes = bytes.to_vec();
    // Beside reading, because a server may answer before it has read everything.
    let writing = std::thread::spawn(move || drop(writer.write_all(&bytes)));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer); // A reset after the answer is no loss of it.
    writing.join().expect("writer");
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// A connection from this address, one of 127.0.0.0/8: each of these is another client.
pub(crate) fn connect_from(address: Ipv4Addr, host: &str) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let connected = runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((address, 0).into())?;
        socket.connect(host.parse().expect("an address")).await?.into_std()
    });
    let stream = connected.unwrap_or_else(|error| panic!("from {address}: {error}"));
    stream.set_nonblocking(false).expect("blocking");
    stream
}

/// A connection that is kept and asked again and again: what many requests are made over.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    address: Ipv4Addr,
    host: String,
    /// Lines that each of its requests has.
    pub(crate) headers: String,
}

impl Client {
    pub(crate) fn new(url: &str) -> Self {
        Self::from(Ipv4Addr::LOCALHOST, url)
    }

    /// One that comes from this address.
    pub(crate) fn from(address: Ipv4Addr, url: &str) -> Self {
        let host = url.strip_prefix("http://").expect("http URL").to_owned();
        let stream = connect_from(address, &host);
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("time-out");
        Self { stream: BufReader::new(stream), address, host, headers: String::new() }
    }

    pub(crate) fn get(&mut self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{}\r\n", self.host, self.headers))
    }

    pub(crate) fn post(&mut self, path: &str, body: &str) -> (u16, String) {
        let (host, headers, length) = (&self.host, &self.headers, body.len());
        self.ask(&format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"))
    }

    /// Status and body; 0 if the connection broke. Then, and when the server ends it with its answer, there is a new one.
    fn ask(&mut self, request: &str) -> (u16, String) {
        let mut ask = || {
            self.stream.get_mut().write_all(request.as_bytes()).ok()?;
            let (mut status, mut length, mut is_last) = (None, 0, false);
            loop {
                let mut line = String::new();
                self.stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
                let line = line.trim_end().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                status = status.or_else(|| line.split(' ').nth(1).and_then(|status| status.parse().ok()));
                length = line.strip_prefix("content-length: ").and_then(|text| text.parse().ok()).unwrap_or(length);
                is_last |= line == "connection: close";
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).ok()?;
            Some((status?, String::from_utf8(body).ok()?, is_last))
        };
        let (status, body, is_last) = ask().unwrap_or((0, String::new(), true));
        if is_last {
            let headers = std::mem::take(&mut self.headers);
            *self = Self { headers, ..Self::from(self.address, &format!("http://{}", self.host)) };
        }
        (status, body)
    }
}

/// Tells the threads of a test that it is over, a failed one too.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An address for a server that cannot choose a port itself: of 127.0.0.0/8 one that no other process of tests has, and
/// a port that the kernel gives to nobody by itself.
pub(crate) fn own_address(port: u16) -> SocketAddr {
    assert!(port > 60_999, "{port} may be in use");
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, 1 + high, middle, low], port))
}

/// The built program of this name.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its program");
    test.parent().and_then(Path::parent).expect("tests are built into target/PROFILE/deps").join(name)
}

/// Tries until the check holds, and answers how long that took.
pub(crate) fn eventually(what: &str, limit: Duration, mut check: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !check() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    started.elapsed()
}

impl Running {
    pub(crate) fn ingest(&self) -> String {
        self.stack.url(Role::Ingest, 0)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An article's numbers, as soon as they are known: on a busy machine a store may not answer in time.
    pub(crate) fn article(&self, article: &str) -> serde_json::Value {
        let url = format!("{}/v1/articles/{article}", self.ingest());
        let mut numbers = serde_json::Value::Null;
        eventually("the numbers are known", Duration::from_secs(10), || {
            numbers = get(&url).json();
            numbers["views"].is_u64()
        });
        numbers
    }

    /// The first value of a query.
    pub(crate) fn sql(&mut self, sql: &str) -> Option<String> {
        let rows = self.stack.mariadb.query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.into_iter().next().and_then(|row| row.into_iter().next())
    }

    /// A metric of a service, summed over its labels; 0 while it has none.
    pub(crate) fn metric(&mut self, role: Role, index: usize, name: &str) -> f64 {
        self.stack.service(role, index).metric(name).expect("metrics")
    }

    /// A number of `INFO` from Redis.
    pub(crate) fn redis_info(&self, field: &str) -> u64 {
        let info = self.stack.redis.query(&["INFO", "everything"]).expect("INFO").join("\n");
        let line = info.lines().find_map(|line| line.trim().strip_prefix(field)?.strip_prefix(':').map(str::to_owned));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("{field} is not in {info}"))
    }

    /// Numbers of `SHOW GLOBAL STATUS` from MariaDB, added up.
    pub(crate) fn mysql_status(&self, names: &str) -> u64 {
        let rows = self.stack.mariadb.query(&format!("SHOW GLOBAL STATUS LIKE '{names}'")).expect("status");
        let numbers: Vec<u64> = rows.iter().filter_map(|row| row.get(1)?.parse().ok()).collect();
        assert!(!numbers.is_empty(), "there is no {names}");
        numbers.iter().sum()
    }

    /// Starts `footfall load` against all ingests.
    pub(crate) fn load(&self, ledger: &str, arguments: &str) -> Load {
        let urls: Vec<String> =
            (0..self.stack.count(Role::Ingest)).map(|index| self.stack.url(Role::Ingest, index)).collect();
        self.load_at(&urls.join(","), ledger, arguments)
    }

    /// Starts `footfall load` against these URLs.
    pub(crate) fn load_at(&self, urls: &str, ledger: &str, arguments: &str) -> Load {
        let mut command = self.stack.tool();
        command
            .args(["load", "--url", urls, "--ledger"])
            .arg(self.path(ledger))
            .args(arguments.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        Load { child: command.spawn().expect("footfall load starts") }
    }

    /// Runs `footfall verify`; answers whether all is well, and the report.
    pub(crate) fn verify(&self, ledgers: &[&str]) -> (bool, String) {
        let mut command = self.stack.tool();
        command.arg("verify");
        for ledger in ledgers {
            command.arg("--ledger").arg(self.path(ledger));
        }
        output(command)
    }

    /// Nothing missing and nothing extra.
    #[track_caller]
    pub(crate) fn assert_verified(&self, ledgers: &[&str]) {
        let (fine, report) = self.verify(ledgers);
        assert!(fine, "{report}");
        assert!(report.contains("0 missing, 0 extra"), "{report}");
    }
}

pub(crate) fn output(mut command: Command) -> (bool, String) {
    let output = command.output().expect("the tool starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Load under way; ended with its test.
pub(crate) struct Load {
    child: Child,
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill(); // Only if a test failed before it was over.
        let _ = self.child.wait();
    }
}

impl Load {
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    /// Waits for its end; answers its summary.
    pub(crate) fn finish(mut self) -> String {
        let mut summary = String::new();
        self.child.stdout.take().expect("piped").read_to_string(&mut summary).expect("read");
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "footfall load: {status}\n{summary}");
        println!("{summary}");
        summary
    }
}
