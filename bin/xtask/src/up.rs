//! `cargo xtask up`: everything on private stores, until Ctrl-C.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use footfall_drill::packages::STORES;
use footfall_drill::stack::{Addresses, Role, Stack, StackOptions};
use footfall_sandbox::{Process, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::logs::Printer;
use crate::package::PROGRAMS;
use crate::packages;
use crate::ports::{self, Turn, Wanted};

const POLL: Duration = Duration::from_millis(50);
const DEMO_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Options of `cargo xtask up`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Begin anew: delete the data of earlier runs.
    #[arg(long)]
    fresh: bool,
    /// Send lively traffic.
    #[arg(long)]
    demo: bool,
    /// Where ingest listens, port 0 being any free one [default: 127.0.0.1:8000, or any free port if that is taken]
    #[arg(long, value_name = "ADDR")]
    ingest: Option<SocketAddr>,
    /// Where the dashboard listens [default: 127.0.0.1:8001, or any free port if that is taken]
    #[arg(long, value_name = "ADDR")]
    dashboard: Option<SocketAddr>,
    /// Run the programs in this folder instead of building them.
    #[arg(long, value_name = "DIR", hide = true)]
    binaries: Option<PathBuf>,
}

/// Runs everything until a signal comes (exit code 0) or a part of it ends by itself (1).
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let dir = crate::target_dir().join("footfall");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let _lock = lock(&dir)?;
    addresses(args)?; // What cannot be had is said before the build.
    packages::ensure(STORES)?;
    let binaries = match &args.binaries {
        Some(binaries) => binaries.clone(),
        None => crate::build(crate::QUICK, &PROGRAMS)?,
    };

    let tool = binaries.join("footfall");

    // From here on a first signal ends us in order and a second one at once; before, there is nothing to put in order.
    let interrupted = catch_signals()?;
    let leftovers: &[&str] =
        if args.fresh { &["logs", "redis", "mariadb", "journal", "demo-ledger.tsv"] } else { &["logs"] };
    for name in leftovers {
        remove(&dir.join(name))?;
    }
    let turn = Turn::take()?;
    let (addresses, elsewhere) = addresses(args)?;
    for sentence in elsewhere {
        println!("{sentence}");
    }
    println!("Starting Redis, MariaDB and the services ...");
    let mut stack = Stack::start(StackOptions {
        addresses,
        env: settings_to_pass_on(env::vars_os()),
        ..StackOptions::new(&dir, binaries)
    })?;
    drop(turn);
    let env_file = dir.join("env");
    fs::write(&env_file, exports(&[stack.env(), admin_addresses(&mut stack)].concat()))?;
    println!("{}", greeting(&stack, &env_file, &tool));
    let mut demo = args.demo.then(|| start_demo(&stack, &dir)).transpose()?;

    let mut logs = Vec::new();
    for service in stack.services() {
        logs.push((service.name().to_owned(), service.process().log().to_owned()));
    }
    if let Some(demo) = &demo {
        logs.push(("load".to_owned(), demo.log().to_owned()));
    }
    let printer = Printer::start(logs)?;

    let mut ended = None;
    while !interrupted.load(Ordering::Relaxed) && ended.is_none() {
        thread::sleep(POLL);
        ended = stack.ended();
    }

    // The env file goes first: it promises something that runs.
    remove(&env_file)?;
    match &ended {
        Some(what) => say(&format!("{what}; stopping the others ...")),
        None => say("Stopping ..."),
    }
    if let Some(demo) = &mut demo {
        // Not worth leaving the services to be killed.
        if let Err(error) = stop_demo(demo) {
            say(&error.to_string());
        }
    }
    let stopped = stack.stop();
    printer.finish();
    stopped?;
    Ok(match ended {
        Some(_) => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    })
}

/// Holds the data folder for this process; the lock goes with it, however it ends.
fn lock(dir: &Path) -> anyhow::Result<File> {
    let file = File::create(dir.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another `cargo xtask up` is running on {}", dir.display())
        }
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock the data folder"),
    }
}

/// Where to listen now, and what there is to say about it.
fn addresses(args: &Args) -> anyhow::Result<(Addresses, Vec<String>)> {
    let mut elsewhere = Vec::new();
    let mut choose = |what, option, port| {
        let wanted = Wanted { what, option, usual: SocketAddr::from(([127, 0, 0, 1], port)) };
        let (address, said) = ports::choose(&wanted)?;
        elsewhere.extend(said);
        anyhow::Ok(address)
    };
    let addresses = Addresses {
        ingest: choose("ingest", args.ingest.map(|asked| ("--ingest", asked)), 8000)?,
        dashboard: choose("the dashboard", args.dashboard.map(|asked| ("--dashboard", asked)), 8001)?,
        ingest_admin: choose("ingest's metrics", None, 8010)?,
        flusher_admin: choose("the flusher's metrics", None, 8011)?,
        dashboard_admin: choose("the dashboard's metrics", None, 8012)?,
    };
    Ok((addresses, elsewhere))
}

/// Where the services' metrics are, as settings: `footfall clean` looks there for services that run.
fn admin_addresses(stack: &mut Stack) -> Vec<(String, String)> {
    let services = stack.services().iter();
    services
        .map(|service| (format!("FOOTFALL_{}__ADMIN", service.name().to_uppercase()), service.admin().to_string()))
        .collect()
}

/// The flag that the first signal sets.
fn catch_signals() -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the first looks at the flag before the second sets it.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupted))?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    Ok(interrupted)
}

/// Like `println!`, but bears that the terminal is gone: after SIGHUP it is, and the stopping must go on.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "\n{text}");
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The settings of whoever runs us that the services should see. Not those that decide which stores they use and where
/// they listen: these are ours.
fn settings_to_pass_on(env: impl Iterator<Item = (OsString, OsString)>) -> Vec<(String, String)> {
    // What is not UTF-8 cannot be a setting of ours.
    env.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| {
            name.strip_prefix("FOOTFALL_").is_some_and(|setting| {
                !["REDIS__URL", "DATABASE__URL", "INGEST__URL", "DASHBOARD__URL"]
                    .iter()
                    .any(|ours| setting.starts_with(ours))
                    && !setting.ends_with("__LISTEN")
                    && !setting.ends_with("__ADMIN")
            })
        })
        .collect()
}

/// Lines for a shell.
fn exports(env: &[(String, String)]) -> String {
    env.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value))).collect()
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A path for a shell, as short as it can be for somebody at the top of the repository.
fn shown(path: &Path) -> String {
    let path = path.strip_prefix(crate::root()).unwrap_or(path).display().to_string();
    let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte));
    if is_plain { path } else { quoted(&path) }
}

fn greeting(stack: &Stack, env_file: &Path, tool: &Path) -> String {
    let (ingest, dashboard) = (stack.url(Role::Ingest, 0), stack.url(Role::Dashboard, 0));
    let (env_file, tool) = (shown(env_file), shown(tool));
    format!(
        "
Footfall is counting. Ctrl-C stops it.

    dashboard   {dashboard}/
    a page      {ingest}/demopage/yumo?usrid=123456
    try         curl '{ingest}/demopage/yumo?usrid=123456'
    the tool    . {env_file} && {tool} watch
"
    )
}

/// Starts traffic that lasts for days, that is, until we stop it.
fn start_demo(stack: &Stack, dir: &Path) -> anyhow::Result<Process> {
    let mut load: Command = stack.tool();
    load.args(["load", "--views", "100000000", "--rate", "200"])
        .args(["--articles", "200", "--users", "5000", "--connections", "8"])
        .arg("--ledger")
        .arg(dir.join("demo-ledger.tsv"));
    Process::spawn(load, &dir.join("logs/load.log")).context("the demo's traffic did not start")
}

/// Ends it as Ctrl-C does, so that it closes its ledger.
fn stop_demo(demo: &mut Process) -> io::Result<()> {
    if demo.is_running() {
        demo.signal(Signal::INT)?;
        if demo.wait(DEMO_STOP_TIMEOUT).is_err() {
            demo.kill()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_shell_reads_the_exports_as_they_were_meant() -> io::Result<()> {
        let env = [pair("A", "it's $HOME; `x` \"y\""), pair("B", "mysql://r@h/n?a=1&b=2")];
        let script = format!("{}printf '%s|' \"$A\" \"$B\"", exports(&env));
        let output = Command::new("sh").args(["-c", &script]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text, format!("{}|{}|", env[0].1, env[1].1));
        Ok(())
    }

    #[test]
    fn a_shell_finds_what_is_shown() -> io::Result<()> {
        assert_eq!(shown(&crate::root().join("target/footfall/env")), "target/footfall/env");
        for path in ["/a b/c", "/it's/$HOME", "/\u{e9};#"] {
            let output = Command::new("sh").args(["-c", &format!("printf %s {}", shown(Path::new(path)))]).output()?;
            assert_eq!(String::from_utf8_lossy(&output.stdout), path);
        }
        Ok(())
    }

    #[test]
    fn nobody_elses_stores_are_passed_on() {
        let passed = [pair("FOOTFALL_FLUSHER__TIMEOUT_MS", "5000"), pair("FOOTFALL_REDIS__POOL", "2")];
        let kept_back = [
            pair("FOOTFALL_REDIS__URL", "redis://production"),
            pair("FOOTFALL_DATABASE__URL", "mysql://production"),
            pair("FOOTFALL_DATABASE__URL_FILE", "/run/secrets/production"),
            pair("FOOTFALL_INGEST__LISTEN", "0.0.0.0:80"),
            pair("FOOTFALL_INGEST__ADMIN", "0.0.0.0:81"),
            pair("FOOTFALL_INGEST__URL", "http://production"),
            pair("PATH", "/bin"),
        ];
        let env = passed.iter().chain(&kept_back).map(|(name, value)| (name.into(), value.into()));
        assert_eq!(settings_to_pass_on(env), passed);
    }
}
