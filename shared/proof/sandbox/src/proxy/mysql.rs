//! Framing of the MySQL protocol, <https://mariadb.com/kb/en/clientserver-protocol/>: the greeting and the commands.

mod reply;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use super::bytes::{Request, Unreadable};
use super::lock::lock;
use super::{Message, MySqlCommand};

pub(crate) use reply::Reply;

/// Length and number before every packet, in bytes.
const HEADER: usize = 4;
/// A packet of this length goes on in the next one.
const FULL: usize = 0xff_ffff;

/// Capabilities that client and server agree on.
mod capability {
    pub(super) const COMPRESS: u32 = 1 << 5;
    pub(super) const LOCAL_FILES: u32 = 1 << 7;
    pub(super) const PROTOCOL_41: u32 = 1 << 9;
    pub(super) const SSL: u32 = 1 << 11;
    pub(super) const DEPRECATE_EOF: u32 = 1 << 24;
    pub(super) const OPTIONAL_METADATA: u32 = 1 << 25;
    pub(super) const ZSTD: u32 = 1 << 26;
    pub(super) const QUERY_ATTRIBUTES: u32 = 1 << 27;

    /// Those that hide the packets.
    pub(super) const WRAPPED: u32 = COMPRESS | SSL | ZSTD;
    /// Those, and what this module does not read: files sent in the middle of a reply, more in commands, less in
    /// replies.
    pub(super) const HIDDEN: u32 = WRAPPED | LOCAL_FILES | OPTIONAL_METADATA | QUERY_ATTRIBUTES;
    /// The same of MariaDB's own: progress reports, COM_MULTI, result sets without columns.
    pub(super) const HIDDEN_MARIADB: u32 = 0b1_0011;
}

/// SQL texts of a connection's prepared statements. The server's `max_prepared_stmt_count` bounds it.
pub(super) type Statements = Arc<Mutex<HashMap<u32, String>>>;

/// Reads the packet with which a server begins.
pub(crate) fn read_greeting(server: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; HEADER];
    server.read_exact(&mut packet)?;
    packet.resize(HEADER + payload_len(&packet), 0);
    server.read_exact(&mut packet[HEADER..])?;
    Ok(packet)
}

/// Takes out of a greeting what the proxy cannot read along with, and returns the server's capabilities, or nothing
/// when it is no greeting but a refusal.
pub(crate) fn temper_greeting(packet: &mut [u8]) -> Option<u32> {
    /// Between the version and the lower half: connection number, the beginning of the scramble, a zero.
    const LOWER: usize = 4 + 8 + 1;
    /// Between the halves: character set, status.
    const UPPER: usize = LOWER + 2 + 1 + 2;
    /// After the upper half: length of the scramble, six zeroes.
    const MARIADB: usize = UPPER + 2 + 1 + 6;

    let payload = packet.get_mut(HEADER..)?;
    if payload.first() != Some(&10) {
        return None;
    }
    let fixed = payload.iter().position(|byte| *byte == 0)? + 1;
    let fields = payload.get_mut(fixed..fixed + MARIADB + 4)?;
    let hidden = capability::HIDDEN.to_le_bytes();
    for (at, hidden) in [LOWER, LOWER + 1, UPPER, UPPER + 1].into_iter().zip(hidden) {
        fields[at] &= !hidden;
    }
    for (at, hidden) in (MARIADB..).zip(capability::HIDDEN_MARIADB.to_le_bytes()) {
        fields[at] &= !hidden;
    }
    Some(u32::from_le_bytes([fields[LOWER], fields[LOWER + 1], fields[UPPER], fields[UPPER + 1]]))
}

/// Finds the requests in what a client sends after the greeting.
#[derive(Debug)]
pub(crate) struct Requests {
    /// The server's until the client has answered, both sides' then.
    capabilities: u32,
    has_answered: bool,
    statements: Statements,
    last_prepared: String,
}

impl Requests {
    /// For a connection on which a server with these capabilities has greeted.
    pub(crate) fn new(capabilities: u32) -> Self {
        Self { capabilities, has_answered: false, statements: Arc::default(), last_prepared: String::new() }
    }

    /// The request at the beginning of `bytes`, or nothing while it is incomplete.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Option<Request<Reply>>, Unreadable> {
        let Some((payload, len)) = packet(bytes) else { return Ok(None) };
        // Every command starts counting packets anew, while those of a login continue what the server began.
        let is_login = bytes[HEADER - 1] != 0;
        if !self.has_answered {
            self.read_answer(&payload)?;
        }
        if is_login {
            return Ok(Some(Request { len, message: None, reply: None }));
        }
        let (command, sql, reply) = self.command(&payload)?;
        let message = Some(Message::MySql { command, sql });
        Ok(Some(Request { len, message, reply }))
    }

    /// Reads from the client's answer to the greeting what the two agree on.
    fn read_answer(&mut self, payload: &[u8]) -> Result<(), Unreadable> {
        let wanted = number(payload, 0).ok_or("a login that is too short")?;
        if wanted & capability::PROTOCOL_41 == 0 {
            return Err("a login of the protocol before MySQL 4.1".to_owned());
        }
        if wanted & capability::WRAPPED != 0 {
            return Err("a client that insists on TLS or compression".to_owned());
        }
        self.capabilities &= wanted;
        self.has_answered = true;
        Ok(())
    }

    fn command(&mut self, payload: &[u8]) -> Result<(MySqlCommand, String, Option<Reply>), Unreadable> {
        use MySqlCommand::*;

        let (code, rest) = payload.split_first().ok_or("a command without a number")?;
        let text = || String::from_utf8_lossy(rest).into_owned();
        let eof_deprecated = self.capabilities & capability::DEPRECATE_EOF != 0;
        let status = || Some(Reply::single(eof_deprecated));
        let result = || Some(Reply::result(eof_deprecated));
        let rows = || Some(Reply::rows(eof_deprecated));
        Ok(match code {
            0x01 => (Quit, String::new(), None),
            0x02 => (InitDb, text(), status()),
            0x03 => (Query, text(), result()),
            0x09 => (Other(*code), String::new(), status()),
            0x0a => (Other(*code), String::new(), result()),
            0x0e => (Ping, String::new(), status()),
            0x11 => {
                lock(&self.statements).clear();
                (ChangeUser, String::new(), Some(Reply::login()))
            }
            0x16 => {
                self.last_prepared = text();
                let reply = Reply::prepared(eof_deprecated, text(), self.statements.clone());
                (Prepare, text(), Some(reply))
            }
            // The second one brings many rows of parameters at once.
            0x17 | 0xfa => (Execute, self.statement(rest), result()),
            0x18 => (SendLongData, self.statement(rest), None),
            0x19 => {
                let sql = self.statement(rest);
                number(rest, 0).and_then(|statement| lock(&self.statements).remove(&statement));
                (CloseStatement, sql, None)
            }
            0x1a => (ResetStatement, self.statement(rest), status()),
            0x1c => (Fetch, self.statement(rest), rows()),
            0x1f => {
                lock(&self.statements).clear();
                (ResetConnection, String::new(), status())
            }
            // Columns of a table; rather like rows.
            0x04 => (Other(*code), String::new(), rows()),
            // Create and drop databases, refresh, shut down, kill, debug, set an option.
            0x05..=0x08 | 0x0c | 0x0d | 0x1b => (Other(*code), text(), status()),
            _ => return Err(format!("an unknown command, {code:#04x}")),
        })
    }

    /// The SQL text of the prepared statement whose number comes first; empty when there is no such statement.
    fn statement(&self, bytes: &[u8]) -> String {
        /// MariaDB's way to say "the one that I have just prepared" before its number is known.
        const LAST: u32 = u32::MAX;

        match number(bytes, 0) {
            Some(LAST) => self.last_prepared.clone(),
            Some(statement) => lock(&self.statements).get(&statement).cloned().unwrap_or_default(),
            None => String::new(),
        }
    }
}

/// The payload of the packet at the beginning, and its length with all headers; nothing while it is incomplete.
fn packet(bytes: &[u8]) -> Option<(Cow<'_, [u8]>, usize)> {
    let mut payload = Cow::Borrowed(&[][..]);
    let mut at = 0;
    loop {
        let header = bytes.get(at..at + HEADER)?;
        let len = payload_len(header);
        let part = bytes.get(at + HEADER..at + HEADER + len)?;
        at += HEADER + len;
        if payload.is_empty() {
            payload = Cow::Borrowed(part);
        } else {
            payload.to_mut().extend_from_slice(part);
        }
        if len < FULL {
            return Some((payload, at));
        }
    }
}

fn payload_len(header: &[u8]) -> usize {
    usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16
}

/// The four-byte number at that place.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}
