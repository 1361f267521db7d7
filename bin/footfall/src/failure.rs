//! Why a command could not do its work: one sentence that says what to do next, and an exit code.

use std::fmt;
use std::process::ExitCode;

use footfall_shared::mysql::StoreError;
use footfall_shared::protocol::errors::{ErrorClass, Grade};
use footfall_shared::redis::QueueError;
use footfall_shared::service::config::ConfigError;
use footfall_shared::service::lifecycle::{EXIT_CONFIGURATION, EXIT_DEPENDENCY, EXIT_USAGE};
use footfall_shared::stores::recovery::RecoveryError;

use crate::INTERRUPTED;

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was asked for something that it will not do.
    Usage(String),
    /// A service or a disk failed.
    Dependency(String),
    /// The settings cannot be used.
    Configuration(String),
    /// A signal came before there was anything to say.
    Interrupted(String),
}

impl Failure {
    /// The exit code that belongs to it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::Dependency(_) => EXIT_DEPENDENCY,
            Self::Configuration(_) => EXIT_CONFIGURATION,
            Self::Interrupted(_) => INTERRUPTED,
        })
    }

    /// The same failure, and another sentence: what became of the work until then.
    pub(crate) fn with(self, so_far: &str) -> Self {
        let with = |sentence| format!("{sentence}. {so_far}");
        match self {
            Self::Usage(sentence) => Self::Usage(with(sentence)),
            Self::Dependency(sentence) => Self::Dependency(with(sentence)),
            Self::Configuration(sentence) => Self::Configuration(with(sentence)),
            Self::Interrupted(sentence) => Self::Interrupted(with(sentence)),
        }
    }

    /// A file that cannot be read or written; `doing` is what was tried, such as `write FILE`.
    pub(crate) fn file(doing: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::Dependency(format!("cannot {doing}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(sentence)
        | Self::Dependency(sentence)
        | Self::Configuration(sentence)
        | Self::Interrupted(sentence)) = self;
        f.write_str(sentence)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Configuration(error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Dependency(match &error {
            StoreError::Db(_) if error.class() == ErrorClass::DbSchema => {
                format!(
                    "{error}; its tables were changed meanwhile, or may not be used: run this again to see what differs"
                )
            }
            StoreError::Db(_) | StoreError::Unreachable { .. } => {
                format!("{error}; check that MySQL runs and that database.url (FOOTFALL_DATABASE__URL) leads to it")
            }
            // These say by themselves what to do.
            StoreError::Schema(_) | StoreError::Corrupt(_) | StoreError::TooLong(_) | StoreError::RefusesAll(_) => {
                error.to_string()
            }
        })
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        Self::Dependency(match &error {
            QueueError::Redis(_) => {
                format!("{error}; check that Redis runs and that redis.url (FOOTFALL_REDIS__URL) leads to it")
            }
            QueueError::Epoch | QueueError::Corrupt(_) | QueueError::Shards(_) => error.to_string(),
        })
    }
}

impl From<RecoveryError> for Failure {
    fn from(error: RecoveryError) -> Self {
        match error {
            RecoveryError::Queue(error) => error.into(),
            RecoveryError::Store(error) => error.into(),
            RecoveryError::StoreIsOlder { .. } => Self::Dependency(error.to_string()),
        }
    }
}

/// Checks `redis.url`; connects later.
pub(crate) fn redis(config: &footfall_shared::service::config::Config) -> crate::Result<footfall_shared::redis::Redis> {
    let timeout = config.redis.timeout;
    footfall_shared::redis::Redis::new(&config.redis, timeout)
        .map_err(|error| Failure::Configuration(format!("redis.url (FOOTFALL_REDIS__URL) cannot be used: {error}")))
}
