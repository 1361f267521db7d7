//! One request after the other: what is counted, what is answered, what is refused.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::{Set, eventually, get, post, raw, request, start};
use footfall_drill::stack::Role;

const SOON: Duration = Duration::from_secs(3);

#[test]
fn a_view_is_seen_at_once_and_stored_soon() {
    let mut running = start(|_| {});
    let page = format!("{}/demopage/yumo?usrid=", running.ingest());
    for user in ["123456", "123456", "123456", "654321"] {
        assert_eq!(get(&format!("{page}{user}")).status, 200);
    }
    let counted = Instant::now();
    let numbers = running.article("yumo");
    assert_eq!(numbers["views"], 4, "{numbers}");
    eventually("2 readers", SOON, || running.article("yumo")["readers"] == 2);
    eventually("the row in MySQL", SOON, || {
        running.sql("SELECT views FROM reader_counts WHERE article = 'yumo' AND user = '123456'").as_deref()
            == Some("3")
    });
    assert!(counted.elapsed() < SOON + Duration::from_millis(200), "{:?}", counted.elapsed());
    let stored = running.stack.mariadb.query("SELECT article, views, readers FROM article_counts").expect("query");
    assert_eq!(stored, [["yumo", "4", "2"]]);

    eventually("nothing pending", SOON, || running.article("yumo")["pending"] == 0);
    let numbers = running.article("yumo");
    assert_eq!((&numbers["views"], &numbers["readers"]), (&4.into(), &2.into()));
    assert_eq!((&numbers["source"], &numbers["degraded"]), (&"cache".into(), &serde_json::Value::Null));
    let body = get(&format!("{page}123456")).body;
    assert!(body.contains(r#"<dd id="views">5</dd>"#), "{body}");
}

#[test]
fn every_way_in_counts_once() {
    let mut running = start(|_| {});
    let ingest = running.ingest();
    let views = format!("{ingest}/v1/views");
    let one = r#"{"article":"a","user":"u"}"#;
    let answer = post(&views, one);
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(request("POST", &views, &[("Content-Type", "text/plain")], one.as_bytes()).status, 204);
    let answer = post(&views, &format!("[{one},{one},{{\"article\":\"\",\"user\":\"u\"}}]"));
    assert_eq!(
        (answer.status, answer.json()["accepted"].as_u64(), answer.json()["rejected"].as_u64()),
        (200, Some(2), Some(1))
    );
    assert!(answer.body.contains("article id is empty"), "{}", answer.body);
    let answer = post(&views, &format!("{one}\n{one}\n"));
    assert_eq!((answer.status, answer.json()["accepted"].as_u64()), (200, Some(2)));
    let answer = get(&format!("{ingest}/v1/pixel.gif?article=a&user=u"));
    assert!(answer.status == 200 && answer.body.starts_with("GIF89a"), "{answer:?}");
    let numbers = running.article("a");
    assert_eq!(numbers["views"], 7, "{numbers}");

    // Pipelined: each request is counted and answered, in order.
    let host = ingest.strip_prefix("http://").expect("http URL");
    let request = format!("POST /v1/views HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{one}", one.len());
    let last = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answers = raw(host, format!("{}{last}", request.repeat(5)).as_bytes());
    assert_eq!(format!("{}{}", answers.head, answers.body).matches("204 No Content").count(), 5);
    assert_eq!(running.article("a")["views"], 12);
    eventually("12 views stored", SOON, || running.sql("SELECT views FROM article_counts").as_deref() == Some("12"));

    let answer = get(&format!("{ingest}/realtime?x=1"));
    assert!(answer.status == 307 && answer.head.to_lowercase().contains("location: http://"), "{answer:?}");
}

#[test]
fn ids_are_compared_by_bytes_everywhere() {
    let mut running = start(|_| {});
    let ids = [
        "a",
        "A",
        "a ",
        "\u{e1}",
        "a\u{301}",
        "{a}",
        "'\"\\",
        "<script>alert(1)</script>",
        "\u{1f600}",
        "\u{ffff}",
        "\u{feff}x",
        "%41",
        "null",
        "1.0",
    ];
    for (count, id) in ids.iter().enumerate() {
        for _ in 0..=count {
            let body = serde_json::json!({"article": id, "user": format!("{id}-{count}")}).to_string();
            assert_eq!(post(&format!("{}/v1/views", running.ingest()), &body).status, 204, "{id}");
        }
    }
    eventually("all stored", SOON, || running.sql("SELECT SUM(views) FROM reader_counts").as_deref() == Some("105"));
    assert_eq!(running.sql("SELECT COUNT(*) FROM article_counts").as_deref(), Some("14"));
    for (count, id) in ids.iter().enumerate() {
        let path: String = id.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let numbers = running.article(&path);
        assert_eq!((&numbers["article"], &numbers["views"]), (&(*id).into(), &(count + 1).into()), "{numbers}");
    }
    let page = get(&format!(
        "{}/demopage/%3Cscript%3Ealert(1)%3C%2Fscript%3E?usrid=%22%3E%3Cimg%20src=x%3E",
        running.ingest()
    ));
    assert_eq!(page.status, 200);
    assert!(!page.body.contains("<script>alert") && !page.body.contains("<img"), "{}", page.body);
    assert!(page.head.to_lowercase().contains("content-security-policy: default-src 'none'"), "{}", page.head);
}

#[test]
fn bad_input_gets_one_sentence_and_counts_nothing() {
    let mut running = start(|options| {
        options.set("FOOTFALL_INGEST__HEADER_TIMEOUT_MS", "1000");
        options.set("FOOTFALL_INGEST__ANONYMOUS", "false");
    });
    let ingest = running.ingest();
    let host = ingest.strip_prefix("http://").expect("http URL").to_owned();
    let long = "a".repeat(256);
    let sentence = |what: &str, answer: crate::common::Answer, status: u16| {
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        let lines = answer.body.lines().count();
        assert!(lines == 1 && answer.body.len() < 400, "{what}: not one sentence: {:?}", answer.body);
    };
    for (path, status) in [
        ("/demopage/?usrid=u".to_owned(), 422),
        ("/demopage/a".to_owned(), 400),
        ("/demopage/a?usrid=".to_owned(), 422),
        (format!("/demopage/{long}?usrid=u"), 422),
        (format!("/demopage/a?usrid={}", &long[..129]), 422),
        ("/demopage/%ff%fe?usrid=u".to_owned(), 422),
        ("/demopage/a%0ab?usrid=u".to_owned(), 422),
        ("/demopage/a?usrid=%00".to_owned(), 422),
        ("/v1/pixel.gif?article=a".to_owned(), 400),
        ("/demopage/100%?usrid=u".to_owned(), 400),
        ("/demopage/a?usrid=%zz".to_owned(), 400),
        ("/demopage/a?usrid=u&usrid=v".to_owned(), 400),
        ("/v1/articles/%zz".to_owned(), 400),
        ("/demopage/..?usrid=u".to_owned(), 422),
        ("/demopage/%2e?usrid=u".to_owned(), 422),
        ("/demopage/a?usrid=%2E.".to_owned(), 422),
        ("/v1/pixel.gif?article=..&user=u".to_owned(), 422),
        ("/v1/articles/a/b".to_owned(), 404),
        ("/nothing/here".to_owned(), 404),
        ("/v1/views".to_owned(), 405),
    ] {
        sentence(&path, get(&format!("{ingest}{path}")), status);
    }
    let views = format!("{ingest}/v1/views");
    for (body, status) in [
        ("", 400),
        ("{}", 400),
        ("{\"article\":\"a\"}", 400),
        ("{\"article\":\"a\",\"user\":7}", 400),
        ("not json", 400),
        ("{\"article\":\"\",\"user\":\"u\"}", 422),
        ("{\"article\":\"a\\u0007\",\"user\":\"u\"}", 422),
        ("{\"article\":\"a\",\"user\":\"u\",\"id\":\"\"}", 422),
        ("{\"article\":\"a\",\"user\":\"\"}", 422),
        ("{\"article\":\"a\",\"usrid\":\"u\"}", 400),
        ("{\"article\":\"a\",\"article\":\"b\",\"user\":\"u\"}", 400),
        ("article=a&user=u", 400),
        ("{\"article\":\"..\",\"user\":\"u\"}", 422),
        ("{\"article\":\"a\",\"user\":\"u\"} and more", 400),
        ("{\"article\":\"a\",\"user\":\"u\"}{\"article\":\"a\",\"user\":\"u\"}", 400),
        ("[{\"article\":\"a\",\"user\":\"u\"}] and more", 400),
    ] {
        sentence(body, post(&views, body), status);
    }
    sentence("invalid UTF-8", request("POST", &views, &[], b"{\"article\":\"\xff\",\"user\":\"u\"}"), 400);
    sentence("10 MB", request("POST", &views, &[], &vec![b'x'; 10_000_000]), 413);
    let many = vec![r#"{"article":"a","user":"u"}"#; 10_001].join("\n");
    sentence("too many views", post(&views, &many), 413);
    let headers: Vec<(String, String)> = (0..101).map(|n| (format!("x-{n}"), "y".to_owned())).collect();
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(request("GET", &format!("{ingest}/livez"), &headers, b"").status, 431);
    let headers = vec![("x", "y"); 10_000];
    assert_eq!(request("GET", &format!("{ingest}/demopage/a?usrid=u"), &headers, b"").status, 431);
    assert_eq!(raw(&host, b"nonsense\r\n\r\n").status, 400);
    // For serde a struct is an array too.
    let array = post(&views, r#"[["a","u",null]]"#).json();
    assert_eq!((&array["accepted"], &array["rejected"]), (&0.into(), &1.into()), "{array}");
    // Heads whose body could end at two places. Chunks win over a length, and then the connection ends: RFC 9112, 6.3.
    let view = r#"{"article":"","user":"u"}"#;
    let chunks = format!("{:x}\r\n{view}\r\n0\r\n\r\n", view.len());
    let smuggled = "GET /demopage/a?usrid=u HTTP/1.1\r\nHost: a\r\n\r\n";
    for (what, headers, body, status) in [
        ("two lengths", "Content-Length: 25\r\nContent-Length: 26", view, 400),
        ("two lengths in one", "Content-Length: 25, 25", view, 400),
        ("a length with a sign", "Content-Length: +25", view, 400),
        ("a length and chunks", "Content-Length: 25\r\nTransfer-Encoding: chunked", &chunks, 422),
        ("chunks and a length", "Transfer-Encoding: chunked\r\nContent-Length: 25", &chunks, 422),
        ("a folded header", "Content-Length: 25\r\nX: a\r\n b", view, 400),
        ("a folded coding", "Transfer-Encoding:\r\n chunked", &chunks, 400),
        ("a space before the colon", "Content-Length : 25", view, 400),
    ] {
        let bytes = format!("POST /v1/views HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n{body}{smuggled}");
        let answer = raw(&host, bytes.as_bytes());
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(!answer.body.contains("HTTP/1.1"), "{what}: what follows is a request: {answer:?}");
    }

    // A client that sends its head byte by byte is cut off, and so is one that says nothing.
    for head in ["GET /demopage/a?usrid=u HTTP/1.1\r\n", ""] {
        let mut slow = TcpStream::connect(&host).expect("connect");
        slow.set_read_timeout(Some(Duration::from_secs(10))).expect("time-out");
        slow.write_all(head.as_bytes()).expect("write");
        let started = Instant::now();
        let mut rest = Vec::new();
        let _ = slow.read_to_end(&mut rest);
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "a slow client held its connection for {:?}",
            started.elapsed()
        );
        assert!(!String::from_utf8_lossy(&rest).contains("200"), "{:?}", String::from_utf8_lossy(&rest));
    }

    std::thread::sleep(SOON);
    assert_eq!(running.article("a")["views"], 0);
    assert_eq!(running.sql("SELECT COUNT(*) FROM article_counts").as_deref(), Some("0"));
    assert_eq!(running.stack.redis.query(&["EXISTS", "footfall:{0}:log"]).expect("redis"), ["0"]);
}

#[test]
fn a_stop_under_load_loses_nothing_and_resets_nobody() {
    let mut running = start(|options| options.ingests = 2);
    let load = running.load("ledger.tsv", "--views 40000 --articles 100 --users 1000 --connections 32 --rate 8000");
    std::thread::sleep(Duration::from_secs(2));
    let started = Instant::now();
    let status = running.stack.service(Role::Ingest, 0).terminate(Duration::from_secs(10)).expect("ends");
    assert!(status.success(), "{status}");
    assert!(started.elapsed() < Duration::from_millis(2_500), "{:?}", started.elapsed());
    let summary = load.finish();
    // Connections that were told to close, or were never accepted, are not attempts; all others are acknowledged.
    assert!(summary.contains("unknown"), "{summary}");
    running.assert_verified(&["ledger.tsv"]);
    let ledger = std::fs::read_to_string(running.path("ledger.tsv")).expect("ledger");
    assert_eq!(ledger.matches("\tunknown").count(), 0, "{summary}");
    assert_eq!(ledger.matches("\tacknowledged").count(), 40_000, "{summary}");
}
