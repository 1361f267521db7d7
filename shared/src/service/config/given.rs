//! What was written, and where: the file with its lines, the environment with its variables, secrets in files of their own.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;

use config::{Config as Layers, Environment, File, FileFormat, ValueKind};
use toml::de::DeTable;

use super::nearest::{did_you_mean_variable, names, variable};
use super::setting::Value;

/// All that was written.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// In the same order each time.
    pub(super) written: Vec<Written>,
    /// What cannot be read at all, a sentence each.
    pub(super) mistakes: Vec<String>,
    /// What was left out on purpose, a sentence each.
    pub(super) notes: Vec<String>,
}

/// A value for `section.key`, or for a key outside the sections.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) section: Option<String>,
    pub(super) key: String,
    /// The variable, or the key and its line: the beginning of a sentence.
    pub(super) whence: String,
    pub(super) value: Value,
}

/// Beginning of the names of our variables.
const PREFIX: &str = "FOOTFALL_";
/// Of the flag `--config`.
const FLAG: &str = "FOOTFALL_CONFIG";
/// No configuration and no secret is longer: who names a disk or a device is told so.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the file and the environment.
pub(super) fn collect<T: Into<OsString>>(file: Option<&Path>, environment: impl IntoIterator<Item = (T, T)>) -> Given {
    let mut given = Given::default();
    let mut layers = Layers::builder();
    let mut lines = HashMap::new();
    if let Some(path) = file {
        match read(path).and_then(|text| Ok((lines_of(&text)?, text))) {
            Ok((found, text)) => {
                lines = found;
                layers = layers.add_source(File::from_str(&text, FileFormat::Toml));
            }
            Err(why) => given.mistakes.push(format!("{}: {why}", path.display())),
        }
    }
    let environment = given.of_ours(environment);
    let variables = given.take_variables(environment);
    let values = variables.iter().map(|(name, (_, value))| (name.clone(), value.clone())).collect();
    // Values stay text until their setting is known: a password 00123 must not become 123.
    let layer = Environment::with_prefix("FOOTFALL").prefix_separator("_").separator("__").source(Some(values));
    let merged = match layers.add_source(layer).build().and_then(|layers| config::Source::collect(&layers)) {
        Ok(merged) => merged,
        Err(error) => {
            given.mistakes.push(error.to_string());
            return given;
        }
    };
    let mut write = |section: Option<&str>, key: String, value: config::Value| {
        let name = section.map_or_else(|| key.clone(), |section| format!("{section}.{key}"));
        // Only what comes from the environment says where it comes from.
        let is_of_environment = value.origin().is_some();
        let whence = match (is_of_environment, lines.get(&name), file) {
            (true, ..) => variables.get(&variable(&name)).map_or(name, |(shown, _)| shown.clone()),
            (false, Some(line), Some(path)) => format!("{name} ({}:{line})", path.display()),
            (false, ..) => name,
        };
        let value = match value.kind {
            ValueKind::String(text) if is_of_environment => Value::Text(text),
            kind => Value::Kind(kind),
        };
        given.written.push(Written { section: section.map(str::to_owned), key, whence, value });
    };
    for (section, value) in merged.into_iter().collect::<BTreeMap<_, _>>() {
        match value.kind {
            ValueKind::Table(settings) if !settings.is_empty() => {
                for (key, value) in settings.into_iter().collect::<BTreeMap<_, _>>() {
                    write(Some(&section), key, value);
                }
            }
            // An empty section is nothing, if it is one of ours.
            ValueKind::Table(_) if names().iter().any(|name| name.starts_with(&format!("{section}."))) => {}
            _ => write(None, section, value),
        }
    }
    given
}

impl Given {
    /// The variables that look like Footfall's own. What others are called and hold is nobody's business, and need not be
    /// UTF-8.
    fn of_ours<T: Into<OsString>>(&mut self, environment: impl IntoIterator<Item = (T, T)>) -> HashMap<String, String> {
        let environment = environment.into_iter().map(|(name, value)| (name.into(), value.into()));
        let ours = environment.filter(|(name, _): &(OsString, OsString)| {
            let begin = name.as_encoded_bytes().get(..PREFIX.len());
            // The flag's variable names a file, whatever its bytes.
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(PREFIX.as_bytes())) && name != FLAG
        });
        ours.filter_map(|(name, value)| {
            let shown = name.to_string_lossy().into_owned();
            let utf8 = name.into_string().ok().zip(value.into_string().ok());
            if utf8.is_none() && shown.starts_with(PREFIX) {
                self.mistakes.push(format!("{shown}: its name or its value is not UTF-8"));
            }
            utf8
        })
        .collect()
    }

    /// The variables that are settings, each with the name under which it was given, and its value; mistakes and notes
    /// about the others that look like ours.
    fn take_variables(&mut self, environment: HashMap<String, String>) -> BTreeMap<String, (String, String)> {
        let known: Vec<String> = names().iter().map(|name| variable(name)).collect();
        let is_known = |name: &str| known.iter().any(|known| known == name.strip_suffix("_FILE").unwrap_or(name));
        let mut taken = BTreeMap::new();
        let mut links = Vec::new();
        for (name, value) in environment.iter().collect::<BTreeMap<_, _>>() {
            let capitals = name.to_ascii_uppercase();
            if !name.starts_with(PREFIX) {
                if is_known(&capitals) {
                    self.mistakes.push(format!("{name} is not read: did you mean {capitals}?"));
                }
            } else if is_service_link(name, value) {
                links.push(name.as_str());
            } else if !is_known(name) {
                self.mistakes.push(format!("{name} is no setting{}", did_you_mean_variable(name)));
            } else if let Some(target) = name.strip_suffix("_FILE") {
                match read(Path::new(value)) {
                    _ if environment.contains_key(target) => {
                        self.mistakes.push(format!("{target} and {name} are both set: leave one of them out"));
                    }
                    Ok(text) => {
                        let text = text.trim_end_matches(['\r', '\n']).to_owned();
                        taken.insert(target.to_owned(), (name.clone(), text));
                    }
                    Err(why) => self.mistakes.push(format!("{name} names {value}, which {why}")),
                }
            } else {
                taken.insert(name.clone(), (name.clone(), value.clone()));
            }
        }
        if !links.is_empty() {
            self.notes.push(format!(
                "not read, because Kubernetes sets them for a service of that name: {} (`enableServiceLinks: false` in the \
                 pod ends that)",
                links.join(", ")
            ));
        }
        taken
    }
}

/// Whether this is a variable that Kubernetes sets in every container for a service whose name begins with `footfall`
/// (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>).
fn is_service_link(name: &str, value: &str) -> bool {
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    // Ours have two underscores in a row.
    if name.contains("__") {
        return false;
    }
    let after = |part: &str| name.split_once(part).map(|(_, rest)| rest);
    if name.ends_with("_SERVICE_HOST") {
        return is_address(value);
    }
    if after("_SERVICE_PORT").is_some_and(|rest| rest.is_empty() || rest.starts_with('_')) {
        return is_port(value);
    }
    if name.ends_with("_PORT") && is_url {
        return true;
    }
    // `_PORT_8000_TCP`, and `_PROTO`, `_PORT` and `_ADDR` behind it.
    let Some((number, rest)) = after("_PORT_").and_then(|rest| rest.split_once('_')) else { return false };
    let (protocol, what) = rest.split_once('_').unwrap_or((rest, ""));
    let fits = match what {
        "" => is_url,
        "PROTO" => matches!(value, "tcp" | "udp" | "sctp"),
        "PORT" => is_port(value),
        "ADDR" => is_address(value),
        _ => false,
    };
    is_port(number) && matches!(protocol, "TCP" | "UDP" | "SCTP") && fits
}

/// The bytes of a file; the end of a sentence if it cannot be read.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match bytes() {
        Ok(bytes) if bytes.len() as u64 > FILE_BYTES_MAX => Err("is larger than 1 MiB".into()),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// The text of a file.
fn read(path: &Path) -> Result<String, String> {
    String::from_utf8(read_bytes(path)?).map_err(|_| "is not UTF-8".into())
}

/// The lines of all settings of a file, by name. What is wrong with a file that is no TOML is told by its place only: the
/// line itself may hold a password.
fn lines_of(text: &str) -> Result<HashMap<String, usize>, String> {
    let line = |at: usize| text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line(span.start));
        format!("line {line} is no TOML: {}", error.message())
    })?;
    let mut lines = HashMap::new();
    for (key, value) in table.get_ref() {
        let name = key.get_ref();
        lines.insert(name.to_string(), line(key.span().start));
        for (key, _) in value.get_ref().as_table().into_iter().flatten() {
            lines.insert(format!("{name}.{}", key.get_ref()), line(key.span().start));
        }
    }
    Ok(lines)
}
