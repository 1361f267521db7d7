//! The log. It never ends a process and never holds one up: a thread of its own writes the lines, from a queue with a bound.
//! If they cannot be written (a disk is full, the reader of a pipe is gone) or nobody takes them (the reader stands still),
//! they are left out, and a metric counts them. What one place in the program says over and over is said once in a while.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, callsite, warn};
use tracing_subscriber::fmt as lines;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::service::config::{Log, LogFormat};
use crate::service::telemetry::{self, IntCounterVec};

static LEFT_OUT: LazyLock<IntCounterVec> = LazyLock::new(|| {
    telemetry::counters(
        "footfall_log_lines_left_out_total",
        "Log lines that were not written: repeated (the log says how often), not_taken (nobody reads), failed (a full disk).",
        "reason",
    )
});

/// Lines that wait to be written.
const LINES_MAX: usize = 1_000;
/// How long a process that ends waits for its last lines to be taken.
const FAREWELL: Duration = Duration::from_secs(1);

/// A message to the thread that writes the log.
enum Told {
    Line(Vec<u8>),
    /// Everything before this is to be written, and then said so.
    Flush(SyncSender<()>),
}

static WRITER: OnceLock<SyncSender<Told>> = OnceLock::new();

/// Sends log lines to stderr.
///
/// # Errors
///
/// If the level cannot be understood, there is a log already, or the system has no thread for it.
pub fn init(log: &Log) -> anyhow::Result<()> {
    let filter = log.level.filter();
    let (sender, told) = sync_channel(LINES_MAX);
    std::thread::Builder::new().name("log".into()).spawn(move || write_all(&told))?;
    WRITER.set(sender).map_err(|_| anyhow::anyhow!("there is a log already"))?;
    for reason in ["repeated", "not_taken", "failed"] {
        LEFT_OUT.with_label_values(&[reason]);
    }
    let colour = io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    // Without the last: what cannot be written would be told to stderr, by a macro that panics.
    let layer = lines::layer().with_ansi(colour).with_writer(|| Queued).log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(filter).with(Rated);
    match log.format {
        LogFormat::Human => registry.with(layer).init(),
        LogFormat::Json => registry.with(layer.json()).init(),
    }
    Ok(())
}

/// One line, on stderr and not in the log: for a process that has no log yet. If it cannot be written, nobody is told.
pub fn say(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Waits until what was logged is written, for a moment.
pub fn flush() {
    let (sender, written) = sync_channel(1);
    if WRITER.get().is_some_and(|writer| writer.try_send(Told::Flush(sender)).is_ok()) {
        let _ = written.recv_timeout(FAREWELL);
    }
}

/// What is said of a panic, before it ends the process. Not left to the standard library: it writes by itself, and would
/// wait for ever for whoever does not read the log.
pub fn last_words(panic: &PanicHookInfo<'_>) {
    let mut text = format!("{panic}");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        let _ = write!(text, "\n{backtrace}");
    }
    match WRITER.get() {
        None => say(&text),
        Some(writer) => {
            let _ = writer.try_send(Told::Line(format!("{text}\n").into_bytes()));
            flush();
        }
    }
}

/// Writes the lines that it is sent, until the process ends; between lines it says what was left out.
fn write_all(told: &Receiver<Told>) {
    let mut looked_at = Instant::now();
    loop {
        match told.recv_timeout(WINDOW) {
            Ok(Told::Line(line)) => {
                if io::stderr().write_all(&line).is_err() {
                    LEFT_OUT.with_label_values(&["failed"]).inc();
                }
            }
            Ok(Told::Flush(written)) => drop(written.try_send(())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if looked_at.elapsed() >= WINDOW {
            looked_at = Instant::now();
            let summaries = rate().end_windows(looked_at);
            summaries.iter().for_each(|summary| warn!("{summary}"));
        }
    }
}

/// Puts each line into the queue.
struct Queued;

impl Write for Queued {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if WRITER.get().is_some_and(|writer| writer.try_send(Told::Line(line.to_vec())).is_err()) {
            LEFT_OUT.with_label_values(&["not_taken"]).inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lets a line pass, or counts it as repeated. Debug and trace pass: whoever asks for them wants all.
struct Rated;

impl<S: Subscriber> Layer<S> for Rated {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // What is said here is rated already.
        if *metadata.level() > Level::INFO || metadata.target() == module_path!() {
            return true;
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        let passes = rate().passes(metadata.callsite(), text.0, Instant::now());
        if !passes {
            LEFT_OUT.with_label_values(&["repeated"]).inc();
        }
        passes
    }
}

/// What an event says, without the time.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let separator = if self.0.is_empty() { "" } else { " " };
        let _ = match field.name() {
            "message" => write!(self.0, "{separator}{value:?}"),
            name => write!(self.0, "{separator}{name}={value:?}"),
        };
    }
}

/// For so long a line is said once,
const WINDOW: Duration = Duration::from_secs(10);
/// and one place in the program says so many different ones.
const DIFFERENT_MAX: usize = 50;
/// So much of a line is kept, to tell it from others.
const TEXT_BYTES_MAX: usize = 500;

static RATE: LazyLock<Mutex<Rate>> = LazyLock::new(Mutex::default);

fn rate() -> MutexGuard<'static, Rate> {
    RATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What each place in the program has said lately. There are as many as the program has lines that log.
#[derive(Default)]
struct Rate(HashMap<callsite::Identifier, Place>);

struct Place {
    since: Instant,
    /// What was said, and how often it was not said again.
    said: Vec<(String, u64)>,
    /// Lines beyond [`DIFFERENT_MAX`].
    more: u64,
}

impl Rate {
    /// Whether this place may say this now.
    fn passes(&mut self, place: callsite::Identifier, mut text: String, now: Instant) -> bool {
        let mut end = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        let place = self.0.entry(place).or_insert_with(|| Place { since: now, said: vec![], more: 0 });
        if let Some((_, repeated)) = place.said.iter_mut().find(|(said, _)| *said == text) {
            *repeated += 1;
        } else if place.said.len() == DIFFERENT_MAX {
            place.more += 1;
        } else {
            place.said.push((text, 0));
            return true;
        }
        false
    }

    /// Forgets what was said longer ago than [`WINDOW`]; answers what is to be said of what was left out.
    fn end_windows(&mut self, now: Instant) -> Vec<String> {
        let mut summaries = vec![];
        self.0.retain(|_, place| {
            let seconds = now.saturating_duration_since(place.since).as_secs();
            if seconds < WINDOW.as_secs() {
                return true;
            }
            for (said, repeated) in place.said.iter().filter(|(_, repeated)| *repeated > 0) {
                let times = if *repeated == 1 { "once more" } else { &format!("{repeated} times more") };
                summaries.push(format!("{times} in {seconds} s: {said}"));
            }
            if let (1.., Some((said, _))) = (place.more, place.said.first()) {
                summaries.push(format!("{} more lines in {seconds} s of the kind of: {said}", place.more));
            }
            false
        });
        summaries
    }
}

#[cfg(test)]
mod tests {
    use tracing::Callsite;
    use tracing::Metadata;
    use tracing::subscriber::Interest;

    use super::*;

    struct Here;

    impl Callsite for Here {
        fn set_interest(&self, _: Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            unreachable!("nobody asks")
        }
    }

    static HERE: Here = Here;

    #[test]
    fn what_is_repeated_is_said_once_and_then_summed_up() {
        let mut rate = Rate::default();
        let start = Instant::now();
        let place = callsite::Identifier(&HERE);
        let passed = (0..200).filter(|_| rate.passes(place.clone(), "out of files".into(), start)).count();
        assert_eq!(passed, 1);
        assert!(rate.passes(place.clone(), "another".into(), start));
        assert!(rate.end_windows(start + WINDOW / 2).is_empty(), "it may come again");
        assert_eq!(rate.end_windows(start + WINDOW), ["199 times more in 10 s: out of files"]);
        assert!(rate.passes(place, "out of files".into(), start + WINDOW));
        assert!(rate.end_windows(start + 2 * WINDOW).is_empty(), "it was said once");
    }

    #[test]
    fn what_one_place_says_has_a_bound() {
        let mut rate = Rate::default();
        let start = Instant::now();
        let place = callsite::Identifier(&HERE);
        let long = "ä".repeat(TEXT_BYTES_MAX);
        let passed = (0..10_000).filter(|number| rate.passes(place.clone(), format!("{number} {long}"), start)).count();
        assert_eq!(passed, DIFFERENT_MAX);
        assert!(rate.0.values().flat_map(|place| &place.said).all(|(said, _)| said.len() <= TEXT_BYTES_MAX));
        let summaries = rate.end_windows(start + WINDOW);
        assert!(summaries.len() == 1 && summaries[0].starts_with("9950 more lines in 10 s of the kind of: 0 ä"));
    }
}
