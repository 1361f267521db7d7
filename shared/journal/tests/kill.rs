//! A real process that is killed while it appends.
//!
//! Apart from the other tests: until it becomes another program, a new process holds the locks of the one that starts
//! it, so that the dead of another test would seem to live a little longer.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use footfall_journal::{Disk, Folder, Journal, Life, Limits, adopt};

const ROOT: &str = "JOURNAL_KILL_ROOT";

/// Not a test of its own: the process to be killed. Appends numbers, and tells each one that is appended.
#[test]
#[ignore = "is started by the test below"]
fn victim() {
    let Some(root) = env::var_os(ROOT) else { return };
    let disk: Arc<dyn Disk> = Arc::new(Folder::open(root).expect("it is writable"));
    let life = Life::begin(disk, "00000000000000aa").expect("the name is free");
    let mut journal = Journal::new(&life, 0, Limits { segment_bytes: 64 << 10, ..Limits::default() });
    for number in 0.. {
        journal.append(&payload(number), Instant::now()).expect("there is room");
        println!("appended {number}");
    }
}

fn payload(number: u64) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(8 + usize::try_from(number * 37 % 3000).expect("it is small"), 7);
    payload
}

#[test]
fn kill_dash_nine_loses_nothing() {
    for lines in [1, 100, 1000] {
        let root = tempfile::tempdir().expect("a temporary folder");
        let mut victim = Command::new(env::current_exe().expect("this test is a program"))
            .args(["--exact", "victim", "--ignored", "--nocapture"])
            .env(ROOT, root.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut output = BufReader::new(victim.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let disk: Arc<dyn Disk> = Arc::new(Folder::open(root.path()).expect("it is writable"));

        let number = |line: String| line.rsplit_once("appended ")?.1.parse::<u64>().ok();
        let told = output.by_ref().filter_map(number).nth(lines).expect("it goes on");
        assert!(adopt(&disk).expect("the disk works").is_empty(), "it is alive");
        victim.kill().expect("it is alive");
        victim.wait().expect("it ends");
        // It was faster than its output is read.
        let told = output.filter_map(number).last().unwrap_or(told);

        let mut dead = adopt(&disk).expect("the disk works").pop().expect("it is dead");
        let mut found = 0;
        let journal = &mut dead.shards[0];
        journal
            .records(|_, record| {
                assert_eq!(record, payload(found), "all, in order");
                found += 1;
            })
            .expect("the disk works");
        assert!(journal.damaged.is_empty());
        assert!(found > told, "{found} found, the last one told is {told}");
        dead.finished().expect("the disk works");
        assert!(disk.list("").expect("the disk works").is_empty());
    }
}
