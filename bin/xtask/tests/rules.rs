//! The walls that neither the compiler nor clippy can keep, kept by reading the sources: who may name the stores' clients
//! inside the library, what the protocol may use, who names keys, and which packages may depend on which.
//!
//! A file is a path below the top folder and a text, so each wall is shown to be breakable on a few words below.

use std::fs;
use std::path::Path;

/// A rule about every line of some files.
struct Wall {
    rule: &'static str,
    why: &'static str,
    /// Whether the file, named by its path, is behind this wall.
    holds_for: fn(&str) -> bool,
    /// Whether a line, which is no comment, breaks it.
    is_broken_by: fn(&str) -> bool,
}

const WALLS: [Wall; 6] = [
    Wall {
        rule: "only shared/src/redis names the client of Redis",
        why: "every step of the protocol is one script there; a command from elsewhere could come between two steps",
        // Other packages cannot: their manifests do not name it.
        holds_for: |path| is_shared(path) && !path.starts_with("shared/src/redis"),
        is_broken_by: |line| names_crate(line, "redis"),
    },
    Wall {
        rule: "only shared/src/mysql names the client of MySQL",
        why: "counts and fence must change in one transaction, which can be seen only where all statements are together",
        // Other packages cannot, but for the migrations.
        holds_for: |path| is_shared(path) && !path.starts_with("shared/src/mysql"),
        is_broken_by: |line| ["sea_orm", "sqlx"].iter().any(|name| names_crate(line, name)),
    },
    Wall {
        rule: "the protocol is pure",
        why: "what it decides must follow from what it is given, so that a table can test it and a model can copy it",
        holds_for: |path| path.starts_with("shared/src/protocol"),
        is_broken_by: |line| {
            ["tokio", "hyper", "tracing", "prometheus"].iter().any(|name| names_crate(line, name))
                || ["std::fs", "std::net", "std::env", "Instant", "SystemTime"].iter().any(|name| has_word(line, name))
        },
    },
    Wall {
        rule: "only shared/src/protocol/keys.rs names Redis keys",
        why: "`footfall clean`, the slots of a cluster and the epoch in a name rest on knowing every key there is",
        holds_for: |path| is_product(path) && path != "shared/src/protocol/keys.rs",
        is_broken_by: names_key,
    },
    Wall {
        rule: "the sandbox does not know what its servers are used for",
        why: "what starts and hurts the stores must not share a mistake with what is tested on them",
        holds_for: |path| path.starts_with("shared/proof/sandbox/"),
        is_broken_by: |line| {
            ["article", "articles", "footfall_shared", "views", "ingest", "flusher", "dashboard"]
                .iter()
                .any(|word| has_word(line, word))
                || line.contains("FOOTFALL_")
                || names_key(line)
        },
    },
    Wall {
        rule: "scripts get their keys from KEYS",
        why: "a key that a script makes up is on no list, and on a cluster it may be on another server",
        holds_for: |path| path.ends_with(".lua"),
        is_broken_by: names_key,
    },
];

/// Lines that a wall would refuse, and that are fine for the reason given.
const EXCEPTIONS: [(&str, &str, &str); 1] = [(
    "shared/src/stores/recovery.rs",
    r#""redis held an overtaken or damaged history: its log was set aside as footfall:{{{}}}:aside:{}:*","#,
    "a log message: it tells a person what to look for",
)];

/// What runs in production. Tests and drills look at the stores from outside, the sandbox starts them, and the bench has
/// other ways to count beside ours. The simulation pretends to be the stores.
fn is_product(path: &str) -> bool {
    path.ends_with(".rs") && path.contains("/src/") && !path.starts_with("shared/proof/")
}

/// The library, whose rooms may each use what its manifest names: there the compiler does not keep a client in its room.
fn is_shared(path: &str) -> bool {
    path.starts_with("shared/src/")
}

/// Whether a character makes a word longer.
fn is_part(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether the line has the word, with nothing around it that would make it a longer one.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

/// Whether the line uses the crate: `name::` as the beginning of a path, or `use name`.
fn names_crate(line: &str, name: &str) -> bool {
    let begins = line.match_indices(&format!("{name}::")).any(|(at, _)| {
        // `::redis::` is the crate, `crate::redis::` is a module of that name.
        let before = &line[..at];
        !before.strip_suffix("::").unwrap_or(before).ends_with(is_part)
    });
    let imports = ["use", "extern crate"].iter().any(|import| {
        let import = format!("{import} {name}");
        let mut rest = line.match_indices(&import).map(|(at, found)| &line[at + found.len()..]);
        rest.any(|rest| rest.starts_with(';') || rest.starts_with(" as "))
    });
    begins || imports
}

/// Whether the line has the prefix of our keys; `footfall::` would be a path.
fn names_key(line: &str) -> bool {
    const PREFIX: &str = "footfall:";
    line.match_indices(PREFIX).any(|(at, _)| !line[at + PREFIX.len()..].starts_with(':'))
}

/// All breaches of walls in one file, a sentence each.
fn breaches(path: &str, text: &str) -> Vec<String> {
    let walls = || WALLS.iter().filter(|wall| (wall.holds_for)(path));
    let is_comment = |line: &str| line.starts_with(if path.ends_with(".lua") { "--" } else { "//" });
    let is_excepted = |line: &str| EXCEPTIONS.iter().any(|(file, excepted, _)| *file == path && *excepted == line);
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !is_comment(line) && !is_excepted(line))
        .flat_map(|(number, line)| {
            walls()
                .filter(move |wall| (wall.is_broken_by)(line))
                .map(move |wall| format!("{path}:{number}: {}, because {}: `{line}`", wall.rule, wall.why))
        })
        .collect()
}

// ---- who depends on whom ----

/// A dependency in a manifest.
struct Dependency {
    line: usize,
    name: String,
    is_for_tests: bool,
}

/// Reads a manifest as far as dependencies go: `name = ...`, `name.workspace = true` and `[dependencies.name]`, also
/// for some targets only.
fn dependencies(text: &str) -> Vec<Dependency> {
    let mut found: Vec<Dependency> = Vec::new();
    let mut section = String::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let dependency = |name: &str, section: &str| Dependency {
            line: index + 1,
            name: name.trim().trim_matches('"').to_owned(),
            is_for_tests: section.ends_with("dev-dependencies"),
        };
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
            if let Some((kind, name)) = section.rsplit_once('.').filter(|(kind, _)| kind.ends_with("dependencies")) {
                found.push(dependency(name, kind));
            }
        } else if section.ends_with("dependencies")
            && section != "workspace.dependencies"
            && let Some((key, value)) = line.split_once('=')
        {
            let renamed = value.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1));
            let name = renamed.unwrap_or_else(|| key.split('.').next().unwrap_or(key));
            found.push(dependency(name, &section));
        }
    }
    found
}

/// The packages of this workspace that a manifest may name, beside those that its tests may.
fn neighbours(path: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match path {
        "bin/xtask/Cargo.toml" => (&["footfall-sandbox", "footfall-proof", "footfall-drill"], &["footfall-shared"]),
        "bin/footfall/Cargo.toml" => {
            const ALL: [&str; 5] =
                ["footfall-shared", "footfall-migrations", "footfall-journal", "footfall-proof", "footfall-drill"];
            (&ALL, &["footfall-sandbox"])
        }
        // Its peers take the same requests apart as ingest does.
        "shared/proof/bench/Cargo.toml" => {
            (&["footfall-shared", "footfall-drill", "footfall-sandbox", "footfall-ingest"], &[])
        }
        // It puts the parsers of all to the test.
        "shared/proof/fuzz/Cargo.toml" => {
            (&["footfall", "footfall-shared", "footfall-journal", "footfall-ingest"], &[])
        }
        // The code of both, in one process.
        "shared/proof/simulation/Cargo.toml" => {
            (&["footfall-proof", "footfall-shared", "footfall-journal", "footfall-ingest", "footfall-flusher"], &[])
        }
        // As light as it is: `cargo xtask` is built with it before anything else.
        "shared/proof/drill/Cargo.toml" => (&["footfall-proof", "footfall-sandbox", "footfall-journal"], &[]),
        "shared/proof/model/Cargo.toml" => (&["footfall-proof"], &[]),
        "shared/proof/Cargo.toml" => (&[], &[]),
        "migrations/Cargo.toml" => (&["footfall-shared"], &["footfall-sandbox"]),
        "bin/ingest/Cargo.toml" => (&["footfall-shared", "footfall-journal"], &["footfall-sandbox"]),
        "shared/Cargo.toml" => (&[], &["footfall-sandbox"]),
        "shared/proof/sandbox/Cargo.toml" => (&[], &[]),
        _ => (&["footfall-shared"], &["footfall-sandbox"]),
    }
}

/// Who may depend on the clients of the stores.
const CLIENTS: [(&str, &[&str]); 2] = [
    ("redis", &["shared/Cargo.toml", "shared/proof/bench/Cargo.toml", "shared/proof/simulation/Cargo.toml"]),
    ("sea-orm", &["shared/Cargo.toml", "migrations/Cargo.toml", "shared/proof/bench/Cargo.toml"]),
];

/// All breaches of walls in one manifest, a sentence each.
fn manifest_breaches(path: &str, text: &str) -> Vec<String> {
    let (always, in_tests) = neighbours(path);
    let mut breaches = Vec::new();
    for Dependency { line, name, is_for_tests } in dependencies(text) {
        let is_ours = name.starts_with("footfall") || name == "xtask";
        let is_allowed = always.contains(&name.as_str()) || is_for_tests && in_tests.contains(&name.as_str());
        if is_ours && !is_allowed {
            breaches.push(format!(
                "{path}:{line}: this package may not depend on {name}, because binaries share only libraries, \
                 and libraries point one way: each part can be read, built and replaced alone"
            ));
        }
        for (client, homes) in CLIENTS {
            if name == client && !homes.contains(&path) {
                breaches.push(format!(
                    "{path}:{line}: only {} depends on {client}, because each store is talked to in one place",
                    homes.join(" or ")
                ));
            }
        }
    }
    breaches
}

/// Where all scripts are named.
const SCRIPTS: &str = "shared/src/redis/scripts.rs";

/// A script that the queue does not use.
fn script_breach(path: &str, scripts: &str) -> Option<String> {
    let name = path.rsplit('/').next()?.strip_suffix(".lua")?;
    let is_used = scripts.lines().any(|line| line.contains("script!(") && has_word(line, name));
    (!is_used).then(|| {
        format!("{path}:1: {SCRIPTS} does not use this script, because nobody runs or tests what is left over")
    })
}

// ---- the sources ----

/// All files of the workspace with one of the endings, as paths below the top folder, with their text.
fn files(endings: &[&str]) -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<(String, String)>, endings: &[&str]) {
        for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found, endings);
            } else if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
                let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let below = path.strip_prefix(xtask::root()).expect("it was found below the top folder");
                found.push((below.to_string_lossy().into_owned(), text));
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["bin", "shared", "migrations"] {
        walk(&xtask::root().join(folder), &mut found, endings);
    }
    found.sort();
    found
}

#[track_caller]
fn assert_none(breaches: &[String]) {
    assert!(breaches.is_empty(), "the house's walls are broken:\n{}", breaches.join("\n"));
}

#[test]
fn the_sources_keep_the_walls() {
    let files = files(&[".rs", ".lua"]);
    for path in ["shared/src/redis.rs", "shared/src/mysql.rs", "shared/src/protocol.rs", "shared/src/protocol/keys.rs"]
    {
        assert!(files.iter().any(|(file, _)| file == path), "{path} has moved: name its new place here");
    }
    assert_none(&files.iter().flat_map(|(path, text)| breaches(path, text)).collect::<Vec<_>>());
    for (path, excepted, _) in EXCEPTIONS {
        let is_there =
            files.iter().any(|(file, text)| file == path && text.lines().any(|line| line.trim() == excepted));
        assert!(is_there, "{path} has no such line any more, remove the exception: {excepted}");
    }
}

#[test]
fn the_manifests_keep_the_walls() {
    let manifests = files(&["Cargo.toml"]);
    assert!(manifests.len() >= 8, "{} manifests are too few", manifests.len());
    assert!(manifests.iter().map(|(_, text)| dependencies(text).len()).sum::<usize>() > 50, "they have dependencies");
    assert_none(&manifests.iter().flat_map(|(path, text)| manifest_breaches(path, text)).collect::<Vec<_>>());
}

#[test]
fn every_script_is_used() {
    let named = fs::read_to_string(xtask::root().join(SCRIPTS)).expect("where scripts are named");
    let scripts = files(&[".lua"]);
    assert!(!scripts.is_empty());
    assert_none(&scripts.iter().filter_map(|(path, _)| script_breach(path, &named)).collect::<Vec<_>>());
}

#[test]
fn every_wall_can_be_broken() {
    for (path, text, rule) in [
        ("shared/src/service/a.rs", "fn f() {}\nlet c = redis::Client::open(url);", "the client of Redis"),
        ("shared/src/service/a.rs", "\nuse redis as r;", "the client of Redis"),
        ("shared/src/stores/reads.rs", "\nlet c = (::redis::cmd(\"GET\"));", "the client of Redis"),
        ("shared/src/stores/a.rs", "\nuse sea_orm::DbErr;", "the client of MySQL"),
        ("shared/src/redis.rs", "\nlet key = format!(\"footfall:{shard}\");", "names Redis keys"),
        ("shared/src/stores/recovery.rs", "\nlet key = \"footfall:{{{}}}:aside:{}:*\";", "names Redis keys"),
        ("shared/src/redis/lua/ack.lua", "-- footfall: fine here\nredis.call('GET', 'footfall:reads')", "from KEYS"),
        ("shared/proof/sandbox/src/redis.rs", "\nlet key = \"footfall:reads\";", "the sandbox"),
        ("shared/src/protocol/packed.rs", "\nuse tokio::time::sleep;", "the protocol is pure"),
        ("shared/src/protocol.rs", "\nlet text = std::fs::read(path);", "the protocol is pure"),
        ("shared/src/protocol/recovery.rs", "\nlet now = Instant::now();", "the protocol is pure"),
        ("shared/proof/sandbox/src/mariadb.rs", "\n\"SELECT * FROM articles\"", "the sandbox"),
        ("shared/proof/sandbox/tests/a.rs", "\nenv(\"FOOTFALL_REDIS__URL\")", "the sandbox"),
    ] {
        let found = breaches(path, text);
        let is_named = found.len() == 1 && found[0].starts_with(&format!("{path}:2: ")) && found[0].contains(rule);
        assert!(is_named, "{text} in {path}: {found:?}");
    }
    // What looks alike and is none.
    for (path, text) in [
        ("shared/src/redis.rs", "use redis::Client;"),
        ("shared/src/service/a.rs", "// redis::Client, sea_orm::DbErr, footfall:key"),
        (
            "shared/src/stores/a.rs",
            "use crate::redis::Redis; use super::redis::url; redis: Redis, \"redis://localhost\"",
        ),
        ("shared/src/protocol/a.rs", "/// An instant. use std::io; let constants = 1;"),
        ("migrations/src/a.rs", "use sea_orm::Statement; \"CREATE TABLE articles\""),
        ("shared/src/protocol/keys.rs", "\"footfall:reads\""),
        ("shared/proof/sandbox/src/redis.rs", "pub mod redis; use redis::Redis; \"SELECT 1\"; footfall::path()"),
        ("bin/xtask/tests/system/a.rs", "sql(\"SELECT views FROM articles\"); \"footfall:{0}:log\""),
    ] {
        assert_none(&breaches(path, text));
    }
}

#[test]
fn every_wall_between_packages_can_be_broken() {
    for (path, text, name) in [
        ("bin/ingest/Cargo.toml", "[dependencies]\nfootfall-flusher = { path = \"../flusher\" }", "footfall-flusher"),
        ("bin/ingest/Cargo.toml", "[dependencies]\nfootfall-dashboard.workspace = true", "footfall-dashboard"),
        (
            "bin/flusher/Cargo.toml",
            "[dev-dependencies]\nx = { package = \"footfall-ingest\", path = \"\" }",
            "footfall-ingest",
        ),
        ("bin/dashboard/Cargo.toml", "\n[target.'cfg(unix)'.dependencies.xtask]\npath = \"\"", "xtask"),
        ("bin/dashboard/Cargo.toml", "[dependencies]\nfootfall-sandbox = {}", "footfall-sandbox"),
        ("bin/xtask/Cargo.toml", "[dependencies]\nfootfall-shared = {}", "footfall-shared"),
        ("shared/Cargo.toml", "[dependencies]\nfootfall-migrations = {}", "footfall-migrations"),
        ("shared/proof/sandbox/Cargo.toml", "[dev-dependencies]\nfootfall-shared = {}", "footfall-shared"),
        ("bin/ingest/Cargo.toml", "[dependencies]\nredis = { workspace = true }", "redis"),
        ("bin/dashboard/Cargo.toml", "[build-dependencies]\nsea-orm = \"2\"", "sea-orm"),
    ] {
        let found = manifest_breaches(path, text);
        let is_named = found.len() == 1 && found[0].starts_with(&format!("{path}:2: ")) && found[0].contains(name);
        assert!(is_named, "{text} in {path}: {found:?}");
    }
    let fine =
        "[package]\nname = \"xtask\"\n[dependencies]\nfootfall-sandbox = {}\n[dev-dependencies]\nfootfall-shared = {}";
    assert_none(&manifest_breaches("bin/xtask/Cargo.toml", fine));
    assert_none(&manifest_breaches(
        "shared/Cargo.toml",
        "[dependencies]\nredis = {} # footfall-ingest = {}\nsea-orm = {}",
    ));
}

#[test]
fn a_script_that_is_left_over_is_found() {
    let scripts = "// \"old\"\nstatic ACK: LazyLock<Script> = script!(Runs, \"guard\", ack);";
    assert_eq!(script_breach("shared/src/redis/lua/ack.lua", scripts), None);
    let breach = script_breach("shared/src/redis/lua/old.lua", scripts).expect("it is not used");
    assert!(breach.starts_with("shared/src/redis/lua/old.lua:1: "), "{breach}");
}
