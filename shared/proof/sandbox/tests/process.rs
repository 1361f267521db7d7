//! Child processes that are signalled, paused and killed.

use std::fs;
use std::io;
use std::process::Command;
use std::thread;
use std::time::Duration;

use footfall_sandbox::Process;
use tempfile::TempDir;

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

const LONG: Duration = Duration::from_secs(30);

fn shell(script: &str, dir: &TempDir) -> io::Result<Process> {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("GREETING", "hello").current_dir(dir);
    Process::spawn(command, &dir.path().join("log"))
}

#[test]
fn output_environment_and_exit_code_arrive() -> Result {
    let dir = TempDir::new()?;
    let mut process = shell("echo $GREETING; pwd >&2; exit 3", &dir)?;
    assert_eq!(process.wait(LONG)?.code(), Some(3));
    process.restart()?;
    process.wait(LONG)?;
    let log = fs::read_to_string(process.log())?;
    assert_eq!(log.matches("hello\n").count(), 2, "{log}");
    assert!(log.contains(&*dir.path().to_string_lossy()), "{log}");
    assert!(process.pause().is_err(), "there is nothing to pause");
    Ok(())
}

#[test]
fn terminate_waits_for_a_clean_end() -> Result {
    let dir = TempDir::new()?;
    let ready = dir.path().join("ready");
    let mut process = shell("trap 'exit 0' TERM; touch ready; while :; do sleep 0.01; done", &dir)?;
    process.wait_until(LONG, || fs::metadata(&ready).map(drop))?;
    process.pause()?;
    assert!(process.is_running());
    assert!(process.terminate(LONG)?.success(), "resumed, then ended");
    assert!(!process.is_running());
    Ok(())
}

#[test]
fn one_that_does_not_end_is_reported_and_then_killed() -> Result {
    let dir = TempDir::new()?;
    let ready = dir.path().join("ready");
    let mut process = shell("trap '' TERM; touch ready; while :; do sleep 0.01; done", &dir)?;
    process.wait_until(LONG, || fs::metadata(&ready).map(drop))?;
    let error = process.terminate(Duration::from_millis(50)).expect_err("it ignores SIGTERM");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(process.is_running());
    assert!(process.stop(Duration::from_millis(50)).is_err());
    assert!(!process.is_running());
    Ok(())
}

#[test]
fn a_child_outlives_the_thread_that_started_it() -> Result {
    let dir = TempDir::new()?;
    let mut process =
        thread::scope(|scope| scope.spawn(|| shell("sleep 60", &dir)).join()).map_err(|_| "the thread panicked")??;
    thread::sleep(Duration::from_millis(100));
    assert!(process.is_running());
    Ok(())
}

#[test]
fn a_missing_program_is_named() -> Result {
    let dir = TempDir::new()?;
    let mut process = Process::spawn(Command::new("/no/such/program"), &dir.path().join("log"))?;
    let error = process.wait_until(LONG, || Err(io::Error::other("never"))).expect_err("it cannot run");
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    Ok(())
}
