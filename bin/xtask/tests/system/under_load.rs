//! Something happens to a Redis of several servers under load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Over, Running, eventually, get};
use footfall_drill::stack::Role;

pub(crate) const SOON: Duration = Duration::from_secs(30);

/// All services, on a Redis of several servers.
pub(crate) trait Site {
    fn running(&mut self) -> &mut Running;

    /// The greatest epoch of any shard: each begins with 1.
    fn epochs(&mut self) -> u64 {
        let most = self.running().sql("SELECT MAX(epoch) FROM footfall_shard_fence").expect("an answer");
        most.parse().expect("a number")
    }

    /// Every view is counted once, so many faults have cost each shard one epoch each at most, and whoever watches sees
    /// everything. Answers for how long an ingest was degraded.
    fn under_load(&mut self, name: &str, faults: u64, fault: impl FnOnce(&mut Self)) -> Duration
    where
        Self: Sized,
    {
        let ledger = format!("{name}.tsv");
        let options = "--views 4500 --rate 500 --articles 500 --users 5000 --connections 32";
        let load = self.running().load(&ledger, options);
        let ready = [0, 1].map(|index| format!("{}/readyz", self.running().stack.url(Role::Ingest, index)));
        let is_over = AtomicBool::new(false);
        let (summary, degraded) = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut degraded = Duration::ZERO;
                let mut last = Instant::now();
                while !is_over.load(Ordering::Relaxed) {
                    let is_degraded = ready.iter().any(|url| {
                        let answer = get(url);
                        assert_eq!(answer.status, 200, "{}", answer.body);
                        answer.body.contains("degraded") || answer.body.contains("critical")
                    });
                    let now = Instant::now();
                    degraded += if is_degraded { now - last } else { Duration::ZERO };
                    last = now;
                    std::thread::sleep(Duration::from_millis(20));
                }
                degraded
            });
            let summary = {
                let _over = Over(&is_over);
                std::thread::sleep(Duration::from_secs(2));
                fault(self);
                load.finish()
            };
            (summary, watch.join().expect("it watches"))
        });
        println!("{name}: degraded for {degraded:?}\n{summary}");
        self.running().assert_verified(&[&ledger]);
        let epochs = self.epochs();
        assert!(epochs <= 1 + faults, "{epochs} epochs of a shard for {faults} faults");
        let stats = format!("{}/v1/stats", self.running().stack.url(Role::Dashboard, 0));
        eventually("a dashboard without errors", SOON, || {
            let stats = get(&stats).json();
            stats["conservation"]["unaccounted"] == 0 && stats["conservation"]["pending"] == 0
        });
        degraded
    }
}
