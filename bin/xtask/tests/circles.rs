//! No circles: of the modules that stand side by side in a crate, none needs another that needs it in turn. So each can be
//! read, tested and replaced with what is below it, and nothing else.
//!
//! A folder of modules counts as one, seen from outside; what is inside is looked at by itself. A module needs what its
//! `use` lines and its paths name. Where a name is passed on by `pub use`, the module counts in which it is defined.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

/// The names on the way from the top of a crate to a module.
type Name = Vec<String>;

/// What the text of a module says of others.
#[derive(Debug, Default, PartialEq, Eq)]
struct Module {
    /// The modules in files of their own below it.
    below: Vec<String>,
    /// What a name stands for that it brings in or passes on.
    names: BTreeMap<String, Name>,
    /// The paths that it uses.
    needs: Vec<Name>,
}

// ---- reading ----

/// The words and signs of a text, without comments and what is in quotation marks.
fn tokens(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |character: char| character.is_alphanumeric() || character == '_';
        let len = if let Some(comment) = rest.strip_prefix("//") {
            2 + comment.find('\n').unwrap_or(comment.len())
        } else if let Some(comment) = rest.strip_prefix("/*") {
            2 + comment.find("*/").map_or(comment.len(), |end| end + 2)
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            let mut is_escaped = false;
            let end = rest[1..].find(|character| {
                let ends = character == '"' && !is_escaped;
                is_escaped = character == '\\' && !is_escaped;
                ends
            });
            end.map_or(rest.len(), |end| end + 2)
        } else if let Some(len) = character_len(rest) {
            len
        } else if is_word(first) {
            let len = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
            found.push(&rest[..len]);
            len
        } else if rest.starts_with("::") {
            found.push("::");
            2
        } else {
            if !first.is_whitespace() {
                found.push(&rest[..first.len_utf8()]);
            }
            first.len_utf8()
        };
        rest = &rest[len..];
    }
    found
}

/// The length of a character in quotation marks, such as `'"'`; none if it is a lifetime or something else.
fn character_len(text: &str) -> Option<usize> {
    let mut characters = text.strip_prefix('\'')?.char_indices();
    match characters.next()? {
        (_, '\\') => text[3..].find('\'').map(|end| end + 4),
        _ => characters.next().filter(|(_, next)| *next == '\'').map(|(at, _)| at + 2),
    }
}

/// Where the item ends that begins at `at`: behind its `;` or its block.
fn end_of_item(tokens: &[&str], at: usize) -> usize {
    let is_use = tokens[at..].iter().find(|token| !matches!(**token, "pub" | "(" | "crate" | "super" | ")"));
    let is_use = is_use == Some(&"use");
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(at) {
        match *token {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 && (*token == ";" || *token == "}" && !is_use) {
            return at + 1;
        }
    }
    tokens.len()
}

/// The paths in what follows `use`, each with the name that it gets.
fn imports(tokens: &[&str]) -> Vec<(String, Name)> {
    let mut found = Vec::new();
    let mut path: Name = Vec::new();
    // How long the path is outside of the braces.
    let mut outside = Vec::new();
    let mut alias = None;
    let mut at = 0;
    let mut end = |path: &mut Name, alias: &mut Option<String>, keep: usize| {
        if path.len() > keep {
            if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
                path.pop();
            }
            let name = alias.take().or_else(|| path.last().cloned()).unwrap_or_default();
            found.push((name, path.clone()));
        }
        path.truncate(keep);
    };
    while at < tokens.len() {
        match tokens[at] {
            "::" => {}
            "{" => outside.push(path.len()),
            "}" => {
                end(&mut path, &mut alias, outside.last().copied().unwrap_or(0));
                outside.pop();
            }
            "," => end(&mut path, &mut alias, outside.last().copied().unwrap_or(0)),
            "as" => {
                alias = tokens.get(at + 1).map(|name| (*name).to_owned());
                at += 1;
            }
            name => path.push(name.to_owned()),
        }
        at += 1;
    }
    end(&mut path, &mut alias, 0);
    // What is left at a closing brace is what stood before it, and has been taken apart already.
    found.retain(|(_, path)| !path.is_empty());
    found
}

/// Reads a module, without what is only for its tests.
fn module(text: &str) -> Module {
    let tokens = tokens(text);
    let mut module = Module::default();
    let mut at = 0;
    let mut paths = Vec::new();
    while at < tokens.len() {
        match tokens[at..] {
            ["#", "[", "cfg", "(", "test", ")", "]", ..] => {
                at += 7;
                while tokens.get(at) == Some(&"#") {
                    at = end_of_attribute(&tokens, at);
                }
                at = end_of_item(&tokens, at);
                continue;
            }
            ["mod", name, ";", ..] => {
                module.below.push(name.to_owned());
                at += 3;
                continue;
            }
            ["use", ..] if at == 0 || matches!(tokens[at - 1], ";" | "}" | "{" | "pub" | ")" | "]") => {
                let end = end_of_item(&tokens, at);
                let passes_on = at > 0 && matches!(tokens[at - 1], "pub" | ")");
                for (name, path) in imports(&tokens[at + 1..end - 1]) {
                    if !passes_on {
                        module.needs.push(path.clone());
                    }
                    module.names.insert(name, path);
                }
                at = end;
                continue;
            }
            [_, "::", ..] if at == 0 || !matches!(tokens[at - 1], "::" | ".") => {
                let mut path = vec![tokens[at].to_owned()];
                while tokens.get(at + 1) == Some(&"::") && at + 2 < tokens.len() {
                    path.push(tokens[at + 2].to_owned());
                    at += 2;
                }
                paths.push(path);
            }
            _ => {}
        }
        at += 1;
    }
    // Only those that begin with a module: what was brought in by `use` is there already.
    let begins =
        |path: &Name| matches!(path[0].as_str(), "crate" | "self" | "super") || module.below.contains(&path[0]);
    let paths: Vec<Name> = paths.into_iter().filter(begins).collect();
    module.needs.extend(paths);
    module
}

fn end_of_attribute(tokens: &[&str], at: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(at + 1) {
        match *token {
            "[" => depth += 1,
            "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// All modules of a crate, from its first file on. `read` answers the text of a file, if there is one.
fn modules(first: &Path, read: &impl Fn(&Path) -> Option<String>) -> BTreeMap<Name, Module> {
    fn add(
        name: Name,
        file: &Path,
        read: &impl Fn(&Path) -> Option<String>,
        found: &mut BTreeMap<Name, Module>,
    ) -> Option<()> {
        let text = read(file)?;
        let module = module(&text);
        let folder = file.parent()?;
        let is_first = name.is_empty() || file.file_name()? == "mod.rs";
        let folder = if is_first { folder.to_owned() } else { folder.join(file.file_stem()?) };
        for below in &module.below {
            let name = [name.as_slice(), std::slice::from_ref(below)].concat();
            let _ = add(name.clone(), &folder.join(format!("{below}.rs")), read, found)
                .or_else(|| add(name, &folder.join(below).join("mod.rs"), read, found));
        }
        found.insert(name, module);
        Some(())
    }
    let mut found = BTreeMap::new();
    let _ = add(Vec::new(), first, read, &mut found);
    found
}

// ---- who needs whom ----

/// The module in which it is defined what `path` names in the module `name`; none if that is no module of this crate.
fn resolve(modules: &BTreeMap<Name, Module>, name: &Name, path: &[String], depth: usize) -> Option<Name> {
    const DEPTH_MAX: usize = 8;
    let mut at = name.clone();
    for (index, part) in path.iter().enumerate() {
        let module = modules.get(&at)?;
        match part.as_str() {
            "crate" if index == 0 => at.clear(),
            "self" if index == 0 => {}
            "super" => drop(at.pop()),
            part if module.below.iter().any(|below| below == part) => at.push(part.to_owned()),
            part => {
                let passed_on = module.names.get(part).filter(|_| depth < DEPTH_MAX);
                return match passed_on.and_then(|path| resolve(modules, &at, path, depth + 1)) {
                    None if index == 0 => None,
                    resolved => Some(resolved.unwrap_or(at)),
                };
            }
        }
    }
    Some(at)
}

/// Which of the modules that stand side by side needs which, and where: the modules below them that do.
type Needs = BTreeMap<Name, BTreeMap<Name, (Name, Name)>>;

fn needs(modules: &BTreeMap<Name, Module>) -> Needs {
    let mut needs = Needs::new();
    for (name, module) in modules {
        for path in &module.needs {
            let Some(needed) = resolve(modules, name, path, 0).filter(|needed| modules.contains_key(needed)) else {
                continue;
            };
            let common = name.iter().zip(&needed).take_while(|(one, other)| one == other).count();
            // One that is above the other, or the same, does not stand beside it.
            if common < name.len() && common < needed.len() {
                let (from, to) = (name[..=common].to_vec(), needed[..=common].to_vec());
                needs.entry(from).or_default().entry(to).or_insert((name.clone(), needed));
            }
        }
    }
    needs
}

/// The shortest way from a module back to itself.
fn way_back(needs: &Needs, start: &Name) -> Option<Vec<Name>> {
    let mut ways = VecDeque::from([vec![start.clone()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in needs.get(way.last()?).into_iter().flat_map(BTreeMap::keys) {
            let longer = [way.as_slice(), std::slice::from_ref(next)].concat();
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push_back(longer);
            }
        }
    }
    None
}

/// All that can be reached from a module, step by step.
fn reached(needs: &Needs, start: &Name) -> BTreeSet<Name> {
    let mut found = BTreeSet::new();
    let mut open = vec![start.clone()];
    while let Some(name) = open.pop() {
        for next in needs.get(&name).into_iter().flat_map(BTreeMap::keys) {
            if found.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    found
}

/// Every circle of a crate: who is in it, and how it closes.
fn circles(modules: &BTreeMap<Name, Module>) -> Vec<String> {
    let needs = needs(modules);
    let mut told = BTreeSet::new();
    let mut circles = Vec::new();
    for start in needs.keys() {
        let Some(way) = way_back(&needs, start).filter(|_| !told.contains(start)) else { continue };
        let members: Vec<&Name> = needs
            .keys()
            .filter(|name| reached(&needs, start).contains(*name) && reached(&needs, name).contains(start))
            .collect();
        told.extend(members.iter().map(|name| (*name).clone()));
        let names: Vec<String> = members.iter().map(|name| name.join("::")).collect();
        let steps: Vec<String> = way
            .windows(2)
            .map(|step| {
                let (from, to) = &needs[&step[0]][&step[1]];
                format!("{} needs {}", from.join("::"), to.join("::"))
            })
            .collect();
        circles.push(format!("{}: {}", names.join(", "), steps.join(", ")));
    }
    circles
}

// ---- the workspace ----

/// The first file of every crate of the workspace, of its programs and of its larger tests.
fn crates() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.file_name().is_some_and(|name| name == "lib.rs" || name == "main.rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["bin", "shared", "migrations"] {
        walk(&xtask::root().join(folder), &mut found);
    }
    found.sort();
    found
}

#[test]
fn no_module_needs_one_beside_it_that_needs_it() {
    let crates = crates();
    let mut found = Vec::new();
    let mut count = 0;
    for first in &crates {
        let modules = modules(first, &|path| fs::read_to_string(path).ok());
        count += modules.len();
        let name = first.strip_prefix(xtask::root()).expect("it is in the workspace").display();
        found.extend(circles(&modules).into_iter().map(|circle| format!("{name}: {circle}")));
    }
    assert!(crates.len() >= 12 && count >= 250, "{} crates with {count} modules are too few", crates.len());
    assert!(found.is_empty(), "modules need each other in a circle:\n{}", found.join("\n"));
}

/// The rooms of the library, and which others each may use.
const ROOMS: [(&str, &[&str]); 5] = [
    ("protocol", &[]),
    ("service", &["protocol"]),
    ("redis", &["protocol", "service"]),
    ("mysql", &["protocol", "service"]),
    ("stores", &["protocol", "service", "redis", "mysql"]),
];

/// What one room uses of another and may not, a sentence each.
fn wrong_ways(modules: &BTreeMap<Name, Module>) -> Vec<String> {
    let may = |from: &str, to: &str| ROOMS.iter().any(|(room, others)| *room == from && others.contains(&to));
    let needs = needs(modules);
    let ways = needs.iter().filter(|(room, _)| room.len() == 1);
    let ways = ways.flat_map(|(room, others)| others.iter().map(move |(other, way)| (&room[0], &other[0], way)));
    ways.filter(|(room, other, _)| !may(room, other))
        .map(|(room, other, (from, to))| {
            format!("{} uses {}, and {room} may not use {other}", from.join("::"), to.join("::"))
        })
        .collect()
}

#[test]
fn the_rooms_of_the_library_point_one_way() {
    let modules = modules(&xtask::root().join("shared/src/lib.rs"), &|path| fs::read_to_string(path).ok());
    let rooms: BTreeSet<&str> = modules[&Name::new()].below.iter().map(String::as_str).collect();
    assert_eq!(rooms, ROOMS.iter().map(|(room, _)| *room).collect(), "a room that is not on the list");
    let found = wrong_ways(&modules);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The modules of a crate that consists of these files.
fn modules_of(files: &[(&str, &str)]) -> BTreeMap<Name, Module> {
    let read = |path: &Path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned());
    modules(Path::new("lib.rs"), &read)
}

#[test]
fn a_wrong_way_is_found_and_shown() {
    let rooms = |redis| {
        modules_of(&[
            ("lib.rs", "pub mod protocol; pub mod redis; pub mod mysql;"),
            ("protocol.rs", "pub struct Fence;"),
            ("redis.rs", redis),
            ("mysql.rs", "mod store; pub use store::Store; pub use crate::protocol::Fence;"),
            ("mysql/store.rs", "use crate::protocol::Fence;"),
        ])
    };
    assert!(wrong_ways(&rooms("use crate::mysql::Fence;")).is_empty(), "it is the protocol's, and only passed on");
    assert_eq!(
        wrong_ways(&rooms("use crate::mysql::Store;")),
        ["redis uses mysql::store, and redis may not use mysql"]
    );
}

/// The circles of a crate that consists of these files.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    circles(&modules_of(files))
}

#[test]
fn a_circle_is_found_and_shown() {
    for (files, circle) in [
        (
            vec![("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::B;"), ("b.rs", "use super::a;")],
            "a, b: a needs b, b needs a",
        ),
        // Through names that the module above passes on, and through one that is brought in under another name.
        (
            vec![
                ("lib.rs", "mod a;\nmod b;\nmod c;\npub use a::A;\npub(crate) use b::{B as C, c::{self, D}};"),
                ("a.rs", "use crate::{C, E};"),
                ("b.rs", "pub mod c;"),
                ("b/c.rs", "use crate::c;"),
                ("c.rs", "fn f(a: crate::A) {}"),
            ],
            "a, b, c: a needs b, b::c needs c, c needs a",
        ),
        // Inside of a room; what is above is not beside.
        (
            vec![
                ("lib.rs", "pub mod room;"),
                ("room.rs", "mod a; mod b; pub struct Room; fn f() { a::g(); }"),
                ("room/a.rs", "use super::Room; use super::b::B;"),
                ("room/b.rs", "impl super::a::A {}"),
            ],
            "room::a, room::b: room::a needs room::b, room::b needs room::a",
        ),
    ] {
        assert_eq!(circles_of(&files), [circle]);
    }
    // What looks alike and is none: tests, comments, texts, other crates, what is only passed on.
    for files in [
        vec![
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B;"),
            (
                "b.rs",
                "#[cfg(test)]\nmod tests { use crate::a::A; }\n#[cfg(test)]\n#[allow(dead_code)]\nuse crate::a::{A};",
            ),
        ],
        vec![
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B;"),
            (
                "b.rs",
                "// use crate::a;\n/* crate::a */ const A: &str = \"\\\"; crate::a::A\"; const B: char = '\"'; use a::A; 'a: loop {}",
            ),
        ],
        vec![("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::B;"), ("b.rs", "pub use crate::a::A;")],
    ] {
        assert!(circles_of(&files).is_empty(), "{:?}", circles_of(&files));
    }
}
