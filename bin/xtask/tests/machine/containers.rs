//! The image, built by the Dockerfile and run as compose.yaml says, by Docker's own engine.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::TempDir;

use crate::engine::Engine;
use crate::site::{Load, binaries, found, say};

/// A little less than what compose.yaml lets one address do, which all have that come through a port published to loopback.
const RATE: u64 = 40;

const UP: &str = "docker-compose up --detach";

/// It is counted, and the dashboard says so. The view has an id, so it does no harm to send it again.
const VIEW: &str = r#"
view='{"article":"yumo","user":"123456","id":"first"}'
until curl --fail --silent --header 'Content-Type: application/json' --data "$view" http://127.0.0.1:8000/v1/views; do
    sleep 0.1
done
until curl --fail --silent --header "Authorization: Bearer $FOOTFALL_TOKEN" http://127.0.0.1:8000/v1/stats |
    grep '"stored":1,'; do sleep 0.1; done"#;

/// All that have a check.
const HEALTHY: &str = r#"
for service in redis mariadb ingest1 ingest2 flusher dashboard; do
    until docker inspect --format '{{.State.Health.Status}}' "footfall_${service}_1" | grep --line-regexp healthy; do
        sleep 0.5
    done
done"#;

#[test]
#[ignore = "takes minutes: it builds the image"]
fn compose_runs_the_image_and_keeps_what_was_counted() {
    let engine = match Engine::start() {
        Ok(engine) => engine,
        Err(why) => return say(&format!("NOT CHECKED: the image and compose.yaml ({why:#})")),
    };
    let folder = tempfile::tempdir_in(xtask::target_dir()).expect("a temporary folder");
    let mut site = Site { engine, folder };
    site.run("docker-compose down --volumes"); // Of a run that failed.
    let started = Instant::now();
    site.run("docker-compose build init");
    say(&format!("the image was built in {:.0} s", started.elapsed().as_secs_f64()));
    site.engine.disconnect();

    let started = Instant::now();
    site.run(UP);
    site.within_a_minute(VIEW);
    say(&format!("from `up` to the first view on the dashboard: {:.1} s", started.elapsed().as_secs_f64()));
    site.within_a_minute(HEALTHY);

    let restarted = site.under_load("restart of ingest1", "docker-compose restart ingest1");
    let killed = site.under_load(
        "ingest2 killed",
        "running() { docker inspect --format '{{.State.StartedAt}}' footfall_ingest2_1; }
         before=$(running)
         docker-compose exec -T ingest2 sh -c 'kill -KILL $(cat /proc/1/task/1/children)' || true # Or is killed with it.
         until [ \"$(running)\" != \"$before\" ]; do sleep 0.1; done",
    );

    site.run("docker-compose stop");
    let codes = "docker inspect --format '{{.Name}}: {{.State.ExitCode}}' $(docker ps --all --quiet)";
    let ended = site.run_with(codes, &[]);
    assert!(ended.lines().all(|ended| ended.ends_with(": 0")), "some were killed, or ended with an error:\n{ended}");
    site.run("docker-compose down");
    site.run(UP);
    site.within_a_minute(HEALTHY);
    for ledger in [&restarted, &killed] {
        assert_eq!(site.verify(ledger), (0, 0), "`down` and `up`: missing, extra");
    }
    site.run("docker-compose down --volumes");
}

struct Site {
    engine: Engine,
    folder: TempDir,
}

impl Site {
    #[track_caller]
    fn run(&self, script: &str) {
        self.run_with(script, &[]);
    }

    #[track_caller]
    fn within_a_minute(&self, script: &str) {
        self.run_with("timeout 60 sh -euc \"$1\"", &[script]);
    }

    /// What a script wrote; each of its commands succeeds.
    #[track_caller]
    fn run_with(&self, script: &str, arguments: &[&str]) -> String {
        self.engine.run(script, arguments).unwrap_or_else(|error| {
            let state = self.engine.run("docker-compose ps --all; docker-compose logs --no-color --tail 10", &[]);
            panic!("{error:#}\n{}", state.unwrap_or_else(|error| format!("{error:#}")))
        })
    }

    /// No acknowledged view is lost and none is doubled by what is done, and afterwards all is well. Answers the ledger.
    fn under_load(&self, what: &str, script: &str) -> PathBuf {
        let mut tool = self.engine.in_its_network();
        tool.arg(binaries().join("footfall"));
        let ledger = self.folder.path().join(what.replace(' ', "-")).with_extension("tsv");
        let load = Load::start(tool, "http://127.0.0.1:8000", RATE, &ledger);
        let started = Instant::now();
        self.within_a_minute(script);
        self.within_a_minute(HEALTHY);
        let seconds = started.elapsed().as_secs_f64();
        let (ledger, acknowledged) = load.finish();
        assert_eq!(self.verify(&ledger), (0, 0), "{what}: missing, extra");
        say(&format!("{what}: {acknowledged} acknowledged, 0 missing, 0 extra; all is well after {seconds:.0} s"));
        ledger
    }

    /// What `footfall verify` finds in it: see [`found`].
    #[track_caller]
    fn verify(&self, ledger: &Path) -> (u64, u64) {
        let script = "docker-compose run --rm --no-deps -T --volume \"$1\":/ledger.tsv:ro init \\
            footfall verify --wait 20 --ledger /ledger.tsv 2>&1 || true";
        found(&self.run_with(script, &[&ledger.to_string_lossy()]))
    }
}
