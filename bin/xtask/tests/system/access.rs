//! Who may see what, and what becomes of those who ask for something else.

use std::time::Duration;

use footfall_drill::stack::Role;

use crate::common::{Answer, Running, Set, eventually, get, post, raw, request, start};
use crate::viewer::Viewer;

pub(crate) const TOKEN: &str = "6f1c0e9ab7d24835-everything";
const READ_TOKEN: &str = "b95e3d70c1a8f264-the-wall";
const SOON: Duration = Duration::from_secs(10);

/// A dashboard that others could reach, and its URL.
pub(crate) fn start_open(change: impl FnOnce(&mut footfall_drill::stack::StackOptions)) -> (Running, String) {
    let running = start(|options| {
        options.dashboards = 1;
        options.addresses.dashboard = ([0, 0, 0, 0], 0).into();
        options.set("FOOTFALL_DASHBOARD__TOKEN", TOKEN);
        options.set("FOOTFALL_DASHBOARD__READ_TOKEN", READ_TOKEN);
        change(options);
    });
    let dashboard = running.stack.url(Role::Dashboard, 0).replace("0.0.0.0", "127.0.0.1");
    eventually("a dashboard", SOON, || get(&format!("{dashboard}/readyz")).status == 200);
    (running, dashboard)
}

fn get_with(url: &str, token: &str) -> Answer {
    request("GET", url, &[("Authorization", &format!("Bearer {token}"))], b"")
}

fn log_in(dashboard: &str, token: &str) -> Answer {
    request("POST", &format!("{dashboard}/login"), &[], format!("token={token}").as_bytes())
}

/// Everything that says how much is read, and everything that says who reads it.
const NUMBERS: [&str; 7] =
    ["/", "/v1/stats", "/v1/minutes", "/v1/articles", "/v1/articles?by=rise", "/v1/articles/a", "/v1/articles/a/hours"];
const READERS: [&str; 3] = ["/v1/articles/a/readers", "/v1/users", "/v1/users/u/articles"];

#[test]
fn without_the_token_nothing_is_shown() {
    let (running, dashboard) = start_open(|options| options.set("FOOTFALL_DASHBOARD__SESSION_MS", "2000"));
    assert_eq!(post(&format!("{}/v1/views", running.ingest()), r#"{"article":"a","user":"u"}"#).status, 204);
    let status = |path: &str, token| get_with(&format!("{dashboard}{path}"), token).status;
    for path in NUMBERS {
        let missing = get(&format!("{dashboard}{path}"));
        assert_eq!((missing.status, status(path, READ_TOKEN), status(path, TOKEN)), (401, 200, 200), "{path}");
        assert!(missing.header("WWW-Authenticate").is_some(), "{}", missing.head);
    }
    assert_eq!(status("/v1/stats", "6f1c0e9ab7d24835"), 401);
    for path in READERS {
        let url = format!("{dashboard}{path}");
        assert_eq!((get(&url).status, status(path, READ_TOKEN), status(path, TOKEN)), (401, 401, 200), "{path}");
    }
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    assert!(Viewer::try_open(&dashboard, "/realtime", "").is_err_and(|status| status.contains(" 401 ")));
    assert!(Viewer::try_open(&dashboard, "/realtime", &bearer("wrong")).is_err_and(|status| status.contains(" 401 ")));
    assert!(Viewer::try_open(&dashboard, "/realtime", &bearer(READ_TOKEN)).is_ok());

    // A browser: the form, a cookie, its end.
    let page = get(&format!("{dashboard}/"));
    assert!(page.body.contains("<form") && !page.body.contains("app.js"), "{}", page.body);
    let failed = log_in(&dashboard, "wrong");
    assert_eq!((failed.status, failed.header("Set-Cookie")), (401, None));
    let entered = log_in(&dashboard, TOKEN);
    assert_eq!((entered.status, entered.header("Location")), (303, Some("/")));
    let cookie = entered.header("Set-Cookie").expect("a cookie");
    assert!(cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
    let session = cookie.split(';').next().expect("a pair");
    let users = format!("{dashboard}/v1/users");
    let with_session = |session: &str| request("GET", &users, &[("Cookie", session)], b"").status;
    assert_eq!((with_session(session), with_session(&session.replace('.', "0."))), (200, 401));
    let ended = eventually("the end of the session", SOON, || with_session(session) == 401);
    println!("the session ended after {ended:?}");

    // Whoever guesses on is not told any more when a guess is right.
    eventually("a limit", SOON, || get_with(&users, "wrong again").status == 429);
    assert!(get_with(&users, TOKEN).header("Retry-After").is_some());
    assert_eq!((status("/v1/users", TOKEN), log_in(&dashboard, TOKEN).status), (429, 429));
    assert_eq!(get(&format!("{dashboard}/livez")).status, 200);
}

#[test]
fn on_loopback_only_who_reads_what_needs_the_token() {
    let running = start(|options| {
        options.dashboards = 1;
        options.set("FOOTFALL_DASHBOARD__TOKEN", TOKEN);
        options.set("FOOTFALL_DASHBOARD__REQUESTS_PER_SECOND", "10");
    });
    let dashboard = running.stack.url(Role::Dashboard, 0);
    eventually("a dashboard", SOON, || get(&format!("{dashboard}/readyz")).status == 200);
    for path in NUMBERS {
        assert_eq!(get(&format!("{dashboard}{path}")).status, 200, "{path}");
    }
    for path in READERS {
        let url = format!("{dashboard}{path}");
        assert_eq!((get(&url).status, get_with(&url, TOKEN).status), (401, 200), "{path}");
    }
    let stats = format!("{dashboard}/v1/stats");
    eventually("too many requests", SOON, || get(&stats).status == 429);
    assert!(get(&stats).header("Retry-After").is_some());
    assert_eq!(log_in(&dashboard, TOKEN).status, 429);
    eventually("a word again", SOON, || get(&stats).status == 200);
}

/// A request that says for whom it was forwarded; the status of its answer.
fn forwarded(running: &Running, client: &str) -> u16 {
    let stats = format!("{}/v1/stats", running.stack.url(Role::Dashboard, 0));
    request("GET", &stats, &[("X-Forwarded-For", client)], b"").status
}

#[test]
fn each_client_behind_a_trusted_proxy_has_its_own_limit() {
    let begin = |proxies: &str| {
        start(|options| {
            options.dashboards = 1;
            options.set("FOOTFALL_DASHBOARD__REQUESTS_PER_SECOND", "2");
            options.set("FOOTFALL_HTTP__TRUSTED_PROXIES", proxies);
        })
    };
    let running = begin("10.0.0.0/8, 127.0.0.1");
    let mut invented = (0..=u8::MAX).map(|number| format!("1.1.1.{number}, 198.51.100.7, 10.0.0.9"));
    eventually("too many requests of one client, which writes into the header itself", SOON, || {
        forwarded(&running, &invented.next().expect("fewer are too many")) == 429
    });
    assert_eq!(forwarded(&running, "198.51.100.8"), 200);
    drop(running);

    // Nobody can pretend to be many.
    let running = begin("10.0.0.0/8");
    let mut clients = (0..=u8::MAX).map(|number| format!("198.51.100.{number}"));
    eventually("too many requests of the one peer", SOON, || {
        forwarded(&running, &clients.next().expect("fewer are too many")) == 429
    });
}

#[test]
fn what_nobody_should_send_is_refused() {
    let mut running = start(|options| options.dashboards = 1);
    let dashboard = running.stack.url(Role::Dashboard, 0);
    eventually("a dashboard", SOON, || get(&format!("{dashboard}/readyz")).status == 200);
    let host = dashboard.strip_prefix("http://").expect("an HTTP URL");

    let other = "Origin: http://evil.example\r\n";
    assert!(Viewer::try_open(&dashboard, "/realtime", other).is_err_and(|status| status.contains(" 403 ")));
    let own = format!("Origin: {dashboard}\r\n");
    assert!(Viewer::try_open(&dashboard, "/realtime", &own).is_ok());

    let form = format!("{dashboard}/login");
    assert_eq!(request("POST", &form, &[("Origin", "http://evil.example")], b"token=x").status, 403);

    // A name of another site that points here, with a page of that site: for the browser all of it is one site.
    let evil = "Host: evil.example\r\nOrigin: http://evil.example";
    let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for path in ["/", "/v1/stats", "/v1/users", "/login", "/realtime"] {
        let ask = |headers: &str| {
            raw(host, format!("GET {path} HTTP/1.1\r\n{headers}\r\nConnection: Upgrade, close\r\n\r\n").as_bytes())
        };
        for headers in [evil, &format!("{evil}\r\n{upgrade}")] {
            let answer = ask(headers);
            assert_eq!(answer.status, 421, "{path}");
            assert!(answer.body.contains("`dashboard.url`"), "{}", answer.body);
        }
        assert_eq!(ask("Host: localhost:1").status, 200, "{path}");
    }

    // The admin ports listen on this machine alone too.
    for role in [Role::Ingest, Role::Flusher, Role::Dashboard] {
        let admin = running.stack.service(role, 0).admin().to_string();
        for path in ["/metrics", "/readyz"] {
            let ask = |name: &str| {
                raw(&admin, format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n").as_bytes())
                    .status
            };
            assert_eq!((ask("evil.example"), ask("localhost:1"), ask(&admin)), (421, 200, 200), "{role} {path}");
        }
    }

    // A frame of 1 MB; frames that are none; a text that is not UTF-8.
    let mut large = vec![0x82, 0xff];
    large.extend_from_slice(&(1u64 << 20).to_be_bytes());
    large.extend_from_slice(&[0; 4 + (1 << 20)]);
    let junk: Vec<u8> = (0..10_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 | 0x70).collect();
    for bytes in [large, junk.clone(), vec![0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe]] {
        let mut viewer = Viewer::open(&dashboard, "/realtime");
        viewer.send(&bytes);
        assert!(viewer.is_ended(), "{:02x?} ...", &bytes[..8]);
    }
    assert_eq!(raw(host, &[&junk[..], b"\r\n\r\n"].concat()).status, 400);

    for path in ["/../../etc/passwd", "/assets/../../../etc/passwd", "/assets/..%2f..%2fetc%2fpasswd", "/%2e%2e/x"] {
        assert_eq!(get(&format!("{dashboard}{path}")).status, 404, "{path}");
    }
    for query in ["limit=0", "limit=1001", "after=%ff", "by=' OR 1=1 --".replace(' ', "+").as_str(), "x=1", "by=a&by=b"]
    {
        assert_eq!(get(&format!("{dashboard}/v1/articles?{query}")).status, 400, "{query}");
    }

    // Names are data: as JSON, with a type that no browser takes for a page.
    let name = "<script>alert(1)</script>";
    let view = format!(r#"{{"article":"{name}","user":"{name}"}}"#);
    assert_eq!(post(&format!("{}/v1/views", running.ingest()), &view).status, 204);
    let url = format!("{dashboard}/v1/articles/%3Cscript%3Ealert(1)%3C%2Fscript%3E");
    let answer = get(&url);
    assert_eq!(answer.json()["article"], name);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
    assert!(answer.header("Content-Security-Policy").is_some_and(|policy| !policy.contains("unsafe")));

    // One address watches so many articles, and no more; and then it may again.
    let watch = |number: u32| Viewer::try_open(&dashboard, &format!("/realtime?article=a{number}"), "");
    let mut watching: Vec<Viewer> = (0..100).map(|number| watch(number).expect("allowed")).collect();
    assert!(watch(100).is_err_and(|status| status.contains(" 429 ")));
    watching.pop();
    eventually("a place is free again", SOON, || watch(100).is_ok());
    drop(watching);

    // And everybody else is served.
    assert_eq!(Viewer::open(&dashboard, "/realtime").message()["type"], "snapshot");
}
