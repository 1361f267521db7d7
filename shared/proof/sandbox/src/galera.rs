//! A private Galera cluster: several MariaDBs, each of which takes writes and has everything.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::files::{copy_dir, require_program, socket_dir};
use crate::mariadb::{MariaDb, MariaDbOptions};
use crate::process::POLL;

const JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// A node that joins asks another for what it lacks. This hands over the position that the node has said itself, and Galera
/// then sends the write sets behind it. (Debian's own scripts bring rsync or a backup program with them, and copy a whole
/// node; here all begin as copies.)
const HAND_OVER: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do
    case "$1" in
        --role) role=$2 ;;
        --address) address=$2 ;;
        --gtid) position=$2 ;;
        --bypass) bypass=yes ;;
    esac
    shift
done
note="$SANDBOX_HAND_OVER/${address%%/*}"
case "$role" in
    joiner)
        rm -f "$note"
        echo "ready $address"
        until [ -e "$note" ]; do sleep 0.05; done
        cat "$note"
        ;;
    donor)
        [ "$bypass" = yes ] || exit 22
        echo "$position" > "$note.new" && mv "$note.new" "$note" && echo "done $position"
        ;;
esac
"#;

/// Clusters that this process has started: each has addresses of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A cluster. Dropping it kills all nodes; the data stay.
#[derive(Debug)]
pub struct Galera {
    /// Which one it is of those in this process.
    index: u32,
    nodes: Vec<Option<MariaDb>>,
    dir: PathBuf,
    library: PathBuf,
    database: String,
    /// Holds a link to each node's socket, which stays where it is when the node comes back.
    run: TempDir,
}

impl Galera {
    /// Starts so many nodes whose files are below `dir`, a new folder, and waits until all are one cluster. `library` is
    /// Galera's, `libgalera_smm.so`.
    pub fn start(dir: &Path, library: &Path, nodes: usize, database: &str) -> io::Result<Self> {
        let mut galera = Self {
            index: STARTED.fetch_add(1, Ordering::Relaxed),
            nodes: Vec::new(),
            dir: std::path::absolute(dir)?,
            library: library.to_owned(),
            database: database.to_owned(),
            run: socket_dir()?,
        };
        let hand_over = galera.dir.join("wsrep_sst_sandbox");
        fs::create_dir_all(&galera.dir)?;
        fs::write(&hand_over, HAND_OVER)?;
        fs::set_permissions(&hand_over, fs::Permissions::from_mode(0o755))?;
        // What all nodes begin with: the files of the first one after its first write sets, which name a position.
        let first = galera.node_dir(0);
        MariaDb::start(&first, &galera.plain())?.stop()?;
        galera.nodes.resize_with(nodes, || None);
        galera.launch(0, &["--wsrep-new-cluster"])?;
        galera.node(0).query("CREATE TABLE begun (n INT); DROP TABLE begun")?;
        galera.node(0).stop()?;
        for number in 1..nodes {
            copy_dir(&first, &galera.node_dir(number))?;
        }
        for number in 0..nodes {
            let args: &[&str] = if number == 0 { &["--wsrep-new-cluster"] } else { &[] };
            galera.launch(number, args)?;
        }
        galera.wait_whole()?;
        Ok(galera)
    }

    /// A node, counted from 0.
    ///
    /// # Panics
    ///
    /// If it has ended, or there is none.
    pub fn node(&mut self, number: usize) -> &mut MariaDb {
        self.nodes[number].as_mut().unwrap_or_else(|| panic!("node {number} has ended"))
    }

    /// Where clients reach a node, now and after it came back.
    pub fn url(&self, number: usize) -> String {
        format!("mysql://root@localhost/{}?socket={}", self.database, self.link(number).display())
    }

    /// Ends a node at once, as `kill -9` does.
    pub fn kill(&mut self, number: usize) -> io::Result<()> {
        self.nodes[number].take().map_or(Ok(()), |mut node| node.kill())
    }

    /// Ends a node in order.
    pub fn stop(&mut self, number: usize) -> io::Result<()> {
        self.nodes[number].take().map_or(Ok(()), |mut node| node.stop())
    }

    /// The nodes that run.
    pub fn nodes(&self) -> impl Iterator<Item = (usize, &MariaDb)> {
        self.nodes.iter().enumerate().filter_map(|(number, node)| Some((number, node.as_ref()?)))
    }

    /// Starts a node that has ended, and waits until it has all that the others have.
    pub fn rejoin(&mut self, number: usize) -> io::Result<()> {
        let position = self.recovered(number)?;
        self.launch(number, &[&format!("--wsrep-start-position={position}")])?;
        self.wait_whole()
    }

    /// Waits until all nodes that run are one cluster, and have everything.
    pub fn wait_whole(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + JOIN_TIMEOUT;
        let size = self.nodes.iter().flatten().count().to_string();
        let sql =
            "SHOW STATUS WHERE Variable_name = 'wsrep_cluster_size' OR Variable_name = 'wsrep_local_state_comment'";
        loop {
            let is_whole = self.nodes.iter().flatten().all(|node| {
                let said = node.query(sql).unwrap_or_default().concat();
                said.contains(&size) && said.iter().any(|word| word == "Synced")
            });
            if is_whole {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("no cluster of {size} within {JOIN_TIMEOUT:?}")));
            }
            std::thread::sleep(POLL);
        }
    }

    fn node_dir(&self, number: usize) -> PathBuf {
        self.dir.join(number.to_string())
    }

    fn link(&self, number: usize) -> PathBuf {
        self.run.path().join(number.to_string())
    }

    fn plain(&self) -> MariaDbOptions {
        MariaDbOptions { database: self.database.clone(), buffer_pool_mib: 64, ..MariaDbOptions::default() }
    }

    /// The options of a node. Nobody else on the machine has its address.
    fn options(&self, number: usize) -> io::Result<MariaDbOptions> {
        let address = |number: usize| {
            // Eight clusters of four nodes; those that began earlier have ended by then.
            let [_, high, middle, low] =
                (std::process::id() << 5 | (self.index % 8) << 2 | number as u32).to_be_bytes();
            Ipv4Addr::new(127, high, middle, low)
        };
        let here = address(number);
        let others: Vec<String> =
            (0..self.nodes.len()).filter(|other| *other != number).map(|other| address(other).to_string()).collect();
        // Whoever is silent for two seconds is not waited for any longer; the rest follows from that.
        let provider = format!(
            "base_host={here};gmcast.listen_addr=tcp://{here}:4567;ist.recv_addr={here};gcache.size=32M;pc.wait_prim=yes;\
             evs.keepalive_period=PT0.3S;evs.inactive_check_period=PT0.3S;evs.suspect_timeout=PT2S;\
             evs.inactive_timeout=PT4S;evs.install_timeout=PT4S"
        );
        // The database is there already.
        let nothing = self.dir.join("nothing.sql");
        fs::write(&nothing, "")?;
        let args = vec![
            format!("--init-file={}", nothing.display()),
            "--binlog-format=ROW".into(),
            "--innodb-autoinc-lock-mode=2".into(),
            "--wsrep-on=ON".into(),
            format!("--wsrep-provider={}", self.library.display()),
            format!("--wsrep-provider-options={provider}"),
            format!("--wsrep-cluster-address=gcomm://{}", others.join(",")),
            "--wsrep-cluster-name=sandbox".into(),
            format!("--wsrep-node-name=node{number}"),
            format!("--wsrep-node-address={here}"),
            "--wsrep-sst-method=sandbox".into(),
            format!("--wsrep-sst-receive-address={here}:4444"),
        ];
        Ok(MariaDbOptions { args, ..self.plain() })
    }

    fn launch(&mut self, number: usize, args: &[&str]) -> io::Result<()> {
        let mut options = self.options(number)?;
        options.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        let path = std::env::var("PATH").unwrap_or_default();
        let env =
            [("PATH", format!("{}:{path}", self.dir.display())), ("SANDBOX_HAND_OVER", self.dir.display().to_string())];
        let start = || MariaDb::start_with(&self.node_dir(number), &options, &env);
        // Galera asks for the priority of a thread that has just begun, and gives up where a busy machine has not let it begin.
        let is_of_galera = |error: &io::Error| error.to_string().contains("Failed to set thread schedparams");
        let node = start().or_else(|error| if is_of_galera(&error) { start() } else { Err(error) })?;
        let link = self.link(number);
        if link.is_symlink() {
            fs::remove_file(&link)?;
        }
        symlink(node.socket(), link)?;
        self.nodes[number] = Some(node);
        Ok(())
    }

    /// The position that a killed node had reached, as its own recovery says it.
    fn recovered(&self, number: usize) -> io::Result<String> {
        let dir = self.node_dir(number);
        let output = Command::new(require_program("mariadbd")?)
            .arg("--no-defaults")
            .arg(format!("--datadir={}", dir.join("data").display()))
            .arg(format!("--tmpdir={}", dir.join("tmp").display()))
            .args(crate::mariadb::as_root())
            .args(self.options(number)?.args)
            .args(["--wsrep-recover", "--skip-networking"])
            .arg(format!("--socket={}", self.run.path().join("recover.sock").display()))
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let position = said.rsplit_once("Recovered position:").and_then(|(_, rest)| rest.split_whitespace().next());
        position.map(str::to_owned).ok_or_else(|| io::Error::other(format!("no position in: {said}")))
    }
}
