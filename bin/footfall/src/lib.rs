//! `footfall`: the operator's tool. One file per command.

// They panic when nobody reads, or a disk is full.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod accept_restore;
mod aside;
mod check_config;
mod clean;
mod doctor;
mod drill;
mod erase;
mod export;
mod failure;
mod forget;
mod import;
mod init;
mod interrupt;
mod load;
mod quarantine;
mod terminal;
mod url;
mod verify;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use footfall_shared::service::config::Config;
use footfall_shared::service::contain::{self, contained};
use footfall_shared::service::logs;

use crate::failure::Failure;
use crate::interrupt::Interrupt;

pub use import::{Imported, imported};

/// What a command answers: the exit code of the process, or why it could not do its work.
type Result<T = ExitCode> = std::result::Result<T, Failure>;

/// A command did its work and found a difference, or had to leave something; 0 is the same without one.
const DIFFERENCE_FOUND: u8 = 1;
/// A command was ended by a signal before its work was done, as a shell says it of SIGINT.
const INTERRUPTED: u8 = 130;

/// Sets Footfall up, watches it, loads it, and proves that it counted every view once.
///
/// Settings come from the file of --config and from the environment, which wins: FOOTFALL_REDIS__URL sets `url` in
/// `[redis]`, and FOOTFALL_REDIS__URL_FILE names a file that holds it. `footfall check-config` shows what is in force.
///
/// Exit codes: 0 done, 1 a difference was found or something had to stay, 2 wrong usage, 69 a service or a disk failed,
/// 78 wrong configuration, 130 interrupted. What was done, or why not, is the last line.
#[derive(Parser)]
#[command(name = "footfall", version, max_term_width = 120)]
struct Cli {
    /// TOML file with settings
    #[arg(long, global = true, value_name = "FILE", env = "FOOTFALL_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Doctor(doctor::Args),
    Init(init::Args),
    Clean(clean::Args),
    #[command(visible_alias = "print-config")]
    CheckConfig(check_config::Args),
    Watch(watch::Args),
    Load(load::Args),
    Verify(verify::Args),
    Quarantine(quarantine::Args),
    Erase(erase::Args),
    Forget(forget::Args),
    AcceptRestore(accept_restore::Args),
    Import(import::Args),
    Export(export::Args),
    Drill(drill::Args),
}

/// Does what the command line says. One thread: `load` shares its machine with what it measures, and the other commands
/// only wait.
#[tokio::main(flavor = "current_thread")]
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    std::panic::set_hook(Box::new(|panic| {
        if !contain::contains(panic) {
            logs::last_words(panic);
        }
    }));
    let work = async {
        match cli.command.when_interrupted() {
            Some(sentence) => run_until_interrupted(cli, sentence).await,
            None => run(cli).await,
        }
    };
    let result = contained(work).await.unwrap_or_else(|why| {
        Err(Failure::Dependency(format!(
            "a store has answered what makes no sense, or this is a mistake of Footfall's: {why}"
        )))
    });
    result.unwrap_or_else(|failure| {
        terminal::note(format_args!("error: {failure}"));
        failure.exit_code()
    })
}

async fn run_until_interrupted(cli: Cli, sentence: &str) -> Result {
    let interrupt = Interrupt::listen()?;
    tokio::select! {
        result = run(cli) => result,
        () = interrupt.came() => {
            Err(Failure::Interrupted(format!("interrupted: {sentence}")))
        }
    }
}

impl Command {
    /// What became of the work of a command that a signal cuts off; none if it hears signals itself.
    fn when_interrupted(&self) -> Option<&'static str> {
        Some(match self {
            Self::Watch(_) | Self::Load(_) | Self::Import(_) | Self::Drill(_) => return None,
            Self::Verify(args) if args.is_live() => return None,
            Self::CheckConfig(_) | Self::Doctor(_) => "not everything was checked",
            Self::Verify(_) => "nothing can be said yet",
            Self::Init(_) => "the database may be set up in part; run `footfall init` once more",
            Self::Clean(_) => "some counts may be deleted, others not; run `footfall clean` once more",
            Self::Quarantine(_) => {
                "each entry was dealt with or stays, none was counted twice; `footfall quarantine list` shows what is left"
            }
            Self::Erase(_) => "the user may be erased in part; run the same once more",
            Self::Forget(_) => "some of the articles may be forgotten, others not; run the same once more",
            Self::AcceptRestore(_) => {
                "only the shards that were named as going on were changed; run the same once more"
            }
            Self::Export(_) => "not all was written, and no file was made",
        })
    }
}

async fn run(cli: Cli) -> Result {
    let file = cli.config.as_deref();
    let load = || Config::load(file, std::env::vars_os());
    match cli.command {
        Command::Doctor(args) => Box::pin(doctor::run(load(), file, &args)).await,
        Command::Init(args) => init::run(&load()?, &args).await,
        Command::Clean(args) => clean::run(&load()?, &args).await,
        Command::CheckConfig(args) => check_config::run(&load()?, file, &args),
        Command::Watch(args) => watch::run(&load()?, &args).await,
        Command::Load(args) => load::run(&load()?, &args).await,
        Command::Verify(args) => verify::run(&load()?, &args).await,
        Command::Quarantine(args) => quarantine::run(&load()?, &args).await,
        Command::Erase(args) => erase::run(&load()?, &args).await,
        Command::Forget(args) => forget::run(&load()?, &args).await,
        Command::AcceptRestore(args) => accept_restore::run(&load()?, &args).await,
        Command::Import(args) => import::run(&load()?, &args).await,
        Command::Export(args) => export::run(&load()?, &args).await,
        Command::Drill(args) => drill::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
