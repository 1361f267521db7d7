//! MariaDB is away for a while and comes back, while the traffic goes on.

use std::time::{Duration, Instant};

use anyhow::ensure;
use footfall_drill::stack::Role;

use crate::measure::memory_mib;
use crate::names::{OUTAGE, WHOLE};
use crate::report::{Figure, thousands};
use crate::run::Bench;
use crate::scene::Load;

/// Before it, to see what waits while all is well.
const BEFORE: Duration = Duration::from_secs(3);
/// Longer than any outage.
const LOAD_SECONDS: f64 = 1e6;
/// How long the end is waited for: so much longer than MariaDB was away.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);

impl Bench<'_> {
    /// Kills MariaDB, starts it again, and looks how long more views wait than before. If that is too long, the figure is
    /// how long it was waited for.
    pub(crate) fn outage(&mut self) -> anyhow::Result<()> {
        self.bar.set_message("MariaDB is away");
        self.scene.drain()?;
        let load = Load { seconds: LOAD_SECONDS, ..self.steady_load() };
        let ingest = self.scene.ingest();
        let mut load = self.scene.start_load(ingest, &load)?;
        let (mut usual, began) = (0.0_f64, Instant::now());
        while began.elapsed() < BEFORE {
            std::thread::sleep(LOOK);
            usual = usual.max(self.scene.pending()?);
        }
        self.scene.stack.mariadb.kill()?;
        let gone = Instant::now();
        std::thread::sleep(Duration::from_secs_f64(self.args.outage_seconds));
        self.scene.stack.mariadb.restart()?;
        let (away, back) = (gone.elapsed().as_secs_f64(), Instant::now());
        let waiting = self.scene.pending()?;
        let patience = Duration::from_secs_f64(away) + PATIENCE;
        let mut left = waiting;
        while left > usual && back.elapsed() < patience {
            ensure!(load.is_running(), load.failure("did not get all its answers"));
            std::thread::sleep(LOOK);
            left = self.scene.pending()?;
        }
        let took = back.elapsed().as_secs_f64();
        load.kill()?;
        let name = format!("for {} s", thousands(self.args.outage_seconds));
        let figures = [
            (Figure::OutageSeconds, away),
            (Figure::CatchUpSeconds, took),
            (Figure::CatchUpOfOutage, took / away),
            (Figure::MemoryMib, memory_mib(self.scene.pid(Role::Flusher))?.1),
        ];
        self.report.add(OUTAGE, WHOLE, &name, &figures);
        let end = if left <= usual {
            format!("as many as before after {took:.1} s")
        } else if left < waiting {
            let all = (waiting - usual) / (waiting - left) * took;
            format!("{} after {took:.0} s: at that pace it takes {} s", thousands(left), thousands(all))
        } else {
            format!("{} after {took:.0} s: at that pace it never ends", thousands(left))
        };
        let (usual, waiting) = (thousands(usual), thousands(waiting));
        self.report.notes.push(format!("MariaDB away: {usual} views waited before, {waiting} at its return, {end}"));
        self.scene.drain()
    }
}
