//! Where the runbook goes on. A test keeps every section there.

macro_rules! sections {
    ($($name:ident = $title:literal;)+) => {
        $(pub(super) const $name: &str = concat!("operations.md, \"", $title, "\"");)+

        #[cfg(test)]
        const ALL: &[&str] = &[$($title),+];
    };
}

sections! {
    DATA_DAMAGED = "FootfallDataDamaged";
    DISK = "A full or failing disk";
    FLUSH_LAG = "FootfallFlushLag";
    FLUSHER_DOWN = "FootfallFlusherDown";
    INGEST_DEGRADED = "FootfallIngestDegraded";
    INGEST_DOWN = "FootfallIngestDown";
    INSTANCE_DOWN = "FootfallInstanceDown";
    JOURNAL_FILLING = "FootfallJournalFilling";
    MYSQL = "FootfallMySQLUnreachable";
    MYSQL_BEHIND = "FootfallMySQLBehind";
    POWER_CUT = "After a power cut";
    QUARANTINE = "Quarantine";
    REDIS = "FootfallRedisUnreachable";
    REDIS_FILLING = "FootfallRedisFilling";
    SCHEMA = "FootfallSchema";
    UNACCOUNTED = "FootfallViewsUnaccounted";
    UPGRADE = "An upgrade";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runbook_has_every_section() {
        let runbook = include_str!("../../../../docs/operations.md");
        for title in ALL {
            assert!(runbook.lines().any(|line| line == format!("## {title}")), "there is no section {title}");
        }
    }
}
