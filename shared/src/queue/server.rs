//! The server itself: how it is reached, whether it keeps what it is given, and what is in it beside the shards.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, InfoDict, RedisError, ServerErrorKind,
    TlsCertificates, Value,
};
use tokio::sync::Mutex;

use super::scripts::{NOTE, SALT};
use super::{Result, Script};
use crate::contain::contained;
use crate::grading::Level;
use crate::presence::Report;
use crate::telemetry::{self, IntGaugeVec};
use crate::{clock, config, keys};

/// A request that is on its way.
pub type Answer<'a> = Pin<Box<dyn Future<Output = std::result::Result<Value, RedisError>> + Send + 'a>>;

/// What runs scripts and commands: a Redis server, or in a simulation what behaves like one.
pub trait Server: Send + Sync {
    /// Runs a script; `call` is the command that does so if the server knows it.
    fn script(&self, script: &'static Script, call: Cmd) -> Answer<'_>;
    /// Runs commands in one go; answers an array of their replies.
    fn pipeline(&self, pipeline: redis::Pipeline) -> Answer<'_>;
}

/// A Redis server, reached over one connection that is made when needed and made again after an
/// error that leaves its state unknown.
struct Reached {
    client: Client,
    /// Address or socket.
    place: String,
    timeout: Duration,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Reached {
    async fn connection(&self) -> std::result::Result<MultiplexedConnection, RedisError> {
        let connect = async {
            let mut slot = self.connection.lock().await;
            if let Some(connection) = &*slot {
                return Ok(connection.clone());
            }
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(self.timeout))
                .set_response_timeout(Some(self.timeout));
            let connection = self.client.get_multiplexed_async_connection_with_config(&config).await;
            Ok(slot.insert(connection.map_err(|error| at(&self.place, &error))?).clone())
        };
        let timed_out = |_| {
            let sentence = format!("no connection to {} within {:?}", self.place, self.timeout);
            RedisError::from(io::Error::new(io::ErrorKind::TimedOut, sentence))
        };
        tokio::time::timeout(self.timeout, connect).await.map_err(timed_out)?
    }

    /// The client library panics over some answers that are none, instead of saying so.
    async fn understood<T>(
        &self,
        work: impl Future<Output = std::result::Result<T, RedisError>>,
    ) -> std::result::Result<T, RedisError> {
        match contained(work).await {
            Ok(result) => result,
            Err(why) => {
                *self.connection.lock().await = None;
                Err(io::Error::other(format!("the answer makes no sense ({why})")).into())
            }
        }
    }

    async fn look_at(&self, result: &std::result::Result<Value, RedisError>) {
        if result.as_ref().is_err_and(must_reconnect) {
            *self.connection.lock().await = None;
        }
    }
}

impl Server for Reached {
    fn script(&self, script: &'static Script, call: Cmd) -> Answer<'_> {
        Box::pin(self.understood(async move {
            let mut connection = self.connection().await?;
            let is_unknown = |error: &RedisError| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript);
            let mut result = call.query_async(&mut connection).await;
            if result.as_ref().is_err_and(is_unknown) {
                result = match script.prepared.load_async(&mut connection).await {
                    Ok(_) => call.query_async(&mut connection).await,
                    Err(error) => Err(error),
                };
            }
            self.look_at(&result).await;
            result
        }))
    }

    fn pipeline(&self, pipeline: redis::Pipeline) -> Answer<'_> {
        Box::pin(self.understood(async move {
            let mut connection = self.connection().await?;
            let result = pipeline.query_async(&mut connection).await;
            self.look_at(&result).await;
            result
        }))
    }
}

/// What went wrong with a connection, of the same kind, and where.
fn at(place: &str, error: &RedisError) -> RedisError {
    if error.is_io_error() {
        let kind = match error.is_timeout() {
            true => io::ErrorKind::TimedOut,
            false if error.is_connection_refusal() => io::ErrorKind::ConnectionRefused,
            false => io::ErrorKind::NotConnected,
        };
        return io::Error::new(kind, format!("{place}: {error}")).into();
    }
    if error.kind() == ErrorKind::AuthenticationFailed {
        // The library has left out what Redis said.
        let sentence = format!("{place} refuses the user or the password of redis.url");
        return redis::make_extension_error("WRONGPASS".to_owned(), Some(sentence));
    }
    RedisError::from((error.kind(), "no connection", format!("{place}: {error}")))
}

pub(super) fn client(redis: &config::Redis) -> std::result::Result<Client, RedisError> {
    let url = redis.url.with_password();
    let Some(ca) = &redis.ca else { return Client::open(url) };
    let root_cert = Some(config::read_bytes(ca).map_err(io::Error::other)?);
    Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert })
}

/// How many keys are looked at for some of others.
const LOOKED_AT: usize = 1_000;

/// Databases of a server, unless its `databases` says otherwise.
const DATABASES: usize = 16;

/// The first version that knows a script's flags.
const REDIS_MIN: u32 = 7;

/// What `INFO` and `CLIENT INFO` say of a server that endangers views, and a look at some of its keys.
fn findings(info: &InfoDict, client: &str, keys: &[Vec<u8>]) -> Vec<(Level, String)> {
    let mut findings = Vec::new();
    // Not known is not wrong.
    let version: String = info.get("redis_version").unwrap_or_default();
    if version.split('.').next().and_then(|major| major.parse().ok()).is_some_and(|major: u32| major < REDIS_MIN) {
        findings.push((Level::Critical, format!("Redis has version {version}: it must be {REDIS_MIN}.0 or later")));
    }
    let policy: String = info.get("maxmemory_policy").unwrap_or_default();
    if !matches!(policy.as_str(), "" | "noeviction") {
        let sentence = format!(
            "Redis has the maxmemory-policy {policy}: when its memory is full it would throw away views that MySQL does \
             not have yet; set it to noeviction"
        );
        findings.push((Level::Critical, sentence));
    }
    if info.get::<u8>("aof_enabled") == Some(0) {
        let sentence = "Redis keeps no append-only file: when it ends, views come back from the journals only; set \
                        appendonly to yes";
        findings.push((Level::Degraded, sentence.into()));
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
    findings.push((Level::Degraded, sentence));
    findings
}

static KEYSPACE: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "Redis's own counts of key look-ups since it started, as it told them last.";
    telemetry::gauges("footfall_redis_keyspace", help, "result")
});

/// Redis. Cheap to clone.
#[derive(Clone)]
pub struct Redis {
    pub(super) server: Arc<dyn Server>,
}

impl Redis {
    /// Takes the URL apart; connects later.
    pub fn new(redis: &config::Redis, timeout: Duration) -> std::result::Result<Self, RedisError> {
        let client = client(redis)?;
        let place = redis.url.place();
        Ok(Self { server: Arc::new(Reached { client, place, timeout, connection: Mutex::default() }) })
    }

    /// What answers in the place of a server.
    pub fn simulated(server: Arc<dyn Server>) -> Self {
        Self { server }
    }

    pub(super) async fn commands<T: FromRedisValue>(
        &self,
        pipeline: redis::Pipeline,
    ) -> std::result::Result<T, RedisError> {
        Ok(redis::from_redis_value(self.server.pipeline(pipeline).await?)?)
    }

    /// What of the server's settings endangers views, and how much.
    pub async fn findings(&self) -> Result<Vec<(Level, String)>> {
        let asked = clock::unix_ms();
        let mut pipeline = redis::pipe();
        pipeline.cmd("INFO").cmd("CLIENT").arg("INFO").cmd("SCAN").arg(0).arg("COUNT").arg(LOOKED_AT);
        let (info, client, (_, keys)): (InfoDict, String, (u64, Vec<Vec<u8>>)) = self.commands(pipeline).await?;
        let mut findings = findings(&info, &client, &keys);
        let their_time: Option<u64> = info.get("server_time_usec");
        let difference = their_time.and_then(|micros| clock::difference("Redis", micros / 1_000, asked));
        findings.extend(difference.map(|sentence| (Level::Degraded, sentence)));
        Ok(findings)
    }

    /// Memory in use and the most that may be used, in bytes; 0 for no limit.
    pub async fn memory(&self) -> Result<(u64, u64)> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("INFO").arg("memory");
        let (info,): (InfoDict,) = self.commands(pipeline).await?;
        Ok((info.get("used_memory").unwrap_or(0), info.get("maxmemory").unwrap_or(0)))
    }

    /// Redis's own counts of key look-ups that hit and that missed, since it started.
    pub async fn keyspace_hits(&self) -> Result<(u64, u64)> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("INFO").arg("stats");
        let (info,): (InfoDict,) = self.commands(pipeline).await?;
        let counts = ["hits", "misses"].map(|result| {
            let count: i64 = info.get(&format!("keyspace_{result}")).unwrap_or(0);
            KEYSPACE.with_label_values(&[result]).set(count);
            count.unsigned_abs()
        });
        Ok(counts.into())
    }

    /// They are not known any more: nothing is better than what was true before.
    pub fn forget_hits(&self) {
        KEYSPACE.reset();
    }

    /// Adds to the shared counts of cache-first reads of one interface.
    pub async fn add_reads(&self, interface: &str, hits: u64, misses: u64) -> Result<()> {
        let mut pipeline = redis::pipe();
        pipeline
            .hincr(keys::READS, format!("{interface}:hits"), hits)
            .ignore()
            .hincr(keys::READS, format!("{interface}:misses"), misses)
            .ignore();
        Ok(self.commands(pipeline).await?)
    }

    /// Hits and misses of the cache-first reads of all processes, by interface.
    pub async fn reads(&self) -> Result<BTreeMap<String, (u64, u64)>> {
        let mut pipeline = redis::pipe();
        pipeline.hgetall(keys::READS);
        let (counts,): (BTreeMap<String, u64>,) = self.commands(pipeline).await?;
        let mut reads: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for (name, count) in counts {
            match name.split_once(':') {
                Some((interface, "hits")) => reads.entry(interface.into()).or_default().0 = count,
                Some((interface, "misses")) => reads.entry(interface.into()).or_default().1 = count,
                _ => {}
            }
        }
        Ok(reads)
    }

    /// The salt of a day (days since 1970 UTC): the first that a process offered. It lives so long at most.
    pub async fn salt(&self, day: u64, offered: &str, life: Duration) -> Result<String> {
        let mut call = SALT.call([&*keys::salt(day)]);
        call.arg(offered).arg(u64::try_from(life.as_millis()).unwrap_or(u64::MAX));
        Ok(redis::from_redis_value(self.server.script(&SALT, call).await?).map_err(RedisError::from)?)
    }

    /// Sets fields of hashes: `(key, field, value)`.
    pub(super) async fn note<const N: usize>(&self, notes: [(&str, &str, &str); N]) -> Result<()> {
        let mut call = NOTE.call(notes.map(|(key, ..)| key));
        for (_, field, value) in notes {
            call.arg(field).arg(value);
        }
        self.server.script(&NOTE, call).await?;
        Ok(())
    }

    /// Deletes the salt of a day; answers whether there was one, as to one process only.
    pub async fn end_salt(&self, day: u64) -> Result<bool> {
        let mut pipeline = redis::pipe();
        pipeline.del(keys::salt(day));
        let (deleted,): (bool,) = self.commands(pipeline).await?;
        Ok(deleted)
    }

    /// Tells whoever watches that a process is there.
    pub async fn report_presence(&self, report: &Report) -> Result<()> {
        let json = serde_json::to_string(report).expect("strings and numbers always have a JSON form");
        self.note([(keys::PRESENCE, &presence_field(report), &json)]).await
    }

    /// Takes the report of a process back that has ended, or was not heard for long.
    pub async fn forget_presence(&self, report: &Report) -> Result<()> {
        let mut pipeline = redis::pipe();
        pipeline.hdel(keys::PRESENCE, presence_field(report)).ignore();
        Ok(self.commands(pipeline).await?)
    }

    /// The last report of each process, in the order of role and name. What another version may have written, and this
    /// one cannot read, is left out.
    pub async fn presence(&self) -> Result<Vec<Report>> {
        let mut pipeline = redis::pipe();
        pipeline.hgetall(keys::PRESENCE);
        let (reports,): (BTreeMap<String, String>,) = self.commands(pipeline).await?;
        Ok(reports.values().filter_map(|report| serde_json::from_str(report).ok()).collect())
    }

    /// Deletes every key of Footfall and nothing else; answers how many. For `footfall clean`.
    pub async fn delete_everything(&self) -> Result<u64> {
        let mut cursor = 0u64;
        let mut deleted = 0;
        loop {
            let mut scan = redis::pipe();
            scan.cmd("SCAN").arg(cursor).arg("MATCH").arg(format!("{}*", keys::PREFIX)).arg("COUNT").arg(1000);
            let ((next, names),): ((u64, Vec<String>),) = self.commands(scan).await?;
            if !names.is_empty() {
                let mut unlink = redis::pipe();
                unlink.unlink(&names);
                let (count,): (u64,) = self.commands(unlink).await?;
                deleted += count;
            }
            if next == 0 {
                return Ok(deleted);
            }
            cursor = next;
        }
    }

    // ---- For `footfall erase`, and for what must not outlive its day in a file

    /// Has Redis write its append-only file anew from what it holds now. Answers false if it keeps no such file.
    pub async fn rewrite_file(&self) -> Result<bool> {
        let info = self.persistence().await?;
        if info.get::<u8>("aof_enabled") != Some(1) {
            return Ok(false);
        }
        let mut pipeline = redis::pipe();
        pipeline.cmd("BGREWRITEAOF").ignore();
        self.commands::<()>(pipeline).await?;
        Ok(true)
    }

    /// Whether Redis is at [`Redis::rewrite_file`], or is about to begin.
    pub async fn is_rewriting_file(&self) -> Result<bool> {
        let info = self.persistence().await?;
        let is_on = |field| info.get::<u8>(field) == Some(1);
        Ok(is_on("aof_rewrite_in_progress") || is_on("aof_rewrite_scheduled"))
    }

    async fn persistence(&self) -> Result<InfoDict> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("INFO").arg("persistence");
        let (info,): (InfoDict,) = self.commands(pipeline).await?;
        Ok(info)
    }
}

fn presence_field(report: &Report) -> String {
    format!("{} {}", report.role, report.name)
}

/// A time-out does not cancel the command, and a server that became read-only is not the master any
/// more: a new connection is the way out of both.
fn must_reconnect(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_unrecoverable_error()
        || matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::Shard;

    /// The configuration asks its own rules only, which must not be wider than the client's.
    #[test]
    fn the_client_takes_every_url_that_the_configuration_takes() {
        for url in [
            "redis://h",
            "redis://u:p%40%23%2F%3F%25@h:6380/15",
            "redis://:p@[::1]/65535",
            "redis://127.0.0.1:6379/",
            "rediss://:p@redis.example:6380/0",
            "unix:///run/redis.sock",
            "unix:///run/redis%20one.sock?db=1&user=u&pass=p@ss%2B",
        ] {
            client(&config::Redis { url: url.parse().expect(url), ..config::Redis::default() }).expect(url);
        }
        for url in ["redis://0.0.0.0", "redis://[::]:6379", "redis://h/65536", "redis://h/-1", "redis://h/0?protocol=4"]
        {
            url.parse::<config::RedisUrl>().expect_err(url);
        }
    }

    #[test]
    fn what_endangers_views_is_found() {
        let safe = "redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\ndb3:keys=9,expires=0\r\n";
        let ours = keys::ShardKeys::new(Shard(0)).meta;
        let found = |from: &str, to: &str, keys: &[&[u8]]| -> Vec<Level> {
            let keys: Vec<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
            let findings = findings(&InfoDict::new(&safe.replace(from, to)), "id=4 name= db=3 sub=0", &keys);
            findings.into_iter().map(|(level, _)| level).collect()
        };
        assert!(found("", "", &[ours.as_bytes()]).is_empty());
        assert!(found("7.0.15", "8.2.0", &[]).is_empty());
        assert_eq!(found("7.0.15", "6.2.14", &[]), [Level::Critical]);
        assert_eq!(found("noeviction", "allkeys-lru", &[]), [Level::Critical]);
        assert_eq!(found("aof_enabled:1", "aof_enabled:0", &[]), [Level::Degraded]);
        assert_eq!(found("", "", &[ours.as_bytes(), b"session:\xff"]), [Level::Degraded]);
        assert_eq!(found("db3", "db0:keys=1,expires=0\r\ndb3", &[]), [Level::Degraded]);
    }
}
