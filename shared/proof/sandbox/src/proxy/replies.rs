//! Carries the server's replies to a client.

use std::io::{self, Read};
use std::time::Instant;

use super::Direction;
use super::bytes::{CHUNK, MESSAGE_BYTES_MAX};
use super::connection::{Connection, Pending};
use super::firing::Firing;
use super::rules::{Action, Verdict};
use super::shared::{Close, count};
use super::socket::ServerStream;

pub(crate) struct ReplyPump<'a> {
    connection: &'a Connection,
    server: &'a ServerStream,
    /// The request whose reply is being read.
    current: Option<Pending>,
    /// Its reply as far as it has come, when a rule wants it whole.
    kept: Vec<u8>,
    /// When the newest bytes were read.
    arrived: Instant,
    /// Replies that end in the bytes that wait to be passed on.
    answered: usize,
    /// Whether the client takes nothing more. What it has requested is read to its end all the same.
    client_is_gone: bool,
}

impl<'a> ReplyPump<'a> {
    pub(super) fn new(connection: &'a Connection, server: &'a ServerStream) -> Self {
        let (current, kept, arrived) = (None, Vec::new(), Instant::now());
        Self { connection, server, current, kept, arrived, answered: 0, client_is_gone: false }
    }

    /// Runs until the server or the connection closes.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let len = self.server.read(&mut chunk)?;
            self.arrived = Instant::now();
            if len == 0 {
                // The end travels like bytes do.
                return self.connection.may_pass(Direction::ToClient, self.arrived);
            }
            self.deal_with(&chunk[..len])?;
        }
    }

    fn deal_with(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut at, mut passed) = (0, 0);
        while at < bytes.len() && !self.connection.is_unreadable() {
            let Some(current) = self.current.take().or_else(|| self.connection.next_pending()) else {
                // MariaDB does this when it ends a connection: an error, then the end.
                self.give_up_reading("the server speaks unasked")?;
                break;
            };
            let current = self.current.insert(current);
            let (len, ends) = match current.reply.scan(&bytes[at..]) {
                Ok(reach) => reach,
                Err(why) => {
                    self.give_up_reading(&why)?;
                    break;
                }
            };
            let wanted_whole = match &current.firing {
                Some(firing) => {
                    matches!(firing.action, Action::DropReply | Action::CutReply(_) | Action::HoldReply)
                }
                None => false,
            };
            if wanted_whole {
                self.flush(&bytes[passed..at])?;
                self.keep(&bytes[at..at + len])?;
                passed = at + len;
            }
            at += len;
            if ends {
                count(&self.connection.shared.counters.replies);
                let firing = self.current.take().and_then(|current| current.firing);
                match firing {
                    Some(firing) if wanted_whole => self.judge(&firing)?,
                    // A request that was held or delayed: done when its reply has been passed on.
                    Some(firing) => {
                        self.answered += 1;
                        self.flush(&bytes[passed..at])?;
                        passed = at;
                        drop(firing);
                    }
                    None => self.answered += 1,
                }
            }
        }
        self.flush(&bytes[passed..])
    }

    /// Does with a complete reply what the rule says.
    fn judge(&mut self, firing: &Firing) -> io::Result<()> {
        let verdict = match firing.action {
            Action::HoldReply => firing.hold(|| self.connection.is_closed()),
            _ => Some(Verdict::Drop),
        };
        let kept = std::mem::take(&mut self.kept);
        if verdict == Some(Verdict::Release) {
            self.answered += 1;
            // Held, it has waited long enough for any delay.
            return self.flush(&kept);
        }
        if let Action::CutReply(cut) = firing.action {
            self.flush(cut.of(&kept))?;
        }
        self.connection.close();
        self.connection.check_open()
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.kept.extend_from_slice(bytes);
        if self.kept.len() > MESSAGE_BYTES_MAX {
            self.give_up_reading(&format!("a reply of more than {MESSAGE_BYTES_MAX} bytes, which a rule wants whole"))?;
        }
        Ok(())
    }

    /// Gives up, and passes on what a rule has kept.
    fn give_up_reading(&mut self, why: &str) -> io::Result<()> {
        self.connection.give_up_reading(why);
        self.current = None;
        let kept = std::mem::take(&mut self.kept);
        self.flush(&kept)
    }

    /// Passes bytes on, and counts the replies that end in them.
    fn flush(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.client_is_gone {
            self.client_is_gone = self.connection.to_client(bytes, self.arrived).is_err();
        }
        // A connection that has been closed on purpose, not by the client.
        self.connection.check_open()?;
        let answered = std::mem::take(&mut self.answered);
        if answered > 0 {
            self.connection.answered(answered);
        }
        Ok(())
    }
}
