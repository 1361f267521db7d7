//! How a process is configured, lives, is watched, and answers over HTTP.

pub mod admin;
pub mod breaker;
pub mod clock;
pub mod config;
pub mod contain;
pub mod finding;
pub mod http;
pub mod lifecycle;
pub mod limit;
pub mod logs;
pub mod paths;
pub mod proxies;
pub mod random;
pub mod telemetry;
