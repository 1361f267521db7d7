//! What peers, tables and loads are called in the report.

pub(crate) const BARE: &str = "bare hyper server: the limit";
pub(crate) const CACHED: &str = "one EVALSHA per view, a job moves them to MySQL";
pub(crate) const DIRECT: &str = "two upserts per view";
pub(crate) const QUEUE: &str = "Footfall, flusher stopped";
pub(crate) const ALWAYS: &str = "the same, `appendfsync always`";
pub(crate) const POWER: &str = "the same, `durability = power`";
pub(crate) const WHOLE: &str = "Footfall, all of it";
pub(crate) const MARIADB_ALONE: &str = "MariaDB alone: the limit";
pub(crate) const LIMITS: &str = "bare server, Redis alone, MariaDB alone: the limits";

pub(crate) const VIEWS: &str = "Single views";
pub(crate) const BATCHES: &str = "1,000 views in a request";
pub(crate) const LATENCY: &str = "Answer times on a schedule";
pub(crate) const READS: &str = "Reads of cached articles";
pub(crate) const STEADY: &str = "A steady 20,000 views/s, 1,000 in a request";
pub(crate) const DRAINS: &str = "Views that waited, on their way to MariaDB";
pub(crate) const DRAINS_LOAD: &str = "of 1,000 in a request";
pub(crate) const KILLS: &str = "What moves views to MariaDB is killed (kill -9) and started again, under load";
pub(crate) const KILLS_LOAD: &str = "POST, 64 connections, 5,000 views/s";
pub(crate) const OUTAGE: &str = "MariaDB away, 20,000 views/s all the time";
pub(crate) const SPREAD: &str = "Single views, over several shards and ingests";
