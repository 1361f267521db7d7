//! The licences of what our programs are built from. Most of them ask that their text goes along with every copy.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;

/// What `cargo metadata` says, as far as it is read here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    /// None of a member of this workspace.
    source: Option<String>,
    license: Option<String>,
    #[serde(default)]
    authors: Vec<String>,
    manifest_path: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// None where it is built into the program, and not only used by a test or a build script.
    kind: Option<String>,
}

/// How a file begins, in lower case, that says under which licence a package is.
const NAMES: [&str; 5] = ["licen", "copying", "copyright", "notice", "unlicense"];

/// The licences of everything that these programs contain: a list of the packages, then each text once, with the
/// packages that it belongs to.
///
/// # Errors
///
/// If a package says nothing about its licence: then we may not pass it on.
pub fn of(programs: &[&str]) -> anyhow::Result<String> {
    let metadata = metadata()?;
    let mut list = String::new();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in contained(&metadata, programs) {
        let name = format!("{} {}", package.name, package.version);
        let license = package.license.as_deref().unwrap_or("see its text below");
        let _ = writeln!(list, "{name}: {license}"); // A string takes everything.
        let folder = Path::new(&package.manifest_path).parent().context("a manifest is in a folder")?;
        let found = license_texts(folder).with_context(|| format!("the licence of {name}"))?;
        ensure!(package.license.is_some() || !found.is_empty(), "{name} does not say under which licence it is");
        if found.is_empty() && !package.authors.is_empty() {
            let _ = writeln!(list, "    by {}", package.authors.join(", "));
        }
        for text in found {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    let mut notices = format!(
        "Footfall's programs contain the following packages, under these licences. Where a package offers a choice \
         (\"OR\"), it is used under the first one that is also Footfall's.\n\n{list}"
    );
    for (text, packages) in &texts {
        let _ = write!(notices, "\n{}\n{}\n\n{}\n", "-".repeat(80), packages.join(", "), text.trim_end());
    }
    Ok(notices)
}

fn metadata() -> anyhow::Result<Metadata> {
    let version = Command::new("rustc").arg("-vV").output().context("rustc did not start")?;
    let version = String::from_utf8(version.stdout)?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not say its host")?;
    let output = crate::cargo()
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", host])
        .output()
        .context("cargo did not start")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The packages of others that are built into these programs, by name and version.
fn contained<'a>(metadata: &'a Metadata, programs: &[&str]) -> Vec<&'a Package> {
    let nodes: HashMap<&str, &Node> = metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let is_ours = |package: &&Package| package.source.is_none() && programs.contains(&package.name.as_str());
    let mut found: BTreeSet<&str> =
        metadata.packages.iter().filter(is_ours).map(|package| package.id.as_str()).collect();
    let mut unread: Vec<&str> = found.iter().copied().collect();
    while let Some(id) = unread.pop() {
        let dependencies = nodes.get(id).map_or(&[][..], |node| &node.deps);
        let built_in =
            dependencies.iter().filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none()));
        unread.extend(built_in.map(|dependency| dependency.pkg.as_str()).filter(|id| found.insert(id)));
    }
    let mut packages: Vec<&Package> = metadata
        .packages
        .iter()
        .filter(|package| package.source.is_some() && found.contains(package.id.as_str()))
        .collect();
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    packages
}

/// The texts in the folder of a package.
fn license_texts(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut texts = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if entry.file_type()?.is_file() && NAMES.iter().any(|known| name.starts_with(known)) {
            texts.insert(String::from_utf8_lossy(&fs::read(entry.path())?).replace("\r\n", "\n"));
        }
    }
    Ok(texts)
}
