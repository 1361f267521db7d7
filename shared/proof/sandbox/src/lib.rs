//! Private servers for development and for tests, that belong to this process alone: a Redis, alone, with Sentinels or as a
//! cluster, and a MariaDB, or a Galera cluster.
//!
//! They run on unix sockets with data in a folder of the caller's choice, so they never meet a server that the machine
//! already runs. They can be stopped, killed, paused, and started again on the same data, and they end with the
//! process that started them, even when that one is killed with `kill -9`.
//!
//! Between them and their clients, a proxy can stand that loses, cuts, holds and delays messages.
//!
//! Everything here blocks, and nothing here knows what the servers are used for.

mod cluster;
mod files;
mod galera;
mod group;
mod mariadb;
mod process;
mod proxy;
mod redis;
mod sentinels;

pub use cluster::{Cluster, ClusterOptions};
pub use files::find_program;
pub use galera::Galera;
pub use mariadb::{MariaDb, MariaDbOptions};
pub use process::{Process, Signal};
pub use proxy::{Action, Cut, Direction, Injection, Message, MySqlCommand, Protocol, Proxy, ProxyMetrics, Upstream};
pub use redis::{AppendFsync, Redis, RedisOptions};
pub use sentinels::{Sentinels, SentinelsOptions};
