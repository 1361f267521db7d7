//! A child process that can be hurt on purpose and that never outlives us.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions};

pub use rustix::process::Signal;

use crate::files;

/// How long to sleep between two looks at something that is being waited for.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// A child process with a log file. Dropping it kills it.
///
/// It ends with this process, also when this process is killed with `kill -9`: the kernel kills it then. It runs in a
/// process group of its own, so that Ctrl-C in a terminal reaches only us and the order of stopping stays ours.
#[derive(Debug)]
pub struct Process {
    name: String,
    command: Command,
    log: PathBuf,
    child: Child,
    paused: bool,
}

impl Process {
    /// Starts `command` with both its output streams appended to the file `log`, and with an empty input.
    ///
    /// Program, arguments, environment and working folder are taken from `command`; its streams, its `env_clear` and
    /// its process group are not.
    pub fn spawn(command: Command, log: &Path) -> io::Result<Self> {
        let name = Path::new(command.get_program())
            .file_name()
            .unwrap_or_else(|| OsStr::new("process"))
            .to_string_lossy()
            .into_owned();
        let child = start(&command, log)?;
        Ok(Self { name, command, log: log.to_owned(), child, paused: false })
    }

    /// Starts the same command again, on the same log. It must have ended before.
    pub fn restart(&mut self) -> io::Result<()> {
        if self.is_running() {
            return Err(self.failure("is still running"));
        }
        self.child = start(&self.command, &self.log)?;
        self.paused = false;
        Ok(())
    }

    /// The process id; that of the last run when it has ended.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that holds the output of all runs.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it has not ended yet. A paused process is running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether [`pause`](Self::pause) is in effect.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Sends a signal. An error when the process has ended.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        // Asked first, because once the child is reaped its number may belong to a stranger.
        if !self.is_running() {
            return Err(self.failure("has ended"));
        }
        Ok(rustix::process::kill_process(self.raw_pid(), signal)?)
    }

    /// Stops it in its tracks (SIGSTOP). When this returns, it stands still; its sockets stay open.
    pub fn pause(&mut self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        // Waits for the stop, because the signal alone returns before the other threads stand still. NOWAIT leaves
        // the state to be collected by std's `Child`.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
        rustix::process::waitid(WaitId::Pid(self.raw_pid()), options)?;
        self.paused = true;
        Ok(())
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&mut self) -> io::Result<()> {
        self.signal(Signal::CONT)?;
        self.paused = false;
        Ok(())
    }

    /// Ends it at once (SIGKILL), together with children of its own. Harmless when it has already ended.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        if self.is_running() {
            rustix::process::kill_process_group(self.raw_pid(), Signal::KILL)?;
            self.paused = false;
        }
        self.child.wait()
    }

    /// Asks it to end (SIGTERM) and waits, as [`wait`](Self::wait) does. A paused process is resumed, because it could
    /// not react otherwise.
    pub fn terminate(&mut self, timeout: Duration) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        if self.paused {
            self.resume()?;
        }
        self.wait(timeout)
    }

    /// Ends it as [`terminate`](Self::terminate) does and expects success. When it does not end within `timeout`, it is
    /// killed, and that is an error. Harmless when it has already ended.
    pub fn stop(&mut self, timeout: Duration) -> io::Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        match self.terminate(timeout) {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.failure(&format!("did not end cleanly ({status})"))),
            Err(error) => {
                self.kill()?;
                Err(error)
            }
        }
    }

    /// Waits until it has ended. When it has not within `timeout`, the error is of kind
    /// [`TimedOut`](io::ErrorKind::TimedOut) and the process runs on.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                let error = self.failure(&format!("has not ended within {timeout:?}"));
                return Err(io::Error::new(io::ErrorKind::TimedOut, error));
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until `ready` answers without an error. Fails when the process ends before or when `timeout` is over.
    pub fn wait_until(&mut self, timeout: Duration, mut ready: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let Err(error) = ready() else { return Ok(()) };
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failure(&format!("ended while it was starting ({status})")));
            }
            if Instant::now() >= deadline {
                let what = format!("is not ready after {timeout:?} ({error})");
                return Err(io::Error::new(io::ErrorKind::TimedOut, self.failure(&what)));
            }
            thread::sleep(POLL);
        }
    }

    /// An error that says what happened and shows the end of the log.
    pub fn failure(&self, what: &str) -> io::Error {
        let (name, log) = (&self.name, self.log.display());
        let tail = files::tail(&self.log);
        io::Error::other(format!("{name} {what}; the end of {log}:\n{tail}"))
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing could be done about an error here, and the kernel kills the child at our end at the latest.
        let _ = self.kill();
    }
}

/// Starts `command` below `setpriv`, which asks the kernel to kill it when its parent ends and then becomes it
/// (the process id stays the same). A parent that dies in the millisecond before that request is not noticed.
fn start(command: &Command, log: &Path) -> io::Result<Child> {
    let log = fs::File::options().create(true).append(true).open(log)?;
    let mut guarded = Command::new(files::require_program("setpriv")?);
    guarded
        .args(["--pdeathsig", "KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => guarded.env(name, value),
            None => guarded.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        guarded.current_dir(folder);
    }
    spawn_from_lasting_thread(guarded)
}

/// Spawns from one thread that lives as long as this process.
///
/// To the kernel, a child's parent is the *thread* that forked it: spawned from a thread of a test or of a pool, the
/// child would be killed as soon as that thread ends.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    type Job = (Command, Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();

    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        thread::spawn(move || {
            for (mut command, reply) in jobs {
                // The receiver is still there: it waits below.
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, answer) = channel();
    spawner.send((command, reply)).map_err(|_| io::Error::other("the spawning thread is gone"))?;
    answer.recv().map_err(|_| io::Error::other("the spawning thread is gone"))?
}
