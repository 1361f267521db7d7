//! Where the services listen: on the usual ports, or, where somebody else is there, on others.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixListener};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

/// Held while ports are chosen and until services listen on them, so that two that start at the same time do not choose
/// the same ones. A name of the kernel's: it goes with its owner, and is seen wherever the same ports are.
const STARTING: &str = "footfall-up-is-starting";
const POLL: Duration = Duration::from_millis(100);

/// Lets one start at a time, as long as it is held.
pub(crate) struct Turn {
    _name: UnixListener,
}

impl Turn {
    /// Waits until nobody else on this machine is starting.
    pub(crate) fn take() -> anyhow::Result<Self> {
        Self::take_named(STARTING)
    }

    fn take_named(name: &str) -> anyhow::Result<Self> {
        let name = net::SocketAddr::from_abstract_name(name)?;
        let mut told = false;
        loop {
            match UnixListener::bind_addr(&name) {
                Ok(listener) => return Ok(Self { _name: listener }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    if !told {
                        println!("Waiting for another `cargo xtask up`, which is starting ...");
                        told = true;
                    }
                    thread::sleep(POLL);
                }
                Err(error) => return Err(error).context("cannot see whether another `cargo xtask up` is starting"),
            }
        }
    }
}

/// An address that a service wants.
pub(crate) struct Wanted {
    /// For whom.
    pub(crate) what: &'static str,
    /// The option that names it, and what it says.
    pub(crate) option: Option<(&'static str, SocketAddr)>,
    /// Where it usually is.
    pub(crate) usual: SocketAddr,
}

/// The address to listen on: the one that was asked for, or else the usual one. If somebody else is at the usual one, it is
/// any free port, and a sentence says who is there.
///
/// # Errors
///
/// If the address that was asked for is taken; says who is there, and what to give instead.
pub(crate) fn choose(wanted: &Wanted) -> anyhow::Result<(SocketAddr, Option<String>)> {
    let Wanted { what, option, usual } = wanted;
    let address = option.map_or(*usual, |(_, address)| address);
    match TcpListener::bind(address) {
        Ok(_) => Ok((address, None)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let owner = owner(address.port()).map_or_else(String::new, |owner| format!(" by {owner}"));
            let taken = format!("port {} (for {what}) is taken{owner}", address.port());
            let any = SocketAddr::new(address.ip(), 0);
            match option {
                Some((option, _)) => {
                    bail!("{taken}; stop that first, or give another address: `{option} {any}` is any free port")
                }
                None => Ok((any, Some(format!("{taken}: another one is used")))),
            }
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address} (for {what})")),
    }
}

/// Name and id of the process that listens on `port`, if we may know.
fn owner(port: u16) -> Option<String> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listeners(&table, port))
        .collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        // The other entries are not processes; one of them, `self`, is we.
        if pid.parse::<u32>().is_err() {
            continue;
        }
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let mut targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        if targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str())) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {pid})", name.trim()));
        }
    }
    None
}

/// The sockets that listen on `port` in a table of `/proc/net`, named as the links in `/proc/*/fd` name them.
fn listeners(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let port = format!(":{port:04X}");
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            (local.ends_with(&port) && *state == LISTEN).then(|| format!("socket:[{inode}]"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process;
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_table_of_the_kernel_is_understood() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0\n\
            1: 0100007F:1F40 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0\n";
        assert_eq!(listeners(table, 8000), ["socket:[4711]"]);
        assert!(listeners(table, 8001).is_empty());
    }

    #[test]
    fn a_taken_port_is_named_with_its_owner_and_another_one_is_used_unless_it_was_asked_for() -> anyhow::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let usual = listener.local_addr()?;
        let me = format!("port {} (for ingest) is taken by ", usual.port());
        let is_named =
            |sentence: &str| sentence.contains(&me) && sentence.contains(&format!("(process {})", process::id()));
        let (address, said) = choose(&Wanted { what: "ingest", option: None, usual })?;
        assert_eq!(address, "127.0.0.1:0".parse()?);
        assert!(said.as_deref().is_some_and(is_named), "{said:?}");
        let option = Some(("--ingest", usual));
        let error = choose(&Wanted { what: "ingest", option, usual }).expect_err("it is taken").to_string();
        assert!(is_named(&error) && error.contains("`--ingest 127.0.0.1:0`"), "{error}");
        drop(listener);
        // A process that another test starts holds the listener, too, until it has become another program.
        let until = Instant::now() + Duration::from_secs(5);
        let mut chosen = choose(&Wanted { what: "ingest", option: None, usual })?;
        while chosen != (usual, None) && Instant::now() < until {
            thread::sleep(POLL);
            chosen = choose(&Wanted { what: "ingest", option: None, usual })?;
        }
        assert_eq!(chosen, (usual, None));
        Ok(())
    }

    #[test]
    fn one_starts_at_a_time() -> anyhow::Result<()> {
        let name = format!("footfall-test-{}", process::id());
        let first = Turn::take_named(&name)?;
        let second = thread::spawn(move || Turn::take_named(&name).map(drop));
        thread::sleep(3 * POLL);
        assert!(!second.is_finished());
        drop(first);
        second.join().expect("no panic")
    }
}
