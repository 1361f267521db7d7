//! `footfall load`: sends views and keeps a ledger of what became of each.

pub(crate) mod client;
mod plan;
mod recorder;
mod sender;

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use footfall_shared::service::config::Config;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::terminal::{count, note, print, seconds};
use crate::url::HttpUrl;
use crate::{DIFFERENCE_FOUND, Result};
use plan::Plan;
use recorder::Recorder;
use sender::Run;

/// Records that may wait for the ledger; when it is full, the connections wait too.
const RECORDS_MAX: usize = 8 * 1024;

/// Sends views to ingest, and writes down for `footfall verify` what became of each
///
/// Articles follow Zipf's law (exponent 1), users are drawn evenly, both from the seed. With --rate the load is open:
/// view k is sent when it is due, whatever became of those before it, and its latency counts from then, so that a
/// server which stalls cannot hide the queue (due times are kept to 1 ms). Without --rate each connection sends its
/// next view as soon as it has its answer, and latency counts from there.
///
/// A view ends in the ledger as acknowledged (2xx: it must be counted), refused (4xx: it must not) or unknown (it was
/// sent, but 5xx came, or no answer: it may be counted, once). One that could not be sent is tried again and not in
/// the ledger before it was. The exit code is 0 with unknown views too, 1 if views were refused, and 69 if none was
/// acknowledged.
///
/// SIGINT and SIGTERM end the run early, with the same exit codes: open requests get their answers first, so that the
/// ledger stays exact.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  footfall load --views 1000000 --articles 10000 --users 100000 --connections 64 --ledger run.tsv\n  \
                        footfall verify --ledger run.tsv"
)]
pub(crate) struct Args {
    /// How many views to send
    #[arg(long, value_name = "N")]
    views: u64,
    /// How many articles they are spread over
    #[arg(long, value_name = "N")]
    articles: NonZeroU64,
    /// How many users they come from
    #[arg(long, value_name = "N")]
    users: NonZeroU64,
    /// How many keep-alive connections to use
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=50_000))]
    connections: u32,
    /// Views per second; without it, as fast as the connections allow
    #[arg(long, value_name = "PER_SECOND", value_parser = positive)]
    rate: Option<f64>,
    /// Makes the same views again; without it, a random one, so that runs do not share articles
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Where ingest is; repeat it or separate with commas to spread the connections [default: ingest.url]
    #[arg(long = "url", value_name = "URL", value_delimiter = ',')]
    urls: Vec<String>,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    ledger: PathBuf,
    /// Write over a ledger that exists
    #[arg(long)]
    force: bool,
    /// Views in one request; more than 1 are sent as NDJSON
    #[arg(long, value_name = "N", default_value = "1")]
    batch: NonZeroU64,
    /// Give up after this time without any success
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = seconds())]
    patience: u64,
}

fn positive(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 1e-6 => Ok(rate),
        _ => Err("it must be a number above 0".into()),
    }
}

pub(crate) async fn run(config: &Config, args: &Args) -> Result {
    let urls = if args.urls.is_empty() { vec![config.ingest.url.to_string()] } else { args.urls.clone() };
    let targets = urls.iter().map(|url| HttpUrl::parse(url)).collect::<Result<Vec<_>>>()?;
    // 32 bits keep the articles' names short, and are plenty to keep runs apart.
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let batch = args.batch.get();
    let plan = Arc::new(Plan::new(seed, args.views, batch, args.rate, args.articles.get(), args.users.get()));

    let (records, received) = mpsc::channel(RECORDS_MAX);
    let recorder = Recorder::create(&args.ledger, args.force, Arc::clone(&plan))?;
    let recorder = tokio::spawn(recorder.run(received));
    let interrupt = Interrupt::listen()?;
    let run = Arc::new(Run::start(plan, Duration::from_secs(args.patience), interrupt.token()));
    tokio::spawn(say_when_it_comes(interrupt, Arc::clone(&run)));
    let mut senders = JoinSet::new();
    for connection in 0..args.connections as usize {
        let mut targets = targets.clone();
        targets.rotate_left(connection % urls.len());
        senders.spawn(sender::send_views(Arc::clone(&run), targets, records.clone()));
    }
    drop(records); // The recorder ends with the last sender.
    while senders.join_next().await.is_some() {}

    let totals = recorder.await.expect("a panic would have ended the process")?;
    let ledger = args.ledger.display();
    print(&format!("{totals}ledger     {ledger} (footfall verify --ledger compares it with what was counted)\n"))?;
    let urls = urls.join(", ");
    let attempted = totals.attempted();
    let sent = match run.was_interrupted() {
        true => format!("stopped early: {} of {} were sent", count(attempted, "view"), count(args.views, "view")),
        false => format!("{} were sent", count(attempted, "view")),
    };
    if let Some(why) = run.gave_up() {
        return Err(Failure::Dependency(format!(
            "gave up after {} s without a success: {sent}, the last failure was: {why}; check that ingest runs at {urls}",
            args.patience
        )));
    }
    if totals.refused > 0 {
        let (refused, why) = (count(totals.refused, "view"), run.refusal());
        print(&format!("{sent}; {refused} REFUSED, and not counted: {why}\n"))?;
        return Ok(ExitCode::from(DIFFERENCE_FOUND));
    }
    if attempted > 0 && totals.acknowledged == 0 {
        return Err(Failure::Dependency(format!(
            "{sent}, and not one was acknowledged; check that ingest runs at {urls}"
        )));
    }
    let unknown = match totals.unknown {
        0 => "all were acknowledged".to_owned(),
        unknown => format!("{} may be counted or not, all others were acknowledged", count(unknown, "view")),
    };
    print(&format!(
        "{sent}; {}\n",
        if attempted == 0 { "nothing was to be acknowledged".to_owned() } else { unknown }
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn say_when_it_comes(interrupt: Interrupt, run: Arc<Run>) {
    interrupt.came().await;
    // The run stops by itself too, when it gives up.
    if run.was_interrupted() {
        note(format_args!("stopping: waiting for the open requests, at most {} s", client::TIMEOUT.as_secs()));
    }
}
