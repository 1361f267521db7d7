//! Stores as an operator may set them up: with TLS and passwords, or so that views would be lost.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use footfall_drill::stack::{Role, Stack};
use footfall_sandbox::RedisOptions;

use crate::common::{Running, Set, eventually, options, own_address, program, start};

const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const PASSWORD: &str = "correct-horse-battery";

/// What Footfall may do in Redis, and in MySQL after `footfall init`, as docs/operations.md says.
pub(crate) const ACL: &str = "~footfall:* +@all -@dangerous +info +bgrewriteaof";
/// See [`ACL`].
const RIGHTS: &str = "SELECT, INSERT, UPDATE, DELETE";

/// Makes an authority and a server's certificate that it has signed: `ca.pem`, `server.pem`, `server.key`.
pub(crate) fn make_certificates(folder: &Path, server: IpAddr) {
    let path = |name: &str| folder.join(name).display().to_string();
    let extensions = format!(
        "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = unused\n\
         [authority]\nbasicConstraints = critical, CA:TRUE\n[server]\nsubjectAltName = IP:{server}\n"
    );
    fs::write(path("openssl.cnf"), extensions).expect("written");
    let make = |name: &str, extensions: &str, signed_by: &[&str]| {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"])
            .args(["-config", &path("openssl.cnf"), "-extensions", extensions, "-subj", &format!("/CN={extensions}")])
            .args(["-keyout", &path(&format!("{name}.key")), "-out", &path(&format!("{name}.pem"))])
            .args(signed_by);
        let output = openssl.output().expect("openssl starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    make("ca", "authority", &[]);
    make("server", "server", &["-CA", &path("ca.pem"), "-CAkey", &path("ca.key")]);
}

/// A stack whose stores are reached over TLS only, each with a password and no more rights than are needed.
fn start_secure(folder: &Path) -> Running {
    let path = |name: &str| folder.join(name).display().to_string();
    let (redis, mariadb) = (own_address(61_379), own_address(61_306));
    make_certificates(folder, redis.ip());
    let user = format!(
        "CREATE DATABASE IF NOT EXISTS footfall CHARACTER SET utf8mb4;\n\
         CREATE USER IF NOT EXISTS footfall@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL;\n\
         GRANT ALL ON footfall.* TO footfall@'%';\n"
    );
    fs::write(path("init.sql"), user).expect("written");
    let mut running = start(|options| {
        (options.ingests, options.flushers) = (0, 0);
        options.redis = RedisOptions { password: PASSWORD.into(), ..RedisOptions::default() };
        let settings: [(&str, &str); 6] = [
            ("--bind", &redis.ip().to_string()),
            ("--tls-port", &redis.port().to_string()),
            ("--tls-cert-file", &path("server.pem")),
            ("--tls-key-file", &path("server.key")),
            ("--tls-ca-cert-file", &path("ca.pem")),
            ("--tls-auth-clients", "no"),
        ];
        let acl = format!("--user footfall on >{PASSWORD} {ACL}");
        let settings = settings.iter().flat_map(|(name, value)| [*name, *value]).chain(acl.split(' '));
        options.redis.args = settings.map(str::to_owned).collect();
        options.mariadb.args = vec![
            "--skip-networking=0".to_owned(),
            format!("--bind-address={}", mariadb.ip()),
            format!("--port={}", mariadb.port()),
            format!("--ssl-cert={}", path("server.pem")),
            format!("--ssl-key={}", path("server.key")),
            format!("--init-file={}", path("init.sql")),
        ];
        let ca = path("ca.pem");
        options.set("FOOTFALL_REDIS__URL", &format!("rediss://footfall:{PASSWORD}@{redis}/0"));
        options.set("FOOTFALL_REDIS__CA", &ca);
        let database = format!("mysql://footfall:{PASSWORD}@{mariadb}/footfall?ssl-mode=VERIFY_CA&ssl-ca={ca}");
        options.set("FOOTFALL_DATABASE__URL", &database);
    });
    // The tables are there: from here on less will do.
    running.sql("REVOKE ALL ON footfall.* FROM footfall@'%'");
    running.sql(&format!("GRANT {RIGHTS} ON footfall.* TO footfall@'%'"));
    for role in [Role::Ingest, Role::Flusher, Role::Dashboard] {
        running.stack.add(role).expect("ready");
    }
    running
}

#[test]
fn views_are_counted_over_tls_and_with_passwords() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut running = start_secure(folder.path());
    running.load("ledger.tsv", "--views 5000 --rate 5000 --articles 100 --users 1000 --connections 16").finish();
    running.assert_verified(&["ledger.tsv"]);
    let manual = fs::read_to_string(xtask::root().join("docs/operations.md")).expect("a manual");
    assert!(manual.contains(ACL) && manual.contains(RIGHTS), "it says what is enough");
    for service in running.stack.services() {
        let said = fs::read_to_string(service.process().log()).expect("a log");
        assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
    }

    let rewrite = running.stack.redis.query(&["ACL", "DRYRUN", "footfall", "BGREWRITEAOF"]).expect("an answer");
    assert_eq!(rewrite, ["OK"], "which happens once a day only");

    // Without the right authority, or without the password, nobody gets in.
    let other = folder.path().join("other");
    fs::create_dir(&other).expect("created");
    make_certificates(&other, own_address(61_379).ip());
    let setting = |name: &str| running.stack.env().into_iter().rfind(|(known, _)| known == name).expect("set").1;
    let other_ca = other.join("ca.pem").display().to_string();
    let our_ca = folder.path().join("ca.pem").display().to_string();
    let (redis, database) = (setting("FOOTFALL_REDIS__URL"), setting("FOOTFALL_DATABASE__URL"));
    let (redis_at, mariadb_at) = (own_address(61_379).to_string(), own_address(61_306).to_string());
    let closed = own_address(61_399).to_string();
    let authority = format!("ssl-mode=VERIFY_CA&ssl-ca={our_ca}");
    let look: &[&str] = &["quarantine", "list"];
    // What is said; nothing if it works.
    for (name, value, says) in [
        ("FOOTFALL_REDIS__CA", our_ca.clone(), ""),
        ("FOOTFALL_REDIS__CA", other_ca.clone(), "invalid peer certificate"),
        ("FOOTFALL_REDIS__CA", String::new(), "invalid peer certificate"),
        ("FOOTFALL_REDIS__URL", redis.replace(PASSWORD, "wrong"), "WRONGPASS"),
        ("FOOTFALL_REDIS__URL", format!("rediss://{redis_at}/0"), "NOAUTH"),
        ("FOOTFALL_REDIS__URL", redis.replace(&redis_at, &closed), "Connection refused"),
        ("FOOTFALL_REDIS__URL", redis.replace(&redis_at, "footfall.invalid"), "failed to lookup address"),
        ("FOOTFALL_DATABASE__URL", database.replace(&our_ca, &other_ca), "invalid peer certificate"),
        ("FOOTFALL_DATABASE__URL", database.replace(PASSWORD, "wrong"), "Access denied for user 'footfall'"),
        ("FOOTFALL_DATABASE__URL", database.replace("/footfall?", "/nowhere?"), "nowhere"),
        (
            "FOOTFALL_DATABASE__URL",
            database.replace(&authority, "ssl-mode=DISABLED"),
            "Access denied for user 'footfall'",
        ),
        ("FOOTFALL_DATABASE__URL", database.replace(&mariadb_at, &closed), "Connection refused"),
        ("FOOTFALL_DATABASE__URL", database.replace(&mariadb_at, "footfall.invalid"), "failed to lookup address"),
        // Who names an authority means it.
        ("FOOTFALL_DATABASE__URL", database.replace("ssl-mode=VERIFY_CA&", ""), ""),
        (
            "FOOTFALL_DATABASE__URL",
            database.replace("ssl-mode=VERIFY_CA&", "").replace(&our_ca, &other_ca),
            "invalid peer certificate",
        ),
    ] {
        let mut tool = running.stack.tool();
        let since = Instant::now();
        let output = tool.args(look).env(name, &value).output().expect("the tool starts");
        let took = since.elapsed();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(if says.is_empty() { 0 } else { 69 }), "{name}: {said}");
        assert!(said.contains(says) && !said.contains(PASSWORD), "{name}: {says}: {said}");
        if !says.is_empty() {
            println!("{took:?}: {said}");
            let place = [&redis_at, &mariadb_at, &closed].into_iter().map(String::as_str).chain(["footfall.invalid"]);
            assert!(says == "NOAUTH" || place.into_iter().any(|place| said.contains(place)), "where: {said}");
            assert!(took < Duration::from_secs(2), "{name}: {says} after {took:?}");
        }
    }
}

/// Starts a service beside the stack, with its clock moved, and waits for its end; answers its exit code and what it said.
pub(crate) fn start_alone(running: &Running, name: &str, clock: &str) -> (Option<i32>, String) {
    let mut command = Command::new("/usr/bin/faketime");
    command.args(["--exclude-monotonic", "-f", clock]).arg(program(name));
    let journal: PathBuf = running.path("journal-alone");
    command.env_clear().envs(running.stack.env()).env("FOOTFALL_INGEST__JOURNAL", journal);
    for admin in ["INGEST__ADMIN", "INGEST__LISTEN", "FLUSHER__ADMIN", "DASHBOARD__ADMIN", "DASHBOARD__LISTEN"] {
        command.env(format!("FOOTFALL_{admin}"), "127.0.0.1:0");
    }
    let output = command.output().expect("it starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn services_refuse_stores_that_would_lose_views_and_warn_of_risks() {
    let mut running = start(|options| (options.ingests, options.flushers) = (0, 0));
    let redis = |running: &Running, command: &[&str]| drop(running.stack.redis.query(command).expect("done"));
    let configure = |running: &Running, setting, value| redis(running, &["CONFIG", "SET", setting, value]);
    for policy in ["allkeys-lru", "volatile-ttl"] {
        configure(&running, "maxmemory-policy", policy);
        for service in ["footfall-ingest", "footfall-flusher", "footfall-dashboard"] {
            let (code, said) = start_alone(&running, service, "+0s");
            assert_eq!(code, Some(69), "{service}: {said}");
            assert!(!said.contains("clock"), "{said}");
            assert!(said.contains(&format!("maxmemory-policy {policy}")) && said.contains("noeviction"), "{said}");
        }
    }

    let (_, said) = start_alone(&running, "footfall-flusher", "+90.5s");
    for clock in ["Redis", "the database"] {
        assert!(said.contains(&format!("the clock of {clock} is 90 s behind this machine's")), "{said}");
    }

    // Risks are named, and the service starts.
    configure(&running, "maxmemory-policy", "noeviction");
    configure(&running, "appendonly", "no");
    running.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2, GLOBAL max_allowed_packet = 1048576");
    redis(&running, &["SET", "session:ab12", "1"]);
    for role in [Role::Flusher, Role::Ingest] {
        let log = running.stack.add(role).expect("ready").process().log().to_owned();
        let said = || fs::read_to_string(&log).unwrap_or_default();
        eventually("four warnings", PATIENCE, || said().matches("WARN").count() >= 4);
        for what in [
            "append-only file",
            "shared: the key session:ab12",
            "innodb_flush_log_at_trx_commit = 2",
            "max_allowed_packet = 1048576",
        ] {
            assert!(said().contains(what), "{what}: {}", said());
        }
    }
    redis(&running, &["MOVE", "session:ab12", "7"]);
    configure(&running, "maxmemory-policy", "allkeys-lru");
    let (_, said) = start_alone(&running, "footfall-flusher", "+0s");
    assert!(said.contains("shared: the keys of database 7"), "{said}");
    configure(&running, "maxmemory-policy", "noeviction");
    redis(&running, &["EVAL", "redis.call('SELECT', 7) return redis.call('FLUSHDB')", "0"]);

    // And nothing is said of stores as they should be.
    configure(&running, "appendonly", "yes");
    running.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1, GLOBAL max_allowed_packet = 16777216");
    let log = running.stack.add(Role::Dashboard).expect("ready").process().log().to_owned();
    let said = fs::read_to_string(log).expect("a log");
    assert!(!said.contains("WARN"), "{said}");
}

#[test]
fn a_database_that_cannot_be_used_is_not_set_up() {
    for (arguments, says) in [
        (["--version=10.5.23-MariaDB"].as_slice(), ["version 10.5.23-MariaDB", "MariaDB 10.6"]),
        (&["--log-bin", "--binlog-format=STATEMENT"], ["binlog_format = STATEMENT", "ROW or MIXED"]),
    ] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut options = options(&folder);
        options.mariadb.args.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let error = Stack::start(options).expect_err("it cannot be used");
        let said = format!("{error:#}");
        assert!(says.iter().all(|what| said.contains(what)) && said.contains("69"), "{said}");
    }
}
