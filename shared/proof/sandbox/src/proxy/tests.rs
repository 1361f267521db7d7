//! Framing, with messages that arrive in pieces.

use super::frame::{Reply, Request, Requests};
use super::{Message, MySqlCommand, mysql, redis};

/// Capabilities of a client that still wants EOF packets, and of one that does not.
const CAPABILITIES: [u32; 2] = [1 << 9, 1 << 9 | 1 << 24];

// ---- pieces ----

/// Reads all requests from bytes that arrive up to each of these places in turn.
fn requests(reader: &mut Requests, bytes: &[u8], arrivals: &[usize]) -> Vec<Request> {
    let mut found = Vec::new();
    let mut at = 0;
    for arrived in arrivals {
        while let Some(request) = reader.next(&bytes[at..*arrived]).expect("readable") {
            at += request.len;
            found.push(request);
        }
    }
    assert_eq!(at, bytes.len(), "nothing is left over");
    found
}

/// Where the replies end, read from bytes that arrive up to each of these places in turn.
fn ends(replies: &mut [Reply], bytes: &[u8], arrivals: &[usize]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    for arrived in arrivals {
        while at < *arrived {
            let (len, ends) = replies[found.len()].scan(&bytes[at..*arrived]).expect("readable");
            at += len;
            if ends {
                found.push(at);
            } else {
                assert_eq!(at, *arrived, "an unfinished reply takes all there is");
            }
        }
    }
    found
}

/// All ways to cut in two, and byte by byte.
fn all_arrivals(len: usize) -> impl Iterator<Item = Vec<usize>> {
    (0..=len).map(move |middle| vec![middle, len]).chain([(0..=len).collect()])
}

// ---- Redis ----

fn redis_replies(count: usize) -> Vec<Reply> {
    (0..count).map(|_| Reply::Redis(redis::Reply::default())).collect()
}

#[test]
fn redis_requests_are_the_same_however_they_arrive() {
    let bytes = b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n\r\n*0\r\n*3\r\n$3\r\nset\r\n$0\r\n\r\n$4\r\n\r\n*1\r\nPING  now\r\n";
    let expected: [&[&[u8]]; 3] = [&[b"INCR", b"a"], &[b"set", b"", b"\r\n*1"], &[b"PING", b"now"]];
    let expected = expected.map(|arguments| Message::Redis(arguments.iter().map(|word| word.to_vec()).collect()));
    for arrivals in all_arrivals(bytes.len()) {
        let found = requests(&mut Requests::Redis, bytes, &arrivals);
        assert!(found.iter().all(|request| request.message.is_some() == request.reply.is_some()));
        let messages: Vec<Message> = found.into_iter().filter_map(|request| request.message).collect();
        assert_eq!(messages, expected, "{arrivals:?}");
    }
}

#[test]
fn redis_replies_end_where_they_end() {
    let replies: [&[u8]; 9] = [
        b"+OK\r\n",
        b":-12\r\n",
        b"-ERR a long text, longer than what is kept of a line\r\n",
        b"$-1\r\n",
        b"$0\r\n\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*3\r\n*2\r\n:1\r\n$3\r\n\r\n+\r\n*-1\r\n*1\r\n*1\r\n$-1\r\n",
        b"+QUEUED\r\n",
    ];
    let bytes = replies.concat();
    let expected: Vec<usize> = replies
        .iter()
        .scan(0, |end, reply| {
            *end += reply.len();
            Some(*end)
        })
        .collect();
    for arrivals in all_arrivals(bytes.len()) {
        assert_eq!(ends(&mut redis_replies(replies.len()), &bytes, &arrivals), expected, "{arrivals:?}");
    }
}

#[test]
fn what_redis_would_not_say_is_refused() {
    for bytes in [&b"*x\r\n"[..], b"*1\r\nPING\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$1\r\nabc\r\n", b"*9999999\r\n"] {
        assert!(Requests::Redis.next(bytes).is_err(), "{}", bytes.escape_ascii());
    }
    for words in ["SUBSCRIBE channel", "monitor", "CLIENT reply off", "HELLO 3"] {
        assert!(Requests::Redis.next(format!("{words}\r\n").as_bytes()).is_err(), "{words}");
    }
    assert!(Requests::Redis.next(b"CLIENT SETINFO a b\r\n").is_ok());
    for bytes in [&b"%1\r\n"[..], b"$x\r\n", b"\r\n"] {
        assert!(redis::Reply::default().scan(bytes).is_err(), "{}", bytes.escape_ascii());
    }
}

// ---- MySQL ----

fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = (payload.len() as u32).to_le_bytes();
    packet[3] = number;
    [&packet, payload].concat()
}

fn login(capabilities: u32) -> Vec<u8> {
    packet(1, &[&capabilities.to_le_bytes()[..], &[0; 28], b"root\0\0"].concat())
}

const COLUMN: &[u8] = b"\x03def and so on";
const ERR: &[u8] = b"\xff\x28\x04#42000wrong";

fn ok(status: u16) -> Vec<u8> {
    [&b"\x00\x01\xfc\x00\x01"[..], &status.to_le_bytes(), b"\0\0"].concat()
}

/// The end of rows, in either form.
fn end(eof_deprecated: bool, status: u16) -> Vec<u8> {
    if eof_deprecated {
        [&b"\xfe\x00\x00"[..], &status.to_le_bytes(), b"\0\0 and some more"].concat()
    } else {
        [&b"\xfe\x00\x00"[..], &status.to_le_bytes()].concat()
    }
}

/// A reply of packets; an empty one stands for the EOF packet that newer clients do without.
fn reply(eof_deprecated: bool, packets: &[&[u8]]) -> Vec<u8> {
    let packets = packets.iter().filter(|packet| !(eof_deprecated && packet.is_empty()));
    let eof = end(false, 2);
    let packets = packets.map(|payload| if payload.is_empty() { &eof } else { *payload });
    (1..).zip(packets).flat_map(|(number, payload)| packet(number, payload)).collect()
}

#[test]
fn mysql_conversations_are_the_same_however_they_arrive() {
    for capabilities in CAPABILITIES {
        let eof_deprecated = capabilities == CAPABILITIES[1];
        let (end, more) = (end(eof_deprecated, 2), end(eof_deprecated, 2 | 8));
        let prepared = b"\x00\x07\x00\x00\x00\x02\x00\x01\x00\x00\x00\x00";
        let conversation: [(&[u8], Vec<u8>); 9] = [
            (b"\x03SET x", reply(eof_deprecated, &[&ok(2)])),
            (b"\x03SELEC", reply(eof_deprecated, &[ERR])),
            (b"\x03SELECT 1", reply(eof_deprecated, &[b"\x02", COLUMN, COLUMN, b"", b"\x011\xfb", b"\x00\x00", &end])),
            (b"\x03SELECT 1; SET y; SELECT", {
                reply(eof_deprecated, &[b"\x01", COLUMN, b"", &more, &ok(8), b"\x01", COLUMN, b"", b"\xfb", ERR])
            }),
            (b"\x16SELECT ?", reply(eof_deprecated, &[prepared, COLUMN, b"", COLUMN, COLUMN, b""])),
            (b"\x17\x07\x00\x00\x00\x00\x01\x00\x00\x00", {
                reply(eof_deprecated, &[b"\x01", COLUMN, b"", b"\x00\x00\x011", b"\x00\x04", &end])
            }),
            (b"\x19\x07\x00\x00\x00", Vec::new()),
            (b"\x0e", reply(eof_deprecated, &[&ok(2)])),
            (b"\x01", Vec::new()),
        ];
        let sent: Vec<u8> = conversation.iter().flat_map(|(command, _)| packet(0, command)).collect();
        let answered: Vec<u8> = conversation.iter().flat_map(|(_, reply)| reply.clone()).collect();
        let replies = conversation.iter().map(|(_, reply)| reply.len()).filter(|len| *len > 0);
        let expected: Vec<usize> = replies
            .scan(0, |end, len| {
                *end += len;
                Some(*end)
            })
            .collect();

        for arrivals in all_arrivals(sent.len()) {
            let mut reader = logged_in(capabilities);
            let found = requests(&mut reader, &sent, &arrivals);
            let commands: Vec<MySqlCommand> = found.iter().map(|request| mysql(request).0).collect();
            use MySqlCommand::*;
            assert_eq!(commands, [Query, Query, Query, Query, Prepare, Execute, CloseStatement, Ping, Quit]);
            let awaited = found.iter().map(|request| request.reply.is_some());
            assert!(awaited.eq(conversation.iter().map(|(_, reply)| !reply.is_empty())), "{arrivals:?}");
        }
        for arrivals in all_arrivals(answered.len()) {
            let found = requests(&mut logged_in(capabilities), &sent, &[sent.len()]);
            let mut replies: Vec<Reply> = found.into_iter().filter_map(|request| request.reply).collect();
            assert_eq!(ends(&mut replies, &answered, &arrivals), expected, "{arrivals:?}");
        }
    }
}

/// A reader whose client has logged in.
fn logged_in(capabilities: u32) -> Requests {
    let mut reader = Requests::MySql(mysql::Requests::new(u32::MAX));
    let login = login(capabilities);
    let found = requests(&mut reader, &login, &[login.len()]);
    assert!(found[0].message.is_none() && found[0].reply.is_none());
    reader
}

fn mysql(request: &Request) -> (MySqlCommand, &str) {
    match &request.message {
        Some(Message::MySql { command, sql }) => (*command, sql),
        other => panic!("no command: {other:?}"),
    }
}

#[test]
fn a_prepared_statement_is_known_by_its_text() {
    let mut reader = logged_in(CAPABILITIES[1]);
    let execute = |statement: &[u8; 4]| packet(0, &[b"\x17", &statement[..], b"\0\x01\0\0\0"].concat());
    let mut next = |bytes: &[u8]| reader.next(bytes).expect("readable").expect("complete");

    let prepare = next(&packet(0, b"\x16INSERT"));
    assert_eq!(mysql(&prepare), (MySqlCommand::Prepare, "INSERT"));
    assert_eq!(mysql(&next(&execute(b"\xff\xff\xff\xff"))).1, "INSERT", "the last one, by MariaDB's short cut");
    assert_eq!(mysql(&next(&execute(b"\x09\0\0\0"))).1, "", "not yet known");
    let answer = packet(1, b"\x00\x09\0\0\0\0\0\0\0\0\0\0");
    let end = prepare.reply.expect("a reply").scan(&answer).expect("readable");
    assert_eq!(end, (answer.len(), true));
    let execute = execute(b"\x09\0\0\0");
    assert_eq!(mysql(&next(&execute)), (MySqlCommand::Execute, "INSERT"));
    assert!(next(&execute).message.expect("a command").runs_sql("insert"));
    next(&packet(0, b"\x19\x09\0\0\0"));
    assert_eq!(mysql(&next(&execute)).1, "", "closed");
}

#[test]
fn a_packet_of_16_mib_goes_on_in_the_next() {
    const FULL: usize = 0xff_ffff;
    let mut reader = logged_in(CAPABILITIES[0]);
    let mut query = vec![b' '; FULL];
    query[0] = 3;
    let bytes = [packet(0, &query), packet(1, b"SELECT")].concat();
    assert!(reader.next(&bytes[..bytes.len() - 1]).expect("readable").is_none());
    let request = reader.next(&bytes).expect("readable").expect("complete");
    assert_eq!((request.len, mysql(&request).1.len()), (bytes.len(), FULL + 5));

    // A row that begins like an EOF packet, and whose second part is as short as one.
    let mut row = vec![0xfe; FULL];
    row[1..9].copy_from_slice(&(FULL as u64 - 9 + 2).to_le_bytes());
    let head = reply(false, &[b"\x01", COLUMN, b""]);
    let reply = [head, packet(4, &row), packet(5, b"\xfe\x00"), packet(6, &end(false, 2))].concat();
    let scanned = request.reply.expect("a reply").scan(&reply).expect("readable");
    assert_eq!(scanned, (reply.len(), true));
}

#[test]
fn a_cursor_keeps_its_rows_for_later() {
    for capabilities in CAPABILITIES {
        let eof_deprecated = capabilities == CAPABILITIES[1];
        let mut reader = logged_in(capabilities);
        let execute = reader.next(&packet(0, b"\x17\x07\0\0\0\x01\x01\0\0\0")).expect("readable").expect("complete");
        let answer = reply(eof_deprecated, &[b"\x01", COLUMN, &end(eof_deprecated, 2 | 64)]);
        let scanned = execute.reply.expect("a reply").scan(&answer).expect("readable");
        assert_eq!(scanned, (answer.len(), true));
    }
}

#[test]
fn a_greeting_loses_what_cannot_be_read_along() {
    let halves = u32::MAX.to_le_bytes();
    let fields = [&b"\x0a5.5.5-10.11\0"[..], b"1234scramble\0", &halves[..2], b"c22", &halves[2..], b"\x15123456"];
    let mut greeting = packet(0, &[&fields.concat()[..], &[0xff; 4], b"and the rest of the scramble\0"].concat());
    let before = greeting.clone();
    let capabilities = mysql::temper_greeting(&mut greeting).expect("a greeting");
    let hidden = [5, 7, 11, 25, 26, 27].iter().fold(0, |hidden, bit| hidden | 1 << bit);
    assert_eq!(capabilities, !hidden);
    assert_eq!(greeting.len(), before.len());
    let changed: Vec<usize> = (0..before.len()).filter(|at| before[*at] != greeting[*at]).collect();
    let start = before.iter().position(|byte| *byte == 0xff).expect("capabilities");
    assert_eq!(changed, [start, start + 1, start + 6, start + 14], "{greeting:02x?}");

    assert_eq!(mysql::temper_greeting(&mut packet(0, b"\xff\x10\x04Too many connections")), None);
    assert_eq!(mysql::temper_greeting(&mut packet(0, b"\x0a10.11\0cut")), None);
}

#[test]
fn what_mysql_would_not_say_is_refused() {
    let next = |payload: &[u8]| logged_in(CAPABILITIES[0]).next(&packet(0, payload));
    assert!(next(b"\x12").is_err(), "replication");
    assert!(next(b"").is_err());
    for reply in [&b"\xfb"[..], b"", b"\x00\x01", b"\xfc\x01"] {
        let query = next(b"\x03SELECT").expect("readable").expect("complete");
        assert!(query.reply.expect("a reply").scan(&packet(1, reply)).is_err(), "{reply:02x?}");
    }
    for capabilities in [0, 1 << 9 | 1 << 11] {
        assert!(mysql::Requests::new(u32::MAX).next(&login(capabilities)).is_err());
    }
}
