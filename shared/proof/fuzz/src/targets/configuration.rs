//! A configuration file and the environment.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use footfall_shared::service::config::Config;
use serde_json::Value;

/// Names of hosts are looked up, and files are read: neither is a parser, and a fuzzer would ask the network and the disk.
const LEFT_ALONE: [&str; 6] = ["listen", "admin", "_file", "ca", "cert", "key"];

/// In memory, where there is such a folder.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    folder.keep().join("footfall.toml")
});

/// Up to the first zero byte a file, behind it lines `NAME=value` of the environment.
pub(crate) fn load(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    if LEFT_ALONE.iter().any(|word| text.contains(word)) {
        return;
    }
    let (file, environment) = bytes.split_at(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    let environment = String::from_utf8_lossy(environment.get(1..).unwrap_or_default()).into_owned();
    let variables = environment.lines().filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (format!("FOOTFALL_{name}"), value.to_owned()));
    fs::write(&*FILE, file).expect("a file");
    match Config::load(Some(&FILE), variables) {
        Ok(config) => {
            config.warnings().iter().for_each(|warning| assert_one_line(warning));
            let shown = serde_json::to_value(&config).expect("it has a form");
            // What is shown is what is in force, but for secrets, which nobody is shown.
            let variables = variables_of(&shown);
            let again = Config::load(None, variables).unwrap_or_else(|error| panic!("{error}\n{shown:#}"));
            assert_eq!(serde_json::to_value(&again).expect("it has a form"), shown);
        }
        Err(error) => {
            assert!(!error.0.is_empty(), "a mistake has a sentence");
            error.0.iter().for_each(|mistake| assert_one_line(mistake));
        }
    }
}

fn assert_one_line(sentence: &str) {
    assert!(!sentence.is_empty(), "a sentence");
}

fn variables_of(shown: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut variables = vec![];
    for (section, value) in shown.as_object().expect("an object") {
        match value.as_object() {
            None => variables.push((format!("FOOTFALL_{}", section.to_uppercase()), text(value))),
            Some(settings) => {
                for (key, value) in settings.iter().filter(|(key, _)| !key.contains("token")) {
                    let name = format!("FOOTFALL_{}__{}", section.to_uppercase(), key.to_uppercase());
                    variables.push((name, text(value)));
                }
            }
        }
    }
    variables
}
