//! The URL of a MySQL or MariaDB server: what is in it is understood and allowed before anybody connects. Pure, so that the
//! store and the configuration can both use it.

use std::path::Path;
use std::str::FromStr;

use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::given::read_bytes;
use super::secret::{SecretUrl, secret_setting, shown_as_text};
use super::store_url::{Parameter, Rule, StoreUrl, certificates};

const DEFAULT_PORT: u16 = 3306;

const UTF8MB4: Rule = Rule::Never("is utf8mb4 in every session, because ids may hold any character: leave it out");

/// What may be behind the `?`.
const PARAMETERS: [Parameter; 7] = [
    Parameter {
        name: "ssl-mode",
        aliases: &["tls", "ssl", "use-ssl", "usessl", "require-ssl"],
        rule: Rule::Checked(|text| text.parse::<SslMode>().map(drop)),
    },
    Parameter {
        name: "ssl-ca",
        aliases: &["ca", "tls-ca"],
        rule: Rule::Checked(|path| certificates(Path::new(path)).map(drop)),
    },
    Parameter { name: "ssl-cert", aliases: &[], rule: Rule::Checked(|path| certificates(Path::new(path)).map(drop)) },
    Parameter { name: "ssl-key", aliases: &[], rule: Rule::Checked(key) },
    Parameter { name: "socket", aliases: &["unix-socket"], rule: Rule::Checked(socket) },
    Parameter { name: "charset", aliases: &["character-set"], rule: UTF8MB4 },
    Parameter { name: "collation", aliases: &[], rule: UTF8MB4 },
];

/// How much a connection asks of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SslMode {
    Disabled,
    Preferred,
    Required,
    VerifyCa,
    VerifyIdentity,
}

impl FromStr for SslMode {
    type Err = String;

    /// In whatever case, as MySQL's own programs take it.
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.to_ascii_uppercase().as_str() {
            "DISABLED" => Self::Disabled,
            "PREFERRED" => Self::Preferred,
            "REQUIRED" => Self::Required,
            "VERIFY_CA" => Self::VerifyCa,
            "VERIFY_IDENTITY" => Self::VerifyIdentity,
            _ => return Err("must be DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY".into()),
        })
    }
}

fn key(path: &str) -> Result<(), String> {
    let bytes = read_bytes(Path::new(path)).map_err(|why| format!("names {path}, which {why}"))?;
    PrivateKeyDer::from_pem_slice(&bytes)
        .map(drop)
        .map_err(|error| format!("names {path}, which holds no private key in PEM that can be read: {error}"))
}

/// A service waits for a server that is away, so the socket need not be there yet.
fn socket(path: &str) -> Result<(), String> {
    /// <https://man7.org/linux/man-pages/man7/unix.7.html>: 108 with the NUL at the end.
    const BYTES_MAX: usize = 107;
    let is_usable = path.starts_with('/') && path.len() <= BYTES_MAX && !path.ends_with('/');
    if is_usable { Ok(()) } else { Err(format!("must be the absolute path of a socket, of {BYTES_MAX} bytes at most")) }
}

/// The URL of a MySQL or MariaDB server. It may hold a password and is shown without it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    text: SecretUrl,
    parts: StoreUrl,
    mode: Option<SslMode>,
}
shown_as_text!(DatabaseUrl);
secret_setting!(DatabaseUrl: "URL");

impl DatabaseUrl {
    /// With its password: for the store's client, and for nobody else.
    #[must_use]
    pub fn with_password(&self) -> &str {
        &self.text.0
    }

    /// Where the server is, without user and password, for people.
    #[must_use]
    pub fn place(&self) -> String {
        self.parts.parameter("socket").map_or_else(|| self.parts.address(DEFAULT_PORT), str::to_owned)
    }

    /// Whether the server is on this machine. When in doubt, it is not.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.parts.parameter("socket").is_some() || self.parts.is_on_loopback()
    }

    /// Whether an authority is named and no mode: who names one wants the server's certificate verified.
    #[must_use]
    pub fn names_authority_only(&self) -> bool {
        self.parts.parameter("ssl-ca").is_some() && self.mode.is_none()
    }

    /// Who can listen on the way to the server of this setting, a sentence; none if nobody can.
    pub(super) fn exposure(&self, setting: &str) -> Option<String> {
        if self.is_local() || self.names_authority_only() {
            return None;
        }
        let how = match self.mode {
            Some(SslMode::VerifyCa | SslMode::VerifyIdentity) => return None,
            Some(SslMode::Required) => "with a certificate that is not verified: who stands in the way",
            Some(SslMode::Disabled) => "without TLS: who is on the way",
            None | Some(SslMode::Preferred) => "without TLS, unless the server offers it: who is on the way",
        };
        Some(format!(
            "{setting} leads to {} {how} reads the password and can change what is counted; add \
             ?ssl-mode=VERIFY_IDENTITY, and &ssl-ca=/path/ca.pem if the authority is your own",
            self.parts.host
        ))
    }
}

impl Default for DatabaseUrl {
    fn default() -> Self {
        "mysql://footfall@127.0.0.1:3306/footfall".parse().expect("the default is a URL")
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).map(|(parts, mode)| Self { text: SecretUrl(text.to_owned()), parts, mode }).map_err(|why| {
            format!("cannot be used ({why}): it must be such as mysql://user:password@host:3306/footfall")
        })
    }
}

fn parse(text: &str) -> Result<(StoreUrl, Option<SslMode>), String> {
    let url = StoreUrl::parse(text, &["mysql"], &PARAMETERS)?;
    if url.host.is_empty() && url.parameter("socket").is_none() {
        return Err("it names no host".into());
    }
    match url.path.as_str() {
        "" => return Err("it names no database".into()),
        database if database.contains('/') => return Err("there is a second / behind the host".into()),
        _ => {}
    }
    let mode = url.parameter("ssl-mode").map(str::parse).transpose()?;
    let verifies = matches!(mode, None | Some(SslMode::VerifyCa | SslMode::VerifyIdentity));
    if url.parameter("ssl-ca").is_some() && !verifies {
        return Err("its parameter `ssl-ca` is used with ssl-mode=VERIFY_IDENTITY or VERIFY_CA only".into());
    }
    if url.parameter("ssl-cert").is_some() != url.parameter("ssl-key").is_some() {
        return Err("ssl-cert and ssl-key need each other".into());
    }
    Ok((url, mode))
}
