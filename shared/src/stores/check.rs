//! Whether the stores can be used, asked once at the start of a service.

use std::time::Duration;

use tracing::{info, warn};

use crate::mysql::{Fences, Store, StoreError};
use crate::protocol::errors::Severity;
use crate::redis::Redis;
use crate::service::lifecycle::{EXIT_DEPENDENCY, ExitError};

/// How long a store may take to tell of its settings.
const FINDINGS_MAX: Duration = Duration::from_secs(1);

/// Refuses to start on stores that would lose views, and on a schema that this build does not know; warns of settings that
/// are a risk, and names the cluster that MySQL is a part of. A store that cannot be reached is not a reason: the service
/// waits for it.
pub async fn check(redis: &Redis, store: &Store, shards: u16) -> Result<(), ExitError> {
    let (of_redis, of_store, schema) =
        tokio::join!(in_time(redis.findings()), in_time(store.findings()), store.check_schema(shards));
    let mut reasons = Vec::new();
    for (name, findings) in [("Redis", of_redis), ("MySQL", of_store)] {
        match findings {
            Ok(findings) => {
                for finding in findings {
                    match finding.severity {
                        Severity::Critical => reasons.push(finding.to_string()),
                        Severity::Degraded => warn!("{finding}"),
                        Severity::Info => info!("{finding}"),
                    }
                }
            }
            Err(error) => warn!("the settings of {name} could not be checked: {error}"),
        }
    }
    match schema {
        Ok(()) => {}
        Err(StoreError::Schema(sentence)) => reasons.push(sentence),
        Err(error) => warn!("the schema could not be checked: {error}"),
    }
    if reasons.is_empty() { Ok(()) } else { Err(ExitError { code: EXIT_DEPENDENCY, sentence: reasons.join("; ") }) }
}

async fn in_time<T, E: Into<anyhow::Error>>(work: impl Future<Output = Result<T, E>>) -> anyhow::Result<T> {
    match tokio::time::timeout(FINDINGS_MAX, work).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => anyhow::bail!("no answer within {FINDINGS_MAX:?}"),
    }
}
