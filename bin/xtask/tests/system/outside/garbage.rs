//! Garbage from everybody who says something to a service: stores, clients, and whoever writes into the journal's folder.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use footfall_drill::stack::Role;

use super::{Lone, PATIENCE};
use crate::common::{Over, Running, eventually, post, start};

/// Numbers at random, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below.max(1)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.roll(256) as u8).collect()
    }

    /// What could have been meant, and is not.
    fn spoiled(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let at = self.roll(bytes.len());
        match self.roll(8) {
            0 => bytes.truncate(at),
            1 => {
                let more = self.roll(40);
                let more = self.bytes(more);
                bytes.splice(at..at, more).for_each(drop);
            }
            // A number becomes one that no machine has.
            2..=4 => {
                let huge: [&[u8]; 6] =
                    [b"18446744073709551615", b"9223372036854775807", b"-1", b"4294967296", b"", b"1e999"];
                if let Some(from) = bytes[at..].iter().position(u8::is_ascii_digit).map(|from| at + from) {
                    let to = bytes[from..]
                        .iter()
                        .position(|byte| !byte.is_ascii_digit())
                        .map_or(bytes.len(), |to| from + to);
                    bytes.splice(from..to, huge[self.roll(huge.len())].iter().copied()).for_each(drop);
                }
            }
            _ => {
                for _ in 0..=self.roll(4) {
                    let at = self.roll(bytes.len());
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = self.roll(256) as u8;
                    }
                }
            }
        }
        bytes
    }
}

/// Between a service and a store: passes on what the service says, and of what the store answers one part in `in_parts`
/// spoiled.
fn spoil(socket: &Path, in_parts: usize, over: &Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (socket, over) = (socket.to_owned(), Arc::clone(over));
    thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let (Ok(mut client), Ok(mut store)) = (client, UnixStream::connect(&socket)) else { continue };
            let (mut from_client, mut to_store) =
                (client.try_clone().expect("cloned"), store.try_clone().expect("cloned"));
            thread::spawn(move || {
                let _ = std::io::copy(&mut from_client, &mut to_store);
                let _ = to_store.shutdown(std::net::Shutdown::Both);
            });
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let (mut dice, mut buffer) = (Dice(number as u64), [0; 16 * 1024]);
                while let Ok(length @ 1..) = store.read(&mut buffer) {
                    let is_spoiled = !over.load(Ordering::Relaxed) && dice.roll(in_parts) == 0;
                    let bytes = if is_spoiled { dice.spoiled(&buffer[..length]) } else { buffer[..length].to_vec() };
                    if client.write_all(&bytes).is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(std::net::Shutdown::Both);
                let _ = store.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    address
}

/// What the services make of it is worth nothing, and nobody could say what it should be; but they stay.
#[test]
fn garbage_of_stores_ends_no_service() {
    let running = start(|options| options.dashboards = 1);
    let over = Arc::new(AtomicBool::new(false));
    let _over = Over(&over);
    let mut services = vec![];
    for (name, redis_in, mysql_in) in
        [("of-bad-redis", 6, 1 << 30), ("of-bad-mysql", 1 << 30, 6), ("of-bad-stores", 30, 30)]
    {
        let redis = spoil(running.stack.redis.socket(), redis_in, &over);
        let mysql = spoil(running.stack.mariadb.socket(), mysql_in, &over);
        services.extend(Lone::start_all(&running, name, "", |command| {
            command.env("FOOTFALL_REDIS__URL", format!("redis://{redis}/0"));
            command.env("FOOTFALL_DATABASE__URL", format!("mysql://root@{mysql}/footfall"));
            command.env("FOOTFALL_REDIS__TIMEOUT_MS", "300").env("FOOTFALL_DATABASE__TIMEOUT_MS", "500");
            command.env("FOOTFALL_INGEST__ANSWER_TIMEOUT_MS", "300");
        }));
    }
    // Some are told at the start that a store cannot be used, and end with a sentence: they begin anew.
    let end = Instant::now() + Duration::from_secs(15);
    let mut ended = 0;
    while Instant::now() < end {
        for service in &mut services {
            if let Some(status) = service.child.try_wait().expect("a child") {
                let log = fs::read_to_string(running.path(&format!("logs/{}.log", service.name))).unwrap_or_default();
                assert!(matches!(status.code(), Some(1 | 69)), "{}: {status}\n{log}", service.name);
                ended += 1;
                continue;
            }
            let text = fs::read_to_string(&service.addresses).unwrap_or_default();
            for address in text.lines().filter_map(|line| line.split_once('=')?.1.parse::<SocketAddr>().ok()) {
                for request in
                    ["GET /v1/articles/a", "GET /v1/pixel.gif?article=a&user=u", "GET /v1/articles", "GET /metrics"]
                {
                    ask(
                        address,
                        format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
                    );
                }
            }
        }
        services.retain_mut(|service| matches!(service.child.try_wait(), Ok(None)));
    }
    println!("{} services stayed, {ended} ended with a sentence", services.len());
    assert!(!services.is_empty());
}

/// Sends bytes, and reads what comes for a moment.
fn ask(address: SocketAddr, bytes: &[u8]) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 4096]);
}

#[test]
fn garbage_of_clients_ends_no_service() {
    let running = start(|options| options.dashboards = 1);
    let mut services = Lone::start_all(&running, "of-bad-clients", "", |_| {});
    services.extend(Lone::start_all(&running, "of-bad-proxies", "", |command| {
        command.env("FOOTFALL_HTTP__PROXY_PROTOCOL", "true").env("FOOTFALL_HTTP__TRUSTED_PROXIES", "127.0.0.1");
    }));
    let head = |line: &str, more: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n").into_bytes();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let views = br#"[{"article":"a","user":"u"},["a","u"]]"#;
    let post =
        |body: &[u8]| [head("POST /v1/views", &format!("Content-Length: {}\r\n", body.len())), body.to_vec()].concat();
    let proxied = |bytes: Vec<u8>| [b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(), bytes].concat();
    let second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\0\x01\0\x02".to_vec();
    let mut good = vec![
        head("GET /v1/articles/a?b=c&d=%20", ""),
        head("GET /demopage/a?usrid=1", "X-Forwarded-For: 1.2.3.4, ::1\r\nUser-Agent: x\r\nSec-GPC: 1\r\n"),
        head("GET /v1/articles?by=views&after=1.a&limit=10", "If-None-Match: \"1.2\", W/\"3\"\r\n"),
        head("GET /v1/articles/a/hours?last=18446744073709551615", "Cookie: footfall=1.ab; footfall=x\r\n"),
        post(views),
        post(b"{\"article\":\"a\",\"user\":\"u\",\"id\":\"1\"}\n{\"article\":\"b\",\"user\":\"u\"}\n"),
        [
            head("GET /realtime", upgrade),
            b"\x81\x85\x01\x02\x03\x04\x69\x67\x6f\x68\x6e\x89\x80\x01\x02\x03\x04".to_vec(),
        ]
        .concat(),
        [second, head("GET /v1/articles/a", "")].concat(),
    ];
    good.extend(good.clone().into_iter().map(proxied));
    for service in &mut services {
        service.wait_ready();
    }
    let mut dice = Dice(7);
    for round in 0..400 {
        for service in &mut services {
            let which = if round % 4 > 0 && !service.name.starts_with("flusher") { "listen" } else { "admin" };
            let one = dice.roll(good.len());
            let bytes = if dice.roll(20) == 0 { dice.bytes(300) } else { dice.spoiled(&good[one]) };
            let Ok(mut stream) = TcpStream::connect(service.address(which)) else { panic!("{} is gone", service.name) };
            let _ = stream.write_all(&bytes);
            // Half of them do not wait for an answer.
            if dice.roll(2) == 0 {
                let _ = stream.set_read_timeout(Some(Duration::from_millis(5)));
                let _ = stream.read(&mut [0; 4096]);
            }
        }
    }
    for service in &mut services {
        service.assert_ends_well();
    }
}

#[test]
fn garbage_in_the_journal_ends_no_ingest() {
    let mut running = start(|_| {});
    let journal = running.path("ingest-that-was-here.journal");
    let start_one = |running: &Running, name: &str| {
        Lone::start(running, "ingest", name, "", |command| {
            command.env("FOOTFALL_INGEST__JOURNAL", &journal);
        })
    };
    // A real one, left behind.
    running.stack.service(Role::Flusher, 0).pause().expect("paused");
    let mut left = start_one(&running, "that-left-something");
    left.wait_ready();
    for _ in 0..5 {
        assert_eq!(post(&format!("{}/v1/views", left.url("listen")), r#"{"article":"a","user":"u"}"#).status, 204);
    }
    left.child.kill().expect("killed");
    left.child.wait().expect("ended");
    running.stack.service(Role::Flusher, 0).resume().expect("resumed");

    let mut dice = Dice(3);
    let files = files_below(&journal);
    assert!(!files.is_empty(), "a journal has files");
    for (number, file) in files.iter().enumerate() {
        let bytes = fs::read(file).unwrap_or_default();
        for copy in 0..6_usize {
            let name = file.file_name().expect("a name").to_string_lossy().into_owned();
            let digit = char::from_digit(copy as u32 + 1, 10).expect("a digit");
            // Of another life: another name, of the same form.
            let name = name.replacen(|c: char| c.is_ascii_hexdigit(), &digit.to_string(), 1);
            let path = file.with_file_name(format!("{name}{}", if copy == 5 { ".old" } else { "" }));
            if path.exists() {
                continue;
            }
            let _ = match (number + copy) % 4 {
                0 => fs::write(&path, dice.spoiled(&bytes)),
                1 => fs::create_dir(&path),
                2 => std::os::unix::fs::symlink("/dev/zero", &path),
                _ => Command::new("mkfifo").arg(&path).status().map(drop),
            };
        }
        let mut spoiled = dice.spoiled(&bytes);
        spoiled.truncate(bytes.len());
        fs::write(file, spoiled).expect("written");
    }
    let mut next = start_one(&running, "that-comes-after");
    next.wait_ready();
    thread::sleep(Duration::from_secs(8));
    assert_eq!(post(&format!("{}/v1/views", next.url("listen")), r#"{"article":"b","user":"u"}"#).status, 204);
    eventually("it is in MySQL", PATIENCE, || {
        running.sql("SELECT views FROM article_counts WHERE article = 'b'").is_some_and(|views| views == "1")
    });
    next.assert_ends_well();
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { vec![entry.path()] })
        .collect()
}
