//! Whether a server keeps what it is given: its settings, and what else is in it.

use futures_util::future::join_all;
use redis::InfoDict;

use super::calls::{Calls, Redis};
use super::errors::Result;
use super::queue::Queue;
use crate::protocol::keys;
use crate::service::clock;
use crate::service::finding::Finding;

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
fn foreign(info: &InfoDict) -> Option<Finding> {
    let (_, name, why) = OTHERS.iter().find(|(field, ..)| info.get::<String>(field).is_some())?;
    let next = format!("use Redis {REDIS_MIN}.0 or later, or Valkey");
    Some(Finding::critical(format!("this is {name}, not Redis: it {why}"), next))
}

/// What there is to say of a server, as it answers.
struct Answers {
    info: InfoDict,
    /// `CLIENT INFO`.
    client: String,
    /// Some of its keys.
    keys: Vec<Vec<u8>>,
    /// None where it is not told.
    append_fsync: Option<String>,
    /// Whether the slots of a cluster are followed.
    is_cluster: bool,
}

/// What of a server endangers views. Not known is not wrong.
fn findings(Answers { info, client, keys, append_fsync, is_cluster }: &Answers) -> Vec<Finding> {
    let mut findings = Vec::new();
    let word = |field: &str| info.get::<String>(field).unwrap_or_default();
    let version = word("redis_version");
    if version.split('.').next().and_then(|major| major.parse().ok()).is_some_and(|major: u32| major < REDIS_MIN) {
        let what = format!("Redis has version {version}, which cannot run the scripts");
        findings.push(Finding::critical(what, format!("install {REDIS_MIN}.0 or later")));
    }
    let policy = word("maxmemory_policy");
    if !matches!(policy.as_str(), "" | "noeviction") {
        let what = format!(
            "Redis has the maxmemory-policy {policy}: when its memory is full it would throw away views that MySQL does \
             not have yet"
        );
        findings.push(Finding::critical(what, "set it to noeviction"));
    }
    if info.get::<u8>("aof_enabled") == Some(0) {
        let what = "Redis keeps no append-only file: when it ends, views come back from the journals only";
        findings.push(Finding::degraded(what, "set appendonly to yes"));
    } else if append_fsync.as_deref() == Some("no") {
        let what = "Redis has appendfsync no: when its machine fails, the views of half a minute come back from the \
                    journals only";
        findings.push(Finding::degraded(what, "set it to everysec"));
    }
    for (field, written) in [
        ("aof_last_write_status", "append-only file"),
        ("aof_last_bgrewrite_status", "append-only file anew"),
        ("rdb_last_bgsave_status", "snapshot"),
    ] {
        if !matches!(word(field).as_str(), "" | "ok") {
            let what =
                format!("Redis could not write its {written} the last time: it is about to refuse views, or does");
            findings.push(Finding::degraded(what, "look at its log and free its disk"));
        }
    }
    if info.get::<String>("role").is_some_and(|role| role == "slave") {
        let next = "let redis.url lead to the master, or name the Sentinels that know it in redis.sentinels";
        findings.push(Finding::degraded("Redis is a replica, and takes no views", next));
    }
    if !is_cluster && info.get::<u8>("cluster_enabled") == Some(1) {
        let what = "Redis is a node of a cluster, and answers for the keys of its own slots only";
        findings.push(Finding::degraded(what, "set redis.topology to cluster"));
    }
    let ours = client.split_whitespace().find_map(|field| field.strip_prefix("db=")?.parse::<usize>().ok());
    let is_used = |database: &usize| info.get::<String>(&format!("db{database}")).is_some();
    let database = ours.and_then(|ours| (0..DATABASES).find(|database| *database != ours && is_used(database)));
    let key = keys.iter().find(|key| !key.starts_with(keys::PREFIX.as_bytes()));
    let whose = match (key, database) {
        (Some(key), _) => format!("the key {}", String::from_utf8_lossy(key).escape_debug()),
        (None, Some(database)) => format!("the keys of database {database}"),
        (None, None) => return findings,
    };
    let what = format!(
        "Redis is shared: {whose} is not Footfall's. Who fills it, empties it or keeps it busy does so to views too"
    );
    findings.push(Finding::degraded(what, "give Footfall an instance of its own"));
    findings
}

impl Redis {
    /// What of the servers endangers views, and how much.
    pub async fn findings(&self) -> Result<Vec<Finding>> {
        let mut findings = self.settings().await?;
        findings.extend(self.clocks().await?);
        Ok(findings)
    }

    /// The same without their clocks: version, settings, and what else is in them.
    pub async fn settings(&self) -> Result<Vec<Finding>> {
        self.of_each(async |server| settings_of(server, self.is_cluster).await).await
    }

    /// What there is to say of the servers' clocks.
    pub async fn clocks(&self) -> Result<Vec<Finding>> {
        self.of_each(async |server| Ok(clock_of(server).await?.into_iter().collect())).await
    }

    /// Which version answers, in words.
    pub async fn version(&self) -> Result<String> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("INFO").arg("server");
        let (info,): (InfoDict,) = self.home(keys::PRESENCE).commands(pipeline).await?;
        Ok(format!("Redis {}", info.get::<String>("redis_version").unwrap_or_default()))
    }

    /// What is found at each server; where there are several, with its place.
    async fn of_each(&self, look: impl AsyncFn(&Calls) -> Result<Vec<Finding>>) -> Result<Vec<Finding>> {
        let masters = self.masters().await?;
        if let [(_, server)] = &masters[..] {
            return look(server).await;
        }
        let each = masters.iter().map(async |(place, server)| {
            // One that is away hides nothing of the others.
            let findings = look(server).await.unwrap_or_else(|error| {
                vec![Finding::degraded(
                    format!("it could not be looked at: {error}"),
                    "start it, or mend the way to it",
                )]
            });
            let with_place = |finding: Finding| Finding { what: format!("{place}: {}", finding.what), ..finding };
            findings.into_iter().map(with_place).collect::<Vec<_>>()
        });
        Ok(join_all(each).await.concat())
    }
}

async fn settings_of(server: &Calls, is_cluster: bool) -> Result<Vec<Finding>> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("INFO");
    let (info,): (InfoDict,) = server.commands(pipeline).await?;
    // Others may not even know what is asked next.
    if let Some(finding) = foreign(&info) {
        return Ok(vec![finding]);
    }
    let mut pipeline = redis::pipe();
    pipeline.cmd("CLIENT").arg("INFO").cmd("SCAN").arg(0).arg("COUNT").arg(LOOKED_AT);
    let (client, (_, keys)): (String, (u64, Vec<Vec<u8>>)) = server.commands(pipeline).await?;
    let append_fsync = setting(server, "appendfsync").await;
    Ok(findings(&Answers { info, client, keys, append_fsync, is_cluster }))
}

async fn clock_of(server: &Calls) -> Result<Option<Finding>> {
    let asked = clock::unix_ms();
    let mut pipeline = redis::pipe();
    pipeline.cmd("TIME");
    let ((seconds, micros),): ((u64, u64),) = server.commands(pipeline).await?;
    Ok(clock::difference("Redis", seconds.saturating_mul(1_000).saturating_add(micros / 1_000), asked))
}

/// A setting; none where the server does not tell, as hosted ones often do not.
async fn setting(server: &Calls, name: &str) -> Option<String> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("CONFIG").arg("GET").arg(name);
    let ((_, value),): ((String, String),) = server.commands(pipeline).await.ok()?;
    Some(value)
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
    use crate::protocol::errors::Severity;

    #[test]
    fn what_endangers_views_is_found() {
        let safe = "redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\naof_last_write_status:ok\r\n\
                    rdb_last_bgsave_status:ok\r\ndb3:keys=9,expires=0\r\n";
        let ours = keys::ShardKeys::new(Shard(0)).meta;
        let levels = |answers: &Answers| -> Vec<Severity> {
            findings(answers).into_iter().map(|finding| finding.severity).collect()
        };
        let found = |from: &str, to: &str, keys: &[&[u8]]| {
            let keys: Vec<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
            let (info, client) = (InfoDict::new(&safe.replace(from, to)), "id=4 name= db=3 sub=0".to_owned());
            levels(&Answers { info, client, keys, append_fsync: None, is_cluster: false })
        };
        assert!(found("", "", &[ours.as_bytes()]).is_empty());
        assert!(found("7.0.15", "8.2.0", &[]).is_empty());
        assert_eq!(found("7.0.15", "6.2.14", &[]), [Severity::Critical]);
        assert_eq!(found("noeviction", "allkeys-lru", &[]), [Severity::Critical]);
        assert_eq!(found("aof_", "cluster_enabled:1\r\naof_", &[]), [Severity::Degraded]);
        assert_eq!(found("aof_", "role:slave\r\naof_", &[]), [Severity::Degraded]);
        assert_eq!(found("aof_enabled:1", "aof_enabled:0", &[]), [Severity::Degraded]);
        assert_eq!(found("write_status:ok", "write_status:err", &[]), [Severity::Degraded]);
        assert_eq!(found("bgsave_status:ok", "bgsave_status:err", &[]), [Severity::Degraded]);
        assert_eq!(found("", "", &[ours.as_bytes(), b"session:\xff"]), [Severity::Degraded]);
        assert_eq!(found("db3", "db0:keys=1,expires=0\r\ndb3", &[]), [Severity::Degraded]);
        for (append_fsync, count) in [("everysec", 0), ("always", 0), ("no", 1)] {
            let append_fsync = Some(append_fsync.to_owned());
            let (info, is_cluster) = (InfoDict::new(safe), false);
            let answers = Answers { info, client: String::new(), keys: vec![], append_fsync, is_cluster };
            assert_eq!(levels(&answers).len(), count, "{:?}", answers.append_fsync);
        }
    }

    /// As each of them says of itself.
    #[test]
    fn another_server_is_refused_by_name() {
        let why = |info: &str| foreign(&InfoDict::new(info));
        let dragonfly = "# Server\r\nredis_version:7.4.0\r\ndragonfly_version:df-v1.40.1\r\nredis_mode:standalone\r\n";
        let keydb = "# Server\r\nredis_version:6.3.4\r\nredis_mode:standalone\r\n# KeyDB\r\nmvcc_depth:0\r\n";
        for (name, info) in [("Dragonfly", dragonfly), ("KeyDB", keydb)] {
            let why = why(info).expect(name).to_string();
            assert!(why.starts_with(&format!("this is {name}, not Redis: it ")), "{why}");
            assert!(why.ends_with("use Redis 7.0 or later, or Valkey"), "{why}");
        }
        assert_eq!(why("redis_version:7.0.15\r\nredis_mode:standalone\r\n"), None);
        assert_eq!(why("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n"), None);
    }
}
