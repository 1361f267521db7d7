//! Framing of the MySQL protocol: where the reply to a command ends.

use super::super::bytes::{Reach, Unreadable};
use super::super::lock::lock;
use super::{FULL, HEADER, Statements, number, payload_len};

/// How much of a packet is looked at, in bytes: all of an OK packet up to its status.
const HEAD: usize = 32;

const OK: u8 = 0x00;
const EOF: u8 = 0xfe;
const ERR: u8 = 0xff;
/// An EOF packet is shorter than this; a row can begin with the same byte.
const EOF_LEN_MAX: usize = 9;

/// Bits of a server's status.
const MORE_RESULTS: u16 = 1 << 3;
const CURSOR_EXISTS: u16 = 1 << 6;

/// What the next packet of a reply is.
#[derive(Debug)]
enum State {
    /// Part of a login, until OK or ERR.
    Login,
    /// The only one.
    Only,
    /// OK, ERR, or how many columns a result set has.
    Result,
    /// One of so many columns of a result set.
    Column(u64),
    /// The EOF after the columns.
    ColumnsEnd,
    /// A row, or the end of the rows.
    Row,
    /// What a statement was prepared as: its SQL text and where to remember it.
    Prepared(String, Statements),
    /// One of so many descriptions of a prepared statement's parameters and columns.
    Description(u64),
}

/// Finds the end of one reply.
#[derive(Debug)]
pub(crate) struct Reply {
    state: State,
    /// Whether rows end with an OK packet and columns with nothing, instead of EOF packets.
    eof_deprecated: bool,
    header: [u8; HEADER],
    header_len: usize,
    /// How many bytes of the present packet are still to come.
    body: usize,
    /// The beginning of the present packet.
    head: Vec<u8>,
    /// The length of the present packet, without headers, as far as it has come.
    len: usize,
}

impl Reply {
    fn new(state: State, eof_deprecated: bool) -> Self {
        let head = Vec::with_capacity(HEAD);
        Self { state, eof_deprecated, header: [0; HEADER], header_len: 0, body: 0, head, len: 0 }
    }

    /// Everything that a server says during a login.
    pub(crate) fn login() -> Self {
        Self::new(State::Login, false)
    }

    /// OK, EOF, ERR or any other packet alone.
    pub(super) fn single(eof_deprecated: bool) -> Self {
        Self::new(State::Only, eof_deprecated)
    }

    /// OK, ERR or a result set, and more of them.
    pub(super) fn result(eof_deprecated: bool) -> Self {
        Self::new(State::Result, eof_deprecated)
    }

    /// Rows alone.
    pub(super) fn rows(eof_deprecated: bool) -> Self {
        Self::new(State::Row, eof_deprecated)
    }

    /// A statement's number, parameters and columns.
    pub(super) fn prepared(eof_deprecated: bool, sql: String, statements: Statements) -> Self {
        Self::new(State::Prepared(sql, statements), eof_deprecated)
    }

    /// Follows the reply through the next bytes.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<Reach, Unreadable> {
        let mut at = 0;
        while at < bytes.len() {
            if self.header_len < HEADER {
                self.header[self.header_len] = bytes[at];
                self.header_len += 1;
                at += 1;
                if self.header_len < HEADER {
                    continue;
                }
                self.body = payload_len(&self.header);
            }
            let part = self.body.min(bytes.len() - at);
            let kept = part.min(HEAD - self.head.len());
            self.head.extend_from_slice(&bytes[at..at + kept]);
            self.body -= part;
            self.len += part;
            at += part;
            if self.body > 0 {
                break;
            }
            self.header_len = 0;
            if payload_len(&self.header) == FULL {
                continue;
            }
            let ends = self.packet_is_complete()?;
            self.head.clear();
            self.len = 0;
            if ends {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    /// Takes the next step, and says whether the reply ends with this packet.
    fn packet_is_complete(&mut self) -> Result<bool, Unreadable> {
        let first = self.head.first().copied();
        let is_error = first == Some(ERR);
        match &mut self.state {
            State::Login => return Ok(is_error || first == Some(OK)),
            State::Only => return Ok(true),
            State::Result | State::Row | State::Prepared(..) if is_error => return Ok(true),
            State::Result if first == Some(OK) => return Ok(self.ok_status()? & MORE_RESULTS == 0),
            State::Result => match encoded_number(&self.head) {
                Some((columns, _)) if columns > 0 => self.state = State::Column(columns),
                _ => return Err(self.unexpected("the beginning of a result")),
            },
            State::Column(left) if *left > 1 => *left -= 1,
            State::Column(_) if self.eof_deprecated => self.state = State::Row,
            State::Column(_) => self.state = State::ColumnsEnd,
            State::ColumnsEnd => {
                // The rows of a cursor are fetched by later commands.
                if self.eof_status()? & CURSOR_EXISTS != 0 {
                    return Ok(true);
                }
                self.state = State::Row;
            }
            State::Row => {
                let is_end = first == Some(EOF) && self.len < if self.eof_deprecated { FULL } else { EOF_LEN_MAX };
                if is_end {
                    let status = if self.eof_deprecated { self.ok_status()? } else { self.eof_status()? };
                    self.state = State::Result;
                    return Ok(status & MORE_RESULTS == 0);
                }
            }
            State::Prepared(sql, statements) => {
                let (Some(OK), Some(statement), Some(counts)) = (first, number(&self.head, 1), number(&self.head, 5))
                else {
                    return Err(self.unexpected("a prepared statement"));
                };
                lock(statements).insert(statement, std::mem::take(sql));
                let (columns, parameters) = (u64::from(counts & 0xffff), u64::from(counts >> 16));
                let ends = [columns, parameters].iter().filter(|count| **count > 0 && !self.eof_deprecated).count();
                self.state = State::Description(columns + parameters + ends as u64);
                return Ok(columns + parameters == 0);
            }
            State::Description(left) => {
                *left -= 1;
                return Ok(*left == 0);
            }
        }
        Ok(false)
    }

    /// The status in an OK packet: after two numbers, of affected rows and of the last row inserted.
    fn ok_status(&self) -> Result<u16, Unreadable> {
        let read = || {
            let (_, rows_len) = encoded_number(&self.head[1..])?;
            let (_, insert_len) = encoded_number(&self.head[1 + rows_len..])?;
            self.status_at(1 + rows_len + insert_len)
        };
        read().ok_or_else(|| self.unexpected("an OK packet"))
    }

    /// The status in an EOF packet: after the number of warnings.
    fn eof_status(&self) -> Result<u16, Unreadable> {
        let status = (self.head.first() == Some(&EOF)).then(|| self.status_at(3)).flatten();
        status.ok_or_else(|| self.unexpected("an EOF packet"))
    }

    fn status_at(&self, at: usize) -> Option<u16> {
        let bytes = self.head.get(at..at + 2)?;
        Some(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn unexpected(&self, what: &str) -> Unreadable {
        format!("not {what}: {:02x?}, {} bytes", self.head, self.len)
    }
}

/// A number of the protocol's variable length, and that length; nothing for a null, an error or too few bytes.
fn encoded_number(bytes: &[u8]) -> Option<(u64, usize)> {
    let (first, rest) = bytes.split_first()?;
    let len = match first {
        0..=0xfa => return Some((u64::from(*first), 1)),
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        _ => return None,
    };
    let number = rest.get(..len)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    Some((number, 1 + len))
}
