//! The URL of a store, taken apart by one rule: what it says is understood or refused, never passed over. No sentence
//! repeats what may be a piece of a password.

use std::net::IpAddr;
use std::path::Path;

use percent_encoding::percent_decode_str;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use url::{Host, Url};

use super::given::read_bytes;
use super::nearest::nearest;

/// A parameter, behind the `?`, that a URL may have.
pub(super) struct Parameter {
    /// Its name.
    pub(super) name: &'static str,
    /// How others call what it does.
    pub(super) aliases: &'static [&'static str],
    /// What it may be.
    pub(super) rule: Rule,
}

/// What the value of a [`Parameter`] may be.
pub(super) enum Rule {
    /// Answers what is wrong with a value, as the end of a sentence.
    Checked(fn(&str) -> Result<(), String>),
    /// Nothing, though the store's client would take it; why, as the end of a sentence.
    Never(&'static str),
}

/// The URL of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoreUrl {
    /// What is before `://`.
    pub(super) scheme: String,
    /// Without brackets; empty if there is none.
    pub(super) host: String,
    /// If there is one.
    pub(super) port: Option<u16>,
    /// Without the slash at its beginning.
    pub(super) path: String,
    /// Each name once.
    pub(super) parameters: Vec<(String, String)>,
}

impl StoreUrl {
    /// Takes a URL apart.
    ///
    /// # Errors
    ///
    /// What is wrong, as a part of a sentence, without a piece of the URL that may be secret.
    pub(super) fn parse(text: &str, schemes: &[&str], parameters: &[Parameter]) -> Result<Self, String> {
        let begins = || {
            let schemes: Vec<String> = schemes.iter().map(|scheme| format!("{scheme}://")).collect();
            format!("it must begin with {}", schemes.join(" or "))
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(begins)?;
        if !schemes.contains(&scheme) {
            return Err(begins());
        }
        if text.chars().any(|character| character.is_whitespace() || character.is_control()) {
            return Err("it has a space or a line break in it: a space in a password is written %20".into());
        }
        if rest.contains('#') {
            return Err(
                "it has a # in it, and nothing may follow one: in a password it must be percent-encoded, %23".into()
            );
        }
        let hex = |digits: &[u8]| digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit);
        let bytes = rest.as_bytes();
        if rest.match_indices('%').any(|(at, _)| !hex(bytes.get(at + 1..at + 3).unwrap_or_default())) {
            return Err("it has a % that is followed by no two hexadecimal digits: in a password it must be \
                        percent-encoded, %25"
                .into());
        }
        let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        // A file's name and what follows it have no user before them.
        if authority.matches('@').count() > 1 || !authority.is_empty() && tail.contains('@') {
            return Err(
                "it has an @ where none can be: in a user or a password, @ / ? # and % must be percent-encoded, \
                        %40 %2F %3F %23 %25"
                    .into(),
            );
        }
        let url = Url::parse(text).map_err(|error| {
            format!("{error}; in a user or a password, : / ? # [ ] @ and % must be percent-encoded, such as %2F for /")
        })?;
        if [url.username(), url.password().unwrap_or_default(), url.path()]
            .iter()
            .any(|part| percent_decode_str(part).decode_utf8().is_err())
        {
            return Err("what is percent-encoded in it is not UTF-8".into());
        }
        if url.port() == Some(0) {
            return Err("nothing can be reached at port 0".into());
        }
        Ok(Self {
            scheme: scheme.to_owned(),
            host: match url.host() {
                Some(Host::Domain(name)) => name.to_owned(),
                Some(Host::Ipv4(address)) => address.to_string(),
                Some(Host::Ipv6(address)) => address.to_string(),
                None => String::new(),
            },
            port: url.port(),
            path: percent_decode_str(url.path().strip_prefix('/').unwrap_or_default()).decode_utf8_lossy().into_owned(),
            parameters: parameters_of(&url, parameters, !authority.is_empty())?,
        })
    }

    /// The value of a parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Host and port, as one connects to them.
    pub(super) fn address(&self, default_port: u16) -> String {
        let port = self.port.unwrap_or(default_port);
        if self.host.contains(':') { format!("[{}]:{port}", self.host) } else { format!("{}:{port}", self.host) }
    }

    /// Whether its host is this machine. When in doubt, it is not.
    pub(super) fn is_on_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
    }
}

/// What is behind the `?`. `may_show`: unknown names may be repeated, because no password is among them.
fn parameters_of(url: &Url, parameters: &[Parameter], may_show: bool) -> Result<Vec<(String, String)>, String> {
    let mut found: Vec<(String, String)> = Vec::new();
    if url.query().is_some_and(|query| query.contains('+')) {
        return Err("it has a + behind the ?, which would be read as a space: it must be percent-encoded, %2B".into());
    }
    for (name, value) in url.query_pairs() {
        let Some(parameter) = parameters.iter().find(|parameter| parameter.name == name) else {
            let lower = name.to_ascii_lowercase().replace('_', "-");
            let alias = parameters.iter().find(|parameter| parameter.aliases.contains(&lower.as_str()));
            let meant = alias
                .map(|parameter| parameter.name)
                .or_else(|| nearest(&lower, parameters.iter().map(|parameter| parameter.name)));
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            let may_show = (may_show || meant.is_some()) && name.len() <= 40 && name.bytes().all(is_name);
            let named = if may_show { format!("its parameter `{name}`") } else { "a parameter of it".to_owned() };
            let known: Vec<&str> = parameters
                .iter()
                .filter(|parameter| matches!(parameter.rule, Rule::Checked(_)))
                .map(|parameter| parameter.name)
                .collect();
            return Err(match meant {
                Some(meant) => format!("{named} does not exist: did you mean `{meant}`?"),
                None if known.is_empty() => format!("{named} does not exist: nothing may be behind a ?"),
                None => format!("{named} does not exist: it may have {}", known.join(", ")),
            });
        };
        if found.iter().any(|(known, _)| *known == name) {
            return Err(format!("its parameter `{name}` is there twice"));
        }
        if value.is_empty() {
            return Err(format!("its parameter `{name}` is empty"));
        }
        match parameter.rule {
            Rule::Checked(check) => check(&value),
            Rule::Never(why) => Err(why.to_owned()),
        }
        .map_err(|why| format!("its parameter `{name}` {why}"))?;
        found.push((name.into_owned(), value.into_owned()));
    }
    Ok(found)
}

/// The certificates that a file holds in PEM; the end of a sentence if there are none.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let name = path.display();
    let bytes = read_bytes(path).map_err(|why| format!("names {name}, which {why}"))?;
    match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("names {name}, which holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")),
        Err(error) => Err(format!("names {name}, which holds no certificate that can be read: {error}")),
    }
}
