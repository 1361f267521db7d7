//! How long our scripts hold Redis, during which it answers nobody else.

use std::time::Duration;

use crate::scene::Scene;

/// What holds Redis for less is not written down.
const HELD_LEAST: Duration = Duration::from_micros(20);

impl Scene {
    /// From here on our Redis writes down what holds it for some time.
    pub(crate) fn watch_scripts(&self) -> anyhow::Result<()> {
        let from = HELD_LEAST.as_micros().to_string();
        self.stack.redis.query(&["CONFIG", "SET", "slowlog-log-slower-than", &from, "slowlog-max-len", "100000"])?;
        self.stack.redis.query(&["SLOWLOG", "RESET"])?;
        Ok(())
    }

    /// The longest time that one of our scripts has held our Redis since it was watched, in ms: as its SLOWLOG says, which
    /// looks at the clock before and after a command. So it has in it how long Redis was kept off its core meanwhile.
    pub(crate) fn longest_script_ms(&self) -> anyhow::Result<f64> {
        // Number, time of day, microseconds, command, client's address and name.
        type Entry = (i64, i64, u64, Vec<Vec<u8>>, String, String);
        let mut connection = redis::Client::open(self.stack.redis.url())?.get_connection()?;
        let entries: Vec<Entry> = redis::cmd("SLOWLOG").arg("GET").arg(-1).query(&mut connection)?;
        self.stack.redis.query(&["CONFIG", "SET", "slowlog-log-slower-than", "10000"])?;
        let is_script = |entry: &&Entry| entry.3.first().is_some_and(|name| name.starts_with(b"EVAL"));
        let longest = entries.iter().filter(is_script).map(|entry| entry.2).max();
        Ok(longest.map_or(HELD_LEAST.as_secs_f64() * 1e3, |micros| micros as f64 / 1e3))
    }
}
