//! Whether a server keeps what it is given: its settings, and what else is in it.

use futures_util::future::join_all;
use redis::InfoDict;

use super::calls::{Calls, Redis};
use super::errors::Result;
use super::queue::Queue;
use crate::protocol::errors::Severity;
use crate::protocol::keys;
use crate::service::clock;

/// How many keys are looked at for some of others.
const LOOKED_AT: usize = 1_000;

/// Databases of a server, unless its `databases` says otherwise.
const DATABASES: usize = 16;

/// The first version that knows a script's flags.
const REDIS_MIN: u32 = 7;

/// Servers that speak as Redis does, and lack what the log rests on: the field of `INFO` that only they have, their name, and
/// what they lack.
const OTHERS: [(&str, &str, &str); 2] = [
    ("dragonfly_version", "Dragonfly", "keeps no append-only file, and takes scripts without Redis's flags"),
    ("mvcc_depth", "KeyDB", "is as Redis was before version 7, whose scripts have no flags"),
];

/// Which other server it is, and why it cannot be used.
fn foreign(info: &InfoDict) -> Option<String> {
    let (_, name, why) = OTHERS.iter().find(|(field, ..)| info.get::<String>(field).is_some())?;
    Some(format!("this is {name}, not Redis: it {why}; use Redis {REDIS_MIN}.0 or later, or Valkey"))
}

/// What `INFO` and `CLIENT INFO` say of a server that endangers views, and a look at some of its keys.
fn findings(info: &InfoDict, client: &str, keys: &[Vec<u8>]) -> Vec<(Severity, String)> {
    let mut findings = Vec::new();
    // Not known is not wrong.
    let version: String = info.get("redis_version").unwrap_or_default();
    if version.split('.').next().and_then(|major| major.parse().ok()).is_some_and(|major: u32| major < REDIS_MIN) {
        findings.push((Severity::Critical, format!("Redis has version {version}: it must be {REDIS_MIN}.0 or later")));
    }
    let policy: String = info.get("maxmemory_policy").unwrap_or_default();
    if !matches!(policy.as_str(), "" | "noeviction") {
        let sentence = format!(
            "Redis has the maxmemory-policy {policy}: when its memory is full it would throw away views that MySQL does \
             not have yet; set it to noeviction"
        );
        findings.push((Severity::Critical, sentence));
    }
    if info.get::<u8>("aof_enabled") == Some(0) {
        let sentence = "Redis keeps no append-only file: when it ends, views come back from the journals only; set \
                        appendonly to yes";
        findings.push((Severity::Degraded, sentence.into()));
    }
    if info.get::<String>("role").is_some_and(|role| role == "slave") {
        let sentence = "Redis is a replica, and takes no views: let redis.url lead to the master, or name the Sentinels that \
                        know it in redis.sentinels";
        findings.push((Severity::Degraded, sentence.into()));
    }
    let ours = client.split_whitespace().find_map(|field| field.strip_prefix("db=")?.parse::<usize>().ok());
    let is_used = |database: &usize| info.get::<String>(&format!("db{database}")).is_some();
    let database = ours.and_then(|ours| (0..DATABASES).find(|database| *database != ours && is_used(database)));
    let key = keys.iter().find(|key| !key.starts_with(keys::PREFIX.as_bytes()));
    let what = match (key, database) {
        (Some(key), _) => format!("the key {}", String::from_utf8_lossy(key).escape_debug()),
        (None, Some(database)) => format!("the keys of database {database}"),
        (None, None) => return findings,
    };
    let sentence = format!(
        "Redis is shared: {what} is not Footfall's. Who fills it, empties it or keeps it busy does so to views too; give \
         Footfall an instance of its own"
    );
    findings.push((Severity::Degraded, sentence));
    findings
}

impl Redis {
    /// What of the servers' settings endangers views, and how much.
    pub async fn findings(&self) -> Result<Vec<(Severity, String)>> {
        let masters = self.masters().await?;
        if let [(_, server)] = &masters[..] {
            return findings_of(server).await;
        }
        let each = masters.iter().map(async |(place, server)| {
            // One that is away hides nothing of the others.
            let findings = findings_of(server).await.unwrap_or_else(|error| {
                vec![(Severity::Degraded, format!("the settings could not be checked: {error}"))]
            });
            findings
                .into_iter()
                .map(|(severity, sentence)| (severity, format!("{place}: {sentence}")))
                .collect::<Vec<_>>()
        });
        Ok(join_all(each).await.concat())
    }
}

async fn findings_of(server: &Calls) -> Result<Vec<(Severity, String)>> {
    let asked = clock::unix_ms();
    let mut pipeline = redis::pipe();
    pipeline.cmd("INFO");
    let (info,): (InfoDict,) = server.commands(pipeline).await?;
    // Others may not even know what is asked next.
    if let Some(sentence) = foreign(&info) {
        return Ok(vec![(Severity::Critical, sentence)]);
    }
    let mut pipeline = redis::pipe();
    pipeline.cmd("CLIENT").arg("INFO").cmd("SCAN").arg(0).arg("COUNT").arg(LOOKED_AT);
    let (client, (_, keys)): (String, (u64, Vec<Vec<u8>>)) = server.commands(pipeline).await?;
    let mut findings = findings(&info, &client, &keys);
    let their_time: Option<u64> = info.get("server_time_usec");
    let difference = their_time.and_then(|micros| clock::difference("Redis", micros / 1_000, asked));
    findings.extend(difference.map(|sentence| (Severity::Degraded, sentence)));
    Ok(findings)
}

impl Queue {
    /// Memory in use and the most that may be used, in bytes; 0 for no limit.
    pub async fn memory(&self) -> Result<(u64, u64)> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("INFO").arg("memory");
        let (info,): (InfoDict,) = self.calls.commands(pipeline).await?;
        Ok((info.get("used_memory").unwrap_or(0), info.get("maxmemory").unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Shard;

    #[test]
    fn what_endangers_views_is_found() {
        let safe = "redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\ndb3:keys=9,expires=0\r\n";
        let ours = keys::ShardKeys::new(Shard(0)).meta;
        let found = |from: &str, to: &str, keys: &[&[u8]]| -> Vec<Severity> {
            let keys: Vec<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
            let findings = findings(&InfoDict::new(&safe.replace(from, to)), "id=4 name= db=3 sub=0", &keys);
            findings.into_iter().map(|(level, _)| level).collect()
        };
        assert!(found("", "", &[ours.as_bytes()]).is_empty());
        assert!(found("7.0.15", "8.2.0", &[]).is_empty());
        assert_eq!(found("7.0.15", "6.2.14", &[]), [Severity::Critical]);
        assert_eq!(found("noeviction", "allkeys-lru", &[]), [Severity::Critical]);
        assert_eq!(found("aof_", "role:slave\r\naof_", &[]), [Severity::Degraded]);
        assert_eq!(found("aof_enabled:1", "aof_enabled:0", &[]), [Severity::Degraded]);
        assert_eq!(found("", "", &[ours.as_bytes(), b"session:\xff"]), [Severity::Degraded]);
        assert_eq!(found("db3", "db0:keys=1,expires=0\r\ndb3", &[]), [Severity::Degraded]);
    }

    /// As each of them says of itself.
    #[test]
    fn another_server_is_refused_by_name() {
        let why = |info: &str| foreign(&InfoDict::new(info));
        let dragonfly = "# Server\r\nredis_version:7.4.0\r\ndragonfly_version:df-v1.40.1\r\nredis_mode:standalone\r\n";
        let keydb = "# Server\r\nredis_version:6.3.4\r\nredis_mode:standalone\r\n# KeyDB\r\nmvcc_depth:0\r\n";
        for (name, info) in [("Dragonfly", dragonfly), ("KeyDB", keydb)] {
            let why = why(info).expect(name);
            assert!(why.starts_with(&format!("this is {name}, not Redis: it ")), "{why}");
            assert!(why.ends_with("use Redis 7.0 or later, or Valkey"), "{why}");
        }
        assert_eq!(why("redis_version:7.0.15\r\nredis_mode:standalone\r\n"), None);
        assert_eq!(why("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n"), None);
    }
}
