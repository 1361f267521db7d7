//! Behind a load balancer, as docs/examples/haproxy.cfg and docs/examples/nginx.conf have it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use footfall_drill::stack::Role;
use footfall_sandbox::{Process, Signal};
use footfall_shared::service::paths::{self, id_in};
use xtask::unpacked::{HAPROXY, NGINX, Unpacked};

use crate::common::{Answer, Set, eventually, get, output, own_address, post, raw, request, start};
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
    haproxy.args(["-c", "-f"]).arg(xtask::root().join("docs/examples/haproxy.cfg"));
    let (valid, said) = output(haproxy);
    assert!(valid && !said.contains("[WARNING]"), "{said}");

    let folder = tempfile::tempdir().expect("temporary folder");
    let file = around_nginx(folder.path(), &xtask::root().join("docs/examples/nginx.conf"));
    let mut nginx = command(&NGINX, "nginx");
    nginx.args(["-e", "stderr", "-t", "-c"]).arg(&file);
    let (valid, said) = output(nginx);
    assert!(valid && !said.contains("[warn]"), "{said}");
}

/// What a Debian has around the files of conf.d, without its paths, and for one user and one process.
fn around_nginx(folder: &Path, site: &Path) -> PathBuf {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut around = format!("pid {};\ndaemon off;\nmaster_process off;\n", path("nginx.pid"));
    around += "error_log stderr;\nevents {}\nhttp {\naccess_log off;\n";
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        around += &format!("{kind}_temp_path {};\n", path(kind));
    }
    around += &format!("include {};\n}}\n", site.display());
    let file = folder.join("nginx.conf");
    fs::write(&file, around).expect("written");
    file
}

/// A sample with these addresses instead of its own.
fn with_addresses(sample: &str, listen: [&str; 2], ingests: [&str; 2], dashboard: &str) -> String {
    let mut config = sample.to_owned();
    for (of_sample, ours) in [
        (listen[0], listen[1]),
        ("10.0.0.1:8000", ingests[0]),
        ("10.0.0.2:8000", ingests[1]),
        ("10.0.0.3:8001", dashboard),
    ] {
        assert_eq!(config.matches(of_sample).count(), 1, "{of_sample}");
        config = config.replace(of_sample, ours);
    }
    config
}

/// Starts nginx as the sample has it, with these addresses; answers its process and its URL.
pub(crate) fn start_nginx(folder: &Path, port: u16, ingests: [&str; 2], dashboard: &str) -> (Process, String) {
    let front = own_address(port);
    let listen = ["listen 80;", &format!("listen {front};")];
    let site = folder.join("footfall.conf");
    fs::write(&site, with_addresses(&sample("docs/examples/nginx.conf"), listen, ingests, dashboard)).expect("written");
    let mut nginx = command(&NGINX, "nginx");
    nginx.args(["-e", "stderr", "-c"]).arg(around_nginx(folder, &site));
    let mut process = Process::spawn(nginx, &folder.join("nginx.log")).expect("nginx starts");
    process.wait_until(PATIENCE, || TcpStream::connect(front).map(drop)).expect("nginx listens");
    (process, format!("http://{front}"))
}

/// Starts HAProxy as the sample has it, with these addresses and other changes; answers its process and its URL.
pub(crate) fn start_haproxy(
    folder: &Path,
    port: u16,
    ingests: [&str; 2],
    dashboard: &str,
    changes: &[(&str, &str)],
) -> (Process, String) {
    let front = own_address(port);
    let listen = ["bind :80\n", &format!("bind {front}\n")];
    let mut config = with_addresses(&sample("docs/examples/haproxy.cfg"), listen, ingests, dashboard);
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
fn what_counts_is_sent_once() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (server, requests) = broken_server();
    let (_haproxy, haproxy) = start_haproxy(folder.path(), 61_081, [&server, &server], &server, &[]);
    let (_nginx, nginx) = start_nginx(folder.path(), 61_084, [&server, &server], &server);
    // HAProxy asks four times what may be repeated, nginx each server once.
    for (front, reads) in [(haproxy, 4), (nginx, 2)] {
        assert_eq!(post(&format!("{front}/v1/views"), r#"{"article":"a","user":"u"}"#).status, 502);
        for path in ["/demopage/a?usrid=u", "/v1/pixel.gif?article=a&user=u", "/v1/articles/a"] {
            // To nginx a server that has failed is away for a second, and its seconds are whole ones.
            if reads == 2 {
                std::thread::sleep(Duration::from_millis(2_100));
            }
            assert!(get(&format!("{front}{path}")).status >= 500, "{path}");
        }
        let mut tries: BTreeMap<String, u32> = BTreeMap::new();
        for line in requests.try_iter() {
            *tries.entry(line.split(' ').nth(1).unwrap_or_default().to_owned()).or_default() += 1;
        }
        let tries: Vec<(&str, u32)> = tries.iter().map(|(path, count)| (&**path, *count)).collect();
        let expected = [
            ("/demopage/a?usrid=u", 1),
            ("/v1/articles/a", reads),
            ("/v1/pixel.gif?article=a&user=u", 1),
            ("/v1/views", 1),
        ];
        assert_eq!(tries, expected, "{front}");
    }
}

/// Answers every request with its own name and the head that it got, as it came.
fn mirror(name: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let lines = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
                let head: Vec<String> = lines.collect();
                let body = format!("{name}\n{}", head.join("\n"));
                // A request for the head only must not get a body.
                let sent = if head.first().is_some_and(|line| line.starts_with("HEAD ")) { "" } else { &*body };
                let _ = stream.write_all(
                    format!("HTTP/1.1 200 {name}\r\nX-Seen: {name}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{sent}", body.len())
                        .as_bytes(),
                );
            });
        }
    });
    address
}

/// Whose a path is, by the list: whatever is not ingest's is the dashboard's.
fn owner(path: &str) -> &'static str {
    if paths::INGEST.iter().any(|form| id_in(form, path).is_some()) { "ingest" } else { "dashboard" }
}

#[test]
fn every_path_finds_its_service_as_it_was_sent() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (ingest, dashboard) = (mirror("ingest"), mirror("dashboard"));
    let (_haproxy, haproxy) = start_haproxy(folder.path(), 61_085, [&ingest, &ingest], &dashboard, &[]);
    let (_nginx, nginx) = start_nginx(folder.path(), 61_086, [&ingest, &ingest], &dashboard);
    // Ids that look like paths once they are decoded, or hold what has a meaning in addresses.
    const IDS: [&str; 12] = [
        "a",
        "club%2Freaders",
        "club%2freaders",
        "%2Fclub%2Freaders",
        "%2Fvisit%2Fopening%2Fhours",
        "%2Fv1%2Fviews",
        "%2F..%2Fx",
        "%2Fa%2F%2Fb%2F",
        "a%3Fb%23c%25d",
        "a+b%20c",
        "%E6%98%A5",
        ".well-known",
    ];
    let with_ids = |form: &str| -> Vec<String> {
        let form = form.replace("...", "").replace("{file}", "app.js");
        let one = |id: &str| form.replace("{article}", id).replace("{user}", id);
        if form.contains('{') { IDS.iter().map(|id| one(id)).collect() } else { vec![form] }
    };
    let listed = paths::INGEST.iter().chain(&paths::DASHBOARD).flat_map(|form| with_ids(form));
    let others = [
        "/v1/views/",
        "//v1/views",
        "/v1//views",
        "/V1/views",
        "/v1/views.gif",
        "/v1/pixelxgif",
        "/demopage",
        "/demopage/a/b//c",
        "/footfall.js/",
        "/assets/demopage.jsx",
        "/v1/articles/a/b",
        "/v1/articles//a",
        "/x/../v1/views",
        "/demopage/../v1/stats",
        "/v1/articles/a/../b",
        "/nothing",
    ];
    let mut tried = 0;
    for (front, host) in
        [&haproxy, &nginx].into_iter().flat_map(|front| [(front, "count.example"), (front, "count.example:8080")])
    {
        let address = front.strip_prefix("http://").expect("an HTTP URL");
        let ask = |method: &str, target: &str| -> Answer {
            raw(
                address,
                format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                    .as_bytes(),
            )
        };
        eventually("both services are seen", PATIENCE, || {
            ["/v1/views", "/"].iter().all(|path| ask("GET", path).status == 200)
        });
        for path in listed.clone().chain(others.map(str::to_owned)) {
            for query in ["", "?", "?x=/v1/articles/a/readers", "?x=a%2Fb"] {
                let target = format!("{path}{query}");
                let answer = ask("GET", &target);
                let (name, head) = answer.body.split_once('\n').unwrap_or_default();
                assert_eq!(name, owner(&path), "{front} {host} {target}: {answer:?}");
                let line = head.lines().next().unwrap_or_default();
                assert_eq!(line, format!("GET {target} HTTP/1.1"), "{front}");
                let header = |name: &str| {
                    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
                };
                assert_eq!(header("Host"), Some(host), "{front} {target}");
                assert!(header("X-Forwarded-For").is_some_and(|client| client.starts_with("127.")), "{head}");
                tried += 1;
            }
            for method in ["HEAD", "POST", "OPTIONS"] {
                assert_eq!(ask(method, &path).header("X-Seen"), Some(owner(&path)), "{front} {method} {path}");
            }
        }
    }
    assert!(tried > 500, "{tried}");
}

#[test]
fn an_article_is_counted_and_read_whatever_it_is_called() {
    let running = start(|options| {
        options.dashboards = 1;
        options.set("FOOTFALL_DASHBOARD__TOKEN", crate::access::TOKEN);
    });
    let address = |role| running.stack.url(role, 0).replace("http://", "");
    let (ingest, dashboard) = (address(Role::Ingest), address(Role::Dashboard));
    let logs = running.path("logs");
    let (_haproxy, haproxy) = start_haproxy(&logs, 61_087, [&ingest, &ingest], &dashboard, &[]);
    let (_nginx, nginx) = start_nginx(&logs, 61_088, [&ingest, &ingest], &dashboard);
    for front in [haproxy, nginx] {
        for name in ["/club/readers", "/visit/opening/hours", "/a/../b", "//", "/v1/views", "c#d?e%f", "春 x"] {
            let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let before = get(&format!("{front}/v1/articles/{encoded}")).json();
            assert_eq!(before["article"], name, "{front}");
            assert_eq!(get(&format!("{front}/v1/pixel.gif?article={encoded}&user=u")).status, 200, "{front} {name}");
            assert_eq!(get(&format!("{front}/demopage/{encoded}?usrid=u")).status, 200, "{front} {name}");
            let after = get(&format!("{front}/v1/articles/{encoded}")).json();
            let views = |numbers: &serde_json::Value| numbers["views"].as_u64();
            assert_eq!(views(&after), views(&before).map(|views| views + 2), "{front} {name}");
            // What the dashboard says of it is its own.
            let hours = get(&format!("{front}/v1/articles/{encoded}/hours")).json();
            assert_eq!(hours["hours"].as_array().map(Vec::len), Some(48), "{front} {name}: {hours}");
        }
        // A page of this address may open a WebSocket and log in, others may not.
        let host = front.strip_prefix("http://").expect("an HTTP URL");
        for (origin, is_ours) in [(&*front, true), ("http://evil.example", false), ("http://127.0.0.1", false)] {
            let opened = Viewer::try_open(&front, "/realtime", &format!("Origin: {origin}\r\n"));
            assert_eq!(
                opened.as_ref().err().map(|status| status.contains(" 403 ")),
                (!is_ours).then_some(true),
                "{host} {origin}"
            );
            let form = format!("token={}", crate::access::TOKEN);
            let entered = request("POST", &format!("{front}/login"), &[("Origin", origin)], form.as_bytes());
            assert_eq!(entered.status, if is_ours { 303 } else { 403 }, "{host} {origin}");
        }
        let script = get(&format!("{front}/footfall.js"));
        assert_eq!(
            (script.status, script.header("content-type")),
            (200, Some("text/javascript; charset=utf-8")),
            "{front}"
        );
    }
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
