//! Behind a load balancer, as docs/haproxy.cfg and docs/nginx.conf have it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use footfall_drill::stack::Role;
use footfall_sandbox::{Process, Signal};
use xtask::unpacked::{HAPROXY, NGINX, Unpacked};

use crate::common::{Set, eventually, get, output, own_address, post, raw, start};
use crate::viewer::Viewer;

const PATIENCE: Duration = Duration::from_secs(20);

fn sample(path: &str) -> String {
    fs::read_to_string(xtask::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn command(packages: &Unpacked, name: &str) -> Command {
    packages.command(name).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn the_samples_are_valid() {
    let mut haproxy = command(&HAPROXY, "haproxy");
    haproxy.args(["-c", "-f"]).arg(xtask::root().join("docs/haproxy.cfg"));
    let (valid, said) = output(haproxy);
    assert!(valid && !said.contains("[WARNING]"), "{said}");

    // What a Debian has around the files of conf.d, without its paths.
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut around = format!("pid {};\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n", path("pid"));
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        around += &format!("{kind}_temp_path {};\n", path(kind));
    }
    around += &format!("include {};\n}}\n", xtask::root().join("docs/nginx.conf").display());
    let file = folder.path().join("nginx.conf");
    fs::write(&file, around).expect("written");
    let mut nginx = command(&NGINX, "nginx");
    nginx.args(["-e", "stderr", "-t", "-c"]).arg(&file);
    let (valid, said) = output(nginx);
    assert!(valid && !said.contains("[warn]"), "{said}");
}

/// Starts HAProxy as the sample has it, with these addresses and other changes; answers its process and its URL.
fn start_haproxy(
    folder: &Path,
    port: u16,
    ingests: [&str; 2],
    dashboard: &str,
    changes: &[(&str, &str)],
) -> (Process, String) {
    let front = own_address(port);
    let mut config = sample("docs/haproxy.cfg");
    for (of_sample, ours) in [
        ("bind :80\n", &format!("bind {front}\n")),
        ("10.0.0.1:8000\n", &format!("{}\n", ingests[0])),
        ("10.0.0.2:8000\n", &format!("{}\n", ingests[1])),
        ("10.0.0.3:8001\n", &format!("{dashboard}\n")),
    ] {
        assert_eq!(config.matches(of_sample).count(), 1, "{of_sample}");
        config = config.replace(of_sample, ours);
    }
    for (of_sample, other) in changes {
        assert!(config.contains(of_sample), "{of_sample}");
        config = config.replace(of_sample, other);
    }
    let file = folder.join("haproxy.cfg");
    fs::write(&file, config).expect("written");
    let mut haproxy = command(&HAPROXY, "haproxy");
    haproxy.arg("-db").arg("-f").arg(&file);
    let mut process = Process::spawn(haproxy, &folder.join("haproxy.log")).expect("haproxy starts");
    process.wait_until(PATIENCE, || TcpStream::connect(front).map(drop)).expect("haproxy listens");
    (process, format!("http://{front}"))
}

#[test]
fn a_rolling_restart_behind_haproxy_fails_no_request() {
    const VIEWS: usize = 30_000;
    /// The default, for which the sample is made.
    const DRAIN: Duration = Duration::from_secs(5);
    let mut running = start(|options| {
        options.ingests = 2;
        options.dashboards = 1;
        options.set("FOOTFALL_INGEST__DRAIN_MS", &DRAIN.as_millis().to_string());
    });
    let address = |role, index| running.stack.url(role, index).replace("http://", "");
    let ingests = [address(Role::Ingest, 0), address(Role::Ingest, 1)];
    let dashboard = address(Role::Dashboard, 0);
    let (_haproxy, front) = start_haproxy(&running.path("logs"), 61_080, [&ingests[0], &ingests[1]], &dashboard, &[]);

    // Each path finds its service.
    assert_eq!(post(&format!("{front}/v1/views"), r#"{"article":"a b/c","user":"u"}"#).status, 204);
    assert_eq!(get(&format!("{front}/demopage/yumo?usrid=u")).status, 200);
    assert_eq!(get(&format!("{front}/v1/articles/a%20b%2Fc")).json()["views"], 1);
    for path in ["/", "/realtime"] {
        assert!(get(&format!("{front}{path}")).body.contains("app.js"), "{path}");
    }
    assert!(get(&format!("{front}/v1/articles/yumo/readers")).json()["readers"].is_array());
    assert_eq!(Viewer::open(&front, "/realtime").message()["type"], "snapshot");

    let arguments = format!("--views {VIEWS} --rate 2000 --articles 1000 --users 10000 --connections 32");
    let mut load = running.load_at(&front, "ledger.tsv", &arguments);
    std::thread::sleep(Duration::from_secs(1));
    for index in 0..2 {
        let ready = format!("{}/readyz", running.stack.url(Role::Ingest, index));
        let service = running.stack.service(Role::Ingest, index);
        service.process().signal(Signal::TERM).expect("asked to end");
        eventually("it says that it is stopping", PATIENCE, || {
            let answer = get(&ready);
            answer.status == 503 && answer.body.contains("stopping")
        });
        // A balancer that has not noticed yet finds somebody.
        std::thread::sleep(DRAIN * 2 / 5);
        assert_eq!(get(&ready).status, 503);
        assert!(service.process().wait(PATIENCE).expect("ended").success());
        service.restart().expect("restarted");
        service.wait_ready(PATIENCE).expect("ready");
        // Until the balancer knows it too: then it gets views again.
        let accepted = "footfall_views_accepted_total";
        let took = eventually("views again", PATIENCE, || running.metric(Role::Ingest, index, accepted) > 0.0);
        println!("ingest {index} was ready, and asked again after {took:?}");
    }
    assert!(load.is_running(), "the load ended before the restarts");
    let summary = load.finish();
    let ledger = fs::read_to_string(running.path("ledger.tsv")).expect("ledger");
    assert_eq!(ledger.matches("\tacknowledged").count(), VIEWS, "a request failed:\n{summary}");
    running.assert_verified(&["ledger.tsv"]);
}

/// Answers `/readyz`, breaks every other request off without an answer, and tells of each.
fn broken_server() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut line = String::new();
            // A check that was given up has no line.
            if BufReader::new(&stream).read_line(&mut line).is_err() {
                continue;
            }
            if line.starts_with("GET /readyz ") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            } else if sender.send(line).is_err() {
                return;
            }
        }
    });
    (address, requests)
}

#[test]
fn what_counts_is_not_sent_twice_by_haproxy() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (server, requests) = broken_server();
    let (_haproxy, front) = start_haproxy(folder.path(), 61_081, [&server, &server], &server, &[]);
    assert_eq!(post(&format!("{front}/v1/views"), r#"{"article":"a","user":"u"}"#).status, 502);
    for path in ["/demopage/a?usrid=u", "/v1/pixel.gif?article=a&user=u", "/v1/articles/a"] {
        assert!(get(&format!("{front}{path}")).status >= 500, "{path}");
    }
    let mut tries: BTreeMap<String, u32> = BTreeMap::new();
    for line in requests.try_iter() {
        *tries.entry(line.split(' ').nth(1).unwrap_or_default().to_owned()).or_default() += 1;
    }
    let tries: Vec<(&str, u32)> = tries.iter().map(|(path, count)| (&**path, *count)).collect();
    let expected =
        [("/demopage/a?usrid=u", 1), ("/v1/articles/a", 4), ("/v1/pixel.gif?article=a&user=u", 1), ("/v1/views", 1)];
    assert_eq!(tries, expected);
}

/// The sentence in which a proxy says whose connection it is, and a view by a person without a name.
fn announced_view(client: &str) -> Vec<u8> {
    let body = r#"{"article":"a"}"#;
    format!(
        "PROXY TCP4 {client} 203.0.113.1 4711 80\r\nPOST /v1/views HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
         User-Agent: Firefox\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn the_proxy_protocol_names_the_client() {
    let mut running = start(|options| {
        options.dashboards = 1;
        options.set("FOOTFALL_INGEST__ANONYMOUS", "true");
        options.set("FOOTFALL_HTTP__TRUSTED_PROXIES", "127.0.0.9");
        options.set("FOOTFALL_HTTP__PROXY_PROTOCOL", "true");
    });
    let address = |role| running.stack.url(role, 0).replace("http://", "");
    let (ingest, dashboard) = (address(Role::Ingest), address(Role::Dashboard));
    let logs = running.path("logs");
    let haproxy = |port, changes: &[(&str, &str)]| start_haproxy(&logs, port, [&ingest, &ingest], &dashboard, changes);
    // Here it believes whoever connects, and passes on whose connection it is by the protocol alone.
    let (_announces, front) = haproxy(
        61_082,
        &[
            ("    option forwardfor\n", ""),
            ("    use_backend", "    tcp-request connection expect-proxy layer4\n    use_backend"),
            ("default-server check", "default-server source 127.0.0.9 send-proxy-v2 check-send-proxy check"),
        ],
    );
    for client in ["203.0.113.7", "203.0.113.8", "203.0.113.7"] {
        assert_eq!(raw(&front.replace("http://", ""), &announced_view(client)).status, 204);
    }
    let sums = "SELECT CONCAT(views, ' by ', readers) FROM article_counts WHERE article = 'a'";
    eventually("three views by two readers", PATIENCE, || running.sql(sums).as_deref() == Some("3 by 2"));

    // Nobody else may say who they are, nor has to.
    assert_eq!(raw(&ingest, &announced_view("203.0.113.9")).status, 400);
    assert_eq!(post(&format!("{}/v1/views", running.ingest()), r#"{"article":"b","user":"u"}"#).status, 204);
    let unannounced = "footfall_connections_unannounced_total";
    assert_eq!(running.metric(Role::Ingest, 0, unannounced), 0.0);

    // A proxy that does not say it gets nothing.
    let (_silent, front) = haproxy(61_083, &[("default-server check", "default-server source 127.0.0.9 check")]);
    assert!(post(&format!("{front}/v1/views"), r#"{"article":"c","user":"u"}"#).status >= 500);
    assert!(running.metric(Role::Ingest, 0, unannounced) > 0.0);
}
