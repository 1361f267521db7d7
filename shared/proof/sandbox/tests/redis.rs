//! The Redis sandbox on a real server.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use footfall_sandbox::{AppendFsync, Redis, RedisOptions};
use tempfile::TempDir;

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

fn start(dir: &Path) -> io::Result<Redis> {
    let options = RedisOptions { append_fsync: AppendFsync::Always, ..RedisOptions::default() };
    Redis::start(dir, &options)
}

fn get(redis: &Redis, key: &str) -> io::Result<Option<String>> {
    Ok(redis.query(&["GET", key])?.pop())
}

#[test]
fn data_survive_a_stop_and_a_new_start() -> Result {
    let dir = TempDir::new()?;
    let mut redis = start(dir.path())?;
    assert!(redis.url().starts_with("unix:///"));
    redis.query(&["SET", "key", "line\r\nand another"])?;
    redis.stop()?;
    redis.restart()?;
    assert_eq!(get(&redis, "key")?.as_deref(), Some("line\r\nand another"));
    drop(redis);

    let redis = start(dir.path())?;
    assert_eq!(get(&redis, "key")?.as_deref(), Some("line\r\nand another"));
    assert_eq!(get(&redis, "other")?, None);
    Ok(())
}

#[test]
fn an_acknowledged_write_survives_kill_9() -> Result {
    let dir = TempDir::new()?;
    let mut redis = start(dir.path())?;
    for round in 1..=5 {
        redis.query(&["INCR", "count"])?;
        redis.kill()?;
        assert!(redis.query(&["PING"]).is_err());
        redis.restart()?;
        assert_eq!(get(&redis, "count")?, Some(round.to_string()));
    }
    Ok(())
}

#[test]
fn without_its_password_it_says_nothing() -> Result {
    let dir = TempDir::new()?;
    let mut redis =
        Redis::start(dir.path(), &RedisOptions { password: "secret".to_owned(), ..RedisOptions::default() })?;
    redis.query(&["SET", "key", "value"])?;
    redis.stop()?;
    redis.restart()?;
    assert_eq!(get(&redis, "key")?.as_deref(), Some("value"));
    let mut stream = UnixStream::connect(redis.socket())?;
    stream.write_all(b"PING\r\n")?;
    let mut reply = [0; 7];
    stream.read_exact(&mut reply)?;
    assert_eq!(&reply, b"-NOAUTH");
    assert!(redis.url().ends_with("?pass=secret"), "{}", redis.url());
    Ok(())
}

#[test]
fn it_can_go_back_to_a_copy_of_its_files() -> Result {
    let dir = TempDir::new()?;
    let copy = dir.path().join("copy");
    let mut redis = start(&dir.path().join("redis"))?;
    redis.query(&["SET", "key", "older"])?;
    redis.copy_data(&copy)?;
    redis.query(&["SET", "key", "newer"])?;
    assert!(redis.restore_data(&copy).is_err(), "refused while it runs");
    redis.kill()?;
    redis.restore_data(&copy)?;
    redis.restart()?;
    assert_eq!(get(&redis, "key")?.as_deref(), Some("older"));
    Ok(())
}

#[test]
fn it_can_lose_the_end_of_its_file() -> Result {
    const SET: &str = "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\n";
    let dir = TempDir::new()?;
    let mut redis = start(dir.path())?;
    redis.query(&["SET", "key", "first"])?;
    redis.query(&["BGREWRITEAOF"])?;
    wait_until(|| {
        let info = redis.query(&["INFO", "persistence"]).unwrap_or_default().concat();
        info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
    })?;
    redis.query(&["SET", "key", "older"])?;
    redis.query(&["SET", "key", "newer"])?;
    assert!(redis.truncate_aof(1).is_err(), "refused while it runs");
    redis.kill()?;
    redis.truncate_aof((SET.len() + "newer\r\n".len()) as u64)?;
    redis.restart()?;
    assert_eq!(get(&redis, "key")?.as_deref(), Some("older"));
    redis.kill()?;
    redis.truncate_aof(1)?;
    redis.restart()?;
    assert_eq!(get(&redis, "key")?.as_deref(), Some("first"), "half a command is none");
    redis.kill()?;
    redis.truncate_aof(u64::MAX)?;
    redis.restart()?;
    assert_eq!(get(&redis, "key")?.as_deref(), Some("first"), "from the older part");
    Ok(())
}

#[test]
fn two_do_not_see_each_other() -> Result {
    let dir = TempDir::new()?;
    let one = start(&dir.path().join("one"))?;
    let two = start(&dir.path().join("two"))?;
    one.query(&["SET", "key", "one"])?;
    two.query(&["SET", "key", "two"])?;
    assert_eq!(get(&one, "key")?.as_deref(), Some("one"));
    assert_eq!(get(&two, "key")?.as_deref(), Some("two"));
    Ok(())
}

#[test]
fn a_paused_server_answers_after_it_is_resumed() -> Result {
    let dir = TempDir::new()?;
    let mut redis = start(dir.path())?;
    redis.pause()?;
    let mut client = UnixStream::connect(redis.socket())?;
    client.write_all(b"PING\r\n")?;
    client.set_read_timeout(Some(Duration::from_millis(200)))?;
    assert!(client.read(&mut [0; 16]).is_err(), "it stands still");
    redis.resume()?;
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut answer = [0; 7];
    client.read_exact(&mut answer)?;
    assert_eq!(&answer, b"+PONG\r\n");
    Ok(())
}

#[test]
fn a_start_that_fails_shows_the_log() -> Result {
    let dir = TempDir::new()?;
    let options =
        RedisOptions { args: ["--no-such-option", "1"].map(String::from).to_vec(), ..RedisOptions::default() };
    let error = Redis::start(dir.path(), &options).expect_err("an unknown option");
    assert!(error.to_string().contains("no-such-option"), "{error}");
    Ok(())
}

#[test]
fn it_dies_with_its_parent() -> Result {
    const DIR: &str = "SANDBOX_TEST_PARENT";
    // This test runs itself a second time: that process starts a Redis and is killed by the first one.
    if let Some(dir) = env::var_os(DIR) {
        let dir = Path::new(&dir);
        let redis = start(dir)?;
        fs::write(dir.join("url.new"), redis.url())?;
        fs::rename(dir.join("url.new"), dir.join("url"))?;
        thread::sleep(Duration::from_secs(60));
        return Err("nobody killed the parent".into());
    }

    let dir = TempDir::new()?;
    let mut parent = Command::new(env::current_exe()?)
        .args(["--exact", "it_dies_with_its_parent"])
        .env(DIR, dir.path())
        .stdout(Stdio::null())
        .spawn()?;
    let url_file = dir.path().join("url");
    wait_until(|| url_file.exists())?;
    let socket = fs::read_to_string(url_file)?.replace("unix://", "");
    let answers = || UnixStream::connect(&socket).is_ok();
    assert!(answers());

    parent.kill()?;
    parent.wait()?;
    wait_until(|| !answers())?;
    fs::remove_dir_all(Path::new(&socket).parent().ok_or("a socket in a folder")?)?;
    Ok(())
}

fn wait_until(condition: impl Fn() -> bool) -> Result {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        if Instant::now() > deadline {
            return Err("waited for too long".into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[test]
fn its_folder_may_have_any_name() -> Result {
    let dir = TempDir::new()?;
    let deep = "a folder with a long name/".repeat(6);
    let redis = start(&dir.path().join(deep).join("it's \u{e9} \"$x\" %s ;#a"))?;
    assert_eq!(redis.query(&["SET", "key", "value"])?, ["OK"]);
    Ok(())
}
