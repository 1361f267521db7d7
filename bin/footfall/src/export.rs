//! `footfall export`: everything that MySQL has counted, as CSV.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use footfall_shared::config::Config;
use footfall_shared::counter::Row;
use footfall_shared::store::{Fences, Store};

use crate::Result;
use crate::failure::Failure;
use crate::terminal::{count, note};

/// Rows that are read from MySQL at once.
const PAGE: u32 = 10_000;

/// Writes how often each user has read each article, as CSV with the columns article, user and views
///
/// In the order of articles, then of users, each by its bytes. Views that wait in Redis are not in it yet. While views are
/// counted, each row is as it was when it was read: for a snapshot of one moment take a dump of the database.
/// `footfall import` takes the file as it is.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A new file [default: the standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) async fn run(config: &Config, args: &Args) -> Result {
    let store = Store::new(&config.database).await?;
    store.check_schema(config.shards).await?;
    let (out, name): (Box<dyn Write>, _) = match &args.output {
        Some(path) => {
            let file = File::create_new(path);
            let name = path.display().to_string();
            (Box::new(file.map_err(|error| Failure::file(format_args!("create {name}"), &error))?), name)
        }
        None => (Box::new(io::stdout().lock()), "the standard output".to_owned()),
    };
    match write(&store, out).await? {
        Ok(rows) => note(format_args!("{} written to {name}", count(rows, "row"))),
        // Whoever reads has enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => return Err(Failure::file(format_args!("write to {name}"), &error)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Answers how many rows were written.
async fn write(store: &Store, out: impl Write) -> Result<io::Result<u64>> {
    let mut out = csv::Writer::from_writer(out);
    let mut rows = 0;
    let mut last: Option<Row> = None;
    let mut put = |cells: [&str; 3]| out.write_record(cells).map_err(io::Error::from);
    if let Err(error) = put(["article", "user", "views"]) {
        return Ok(Err(error));
    }
    loop {
        let page = store.rows(last.as_ref(), PAGE).await?;
        for Row { article, user, views } in &page {
            if let Err(error) = put([article.as_str(), user.as_str(), &views.to_string()]) {
                return Ok(Err(error));
            }
            rows += 1;
        }
        match page.into_iter().last() {
            Some(row) => last = Some(row),
            None => return Ok(out.flush().map(|()| rows)),
        }
    }
}
