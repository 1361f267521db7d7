//! How a process lives: it starts its tasks, runs until a signal or until one of them fails, and
//! then stops them in order.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::service::config::Config;
use crate::service::{contain, logs, telemetry};

/// Wrong use of the command line.
pub const EXIT_USAGE: u8 = 2;
/// A service that this one needs cannot be used.
pub const EXIT_DEPENDENCY: u8 = 69;
/// The configuration cannot be used.
pub const EXIT_CONFIGURATION: u8 = 78;

/// A reason to end at the start, with the exit code that says of which kind it is.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub struct ExitError {
    /// One of the `EXIT_` constants.
    pub code: u8,
    /// What is wrong and what to do.
    pub sentence: String,
}

/// A service at work. Boxed where it is written: else a program would compile all of it once more.
pub type Service = Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

/// The `main` of every service: reads the configuration, starts logging and one thread's runtime (a second
/// core is better used by Redis and MySQL; to use more, start more processes), and turns errors into exit codes.
pub fn main<F, S>(config_file: Option<&Path>, service: F) -> ExitCode
where
    F: FnOnce(Config, Lifecycle) -> S,
    S: Future<Output = anyhow::Result<()>>,
{
    abort_on_panic();
    let config = match Config::load(config_file, std::env::vars_os()) {
        Ok(config) => config,
        Err(error) => {
            logs::say(&error.to_string());
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    let result = logs::init(&config.log).and_then(|()| {
        config.notes.iter().for_each(|note| info!("{note}"));
        config.warnings().iter().for_each(|warning| warn!("{warning}"));
        raise_file_limit();
        telemetry::show_error_counters();
        live(|lifecycle| service(config, lifecycle))
    });
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            error.downcast_ref::<ExitError>().map_or(ExitCode::FAILURE, |refusal| ExitCode::from(refusal.code))
        }
    };
    logs::flush();
    code
}

/// A whole life, in a runtime of its own. Whatever threads still wait for when it is over is left to the end of the process.
fn live<S: Future<Output = anyhow::Result<()>>>(service: impl FnOnce(Lifecycle) -> S) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let lifecycle = Lifecycle::new()?;
    drop(entered);
    let result = runtime.block_on(service(lifecycle));
    // Dropping it would wait for them. One that looks up the name of a store that is gone needs ten seconds or more, and an
    // engine of containers kills after ten.
    runtime.shutdown_background();
    result
}

/// Allows as many open files as an administrator has set, instead of the 1,024 of many shells: every client is one.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!("the limit of open files could not be raised: {error}");
    }
}

/// How many clients may be connected at once: as many as `setting` says, or fewer if the operating system allows fewer open
/// files. Each client is one, and some are left to the process itself: else clients could take its way to the stores.
#[must_use]
pub fn connections_max(setting: &str, configured: usize, shards: u16) -> usize {
    let Some(files) = getrlimit(Resource::Nofile).current else { return configured.min(Semaphore::MAX_PERMITS) };
    let max = connections_within(files, shards);
    let said = format!(
        "{setting} is {configured}, but the operating system allows this process only {files} open files: at most {max} \
         clients are served at once; raise the limit (LimitNOFILE= in the unit, `ulimit -n` in a shell), or lower the setting"
    );
    // A few fewer than were asked for are nothing to act upon.
    if max < configured / 10 * 9 {
        warn!("{said}");
    } else if max < configured {
        info!("{said}");
    }
    max.min(configured)
}

/// Files that a process opens for itself: stores, admin port, log; and for each shard, its journal.
const FILES_OF_OURS: u64 = 256;
const FILES_OF_A_SHARD: u64 = 2;

/// At least half of the limit, also if that is less than what a process may need for itself.
fn connections_within(files: u64, shards: u16) -> usize {
    let left = files.saturating_sub(FILES_OF_OURS + FILES_OF_A_SHARD * u64::from(shards)).max(files / 2);
    usize::try_from(left).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

/// A task that panics ends the process, instead of leaving a service that looks alive. Not left to the build profile:
/// tests would need everything compiled twice.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        if !contain::contains(panic) {
            logs::last_words(panic);
            std::process::abort();
        }
    }));
}

/// Listens at an address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ExitError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| ExitError { code: EXIT_DEPENDENCY, sentence: format!("cannot listen at {address}: {error}") })
}

/// A signal so soon after the first says the same.
const ECHO_MAX: Duration = Duration::from_secs(1);

/// The tasks of a process and the signal that stops them.
pub struct Lifecycle {
    stop: CancellationToken,
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
    terminate: Signal,
    interrupt: Signal,
    /// Listened to so that it does not end the process: a file that may not grow any more is an error of the disk.
    _file_size: Signal,
}

impl Lifecycle {
    /// A life without tasks yet. From here on a signal is a wish that is noted, however early it comes. Needs a runtime.
    ///
    /// # Errors
    ///
    /// If the operating system refuses to tell of signals.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// Cancelled when the process is asked to stop. Tasks end by themselves soon after.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task that the process cannot do without: when it ends before the process was asked
    /// to stop, the process ends too, with an error, instead of staying up half alive.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.tasks.spawn(async move { (name, task.await) });
    }

    /// Tells systemd that the process is ready, waits for SIGTERM or SIGINT, then for the tasks, at most `limit`. A second
    /// signal ends the process at once, unless it comes so soon that it is the first one's echo: some supervisors send
    /// SIGTERM to a process and to its group, and a terminal's SIGINT is often followed by the SIGTERM of whoever else got
    /// it. A person who presses Ctrl-C twice means it, however quickly.
    pub async fn run(mut self, limit: Duration) -> anyhow::Result<()> {
        notify(sd_notify::NotifyState::Ready);
        let mut was_interrupted = false;
        let failed = tokio::select! {
            _ = self.terminate.recv() => None,
            _ = self.interrupt.recv() => {
                was_interrupted = true;
                None
            }
            ended = self.tasks.join_next() => Some(match ended {
                Some(Ok((name, Ok(())))) => anyhow::anyhow!("the task {name} ended by itself"),
                Some(Ok((name, Err(error)))) => error.context(format!("the task {name} failed")),
                Some(Err(error)) => anyhow::anyhow!(error),
                None => anyhow::anyhow!("there is nothing to run"),
            }),
        };
        notify(sd_notify::NotifyState::Stopping);
        match &failed {
            None => info!("stopping"),
            Some(error) => error!("stopping: {error:#}"),
        }
        self.stop.cancel();
        let began = Instant::now();

        let (terminate, interrupt) = (&mut self.terminate, &mut self.interrupt);
        let insisted = async {
            loop {
                let is_meant = tokio::select! {
                    _ = terminate.recv() => false,
                    _ = interrupt.recv() => was_interrupted,
                };
                if is_meant || began.elapsed() >= ECHO_MAX {
                    return;
                }
            }
        };
        let tasks = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Ok((name, Err(error))) = ended {
                    error!("{name}: {error:#}");
                }
            }
        };
        tokio::select! {
            () = tasks => {}
            () = insisted => anyhow::bail!("stopped at once by a second signal"),
            () = tokio::time::sleep(limit) => anyhow::bail!("tasks did not end within {limit:?}"),
        }
        match failed {
            Some(error) => Err(error),
            None => {
                info!("stopped");
                Ok(())
            }
        }
    }
}

/// Tells systemd's watchdog that loops go on: each time when all of them have come round since it was told last, so that
/// one that stands still is noticed behind others that do not.
#[derive(Debug, Clone, Default)]
pub struct Watchdog(Arc<Mutex<Rounds>>);

#[derive(Debug, Default)]
struct Rounds {
    /// Which loops have come round.
    came_round: Vec<bool>,
    told: Option<Instant>,
}

/// One loop's way to the watchdog.
#[derive(Debug)]
pub struct Pulse {
    watchdog: Watchdog,
    index: usize,
}

/// The watchdog need not be told more often.
const TOLD_PERIOD: Duration = Duration::from_secs(1);

impl Watchdog {
    /// From here on it waits for one more loop.
    #[must_use]
    pub fn watch(&self) -> Pulse {
        let mut rounds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rounds.came_round.push(false);
        Pulse { watchdog: self.clone(), index: rounds.came_round.len() - 1 }
    }
}

impl Pulse {
    /// The loop has come round.
    pub fn beat(&self) {
        let mut rounds = self.watchdog.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rounds.beat(self.index, Instant::now()) {
            notify(sd_notify::NotifyState::Watchdog);
        }
    }
}

impl Rounds {
    /// Answers whether the watchdog is to be told.
    fn beat(&mut self, index: usize, now: Instant) -> bool {
        self.came_round[index] = true;
        let is_early = self.told.is_some_and(|told| now - told < TOLD_PERIOD);
        if is_early || !self.came_round.iter().all(|came_round| *came_round) {
            return false;
        }
        self.came_round.fill(false);
        self.told = Some(now);
        true
    }
}

fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!("systemd could not be told about the state of this service: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_watchdog_is_told_when_all_loops_have_come_round() {
        let mut rounds = Rounds { came_round: vec![false; 2], told: None };
        let start = Instant::now();
        let at = |periods| start + TOLD_PERIOD * periods;
        assert!(!rounds.beat(0, start) && !rounds.beat(0, at(9)), "the other one stands still");
        assert!(rounds.beat(1, at(9)));
        assert!(!rounds.beat(0, at(9)) && !rounds.beat(1, at(9)), "it was told just now");
        assert!(rounds.beat(0, at(10)));
        assert!(!rounds.beat(0, at(99)), "the other one stands still");
    }

    #[test]
    fn clients_leave_files_for_the_process_itself() {
        for (files, max) in [(0, 0), (64, 32), (512, 256), (1_024, 766), (20_258, 20_000)] {
            assert_eq!(connections_within(files, 1), max, "{files}");
        }
        assert_eq!(connections_within(u64::MAX, u16::MAX), Semaphore::MAX_PERMITS);
    }

    #[test]
    fn a_thread_that_waits_for_something_keeps_no_process() {
        let (answer, waiting) = std::sync::mpsc::channel();
        live(|_| async {
            let (says, hears) = tokio::sync::oneshot::channel();
            tokio::task::spawn_blocking(move || {
                let _ = says.send(());
                waiting.recv_timeout(Duration::from_secs(10))
            });
            Ok(hears.await?)
        })
        .expect("it ends");
        answer.send(()).expect("it still waits");
    }

    /// In a child process: what is tested ends it.
    const PANICS: &str = "FOOTFALL_TEST_PANICS";

    #[test]
    fn a_task_that_panics_ends_the_process() {
        if std::env::var_os(PANICS).is_some() {
            abort_on_panic();
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let ended = runtime.block_on(async { tokio::spawn(async { panic!("on purpose") }).await });
            unreachable!("{ended:?}");
        }
        let this = std::env::current_exe().expect("the path of this test");
        let name = "service::lifecycle::tests::a_task_that_panics_ends_the_process";
        let child = Command::new(this).args([name, "--exact", "--nocapture"]).env(PANICS, "1").output();
        let child = child.expect("the test starts itself");
        assert_eq!(child.status.code(), None, "ended by a signal: {child:?}");
        assert!(String::from_utf8_lossy(&child.stderr).contains("on purpose"), "{child:?}");
    }
}
