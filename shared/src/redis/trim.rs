//! What a flusher does when MySQL has entries: it trims them. And the advisory lease, which saves work.

use std::time::Duration;

use redis::Value;

use super::errors::Result;
use super::queue::Queue;
use super::scripts::{ACK, LEASE};
use crate::protocol::Position;

impl Queue {
    /// Trims the entries up to `last`, which MySQL has; `version` is that of MySQL. Unless all bases of what is trimmed
    /// `are_advanced`, those that stand below are not valid any more.
    pub async fn ack(&self, epoch: u64, last: u64, version: u64, are_advanced: bool) -> Result<Position> {
        let mut call = ACK.call([&*self.keys.meta, &self.keys.log]);
        call.arg(epoch).arg(last).arg(version).arg(u8::from(are_advanced));
        let (_, reply) = self.call(&ACK, call).await?;
        reply.position(0)
    }

    /// Takes or renews the advisory lease of this shard for `holder`; false if another has it.
    pub async fn lease(&self, holder: &str, duration: Duration) -> Result<bool> {
        let mut call = LEASE.call([&*self.keys.lease]);
        call.arg(holder).arg(duration.as_millis());
        let held = self.calls.script(&LEASE, call).await?;
        Ok(held == Value::Int(1))
    }

    /// Gives the advisory lease back, if `holder` has it.
    pub async fn release(&self, holder: &str) -> Result<()> {
        let mut call = LEASE.call([&*self.keys.lease]);
        call.arg(holder).arg(0);
        self.calls.script(&LEASE, call).await?;
        Ok(())
    }

    /// Who holds the advisory lease.
    pub async fn lease_holder(&self) -> Result<Option<String>> {
        let mut pipeline = redis::pipe();
        pipeline.get(&self.keys.lease);
        let (owner,): (Option<String>,) = self.calls.commands(pipeline).await?;
        Ok(owner)
    }
}
