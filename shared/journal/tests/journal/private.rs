//! Other users of the machine: what they may see of a journal, and what they could do to one.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use footfall_journal::{Disk, Folder, Journal, Life, adopt};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::{LIMITS, NAME};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

fn refusal(path: &Path) -> String {
    let Err(error) = Folder::open(path) else { panic!("it is not for us alone") };
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    error.to_string()
}

/// Every folder and every file, whatever the process's umask lets through.
#[test]
fn only_the_owner_gets_in() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let root = parent.path().join("journal");
    let disk: Arc<dyn Disk> = Arc::new(Folder::open(&root).expect("it is writable"));
    let life = Life::begin(Arc::clone(&disk), NAME).expect("the name is free");
    let mut journal = Journal::new(&life, 0, LIMITS);
    journal.append(b"who reads what", Instant::now()).expect("there is room");
    assert_eq!((mode(&root), mode(&root.join(NAME))), (0o700, 0o700));
    let files: Vec<_> = fs::read_dir(root.join(NAME)).expect("it is there").map(|file| file.expect("a file")).collect();
    assert!(files.len() >= 2, "the lock and a segment");
    for file in files {
        assert_eq!(mode(&file.path()), 0o600, "{}", file.path().display());
    }
    // As versions before left it: open to readers.
    set_mode(&root, 0o755);
    Folder::open(&root).expect("it is ours");
    assert_eq!(mode(&root), 0o700);
}

#[test]
fn a_folder_into_which_others_may_write_is_refused() {
    let root = tempfile::tempdir().expect("a temporary folder");
    for open in [0o777, 0o1777, 0o770, 0o702] {
        set_mode(root.path(), open);
        let refusal = refusal(root.path());
        assert!(refusal.contains("others may write") && refusal.contains("chmod 700"), "{refusal}");
        assert_eq!(mode(root.path()), open & 0o777, "nothing was changed");
    }
    if fs::metadata(root.path()).expect("it is there").uid() == 0 {
        set_mode(root.path(), 0o700);
        chown(root.path(), Some(65534), None).expect("root may");
        let refusal = refusal(root.path());
        assert!(refusal.contains("65534") && refusal.contains("chown"), "{refusal}");
    }
}

/// A link that was planted under a name that we are about to use: what it leads to stays as it is.
#[test]
fn no_link_is_followed() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let victim = parent.path().join("victim");
    fs::write(&victim, "precious").expect("a temporary file");
    let root = parent.path().join("journal");
    fs::create_dir(&root).expect("a temporary folder");
    set_mode(&root, 0o755);
    let probe = root.join(format!(".probe-{}", std::process::id()));
    symlink(&victim, &probe).expect("a link");
    let disk = Folder::open(&root).expect("it is ours");
    assert!(fs::symlink_metadata(&probe).is_err(), "the probe is gone, link or not");

    // A folder of a life that leads elsewhere is none, and neither is a file of one.
    let elsewhere = parent.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a temporary folder");
    symlink(&elsewhere, root.join(NAME)).expect("a link");
    assert_eq!(disk.list("").expect("it can be read"), Vec::<String>::new());
    fs::remove_file(root.join(NAME)).expect("the link");
    disk.create_folder(NAME).expect("the name is free");
    for name in ["lock", "segment"] {
        symlink(&victim, root.join(NAME).join(name)).expect("a link");
    }
    assert_eq!(disk.list(NAME).expect("it can be read"), Vec::<String>::new());
    assert!(disk.lock(NAME).is_err(), "the lock is a link");
    assert!(disk.create(&format!("{NAME}/segment"), 4096).is_err(), "the name is taken");
    disk.read(&format!("{NAME}/segment")).expect_err("it is a link");
    disk.read_at(&format!("{NAME}/segment"), 0, 1).expect_err("it is a link");
    assert_eq!(fs::read_to_string(&victim).expect("it is there"), "precious");
}

/// Who opens a pipe waits for its other end, which never comes.
#[test]
fn nobody_waits_for_a_pipe() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let disk: Arc<dyn Disk> = Arc::new(Folder::open(root.path()).expect("it is ours"));
    disk.create_folder(NAME).expect("the name is free");
    let segment = root.path().join(NAME).join("s0-0.journal");
    for pipe in [segment, root.path().join(NAME).join("lock")] {
        // Not by a command: until it is running it would hold the locks of all other tests.
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    }
    let (done, ended) = std::sync::mpsc::channel();
    let adopter = Arc::clone(&disk);
    std::thread::spawn(move || {
        let _ = adopter.read(&format!("{NAME}/s0-0.journal"));
        done.send(adopt(&adopter).map(|dead| dead.len()).map_err(|error| error.to_string()))
    });
    let answer = ended.recv_timeout(Duration::from_secs(10)).expect("it waits for the pipe");
    assert!(!matches!(answer, Ok(1..)), "{answer:?}: a pipe is no segment");
}
