//! Nothing from outside ends a process by a panic. Every way by which something comes in, and where it is tried:
//!
//! | Way in | What is tried | Where |
//! | --- | --- | --- |
//! | environment | foreign and own variables that are not UTF-8, `HOME`, `TERM` and `PATH` unset, the largest number in every setting | `the_environment_...`, `shared/src/service/config.rs` |
//! | configuration and secret files | a folder, binary, huge, endless; a path that is not UTF-8 | `shared/src/service/config.rs`, `the_environment_...` |
//! | arguments | not UTF-8, the largest number | `what_the_tool_...` |
//! | standard input, output, error | closed, full, nobody reads, the reader is gone, a file at the limit of its size | `logs_...`, `what_the_tool_...` |
//! | clock | 1970, its first minutes, hours and days, behind 2038 and 2106, the last time that Linux takes (2232), jumps | `a_clock_...`, `shared/src/service/clock.rs`, `bin/dashboard/src/lists/json.rs` |
//! | limits | 64 open files | `few_files_...` |
//! | signals | two SIGTERMs, SIGINT, a signal at any time of the start | `an_echo_...` |
//! | stores | replies of Redis and MySQL with bytes changed, numbers made huge, cut off | `garbage::garbage_of_stores_...` |
//! | clients | bytes at random on every port, spoiled HTTP, WebSocket frames and PROXY headers | `garbage::garbage_of_clients_...` |
//! | journal folder | spoiled files, folders, links and pipes under the names of journals | `garbage::garbage_in_the_journal_...` |
//! | ledgers and CSV files | garbage | `what_the_tool_...` |
//!
//! A service that panics ends by SIGABRT, and a task of the tool that does leaves exit code 101 or a word of it on stderr.

mod garbage;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use footfall_drill::stack::Role;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Running, eventually, get, post, program, raw, start};

const PATIENCE: Duration = Duration::from_secs(20);
const SERVICES: [&str; 3] = ["ingest", "flusher", "dashboard"];

/// A service beside those of the stack, started in a way of its own; killed with its test.
struct Lone {
    name: String,
    child: Child,
    addresses: PathBuf,
}

impl Drop for Lone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lone {
    /// Starts a service on the stack's stores, after `first`, a line of shell, and with what `change` makes of its command.
    fn start(running: &Running, service: &str, name: &str, first: &str, change: impl FnOnce(&mut Command)) -> Self {
        let name = format!("{service}-{name}");
        let addresses = running.path(&format!("{name}.addresses"));
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &format!("{first}\nexec \"$0\" \"$@\"")])
            .arg(program(&format!("footfall-{service}")))
            .arg("--announce")
            .arg(&addresses)
            .env_clear()
            .envs(running.stack.env())
            .env("FOOTFALL_INGEST__JOURNAL", running.path(&format!("{name}.journal")))
            .env("FOOTFALL_INGEST__DRAIN_MS", "200")
            .env("FOOTFALL_DASHBOARD__DRAIN_MS", "200")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(running.path(&format!("logs/{name}.log"))).expect("created"));
        for listener in ["INGEST__LISTEN", "INGEST__ADMIN", "FLUSHER__ADMIN", "DASHBOARD__LISTEN", "DASHBOARD__ADMIN"] {
            command.env(format!("FOOTFALL_{listener}"), "127.0.0.1:0");
        }
        change(&mut command);
        Self { name, child: command.spawn().expect("it starts"), addresses }
    }

    /// The same for each service.
    fn start_all(running: &Running, name: &str, first: &str, mut change: impl FnMut(&mut Command)) -> Vec<Self> {
        SERVICES.iter().map(|service| Self::start(running, service, name, first, &mut change)).collect()
    }

    fn address(&mut self, which: &str) -> SocketAddr {
        let mut found = None;
        eventually(&format!("{} listens", self.name), PATIENCE, || {
            assert_eq!(self.child.try_wait().expect("a child"), None, "{} has ended", self.name);
            let text = fs::read_to_string(&self.addresses).unwrap_or_default();
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            found = lines.find(|(name, _)| *name == which).and_then(|(_, address)| address.parse().ok());
            found.is_some()
        });
        found.expect("just found")
    }

    fn url(&mut self, which: &str) -> String {
        format!("http://{}", self.address(which))
    }

    fn wait_ready(&mut self) {
        let url = format!("{}/readyz", self.url("admin"));
        eventually(&format!("{} is ready", self.name), PATIENCE, || get(&url).status == 200);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        eventually(&format!("{} ends", self.name), PATIENCE, || {
            ended = self.child.try_wait().expect("a child");
            ended.is_some()
        });
        ended.expect("just ended")
    }

    /// Alive; and after SIGTERM it ends as it should.
    fn assert_ends_well(&mut self) {
        assert_eq!(self.child.try_wait().expect("a child"), None, "{} has ended", self.name);
        self.signal(Signal::TERM);
        assert_eq!(self.wait().code(), Some(0), "{}", self.name);
    }
}

/// Alive all of them, and counting.
fn assert_well(services: &mut [Lone]) {
    for service in &mut *services {
        service.wait_ready();
        if service.name.starts_with("ingest") {
            let views = format!("{}/v1/views", service.url("listen"));
            assert_eq!(post(&views, r#"{"article":"a","user":"u"}"#).status, 204, "{}", service.name);
        }
    }
    for service in services {
        service.assert_ends_well();
    }
}

#[test]
fn logs_end_no_service_and_hold_none_up() {
    let running = start(|options| options.dashboards = 1);
    let mut services = vec![];
    services.extend(Lone::start_all(&running, "on-a-full-disk", "", |command| {
        command.stderr(File::options().write(true).open("/dev/full").expect("there is one"));
    }));
    services.extend(Lone::start_all(&running, "whose-reader-is-gone", "", |command| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        command.stderr(writer);
    }));
    let mut unread = vec![];
    services.extend(Lone::start_all(&running, "that-nobody-reads", "", |command| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        unread.push(reader);
        // So much that a pipe and the queue before it are full soon.
        command.stderr(writer).env("FOOTFALL_LOG__LEVEL", "debug");
    }));
    services.extend(Lone::start_all(&running, "closed", "exec <&- >&- 2>&-", |_| {}));
    // Of two kilobytes, one more than a file may have.
    let full = running.path("full.log");
    fs::write(&full, [b'#'; 2048]).expect("written");
    services.extend(Lone::start_all(&running, "that-may-not-grow", "ulimit -f 2", |command| {
        let log = File::options().append(true).open(&full).expect("it is there");
        command.stderr(log).env("FOOTFALL_INGEST__JOURNAL", "off");
    }));
    for service in &mut services {
        service.wait_ready();
        let (admin, name) = (service.address("admin"), service.name.clone());
        if !name.ends_with("that-nobody-reads") && !name.ends_with("on-a-full-disk") {
            continue;
        }
        eventually(&format!("{name} leaves lines out"), PATIENCE, || {
            // Each is a line.
            (0..50).for_each(|_| drop(raw(&admin.to_string(), b"?\r\n\r\n")));
            let text = get(&format!("http://{admin}/metrics")).body;
            let lines = text.lines().filter(|line| line.starts_with("footfall_log_lines_left_out_total{"));
            lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() > 0.0
        });
    }
    assert_well(&mut services);
    drop(unread);
}

#[test]
fn the_environment_ends_no_service() {
    let running = start(|options| options.dashboards = 1);
    let settings = serde_json::to_value(footfall_shared::service::config::Config::default()).expect("JSON");
    let mut services = Lone::start_all(&running, "in-a-strange-place", "cd / && unset HOME TERM PATH", |command| {
        command
            .env("X", OsStr::from_bytes(b"\xf6"))
            .env(OsStr::from_bytes(b"\xf6"), "x")
            .env("RUST_LOG", "=")
            .env("TZ", "?");
        command.env("LANG", "?").env("COLUMNS", "0").env("NOTIFY_SOCKET", "/dev/null").env("WATCHDOG_USEC", "?");
    });
    services.extend(Lone::start_all(&running, "of-large-numbers", "", |command| {
        for (section, settings) in settings.as_object().expect("sections") {
            for (name, _) in settings.as_object().into_iter().flatten().filter(|(_, value)| value.is_u64()) {
                // The largest that is not refused; the number of views in a batch is a promise to Redis.
                let largest = [u64::MAX, u64::from(u32::MAX), 31_536_000_000, 10_000, 50];
                let is_taken = |number: &&u64| {
                    let given = [(format!("FOOTFALL_{section}__{name}").to_uppercase(), number.to_string())];
                    footfall_shared::service::config::Config::load(None, given).is_ok()
                };
                let number = largest.iter().find(is_taken).unwrap_or_else(|| panic!("{section}.{name}"));
                let variable = format!("FOOTFALL_{section}__{name}").to_uppercase();
                if !variable.ends_with("__DRAIN_MS") && !variable.ends_with("__POLL_MS") {
                    command.env(variable, number.to_string());
                }
            }
        }
    }));
    assert_well(&mut services);

    for service in SERVICES {
        let output = Command::new(program(&format!("footfall-{service}")))
            .env("FOOTFALL_REDIS__URL", OsStr::from_bytes(b"redis://\xf6"))
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains("FOOTFALL_REDIS__URL: its name or its value is not UTF-8"), "{said}");
        let config = Command::new(program(&format!("footfall-{service}")))
            .arg("--config")
            .arg(OsStr::from_bytes(b"/\xf6"))
            .output()
            .expect("it starts");
        assert_eq!(config.status.code(), Some(78));
    }
}

#[test]
fn what_the_tool_cannot_write_it_says_and_what_nobody_reads_is_no_failure() {
    let running = start(|_| {});
    running.load("l.tsv", "--views 100 --articles 2 --users 4 --connections 2 --seed 1").finish();
    let ledger = running.path("l.tsv").display().to_string();
    let garbage = running.path("garbage").display().to_string();
    let tool = |arguments: &[&OsStr], stdout: Stdio, stderr: Stdio| {
        let mut command = running.stack.tool();
        let child = command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
        let output = child.expect("it starts").wait_with_output().expect("it ends");
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let full = || Stdio::from(File::options().write(true).open("/dev/full").expect("there is one"));
    let gone = || Stdio::from(std::io::pipe().expect("a pipe").1);
    let commands: [&[&str]; 8] = [
        &["check-config"],
        &["verify", "--ledger", &ledger],
        &["verify", "--live", "--seconds", "1"],
        &["quarantine", "list"],
        &["export"],
        &["init"],
        &["drill", "--list"],
        &["drill", "--scripts"],
    ];
    for command in commands {
        let arguments: Vec<&OsStr> = command.iter().map(OsStr::new).collect();
        let (status, said) = tool(&arguments, full(), Stdio::piped());
        assert!(
            status.code() == Some(69) && said.contains("cannot write to the standard output"),
            "{command:?}: {said}"
        );
        assert_eq!(tool(&arguments, full(), full()).0.code(), Some(69), "{command:?}");
        let (status, said) = tool(&arguments, gone(), Stdio::piped());
        assert!(status.success() && !said.contains("panicked"), "{command:?}: {status} {said}");
        assert!(tool(&arguments, gone(), gone()).0.success(), "{command:?}");
    }
    for help in [["--help"], ["--version"], ["help"]] {
        let arguments = help.map(OsStr::new);
        for stdout in [full(), gone()] {
            let (status, said) = tool(&arguments, stdout, Stdio::piped());
            assert!(status.code().is_some_and(|code| code < 3) && said.is_empty(), "{help:?}: {status} {said}");
        }
    }

    // Garbage comes to a sentence.
    let bytes: Vec<u8> = (0..200_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let head = b"# footfall ledger v1 seed=1 views=1\n".to_vec();
    let ledgers = [bytes.clone(), [head.clone(), bytes.clone()].concat(), [head, b"a\tb\n".to_vec()].concat(), vec![]];
    let csvs = [
        bytes,
        b"article,user,views\na,u,18446744073709551616\n".to_vec(),
        b"article,user,views\n\"a,u,1\n".to_vec(),
        b"article,views\n\xff,1\n".to_vec(),
        vec![],
    ];
    let garbage = OsStr::new(&garbage);
    for (command, files) in [(["verify", "--ledger"], &ledgers[..]), (["import", "--yes"], &csvs[..])] {
        for file in files {
            fs::write(garbage, file).expect("written");
            let (status, said) =
                tool(&[OsStr::new(command[0]), OsStr::new(command[1]), garbage], gone(), Stdio::piped());
            assert!(status.code() == Some(2) && said.starts_with("error: "), "{command:?}: {status} {said}");
        }
    }
    let strange = OsStr::from_bytes(b"\xf6");
    let (number, wait) = (OsStr::new("18446744073709551615"), OsStr::new("--wait"));
    for arguments in [
        &[strange][..],
        &[OsStr::new("erase"), OsStr::new("--user"), strange],
        &[OsStr::new("verify"), OsStr::new("--ledger"), OsStr::new(&ledger), wait, number],
        &[OsStr::new("init"), wait, number],
        &[OsStr::new("erase"), OsStr::new("--user"), OsStr::new("u"), wait, number],
        &[OsStr::new("verify"), OsStr::new("--live"), OsStr::new("--seconds"), number],
    ] {
        let (status, said) = tool(arguments, gone(), Stdio::piped());
        assert!(status.code() == Some(2) && !said.contains("panicked"), "{arguments:?}: {status} {said}");
    }
    let (status, said) = tool(&[OsStr::new("--config"), strange, OsStr::new("check-config")], gone(), Stdio::piped());
    assert!(status.code() == Some(78), "{said}");
}

#[test]
fn a_clock_may_stand_anywhere() {
    let mut running = start(|options| options.dashboards = 1);
    let folders = fs::read_dir("/usr/lib").expect("readable").flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let library = libraries.find(|library| library.exists()).expect("the package faketime is installed");
    let clock = running.path("clock");
    let set = |time: &str| fs::write(&clock, format!("{time}\n")).expect("written");
    // In seconds before or after the machine's clock.
    let now = i64::try_from(footfall_shared::service::clock::unix_ms() / 1_000).expect("in this century");
    let at = |unix_s: i64| format!("{:+}", unix_s - now);
    set(&at(600));
    let mut services = Lone::start_all(&running, "at-its-own-time", "", |command| {
        command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", &clock).env("FAKETIME_CACHE_DURATION", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("FOOTFALL_INGEST__ANONYMOUS", "true");
        // Each list is read anew at each time.
        command.env("FOOTFALL_READS__TTL_MS", "1");
    });
    for service in &mut services {
        service.wait_ready();
    }
    let (ingest, dashboard) = (services[0].url("listen"), services[2].url("listen"));
    // 1970 and its first minutes, hours and days; where 32 bits end; the last that Linux takes; and back.
    for unix_s in [600, 0, 59, 3_600, 26 * 3_600, 1 << 31, 1 << 32, 8_277_292_036, 600] {
        set(&at(unix_s));
        // To the hour: the clock goes on meanwhile.
        let hour = footfall_shared::service::clock::rfc3339(u64::try_from(unix_s).expect("after 1970") * 1_000)[..13]
            .to_owned();
        eventually(&format!("the clock stands at {unix_s}"), PATIENCE, || {
            let minute = get(&format!("{dashboard}/v1/minutes?last=1")).json();
            minute["minutes"][0]["from"].as_str().is_some_and(|from| from.starts_with(&hour))
        });
        assert_eq!(post(&format!("{ingest}/v1/views"), r#"{"article":"a","user":"u"}"#).status, 204, "{unix_s}");
        assert_eq!(post(&format!("{ingest}/v1/views"), r#"{"article":"a"}"#).status, 204, "{unix_s}");
        assert_eq!(get(&format!("{ingest}/v1/articles/a")).status, 200, "{unix_s}");
        for path in [
            "minutes",
            "minutes?last=1",
            "minutes?last=48",
            "minutes?last=1440",
            "articles?by=rise",
            "articles",
            "articles/a/hours?last=1",
            "articles/a/hours?last=1440",
            "stats",
            "history",
        ] {
            let answer = get(&format!("{dashboard}/v1/{path}"));
            assert_eq!(answer.status, 200, "{path} at {unix_s}: {}", answer.body);
        }
        let last = get(&format!("{dashboard}/v1/minutes?last=3")).json()["minutes"].as_array().map_or(0, Vec::len);
        assert!((1..=3).contains(&last), "{last} at {unix_s}");
    }
    let ten = get(&format!("{dashboard}/v1/minutes?last=48")).json();
    let minutes = ten["minutes"].as_array().expect("a list");
    assert_eq!((minutes.len(), minutes[0]["from"].as_str()), (11, Some("1970-01-01T00:00:00.000Z")), "{ten}");
    eventually("all is in MySQL", PATIENCE, || {
        running.sql("SELECT SUM(views) FROM article_counts").is_some_and(|views| views == "18")
    });
    for service in &mut services {
        service.assert_ends_well();
    }
}

#[test]
fn few_files_are_said_and_kept_for_the_stores() {
    let mut running = start(|options| options.dashboards = 1);
    running.stack.service(Role::Flusher, 0).terminate(PATIENCE).expect("it ends");
    let mut services = Lone::start_all(&running, "with-few-files", "ulimit -n 64", |_| {});
    for service in &mut services {
        service.wait_ready();
    }
    for service in [0, 2] {
        let (page, name) = (services[service].address("listen"), services[service].name.clone());
        let log = running.path(&format!("logs/{name}.log"));
        let said = fs::read_to_string(&log).expect("readable");
        assert!(said.contains("at most 32 clients are served at once"), "{said}");
        let taken: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(page).expect("the kernel takes it")).collect();
        thread::sleep(Duration::from_secs(3));
        assert_eq!(get(&format!("{}/readyz", services[service].url("admin"))).status, 200, "{name}");
        let lines = fs::read_to_string(&log).expect("readable").lines().count();
        assert!(lines < 40, "{name}: {lines} lines");
        drop(taken);
    }
    // Redis goes and comes back while clients sit on every place: there is still a file for it.
    let taken: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(services[0].address("listen")).expect("the kernel takes it")).collect();
    running.stack.redis.kill().expect("killed");
    running.stack.redis.restart().expect("restarted");
    drop(taken);
    // Until ingest has seen that they are gone, it closes a connection that is one too many.
    eventually("a client is let in", PATIENCE, || {
        let mut client = TcpStream::connect(services[0].address("listen")).expect("the kernel takes it");
        client.set_read_timeout(Some(Duration::from_millis(100))).expect("time-out");
        client.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    });
    assert_well(&mut services);
}

#[test]
fn an_echo_of_a_signal_does_not_cut_the_drain_short() {
    let running = start(|options| options.dashboards = 1);
    let long = |command: &mut Command| {
        command.env("FOOTFALL_INGEST__DRAIN_MS", "3000").env("FOOTFALL_DASHBOARD__DRAIN_MS", "3000");
    };
    for (name, signals) in [
        ("told-twice", [Signal::TERM, Signal::TERM]),
        ("interrupted-and-told", [Signal::INT, Signal::TERM]),
        ("told-and-interrupted", [Signal::TERM, Signal::INT]),
    ] {
        let mut service = Lone::start(&running, "ingest", name, "", long);
        service.wait_ready();
        let url = service.url("listen");
        for signal in signals {
            service.signal(signal);
            thread::sleep(Duration::from_millis(50));
        }
        thread::sleep(Duration::from_millis(500));
        assert_eq!(post(&format!("{url}/v1/views"), r#"{"article":"a","user":"u"}"#).status, 204, "{name}: it drains");
        assert_eq!(service.wait().code(), Some(0), "{name}");
    }
    // Whoever says it again after a while, or presses Ctrl-C twice, means it.
    for (name, signal, pause_ms) in [("told-again", Signal::TERM, 1_200), ("interrupted-twice", Signal::INT, 100)] {
        let mut service = Lone::start(&running, "ingest", name, "", long);
        service.wait_ready();
        let started = Instant::now();
        service.signal(signal);
        thread::sleep(Duration::from_millis(pause_ms));
        service.signal(signal);
        assert_eq!(service.wait().code(), Some(1), "{name}");
        assert!(started.elapsed() < Duration::from_millis(2_000), "{name}: {:?}", started.elapsed());
    }
    // However early it comes, it is a wish to end, and no more.
    for after_ms in [0, 5, 20, 50, 100, 300] {
        for mut service in Lone::start_all(&running, &format!("told-after-{after_ms}"), "", |_| {}) {
            thread::sleep(Duration::from_millis(after_ms));
            service.signal(Signal::TERM);
            let status = service.wait();
            assert!(status.success() || status.signal() == Some(Signal::TERM.as_raw()), "{}: {status}", service.name);
        }
    }
}
