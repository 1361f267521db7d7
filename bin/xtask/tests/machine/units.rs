//! The units under a real systemd: what starts when and as whom, and that no view is lost whatever an administrator does.

use std::time::{Duration, Instant};

use crate::site::{Site, say};

const SERVICES: [&str; 3] = ["footfall-flusher", "footfall-ingest", "footfall-dashboard"];

#[test]
#[ignore = "takes minutes"]
fn the_units_live_under_a_real_systemd() {
    let Some(mut site) = Site::new() else { return };
    services_are_confined(&site);

    for unit in SERVICES.into_iter().chain(["redis-server", "mariadb", "footfall.target"]) {
        under_load(&mut site, &format!("restart of {unit}"), |site| {
            site.run(&format!("systemctl restart {unit}"));
        });
    }
    under_load(&mut site, "a flusher that stands still", |site| a_flusher_that_stands_still_is_restarted(site));
    site.bring("1.1");
    under_load(&mut site, "upgrade", |site| {
        let said = site.run("apt-get install -y -q ./footfall_1.1.deb; dpkg-query --show footfall");
        assert!(said.contains("\nfootfall\t1.1\n"), "{said}");
        let (_, commands) = said.split_once("footfall: to change to the new version: ").expect("what to do next");
        site.run(commands.lines().next().expect("a line"));
    });
    let load = site.load("shutting-down");
    site.machine.shut_down(Duration::from_secs(100)).unwrap_or_else(|error| panic!("{error:#}"));
    let (ledger, _) = load.finish();
    site.boot();
    stores_come_first_and_ingest_last(&site);
    site.await_ready();
    assert_eq!(site.verify(&ledger), (0, 0), "shutting down the machine: missing, extra");
    nothing_is_left_when_it_is_purged(&site);
}

/// No acknowledged view is lost and none is doubled by what is done, and afterwards all is well.
fn under_load(site: &mut Site, what: &str, act: impl FnOnce(&mut Site)) {
    let started = Instant::now();
    let load = site.load(&what.replace(' ', "-"));
    act(site);
    site.await_ready();
    let (ledger, acknowledged) = load.finish();
    assert_eq!(site.verify(&ledger), (0, 0), "{what}: missing, extra");
    let seconds = started.elapsed().as_secs_f64();
    say(&format!("{what}: {acknowledged} acknowledged, 0 missing, 0 extra; {seconds:.0} s"));
}

/// Each runs as a user that is there for its sake, gets its secrets from systemd, and shows them to nobody.
fn services_are_confined(site: &Site) {
    for service in SERVICES {
        let secret = format!("/run/credentials/{service}.service/database.url");
        site.run(&format!(
            "pid=$(systemctl show --property MainPID --value {service})
             [ $(stat --format %u /proc/$pid) -ge 61184 ]   # systemd's range for dynamic users
             tr '\\0' '\\n' < /proc/$pid/environ | grep --line-regexp FOOTFALL_DATABASE__URL_FILE={secret}
             grep --quiet s3cret {secret}
             if grep --quiet s3cret /proc/$pid/environ /proc/$pid/cmdline; then exit 1; fi
             if runuser -u nobody -- cat {secret}; then exit 1; fi"
        ));
    }
}

/// By the watchdog. The unit allows it three minutes, for stores that hang; here twenty seconds will do.
fn a_flusher_that_stands_still_is_restarted(site: &Site) {
    site.run(
        "folder=/run/systemd/system/footfall-flusher.service.d
         mkdir -p $folder; printf '[Service]\\nWatchdogSec=20\\n' > $folder/test.conf
         systemctl daemon-reload; systemctl restart footfall-flusher
         pid=$(systemctl show --property MainPID --value footfall-flusher)
         kill -STOP $pid
         timeout 120 sh -c \"while [ -d /proc/$pid ]; do sleep 1; done\"
         journalctl --unit footfall-flusher | grep 'Watchdog timeout'
         rm -r $folder; systemctl daemon-reload",
    );
}

/// As it was when the machine started.
fn stores_come_first_and_ingest_last(site: &Site) {
    let moment = |unit: &str, property: &str| {
        let said = site.run(&format!("systemctl show --property {property}TimestampMonotonic --value {unit}"));
        said.trim().parse::<u64>().unwrap_or_else(|error| panic!("{unit} {property}: {error}: {said}"))
    };
    let flusher = moment("footfall-flusher", "ExecMainStart");
    for store in ["redis-server", "mariadb"] {
        let ready = moment(store, "ActiveEnter");
        assert!(
            0 < ready && ready <= flusher,
            "{store} was ready at {ready} µs, and the flusher started at {flusher} µs"
        );
    }
    let (ready, ingest) = (moment("footfall-flusher", "ActiveEnter"), moment("footfall-ingest", "ExecMainStart"));
    assert!(0 < ready && ready <= ingest, "the flusher was ready at {ready} µs, and ingest started at {ingest} µs");
}

fn nothing_is_left_when_it_is_purged(site: &Site) {
    let left = site.run(
        "apt-get purge -y -q footfall > /dev/null
         find / -xdev -name '*footfall*' -not -path '/root/*' -not -path '/var/lib/mysql/*' -not -path '/var/log/*'
         systemctl list-units --all --plain --no-legend 'footfall*'
         systemctl list-unit-files --no-legend 'footfall*' || true
         ps -A -o comm= | grep footfall || true",
    );
    assert_eq!(left, "", "it leaves something behind");
    site.run("systemctl is-active redis-server mariadb");
}
