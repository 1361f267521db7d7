//! `footfall-ingest`: see `--help`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use footfall_ingest::{Listeners, run};
use footfall_shared::service::{admin, config, lifecycle};

/// Counts views over HTTP and keeps them in Redis until the flusher has moved them to MySQL.
///
/// Configuration: defaults, then --config FILE (TOML), then the environment, for example
/// FOOTFALL_REDIS__URL, FOOTFALL_DATABASE__URL, FOOTFALL_INGEST__LISTEN.
/// SIGTERM: /readyz says 503, open requests are answered, exit 0. A second one, after a second or more, ends at once.
#[derive(Parser)]
#[command(
    name = "footfall-ingest",
    version,
    after_long_help = config::help(&["redis", "database", "log", "http", "reads", "ingest"])
)]
struct Flags {
    /// The configuration file.
    #[arg(long, env = "FOOTFALL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write the addresses at which this process listens to a file.
    #[arg(long, value_name = "FILE", hide = true)]
    announce: Option<PathBuf>,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    lifecycle::main(flags.config.as_deref(), |config, lifecycle| async move {
        let public = lifecycle::bind(config.ingest.listen).await?;
        let admin = lifecycle::bind(config.ingest.admin).await?;
        admin::announce(flags.announce.as_deref(), &[("listen", &public), ("admin", &admin)])?;
        run(config, Listeners { public, admin }, lifecycle).await
    })
}
