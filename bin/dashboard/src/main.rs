//! `footfall-dashboard`: see `--help`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use footfall_dashboard::{Listeners, run};
use footfall_shared::service::{admin, config, lifecycle};

/// Shows what is being read, live: a page, a WebSocket, and JSON.
///
/// Configuration: defaults, then --config FILE (TOML), then the environment, for example
/// FOOTFALL_REDIS__URL, FOOTFALL_DATABASE__URL, FOOTFALL_DASHBOARD__LISTEN.
/// SIGTERM: /readyz says 503, viewers are told to come back, exit 0. A second one, after a second or more, ends at once.
#[derive(Parser)]
#[command(
    name = "footfall-dashboard",
    version,
    after_long_help = config::help(&["redis", "database", "log", "http", "reads", "dashboard"])
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
        let page = lifecycle::bind(config.dashboard.listen).await?;
        let admin = lifecycle::bind(config.dashboard.admin).await?;
        admin::announce(flags.announce.as_deref(), &[("listen", &page), ("admin", &admin)])?;
        run(config, Listeners { page, admin }, lifecycle).await
    })
}
