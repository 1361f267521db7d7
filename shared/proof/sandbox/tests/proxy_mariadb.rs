//! The proxy in front of a real MariaDB: every action on a transaction, and what the server knows of it.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use footfall_sandbox::{
    Action, Cut, Direction, MariaDb, MariaDbOptions, Message, MySqlCommand, Protocol, Proxy, find_program,
};
use tempfile::TempDir;

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

/// For what must happen.
const LONG: Duration = Duration::from_secs(30);
/// For what must not happen.
const SHORT: Duration = Duration::from_millis(150);

/// A server that tests which run at the same time share, because making one takes seconds. Each has its own database.
struct Server {
    mariadb: MariaDb,
    databases: AtomicU32,
    _dir: TempDir,
}

impl Server {
    fn new() -> io::Result<Self> {
        let dir = TempDir::new()?;
        let options = MariaDbOptions { buffer_pool_mib: 32, flush_log_at_commit: 2, ..MariaDbOptions::default() };
        let mariadb = MariaDb::start(dir.path(), &options)?;
        Ok(Self { mariadb, databases: AtomicU32::new(0), _dir: dir })
    }

    fn shared() -> io::Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

        let mut shared = SHARED.lock().map_err(|_| io::Error::other("it could not be started"))?;
        if let Some(server) = shared.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(Self::new()?);
        *shared = Arc::downgrade(&server);
        Ok(server)
    }
}

struct World {
    proxy: Proxy,
    database: String,
    server: Arc<Server>,
}

impl World {
    /// With an empty table of numbers.
    fn new() -> io::Result<Self> {
        let server = Server::shared()?;
        let database = format!("sandbox{}", server.databases.fetch_add(1, Ordering::Relaxed));
        let table = format!("CREATE TABLE {database}.numbers (number INT PRIMARY KEY)");
        server.mariadb.query(&format!("CREATE DATABASE {database}; {table}"))?;
        let proxy = Proxy::start(server.mariadb.socket().into(), Protocol::MySql)?;
        Ok(Self { proxy, database, server })
    }

    fn client(&self) -> io::Result<Client> {
        Client::connect(&self.proxy, &self.database, true)
    }

    /// What the server has, asked directly.
    fn numbers(&self) -> io::Result<Vec<String>> {
        let Self { server, database, .. } = self;
        Ok(server.mariadb.query(&format!("SELECT number FROM {database}.numbers ORDER BY number"))?.concat())
    }

    /// Waits until nobody is connected to the database: open transactions are rolled back then.
    fn wait_until_left(&self) -> Result {
        let Self { server, database, .. } = self;
        let users = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{database}'");
        wait_until(|| Ok(server.mariadb.query(&users)? == [["0"]]))
    }
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

/// A client that speaks the protocol plainly: no reply is longer than a packet, and numbers are small.
struct Client {
    stream: BufReader<TcpStream>,
    eof_deprecated: bool,
}

fn refusal(packet: &[u8]) -> io::Error {
    io::Error::other(String::from_utf8_lossy(&packet[9..]).into_owned())
}

/// Rows, each as the bytes that came.
type Rows = Vec<Vec<u8>>;

impl Client {
    fn connect(proxy: &Proxy, database: &str, eof_deprecated: bool) -> io::Result<Self> {
        // Protocol 4.1, a database, transactions, many statements and results, the method of authentication.
        let bits = [3, 9, 13, 15, 16, 17, 18, 19].iter().fold(0, |bits, bit| bits | 1_u32 << bit);
        let capabilities = bits | u32::from(eof_deprecated) << 24;
        let stream = TcpStream::connect(proxy.address())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LONG))?;
        let mut client = Self { stream: BufReader::new(stream), eof_deprecated };
        client.packet()?;
        let names = [b"root\0\0", database.as_bytes(), b"\0mysql_native_password\0"].concat();
        client.send(1, &[&capabilities.to_le_bytes()[..], &[0, 0, 0, 1, 45], &[0; 23], &names].concat())?;
        client.rows()?;
        Ok(client)
    }

    fn send(&mut self, number: u8, payload: &[u8]) -> io::Result<()> {
        let mut header = (payload.len() as u32).to_le_bytes();
        header[3] = number;
        self.stream.get_mut().write_all(&[&header, payload].concat())
    }

    fn packet(&mut self) -> io::Result<Vec<u8>> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header)?;
        header[3] = 0;
        let mut payload = vec![0; u32::from_le_bytes(header) as usize];
        self.stream.read_exact(&mut payload)?;
        Ok(payload)
    }

    /// Reads OK, an error, or a result set, and what follows that.
    fn rows(&mut self) -> io::Result<Rows> {
        let mut rows = Vec::new();
        loop {
            let first = self.packet()?;
            let status = match first[0] {
                0x00 => first[Self::after_number(&first, Self::after_number(&first, 1))],
                0xff => return Err(refusal(&first)),
                columns => {
                    for _ in 0..columns + u8::from(!self.eof_deprecated) {
                        self.packet()?;
                    }
                    loop {
                        let row = self.packet()?;
                        match row[0] {
                            0xfe => break row[3],
                            0xff => return Err(refusal(&row)),
                            _ => rows.push(row),
                        }
                    }
                }
            };
            if status & 8 == 0 {
                return Ok(rows);
            }
        }
    }

    /// Where a number that begins there ends.
    fn after_number(packet: &[u8], at: usize) -> usize {
        at + if packet[at] == 0xfc { 3 } else { 1 }
    }

    fn query(&mut self, sql: &str) -> io::Result<Rows> {
        self.send(0, &[b"\x03", sql.as_bytes()].concat())?;
        self.rows()
    }

    /// Prepares a statement that takes one number, and returns its number.
    fn prepare(&mut self, sql: &str) -> io::Result<u32> {
        self.send(0, &[b"\x16", sql.as_bytes()].concat())?;
        let answer = self.packet()?;
        assert_eq!((answer[0], answer[7]), (0, 1), "one parameter");
        let ends = if self.eof_deprecated { 0 } else { 1 + u8::from(answer[5] > 0) };
        for _ in 0..answer[5] + 1 + ends {
            self.packet()?;
        }
        Ok(u32::from_le_bytes([answer[1], answer[2], answer[3], answer[4]]))
    }

    fn execute(&mut self, statement: u32, number: u32) -> io::Result<Rows> {
        let (statement, number) = (statement.to_le_bytes(), number.to_le_bytes());
        // No cursor, once, no nulls, types follow, a 32-bit number.
        self.send(0, &[&b"\x17"[..], &statement, b"\0\x01\0\0\0\0\x01\x03\0", &number].concat())?;
        self.rows()
    }

    /// Has something executed whose answer must not come.
    fn lose(mut self, sql: &str) {
        let error = self.query(sql).expect_err("closed");
        let kind = error.kind();
        assert!(matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset), "{error}");
    }

    /// Inserts the number in a transaction that stays open.
    fn insert(&mut self, number: u32) -> io::Result<()> {
        self.query("BEGIN")?;
        self.query(&format!("INSERT INTO numbers VALUES ({number})")).map(drop)
    }
}

fn commit(message: &Message) -> bool {
    message.runs_sql("commit")
}

// ---- without faults ----

#[test]
fn it_is_transparent() -> Result {
    let world = World::new()?;
    for eof_deprecated in [true, false] {
        let mut client = Client::connect(&world.proxy, &world.database, eof_deprecated)?;
        client.query("DELETE FROM numbers; INSERT INTO numbers SELECT seq FROM seq_1_to_10000")?;
        assert_eq!(client.query("SELECT number FROM numbers")?.len(), 10_000);
        assert_eq!(client.query("SELECT 1; SELECT 2, 3 FROM numbers LIMIT 2; SET @x = 1; SELECT 4")?.len(), 4);
        // At once, after a result, and after rows, when a number has become too large.
        for query in ["SELECT x", "SELECT 1; SELECT x", "SELECT EXP(number) FROM numbers ORDER BY number"] {
            assert_eq!(client.query(query).expect_err("an error").kind(), io::ErrorKind::Other);
        }

        let select = client.prepare("SELECT number, NULL FROM numbers WHERE number <= ?")?;
        assert_eq!(client.execute(select, 1234)?.len(), 1234);
        assert!(client.prepare("INSERT INTO numbers VALUES (?)").and_then(|insert| client.execute(insert, 1)).is_err());
        client.send(0, &[&b"\x19"[..], &select.to_le_bytes()].concat())?;
        assert!(client.execute(select, 1).is_err(), "closed");

        // Ping, statistics, another database, a fresh connection; all at once.
        for command in [&b"\x0e"[..], b"\x09", b"\x02mysql", b"\x1f"] {
            client.send(0, command)?;
        }
        let answers: Vec<Vec<u8>> = (0..4).map(|_| client.packet()).collect::<io::Result<_>>()?;
        assert!(answers[1].starts_with(b"Uptime"));
        assert_eq!(client.query("SELECT CONCAT(USER(), @x IS NULL)")?, [b"\x0froot@localhost1"]);
    }
    let metrics = world.proxy.metrics();
    assert_eq!(metrics.unreadable, 0);
    // Two logins have been answered that were no requests, and two statements closed without an answer.
    assert_eq!(metrics.requests, metrics.replies);
    Ok(())
}

#[test]
fn the_command_line_client_and_large_values_pass() -> Result {
    let world = World::new()?;
    let address = world.proxy.address();
    let text = "x".repeat(100_000);
    let output = Command::new(find_program("mariadb").ok_or("no client")?)
        .args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=root", "--batch", "--skip-column-names"])
        .args([format!("--port={}", address.port()), format!("--execute=SELECT REPEAT('{text}', 100)")])
        .arg(&world.proxy.mysql_url(&world.database)[format!("mysql://root@{address}/").len()..])
        .output()?;
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout == [text.repeat(100).as_bytes(), b"\n"].concat());
    assert_eq!(world.proxy.metrics().unreadable, 0);
    world.wait_until_left()
}

#[test]
fn a_server_that_refuses_or_ends_is_heard() -> Result {
    let mut server = Server::new()?;
    let proxy = Proxy::start(server.mariadb.socket().into(), Protocol::MySql)?;
    let connect = || Client::connect(&proxy, "sandbox", true);
    server.mariadb.query("SET GLOBAL max_connections = 10")?;
    // One more, which the server keeps for its root.
    let clients: Vec<Client> = (0..12).filter_map(|_| connect().ok()).collect();
    assert_eq!(clients.len(), 11);
    let mut refused = Client { stream: BufReader::new(TcpStream::connect(proxy.address())?), eof_deprecated: true };
    assert!(String::from_utf8_lossy(&refused.packet()?).contains("Too many connections"));
    assert_eq!(refused.stream.read(&mut [0])?, 0);
    drop(clients);
    wait_until(|| Ok(proxy.metrics().open_connections == 0))?;
    assert_eq!(proxy.metrics().unreadable, 0);

    let mut client = connect()?;
    client.query("SELECT 1")?;
    server.mariadb.kill()?;
    client.lose("SELECT 2");
    assert!(connect().is_err());
    server.mariadb.restart()?;
    connect()?.query("SELECT 3")?;
    Ok(())
}

#[test]
fn its_overhead_is_small() -> Result {
    const ROUNDS: u32 = 2_000;
    let world = World::new()?;
    let second = Proxy::start(world.proxy.address().into(), Protocol::MySql)?;
    for (name, proxy) in [("one proxy", &world.proxy), ("two", &second)] {
        let mut client = Client::connect(proxy, &world.database, true)?;
        let start = Instant::now();
        for _ in 0..ROUNDS {
            client.query("SELECT 1")?;
        }
        println!("{name}: {:?} a round trip", start.elapsed() / ROUNDS);
    }
    Ok(())
}

// ---- rules ----

#[test]
fn a_dropped_commit_is_rolled_back_and_one_without_answer_is_not() -> Result {
    let world = World::new()?;
    let faults = [
        (Action::DropRequest, false),
        (Action::DropReply, true),
        (Action::CutRequest(Cut::Fraction(0.5)), false),
        (Action::CutReply(Cut::Bytes(6)), true),
    ];
    for (number, (action, is_executed)) in (1..).zip(faults) {
        let rule = world.proxy.inject(commit, action, 1);
        let mut client = world.client()?;
        client.insert(number)?;
        client.lose("COMMIT");
        assert!(rule.wait_done(LONG));
        world.wait_until_left()?;
        assert_eq!(world.numbers()?.contains(&number.to_string()), is_executed, "{action:?}");
    }
    assert_eq!(world.proxy.metrics().fired, 4);
    Ok(())
}

#[test]
fn a_held_commit_is_executed_after_its_client_has_gone() -> Result {
    let world = World::new()?;
    let rule = world.proxy.inject(commit, Action::HoldRequest, 1);
    let mut client = world.client()?;
    client.insert(1)?;
    client.send(0, b"\x03COMMIT")?;
    assert!(rule.wait_held(LONG));
    drop(client);
    // Its rows are locked meanwhile.
    let mut other = world.client()?;
    other.query("SET innodb_lock_wait_timeout = 1")?;
    assert!(other.insert(1).is_err());
    assert_eq!(world.numbers()?, [""; 0]);

    rule.release();
    assert!(rule.wait_done(LONG));
    assert_eq!(world.numbers()?, ["1"]);
    drop(other);
    world.wait_until_left()
}

#[test]
fn a_held_answer_hides_a_commit() -> Result {
    let world = World::new()?;
    let rule = world.proxy.inject(commit, Action::HoldReply, 1);
    let mut client = world.client()?;
    client.insert(1)?;
    client.send(0, b"\x03COMMIT")?;
    assert!(rule.wait_held(LONG));
    assert_eq!(world.numbers()?, ["1"]);
    rule.release();
    client.rows()?;
    client.query("SELECT 1")?;
    Ok(())
}

#[test]
fn a_prepared_statement_is_matched_by_its_text() -> Result {
    let world = World::new()?;
    for eof_deprecated in [true, false] {
        let executes = |message: &Message| {
            message.contains("INTO numbers")
                && !matches!(message, Message::MySql { command: MySqlCommand::Prepare, .. })
        };
        let mut client = Client::connect(&world.proxy, &world.database, eof_deprecated)?;
        let select = client.prepare("SELECT number FROM numbers WHERE number = ?")?;
        let insert = client.prepare("INSERT INTO numbers VALUES (?)")?;
        let rule = world.proxy.inject(executes, Action::DropReply, 1);
        assert!(client.execute(select, 1)?.is_empty());
        assert_eq!(rule.fired(), 0);
        assert!(client.execute(insert, 1).is_err());
        assert_eq!((rule.fired(), world.numbers()?), (1, vec!["1".to_owned()]));
        world.client()?.query("DELETE FROM numbers")?;
    }
    Ok(())
}

// ---- standing conditions ----

#[test]
fn a_stalled_answer_does_not_stop_a_commit() -> Result {
    let world = World::new()?;
    let mut client = world.client()?;
    client.insert(1)?;
    world.proxy.stall(Direction::ToClient);
    client.send(0, b"\x03COMMIT")?;
    wait_until(|| Ok(world.numbers()? == ["1"]))?;
    client.stream.get_ref().set_read_timeout(Some(SHORT))?;
    assert!(client.packet().is_err());
    client.stream.get_ref().set_read_timeout(Some(LONG))?;
    world.proxy.heal()?;
    client.rows()?;

    client.insert(2)?;
    world.proxy.cut();
    client.lose("COMMIT");
    world.wait_until_left()?;
    assert_eq!(world.numbers()?, ["1"]);
    world.proxy.heal()?;
    world.client()?.insert(2)?;
    Ok(())
}
