//! The sandbox of Sentinels on real servers.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use footfall_sandbox::{Sentinels, SentinelsOptions};
use tempfile::TempDir;

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

fn eventually(what: &str, check: impl Fn() -> io::Result<bool>) {
    let until = Instant::now() + Duration::from_secs(30);
    while !check().unwrap_or(false) {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_master_that_is_killed_is_replaced_and_returns_as_a_replica() -> Result {
    let dir = TempDir::new()?;
    let mut all = Sentinels::start(dir.path(), &SentinelsOptions::default())?;
    assert_eq!(all.master()?, 0);
    all.server(0).query(&["SET", "key", "value"])?;
    assert_eq!(all.server(0).query(&["WAIT", "2", "10000"])?, ["2"]);
    all.server(0).kill()?;
    eventually("another master", || Ok(all.master()? != 0));
    let master = all.master()?;
    assert_eq!(all.server(master).query(&["GET", "key"])?, ["value"]);
    all.server(0).restart()?;
    let server = all.server(0);
    eventually("a replica", || Ok(server.query(&["ROLE"])?.first().is_some_and(|role| role == "slave")));
    Ok(())
}

#[test]
fn a_fail_over_by_hand_needs_its_password_and_makes_another_the_master() -> Result {
    let dir = TempDir::new()?;
    let options = SentinelsOptions { password: "secret".into(), ..SentinelsOptions::default() };
    let mut all = Sentinels::start(dir.path(), &options)?;
    all.fail_over()?;
    let master = all.master()?;
    assert_ne!(master, 0);
    assert_eq!(all.server(master).query(&["ROLE"])?[0], "master");
    assert_eq!(all.sentinels().len(), 3);
    Ok(())
}
