//! A private Redis.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{self, Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::files::{copy_dir, find_program, require_program, socket_dir};
use crate::process::Process;

/// Long enough for a large append-only file on a slow disk.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// A paused Redis accepts connections but does not answer; questions give up after this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// When Redis brings its append-only file to disk (`appendfsync`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendFsync {
    /// Once a second: the machine failing can lose the last second. Redis being killed loses nothing that it had
    /// written to the file, but a reply can precede that write.
    #[default]
    EverySecond,
    /// Before every reply: what was acknowledged survives.
    Always,
    /// Whenever the kernel does: the machine failing can lose the last half minute.
    No,
}

/// Settings of a [`Redis`].
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// When written data reaches the disk.
    pub append_fsync: AppendFsync,
    /// A TCP port on 127.0.0.1 to listen on beside the unix socket; 0 means none.
    pub port: u16,
    /// What clients have to say before anything else; empty means nothing.
    pub password: String,
    /// A configuration file of its own, which it writes anew when it becomes a replica or a master. What it says of addresses
    /// holds then.
    pub configuration: Option<PathBuf>,
    /// More command-line arguments, for example `["--maxmemory", "64mb"]`. They win over the sandbox's own.
    pub args: Vec<String>,
}

/// A private Redis on a unix socket, with the append-only file on and eviction off. Dropping it kills it; the data stay.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    data: PathBuf,
    socket: PathBuf,
    password: String,
    /// Holds the socket and, where needed, the link to the program: removed when dropped.
    _run: TempDir,
}

impl Redis {
    /// Starts a Redis whose files are below `dir`, new or left there by an earlier one, and waits until it answers.
    pub fn start(dir: &Path, options: &RedisOptions) -> io::Result<Self> {
        // Absolute, because the server changes its working folder.
        let dir = path::absolute(dir)?;
        let data = dir.join("data");
        fs::create_dir_all(&data)?;
        let run = socket_dir()?;
        let socket = run.path().join("redis.sock");
        let fsync = match options.append_fsync {
            AppendFsync::EverySecond => "everysec",
            AppendFsync::Always => "always",
            AppendFsync::No => "no",
        };

        let mut command = Command::new(server_program(run.path())?);
        match &options.configuration {
            Some(file) => command.arg(path::absolute(file)?),
            None => command.args(["--bind", "127.0.0.1", "--port", &options.port.to_string()]),
        };
        command
            .arg("--dir")
            .arg(&data)
            .arg("--unixsocket")
            .arg(&socket)
            .args(["--unixsocketperm", "700"])
            .args(["--appendonly", "yes", "--appendfsync", fsync])
            // The append-only file holds everything; snapshots beside it would only cost.
            .args(["--save", ""])
            .args(["--maxmemory-policy", "noeviction"])
            .args(["--requirepass", &options.password])
            .args(&options.args);
        let process = Process::spawn(command, &dir.join("redis.log"))?;
        let mut redis = Self { process, data, socket, password: options.password.clone(), _run: run };
        redis.wait_ready(START_TIMEOUT)?;
        Ok(redis)
    }

    /// Whether the programs that [`start`](Self::start) needs are installed.
    pub fn is_installed() -> bool {
        ["redis-server", "redis-check-rdb"].iter().any(|name| find_program(name).is_some())
    }

    /// Where clients connect, as a URL for redis-rs: `unix:///...`, with the password as it is.
    pub fn url(&self) -> String {
        let password = if self.password.is_empty() { String::new() } else { format!("?pass={}", self.password) };
        format!("unix://{}{password}", self.socket.display())
    }

    /// The unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends one command and returns its reply as text, arrays flattened and nulls left out. An error reply is an
    /// error. Meant for set-up and for looking from the outside; it opens a connection each time.
    pub fn query<Arg: AsRef<[u8]>>(&self, args: &[Arg]) -> io::Result<Vec<String>> {
        query(&self.socket, &self.password, args)
    }

    /// Waits until it answers PING, that is, until it listens and has loaded its data.
    pub fn wait_ready(&mut self, timeout: Duration) -> io::Result<()> {
        let (socket, password) = (&self.socket, &self.password);
        self.process.wait_until(timeout, || query(socket, password, &["PING"]).map(drop))
    }

    /// Ends it cleanly (SIGTERM); everything it acknowledged is on disk then.
    pub fn stop(&mut self) -> io::Result<()> {
        self.process.stop(STOP_TIMEOUT)
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill().map(drop)
    }

    /// Makes it stand still, sockets open, as a hanging machine does.
    pub fn pause(&mut self) -> io::Result<()> {
        self.process.pause()
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&mut self) -> io::Result<()> {
        self.process.resume()
    }

    /// Starts it again on the same data and the same socket after [`stop`](Self::stop) or [`kill`](Self::kill), and
    /// waits until it answers.
    pub fn restart(&mut self) -> io::Result<()> {
        self.process.restart()?;
        self.wait_ready(START_TIMEOUT)
    }

    /// Copies its files to the new folder `to`, running or not. It stands still meanwhile, so that the files
    /// belong together and are those of one moment.
    pub fn copy_data(&mut self, to: &Path) -> io::Result<()> {
        let pause = self.process.is_running() && !self.process.is_paused();
        if pause {
            self.process.pause()?;
        }
        let copied = copy_dir(&self.data, to);
        if pause {
            self.process.resume()?;
        }
        copied
    }

    /// Replaces its files by a copy that [`copy_data`](Self::copy_data) made. It must have ended before.
    pub fn restore_data(&mut self, from: &Path) -> io::Result<()> {
        if self.process.is_running() {
            return Err(self.process.failure("is still running"));
        }
        fs::remove_dir_all(&self.data)?;
        copy_dir(from, &self.data)
    }

    /// Cuts the last so many bytes off the newest part of the append-only file, or all of it when it is shorter: what
    /// a failing machine loses. It must have ended before.
    pub fn truncate_aof(&mut self, bytes: u64) -> io::Result<()> {
        if self.process.is_running() {
            return Err(self.process.failure("is still running"));
        }
        let file = fs::File::options().write(true).open(newest_aof(&self.data.join("appendonlydir"))?)?;
        file.set_len(file.metadata()?.len().saturating_sub(bytes))?;
        file.sync_all()
    }

    /// Puts zeros in the place of the last so many bytes of the newest part of the append-only file: what a file system leaves
    /// that knew the new length before a power cut, and did not have the data. It must have ended before.
    pub fn blank_aof(&mut self, bytes: u64) -> io::Result<()> {
        let newest = newest_aof(&self.data.join("appendonlydir"))?;
        let length = fs::metadata(&newest)?.len();
        self.truncate_aof(bytes)?;
        fs::File::options().write(true).open(newest)?.set_len(length)
    }

    /// The process itself: its id, its log, signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The part that Redis appends to: `appendonly.aof.NUMBER.incr.aof` with the highest number.
fn newest_aof(dir: &Path) -> io::Result<PathBuf> {
    let mut newest = None;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_suffix(".incr.aof").and_then(|name| name.rsplit('.').next()?.parse::<u64>().ok());
        newest = newest.max(number.map(|number| (number, path)));
    }
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no *.incr.aof in {}", dir.display()));
    newest.map(|(_, path)| path).ok_or_else(missing)
}

/// The server's program: `redis-server` when there is one, else a link of that name to `redis-check-rdb`.
///
/// In Debian they are the same file, which looks at the name it is called by, but they come in two packages: that of
/// `redis-server` also starts a system-wide Redis when it is installed, that of `redis-check-rdb` starts nothing.
pub(crate) fn server_program(run: &Path) -> io::Result<PathBuf> {
    if let Some(server) = find_program("redis-server") {
        return Ok(server);
    }
    let link = run.join("redis-server");
    if !link.exists() {
        symlink(require_program("redis-check-rdb")?, &link)?;
    }
    Ok(link)
}

pub(crate) fn query<Arg: AsRef<[u8]>>(socket: &Path, password: &str, args: &[Arg]) -> io::Result<Vec<String>> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let mut stream = BufReader::new(stream);
    if !password.is_empty() {
        ask(&mut stream, &["AUTH", password])?;
    }
    ask(&mut stream, args)
}

fn ask<Arg: AsRef<[u8]>>(stream: &mut BufReader<UnixStream>, args: &[Arg]) -> io::Result<Vec<String>> {
    let mut request = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args.iter().map(AsRef::as_ref) {
        request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        request.extend_from_slice(arg);
        request.extend_from_slice(b"\r\n");
    }
    stream.get_mut().write_all(&request)?;

    let mut reply = Vec::new();
    read_reply(stream, &mut reply)?;
    Ok(reply)
}

/// Reads one reply of the RESP 2 protocol, <https://redis.io/docs/latest/develop/reference/protocol-spec/>.
fn read_reply(reader: &mut impl BufRead, reply: &mut Vec<String>) -> io::Result<()> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let rest = line.get(1..).unwrap_or_default().trim_end();
    let length = || rest.parse::<i64>().map_err(io::Error::other);
    match line.as_bytes().first() {
        None => return Err(io::ErrorKind::UnexpectedEof.into()),
        Some(b'+' | b':') => reply.push(rest.to_owned()),
        Some(b'-') => return Err(io::Error::other(rest)),
        Some(b'*') => {
            for _ in 0..length()? {
                read_reply(reader, reply)?;
            }
        }
        Some(b'$') => {
            // A negative length is a null.
            if let Ok(length) = usize::try_from(length()?) {
                let mut bytes = vec![0; length + 2];
                reader.read_exact(&mut bytes)?;
                reply.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
            }
        }
        Some(_) => return Err(io::Error::other(format!("not a Redis reply: {line}"))),
    }
    Ok(())
}
