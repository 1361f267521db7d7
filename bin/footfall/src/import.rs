//! `footfall import`: counts views that another counter has counted before.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use footfall_shared::config::Config;
use footfall_shared::counter::{Article, Batch, Producer, Row, Shard, User, add_views, parse_views, total};
use footfall_shared::store::{Direct, Fences, Store};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use crate::failure::Failure;
use crate::terminal::{confirm, count, print};
use crate::{DIFFERENCE_FOUND, Result};

/// Rows in one transaction. Part of what makes a repeat harmless: another number would number the batches anew.
const BATCH_ROWS: usize = 5_000;
/// Mistakes that are shown; there may be as many as lines.
const MISTAKES_SHOWN: usize = 10;

/// Counts views from a CSV file with the columns article, user and views
///
/// For the counts of a counter that was there before: of Matomo, of GoatCounter, or of a plain column of views. The first
/// line names the columns, in any order; other columns are passed over. Without a column `user`, or where it is empty,
/// --user names who has read.
///
/// Nothing is counted before every line was found good. The rows go to MySQL in numbered transactions, each of which it
/// takes once: the same file once more, after a failure or by mistake, adds nothing. Services may run meanwhile. The views
/// are in all totals, but in no hour and no minute that is shown, for nobody knows when they were. A row has at most 10^12
/// views, an article 2^53 - 1: what is beyond goes to quarantine, the last line says how much, and the exit code is 1.
#[derive(clap::Args)]
#[command(after_help = "Example: a column of views, by a database's own means, then:\n  \
                        printf 'article,views\\nyumo,1234\\n' > views.csv\n  footfall import views.csv --user before-footfall")]
pub(crate) struct Args {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Who has read what no user is given for
    #[arg(long, value_name = "U")]
    user: Option<String>,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(config: &Config, args: &Args) -> Result {
    let user = args.user.as_deref().map(|user| User::parse(user.as_bytes())).transpose();
    let user = user.map_err(|error| Failure::Usage(format!("--user: {error}")))?;
    let store = Store::new(&config.database).await?;
    store.check_schema(config.shards).await?;
    let found = check(&args.file, user.as_ref(), config.shards)?;
    let what = format!("{} with {}", count(found.rows, "row"), count(found.views, "view"));
    confirm(&format!("Count {what} in {}?", config.database.url), "nothing was counted", args.yes)?;

    let style = ProgressStyle::with_template("{bar:30} {human_pos} of {human_len} rows, {eta} left");
    let bar = ProgressBar::new(found.rows).with_style(style.expect("the template is valid"));
    let mut batches: Vec<_> = Shard::all(config.shards).map(|shard| Batches::new(shard, found.producer)).collect();
    for row in Lines::open(&args.file, user.as_ref())? {
        let row = row.map_err(|mistake| Failure::Usage(format!("the file has changed meanwhile: {mistake}")))?;
        let batches = &mut batches[usize::from(Shard::of(&row.article, config.shards).0)];
        batches.rows.push(row);
        if batches.rows.len() == BATCH_ROWS {
            batches.store(&store).await?;
        }
        bar.inc(1);
    }
    for batches in &mut batches {
        batches.store(&store).await?;
    }
    bar.finish_and_clear();
    let quarantined = total(batches.iter().map(|batches| batches.quarantined));
    let before = total(batches.iter().map(|batches| batches.before));
    print(&told(found.rows, found.views, quarantined, before))?;
    Ok(if quarantined == 0 { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENCE_FOUND) })
}

/// What became of the views of a file.
fn told(rows: u64, views: u64, quarantined: u64, before: u64) -> String {
    let counted = count(views.saturating_sub(quarantined).saturating_sub(before), "view");
    let mut text = format!("{} with {}: {counted} counted now", count(rows, "row"), count(views, "view"));
    if before > 0 {
        let before = count(before, "view");
        text += &format!(", {before} handed over by an earlier run of the same file, which are not counted again");
    }
    if quarantined > 0 {
        let quarantined = count(quarantined, "view");
        text += &format!(", {quarantined} NOT counted but in quarantine: see `footfall quarantine list`");
    }
    text + "; the same file once more adds nothing\n"
}

/// What a good file holds.
struct Found {
    rows: u64,
    views: u64,
    /// Stands for this file, read in this way.
    producer: Producer,
}

/// Reads the whole file.
fn check(file: &Path, user: Option<&User>, shards: u16) -> Result<Found> {
    let (mut rows, mut views, mut mistakes, mut wrong) = (0, 0_u64, vec![], 0_u64);
    let mut hash = Sha256::new();
    hash.update(shards.to_le_bytes());
    for line in Lines::open(file, user)? {
        match line {
            Ok(Row { article, user, views: more }) => {
                rows += 1;
                views =
                    add_views(views, more).map_err(|error| Failure::Usage(format!("{error}: nothing was counted")))?;
                for part in [article.as_str(), user.as_str(), &more.to_string()] {
                    hash.update(part);
                    hash.update([0]);
                }
            }
            Err(mistake) => {
                wrong += 1;
                if mistakes.len() < MISTAKES_SHOWN {
                    mistakes.push(mistake);
                }
            }
        }
    }
    if wrong > 0 {
        let lines = mistakes.join("\n  ");
        let more = if wrong > mistakes.len() as u64 { "\n  ..." } else { "" };
        let what = count(wrong, "line");
        return Err(Failure::Usage(format!("{what} cannot be read, nothing was counted:\n  {lines}{more}")));
    }
    let hash: [u8; 32] = hash.finalize().into();
    let (first, _) = hash.split_first_chunk().expect("there are 32 bytes");
    Ok(Found { rows, views, producer: Producer(u64::from_be_bytes(*first)) })
}

/// The rows of a file; a sentence for each that is wrong.
struct Lines<'a> {
    records: csv::StringRecordsIntoIter<File>,
    article: usize,
    user: Option<usize>,
    views: usize,
    nobody: Option<&'a User>,
}

impl<'a> Lines<'a> {
    fn open(file: &Path, nobody: Option<&'a User>) -> Result<Self> {
        let reading = |error: &std::io::Error| Failure::file(format_args!("read {}", file.display()), error);
        let mut reader = csv::Reader::from_reader(File::open(file).map_err(|error| reading(&error))?);
        let headers = reader.headers().map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
        let column = |name| headers.iter().position(|header| header.trim() == name);
        let (Some(article), Some(views)) = (column("article"), column("views")) else {
            let sentence = "the first line must name the columns `article`, `views` and, if there is one, `user`";
            return Err(Failure::Usage(format!("{}: {sentence}", file.display())));
        };
        let user = column("user");
        Ok(Self { article, user, views, nobody, records: reader.into_records() })
    }

    fn row(&self, record: &csv::StringRecord) -> std::result::Result<Row, String> {
        let cell = |at: usize| record.get(at).unwrap_or_default();
        let article = Article::parse(cell(self.article).as_bytes()).map_err(|error| error.to_string())?;
        let user = match self.user.map(cell).filter(|user| !user.is_empty()) {
            Some(user) => User::parse(user.as_bytes()).map_err(|error| error.to_string())?,
            None => self.nobody.cloned().ok_or("it has no user: give --user")?,
        };
        let views = parse_views(cell(self.views)).map_err(|error| error.to_string())?;
        Ok(Row { article, user, views })
    }
}

impl Iterator for Lines<'_> {
    type Item = std::result::Result<Row, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = match self.records.next()? {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                let what = match error.kind() {
                    csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                        format!("it has {len} fields, the first line {expected_len}")
                    }
                    _ => error.to_string(),
                };
                return Some(Err(format!("line {line}: {what}")));
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        Some(self.row(&record).map_err(|mistake| format!("line {line}: {mistake}")))
    }
}

/// The batches of one shard.
struct Batches {
    shard: Shard,
    producer: Producer,
    number: u64,
    cumulative_views: u64,
    /// Views that MySQL has refused: they are in quarantine.
    quarantined: u64,
    /// Views that an earlier run of the same file has handed over.
    before: u64,
    rows: Vec<Row>,
}

impl Batches {
    fn new(shard: Shard, producer: Producer) -> Self {
        Self { shard, producer, number: 0, cumulative_views: 0, quarantined: 0, before: 0, rows: vec![] }
    }

    /// Hands the rows over as the next batch, once.
    async fn store(&mut self, store: &Store) -> Result<()> {
        let mut rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        rows.sort_unstable();
        rows.dedup_by(|next, row| {
            let is_same = next.article == row.article && next.user == row.user;
            if is_same {
                row.views = row.views.saturating_add(next.views);
            }
            is_same
        });
        self.number += 1;
        let views = total(rows.iter().map(|row| row.views));
        self.cumulative_views = self.cumulative_views.saturating_add(views);
        let batch = Batch {
            producer: self.producer,
            number: self.number,
            cumulative_views: self.cumulative_views,
            minute: 0,
            repeats: 0,
            rows,
            ids: vec![],
        };
        match store.commit_direct(self.shard, &batch).await? {
            Direct::Now { quarantined } => {
                self.quarantined = self.quarantined.saturating_add(quarantined);
                Ok(())
            }
            Direct::Before => {
                self.before = self.before.saturating_add(views);
                Ok(())
            }
            Direct::Behind { number } => Err(Failure::Dependency(format!(
                "MySQL has forgotten batches of this import behind number {number}: was it restored from a backup?"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("room for it");
        file
    }

    #[test]
    fn columns_are_found_by_name() {
        let file = file("views,article,note,user\n3,\"a, b\",x,u\n4,c,,\n");
        let nobody = User::parse(b"nobody").expect("test id");
        let rows: Vec<Row> =
            Lines::open(file.path(), Some(&nobody)).expect("opens").map(|row| row.expect("good")).collect();
        let rows: Vec<_> = rows.iter().map(|row| (row.article.as_str(), row.user.as_str(), row.views)).collect();
        assert_eq!(rows, [("a, b", "u", 3), ("c", "nobody", 4)]);
    }

    #[test]
    fn the_same_rows_are_the_same_import() {
        let producer = |text, shards| check(file(text).path(), None, shards).expect("good").producer;
        let text = "article,user,views\na,u,1\n";
        assert_eq!(producer(text, 1), producer(text, 1));
        assert_ne!(producer(text, 1), producer(text, 2));
        assert_ne!(producer(text, 1), producer("article,user,views\na,u,2\n", 1));
    }

    /// The files of which one stopped a shard each.
    #[test]
    fn counts_above_their_limits_are_refused_with_their_line() {
        let most = footfall_shared::counter::ROW_VIEWS_MAX;
        let refusal = |views: &str| {
            let file = file(&format!("article,user,views\nfine,u,{most}\nv,u,{views}\n"));
            check(file.path(), None, 1).err().map(|failure| failure.to_string())
        };
        assert_eq!(refusal(&most.to_string()), None);
        for views in [most + 1, (1 << 53) - 1, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, u64::MAX] {
            let said = refusal(&views.to_string()).expect("refused");
            assert!(said.contains("line 3") && said.contains(&most.to_string()), "{said}");
        }
        // Each row is within its limit, and they are too many together.
        let rows = format!("v,u,{most}\n").repeat(9_008);
        let Err(failure) = check(file(&format!("article,user,views\n{rows}")).path(), None, 1) else {
            panic!("they are too many")
        };
        assert!(failure.to_string().contains("9007199254740991 together"), "{failure}");
    }

    #[test]
    fn the_last_line_says_what_became_of_the_views() {
        assert_eq!(
            told(2, 7, 0, 0),
            "2 rows with 7 views: 7 views counted now; the same file once more adds nothing\n"
        );
        let said = told(2, 7, 3, 4);
        assert!(
            said.contains(": 0 views counted now, 4 views handed over") && said.contains("3 views NOT counted"),
            "{said}"
        );
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let bad = file("article,user,views\na,u,1\n,u,1\na,,1\na,u,0\na,u,-3\na,u\n");
        let Err(failure) = check(bad.path(), None, 1) else { panic!("it is wrong") };
        let said = failure.to_string();
        for (line, what) in [(3, "empty"), (4, "--user"), (5, "`0`"), (6, "`-3`"), (7, "fields")] {
            assert!(
                said.lines().any(|said| said.contains(&format!("line {line}")) && said.contains(what)),
                "{line}: {said}"
            );
        }
        assert!(said.starts_with("5 lines"), "{said}");
        let Err(failure) = check(file("a,b\n1,2\n").path(), None, 1) else { panic!("it is wrong") };
        assert!(failure.to_string().contains("`article`"));
    }
}
