//! The salt of a day, which makes names for readers who have none.

use std::time::Duration;

use redis::RedisError;

use super::calls::Redis;
use super::errors::Result;
use super::scripts::SALT;
use crate::protocol::keys;

impl Redis {
    /// The salt of a day (days since 1970 UTC): the first that a process offered. It lives so long at most.
    pub async fn salt(&self, day: u64, offered: &str, life: Duration) -> Result<String> {
        let key = keys::salt(day);
        let mut call = SALT.call([&*key]);
        call.arg(offered).arg(u64::try_from(life.as_millis()).unwrap_or(u64::MAX));
        Ok(redis::from_redis_value(self.home(&key).script(&SALT, call).await?).map_err(RedisError::from)?)
    }

    /// Deletes the salt of a day; answers whether there was one, as to one process only.
    pub async fn end_salt(&self, day: u64) -> Result<bool> {
        let key = keys::salt(day);
        let mut pipeline = redis::pipe();
        pipeline.del(&key);
        let (deleted,): (bool,) = self.home(&key).commands(pipeline).await?;
        Ok(deleted)
    }
}
