//! Taken ports, and by whom.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, bail};

/// Checks that every address can be listened on; if not, says which not and, where `/proc` tells, who is there.
///
/// The services bind again later and report a lost race themselves; this is for a clear message at the start.
pub(crate) fn require_free(wanted: &[(&str, SocketAddr)]) -> anyhow::Result<()> {
    let mut taken = Vec::new();
    for (what, address) in wanted {
        match TcpListener::bind(address) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let owner = owner(address.port()).map_or_else(String::new, |owner| format!(" by {owner}"));
                taken.push(format!("port {} (for {what}) is taken{owner}", address.port()));
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot listen on {address} (for {what})"));
            }
        }
    }
    if !taken.is_empty() {
        bail!("{}; stop that first, or choose other addresses: see `cargo xtask up --help`", taken.join(", "));
    }
    Ok(())
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
    fn a_taken_port_is_named_with_its_owner() -> anyhow::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let error = require_free(&[("ingest", address)]).expect_err("it is taken").to_string();
        let me = format!("(process {})", process::id());
        let port = format!("port {} (for ingest) is taken by ", address.port());
        assert!(error.contains(&port) && error.contains(&me), "{error}");
        Ok(())
    }
}
