//! Carries a client's requests to the server.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Instant;

use super::Direction;
use super::bytes::{CHUNK, MESSAGE_BYTES_MAX, Unreadable};
use super::connection::Connection;
use super::firing::Firing;
use super::frame::{Request, Requests};
use super::rules::{Action, Verdict};
use super::shared::{Close, count};

pub(crate) struct RequestPump<'a> {
    connection: &'a Connection,
    client: &'a TcpStream,
    requests: Requests,
    /// What has been read and not yet been dealt with; up to `ready`, it may be passed on.
    buffer: Vec<u8>,
    ready: usize,
    /// When the newest bytes in the buffer were read.
    arrived: Instant,
}

impl<'a> RequestPump<'a> {
    pub(super) fn new(connection: &'a Connection, client: &'a TcpStream, requests: Requests) -> Self {
        Self { connection, client, requests, buffer: Vec::new(), ready: 0, arrived: Instant::now() }
    }

    /// Runs until the client sends no more, which the server learns then, or the connection closes.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let len = self.client.read(&mut chunk)?;
            self.arrived = Instant::now();
            if len == 0 {
                // A request that never became complete, as the client left it.
                self.ready = self.buffer.len();
                self.flush()?;
                self.connection.may_pass(Direction::ToServer, self.arrived)?;
                return self.connection.close_requests();
            }
            self.buffer.extend_from_slice(&chunk[..len]);
            while let Some(request) = self.next_request() {
                self.deal_with(request)?;
            }
            self.flush()?;
        }
    }

    /// The next complete request; none either when reading has been given up, and everything is ready then.
    fn next_request(&mut self) -> Option<Request> {
        if !self.connection.is_unreadable() {
            match self.read_request() {
                Ok(request) => return request,
                Err(why) => self.connection.give_up_reading(&why),
            }
        }
        self.ready = self.buffer.len();
        None
    }

    fn read_request(&mut self) -> Result<Option<Request>, Unreadable> {
        let rest = &self.buffer[self.ready..];
        if rest.is_empty() {
            return Ok(None);
        }
        let request = self.requests.next(rest)?;
        if request.is_none() && rest.len() > MESSAGE_BYTES_MAX {
            return Err(format!("a request of more than {MESSAGE_BYTES_MAX} bytes"));
        }
        Ok(request)
    }

    fn deal_with(&mut self, mut request: Request) -> io::Result<()> {
        let connection = self.connection;
        let firing = request.message.take().and_then(|message| {
            count(&connection.shared.counters.requests);
            Firing::find(&connection.shared, &message)
        });
        let Some(firing) = firing else { return self.accept(request, None) };
        match firing.action {
            Action::DropRequest => self.close_after_earlier_ones(),
            Action::CutRequest(cut) => {
                self.flush()?;
                connection.wait_answered()?;
                connection.to_server(cut.of(&self.buffer[..request.len]), self.arrived)?;
                self.close_after_earlier_ones()
            }
            Action::HoldRequest => {
                self.flush()?;
                match firing.hold(|| connection.is_closed()) {
                    Some(Verdict::Release) => {
                        self.accept(request, Some(firing))?;
                        self.flush()?;
                        // The client may have gone, and the server could take that as a reason not to execute it.
                        connection.wait_answered()
                    }
                    Some(Verdict::Drop) => self.close_after_earlier_ones(),
                    None => connection.check_open(),
                }
            }
            Action::Delay(delay) => {
                self.flush()?;
                connection.sleep(delay)?;
                self.accept(request, Some(firing))
            }
            Action::DropReply | Action::CutReply(_) if request.reply.is_none() => {
                self.accept(request, None)?;
                self.close_after_earlier_ones()
            }
            Action::DropReply | Action::CutReply(_) | Action::HoldReply => self.accept(request, Some(firing)),
        }
    }

    /// Has the request passed on with the next bytes, and its reply expected.
    fn accept(&mut self, request: Request, firing: Option<Firing>) -> io::Result<()> {
        if let Some(reply) = request.reply {
            if !self.connection.has_room() {
                // The replies that make room are those to requests that may not have left yet.
                self.flush()?;
                self.connection.wait_for_room()?;
            }
            self.connection.expect(reply, firing);
        }
        self.ready += request.len;
        Ok(())
    }

    /// Passes on what is ready.
    fn flush(&mut self) -> io::Result<()> {
        self.connection.to_server(&self.buffer[..self.ready], self.arrived)?;
        self.buffer.drain(..self.ready);
        self.ready = 0;
        Ok(())
    }

    /// Closes both sides when earlier requests have been answered; returns an error, which ends this pump.
    fn close_after_earlier_ones(&mut self) -> io::Result<()> {
        self.flush()?;
        self.connection.wait_answered()?;
        self.connection.close();
        self.connection.check_open()
    }
}
