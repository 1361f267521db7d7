//! Every link in a document leads to a file, and to a section that the file has; so does every place elsewhere that names a
//! document.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use xtask::docs::anchors;

use crate::{document, documents, files_below, prose};

/// The targets of all links in a text, each with its line.
fn targets(text: &str) -> Vec<(usize, String)> {
    let lines = prose(text).into_iter().enumerate();
    let found = lines.flat_map(|(index, line)| {
        let rests = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let targets: Vec<_> = rests.map(|target| (index + 1, target.to_owned())).collect();
        targets
    });
    found.collect()
}

/// A path without `..`, which is beside or below the top folder.
fn resolved(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(resolved.pop()),
            Component::CurDir => {}
            part => resolved.push(part),
        }
    }
    resolved
}

/// Why a link of the document leads nowhere; none if it leads somewhere.
fn mistake(path: &str, text: &str, target: &str) -> Option<String> {
    if target.starts_with("https://") {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let file = resolved(&Path::new(path).parent().unwrap_or(Path::new("")).join(file));
    let is_itself = target.starts_with('#');
    if !is_itself && !xtask::root().join(&file).exists() {
        return Some(format!("there is no {}", file.display()));
    }
    let anchor = anchor?;
    let known = if is_itself { anchors(text) } else { anchors(&document(&file.to_string_lossy())) };
    (!known.contains(anchor)).then(|| format!("{} has no section #{anchor}", if is_itself { path } else { target }))
}

fn mistakes(path: &str, text: &str) -> Vec<String> {
    let links = targets(text).into_iter();
    let found = links.filter_map(|(line, target)| Some(format!("{path}:{line}: {}", mistake(path, text, &target)?)));
    found.collect()
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    assert!(documents.iter().map(|(_, text)| targets(text).len()).sum::<usize>() > 200, "links are found");
    let mistakes: Vec<String> = documents.iter().flat_map(|(path, text)| mistakes(path, text)).collect();
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

/// Every document can be reached from the first one.
#[test]
fn no_document_is_forgotten() {
    let documents = documents();
    let mut reached = BTreeSet::from(["README.md".to_owned()]);
    let mut waiting: Vec<String> = reached.iter().cloned().collect();
    while let Some(path) = waiting.pop() {
        let folder = Path::new(&path).parent().unwrap_or(Path::new("")).to_owned();
        for (_, target) in targets(&document(&path)) {
            let file = resolved(&folder.join(target.split('#').next().unwrap_or_default()));
            // What is shown of a folder.
            let file = if xtask::root().join(&file).is_dir() { file.join("README.md") } else { file };
            let file = file.to_string_lossy().into_owned();
            if documents.iter().any(|(known, _)| *known == file) && reached.insert(file.clone()) {
                waiting.push(file);
            }
        }
    }
    // These are shown where something is written.
    let is_form = |path: &str| path.contains("TEMPLATE");
    let forgotten: Vec<&String> =
        documents.iter().map(|(path, _)| path).filter(|path| !reached.contains(*path) && !is_form(path)).collect();
    assert!(forgotten.is_empty(), "nobody finds {forgotten:?}");
}

/// Names of documents in a text that is none: `docs/operations.md#capacity`, README.md; each with its line.
fn named(text: &str) -> Vec<(usize, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "/._-#".contains(c);
    let words = text.lines().enumerate().flat_map(|(index, line)| {
        line.split(move |c| !is_part(c)).map(move |word| (index + 1, word.trim_end_matches(['.', '#', '-'])))
    });
    let kinds = [".md", ".py", ".cfg", ".conf", ".json", ".yaml"];
    let is_named = |word: &str| {
        let file = word.split('#').next().unwrap_or_default();
        let is_document = word.starts_with("docs/") || word == "README.md";
        is_document && kinds.iter().any(|kind| file.ends_with(kind))
    };
    // As the package installs them.
    let words = words.map(|(line, word)| (line, word.rsplit("doc/footfall/").next().unwrap_or(word)));
    words.filter(|(_, word)| is_named(word)).collect()
}

#[test]
fn what_names_a_document_names_one_that_is_there() {
    let mut files = vec!["Dockerfile".to_owned(), "compose.yaml".to_owned()];
    for folder in ["bin", "shared", "migrations", "systemd", "docs", ".github", ".ci"] {
        files_below(&xtask::root().join(folder), true, &mut files);
    }
    let kinds = ["rs", "js", "py", "lua", "toml", "yaml", "json", "cfg", "conf", "service", "target", "html", "env"];
    files.retain(|path| {
        let kind = Path::new(path).extension().and_then(|kind| kind.to_str());
        // This one has names that must not be there.
        kind.is_none_or(|kind| kinds.contains(&kind)) && !path.ends_with("documents/links.rs")
    });
    let mut found = 0;
    let mut mistakes = Vec::new();
    for path in files {
        let Ok(text) = std::fs::read_to_string(xtask::root().join(&path)) else { continue };
        for (line, name) in named(&text) {
            found += 1;
            // Tests have sections that are not there, to see that this is seen.
            let name = if path.contains("/tests/") { name.split('#').next().unwrap_or(name) } else { name };
            mistakes.extend(mistake("README.md", "", name).map(|why| format!("{path}:{line}: {why}")));
        }
    }
    assert!(found > 30, "{found} names were found");
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

#[test]
fn every_link_to_nowhere_is_seen() {
    let fine =
        "# A, and `b`\n[x](#a-and-b) [y](docs/site.md#bots), [z](https://a.example/b)\n`[v](w)`\n```\n[v](w)\n```\n";
    assert_eq!(mistakes("README.md", fine), [""; 0]);
    for (from, to, said) in [
        ("(#a-and-b)", "(#a-or-b)", "README.md:2: README.md has no section #a-or-b"),
        ("#bots", "#bot", "README.md:2: docs/site.md#bot has no section #bot"),
        ("docs/site.md", "docs/sites.md", "README.md:2: there is no docs/sites.md"),
        ("https:", "http:", "README.md:2: there is no http:"),
    ] {
        let changed = fine.replace(from, to);
        assert_ne!(changed, fine);
        assert!(mistakes("README.md", &changed).iter().any(|found| found.contains(said)), "{said}");
    }
    assert_eq!(resolved(Path::new("docs/../bin/./x")), Path::new("bin/x"));
    let text = "see docs/operations.md.\nfile:///usr/share/doc/footfall/README.md docs/x #docs/a.md#b";
    assert_eq!(named(text), [(1, "docs/operations.md"), (2, "README.md")]);
}
