//! Whether every accepted view is somewhere: the sums that the dashboard looks at every second, once.

use std::time::Duration;

use footfall_shared::mysql::{Store, column};
use footfall_shared::protocol::{Conservation, Shard, total};
use footfall_shared::redis::Redis;
use footfall_shared::service::config::Config;
use footfall_shared::stores::books::add_up;
use indicatif::HumanCount;

use super::check::Check;
use super::runbook;
use crate::terminal::count;

pub(super) const BOOKS: &str = "books";

/// Looks that a flush may spoil before this gives up.
const LOOKS_MAX: u32 = 10;
const PAUSE: Duration = Duration::from_millis(200);

pub(super) async fn look(config: &Config, redis: &Redis, store: &Store) -> Vec<Check> {
    let mut broken_before = false;
    for _ in 0..LOOKS_MAX {
        match one_look(config, redis, store).await {
            Look::NotKnown(why, next) => return vec![Check::warning(BOOKS, why, next)],
            // Confirmed by a second look: the stores are not asked in one moment.
            Look::Sums(sums) if broken_before || !sums.is_broken() => return vec![judge(&sums)],
            Look::Sums(_) => broken_before = true,
            Look::Spoiled => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
    let why = format!("a flush came between the two stores in each of {LOOKS_MAX} looks");
    vec![Check::warning(BOOKS, why, "`footfall verify --live --seconds 10` looks more closely")]
}

enum Look {
    Sums(Conservation),
    Spoiled,
    /// Why, and what to do.
    NotKnown(String, &'static str),
}

/// Redis first: what is flushed in between is noticed.
async fn one_look(config: &Config, redis: &Redis, store: &Store) -> Look {
    let (mut held, mut journalled) = (Vec::new(), 0);
    for shard in Shard::all(config.shards.get()) {
        let queue = redis.shard(shard);
        match (queue.totals().await, queue.reports().await) {
            (Ok(Some(totals)), Ok(reports)) => {
                held.push(totals);
                journalled = total(reports.iter().map(|(.., views)| *views).chain([journalled]));
            }
            (Ok(None), _) => {
                let why = format!("Redis holds nothing of shard {shard}, and no recovery has opened it");
                return Look::NotKnown(why, "start an ingest or a flusher, which open it");
            }
            (Err(_), _) | (_, Err(_)) => return Look::NotKnown("not known without Redis".into(), "mend Redis"),
        }
    }
    match store.totals().await {
        Ok(stored) if stored.len() == held.len() => {
            add_up(&held, &stored, journalled).map_or(Look::Spoiled, Look::Sums)
        }
        Ok(_) => Look::NotKnown("not known: MySQL has another number of shards".into(), "see the tables"),
        Err(_) => Look::NotKnown("not known without MySQL".into(), "mend MySQL"),
    }
}

fn judge(sums: &Conservation) -> Check {
    let part = |sum: u128| HumanCount(column(sum)).to_string();
    let said = format!(
        "accepted {} = stored {} + pending {} + journalled {} + quarantined {} + dropped {} + repeated {}",
        part(sums.accepted),
        part(sums.stored),
        part(sums.pending),
        part(sums.journalled),
        part(sums.quarantined),
        part(sums.dropped),
        part(sums.repeated)
    );
    if !sums.is_broken() {
        return Check::ok(BOOKS, said);
    }
    let difference = sums.difference();
    let views = count(column(difference.unsigned_abs()), "view");
    let which = if difference > 0 { "missing" } else { "too many" };
    let what = format!("{views} {which}: {}", said.replacen(" = ", " is not ", 1));
    let next = format!("change nothing, and run `footfall verify --live --seconds 60`: {}", runbook::UNACCOUNTED);
    Check::problem(BOOKS, what, next)
}

#[cfg(test)]
mod tests {
    use super::super::check::Level;
    use super::*;

    #[test]
    fn the_books_are_right_or_it_is_said_by_how_much_they_are_not() {
        let right = Conservation { accepted: 10, stored: 7, quarantined: 3, ..Conservation::default() };
        assert_eq!(judge(&right).level, Level::Ok);
        let missing = judge(&Conservation { stored: 5, ..right });
        assert!(missing.level == Level::Problem && missing.what.starts_with("2 views missing"), "{missing:?}");
        let doubled = judge(&Conservation { stored: 8, ..right });
        assert!(doubled.level == Level::Problem && doubled.what.starts_with("1 view too many"), "{doubled:?}");
        // Repeats in Redis are known only once they are flushed.
        assert_eq!(judge(&Conservation { accepted: 12, pending: 1, ..right }).level, Level::Ok);
    }
}
