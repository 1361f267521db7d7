//! `footfall quarantine list` and `show`: what is there, for people and as JSON.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::process::ExitCode;

use footfall_shared::mysql::Quarantined;
use footfall_shared::protocol::{Batch, Shard};
use serde_json::{Value, json};

use super::{Id, Stores, logs, missing};
use crate::Result;
use crate::aside::{AsideId, Fit, Had, Summary, fit};
use crate::terminal::{count, print};

/// Characters of a reason in the list; `show` has all of it.
const REASON_CHARS_MAX: usize = 90;

/// Shows what is in quarantine, oldest first: rows, then logs
#[derive(clap::Args)]
pub(super) struct ListArgs {
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    /// Only rows behind this number, and no logs: the next page
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
    /// How many rows to show
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Shows one entry with everything that is known about it
#[derive(clap::Args)]
pub(super) struct ShowArgs {
    /// A number, or `aside:<shard>:<epoch>:<first>`, as `list` shows them
    #[arg(value_name = "ID")]
    id: Id,
    /// As a JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn list(stores: &Stores<'_>, args: &ListArgs) -> Result {
    // One more than is shown tells whether there are more.
    let mut rows = stores.store.quarantined(args.after.unwrap_or(0), args.limit.saturating_add(1)).await?;
    let shown = rows.len().min(args.limit as usize);
    let has_more = rows.len() > shown;
    rows.truncate(shown);
    let mut asides = Vec::new();
    if args.after.is_none() {
        let mut had: BTreeMap<Shard, Had> = BTreeMap::new();
        for id in logs::ids(stores).await? {
            if let Entry::Vacant(unknown) = had.entry(id.shard) {
                unknown.insert(logs::had(stores, id.shard).await?);
            }
            asides.push((id, logs::summary(stores, id, &had[&id.shard]).await?));
        }
    }
    let mut text = String::new();
    if args.json {
        rows.iter().for_each(|row| text += &format!("{}\n", row_json(row)));
        asides.iter().for_each(|(id, summary)| text += &format!("{}\n", summary_json(&id.to_string(), summary)));
        print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !rows.is_empty() {
        text += &format!("{:<20}{:>12}  {:<19}  article, user: reason\n", "id", "views", "since");
    }
    for row in &rows {
        let reason = shortened(&row.reason);
        text += &format!("{:<20}{:>12}  {:<19}  {}: {reason}\n", row.id, number(row.views), row.since, whose(row));
    }
    if !asides.is_empty() {
        let gap = if text.is_empty() { "" } else { "\n" };
        text += &format!("{gap}{:<20}{:>12}{:>12}{:>12}  not counted anywhere\n", "id", "batches", "damaged", "views");
    }
    for (id, summary) in &asides {
        let Summary { batches, damaged, views, missing_batches, missing_views } = summary;
        let missing = match missing_batches {
            0 => "none".to_owned(),
            _ => format!("{} with {}", count(*missing_batches, "batch"), count(*missing_views, "view")),
        };
        let id = id.to_string();
        text += &format!("{id:<20}{:>12}{:>12}{:>12}  {missing}\n", number(*batches), number(*damaged), number(*views));
    }
    text += &match (rows.last(), has_more) {
        (Some(last), true) => format!("\nthere are more: --after {} shows the next ones\n", last.id),
        (None, _) if asides.is_empty() => match args.after {
            None => "nothing is in quarantine\n".to_owned(),
            Some(after) => format!("no row is in quarantine behind {after}\n"),
        },
        _ => String::new(),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn show(stores: &Stores<'_>, args: &ShowArgs) -> Result {
    match args.id {
        Id::Row(id) => {
            let row = stores.store.quarantined_one(id).await?.ok_or_else(|| missing(id))?;
            print(&if args.json { format!("{}\n", row_json(&row)) } else { row_text(&row) })?;
        }
        Id::Log(id) => show_log(stores, id, args.json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows a log as it is read, piece by piece.
async fn show_log(stores: &Stores<'_>, id: AsideId, is_json: bool) -> Result<()> {
    let had = logs::had(stores, id.shard).await?;
    if is_json {
        let summary = summary_json(&id.to_string(), &logs::summary(stores, id, &had).await?).to_string();
        print(&format!("{},\"log\":[", summary.trim_end_matches('}')))?;
    }
    let mut at: u64 = 0;
    loop {
        let batches = logs::read(stores, id, at).await?;
        if batches.is_empty() {
            break;
        }
        let mut text = String::new();
        for batch in &batches {
            if is_json {
                text += if at == 0 { "" } else { "," };
                text += &batch_json(batch, &had).to_string();
            } else {
                text += &batch_text(batch, &had);
            }
            at += 1;
        }
        print(&text)?;
    }
    if is_json { print("]}\n") } else { Ok(()) }
}

/// As text, because a `HumanCount` does not heed a width.
fn number(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

fn whose(row: &Quarantined) -> String {
    if row.article.is_empty() { "not known".to_owned() } else { format!("{}, {}", row.article, row.user) }
}

/// MySQL's reasons may be long, and hold whatever the row holds.
fn shortened(reason: &str) -> String {
    let line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= REASON_CHARS_MAX {
        return line;
    }
    line.chars().take(REASON_CHARS_MAX - 1).chain(['\u{2026}']).collect()
}

fn row_text(row: &Quarantined) -> String {
    let origin = match row.position {
        0 => format!("it came to MySQL directly, in epoch {}", row.epoch),
        position => format!("up to position {position} of the log, epoch {}", row.epoch),
    };
    format!(
        "id       {}\nviews    {}\nwhose    {}\nsince    {}\nshard    {}\norigin   {origin}\nreason   {}\n",
        row.id,
        row.views,
        whose(row),
        row.since,
        row.shard,
        row.reason
    )
}

fn row_json(row: &Quarantined) -> Value {
    let mut value = serde_json::to_value(row).expect("a row has text keys only");
    value["id"] = row.id.to_string().into(); // As for logs: it goes into the next command as it is.
    value["kind"] = "row".into();
    value
}

fn summary_json(id: &str, summary: &Summary) -> Value {
    let Summary { batches, damaged, views, missing_batches, missing_views } = summary;
    json!({
        "id": id, "kind": "log", "batches": batches, "damaged": damaged, "views": views,
        "missing_batches": missing_batches, "missing_views": missing_views,
    })
}

fn state(batch: &Batch, had: &Had) -> &'static str {
    match fit(batch, had) {
        Fit::Had => "counted",
        // What comes before it may be in this log as well.
        Fit::Next | Fit::Gap(_) | Fit::Contradiction => "not counted",
    }
}

fn batch_text(batch: &logs::Read, had: &Had) -> String {
    let batch = match batch {
        Err(error) => return format!("damaged: {error}\n"),
        Ok(batch) => batch,
    };
    let (views, state) = (count(batch.views(), "view"), state(batch, had));
    let mut text = format!("producer {}, batch {}: {views}, {state}\n", batch.producer, batch.number);
    for row in &batch.rows {
        text += &format!("{:>12}  {}, {}\n", number(row.views), row.article, row.user);
    }
    text
}

fn batch_json(batch: &logs::Read, had: &Had) -> Value {
    match batch {
        Err(error) => json!({ "damaged": error.to_string() }),
        Ok(batch) => {
            let rows = batch.rows.iter().map(|row| json!([row.article.as_str(), row.user.as_str(), row.views]));
            json!({
                "producer": batch.producer.to_string(), "number": batch.number, "views": batch.views(),
                "minute": batch.minute, "state": state(batch, had), "rows": rows.collect::<Vec<_>>(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_becomes_one_line_that_is_not_too_long() {
        assert_eq!(shortened("no\nsuch\tluck"), "no such luck");
        assert_eq!(shortened(&"\u{e9}".repeat(500)).chars().count(), REASON_CHARS_MAX);
    }

    #[test]
    fn a_row_without_ids_is_not_known() {
        let mut row = Quarantined {
            id: 7,
            shard: 0,
            epoch: 1,
            position: 2,
            article: "a".into(),
            user: "u".into(),
            views: 3,
            reason: "nope".into(),
            since: "2026-01-01 00:00:00".into(),
        };
        assert!(row_text(&row).contains("a, u"));
        assert_eq!(row_json(&row)["id"], "7");
        (row.article, row.user) = (String::new(), String::new());
        assert!(row_text(&row).contains("not known"));
    }
}
