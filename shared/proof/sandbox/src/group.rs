//! What Redis servers that belong together have in common: where they listen, and how one waits for them.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::process::POLL;

/// Until all of them know each other, or do what they were told.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// The address of this process's own, on which all of them listen.
pub(crate) fn ip() -> IpAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 1 + high, middle, low).into()
}

/// The lines of a configuration that say how it is reached. With a folder of certificates: over TLS only.
pub(crate) fn listen(address: SocketAddr, certificates: Option<&Path>) -> Vec<String> {
    let bind = format!("bind {}", address.ip());
    let Some(folder) = certificates else { return vec![bind, format!("port {}", address.port())] };
    let file = |setting: &str, name: &str| format!("tls-{setting}-file {}", folder.join(name).display());
    let files = [file("cert", "server.pem"), file("key", "server.key"), file("ca-cert", "ca.pem")];
    let tls = ["port 0", "tls-replication yes", "tls-auth-clients no"].map(str::to_owned);
    [vec![bind, format!("tls-port {}", address.port())], files.into(), tls.into()].concat()
}

/// A file of its own: they write down there what becomes of them.
pub(crate) fn write_configuration(dir: &Path, lines: &[String]) -> io::Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let file = dir.join("redis.conf");
    fs::write(&file, lines.join("\n") + "\n")?;
    Ok(file)
}

/// Waits until `check` answers that it is so.
pub(crate) fn wait(what: &str, check: impl Fn() -> io::Result<bool>) -> io::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    while !check().unwrap_or(false) {
        if Instant::now() >= deadline {
            check()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no {what} within {TIMEOUT:?}")));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
