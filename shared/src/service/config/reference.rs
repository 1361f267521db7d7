//! What the documents say of the settings, made from their declarations: the table for readers, the sample of a file for
//! operators, and the last part of a service's `--help`.
//!
//! A setting's comment is Markdown. A link in it is the path of a document from the top folder, and is left out where
//! nobody can follow it.

use super::Config;
use super::nearest::variable;
use super::setting::Described;

/// Columns of the sample file, as of everything in this tree.
const COLUMNS: usize = 120;
/// Columns of `--help`: a terminal may be narrower than an editor.
const HELP_COLUMNS: usize = 100;

const SAMPLE_HEAD: &str = "\
# Footfall's settings, for all services and for the tool. What is commented out is the default.
# `. /etc/footfall/env; footfall check-config` names all mistakes at once and shows what is in force, without secrets.
#
# Not here, because they may hold secrets: redis.url, database.url and dashboard.token are in files of these names
# beside this one, which only root can read. After a change: systemctl restart footfall.target
";

/// The table of all settings in Markdown, for a document at this path below the top folder.
#[must_use]
pub fn table(document: &str) -> String {
    let mut text = "| key | default | value | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for (section, settings) in Config::default().settings() {
        for setting in settings {
            let (name, kind, meaning) = (setting.name(section), &setting.kind, links_from(document, setting.meaning));
            let default = match default(&name, &setting) {
                empty if empty.is_empty() => String::new(),
                default => format!("`{default}` "),
            };
            text += &format!("| `{name}` | {default}| {kind} | {meaning} |\n");
        }
    }
    text
}

/// The sample of a configuration file, with every setting but those that have files of their own.
#[must_use]
pub fn sample() -> String {
    let config = Config::default();
    let abouts = config.sections();
    let mut text = SAMPLE_HEAD.to_owned();
    for (section, settings) in config.settings() {
        text.push('\n');
        if let Some(name) = section {
            let about = abouts.iter().find(|(known, _)| *known == name).map_or("", |(_, section)| section.about());
            text += &format!("# ---- {} ----\n\n[{name}]\n", about.trim_end_matches('.'));
        }
        for setting in settings.iter().filter(|setting| !setting.is_secret) {
            text += &wrapped(&without_links(setting.meaning), "# ", COLUMNS);
            // Numbers and strings look the same in JSON and in TOML.
            text += &format!("#{} = {}\n", setting.key, setting.value);
        }
    }
    text
}

/// What `--help` says of these sections, and of what is in no section.
#[must_use]
pub fn help(sections: &[&str]) -> String {
    let mut text = "Settings, with their defaults:\n".to_owned();
    let config = Config::default().settings().into_iter();
    for (section, settings) in config.filter(|(section, _)| section.is_none_or(|name| sections.contains(&name))) {
        for setting in settings {
            let name = setting.name(section);
            let meaning = without_links(setting.meaning).replace('`', "");
            text += &format!("\n  {} = {}\n", variable(&name), default(&name, &setting));
            text += &wrapped(&meaning, "          ", HELP_COLUMNS);
        }
    }
    text
}

/// A default as it is written in the environment.
fn default(name: &str, setting: &Described) -> String {
    match name {
        // Shown, it lacks its user, as if that were a secret.
        "database.url" => Config::default().database.url.with_password().to_owned(),
        _ => setting.value.as_str().map_or_else(|| setting.value.to_string(), str::to_owned),
    }
}

/// Text with its links as they are in this document.
fn links_from(document: &str, text: &str) -> String {
    let (folder, own) = (document.rsplit_once('/').map(|(folder, _)| folder), format!("]({document}#"));
    let text = text.replace(&own, "](#");
    match folder {
        None => text,
        // Neighbours first, then what is above them.
        Some(folder) => {
            let neighbours = text.replace(&format!("]({folder}/"), "](./");
            neighbours.replace("](README.md", "](../README.md").replace("](./", "](")
        }
    }
}

/// Text without its links, of which the words stay.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        let Some((words, behind)) = link.split_once("](") else { break };
        plain += before;
        plain += words;
        rest = behind.split_once(')').map_or("", |(_, behind)| behind);
    }
    plain + rest
}

/// Wraps a text into lines that begin with `prefix`.
fn wrapped(text: &str, prefix: &str, columns: usize) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && prefix.len() + line.len() + 1 + word.len() > columns {
            lines += &format!("{prefix}{line}\n");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines + prefix + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_there_from_every_document_and_leaves_its_words() {
        let text = "[a](docs/operations.md#an-upgrade), [b](README.md#install) and [c](docs/site.md), 1 [2]";
        for (document, expected) in [
            ("README.md", "[a](docs/operations.md#an-upgrade), [b](#install) and [c](docs/site.md), 1 [2]"),
            (
                "docs/configuration.md",
                "[a](operations.md#an-upgrade), [b](../README.md#install) and [c](site.md), 1 [2]",
            ),
            ("docs/operations.md", "[a](#an-upgrade), [b](../README.md#install) and [c](site.md), 1 [2]"),
        ] {
            assert_eq!(links_from(document, text), expected);
        }
        assert_eq!(without_links(text), "a, b and c, 1 [2]");
    }

    #[test]
    fn lines_are_no_longer_than_they_may_be_and_lose_no_word() {
        assert_eq!(wrapped("one two three", "# ", 9), "# one two\n# three\n");
        assert_eq!(wrapped("one two three", "", 1), "one\ntwo\nthree\n");
        let (sample, help) = (sample(), help(&["ingest"]));
        assert_eq!(sample.lines().chain(help.lines()).find(|line| line.len() > COLUMNS), None);
    }
}
