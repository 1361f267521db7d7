//! What a site may do: let its pages read the answers, count people without a name but no bots, and count from Python.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use footfall_drill::stack::Role;

use crate::common::{Answer, Running, Set, connect_from, eventually, exchange, get, output, raw, request, start};

const SOON: Duration = Duration::from_secs(10);
/// For what ingest looks at every ten seconds.
const LOOKED: Duration = Duration::from_secs(20);
const PATIENT: Duration = Duration::from_secs(15);
const VIEW: &str = r#"{"article":"a","user":"u"}"#;
const NOBODY: &str = r#"{"article":"a"}"#;
const CHROME: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";

fn leave(answer: &Answer) -> (u16, Option<&str>, Option<&str>) {
    (answer.status, answer.header("access-control-allow-origin"), answer.header("vary"))
}

#[test]
fn pages_of_allowed_sites_may_read_the_answers() {
    const SITE: &str = "https://news.example";
    let list = format!("http://localhost:3000, {SITE}");
    let running = start(|options| options.set("FOOTFALL_INGEST__ALLOWED_ORIGINS", &list));
    let ingest = running.ingest();
    for (method, path, body, status) in [
        ("POST", "/v1/views", VIEW, 204),
        ("POST", "/v1/views", "[]", 200),
        ("POST", "/v1/views", "", 400),
        ("GET", "/v1/articles/a", "", 200),
        ("GET", "/v1/articles/%ff", "", 422),
    ] {
        let ask = |origin| request(method, &format!("{ingest}{path}"), &[("Origin", origin)], body.as_bytes());
        assert_eq!(leave(&ask(SITE)), (status, Some(SITE), Some("origin")), "{method} {path} {body}");
        assert_eq!(leave(&ask("https://news.example.evil")), (status, None, Some("origin")), "{method} {path} {body}");
    }
    // What may not be read is counted all the same.
    assert_eq!(running.article("a")["views"], 2);

    let preflight = |path: &str, origin| {
        let headers = [("Origin", origin), ("Access-Control-Request-Method", "POST")];
        request("OPTIONS", &format!("{ingest}{path}"), &headers, b"")
    };
    for (path, method) in [("/v1/views", "POST"), ("/v1/articles/a%2Fb", "GET, HEAD")] {
        let answer = preflight(path, SITE);
        assert_eq!(leave(&answer), (204, Some(SITE), Some("origin")));
        assert_eq!(answer.header("access-control-allow-methods"), Some(method));
        assert_eq!(answer.header("access-control-allow-headers"), Some("content-type"));
        assert_eq!(leave(&preflight(path, "null")), (204, None, Some("origin")));
    }
    assert_eq!(leave(&preflight("/demopage/a", SITE)), (204, None, None));

    let script = get(&format!("{ingest}/footfall.js"));
    assert_eq!((script.status, script.header("content-type")), (200, Some("text/javascript; charset=utf-8")));
    let tag = script.header("etag").expect("a tag");
    assert_eq!(request("GET", &format!("{ingest}/footfall.js"), &[("If-None-Match", tag)], b"").status, 304);
}

#[test]
fn without_a_list_no_other_site_may_read_and_a_user_is_needed() {
    let running = start(|options| {
        options.set("FOOTFALL_INGEST__ALLOWED_ORIGINS", "");
        options.set("FOOTFALL_INGEST__ANONYMOUS", "false");
    });
    let views = format!("{}/v1/views", running.ingest());
    let origin = [("Origin", "https://news.example")];
    assert_eq!(leave(&request("POST", &views, &origin, VIEW.as_bytes())), (204, None, None));
    assert_eq!(leave(&request("OPTIONS", &views, &origin, b"")), (204, None, None));
    let answer = request("POST", &views, &[("Sec-GPC", "1")], NOBODY.as_bytes());
    assert!(answer.status == 400 && answer.body.contains("missing field `user`"), "{answer:?}");
    assert_eq!(get(&format!("{}/v1/pixel.gif?article=a", running.ingest())).status, 400);
    assert_eq!(running.article("a")["views"], 1);
}

#[test]
fn bots_are_answered_and_not_counted() {
    let mut running = start(|options| {
        options.set("FOOTFALL_INGEST__BOTS", "bot, My Monitor");
        options.set("FOOTFALL_INGEST__ANONYMOUS", "false");
    });
    let ingest = running.ingest();
    let ask = |agent, method, path: &str, body: &str| {
        request(method, &format!("{ingest}{path}"), &[("User-Agent", agent)], body.as_bytes())
    };
    for agent in ["Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "MY MONITOR 3"] {
        let one = ask(agent, "POST", "/v1/views", VIEW);
        assert_eq!((one.status, one.header("footfall-not-counted")), (204, Some("bot")));
        let many = ask(agent, "POST", "/v1/views", &format!("[{VIEW},{VIEW},{NOBODY}]")).json();
        assert_eq!((&many["accepted"], &many["rejected"], &many["left_out"]), (&0.into(), &1.into(), &2.into()));
        assert!(ask(agent, "GET", "/v1/pixel.gif?article=a&user=u", "").body.starts_with("GIF89a"));
        let page = ask(agent, "GET", "/demopage/a?usrid=u", "");
        assert_eq!((page.status, page.header("footfall-not-counted")), (200, Some("bot")));
        assert!(page.body.contains("This view is not counted: what asks for it calls itself a bot."), "{}", page.body);
        assert_eq!(ask(agent, "POST", "/v1/views", "{").status, 400);
    }
    assert_eq!(ask(CHROME, "POST", "/v1/views", VIEW).status, 204);
    let left_out = running.metric(Role::Ingest, 0, r#"footfall_views_left_out_total{reason="bot"}"#);
    let accepted = running.metric(Role::Ingest, 0, "footfall_views_accepted_total");
    assert_eq!((left_out, accepted), (10.0, 1.0));
    eventually("one view", SOON, || running.sql("SELECT SUM(views) FROM article_counts").as_deref() == Some("1"));
}

/// A view from this address, by this browser.
fn post_from(address: Ipv4Addr, ingest: &str, agent: &str, headers: &str, body: &str) -> u16 {
    let host = ingest.strip_prefix("http://").expect("an HTTP URL");
    let head =
        format!("POST /v1/views HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nUser-Agent: {agent}\r\n{headers}");
    exchange(connect_from(address, host), format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
        .status
}

/// All files below a folder in which a text is found.
fn files_with(text: &str, folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let found = entries.flat_map(|path| {
        if path.is_dir() {
            return files_with(text, &path);
        }
        let bytes = if path.is_file() { std::fs::read(&path).unwrap_or_default() } else { vec![] };
        let is_in = bytes.windows(text.len()).any(|window| window == text.as_bytes());
        if is_in { vec![path.display().to_string()] } else { vec![] }
    });
    found.collect()
}

#[test]
fn people_without_a_name_are_told_apart_for_a_day() {
    const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
    const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
    let mut running = start(|options| {
        options.ingests = 2;
        options.set("FOOTFALL_INGEST__ANONYMOUS", "true");
    });
    let [first, second] = [0, 1].map(|index| running.stack.url(Role::Ingest, index));
    // One person, wherever the load balancer sends them; another browser; another place.
    for (address, ingest, agent, headers) in [
        (HERE, &first, CHROME, ""),
        (HERE, &second, CHROME, ""),
        (HERE, &first, CHROME, "X-Forwarded-For: 203.0.113.1\r\n"), // Everybody can say that.
        (HERE, &second, "Firefox", ""),
        (ELSEWHERE, &first, CHROME, ""),
    ] {
        assert_eq!(post_from(address, ingest, agent, headers, NOBODY), 204);
    }
    assert_eq!(request("GET", &format!("{second}/v1/pixel.gif?article=a"), &[("User-Agent", CHROME)], b"").status, 200);
    // Those who ask not to be followed count only where they have a name.
    assert_eq!(post_from(HERE, &first, CHROME, "Sec-GPC: 1\r\n", NOBODY), 204);
    assert_eq!(post_from(HERE, &first, CHROME, "Sec-GPC: 1\r\n", VIEW), 204);
    assert_eq!(running.metric(Role::Ingest, 0, r#"footfall_views_left_out_total{reason="gpc"}"#), 1.0);

    eventually("all in MySQL", SOON, || running.sql("SELECT SUM(views) FROM article_counts").as_deref() == Some("7"));
    let readers = "SELECT LEFT(user, 5), LENGTH(user), views FROM reader_counts ORDER BY views, user";
    let readers = running.stack.mariadb.query(readers).expect("query");
    let mut named: Vec<&[String]> = readers.iter().map(Vec::as_slice).collect();
    named.sort_by_key(|row| (row[2].clone(), row[0].clone()));
    assert_eq!(named, [["anon:", "37", "1"], ["anon:", "37", "1"], ["u", "1", "1"], ["anon:", "37", "4"]]);

    // The salt of the day: for as long as the day, and given back to a Redis that lost it.
    let redis = &running.stack.redis;
    let query = |args: &[&str]| redis.query(args).expect("Redis answers").concat();
    let key = redis.query(&["KEYS", "footfall:salt:*"]).expect("keys").into_iter().min().expect("a salt");
    let salt = query(&["GET", &key]);
    let life_ms: u64 = query(&["PTTL", &key]).parse().expect("a number");
    assert!(salt.len() == 64 && life_ms <= 25 * 60 * 60 * 1_000, "{life_ms} ms");
    query(&["DEL", &key]);
    eventually("the salt is back", LOOKED, || query(&["GET", &key]) == salt);

    // The salt of yesterday: gone from Redis, and from the files in which it was.
    let day: u64 = key.rsplit(':').next().and_then(|day| day.parse().ok()).expect("a day");
    let (yesterday, old) = (format!("footfall:salt:{}", day - 1), "0123456789abcdef".repeat(4));
    query(&["SET", &yesterday, &old]);
    let files = || files_with(&old, &running.path("redis"));
    eventually("it is in a file", SOON, || !files().is_empty());
    eventually("yesterday's salt is gone", LOOKED, || query(&["EXISTS", &yesterday]) == "0" && files().is_empty());
    assert_eq!(query(&["GET", &key]), salt);
}

/// A site in Python, ended with its test.
struct Site {
    child: Child,
    url: String,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Python that runs `script` and finds the middleware.
fn python(ingest: &str, script: &str) -> Command {
    let mut python = Command::new("python3");
    python
        .args(["-B", "-c", script])
        .current_dir(xtask::root().join("docs/examples"))
        .env("FOOTFALL_INGEST__URL", ingest);
    python
}

const WSGI: &str = r#"
from wsgiref.simple_server import WSGIRequestHandler, make_server
import count_views

def application(environ, start_response):
    start_response("404 Not Found" if "missing" in environ["PATH_INFO"] else "200 OK", [("Content-Type", "text/plain")])
    return [b"the page"]

def user(environ):
    return {"7": 7, "broken": 1 / int(environ.get("HTTP_X_USER") != "broken")}.get(environ.get("HTTP_X_USER"))

WSGIRequestHandler.log_message = lambda *_: None
server = make_server("127.0.0.1", 0, count_views.wsgi(application, user))
print(server.server_port, flush=True)
server.serve_forever()
"#;

#[test]
fn a_wsgi_site_counts_and_is_never_slower_for_it() {
    let mut running = start(|options| {
        options.set("FOOTFALL_INGEST__ANONYMOUS", "true");
        options.set("FOOTFALL_HTTP__TRUSTED_PROXIES", "127.0.0.1");
        options.set("FOOTFALL_INGEST__JOURNAL", "off");
    });
    let mut child = python(&running.ingest(), WSGI).stdout(Stdio::piped()).spawn().expect("python3 starts");
    let mut port = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut port).expect("a port");
    let site = Site { child, url: format!("http://127.0.0.1:{}", port.trim()) };
    let ask = |method, path: &str, headers: &[(&str, &str)]| {
        let (asked, answer) = (Instant::now(), request(method, &format!("{}{path}", site.url), headers, b""));
        assert_eq!((answer.status, &*answer.body), (if path.contains("missing") { 404 } else { 200 }, "the page"));
        asked.elapsed()
    };
    let named: &[_] = &[("X-User", "7"), ("User-Agent", CHROME)];
    let one: &[_] = &[("X-Forwarded-For", "203.0.113.1"), ("User-Agent", CHROME)];
    let other: &[_] = &[("X-Forwarded-For", "203.0.113.2"), ("User-Agent", CHROME)];
    for headers in [named, one, one, other] {
        ask("GET", "/articles/%E6%98%A5", headers);
    }
    let rows = "SELECT article, LEFT(user, 5), views FROM reader_counts ORDER BY LEFT(user, 5), views";
    let expected = [["/articles/春", "7", "1"], ["/articles/春", "anon:", "1"], ["/articles/春", "anon:", "2"]];
    let rows = |running: &mut Running| running.stack.mariadb.query(rows).expect("query");
    eventually("four views", SOON, || rows(&mut running) == expected);
    // No views of articles, or of nobody who counts.
    ask("POST", "/articles/1", named);
    ask("GET", "/articles/missing", named);
    ask("GET", "/about", named);
    ask("GET", "/articles/1", &[("X-User", "broken")]);
    ask("GET", "/articles/1", &[("X-User", "7"), ("User-Agent", "Googlebot/2.1")]);
    ask("GET", "/articles/1", &[("Sec-GPC", "1")]);
    ask("GET", "/articles/1", &[("X-User", "7"), ("Sec-Purpose", "prefetch;prerender")]);
    ask("GET", "/articles/1", &[("X-User", "7"), ("Purpose", "prefetch")]);
    let mut left_out =
        |why: &str| running.metric(Role::Ingest, 0, &format!("footfall_views_left_out_total{{reason=\"{why}\"}}"));
    eventually("all of them are left out", SOON, || {
        (left_out("bot"), left_out("gpc"), left_out("prefetch")) == (1.0, 1.0, 2.0)
    });

    // Ingest has the first of them and cannot answer: it is sent again, and the others wait.
    running.stack.redis.pause().expect("pauses");
    for _ in 0..20 {
        let took = ask("GET", "/articles/2", named);
        assert!(took < Duration::from_millis(500), "the page took {took:?}");
    }
    std::thread::sleep(Duration::from_secs(3)); // At least one time-out.
    running.stack.redis.resume().expect("goes on");
    let two = "SELECT views FROM reader_counts WHERE article = '/articles/2'";
    eventually("twenty views", PATIENT, || running.sql(two).as_deref() == Some("20"));
    assert_eq!(running.sql("SELECT SUM(views) FROM reader_counts").as_deref(), Some("24"));
}

const DJANGO: &str = r#"
from types import SimpleNamespace as Thing
import count_views

middleware = count_views.django(lambda request: Thing(status_code=request.status))
for method, path, status, pk in [
    ("GET", "/articles/1", 200, 7),
    ("GET", "/articles/1", 200, 7),
    ("GET", "/articles/1", 404, 7),
    ("POST", "/articles/1", 200, 7),
    ("GET", "/about", 200, 7),
    ("GET", "/articles/1", 200, None),
]:
    request = Thing(META={"REQUEST_METHOD": method, "REMOTE_ADDR": "192.0.2.1"}, path=path, status=status, user=Thing(pk=pk))
    assert middleware(request).status_code == status
"#;

#[test]
fn a_django_site_counts_before_it_ends() {
    let mut running = start(|options| options.set("FOOTFALL_INGEST__ANONYMOUS", "false"));
    let (fine, said) = output(python(&running.ingest(), DJANGO));
    assert!(fine && said.contains("missing field `user`"), "{said}");
    eventually("both views", SOON, || running.sql("SELECT SUM(views) FROM article_counts").as_deref() == Some("2"));
    let rows = running.stack.mariadb.query("SELECT article, user, views FROM reader_counts").expect("query");
    assert_eq!(rows, [["/articles/1", "7", "2"]]);
}

const NAMES: &str = r#"
import json
from urllib.parse import unquote_to_bytes, urlsplit
import count_views

for case in json.load(open("page-names.json", encoding="utf-8")):
    # What a server knows: the address, and no more.
    if "canonical" in case or "article" in case:
        continue
    parts = urlsplit(case["address"])
    path = unquote_to_bytes(parts.path).decode("latin-1")  # As WSGI has it.
    sent = {}
    count_views.count = lambda environ, path, user: sent.update(name=count_views.name(path, environ["QUERY_STRING"]))
    environ = {"PATH_INFO": path, "QUERY_STRING": parts.query}
    start = lambda status, headers, exc_info=None: None
    count_views.wsgi(lambda environ, start: start("200 OK", []))(environ, start)
    assert sent["name"] == case["name"], (case, sent)
    print(case["name"].encode("unicode_escape").decode())
"#;

#[test]
fn the_middleware_names_a_page_as_the_table_says() {
    let (fine, said) = output(python("http://127.0.0.1:9", NAMES));
    assert!(fine && said.lines().count() > 25, "{said}");
}

/// The lines of a document that call `curl`, as somebody would copy them, with the addresses of a stack put in.
fn curls(document: &str, running: &Running) -> Vec<String> {
    let text = std::fs::read_to_string(xtask::root().join(document)).expect(document);
    let shown = text.lines().filter(|line| line.starts_with("curl "));
    shown.map(|line| line.replace("http://127.0.0.1:8000", &running.ingest())).collect()
}

#[test]
fn what_the_documents_show_can_be_copied() {
    let mut running = start(|_| {});
    let run = |line: &str| {
        let mut bash = Command::new("bash");
        bash.args(["-c", &line.replacen("curl ", "curl --fail --silent --show-error ", 1)]);
        let (fine, said) = output(bash);
        assert!(fine, "{line}: {said}");
        said
    };
    let [counts, reads] = &*curls("README.md", &running) else { panic!("two lines are shown") };
    run(counts);
    // On a busy machine a store may seem to be away, and then the number is not known for a moment.
    eventually("the number is known", PATIENT, || run(reads).contains(r#""views":1,"#));
    assert_eq!(curls("README.zh-CN.md", &running).len(), 2);

    let [sends, reads] = &*curls("docs/site.md", &running) else { panic!("two lines are shown") };
    // As it says there.
    run(sends);
    run(sends);
    assert!(run(reads).to_lowercase().contains("access-control-allow-origin: *"), "{}", run(reads));
    let counted = "SELECT article, user, views FROM reader_counts ORDER BY article";
    let counted = |running: &mut Running| running.stack.mariadb.query(counted).expect("query");
    eventually("all is counted", PATIENT, || {
        counted(&mut running) == [["/articles/1", "7", "1"], ["yumo", "123456", "1"]]
    });
}

#[test]
fn what_clients_really_send_is_understood_or_refused() {
    let mut running = start(|options| options.dashboards = 1);
    let ingest = running.ingest();
    let dashboard = running.stack.url(Role::Dashboard, 0);
    let views = format!("{ingest}/v1/views");
    let send = |headers: &[(&str, &str)], body: &str| request("POST", &views, headers, body.as_bytes());
    let ndjson = "Application/X-NDJSON; Charset=UTF-8";
    for (kind, body, accepted) in [
        ("text/plain;charset=UTF-8", format!("\u{feff}{VIEW}"), None),
        ("application/json; charset=utf-8", format!("  {VIEW}\r\n"), None),
        (ndjson, format!("{VIEW}\n"), Some(1)),
        (ndjson, format!("\u{feff}{VIEW}\r\n\r\n  \n{VIEW}\r\n"), Some(2)),
        ("text/plain", format!("{VIEW}\n\u{feff}{VIEW}\n"), Some(2)),
        ("application/json", format!("\u{feff}[{VIEW}]"), Some(1)),
        ("application/json", "[]".to_owned(), Some(0)),
        ("text/plain", NOBODY.to_owned(), None),
        ("text/plain", r#"{"article":"a","user":null}"#.to_owned(), None),
    ] {
        let answer = send(&[("Content-Type", kind), ("User-Agent", CHROME), ("Content-Encoding", "identity")], &body);
        let status = if accepted.is_some() { 200 } else { 204 };
        assert_eq!(answer.status, status, "{kind} {body:?}: {answer:?}");
        if let Some(accepted) = accepted {
            assert_eq!(answer.json()["accepted"], accepted, "{kind} {body:?}");
        }
    }
    let counted = 10;
    for coding in ["gzip", "GZip", "br", "identity, deflate"] {
        let answer = send(&[("Content-Encoding", coding)], VIEW);
        assert_eq!((answer.status, answer.header("accept-encoding")), (415, Some("identity")), "{coding}: {answer:?}");
        assert!(answer.body.contains("send it as it is") && answer.body.lines().count() == 1, "{answer:?}");
    }
    let large = request("POST", &views, &[("Content-Encoding", "gzip")], &vec![0x1f; 900_000]);
    assert_eq!(large.status, 415);
    let form = request("POST", &format!("{dashboard}/login"), &[("Content-Encoding", "gzip")], b"x");
    assert_eq!(form.status, 415);

    // A head is what the answer to GET would begin with, and counts nothing; OPTIONS says what there is.
    let admins = [Role::Ingest, Role::Flusher, Role::Dashboard]
        .map(|role| format!("http://{}", running.stack.service(role, 0).admin()));
    let mut readable = vec![format!("{dashboard}/"), format!("{dashboard}/v1/stats"), format!("{dashboard}/login")];
    readable
        .extend(admins.iter().flat_map(|admin| ["/metrics", "/livez", "/readyz"].map(|path| format!("{admin}{path}"))));
    let at_ingest = [
        "/demopage/a?usrid=u",
        "/v1/pixel.gif?article=a&user=u&",
        "/v1/articles/a?",
        "/footfall.js",
        "/assets/demopage.js",
        "/assets/demopage.css",
        "/realtime",
        "/livez",
        "/readyz",
    ];
    readable.extend(at_ingest.map(|path| format!("{ingest}{path}")));
    for url in &readable {
        let head = request("HEAD", url, &[], b"");
        let whole = request("OPTIONS", url, &[], b"");
        let other = request("PUT", url, &[], b"");
        let taken = whole.header("allow").unwrap_or_default();
        assert!(matches!(head.status, 200 | 307) && head.body.is_empty(), "{url}: {head:?}");
        assert!(head.header("content-length").is_some_and(|length| length != "0"), "{url}: {head:?}");
        assert!(whole.status == 204 && taken.starts_with("GET, HEAD, OPTIONS"), "{url}: {whole:?}");
        assert_eq!((other.status, other.header("allow")), (405, Some(taken)), "{url}: {other:?}");
        assert_eq!(request("BREW", url, &[], b"").status, 405, "{url}");
    }
    for method in ["GET", "HEAD", "PUT", "post"] {
        let answer = request(method, &views, &[], b"");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST, OPTIONS")), "{method}");
    }
    let host = ingest.strip_prefix("http://").expect("an HTTP URL");
    assert_eq!(raw(host, b"OPTIONS * HTTP/1.0\r\n\r\n").status, 204);
    let page = request("HEAD", &format!("{ingest}/demopage/a?usrid=u"), &[], b"");
    assert_eq!(page.header("footfall-not-counted"), Some("head"));
    for (header, value) in [("Sec-Purpose", "prefetch;prerender"), ("Purpose", "prefetch"), ("X-Moz", "prefetch")] {
        for path in ["/demopage/a?usrid=u", "/v1/pixel.gif?article=a&user=u"] {
            let answer = request("GET", &format!("{ingest}{path}"), &[(header, value)], b"");
            assert_eq!(
                (answer.status, answer.header("footfall-not-counted")),
                (200, Some("prefetch")),
                "{path} {header}"
            );
        }
    }
    let private = send(&[("Sec-GPC", "1"), ("Origin", "https://news.example")], NOBODY);
    assert_eq!((private.status, private.header("footfall-not-counted")), (204, Some("gpc")));
    assert!(private.header("access-control-expose-headers").is_some_and(|list| list.contains("footfall-not-counted")));
    // Nobody counts for it, neither in Redis nor in MySQL.
    eventually("the views that count", SOON, || {
        running.sql("SELECT SUM(views) FROM article_counts") == Some(counted.to_string())
    });
    assert_eq!(running.article("a")["views"], counted);
    let left_out = |running: &mut Running, why| {
        running.metric(Role::Ingest, 0, &format!("footfall_views_left_out_total{{reason=\"{why}\"}}"))
    };
    assert_eq!(["head", "prefetch", "gpc"].map(|why| left_out(&mut running, why)), [3.0, 6.0, 1.0]);
    let rejected = running.metric(Role::Ingest, 0, "footfall_views_rejected_total{reason=\"encoded\"}");
    assert_eq!(rejected, 5.0);
}
