//! Framing of Redis's protocol, RESP 2: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use super::Message;
use super::bytes::{MESSAGE_BYTES_MAX, Reach, Request, Unreadable};

/// Redis's own limits: of a line, in bytes, and of a command's arguments.
const LINE_BYTES_MAX: usize = 64 << 10;
const ARGUMENTS_MAX: usize = 1 << 20;

/// Commands after which replies no longer come one for one.
const UNPAIRED: [&str; 9] = [
    "SUBSCRIBE",
    "PSUBSCRIBE",
    "SSUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "MONITOR",
    "SYNC",
    "PSYNC",
];

/// The request at the beginning of `bytes`, or nothing while it is incomplete.
pub(crate) fn next_request(bytes: &[u8]) -> Result<Option<Request<Reply>>, Unreadable> {
    let Some((line, mut at)) = line(bytes)? else { return Ok(None) };
    let mut arguments = Vec::new();
    if let Some(count) = line.strip_prefix(b"*") {
        // A negative count is as good as none.
        let count = usize::try_from(number(count)?).unwrap_or(0);
        if count > ARGUMENTS_MAX {
            return Err(format!("a command of {count} arguments"));
        }
        for _ in 0..count {
            let Some((argument, len)) = bulk(&bytes[at..])? else { return Ok(None) };
            arguments.push(argument.to_vec());
            at += len;
        }
    } else {
        // The form for people with telnet. Quotes are not looked at: the words are for rules only.
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        arguments.extend(words.map(<[u8]>::to_vec));
    }
    if arguments.is_empty() {
        // Redis passes over an empty line and an empty array.
        return Ok(Some(Request { len: at, message: None, reply: None }));
    }
    let message = Message::Redis(arguments);
    refuse_unpaired(&message)?;
    Ok(Some(Request { len: at, message: Some(message), reply: Some(Reply::default()) }))
}

fn refuse_unpaired(message: &Message) -> Result<(), Unreadable> {
    let unpaired = UNPAIRED.iter().any(|command| message.is_redis(command))
        || message.is_redis("CLIENT") && message.argument(1).eq_ignore_ascii_case(b"REPLY")
        || message.is_redis("HELLO") && message.argument(1) == b"3";
    if unpaired {
        let command = String::from_utf8_lossy(message.argument(0));
        return Err(format!("{command}: what it answers is not one RESP 2 reply for each command"));
    }
    Ok(())
}

/// The line at the beginning, without its end, and its length with it.
fn line(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Unreadable> {
    match bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') {
        Some(end) => Ok(Some((bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]), end + 1))),
        None if bytes.len() >= LINE_BYTES_MAX => Err("a line without end".to_owned()),
        None => Ok(None),
    }
}

/// The bulk string at the beginning, and its length with everything around it.
fn bulk(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Unreadable> {
    let Some((line, start)) = line(bytes)? else { return Ok(None) };
    let len = line.strip_prefix(b"$").map(number).transpose()?.and_then(|len| usize::try_from(len).ok());
    let len = len.ok_or_else(|| format!("not the length of an argument: {}", line.escape_ascii()))?;
    if len > MESSAGE_BYTES_MAX {
        return Err(format!("an argument of {len} bytes"));
    }
    let end = start + len + 2;
    if bytes.len() < end {
        return Ok(None);
    }
    if !bytes[..end].ends_with(b"\r\n") {
        return Err("an argument that is longer than it says".to_owned());
    }
    Ok(Some((&bytes[start..start + len], end)))
}

fn number(digits: &[u8]) -> Result<i64, Unreadable> {
    let number = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| format!("not a number: {}", digits.escape_ascii()))
}

/// Finds the end of one reply.
#[derive(Debug)]
pub(crate) struct Reply {
    /// How many values are still to come; arrays add theirs.
    values: u64,
    /// How many bytes of a bulk string, with its line end, are still to come.
    body: usize,
    /// The beginning of the present line; its type and its number are there.
    line: Vec<u8>,
}

impl Default for Reply {
    fn default() -> Self {
        Self { values: 1, body: 0, line: Vec::new() }
    }
}

impl Reply {
    /// Follows the reply through the next bytes.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<Reach, Unreadable> {
        /// A type, the longest number, and a carriage return.
        const LINE_KEPT: usize = 32;

        let mut at = 0;
        while self.values > 0 && at < bytes.len() {
            let rest = &bytes[at..];
            if self.body > 0 {
                let part = self.body.min(rest.len());
                self.body -= part;
                at += part;
                if self.body == 0 {
                    self.values -= 1;
                }
                continue;
            }
            let end = rest.iter().position(|byte| *byte == b'\n');
            let part = end.unwrap_or(rest.len());
            let kept = part.min(LINE_KEPT - self.line.len());
            self.line.extend_from_slice(&rest[..kept]);
            at += part;
            if end.is_some() {
                at += 1;
                self.line_is_complete()?;
                self.line.clear();
            }
        }
        Ok((at, self.values == 0))
    }

    fn line_is_complete(&mut self) -> Result<(), Unreadable> {
        let line = self.line.trim_ascii_end();
        let count = || number(line.get(1..).unwrap_or_default());
        match line.first() {
            Some(b'+' | b'-' | b':') => self.values -= 1,
            // A negative number is a null.
            Some(b'$') => match usize::try_from(count()?) {
                Ok(len) => self.body = len.saturating_add(2),
                Err(_) => self.values -= 1,
            },
            Some(b'*') => self.values = (self.values - 1).saturating_add(u64::try_from(count()?).unwrap_or(0)),
            _ => return Err(format!("not a RESP 2 reply: {}", line.escape_ascii())),
        }
        Ok(())
    }
}
