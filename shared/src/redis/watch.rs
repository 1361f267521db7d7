//! What is told and kept beside the log, for whoever watches. Nothing is decided by it.

use std::collections::BTreeMap;

use super::errors::Result;
use super::queue::Queue;
use crate::protocol::Fence;
use crate::protocol::total;

/// What a data set says about views, see [`Queue::totals`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogTotals {
    /// The first position that MySQL is not known to have.
    pub first: u64,
    /// Views that wait.
    pub pending_views: u64,
    /// The cumulative views of all producers, as they said with their last batch.
    pub accepted_views: u64,
}

/// The one field of the hash that holds what MySQL's fence was.
const FENCE_FIELD: &str = "fence";

impl Queue {
    /// The last report of each ingest: producer, beat, journalled views.
    pub async fn reports(&self) -> Result<Vec<(String, u64, u64)>> {
        let mut pipeline = redis::pipe();
        pipeline.hgetall(&self.keys.reports);
        let (reports,): (BTreeMap<String, String>,) = self.calls.commands(pipeline).await?;
        let parse = |(producer, report): (String, String)| {
            let (beat, journalled) = report.split_once(':')?;
            Some((producer, beat.parse().ok()?, journalled.parse().ok()?))
        };
        Ok(reports.into_iter().filter_map(parse).collect())
    }

    /// The cumulative views of all producers, as they said with their last batch in this data set.
    pub async fn accepted_views(&self) -> Result<u64> {
        let mut pipeline = redis::pipe();
        pipeline.hvals(&self.keys.producers);
        let (positions,): (Vec<String>,) = self.calls.commands(pipeline).await?;
        let views = |position: &String| position.split_once(':').and_then(|(_, views)| views.parse::<u64>().ok());
        Ok(total(positions.iter().filter_map(views)))
    }

    /// What it says about all views that it was ever given, in one atomic look; none if it holds nothing of this shard.
    pub async fn totals(&self) -> Result<Option<LogTotals>> {
        let mut pipeline = redis::pipe();
        let fields = ["first", "appended", "acked"];
        pipeline.cmd("HMGET").arg(&self.keys.meta).arg(&fields).hvals(&self.keys.producers);
        type Fields = (Option<u64>, Option<u64>, Option<u64>);
        let ((first, appended, acked), positions): (Fields, Vec<String>) = self.at_once(pipeline).await?;
        let views = |position: &String| position.split_once(':').and_then(|(_, views)| views.parse::<u64>().ok());
        let accepted_views = total(positions.iter().filter_map(views));
        Ok(first.zip(appended).zip(acked).map(|((first, appended), acked)| LogTotals {
            first,
            pending_views: appended.saturating_sub(acked),
            accepted_views,
        }))
    }

    /// Keeps what MySQL has, for whoever cannot ask it.
    pub async fn keep_fence(&self, fence: &Fence) -> Result<()> {
        let Fence { epoch, position, flush_epoch, version, views, readers, users, articles } = fence;
        let text = format!("{epoch}:{position}:{flush_epoch}:{version}:{views}:{readers}:{users}:{articles}");
        self.calls.note([(&self.keys.fence, FENCE_FIELD, &text)]).await
    }

    /// What was kept last.
    pub async fn kept_fence(&self) -> Result<Option<Fence>> {
        let mut pipeline = redis::pipe();
        pipeline.hget(&self.keys.fence, FENCE_FIELD);
        let (text,): (Option<String>,) = self.calls.commands(pipeline).await?;
        let numbers: Vec<u64> =
            text.iter().flat_map(|text| text.split(':')).map_while(|part| part.parse().ok()).collect();
        let [epoch, position, flush_epoch, version, views, readers, users, articles] = numbers[..] else {
            return Ok(None);
        };
        Ok(Some(Fence { epoch, position, flush_epoch, version, views, readers, users, articles }))
    }
}
