//! A private MariaDB.

mod install;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{self, Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::files::{find_program, require_program, socket_dir};
use crate::process::Process;

/// Long enough for crash recovery on a slow disk.
const START_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(120);

/// Settings of a [`MariaDb`].
#[derive(Clone, Debug)]
pub struct MariaDbOptions {
    /// Name of the database that is created: ASCII letters, digits and underscores.
    pub database: String,
    /// Size of InnoDB's page cache, in MiB.
    pub buffer_pool_mib: u32,
    /// `innodb_flush_log_at_trx_commit`: 1 brings every commit to disk before it is acknowledged, 2 once a second.
    pub flush_log_at_commit: u8,
    /// More command-line arguments for `mariadbd`. They win over the sandbox's own.
    pub args: Vec<String>,
}

impl Default for MariaDbOptions {
    fn default() -> Self {
        Self { database: "sandbox".to_owned(), buffer_pool_mib: 256, flush_log_at_commit: 1, args: Vec::new() }
    }
}

/// A private MariaDB on a unix socket, without network: utf8mb4, strict SQL mode, one database, user `root` without a
/// password. Dropping it kills it; the data stay.
#[derive(Debug)]
pub struct MariaDb {
    process: Process,
    database: String,
    socket: PathBuf,
    /// Holds the socket: removed when dropped.
    _run: TempDir,
}

impl MariaDb {
    /// Starts a MariaDB whose files are below `dir`, new or left there by an earlier one, and waits until it answers.
    pub fn start(dir: &Path, options: &MariaDbOptions) -> io::Result<Self> {
        Self::start_with(dir, options, &[])
    }

    /// The same, with more environment for the server.
    pub(crate) fn start_with(dir: &Path, options: &MariaDbOptions, env: &[(&str, String)]) -> io::Result<Self> {
        let database = &options.database;
        if database.is_empty() || !database.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(io::Error::other(format!("not a name for a database: {database:?}")));
        }
        // Absolute, because the server changes its working folder.
        let dir = path::absolute(dir)?;
        let data = dir.join("data");
        // Its own, because every MariaDB that starts deletes the temporary tables that it finds, also in `/tmp`, also
        // those of another server that is running.
        let tmp = dir.join("tmp");
        fs::create_dir_all(&tmp)?;
        if !data.exists() {
            install::install(&dir, &data)?;
        }
        // Executed before connections are served: who is let in finds the database.
        let init = dir.join("init.sql");
        fs::write(&init, format!("CREATE DATABASE IF NOT EXISTS {database} CHARACTER SET utf8mb4;\n"))?;
        let run = socket_dir()?;
        let socket = run.path().join("mariadb.sock");

        let mut command = Command::new(require_program("mariadbd")?);
        command
            // First, as the server demands: the machine's own configuration must not reach in here.
            .arg("--no-defaults")
            .arg(option("datadir", &data))
            .arg(option("tmpdir", &tmp))
            .arg(option("socket", &socket))
            .arg(option("pid-file", &run.path().join("mariadb.pid")))
            .arg(option("init-file", &init))
            .args(as_root())
            .args(["--skip-networking", "--skip-name-resolve"])
            .args(["--character-set-server=utf8mb4", "--sql-mode=TRADITIONAL"])
            .arg(format!("--innodb-buffer-pool-size={}M", options.buffer_pool_mib))
            .arg(format!("--innodb-flush-log-at-trx-commit={}", options.flush_log_at_commit))
            // Caches of the engines that nobody uses here.
            .args(["--key-buffer-size=1M", "--loose-aria-pagecache-buffer-size=8M"])
            .args(&options.args)
            .envs(env.iter().map(|(name, value)| (*name, value)));
        let mut mariadb = Self {
            process: Process::spawn(command, &dir.join("mariadb.log"))?,
            database: database.clone(),
            socket,
            _run: run,
        };
        mariadb.wait_ready(START_TIMEOUT)?;
        Ok(mariadb)
    }

    /// Whether the programs that [`start`](Self::start) needs are installed.
    pub fn is_installed() -> bool {
        ["mariadbd", "mariadb-install-db", "mariadb"].iter().all(|name| find_program(name).is_some())
    }

    /// Where clients connect, as a URL for sqlx: `mysql://root@localhost/NAME?socket=...`.
    pub fn url(&self) -> String {
        let (database, socket) = (&self.database, self.socket.display());
        format!("mysql://root@localhost/{database}?socket={socket}")
    }

    /// The unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Runs SQL statements through the `mariadb` client and returns the rows of all of them, `NULL` as that word.
    ///
    /// Meant for set-up and for looking from the outside. At most 128 KiB, the kernel's limit for an argument.
    pub fn query(&self, sql: &str) -> io::Result<Vec<Vec<String>>> {
        query(&self.socket, &self.database, sql)
    }

    /// Waits until it answers a query, that is, until recovery is over and the database exists.
    pub fn wait_ready(&mut self, timeout: Duration) -> io::Result<()> {
        let (socket, database) = (&self.socket, &self.database);
        self.process.wait_until(timeout, || query(socket, database, "SELECT 1").map(drop))
    }

    /// Ends it cleanly (SIGTERM).
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

    /// The process itself: its id, its log, signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The server refuses to run as root unless told so.
pub(crate) fn as_root() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(format!("--{name}="));
    option.push(path);
    option
}

fn query(socket: &Path, database: &str, sql: &str) -> io::Result<Vec<Vec<String>>> {
    let output = Command::new(require_program("mariadb")?)
        .arg("--no-defaults")
        .arg(option("socket", socket))
        .args(["--user=root", "--default-character-set=utf8mb4", "--connect-timeout=10"])
        .args(["--batch", "--skip-column-names"])
        .arg(format!("--database={database}"))
        .arg(format!("--execute={sql}"))
        .output()?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(message.trim().to_owned()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(|line| line.split('\t').map(unescape).collect()).collect())
}

/// Undoes what the client's batch mode does to tabs, line ends, zero bytes and backslashes in values.
fn unescape(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('0') => '\0',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn values_come_back_as_they_were_stored() {
        assert_eq!(unescape(r"a\tb\nc\\d\0"), "a\tb\nc\\d\0");
        assert_eq!(unescape("plain"), "plain");
    }
}
