//! `footfall export`: everything that MySQL has counted, as CSV.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use csv::QuoteStyle;
use footfall_shared::mysql::{Fences, Store};
use footfall_shared::protocol::Row;
use footfall_shared::service::config::Config;
use tempfile::NamedTempFile;

use crate::Result;
use crate::failure::Failure;
use crate::terminal::{count, note};

/// Rows that are read from MySQL at once.
const PAGE: u32 = 10_000;
/// What a spreadsheet takes a cell for a formula by, in any of its languages; and what stands before one that it shall not.
const FORMULA: [char; 9] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}', GUARD];
const GUARD: char = '\'';

/// Writes how often each user has read each article, as CSV with the columns article, user and views
///
/// In the order of articles, then of users, each by its bytes. Views that wait in Redis are not in it yet. While views are
/// counted, each row is as it was when it was read: for a snapshot of one moment take a dump of the database.
/// `footfall import` takes the file as it is.
///
/// A file is there when it is whole, and only its owner may read it: it says who has read what.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The file [default: the standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write over a file that exists
    #[arg(long, requires = "output")]
    force: bool,
    /// For a spreadsheet, which would carry out what an id such as =1+1 says: an apostrophe stands before such ids, and
    /// before the names of their columns, by which `footfall import` knows to leave it out
    #[arg(long)]
    spreadsheet: bool,
}

pub(crate) async fn run(config: &Config, args: &Args) -> Result {
    let Some(path) = &args.output else {
        let store = open(config).await?;
        return match write(&store, io::stdout().lock(), args.spreadsheet).await? {
            Ok(rows) => said(rows, "the standard output"),
            // Whoever reads has enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            Err(error) => Err(Failure::file("write to the standard output", &error)),
        };
    };
    let name = path.display();
    // A link that leads nowhere is in the way, too.
    match path.symlink_metadata() {
        Ok(there) if !there.is_file() && !there.is_symlink() => {
            return Err(Failure::Usage(format!(
                "{name} is no file: name another one, or none for the standard output"
            )));
        }
        Ok(_) if !args.force => {
            return Err(Failure::Usage(format!(
                "{name} exists, and was not touched: name another file, or give --force to write over it"
            )));
        }
        _ => {}
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let store = open(config).await?;
    let failed = |error: &io::Error| Failure::file(format_args!("write {name}"), error).with("No file was made");
    let file = NamedTempFile::with_prefix_in(".footfall-export-", folder).map_err(|error| failed(&error))?;
    file.as_file().set_permissions(Permissions::from_mode(0o600)).map_err(|error| failed(&error))?;
    let rows = write(&store, file.as_file(), args.spreadsheet).await?.map_err(|error| failed(&error))?;
    file.as_file().sync_all().map_err(|error| failed(&error))?;
    let kept = if args.force { file.persist(path) } else { file.persist_noclobber(path) };
    kept.map_err(|error| failed(&error.error))?;
    said(rows, &name.to_string())
}

async fn open(config: &Config) -> Result<Store> {
    let store = Store::new(&config.database).await?;
    store.check_schema(config.shards.get()).await?;
    Ok(store)
}

fn said(rows: u64, name: &str) -> Result {
    note(format_args!("{} written to {name}", count(rows, "row")));
    Ok(ExitCode::SUCCESS)
}

/// Answers how many rows were written.
async fn write(store: &Store, out: impl Write, is_guarded: bool) -> Result<io::Result<u64>> {
    // Within quotation marks a semicolon begins no cell, wherever a spreadsheet takes it for a comma.
    let style = if is_guarded { QuoteStyle::Always } else { QuoteStyle::Necessary };
    let mut out = csv::WriterBuilder::new().quote_style(style).from_writer(out);
    let mut rows = 0;
    let mut last: Option<Row> = None;
    let mut put = |cells: [&str; 3]| out.write_record(cells).map_err(io::Error::from);
    let names = if is_guarded { ["'article", "'user", "views"] } else { ["article", "user", "views"] };
    if let Err(error) = put(names) {
        return Ok(Err(error));
    }
    let cell = |id: &str| if is_guarded { guarded(id) } else { id.to_owned() };
    loop {
        let page = store.rows(last.as_ref(), PAGE).await?;
        for Row { article, user, views } in &page {
            if let Err(error) = put([&cell(article.as_str()), &cell(user.as_str()), &views.to_string()]) {
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

/// The id as a spreadsheet shows it and does nothing with it.
fn guarded(id: &str) -> String {
    // Spreadsheets pass over spaces at the beginning.
    if id.trim_start().starts_with(FORMULA) { format!("{GUARD}{id}") } else { id.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_is_a_formula() {
        for id in ["=1+1", "+1", "-1", "@x", " =1", "\u{a0}=1", "\u{ff1d}1", "'", "'=1"] {
            assert_eq!(guarded(id), format!("'{id}"), "{id}");
        }
        for id in ["/a=b", "a", "1", "\"=1"] {
            assert_eq!(guarded(id), id);
        }
    }
}
