//! Every way to write a setting wrongly, and what is said of it.

use std::collections::HashMap;

use super::secret::SecretUrl;
use super::*;
use std::io::Write;

fn environment(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

#[test]
fn the_environment_wins_over_the_file_and_both_over_the_defaults() {
    let mut file = tempfile::NamedTempFile::new().expect("temp file");
    writeln!(file, "[flusher]\nupdates = 7\narticles = 3").expect("write");
    let environment = environment(&[("FOOTFALL_FLUSHER__UPDATES", "9"), ("FOOTFALL_CONFIG", "x"), ("HOME", "/")]);
    let config = Config::load(Some(file.path()), environment).expect("valid");
    assert_eq!(
        (config.flusher.updates.get(), config.flusher.articles.get(), config.flusher.timeout),
        (9, 3, ms(1_000))
    );
}

#[test]
fn a_secret_comes_from_a_file_and_is_never_shown() {
    let mut file = tempfile::NamedTempFile::new().expect("temp file");
    writeln!(file, "mysql://u:00123@db/footfall").expect("write");
    let path = file.path().to_str().expect("utf-8");
    let config = Config::load(None, environment(&[("FOOTFALL_DATABASE__URL_FILE", path)])).expect("valid");
    assert_eq!(config.database.url.with_password(), "mysql://u:00123@db/footfall");
    assert!(!format!("{config:?}").contains("00123"));
}

#[test]
fn no_password_is_shown() {
    for (url, shown) in [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("rediss://:se@cret@redis:6379/0", "rediss://***@redis:6379/0"),
        ("unix:///run/redis.sock?pass=secret", "unix:///run/redis.sock?pass=***"),
        ("unix:///run/redis.sock?pass=secret&db=1", "unix:///run/redis.sock?pass=***&db=1"),
        ("unix:///run/redis.sock?pass=p@secret", "unix:///run/redis.sock?pass=***"),
        ("mysql://u:secret@db/footfall?ssl-mode=VERIFY_CA", "mysql://***@db/footfall?ssl-mode=VERIFY_CA"),
    ] {
        assert_eq!(SecretUrl(url.into()).to_string(), shown);
    }
}

#[test]
fn with_a_token_the_dashboard_may_be_reached_by_others() {
    let given = [("FOOTFALL_DASHBOARD__LISTEN", "0.0.0.0:8001"), ("FOOTFALL_DASHBOARD__TOKEN", "6f1c0e9ab7d24835")];
    let config = Config::load(None, environment(&given)).expect("valid");
    assert_eq!(config.dashboard.token.get(), Some("6f1c0e9ab7d24835"));
    assert!(!format!("{config:?}").contains("6f1c0e9ab7d24835"));
}

fn refused(name: &str, value: &str) -> String {
    let error = Config::load(None, environment(&[(name, value)])).expect_err(&format!("{name}={value}"));
    assert_eq!(error.0.len(), 1, "{name}={value}: {error}");
    error.0[0].clone()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("temp file");
    file.write_all(text.as_bytes()).expect("write");
    file
}

#[test]
fn a_mistake_is_named() {
    for (name, value, said) in [
        ("FOOTFALL_FLUSHER__UPDATES", "many", "is `many`: it must be a whole number from 1 to 1000000000000000"),
        ("FOOTFALL_FLUSHER__UPDATES", "1.9", "whole number"),
        ("FOOTFALL_FLUSHER__UPDATES", "0", "from 1 to"),
        ("FOOTFALL_FLUSHER__UPDATES", "+5", "whole number"),
        ("FOOTFALL_FLUSHER__UPDATES", " 5", "whole number"),
        ("FOOTFALL_FLUSHER__UPDATES", "true", "whole number"),
        ("FOOTFALL_FLUSHER__UPDATES", "", "is empty: it must be a whole number"),
        ("FOOTFALL_FLUSHER__UPDATES", "18446744073709551616", "whole number"),
        ("FOOTFALL_FLUSHER__POLL_MS", "18446744073709551615", "of milliseconds from 1 to 31536000000"),
        ("FOOTFALL_FLUSHER__POLL_MS", "5s", "of milliseconds"),
        ("FOOTFALL_FLUSHER__POLL_MS", "0", "of milliseconds from 1"),
        ("FOOTFALL_INGEST__LINGER_MS", "101", "of milliseconds from 0 to 100"),
        ("FOOTFALL_SHARDS", "65536", "from 1 to 1024"),
        ("FOOTFALL_DATABASE__CONNECTIONS_MAX", "4294967296", "from 1 to 10000"),
        ("FOOTFALL_INGEST__CONNECTIONS_MAX", "18446744073709551615", "from 1 to 10000000"),
        ("FOOTFALL_INGEST__JOURNAL_BYTES_MAX", "1000", "from 8388608"),
        ("FOOTFALL_INGEST__IDS_BYTES_MAX", "1000", "from 1048576"),
        ("FOOTFALL_INGEST__VIEWS_PER_SECOND", "1000001", "from 0 to 1000000"),
        ("FOOTFALL_INGEST__NEW_ARTICLES_PER_MINUTE", "-1", "from 0 to 1000000"),
        ("FOOTFALL_INGEST__BODIES_BYTES_MAX", "1048575", "is below ingest.body_bytes_max"),
        ("FOOTFALL_INGEST__BODY_BYTES_MAX", "67108865", "is below ingest.body_bytes_max"),
        ("FOOTFALL_DASHBOARD__UPDATES_PER_SECOND", "51", "from 1 to 50"),
        ("FOOTFALL_INGEST__ANONYMOUS", "perhaps", "true or false"),
        ("FOOTFALL_INGEST__ANONYMOUS", "1", "true or false"),
        ("FOOTFALL_INGEST__ANONYMOUS", "yes", "true or false"),
        ("FOOTFALL_INGEST__ANONYMOUS", "True", "true or false"),
        ("FOOTFALL_INGEST__ANONYMOUS", "", "true or false"),
        ("FOOTFALL_INGEST__JOURNAL", "", "is empty: it must be the path of a folder"),
        ("FOOTFALL_INGEST__JOURNAL", "OFF", "or off"),
        ("FOOTFALL_INGEST__JOURNAL", "none", "or off"),
        ("FOOTFALL_INGEST__LISTEN", "", "such as 127.0.0.1:8000, localhost:8000 or [::1]:8000"),
        ("FOOTFALL_INGEST__LISTEN", ":8000", "0.0.0.0:8000 for every address"),
        ("FOOTFALL_INGEST__LISTEN", "*:8000", "0.0.0.0:8000"),
        ("FOOTFALL_INGEST__LISTEN", "localhost", "localhost:8000"),
        ("FOOTFALL_INGEST__LISTEN", "8000", "localhost:8000"),
        ("FOOTFALL_INGEST__LISTEN", "127.1:8000", "localhost:8000"),
        ("FOOTFALL_INGEST__LISTEN", "127.0.0.1:65536", "localhost:8000"),
        ("FOOTFALL_INGEST__LISTEN", "http://127.0.0.1:8000", "localhost:8000"),
        ("FOOTFALL_INGEST__LISTEN", "footfall.invalid:8000", "no address could be found"),
        ("FOOTFALL_INGEST__ALLOWED_ORIGINS", "*, https://a.example/", "is `*, https://a.example/`: it must be sites"),
        ("FOOTFALL_INGEST__URL", "127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("FOOTFALL_INGEST__URL", "http://127.0.0.1:99999", "http://127.0.0.1:8000"),
        ("FOOTFALL_INGEST__URL", "http://127.0.0.1:", "http://127.0.0.1:8000"),
        ("FOOTFALL_INGEST__URL", "ftp://127.0.0.1", "http://127.0.0.1:8000"),
        ("FOOTFALL_INGEST__URL", "http://u:hunter2@host", "without user, password"),
        ("FOOTFALL_DASHBOARD__URL", "https://stats.example/?a", "`?` and `#`"),
        ("FOOTFALL_DASHBOARD__LISTEN", "0.0.0.0:8001", "dashboard.token"),
        ("FOOTFALL_DASHBOARD__TOKEN", "short", "FOOTFALL_DASHBOARD__TOKEN has fewer than 16 characters"),
        ("FOOTFALL_DASHBOARD__READ_TOKEN", "0123456789abcdef", "`openssl rand -hex 16` makes a good one"),
        ("FOOTFALL_DASHBOARD__READ_TOKEN", "6f1c0e9ab7d24835", "dashboard.token"),
        ("FOOTFALL_HTTP__PROXY_PROTOCOL", "true", "http.trusted_proxies"),
        ("FOOTFALL_HTTP__TRUSTED_PROXIES", "10.0.0.0/33", "`10.0.0.0/33` is neither"),
        ("FOOTFALL_HTTP__TRUSTED_PROXIES", "10.0.0.5/8", "write 10.0.0.0/8"),
        ("FOOTFALL_LOG__FORMAT", "JSON", "human or json"),
        ("FOOTFALL_LOG__LEVEL", "verbose", "error, warn, info, debug or trace"),
        ("FOOTFALL_LOG__LEVEL", "info,a=loud", "a filter such as"),
        ("FOOTFALL_LOG__LEVEL", "", "is empty"),
        ("FOOTFALL_REDIS__CA", "/does/not/exist", "rediss://"),
        ("FOOTFALL_REDIS__TOPOLOGY", "Sentinel", "is `Sentinel`: it must be auto, single, shards, sentinel or cluster"),
        ("FOOTFALL_REDIS__TOPOLOGY", "sentinel", "and redis.sentinels names none"),
        ("FOOTFALL_REDIS__SENTINELS", "redis://10.0.0.1", "redis.url has an address: with redis.sentinels it is"),
        ("FOOTFALL_REDIS__SENTINELS", "10.0.0.1:26379", "redis.sentinels cannot be used (it must begin with redis://"),
        ("FOOTFALL_REDIS__URL", "redis://:hunter2@a,redis://:hunter2@b", "redis.url names 2 servers for 1 shards"),
        ("FOOTFALL_REDIS__URL_FILE", "/does/not/exist", "names /does/not/exist, which cannot be read"),
        ("FOOTFALL_REDIS__URL_FILE", "/dev/zero", "is larger than 1 MiB"),
        ("FOOTFALL_INGEST__ADMIN", "127.0.0.1:8000", "ingest.listen and ingest.admin"),
    ] {
        let mistake = refused(name, value);
        assert!(mistake.contains(said), "{name}={value}: {mistake}");
        assert!(!mistake.contains("hunter2"), "{mistake}");
        let is_of_one = !mistake.contains(".listen")
            && !mistake.starts_with("redis.")
            && !said.contains("dashboard.token")
            && !said.contains("is below");
        assert!(!is_of_one || mistake.starts_with(name) || said.contains("trusted"), "{name} is named: {mistake}");
    }
}

#[test]
fn what_does_not_exist_is_named_with_what_may_be_meant() {
    for (name, said) in [
        ("FOOTFALL_FLUSHER__UPDATE", "FOOTFALL_FLUSHER__UPDATE is no setting: did you mean FOOTFALL_FLUSHER__UPDATES?"),
        ("FOOTFALL_FLUSHERS__UPDATES", "did you mean FOOTFALL_FLUSHER__UPDATES?"),
        ("FOOTFALL_REDIS_URL", "did you mean FOOTFALL_REDIS__URL?"),
        ("FOOTFALL_REDIS_URL_FILE", "did you mean FOOTFALL_REDIS__URL_FILE?"),
        ("FOOTFALL_DATABASE__URI", "did you mean FOOTFALL_DATABASE__URL?"),
        (
            "FOOTFALL_REDIS",
            "its settings are FOOTFALL_REDIS__CA, FOOTFALL_REDIS__SENTINELS, FOOTFALL_REDIS__TIMEOUT_MS, ",
        ),
        ("FOOTFALL_SHARD", "did you mean FOOTFALL_SHARDS?"),
        ("footfall_redis__url", "footfall_redis__url is not read: did you mean FOOTFALL_REDIS__URL?"),
        ("Footfall_Redis__Url_File", "did you mean FOOTFALL_REDIS__URL_FILE?"),
        ("FOOTFALL_redis__url", "did you mean FOOTFALL_REDIS__URL?"),
        ("FOOTFALL_SOMETHING_ELSE", "FOOTFALL_SOMETHING_ELSE is no setting; `footfall check-config` shows all"),
        ("FOOTFALL_", "is no setting"),
    ] {
        let mistake = refused(name, "redis://:hunter2@h");
        assert!(mistake.contains(said) && !mistake.contains("hunter2"), "{name}: {mistake}");
    }
    // Of others.
    for name in ["footfall_home", "FOOTFALLS", "HOME"] {
        Config::load(None, environment(&[(name, "x")])).expect(name);
    }
}

#[test]
fn a_value_in_a_file_has_its_kind() {
    for (text, said) in [
        ("[flusher]\nupdates = 1.9", ":2) is `1.9`: it must be a whole number from 1"),
        ("[flusher]\nupdates = 1.0", "whole number"),
        (
            "[flusher]\n\nupdates = \"1\"",
            ":3) is `\"1\"`: it must be a whole number from 1 to 1000000000000000, without quotes",
        ),
        ("[flusher]\nupdates = true", "is `true`: it must be a whole number"),
        ("[flusher]\nupdates = -3", "is `-3`"),
        ("[flusher]\nupdates = [1]", "is a list"),
        ("[flusher]\nupdates = {}", "is a section"),
        ("[ingest]\nanonymous = 1", "is `1`: it must be true or false"),
        ("[ingest]\nanonymous = \"true\"", "true or false, without quotes"),
        ("[ingest]\njournal = 1", "text, in quotes"),
        ("[dashboard]\ntoken = 1234567890123456", "is not text: put it in quotes"),
        ("[flusher]\nupdate = 1", "flusher.update ("),
        ("[flusher]\nupdate = 1", "is no setting: did you mean flusher.updates?"),
        ("[loging]\nlevel = \"info\"", "did you mean log.level?"),
        ("[nothing]", "nothing"),
        (
            "redis = \"redis://:hunter2@h\"",
            "but a section; its settings are redis.ca, redis.sentinels, redis.timeout_ms, ",
        ),
        ("[[redis]]\nurl = \"redis://:hunter2@h\"", "but a section"),
        ("[redis]\nurl = \"redis://:hunter2@h", "line 2 is no TOML"),
        ("[redis]\nurl = redis://:hunter2@h", "line 2 is no TOML"),
        ("[redis]\nurl \"redis://:hunter2@h\"", "line 2 is no TOML"),
        ("[redis]\nurl = \"redis://:hunter2\\q@h\"", "line 2 is no TOML"),
        ("[redis]\nurl = \"redis://:hunter2@h\"\nurl = \"redis://:hunter2@h\"", "line 3 is no TOML"),
        ("[redis]\nURL = \"redis://:hunter2@h\"", "did you mean redis.url?"),
    ] {
        let file = file(text);
        let error = Config::load(Some(file.path()), environment(&[])).expect_err(text);
        assert_eq!(error.0.len(), 1, "{text}: {error}");
        let mistake = &error.0[0];
        assert!(mistake.contains(said) && !mistake.contains("hunter2"), "{text}: {mistake}");
    }
}

#[test]
fn a_store_s_url_is_understood_or_refused() {
    let folder = tempfile::tempdir().expect("temp folder");
    let garbage = folder.path().join("garbage.pem");
    std::fs::write(&garbage, "no certificate").expect("write");
    let garbage = format!("ssl-ca={}", garbage.display());
    for (url, said) in [
        ("", "must begin with redis:// or rediss:// or unix://"),
        ("127.0.0.1:6379", "must begin with"),
        ("http://127.0.0.1", "must begin with"),
        ("REDIS://127.0.0.1", "must begin with"),
        ("redis:/127.0.0.1", "must begin with"),
        ("redis://", "names no host"),
        ("redis://h:0", "port 0"),
        ("redis://h/x", "number of a database"),
        ("redis://h/-1", "number of a database"),
        ("redis://h:99999", "invalid port"),
        ("redis://h 1/0", "a space"),
        ("redis://h/0?protocol=resp3", "`protocol` is chosen by Footfall"),
        ("redis://h/0?timeout=1", "`timeout` does not exist"),
        ("redis://h/0?pass=hunter2", "redis://user:password@host"),
        ("rediss://h/0#insecure", "redis.ca"),
        ("redis://h/0#x", "%23"),
        ("redis://:hunter2#x@h/0", "%23"),
        ("redis://:hunter2/x@h/0", "%2F"),
        ("redis://:hunter2?x@h/0", "%3F"),
        ("redis://:hunter2@x@h/0", "%40"),
        ("redis://:hunter2%@h/0", "%25"),
        ("redis://:hunter2%zz@h/0", "%25"),
        ("redis://:hunter2%ff@h/0", "not UTF-8"),
        ("redis://:hunter2:[@h:x/0", "redis.url cannot be used"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix:///run/redis.sock?pas=hunter2", "`pas` does not exist: did you mean `pass`?"),
        ("unix:///run/redis.sock?PASS=hunter2", "did you mean `pass`?"),
        ("unix:///run/redis.sock?pass=a&hunter2", "a parameter of it does not exist"),
        ("unix:///run/redis.sock?pass=hunter2&pass=b", "twice"),
        ("unix:///run/redis.sock?pass=hunter2+b", "%2B"),
        ("unix:///run/redis.sock?pass=", "is empty"),
        ("unix:///run/redis.sock?db=x", "number of a database"),
    ] {
        let mistake = refused("FOOTFALL_REDIS__URL", url);
        assert!(mistake.starts_with("redis.url cannot be used ("), "{mistake}");
        assert!(mistake.contains(said) && !mistake.contains("hunter2"), "{url}: {mistake}");
    }
    for (url, said) in [
        ("footfall", "must begin with mysql://"),
        ("postgres://u@db/footfall", "must begin with mysql://"),
        ("mysql://u@db", "names no database"),
        ("mysql://u@db/", "names no database"),
        ("mysql:///footfall", "names no host"),
        ("mysql://u:hunter2@db/foot/fall", "a second /"),
        ("mysql://u:1#hunter2@db/footfall", "%23"),
        ("mysql://u:1/hunter2@db/footfall", "%2F"),
        ("mysql://u:1?hunter2@db/footfall", "%3F"),
        ("mysql://u:hunter2@x@db/footfall", "%40"),
        ("mysql://u:hunter2%@db/footfall", "%25"),
        ("mysql://u@db/footfall?ssl-mode=maybe", "must be DISABLED, PREFERRED"),
        ("mysql://u@db/footfall?ssl_mode=VERIFY_IDENTITY", "`ssl_mode` does not exist: did you mean `ssl-mode`?"),
        ("mysql://u@db/footfall?sslmode=REQUIRED", "did you mean `ssl-mode`?"),
        ("mysql://u@db/footfall?SSL-MODE=REQUIRED", "did you mean `ssl-mode`?"),
        ("mysql://u@db/footfall?ssl-mod=REQUIRED", "did you mean `ssl-mode`?"),
        ("mysql://u@db/footfall?tls=true", "`tls` does not exist: did you mean `ssl-mode`?"),
        ("mysql://u@db/footfall?useSSL=true", "did you mean `ssl-mode`?"),
        ("mysql://u@db/footfall?ssl_ca=/etc/ca.pem", "did you mean `ssl-ca`?"),
        ("mysql://u@db/footfall?ssl-ca=/does/not/exist", "`ssl-ca` names /does/not/exist, which cannot be read"),
        ("mysql://u@db/footfall?ssl-ca=/dev/zero", "is larger than 1 MiB"),
        ("mysql://u@db/footfall?ssl-ca=", "is empty"),
        ("mysql://u@db/footfall?ssl-mode=REQUIRED&ssl-mode=REQUIRED", "twice"),
        ("mysql://u@db/footfall?charset=utf8", "`charset` is utf8mb4 in every session"),
        ("mysql://u@db/footfall?collation=utf8_bin", "`collation` is utf8mb4"),
        ("mysql://u@db/footfall?socket=mysql.sock", "absolute path"),
        ("mysql://u@db/footfall?timezone=x", "it may have ssl-mode, ssl-ca, ssl-cert, ssl-key, socket"),
        ("mysql://u@db/footfall?ssl-key=/dev/null&ssl-cert=/dev/null", "holds no"),
    ] {
        let mistake = refused("FOOTFALL_DATABASE__URL", url);
        assert!(mistake.starts_with("database.url cannot be used ("), "{mistake}");
        assert!(mistake.contains(said) && !mistake.contains("hunter2"), "{url}: {mistake}");
    }
    let mistake = refused("FOOTFALL_DATABASE__URL", &format!("mysql://u@db/footfall?{garbage}"));
    assert!(mistake.contains("holds no certificate"), "{mistake}");
    let given = [("FOOTFALL_REDIS__URL", "rediss://h"), ("FOOTFALL_REDIS__CA", "/does/not/exist")];
    let error = Config::load(None, environment(&given)).expect_err("no file").to_string();
    assert!(error.contains("redis.ca names /does/not/exist, which cannot be read"), "{error}");
    let no_certificate = file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let path = no_certificate.path().to_str().expect("UTF-8");
    let given = [("FOOTFALL_REDIS__URL", "rediss://h"), ("FOOTFALL_REDIS__CA", path)];
    let error = Config::load(None, environment(&given)).expect_err("no certificate").to_string();
    assert!(error.contains(&format!("redis.ca, {path}, cannot be used: ")), "{error}");
    // What rests on a URL that was rejected is not a mistake of its own.
    let given = [("FOOTFALL_REDIS__URL", "rediss:/h"), ("FOOTFALL_REDIS__CA", "/does/not/exist")];
    let error = Config::load(None, environment(&given)).expect_err("no URL");
    assert!(error.0.len() == 1 && error.0[0].starts_with("redis.url cannot be used ("), "{error}");

    for (name, url) in [
        ("FOOTFALL_REDIS__URL", "redis://h"),
        ("FOOTFALL_REDIS__URL", "redis://u:p%40%23%2F%3F%25@h:6380/15"),
        ("FOOTFALL_REDIS__URL", "redis://[::1]:6379/0"),
        ("FOOTFALL_REDIS__URL", "rediss://h"),
        ("FOOTFALL_REDIS__URL", "unix:///run/redis.sock?db=1&user=u&pass=p@ss"),
        ("FOOTFALL_DATABASE__URL", "mysql://u:p%40@[::1]:3306/footfall"),
        ("FOOTFALL_DATABASE__URL", "mysql://u@localhost/footfall?socket=/run/mysqld/mysqld.sock"),
        ("FOOTFALL_DATABASE__URL", "mysql://u@db/footfall?ssl-mode=verify_identity"),
        ("FOOTFALL_INGEST__LISTEN", "localhost:8000"),
        ("FOOTFALL_INGEST__LISTEN", "[::1]:8000"),
        ("FOOTFALL_INGEST__LISTEN", "0.0.0.0:0"),
        ("FOOTFALL_INGEST__URL", "https://a.example/footfall/"),
        ("FOOTFALL_FLUSHER__LEASE_MS", "0"),
        ("FOOTFALL_READS__WARM_TTL_MS", "0"),
        ("FOOTFALL_INGEST__JOURNAL", "off"),
        ("FOOTFALL_REDIS__CA", ""),
        ("FOOTFALL_DASHBOARD__TOKEN", ""),
    ] {
        Config::load(None, environment(&[(name, url)])).unwrap_or_else(|error| panic!("{name}={url}: {error}"));
    }
}

#[test]
fn a_name_is_resolved_and_a_mapped_address_is_what_it_means() {
    for (text, address) in [
        ("localhost:8123", "127.0.0.1:8123"),
        ("[::ffff:127.0.0.1]:8123", "127.0.0.1:8123"),
        ("[::1]:8123", "[::1]:8123"),
    ] {
        let config = Config::load(None, environment(&[("FOOTFALL_INGEST__LISTEN", text)])).expect(text);
        assert_eq!(config.ingest.listen.to_string(), address);
    }
}

#[test]
fn who_can_be_listened_to_is_warned_of() {
    for (name, url, warned) in [
        ("FOOTFALL_REDIS__URL", "redis://10.0.0.1", true),
        ("FOOTFALL_REDIS__URL", "redis://redis", true),
        ("FOOTFALL_REDIS__URL", "redis://localhost.example", true),
        ("FOOTFALL_REDIS__URL", "rediss://10.0.0.1", false),
        ("FOOTFALL_REDIS__URL", "redis://localhost", false),
        ("FOOTFALL_REDIS__URL", "redis://127.9.9.9", false),
        ("FOOTFALL_REDIS__URL", "redis://[::1]", false),
        ("FOOTFALL_REDIS__URL", "unix:///run/redis.sock", false),
        ("FOOTFALL_DATABASE__URL", "mysql://u@db/footfall", true),
        ("FOOTFALL_DATABASE__URL", "mysql://u@db/footfall?ssl-mode=PREFERRED", true),
        ("FOOTFALL_DATABASE__URL", "mysql://u@db/footfall?ssl-mode=DISABLED", true),
        ("FOOTFALL_DATABASE__URL", "mysql://u@db/footfall?ssl-mode=REQUIRED", true),
        ("FOOTFALL_DATABASE__URL", "mysql://u@db/footfall?ssl-mode=VERIFY_CA", false),
        ("FOOTFALL_DATABASE__URL", "mysql://u@db/footfall?ssl-mode=VERIFY_IDENTITY", false),
        ("FOOTFALL_DATABASE__URL", "mysql://u@db/footfall?socket=/run/mysqld.sock", false),
        ("FOOTFALL_DATABASE__URL", "mysql://u@127.0.0.1/footfall", false),
        ("FOOTFALL_HTTP__TRUSTED_PROXIES", "0.0.0.0/0", true),
        ("FOOTFALL_HTTP__TRUSTED_PROXIES", "10.0.0.0/8", false),
    ] {
        let config = Config::load(None, environment(&[(name, url)])).expect(url);
        assert_eq!(!config.warnings().is_empty(), warned, "{url}: {:?}", config.warnings());
    }
}

#[test]
fn kubernetes_may_set_variables_for_a_service_of_our_name() {
    let links = [
        ("FOOTFALL_PORT", "tcp://10.0.0.1:8000"),
        ("FOOTFALL_SERVICE_HOST", "10.0.0.1"),
        ("FOOTFALL_SERVICE_PORT", "8000"),
        ("FOOTFALL_SERVICE_PORT_HTTP", "8000"),
        ("FOOTFALL_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
        ("FOOTFALL_PORT_8000_TCP_PROTO", "tcp"),
        ("FOOTFALL_PORT_8000_TCP_PORT", "8000"),
        ("FOOTFALL_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("FOOTFALL_INGEST_PORT", "tcp://[fd00::1]:8000"),
        ("FOOTFALL_INGEST_SERVICE_HOST", "fd00::1"),
        ("FOOTFALL_REDIS_SERVICE_PORT", "6379"),
        ("FOOTFALL_REDIS_PORT_6379_TCP_ADDR", "10.0.0.2"),
        ("FOOTFALL_DNS_PORT_53_UDP", "udp://10.0.0.3:53"),
    ];
    let config = Config::load(None, environment(&links)).expect("nothing of ours");
    assert_eq!(Config { notes: Vec::new(), ..config.clone() }, Config::default());
    assert_eq!(config.notes.len(), 1, "{:?}", config.notes);
    assert!(links.iter().all(|(name, _)| config.notes[0].contains(name)), "{:?}", config.notes);
    for (name, value) in [
        ("FOOTFALL_PORT", "8000"),
        ("FOOTFALL_INGEST_PORT", "8000"),
        ("FOOTFALL_SERVICE_HOST", "db.example"),
        ("FOOTFALL_SERVICE_PORT", "http"),
        ("FOOTFALL_PORT_8000_TCP_OTHER", "1"),
        ("FOOTFALL_INGEST__PORT", "tcp://10.0.0.1:8000"),
    ] {
        refused(name, value);
    }
}

#[test]
fn all_mistakes_are_named_at_once() {
    let mut file = file("shards = 0\n[flusher]\nupdate = 1\narticles = 3\n[redis]\ntimeout_ms = []\n[nothing]\n");
    let given = [("FOOTFALL_INGEST__LISTEN", "localhost"), ("FOOTFALL_REDIS__URL", "x"), ("FOOTFALL_NO_FILE", "/no")];
    let error = Config::load(Some(file.path()), environment(&given)).expect_err("wrong");
    let said = error.to_string();
    for what in [
        ":1) is `0`",
        "flusher.update (",
        "redis.timeout_ms (",
        "nothing",
        "FOOTFALL_INGEST__LISTEN ",
        "redis.url",
        "FOOTFALL_NO_FILE",
    ] {
        assert!(said.contains(what), "{what}: {said}");
    }
    assert_eq!(error.0.len(), 7, "{said}");
    // A file that cannot be read as a whole hides nothing of the environment.
    writeln!(file, "[flusher\n").expect("write");
    let error = Config::load(Some(file.path()), environment(&given)).expect_err("wrong");
    assert_eq!(error.0.len(), 4, "{error}");
}

#[test]
fn how_redis_servers_belong_together_is_plain_or_said() {
    const THREE: &str = "redis://:s3cret@10.0.0.1:26379, redis://10.0.0.2,rediss://10.0.0.3:5000";
    let load = |url: &str, sentinels: &str, topology: &str| {
        let given = [
            ("FOOTFALL_SHARDS", "4"),
            ("FOOTFALL_REDIS__URL", url),
            ("FOOTFALL_REDIS__SENTINELS", sentinels),
            ("FOOTFALL_REDIS__TOPOLOGY", topology),
        ];
        Config::load(None, environment(&given)).map(|config| config.redis)
    };
    for (url, sentinels, topology) in [
        ("redis://a", "", "auto"),
        ("redis://a", "", "single"),
        ("redis://a", "", "shards"),
        ("redis://a,redis://a:6380 ,rediss://b,unix:///run/a,b.sock", "", "auto"),
        ("redis://a,redis://b", "", "shards"),
        ("rediss://u:p,q@my_Master-1.x/0", THREE, "auto"),
        ("redis://master", "redis://a", "sentinel"),
        ("redis://u:p@a,redis://u:p@b:7000/0,redis://u:p@c,redis://u:p@d,redis://u:p@e", "", "cluster"),
    ] {
        if let Err(error) = load(url, sentinels, topology) {
            panic!("{url} {sentinels} {topology}: {error}");
        }
    }
    for (url, sentinels, topology, said) in [
        ("redis://a,redis://b", "", "single", "redis.url names 2 servers: name one, or set redis.topology to shards"),
        ("redis://a,redis://b,redis://c,redis://d,redis://e", "", "auto", "5 servers for 4 shards"),
        ("redis://a,redis://a:6379/1", "", "auto", "redis.url names a:6379 twice"),
        ("redis://a,redi://b", "", "auto", "redis.url cannot be used ("),
        ("redis://a,redis://b:x", "", "auto", "redis.url cannot be used (the URL number 2: "),
        ("redis://a", "", "sentinel", "redis.sentinels names none"),
        ("redis://a", THREE, "single", "redis.topology is single, and redis.sentinels is set"),
        ("redis://a", THREE, "shards", "redis.topology is shards, and redis.sentinels is set"),
        ("redis://a", THREE, "cluster", "redis.topology is cluster, and redis.sentinels is set"),
        ("redis://a,redis://b/1", "", "cluster", "a cluster has database 0 only"),
        ("unix:///run/redis.sock", "", "cluster", "a node of a cluster has no socket"),
        ("redis://:s3cret@a,redis://b", "", "cluster", "with another user, password or encryption"),
        ("redis://a,rediss://b", "", "cluster", "with another user, password or encryption"),
        ("redis://a,redis://b", THREE, "auto", "redis.url names 2 servers: with redis.sentinels"),
        ("redis://a:6379", THREE, "auto", "redis.url has an address"),
        ("redis://[::1]", THREE, "auto", "redis.url has an address"),
        ("unix:///run/redis.sock", THREE, "auto", "redis.url is a socket"),
        ("redis://m", "redis://:s3cret@a/0", "auto", "a Sentinel has no databases"),
        ("redis://m", "unix:///run/sentinel.sock", "auto", "a Sentinel has no socket"),
        ("redis://m", "redis://a,redis://a:26379", "auto", "redis.sentinels names a:26379 twice"),
    ] {
        let error = load(url, sentinels, topology).expect_err(url);
        assert!(error.0.len() == 1 && error.0[0].contains(said), "{url} {sentinels} {topology}: {error}");
        assert!(!error.0[0].contains("s3cret"), "{error}");
    }
    // All at once.
    let error = load("redis://a:1", "redis://a/0,unix:///s", "auto").expect_err("wrong");
    assert_eq!(error.0.len(), 2, "{error}");

    let redis = load("redis://:s3cret@master", THREE, "auto").expect("valid");
    assert_eq!(
        format!("{:?}", redis.sentinels),
        "Some(redis://***@10.0.0.1:26379,redis://10.0.0.2,rediss://10.0.0.3:5000)"
    );
    assert!(!serde_json::to_string(&Config { redis, ..Config::default() }).expect("JSON").contains("s3cret"));
}

#[test]
fn a_value_is_given_once() {
    let given = [("FOOTFALL_REDIS__URL", "redis://a"), ("FOOTFALL_REDIS__URL_FILE", "/dev/null")];
    let error = Config::load(None, environment(&given)).expect_err("twice").to_string();
    assert!(error.contains("FOOTFALL_REDIS__URL and FOOTFALL_REDIS__URL_FILE"), "{error}");
}

#[test]
fn what_is_not_utf8_is_a_mistake_only_in_variables_of_ours() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let pair = |name: &[u8], value: &[u8]| (OsString::from_vec(name.into()), OsString::from_vec(value.into()));
    let foreign =
        [pair(b"X", b"\xf6"), pair(b"\xf6", b"x"), pair(b"FOOTFALL", b"\xf6"), pair(b"FOOTFALL_CONFIG", b"\xf6")];
    assert!(Config::load(None, foreign).is_ok());
    for ours in [pair(b"FOOTFALL_REDIS__URL", b"\xf6"), pair(b"FOOTFALL_\xf6", b"x"), pair(b"FOOTFALL_X_FILE", b"\xf6")]
    {
        let error = Config::load(None, [ours]).expect_err("wrong");
        assert!(error.0.len() == 1 && error.0[0].ends_with(": its name or its value is not UTF-8"), "{error}");
    }
}

#[test]
fn a_file_that_is_none_is_a_mistake() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (huge, binary) = (folder.path().join("huge"), folder.path().join("binary"));
    std::fs::write(&huge, "#".repeat((1 << 20) + 1)).expect("written");
    std::fs::write(&binary, b"\0\xff\xfe").expect("written");
    for file in [folder.path(), &huge, &binary, Path::new("/dev/zero"), Path::new("/proc/self/mem")] {
        let path = file.to_str().expect("UTF-8");
        let secret = Config::load(None, environment(&[("FOOTFALL_DASHBOARD__TOKEN_FILE", path)]));
        for error in [secret.expect_err(path), Config::load(Some(file), environment(&[])).expect_err(path)] {
            assert!(error.0.len() == 1 && error.0[0].contains(path), "{error}");
        }
    }
}

#[test]
fn no_number_is_so_large_that_a_service_could_not_start() {
    let settings = serde_json::to_value(Config::default()).expect("JSON");
    let mut tried = 0;
    for (section, settings) in settings.as_object().expect("sections") {
        for (name, _) in settings.as_object().into_iter().flatten().filter(|(_, value)| value.is_u64()) {
            refused(&format!("FOOTFALL_{section}__{name}").to_uppercase(), "18446744073709551615");
            tried += 1;
        }
    }
    assert!(tried >= 30, "{tried}");
}
