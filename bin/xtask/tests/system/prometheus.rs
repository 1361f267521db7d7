//! A real Prometheus reads the services and the project's rules, and an alert fires in a real outage.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use footfall_drill::stack::Role;
use footfall_sandbox::Process;
use serde_json::Value;
use xtask::unpacked::PROMETHEUS;

use crate::common::{eventually, get, own_address, post, raw, start};

const PATIENCE: Duration = Duration::from_secs(20);
const ROLES: [(Role, &str); 3] = [(Role::Ingest, "8010"), (Role::Flusher, "8011"), (Role::Dashboard, "8012")];

/// The alert of the outage below.
const ALERT: &str = "FootfallMySQLUnreachable";

fn document(name: &str) -> String {
    let path = xtask::root().join("docs/prometheus").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Configuration and rules as they are, but for addresses and for time: minutes become seconds, because nobody waits for
/// minutes in a test. That the rules fire after the right minutes is tested by alerts_test.yaml.
fn write_sped_up(folder: &Path, admins: &[SocketAddr]) {
    let mut configuration = document("prometheus.yaml").replace(": 15s", ": 1s");
    for ((_, port), admin) in ROLES.iter().zip(admins) {
        let of_sample = format!("[127.0.0.1:{port}]");
        assert_eq!(configuration.matches(&of_sample).count(), 1, "{of_sample}");
        configuration = configuration.replace(&of_sample, &format!("['{admin}']"));
    }
    fs::write(folder.join("prometheus.yaml"), configuration).expect("written");
    let mut rules = document("alerts.yaml");
    for (from, to) in [
        ("for: 1m\n", "for: 3s\n"),
        ("for: 2m\n", "for: 3s\n"),
        ("for: 5m\n", "for: 3s\n"),
        ("for: 10m\n", "for: 3s\n"),
        ("[2m]", "[10s]"),
        ("[5m]", "[10s]"),
        ("[10m:15s]", "[10s:1s]"),
    ] {
        assert!(rules.contains(from), "{from}");
        rules = rules.replace(from, to);
    }
    fs::write(folder.join("alerts.yaml"), rules).expect("written");
}

/// What is wrong with a page of metrics, to `promtool`; it finds fault with names and helps too.
fn faults(metrics: &str) -> String {
    let mut promtool = PROMETHEUS.command("promtool").unwrap_or_else(|error| panic!("{error:#}"));
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().expect("promtool starts");
    child.stdin.take().expect("piped").write_all(metrics.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
    if said.is_empty() && !output.status.success() { output.status.to_string() } else { said }
}

#[test]
fn an_outage_is_an_alert_and_its_end_is_the_end_of_it() {
    let mut running = start(|options| options.dashboards = 1);
    let views = format!("{}/v1/views", running.ingest());
    assert_eq!(post(&views, r#"{"article":"a","user":"u"}"#).status, 204);
    let admins = ROLES.map(|(role, _)| running.stack.service(role, 0).admin());
    for admin in admins {
        let metrics = get(&format!("http://{admin}/metrics")).body;
        assert!(metrics.contains("\nfootfall_"), "{metrics}");
        assert_eq!(faults(&metrics), "", "{admin}");
    }
    assert!(faults("# TYPE footfall_x counter\nfootfall_x 1\n").contains("footfall_x"), "it finds faults");

    let folder = running.path("prometheus");
    fs::create_dir(&folder).expect("a folder");
    write_sped_up(&folder, &admins);
    let address = own_address(61_090);
    let mut command = PROMETHEUS.command("prometheus").unwrap_or_else(|error| panic!("{error:#}"));
    command.arg(format!("--config.file={}", folder.join("prometheus.yaml").display()));
    command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
    command.arg(format!("--web.listen-address={address}"));
    let mut prometheus = Process::spawn(command, &running.path("logs/prometheus.log")).expect("prometheus starts");
    let connect = || std::net::TcpStream::connect(address).map(drop);
    prometheus.wait_until(PATIENCE, connect).expect("prometheus listens");
    eventually("prometheus is ready", PATIENCE, || get(&format!("http://{address}/-/ready")).status == 200);

    // To this version of HTTP it answers in one piece.
    let ask = |path: &str| {
        let request = format!("GET /api/v1/{path} HTTP/1.0\r\n\r\n");
        raw(&address.to_string(), request.as_bytes()).json()["data"].clone()
    };
    let list = |value: Value| value.as_array().cloned().unwrap_or_default();
    // The value of a query that has one.
    let query = |query: &str| {
        let found = list(ask(&format!("query?query={query}"))["result"].clone());
        found.first().and_then(|first| first["value"][1].as_str()?.parse::<f64>().ok())
    };
    let firing = || {
        let alerts = list(ask("alerts")["alerts"].clone()).into_iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };

    eventually("all three are scraped", PATIENCE, || query("sum(up)") == Some(3.0));
    eventually("the view is seen", PATIENCE, || query("footfall_views_accepted_total") == Some(1.0));
    eventually("the flush is seen", PATIENCE, || query("footfall_flush_views_total") == Some(1.0));
    let loaded = list(ask("rules")["groups"].clone()).iter().flat_map(|group| list(group["rules"].clone())).count();
    assert_eq!(loaded, document("alerts.yaml").matches("- alert: ").count());
    // Twice as long as an alert waits before it fires. Before the first scrape, all services were down to Prometheus.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(firing(), [""; 0], "before the outage");
    let was_near = format!("count(max_over_time(ALERTS{{alertname=%22{ALERT}%22}}[1m]))");
    assert_eq!(query(&was_near), None, "not even pending, since the start");

    running.stack.mariadb.kill().expect("killed");
    assert_eq!(post(&views, r#"{"article":"a","user":"u"}"#).status, 204);
    let took = eventually("the alert fires", PATIENCE, || firing() == [ALERT]);
    println!("the alert fired after {took:?}");
    running.stack.mariadb.restart().expect("restarted");
    let took = eventually("the alert is over", PATIENCE, || firing().is_empty());
    println!("the alert was over after {took:?}");
    eventually("nothing is lost", PATIENCE, || query("footfall_flush_views_total") == Some(2.0));
}
