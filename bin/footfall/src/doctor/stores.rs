//! Redis and MySQL by themselves: whether they can be reached and written, what they are set to, and their clocks.

use footfall_shared::mysql::{Fences, SCHEMA_VERSION, Store, StoreError};
use footfall_shared::protocol::Shard;
use footfall_shared::protocol::errors::{ErrorClass, Grade};
use footfall_shared::redis::{Queue, QueueError, Redis};
use footfall_shared::service::config::{Config, RedisUrl};

use super::check::Check;
use super::runbook;
use crate::terminal::count;

pub(super) const REDIS: &str = "redis";
pub(super) const MYSQL: &str = "mysql";
pub(super) const CLOCKS: &str = "clocks";
const REDIS_SETTINGS: &str = "redis settings";
const MYSQL_SETTINGS: &str = "mysql settings";
const TABLES: &str = "tables";

pub(super) async fn redis(config: &Config, redis: &Redis) -> Vec<Check> {
    let version = match redis.version().await {
        Ok(version) => version,
        Err(error) => return vec![redis_fails(REDIS, &error)],
    };
    let mut writes = Ok(());
    for shard in Shard::all(config.shards.get()) {
        writes = writes.and(takes_writes(&redis.shard(shard)).await);
        if writes.is_err() {
            break;
        }
    }
    let mut checks = vec![match writes {
        Ok(()) => {
            let places: Vec<String> = config.redis.url.iter().map(RedisUrl::place).collect();
            Check::ok(REDIS, format!("{version} at {} answers and takes writes", places.join(", ")))
        }
        Err(error) => redis_fails(REDIS, &error),
    }];
    match redis.settings().await {
        Ok(findings) => checks.extend(Check::all(REDIS_SETTINGS, findings, "nothing in them endangers views")),
        Err(error) => checks.push(redis_fails(REDIS_SETTINGS, &error)),
    }
    checks
}

async fn takes_writes(queue: &Queue) -> Result<(), QueueError> {
    queue.probe(&queue.state().await?).await.map(|_| ())
}

pub(super) async fn mysql(config: &Config, store: &Store) -> Vec<Check> {
    let version = match store.version().await {
        Ok(version) => version,
        Err(error) => return vec![mysql_fails(MYSQL, &error)],
    };
    let shards = config.shards.get();
    let (tables, settings) = tokio::join!(store.check_schema(shards), store.settings());
    // Without its tables nothing can be tried on them.
    let writes = match &tables {
        Ok(()) => store.probe().await,
        Err(_) => Ok(()),
    };
    let place = config.database.url.place();
    let mut checks = vec![match (&tables, writes) {
        (Ok(()), Ok(())) => Check::ok(MYSQL, format!("{version} at {place} answers and takes writes")),
        (Err(_), _) => Check::ok(MYSQL, format!("{version} at {place} answers")),
        (_, Err(error)) => mysql_fails(MYSQL, &error),
    }];
    match settings {
        Ok(findings) => checks.extend(Check::all(MYSQL_SETTINGS, findings, "nothing in them endangers views")),
        Err(error) => checks.push(mysql_fails(MYSQL_SETTINGS, &error)),
    }
    checks.push(match tables {
        Ok(()) => {
            let shards = count(shards.into(), "shard");
            Check::ok(TABLES, format!("as this version needs them: schema version {SCHEMA_VERSION}, {shards}"))
        }
        Err(error) => mysql_fails(TABLES, &error),
    });
    checks
}

pub(super) async fn clocks(redis: &Redis, store: &Store) -> Vec<Check> {
    let (of_redis, of_mysql) = tokio::join!(redis.clocks(), store.clock());
    let clocks = [("Redis", of_redis.ok()), ("MySQL", of_mysql.ok().map(|clock| clock.into_iter().collect()))];
    let asked: Vec<&str> = clocks.iter().filter(|(_, clock)| clock.is_some()).map(|(name, _)| *name).collect();
    if asked.is_empty() {
        return vec![Check::warning(CLOCKS, "not compared, since neither store has told its time", "mend the stores")];
    }
    let ok = format!("this machine's agrees with {} within five seconds", asked.join(" and "));
    let findings = clocks.into_iter().filter_map(|(_, found)| found).flatten().collect();
    Check::all(CLOCKS, findings, &ok)
}

/// An error of Redis.
pub(super) fn redis_fails(name: &'static str, error: &QueueError) -> Check {
    let QueueError::Redis(_) = error else {
        return Check::problem(name, error.to_string(), runbook::DATA_DAMAGED);
    };
    let next = match error.class() {
        ErrorClass::CacheTransient => {
            format!("it is loading its data, or hangs: run this again in a minute, then {}", runbook::REDIS)
        }
        ErrorClass::CacheReadOnly => {
            format!("let redis.url lead to the master, or free its disk, as its words say: {}", runbook::REDIS)
        }
        ErrorClass::CacheFull => format!("let it empty, or raise its maxmemory: {}", runbook::REDIS_FILLING),
        ErrorClass::CacheCorrupt => runbook::DATA_DAMAGED.to_owned(),
        _ => format!(
            "start it, and see that redis.url leads to it; if it does not start and its log says `Bad file format \
             reading the append only file`, its machine lost power: {}",
            runbook::POWER_CUT
        ),
    };
    Check::problem(name, error.to_string(), next)
}

/// An error of MySQL.
pub(super) fn mysql_fails(name: &'static str, error: &StoreError) -> Check {
    let next = match (error, error.class()) {
        (StoreError::TooLong(_), _) => "run this again when MySQL has less to do".to_owned(),
        (_, ErrorClass::DbSchema) => runbook::SCHEMA.to_owned(),
        (_, ErrorClass::DbBehind) => runbook::MYSQL_BEHIND.to_owned(),
        (_, ErrorClass::DbTransient) => "another client holds a table or a row: see `SHOW PROCESSLIST`".to_owned(),
        _ => format!(
            "start it, make it writable or free its disk, as its words say, and see that database.url leads to it: {}",
            runbook::MYSQL
        ),
    };
    Check::problem(name, error.to_string(), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_step_belongs_to_the_error() {
        for (error, next) in
            [(QueueError::timed_out(), "loading"), (QueueError::Corrupt("x".into()), "FootfallDataDamaged")]
        {
            assert!(redis_fails(REDIS, &error).next.contains(next), "{error}");
        }
        let away = StoreError::Unreachable { place: "db:3306".into(), why: "Connection refused".into() };
        assert!(mysql_fails(MYSQL, &away).next.contains("FootfallMySQLUnreachable"));
        let schema = StoreError::Schema("the table x is missing".into());
        assert!(mysql_fails(TABLES, &schema).next.contains("FootfallSchema"));
    }
}
