//! The services: those of this configuration by their `/readyz`, and all of them, wherever they run, by what they say of
//! themselves in Redis.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use footfall_shared::redis::Redis;
use footfall_shared::redis::presence::{PERIOD, Report};
use footfall_shared::service::config::Config;
use footfall_shared::service::paths::READYZ;
use footfall_shared::service::telemetry::HealthState;
use tokio::time::Instant;

use super::check::Check;
use super::runbook;
use crate::load::client::{Connection, Exchange};
use crate::terminal::count;

pub(super) const SERVICES: &str = "services";

/// How long a service may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long one may need until it is ready that has just been started.
const STARTING_MAX: Duration = Duration::from_secs(5);
/// What was found is said even if the last answer is late.
const _: () = assert!(STARTING_MAX.as_secs() + ANSWER_MAX.as_secs() < super::LIMIT.as_secs());
const STARTING_PAUSE: Duration = Duration::from_millis(200);
/// The tool of this version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A service, as one knows it by its configuration.
struct Service {
    role: &'static str,
    admin: SocketAddr,
    /// What to do if there is none, and whether anything is lost or late without it.
    when_missing: &'static str,
    is_needed: bool,
}

pub(super) async fn look(config: &Config, redis: &Redis) -> Vec<Check> {
    let services = [
        ("ingest", config.ingest.admin, runbook::INGEST_DOWN, true),
        ("flusher", config.flusher.admin, runbook::FLUSHER_DOWN, true),
        ("dashboard", config.dashboard.admin, runbook::INSTANCE_DOWN, false),
    ]
    .map(|(role, admin, when_missing, is_needed)| Service { role, admin, when_missing, is_needed });
    let [ingest, flusher, dashboard] = &services;
    let (ingest, flusher, dashboard, present) =
        tokio::join!(ready(ingest.admin), ready(flusher.admin), ready(dashboard.admin), present(redis));
    let answers = services.iter().zip([ingest, flusher, dashboard]);
    let mut checks: Vec<Check> =
        answers.flat_map(|(service, answer)| judge(service, &answer, present.as_deref())).collect();
    checks.extend(present.as_deref().and_then(judge_versions));
    checks
}

/// What `/readyz` answers: whether with 200, and its sentence; or why there is no answer.
type Answer = Result<(bool, String), String>;

/// The answer of a service that is not just starting: the runbook asks right after the start.
async fn ready(admin: SocketAddr) -> Answer {
    let deadline = Instant::now() + STARTING_MAX;
    loop {
        let answer = ask(admin).await;
        if !matches!(answer, Ok((false, _))) || Instant::now() >= deadline {
            return answer;
        }
        tokio::time::sleep(STARTING_PAUSE).await;
    }
}

async fn ask(admin: SocketAddr) -> Answer {
    if admin.port() == 0 {
        return Err("its port is chosen when it starts, so it was not asked".into());
    }
    let address = reachable(admin).to_string();
    let request = format!("GET {READYZ} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let exchange = async {
        let mut connection = Connection::open(&address).await.map_err(|error| error.to_string())?;
        match connection.exchange(request.as_bytes()).await {
            Exchange::Answered { status, body, .. } => Ok((status == 200, String::from_utf8_lossy(body).trim().into())),
            Exchange::NotSent | Exchange::Broken => Err("what answers there is no service of Footfall's".to_owned()),
        }
    };
    let answer = tokio::time::timeout(ANSWER_MAX, exchange).await;
    answer.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_MAX.as_secs())))
}

/// Where one connects to reach what listens there: who listens at all addresses is at home, too.
fn reachable(listens: SocketAddr) -> SocketAddr {
    let ip = match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listens.port())
}

/// Who says that it lives: whose report has changed from one look to the next. None if Redis cannot be asked.
async fn present(redis: &Redis) -> Option<Vec<Report>> {
    let key = |report: &Report| (report.role.clone(), report.name.clone());
    let before: BTreeMap<_, _> = redis.presence().await.ok()?.iter().map(|report| (key(report), report.beat)).collect();
    tokio::time::sleep(PERIOD * 3 / 2).await;
    let now = redis.presence().await.ok()?;
    Some(now.into_iter().filter(|report| before.get(&key(report)) != Some(&report.beat)).collect())
}

/// What there is to say of one kind of service.
fn judge(service: &Service, answer: &Answer, present: Option<&[Report]>) -> Vec<Check> {
    let Service { role, admin, when_missing, is_needed } = *service;
    let others: Vec<&Report> = present.unwrap_or_default().iter().filter(|report| report.role == role).collect();
    let mut checks = vec![match answer {
        Ok((true, said)) if said == "ready" => Check::ok(role, format!("ready at {admin}")),
        Ok((true, said)) => Check::warning(role, format!("at {admin}: {said}"), runbook::INGEST_DEGRADED),
        Ok((false, said)) => Check::problem(role, format!("at {admin}: {said}"), "mend what it names"),
        Err(_) if !others.is_empty() => {
            let names: Vec<&str> = others.iter().map(|report| report.name.as_str()).collect();
            Check::ok(role, format!("{} in Redis: {}", count(others.len() as u64, "report"), names.join(", ")))
        }
        Err(why) => {
            let elsewhere = match present {
                Some(_) => "none reports in Redis",
                None => "whether one runs elsewhere is not known without Redis",
            };
            let what = format!("none answers at {admin} ({why}), and {elsewhere}");
            let next = format!("`systemctl start footfall-{role}`, and read its log: {when_missing}");
            if is_needed { Check::problem(role, what, next) } else { Check::warning(role, what, next) }
        }
    }];
    // What this one says of itself was heard from itself.
    let is_heard = matches!(answer, Ok((_, said)) if said != "ready");
    for report in others.iter().filter(|report| report.health.state != HealthState::Ok && !is_heard) {
        let what = format!("{}: {}", report.name, report.health.reason.as_deref().unwrap_or("it is not well"));
        checks.push(match report.health.state {
            HealthState::Down => Check::problem(role, what, "mend what it names"),
            _ => Check::warning(role, what, "mend what it names, or wait if it says that it is on its way"),
        });
    }
    checks
}

/// Whether services of another version run than the tool's.
fn judge_versions(present: &[Report]) -> Option<Check> {
    let others: Vec<String> = present
        .iter()
        .filter(|report| report.version != VERSION)
        .map(|report| format!("{} {} has {}", report.role, report.name, report.version))
        .collect();
    if others.is_empty() {
        return None;
    }
    let what = format!("not all are of this version, {VERSION}: {}", others.join(", "));
    Some(Check::warning(SERVICES, what, format!("restart them on the version that is installed: {}", runbook::UPGRADE)))
}

#[cfg(test)]
mod tests {
    use footfall_shared::service::telemetry::Health;

    use super::super::check::Level;
    use super::*;

    fn report(state: HealthState) -> Report {
        Report {
            beat: 1,
            role: "flusher".into(),
            name: "web1:8011".into(),
            version: VERSION.into(),
            since: "noon".into(),
            health: Health { state, reason: Some("MySQL is away".into()) },
        }
    }

    #[test]
    fn a_service_is_judged_by_its_answer_and_by_what_others_report() {
        let admin = "127.0.0.1:8011".parse().expect("an address");
        let flusher = Service { role: "flusher", admin, when_missing: runbook::FLUSHER_DOWN, is_needed: true };
        let dashboard = Service { role: "dashboard", is_needed: false, ..flusher };
        let levels = |service, answer: Answer, present: Option<&[Report]>| -> Vec<Level> {
            judge(service, &answer, present).into_iter().map(|check| check.level).collect()
        };
        let said = |is_ready, said: &str| Ok((is_ready, said.to_owned()));
        let refused = || Err("refused".to_owned());
        let well = [report(HealthState::Ok)];
        let ill = [report(HealthState::Down)];
        use Level::{Ok as Fine, Problem, Warning};
        assert_eq!(levels(&flusher, said(true, "ready"), Some(&well)), [Fine]);
        assert_eq!(levels(&flusher, said(true, "ready, but degraded: x"), Some(&[])), [Warning]);
        assert_eq!(levels(&flusher, said(false, "not ready: x"), Some(&ill)), [Problem], "said once");
        assert_eq!(levels(&flusher, said(true, "ready"), Some(&ill)), [Fine, Problem], "another one");
        assert_eq!(levels(&flusher, refused(), Some(&well)), [Fine], "elsewhere");
        assert_eq!(levels(&flusher, refused(), Some(&[])), [Problem]);
        assert_eq!(levels(&flusher, refused(), None), [Problem]);
        assert_eq!(levels(&dashboard, refused(), Some(&well)), [Warning], "nothing is lost without it");
    }

    #[tokio::test]
    async fn a_service_that_is_starting_is_given_time() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let admin = listener.local_addr().expect("its address");
        tokio::spawn(async move {
            let answers = [("503 Service Unavailable", "not ready: shard 0: not opened yet"), ("200 OK", "ready")];
            for (status, said) in answers {
                let (mut stream, _) = listener.accept().await.expect("a client");
                let _ = stream.read(&mut [0; 1024]).await;
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{said}", said.len());
                stream.write_all(answer.as_bytes()).await.expect("it reads");
            }
        });
        assert_eq!(ready(admin).await, Ok((true, "ready".to_owned())));
    }

    #[test]
    fn another_version_is_named() {
        assert_eq!(judge_versions(&[report(HealthState::Ok)]), None);
        let old = Report { version: "0.0.1".into(), ..report(HealthState::Ok) };
        let check = judge_versions(&[old]).expect("it is old");
        assert!(check.what.contains("web1:8011 has 0.0.1"), "{check:?}");
    }

    #[test]
    fn who_listens_everywhere_is_asked_at_home() {
        for (listens, asked) in
            [("0.0.0.0:8010", "127.0.0.1:8010"), ("[::]:8010", "[::1]:8010"), ("10.0.0.7:8010", "10.0.0.7:8010")]
        {
            assert_eq!(reachable(listens.parse().expect("valid")).to_string(), asked);
        }
    }
}
