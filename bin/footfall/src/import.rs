//! `footfall import`: counts views that another counter has counted before.

mod batches;
mod formats;
mod input;
mod sort;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use footfall_shared::mysql::{Fences, Store};
use footfall_shared::protocol::{Article, Producer, User, add_views};
use footfall_shared::service::config::Config;
use indicatif::HumanCount;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::terminal::{Progress, confirm, count, note, print};
use crate::{DIFFERENCE_FOUND, Result};
use batches::Done;
use formats::{Bad, LeftOut, Reader};
use input::Source;
use sort::{Record, Sorter};

/// Mistakes that are shown; there may be as many as lines.
const MISTAKES_SHOWN: usize = 10;
/// Records between two looks at the clock and at signals.
const RECORDS_AT_ONCE: u64 = 1_000;

/// Counts views that another counter has counted, from its export
///
/// Read are a table with the columns article, views and, where there are any, user and date; GoatCounter's export (one
/// line per view: bots and events are left out, sessions are the users); Matomo's page reports, as CSV or TSV (nb_hits,
/// of the page whose path is in metadata_url, or in label); and Plausible's export of pages. The first line names the
/// columns, in any order; others are passed over. UTF-8 or UTF-16 with a byte order mark, packed by gzip or not, separated
/// by commas, semicolons or tabs. --user names who has read what no user is given for.
///
/// A time of a view (2026-07-09T01:00:00Z) puts it into its hour of its article's history, and into its minute where that
/// is still shown; a date (2026-07-09) into the first hour of that day, UTC. Without one it is in the totals only.
///
/// The input is read once, from a pipe too, and sorted, beyond 64 MiB in a temporary file without a name. Nothing is
/// counted before every line was found good. The rows go to MySQL in numbered transactions, each of which it takes once:
/// the same lines once more, in any order, after a failure, an interruption or by mistake, add nothing. Services may run
/// meanwhile.
///
/// The exit code is 0 if all is counted; 1 if something was left: lines that were skipped, views in quarantine; 130 if it
/// was interrupted.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  footfall import views.csv --user before-footfall\n  \
                        footfall import goatcounter-export.csv.gz --user unknown\n  \
                        zstdcat views.csv.zst | footfall import - --yes")]
pub(crate) struct Args {
    /// The file; - is the standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Who has read what no user is given for
    #[arg(long, value_name = "U")]
    user: Option<String>,
    /// Count the other lines if some cannot be understood
    #[arg(long)]
    skip_bad_lines: bool,
    /// Where the temporary file is made; without it, in the folder that TMPDIR names
    #[arg(long, value_name = "DIR")]
    temporary_folder: Option<PathBuf>,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

/// What an import would count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// What was read.
    pub article: Article,
    /// Who read it.
    pub user: User,
    /// Since 1970 UTC; 0 if that is not known.
    pub minute: u32,
    /// How often.
    pub views: u64,
}

/// What an import makes of these bytes, for whoever puts it to the test: each line that counts, or nothing of the rest, if
/// its form is not known. `nobody` is who has read what no user is given for.
pub fn imported(bytes: &[u8], nobody: &User) -> Vec<Imported> {
    let reader = Reader::open(Source::of(bytes), Arc::default(), Some(nobody.clone()), 1);
    let Ok(mut reader) = reader else { return vec![] };
    let mut imported = vec![];
    loop {
        match reader.next() {
            Ok(Some(Record { article, user, minute, views, .. })) => {
                imported.push(Imported { article, user, minute, views });
            }
            Err(Bad::Line(_)) => {}
            Ok(None) | Err(Bad::Rest(_)) => return imported,
        }
    }
}

pub(crate) async fn run(config: &Config, args: &Args) -> Result {
    let user = args.user.as_deref().map(|user| User::parse(user.as_bytes())).transpose();
    let user = user.map_err(|error| Failure::Usage(format!("--user: {error}")))?;
    let is_piped = args.file.as_os_str() == "-";
    if is_piped && !args.yes {
        let why =
            "the standard input is what is imported, so nobody can be asked there: nothing was counted; give --yes";
        return Err(Failure::Usage(why.into()));
    }
    let store = Store::new(&config.database).await?;
    store.check_schema(config.shards.get()).await?;
    let interrupt = Interrupt::listen()?;
    let folder = args.temporary_folder.clone().unwrap_or_else(std::env::temp_dir);
    let taken = Arc::new(AtomicU64::new(0));
    let source = Source::open(&args.file)?;
    let progress = Progress::new(source.bytes, "byte");
    let reader = Reader::open(source, Arc::clone(&taken), user, config.shards.get())?;
    let shards = config.shards.get();
    // A thread of its own: a pipe may keep it waiting, and then Ctrl-C is heard all the same.
    let (reply, answer) = oneshot::channel();
    let skip = args.skip_bad_lines;
    std::thread::spawn(move || {
        // Nobody waits for it any more if the command was interrupted.
        drop(reply.send(read(reader, &folder, shards, skip, &taken, progress)));
    });
    let read = tokio::select! {
        read = answer => read.map_err(|_| Failure::Dependency("reading ended too early: nothing was counted".into()))??,
        () = interrupt.came() => {
            return Err(Failure::Interrupted("interrupted while reading: nothing was counted".into()));
        }
    };
    for mistake in &read.mistakes {
        note(format_args!("skipped: {mistake}"));
    }
    let (what, left_out) =
        (format!("{} with {}", count(read.records, "line"), count(read.views, "view")), left_out(&read));
    let with_skipped = if read.skipped > 0 { DIFFERENCE_FOUND } else { 0 };
    if read.records == 0 {
        print(&format!("there is nothing to count in it{left_out}: nothing was counted\n"))?;
        return Ok(ExitCode::from(with_skipped));
    }
    let question = format!("Count {what} of {}{left_out} in {}?", read.layout, config.database.url);
    tokio::select! {
        sure = confirm(&question, "nothing was counted", args.yes) => sure?,
        () = interrupt.came() => {
            return Err(Failure::Interrupted("interrupted: nothing was counted".into()));
        }
    }

    let Read { views: total, has_dates, producer, sorter, .. } = read;
    let folder = args.temporary_folder.clone().unwrap_or_else(std::env::temp_dir);
    let sorted = sorter.sorted().map_err(|error| cannot_sort(&folder, &error))?;
    let mut done = Done::default();
    let result = batches::store_all(&store, sorted, producer, total, &interrupt, &mut done).await;
    let again = format!(
        "{} of {} are in MySQL; import the same once more to go on: what is counted is not counted twice",
        count(done.views(), "view"),
        count(total, "view")
    );
    match result {
        Err(failure) => return Err(failure.with(&again)),
        Ok(false) => return Err(Failure::Interrupted(format!("interrupted: {again}"))),
        Ok(true) => print(&report(&done, &what, &left_out, has_dates))?,
    }
    Ok(ExitCode::from(if done.quarantined > 0 { DIFFERENCE_FOUND } else { with_skipped }))
}

/// What became of all.
fn report(done: &Done, what: &str, left_out: &str, has_dates: bool) -> String {
    let mut text = String::new();
    if !left_out.is_empty() {
        text += &format!("{}\n", left_out.trim_start_matches(", "));
    }
    if !has_dates && done.now > 0 {
        text += "nothing says when the views were: they are in all totals, and in no hour and no minute\n";
    }
    if done.before > 0 && done.now + done.quarantined == 0 {
        return text + &format!("{what} came to MySQL by an earlier run of this import: nothing was counted now\n");
    }
    if done.before > 0 {
        text += &format!("{} came to MySQL by an earlier run of this import\n", count(done.before, "view"));
    }
    if done.quarantined > 0 {
        let (counted, refused) = (count(done.now, "view"), count(done.quarantined, "view"));
        let now = if done.before > 0 { " now" } else { "" };
        return text
            + &format!(
                "{counted} are counted{now}, {refused} NOT: MySQL refused them, and they are in quarantine \
                 (`footfall quarantine list` says why)\n"
            );
    }
    match done.before {
        0 => text + &format!("{what} counted; the same once more adds nothing\n"),
        _ => {
            text + &format!(
                "{} are counted now, and so are all; the same once more adds nothing\n",
                count(done.now, "view")
            )
        }
    }
}

/// What was read, to be counted.
struct Read {
    layout: &'static str,
    has_dates: bool,
    records: u64,
    views: u64,
    skipped: u64,
    /// The first of the lines that are skipped, each with a sentence.
    mistakes: Vec<String>,
    left_out: LeftOut,
    /// Stands for these lines, in whatever order.
    producer: Producer,
    sorter: Sorter,
}

/// Reads everything. Nothing is good before all is.
fn read(
    mut reader: Reader,
    folder: &Path,
    shards: u16,
    skip: bool,
    taken: &AtomicU64,
    mut progress: Progress,
) -> Result<Read> {
    let mut sorter = Sorter::new(folder);
    let mut identity = Identity::default();
    let (mut views, mut skipped, mut mistakes) = (0, 0_u64, vec![]);
    loop {
        match reader.next() {
            Ok(None) => break,
            Ok(Some(record)) => {
                views = add_views(views, record.views)
                    .map_err(|error| Failure::Usage(format!("{error}: nothing was counted")))?;
                identity.add(&record);
                sorter.add(&record).map_err(|error| cannot_sort(folder, &error))?;
            }
            Err(Bad::Line(mistake)) => {
                skipped += 1;
                if mistakes.len() < MISTAKES_SHOWN {
                    mistakes.push(mistake);
                }
            }
            Err(Bad::Rest(failure)) => return Err(failure),
        }
        if (identity.records + skipped) % RECORDS_AT_ONCE == 0 {
            progress.show(taken.load(Ordering::Relaxed), &count(identity.records, "line"));
        }
    }
    progress.end();
    if skipped > mistakes.len() as u64 {
        mistakes.push("...".to_owned());
    }
    if skipped > 0 && !skip {
        let (what, lines) = (count(skipped, "line"), mistakes.join("\n  "));
        return Err(Failure::Usage(format!(
            "{what} cannot be understood, nothing was counted (--skip-bad-lines counts the others):\n  {lines}"
        )));
    }
    Ok(Read {
        layout: reader.layout(),
        has_dates: reader.has_dates(),
        records: identity.records,
        views,
        skipped,
        mistakes,
        left_out: reader.left_out,
        producer: identity.producer(shards),
        sorter,
    })
}

fn cannot_sort(folder: &Path, error: &std::io::Error) -> Failure {
    let folder = folder.display();
    Failure::Dependency(format!(
        "cannot sort in a temporary file in {folder}: {error}; --temporary-folder names another folder. Nothing was counted"
    ))
}

/// Says which lines these are, in whatever order they come: the sum of their hashes.
#[derive(Default)]
struct Identity {
    records: u64,
    sum: [u64; 4],
}

impl Identity {
    fn add(&mut self, record: &Record) {
        let Record { article, user, minute, views, shard: _ } = record;
        let mut hash = Sha256::new();
        // Ids hold no zero bytes.
        let parts: [&[u8]; 5] = [article.as_bytes(), &[0], user.as_bytes(), &[0], &minute.to_le_bytes()];
        parts.iter().for_each(|part| hash.update(part));
        hash.update(views.to_le_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        for (sum, part) in self.sum.iter_mut().zip(hash.as_chunks().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*part));
        }
        self.records += 1;
    }

    /// Of the lines, and of how they become batches.
    fn producer(&self, shards: u16) -> Producer {
        let mut hash = Sha256::new();
        hash.update(shards.to_le_bytes());
        hash.update((batches::BATCH_RECORDS as u64).to_le_bytes());
        hash.update(self.records.to_le_bytes());
        self.sum.iter().for_each(|part| hash.update(part.to_le_bytes()));
        let hash: [u8; 32] = hash.finalize().into();
        let (first, _) = hash.split_first_chunk().expect("there are 32 bytes");
        Producer(u64::from_be_bytes(*first))
    }
}

/// `, left out: ...`; empty if nothing was.
fn left_out(read: &Read) -> String {
    let LeftOut { bots, events, without_views } = read.left_out;
    let parts: Vec<String> = [
        (bots, "view by bots", "views by bots"),
        (events, "event", "events"),
        (without_views, "line without views", "lines without views"),
        (read.skipped, "line that cannot be understood", "lines that cannot be understood"),
    ]
    .into_iter()
    .filter(|(number, ..)| *number > 0)
    .map(|(number, one, many)| format!("{} {}", HumanCount(number), if number == 1 { one } else { many }))
    .collect();
    if parts.is_empty() { String::new() } else { format!(", left out: {}", parts.join(", ")) }
}

#[cfg(test)]
mod tests;
