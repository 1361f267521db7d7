//! The proxy in front of a real Redis: every action, and what the server knows of it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use footfall_sandbox::{
    Action, AppendFsync, Cut, Direction, Message, Protocol, Proxy, ProxyMetrics, Redis, RedisOptions,
};
use tempfile::TempDir;

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

/// For what must happen.
const LONG: Duration = Duration::from_secs(30);
/// For what must not happen.
const SHORT: Duration = Duration::from_millis(150);

struct World {
    redis: Redis,
    proxy: Proxy,
    _dir: TempDir,
}

impl World {
    fn new() -> io::Result<Self> {
        let dir = TempDir::new()?;
        let options = RedisOptions { append_fsync: AppendFsync::No, ..RedisOptions::default() };
        let redis = Redis::start(dir.path(), &options)?;
        let proxy = Proxy::start(redis.socket().into(), Protocol::Redis)?;
        Ok(Self { redis, proxy, _dir: dir })
    }

    fn client(&self) -> io::Result<Client> {
        Client::connect(&self.proxy)
    }

    /// What the server has, asked directly.
    fn count(&self) -> io::Result<u64> {
        Ok(self.redis.query(&["GET", "count"])?.pop().map_or(0, |count| count.parse().expect("a number")))
    }

    /// Waits until the server has that.
    fn wait_for_count(&self, count: u64) -> Result {
        wait_until(|| Ok(self.count()? == count))
    }
}

/// A client that speaks the protocol plainly.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(proxy: &Proxy) -> io::Result<Self> {
        let stream = TcpStream::connect(proxy.address())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LONG))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// The next line of a reply.
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line)
    }

    fn call(&mut self, command: &str) -> io::Result<String> {
        self.send(format!("{command}\r\n").as_bytes())?;
        self.line()
    }

    /// Everything until the connection is closed, and that it is.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut rest) {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "closed, not silent");
        }
        rest
    }

    /// Whether nothing comes for a while.
    fn is_silent(&mut self) -> io::Result<bool> {
        self.0.get_ref().set_read_timeout(Some(SHORT))?;
        let silent = matches!(self.0.fill_buf(), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.0.get_ref().set_read_timeout(Some(LONG))?;
        Ok(silent)
    }
}

fn incr(message: &Message) -> bool {
    message.is_redis("INCR")
}

fn wait_until(condition: impl Fn() -> io::Result<bool>) -> Result {
    let deadline = Instant::now() + LONG;
    while !condition()? {
        if Instant::now() > deadline {
            return Err("waited for too long".into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

// ---- without faults ----

#[test]
fn it_is_transparent() -> Result {
    let world = World::new()?;
    let mut client = world.client()?;
    assert_eq!(client.call("INCR count")?, ":1\r\n");
    assert_eq!(client.call("GET nothing")?, "$-1\r\n");
    assert!(client.call("INCR")?.starts_with("-ERR"));

    // More requests on their way than the proxy lets through before it wants to see replies.
    const REQUESTS: usize = 200_000;
    let mut sender = client.0.get_ref().try_clone()?;
    let sending = thread::spawn(move || sender.write_all(&b"*2\r\n$4\r\nINCR\r\n$5\r\ncount\r\n".repeat(REQUESTS)));
    for count in 2..REQUESTS + 2 {
        assert_eq!(client.line()?, format!(":{count}\r\n"));
    }
    sending.join().expect("no panic")?;

    let value: Vec<u8> = (0..1_u32 << 20).map(|number| (number ^ number >> 8) as u8).collect();
    let header = format!("*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n${}\r\n", value.len());
    client.send(&[header.as_bytes(), &value, b"\r\n"].concat())?;
    assert_eq!(client.line()?, "+OK\r\n");
    assert_eq!(client.call("GET large")?, format!("${}\r\n", value.len()));
    let mut back = vec![0; value.len() + 2];
    client.0.read_exact(&mut back)?;
    assert!(back == [&value[..], b"\r\n"].concat());

    // Nested arrays, and a transaction.
    client.send(b"EVAL \"return {1,{2,'x'},{}}\" 0\r\nMULTI\r\nINCR count\r\nEXEC\r\nPING\r\n")?;
    let lines: Vec<String> = (0..12).map(|_| client.line()).collect::<io::Result<_>>()?;
    let expected = format!("*3 :1 *2 :2 $1 x *0 +OK +QUEUED *1 :{} +PONG ", REQUESTS + 2);
    assert_eq!(lines.concat().replace("\r\n", " "), expected);

    let metrics = world.proxy.metrics();
    let requests = REQUESTS as u64 + 10;
    let expected =
        ProxyMetrics { connections: 1, open_connections: 1, requests, replies: requests, fired: 0, unreadable: 0 };
    assert_eq!(metrics, expected);
    Ok(())
}

#[test]
fn its_overhead_is_small() -> Result {
    const ROUNDS: u32 = 5_000;
    let world = World::new()?;
    // What the second one adds is what one costs, all of it on TCP.
    let second = Proxy::start(world.proxy.address().into(), Protocol::Redis)?;
    for (name, proxy) in [("one proxy", &world.proxy), ("two", &second)] {
        let mut client = Client::connect(proxy)?;
        let start = Instant::now();
        for _ in 0..ROUNDS {
            client.call("INCR count")?;
        }
        let single = start.elapsed() / ROUNDS;
        let start = Instant::now();
        for _ in 0..50 {
            client.send(&b"INCR count\r\n".repeat(1000))?;
            for _ in 0..1000 {
                client.line()?;
            }
        }
        println!("{name}: {single:?} a round trip, {:?} each in pipelines of 1000", start.elapsed() / 50_000);
    }
    assert_eq!(world.count()?, 2 * (u64::from(ROUNDS) + 50_000));
    Ok(())
}

#[test]
fn what_it_cannot_read_it_passes_on_and_says_so() -> Result {
    let world = World::new()?;
    let mut subscriber = world.client()?;
    assert_eq!(subscriber.call("SUBSCRIBE one two")?, "*3\r\n");
    for _ in 0..11 {
        subscriber.line()?;
    }
    world.redis.query(&["PUBLISH", "two", "hello"])?;
    let lines: Vec<String> = (0..7).map(|_| subscriber.line()).collect::<io::Result<_>>()?;
    assert_eq!(lines.concat(), "*3\r\n$7\r\nmessage\r\n$3\r\ntwo\r\n$5\r\nhello\r\n");

    let mut confused = world.client()?;
    assert!(confused.call("*nonsense")?.starts_with("-ERR Protocol error"));
    assert_eq!(world.proxy.metrics().unreadable, 2);
    Ok(())
}

// ---- rules ----

#[test]
fn a_dropped_request_is_not_executed() -> Result {
    let world = World::new()?;
    let rule = world.proxy.inject(incr, Action::DropRequest, 1);
    assert!(!rule.wait_fired(Duration::ZERO));
    let mut client = world.client()?;
    client.send(b"SET count 5\r\nINCR count\r\nINCR count\r\n")?;
    assert_eq!(client.rest(), b"+OK\r\n", "what came before is answered");
    assert!(rule.wait_done(LONG));
    assert_eq!(world.count()?, 5);
    assert_eq!(world.client()?.call("INCR count")?, ":6\r\n", "once is enough");
    assert_eq!((rule.fired(), world.proxy.metrics().fired), (1, 1));
    Ok(())
}

#[test]
fn a_dropped_reply_is_executed() -> Result {
    let world = World::new()?;
    let rule = world.proxy.inject(incr, Action::DropReply, 2);
    for _ in 0..2 {
        let mut client = world.client()?;
        client.send(b"PING\r\nINCR count\r\n")?;
        assert_eq!(client.rest(), b"+PONG\r\n");
    }
    assert_eq!(world.count()?, 2);
    assert_eq!(world.client()?.call("INCR count")?, ":3\r\n");
    assert_eq!(rule.fired(), 2);
    Ok(())
}

#[test]
fn a_cut_request_is_not_executed() -> Result {
    let world = World::new()?;
    for cut in [Cut::Bytes(0), Cut::Bytes(14), Cut::Fraction(0.5), Cut::Fraction(1.0), Cut::Bytes(usize::MAX)] {
        let rule = world.proxy.inject(incr, Action::CutRequest(cut), 1);
        let mut client = world.client()?;
        client.send(b"*2\r\n$4\r\nINCR\r\n$5\r\ncount\r\n")?;
        assert_eq!(client.rest(), b"", "{cut:?}");
        assert!(rule.wait_done(LONG));
    }
    assert_eq!(world.client()?.call("PING")?, "+PONG\r\n");
    assert_eq!(world.count()?, 0);
    Ok(())
}

#[test]
fn a_cut_reply_arrives_in_part() -> Result {
    let world = World::new()?;
    for (cut, part) in [(Cut::Bytes(0), ""), (Cut::Bytes(1), ":"), (Cut::Fraction(0.5), ":3"), (Cut::Bytes(9), ":4\r")]
    {
        world.proxy.inject(incr, Action::CutReply(cut), 1);
        let mut client = world.client()?;
        client.send(b"INCR count\r\n")?;
        assert_eq!(client.rest(), part.as_bytes());
    }
    assert_eq!(world.count()?, 4);
    Ok(())
}

#[test]
fn a_held_request_is_executed_late_and_once() -> Result {
    let world = World::new()?;
    let rule = world.proxy.inject(incr, Action::HoldRequest, u64::MAX);
    let mut client = world.client()?;
    client.send(b"SET count 5\r\nINCR count\r\n")?;
    assert_eq!(client.line()?, "+OK\r\n");
    assert!(rule.wait_held(LONG));
    drop(client);
    assert!(!rule.wait_done(SHORT));
    assert_eq!((rule.held(), world.count()?), (1, 5));

    // The client that has gone is followed by another one, which is held on its own.
    let mut second = world.client()?;
    second.send(b"INCR count\r\nPING\r\n")?;
    assert!(second.is_silent()?, "not even what comes after");
    assert_eq!(rule.held(), 2);
    rule.remove();
    world.client()?.call("INCR count")?;
    rule.release();
    assert!(rule.wait_done(LONG));
    assert_eq!((rule.held(), rule.fired(), world.count()?), (0, 2, 8));
    second.line()?;
    assert_eq!(second.line()?, "+PONG\r\n");
    Ok(())
}

#[test]
fn a_held_request_can_be_dropped_or_lost() -> Result {
    let world = World::new()?;
    let rule = world.proxy.inject(incr, Action::HoldRequest, u64::MAX);
    let ends: [fn(&World); 2] = [|_| (), |world| world.proxy.close_connections()];
    for end in ends {
        let mut client = world.client()?;
        client.send(b"INCR count\r\n")?;
        assert!(rule.wait_held(LONG));
        end(&world);
        rule.drop_held();
        assert_eq!(client.rest(), b"");
        assert!(rule.wait_done(LONG));
    }
    assert_eq!(world.count()?, 0);
    Ok(())
}

#[test]
fn a_held_reply_is_executed_at_once() -> Result {
    let world = World::new()?;
    let rule = world.proxy.inject(incr, Action::HoldReply, 2);
    let mut client = world.client()?;
    client.send(b"INCR count\r\nPING\r\n")?;
    assert!(rule.wait_held(LONG));
    assert_eq!(world.count()?, 1);
    assert!(client.is_silent()?);
    rule.release();
    assert_eq!((client.line()?, client.line()?), (":1\r\n".to_owned(), "+PONG\r\n".to_owned()));

    client.send(b"INCR count\r\n")?;
    assert!(rule.wait_held(LONG));
    rule.drop_held();
    assert_eq!(client.rest(), b"");
    assert_eq!(world.count()?, 2);
    Ok(())
}

#[test]
fn a_matcher_that_panics_closes_the_connection() -> Result {
    let world = World::new()?;
    world.proxy.inject(|message| message.argument(1)[0] == b'x', Action::DropReply, 1);
    let mut client = world.client()?;
    client.send(b"PING\r\n")?;
    assert_eq!(client.rest(), b"", "closed, not silent");
    assert_eq!(world.client()?.call("INCR count")?, ":1\r\n");
    wait_until(|| Ok(world.proxy.metrics().open_connections == 0))
}

#[test]
fn one_request_can_be_delayed() -> Result {
    let world = World::new()?;
    world.proxy.inject(|message| message.argument(1) == b"slow", Action::Delay(SHORT), 1);
    let mut client = world.client()?;
    let start = Instant::now();
    client.send(b"INCR count\r\nINCR slow\r\nINCR count\r\n")?;
    let lines: Vec<String> = (0..3).map(|_| client.line()).collect::<io::Result<_>>()?;
    assert_eq!(lines.concat(), ":1\r\n:1\r\n:2\r\n", "what comes after waits behind it");
    assert!(start.elapsed() >= SHORT);
    Ok(())
}

// ---- standing conditions ----

#[test]
fn a_cut_refuses_connects_until_it_is_healed() -> Result {
    let world = World::new()?;
    let address = world.proxy.address();
    for round in 1..=3 {
        let mut client = world.client()?;
        assert_eq!(client.call("INCR count")?, format!(":{round}\r\n"));
        world.proxy.cut();
        assert_eq!(client.rest(), b"");
        let error = world.client().map(drop).expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        wait_until(|| Ok(world.proxy.metrics().open_connections == 0))?;
        world.proxy.heal()?;
        assert_eq!(world.proxy.address(), address);
    }
    world.proxy.heal()?;
    drop(world.proxy);
    assert!(TcpStream::connect(address).is_err());
    Ok(())
}

#[test]
fn a_stall_lets_one_way_through() -> Result {
    let world = World::new()?;
    let mut client = world.client()?;
    client.call("PING")?;
    world.proxy.stall(Direction::ToClient);
    client.send(b"INCR count\r\n")?;
    world.wait_for_count(1)?;
    assert!(client.is_silent()?);
    world.proxy.heal()?;
    assert_eq!(client.line()?, ":1\r\n");

    world.proxy.stall(Direction::ToServer);
    client.send(b"INCR count\r\n")?;
    let mut other = world.client()?;
    other.send(b"INCR count\r\n")?;
    drop(other);
    assert!(client.is_silent()?);
    assert_eq!(world.count()?, 1);
    world.proxy.heal()?;
    client.line()?;
    world.wait_for_count(3)?;

    world.proxy.stall(Direction::Both);
    client.send(b"INCR count\r\n")?;
    assert!(client.is_silent()?);
    world.proxy.cut();
    assert_eq!((client.rest(), world.count()?), (Vec::new(), 3));
    Ok(())
}

#[test]
fn a_delay_is_paid_once_by_a_pipeline() -> Result {
    let world = World::new()?;
    let mut client = world.client()?;
    client.call("PING")?;
    world.proxy.delay(SHORT);
    let start = Instant::now();
    client.send(&b"INCR count\r\n".repeat(20))?;
    for _ in 0..20 {
        client.line()?;
    }
    assert!(start.elapsed() >= 2 * SHORT, "there and back");
    assert!(start.elapsed() < 20 * SHORT);

    world.proxy.delay(LONG);
    client.send(b"INCR count\r\n")?;
    assert!(client.is_silent()?);
    world.proxy.heal()?;
    assert_eq!(client.line()?, ":21\r\n", "healed, it does not wait any longer");
    Ok(())
}

#[test]
fn a_server_that_goes_takes_its_clients_along() -> Result {
    let mut world = World::new()?;
    let mut client = world.client()?;
    client.call("PING")?;
    world.redis.kill()?;
    assert_eq!(client.rest(), b"");
    assert_eq!(world.client()?.rest(), b"");
    world.redis.restart()?;
    assert_eq!(world.client()?.call("PING")?, "+PONG\r\n");

    // A client that leaves is gone on the server, too.
    let connected = || world.redis.query(&["CLIENT", "LIST"]).map(|list| list[0].lines().count());
    drop(client);
    wait_until(|| Ok(connected()? == 1))?;
    wait_until(|| Ok(world.proxy.metrics().open_connections == 0))
}
