//! `footfall check-config`: is the configuration usable, and what is in force?

use std::path::Path;
use std::process::ExitCode;

use footfall_shared::service::config::Config;
use footfall_shared::service::logs;
use serde_json::{Map, Value};

use crate::Result;
use crate::terminal::print;

/// Checks the configuration and prints the settings in force, as TOML, without passwords
///
/// Mistakes go to stderr, all at once, and the exit code is 78. What can be used and is a danger goes to stderr as
/// warnings. Nothing is connected to, but names of `listen` and `admin` are resolved and certificates are read.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(config: &Config, file: Option<&Path>, _: &Args) -> Result {
    let Value::Object(settings) = serde_json::to_value(config).expect("the configuration has text keys only") else {
        unreachable!("a struct becomes an object")
    };
    for warning in config.warnings() {
        logs::say(&format!("warning: {warning}"));
    }
    let from =
        file.map_or_else(|| "the environment".to_owned(), |file| format!("{} and the environment", file.display()));
    print(&report(config, &settings, &from))?;
    Ok(ExitCode::SUCCESS)
}

/// What was checked, and the settings.
fn report(config: &Config, settings: &Map<String, Value>, from: &str) -> String {
    let mut text = format!(
        "# ok: every setting of {from} is known and of its kind, both URLs are understood, and the\n\
         # files that they name hold what they should. Whether the stores can be reached was not tried.\n"
    );
    for note in &config.notes {
        text += &format!("# {note}\n");
    }
    text + &toml(settings)
}

/// Numbers and strings look the same in JSON and in TOML, and settings are one level deep.
fn toml(settings: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (name, value) in settings.iter().filter(|(_, value)| !value.is_object()) {
        text += &format!("{name} = {value}\n");
    }
    for (section, values) in settings.iter().filter_map(|(name, value)| Some((name, value.as_object()?))) {
        text += &format!("\n[{section}]\n");
        for (name, value) in values {
            text += &format!("{name} = {value}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_a_configuration_without_its_passwords() {
        let mut config = Config::default();
        config.database.url = "mysql://u:secret@db/footfall".parse().expect("a URL");
        let Value::Object(settings) = serde_json::to_value(&config).expect("has a JSON form") else {
            panic!("not an object")
        };
        let text = report(&config, &settings, "a file");
        assert!(!text.contains("secret"), "{text}");

        let file = std::env::temp_dir().join(format!("footfall-check-config-{}", std::process::id()));
        std::fs::write(&file, &text).expect("temporary folder");
        let again = Config::load(Some(&file), std::iter::empty::<(String, String)>());
        std::fs::remove_file(&file).expect("was just written");
        config.database.url = "mysql://***@db/footfall".parse().expect("a URL");
        assert_eq!(again.expect("valid"), config);
    }
}
