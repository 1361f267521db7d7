//! Counts that come from elsewhere: `footfall import` and `export`, and what each command says at its end.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use footfall_drill::stack::Role;

use crate::common::{Running, eventually, post, start};
use crate::tool::{sum, tool};

const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the tool with a pipe as its input.
fn piped(running: &Running, arguments: &[&str]) -> Child {
    let mut command = running.stack.tool();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the tool starts")
}

fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    let status = std::process::Command::new("kill").args(["-INT", &pid]).status();
    assert!(status.expect("kill starts").success());
}

fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("it ends");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// Lines in no order, some of them twice: what sorts must not depend on it.
fn shuffled(lines: u64) -> String {
    let mut text = "article,user,views\n".to_owned();
    for line in 0..lines {
        let mixed = line.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (lines - lines / 10);
        writeln!(text, "/{},u{},{}", mixed % 997, mixed, 1 + line % 3).expect("memory");
    }
    text
}

#[test]
fn an_import_from_a_pipe_goes_on_where_it_was_interrupted() {
    const LINES: u64 = 60_000;
    let mut running = start(|_| {});
    let stored = "SELECT SUM(views) FROM footfall_shard_fence";
    let text = shuffled(LINES);
    let views: u64 = text.lines().skip(1).filter_map(|line| line.rsplit(',').next()?.parse::<u64>().ok()).sum();

    // While it reads, nothing is counted, however long the pipe keeps it waiting.
    let mut child = piped(&running, &["import", "-", "--yes"]);
    child.stdin.as_mut().expect("a pipe").write_all(text.as_bytes()).expect("written");
    std::thread::sleep(Duration::from_secs(1));
    interrupt(&child);
    let input = child.stdin.take();
    let (code, said) = end(child);
    drop(input);
    assert!(code == Some(130) && said.contains("interrupted while reading: nothing was counted"), "{said}");
    assert_eq!(sum(&mut running, stored), 0);

    // While it stores, it ends behind a batch, and says how far it is.
    let mut child = piped(&running, &["import", "-", "--yes"]);
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
    eventually("something is counted", PATIENCE, || sum(&mut running, stored) > 0);
    interrupt(&child);
    let (code, said) = end(child);
    let some = sum(&mut running, stored);
    assert!(some < views, "it was too fast to be interrupted: {said}");
    assert!(code == Some(130) && said.contains("import the same once more"), "{said}");

    // Killed, which leaves it no time to say anything.
    let mut child = piped(&running, &["import", "-", "--yes"]);
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
    eventually("more is counted", PATIENCE, || sum(&mut running, stored) > some);
    child.kill().expect("killed");
    end(child);

    // The same lines in another order, as a file, while MySQL refuses one user.
    running.sql("ALTER TABLE footfall_article_readers ADD CONSTRAINT nope CHECK (user <> 'poison')");
    let mut lines: Vec<&str> = text.lines().skip(1).collect();
    lines.sort_unstable();
    let file = running.path("sorted.csv");
    fs::write(&file, format!("article,user,views\n{}\n", lines.join("\n"))).expect("written");
    let file = file.display().to_string();
    let (code, said) = tool(&running, &["import", &file, "--yes"]);
    assert!(code == 0 && said.contains("are counted now, and so are all"), "{said}");
    assert_eq!(sum(&mut running, stored), views);
    let (code, said) = tool(&running, &["import", &file, "--yes"]);
    assert!(code == 0 && said.trim_end().ends_with("nothing was counted now"), "{said}");
    assert_eq!(sum(&mut running, stored), views);

    fs::write(&file, "article,user,views\n/1,poison,5\n/1,fine,2\n").expect("written");
    let (code, said) = tool(&running, &["import", &file, "--yes"]);
    assert!(code == 1 && said.contains("2 views are counted, 5 views NOT"), "{said}");
    assert_eq!(sum(&mut running, stored), views + 2);
    assert_eq!(sum(&mut running, "SELECT SUM(views) FROM footfall_quarantine"), 5);

    // Without stores it says so, and what the file would have come to stays as it was.
    running.stack.mariadb.kill().expect("killed");
    let (code, said) = tool(&running, &["import", &file, "--yes"]);
    assert!(code == 69 && said.contains("check that MySQL runs"), "{said}");
}

#[test]
fn what_other_counters_wrote_is_counted_in_its_hours() {
    let mut running = start(|_| {});
    let path = |running: &Running, name: &str| running.path(name).display().to_string();
    let hour_of = |ago: u64| footfall_shared::service::clock::unix_ms() / 3_600_000 - ago;
    let time = |hour: u64| footfall_shared::service::clock::rfc3339(hour * 3_600_000 + 61_000);
    let (recent, old) = (hour_of(3), hour_of(3_000));
    let goatcounter = format!(
        "2Path,Title,Event,UserAgent,Browser,System,Session,Bot,Referrer,Referrer scheme,Screen size,Location,FirstVisit,Date\n\
         /a,A,false,,,,s1,0,,,,,true,{0}\n/a,A,false,,,,s1,0,,,,,false,{1}\n/a,A,false,,,,s2,0,,,,,true,{0}\n\
         /a,A,false,,,,s3,7,,,,,true,{0}\nclick,A,true,,,,s3,0,,,,,true,{0}\n",
        time(recent),
        time(old)
    );
    let plain = path(&running, "goatcounter.csv");
    fs::write(&plain, &goatcounter).expect("written");
    assert!(std::process::Command::new("gzip").arg(&plain).status().expect("gzip starts").success());
    let (code, said) = tool(&running, &["import", &format!("{plain}.gz"), "--yes"]);
    assert!(
        code == 0 && said.contains("3 lines with 3 views") && said.contains("left out: 1 view by bots, 1 event"),
        "{said}"
    );
    let hours = |running: &mut Running, hour: u64| {
        sum(running, &format!("SELECT SUM(views) FROM footfall_article_hours WHERE article = '/a' AND hour = {hour}"))
    };
    assert_eq!((hours(&mut running, recent), hours(&mut running, old)), (2, 1));
    assert_eq!(sum(&mut running, "SELECT readers FROM article_counts WHERE article = '/a'"), 2);
    let minute = recent * 60 + 1;
    let minutes = format!("SELECT SUM(views) FROM footfall_site_minutes WHERE minute = {minute}");
    assert_eq!(sum(&mut running, &minutes), 2);
    assert_eq!(sum(&mut running, "SELECT SUM(views) FROM footfall_site_minutes"), 2, "the old one is shown nowhere");

    // Matomo's, as UTF-16 with tabs.
    let matomo = "label\tnb_visits\tnb_hits\n/b\t1\t4\n";
    let bytes: Vec<u8> = [0xfeff].into_iter().chain(matomo.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    fs::write(&plain, bytes).expect("written");
    let (code, said) = tool(&running, &["import", &plain, "--yes"]);
    assert!(code == 2 && said.contains("line 2: it has no user: give --user"), "{said}");
    let (code, said) = tool(&running, &["import", &plain, "--user", "matomo", "--yes"]);
    assert!(code == 0 && said.contains("in no hour and no minute"), "{said}");
    assert_eq!(sum(&mut running, "SELECT SUM(views) FROM footfall_article_hours"), 3);

    // Ids that a spreadsheet would carry out, there and back.
    fs::write(&plain, "article,user,views\n=cmd|x,'u,1\n\" -1\",\"a\"\"b;=c\",2\n").expect("written");
    assert_eq!(tool(&running, &["import", &plain, "--yes"]).0, 0);
    let (raw, guarded) = (path(&running, "raw.csv"), path(&running, "guarded.csv"));
    assert_eq!(tool(&running, &["export", "--output", &raw]).0, 0);
    assert_eq!(tool(&running, &["export", "--output", &guarded, "--spreadsheet"]).0, 0);
    let mode = fs::metadata(&raw).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "it says who has read what");
    let text = fs::read_to_string(&guarded).expect("it is there");
    assert!(!text.contains("\"=") && text.contains("\"'=cmd|x\",\"''u\"") && text.contains("\"' -1\""), "{text}");
    // What is there is not written over, and whatever happens, nothing else is left.
    let (code, said) = tool(&running, &["export", "--output", &raw]);
    assert!(code == 2 && said.contains("exists") && said.contains("--force"), "{said}");
    assert_eq!(tool(&running, &["export", "--output", "/dev/null", "--force"]).0, 2);
    let before = fs::read(&raw).expect("it is there");
    for role in [Role::Ingest, Role::Flusher] {
        running.stack.service(role, 0).terminate(PATIENCE).expect("terminate");
    }
    assert_eq!(tool(&running, &["clean", "--yes"]).0, 0);
    assert_eq!(tool(&running, &["import", &guarded, "--yes"]).0, 0);
    assert_eq!(tool(&running, &["export", "--output", &raw, "--force"]).0, 0);
    assert_eq!(fs::read(&raw).expect("it is there"), before);
    let names = fs::read_dir(running.path(".")).expect("a folder").flatten();
    let names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(!names.iter().any(|name| name.starts_with(".footfall-export")), "{names:?}");
}

/// Checks the exit code, and the last line: on the standard output if the command did its work, else on the standard error.
#[track_caller]
fn ends(running: &Running, arguments: &[&str], expected: i32, words: &str) {
    let output = running.stack.tool().args(arguments).stdin(Stdio::null()).output().expect("the tool starts");
    let code = output.status.code().unwrap_or(-1);
    let said = String::from_utf8_lossy(if code < 2 { &output.stdout } else { &output.stderr }).into_owned();
    let last = said.trim_end().lines().last().unwrap_or_default();
    assert!(code == expected && last.contains(words), "{arguments:?}: {code}, {words}\n{said}");
}

/// The last line and the exit code say what happened, also where nothing did.
#[test]
fn every_command_says_what_it_did() {
    let mut running = start(|options| options.dashboards = 1);
    let ledger = |running: &Running, name: &str| running.path(name).display().to_string();
    let body = r#"{"article":"yumo","user":"somebody"}"#;
    assert_eq!(post(&format!("{}/v1/views", running.ingest()), body).status, 204);
    eventually("it is in MySQL", PATIENCE, || sum(&mut running, "SELECT views FROM article_counts") == 1);
    ends(&running, &["erase", "--user", "sombody", "--yes"], 1, "NOT FOUND: there is no user sombody");
    ends(&running, &["erase", "--user", "somebody", "--yes"], 0, "the user somebody is erased");

    let (url, file) = (running.ingest(), ledger(&running, "l.tsv"));
    let load = |running: &Running, views: &str, batch: &str, code: i32, words: &str| {
        let shape =
            ["--articles", "5", "--users", "5", "--connections", "1", "--force", "--url", &url, "--ledger", &file];
        ends(running, &[&["load", "--views", views, "--batch", batch][..], &shape].concat(), code, words);
    };
    load(&running, "20000", "20000", 1, "20,000 views REFUSED, and not counted: the answer was 413");
    load(&running, "0", "1", 0, "0 views were sent");
    ends(&running, &["verify", "--ledger", &file], 2, "nothing to compare");
    load(&running, "100", "1", 0, "100 views were sent; all were acknowledged");
    ends(&running, &["verify", "--ledger", &file], 0, "0 missing, 0 extra");
    ends(&running, &["verify", "--ledger", &file, "--ledger", &file], 2, "was given twice");
    let copy = ledger(&running, "copy.tsv");
    fs::copy(&file, &copy).expect("copied");
    ends(&running, &["verify", "--ledger", &file, "--ledger", &copy], 2, "are ledgers of one run");

    // A look takes longer than no time at all: it is finished.
    ends(&running, &["verify", "--live", "--seconds", "0"], 0, "1 look, 0 not possible");
    ends(&running, &["quarantine", "replay", "--all", "--yes"], 0, "nothing is in quarantine");
    ends(&running, &["quarantine", "drop", "--all", "--yes"], 0, "nothing is in quarantine");
    ends(&running, &["quarantine", "list", "--after", "9"], 0, "no row is in quarantine behind 9");
    ends(&running, &["accept-restore", "--yes"], 0, "nothing was changed");
    ends(&running, &["import", "-"], 2, "give --yes");
    ends(&running, &["import", "/dev/null", "--yes"], 2, "it is empty");
    ends(&running, &["clean", "--yes"], 2, "nothing was deleted");

    let (code, said) = tool(&running, &["watch", "--once"]);
    assert!(code == 0 && said.starts_with("Footfall, live from"), "{said}");
    running.stack.redis.kill().expect("killed");
    eventually("the dashboard says that it is stale", PATIENCE, || {
        let (code, said) = tool(&running, &["watch", "--once"]);
        code == 1 && said.starts_with("Footfall, NOT LIVE") && said.contains("\nSTALE since")
    });
    ends(&running, &["verify", "--live", "--seconds", "1"], 69, "could not look even once");
}
