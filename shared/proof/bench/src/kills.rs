//! Who loses views when the process that moves them to MariaDB is killed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use footfall_drill::stack::Role;

use crate::load::Kind;
use crate::names::{CACHED, KILLS, KILLS_LOAD, WHOLE};
use crate::report::Figure;
use crate::run::Bench;
use crate::scene::{Load, Scene};
use crate::traffic::Crowd;

const RATE: f64 = 5_000.0;
/// Longer than all kills together.
const LOAD_SECONDS: f64 = 1e6;
/// A kill comes at a random moment within this time, once the process has moved something.
const MOMENT: Duration = Duration::from_secs(1);
/// How long the process may take to move something again, and all of it in the end.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

impl Bench<'_> {
    /// The same kills for the peer's job and for our flusher; then what was acknowledged is compared with what is stored,
    /// for each article and user. What their servers have acknowledged nobody may lose: these are not killed.
    pub(crate) fn kills(&mut self) -> anyhow::Result<()> {
        for peer in [CACHED, WHOLE] {
            self.bar.set_message(format!("{peer}, killed"));
            self.scene.drain()?;
            self.scene.empty_tables()?;
            let address = if peer == CACHED { self.scene.rivals.cached.address } else { self.scene.ingest() };
            let load = Load { rate: Some(RATE), seconds: LOAD_SECONDS, ..self.load(Kind::Post, 64) };
            let mut load = self.scene.start_load(address, &load)?;
            for _ in 0..self.args.kills {
                self.scene.wait_moving(peer)?;
                std::thread::sleep(MOMENT.mul_f64((footfall_shared::service::random::number() % 1_000) as f64 / 1e3));
                self.scene.kill_mover(peer)?;
                ensure!(load.is_running(), load.failure("did not get all its answers"));
            }
            self.scene.wait_moving(peer)?;
            let report = Scene::end_load(load)?;
            let acknowledged = report.acknowledged(Crowd::USUAL);
            if peer == CACHED {
                self.scene.rivals.drain()?;
            } else {
                self.scene.wait_stored(report.views)?;
            }
            let (lost, doubled) = difference(&acknowledged, &self.scene.stored()?);
            let figures = [
                (Figure::Kills, self.args.kills as f64),
                (Figure::Acknowledged, report.views as f64),
                (Figure::Lost, lost as f64),
                (Figure::Doubled, doubled as f64),
            ];
            self.report.add(KILLS, peer, KILLS_LOAD, &figures);
        }
        Ok(())
    }
}

impl Scene {
    /// Waits until what moves views has moved some since it was started.
    fn wait_moving(&mut self, peer: &str) -> anyhow::Result<()> {
        if peer == CACHED {
            return self.rivals.wait_passes(1);
        }
        let deadline = Instant::now() + PATIENCE;
        while self.metric(Role::Flusher, "footfall_flush_views_total")? == 0.0 {
            ensure!(Instant::now() < deadline, "the flusher has moved nothing for {PATIENCE:?}");
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn kill_mover(&mut self, peer: &str) -> anyhow::Result<()> {
        if peer == CACHED {
            self.rivals.mover.kill()?;
            return Ok(self.rivals.mover.restart()?);
        }
        let flusher = self.stack.service(Role::Flusher, 0);
        flusher.kill()?;
        Ok(flusher.restart()?)
    }

    /// Waits until MariaDB has so many views, or as long as one may wait. Its own sum is asked: a flusher that was killed
    /// no longer says what it has moved.
    fn wait_stored(&self, views: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let all = || self.mysql_number("SELECT COALESCE(SUM(views), 0) FROM footfall_articles");
        while all()? < views as f64 && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Views by article and user.
    fn stored(&self) -> anyhow::Result<HashMap<(u32, u32), u64>> {
        let number = |id: &str| id.get(1..).unwrap_or_default().parse::<u32>().with_context(|| format!("id {id}"));
        let rows = self.stack.mariadb.query("SELECT article, user, views FROM footfall_article_readers")?;
        rows.iter()
            .map(|row| match row.as_slice() {
                [article, user, views] => Ok(((number(article)?, number(user)?), views.parse()?)),
                _ => anyhow::bail!("a row has three columns: {row:?}"),
            })
            .collect()
    }
}

/// Views that were acknowledged and are not stored, and views that are stored beyond those.
fn difference(acknowledged: &HashMap<(u32, u32), u64>, stored: &HashMap<(u32, u32), u64>) -> (u64, u64) {
    let beyond = |more: &HashMap<(u32, u32), u64>, than: &HashMap<(u32, u32), u64>| -> u64 {
        more.iter().map(|(pair, views)| views.saturating_sub(than.get(pair).copied().unwrap_or(0))).sum()
    };
    (beyond(acknowledged, stored), beyond(stored, acknowledged))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_of_one_does_not_hide_what_is_doubled_of_another() {
        let acknowledged = HashMap::from([((1, 1), 2), ((1, 2), 1), ((2, 1), 5)]);
        let stored = HashMap::from([((1, 1), 4), ((1, 2), 1), ((2, 1), 3), ((3, 1), 1)]);
        assert_eq!(difference(&acknowledged, &stored), (2, 3));
        assert_eq!(difference(&acknowledged, &acknowledged), (0, 0));
    }
}
