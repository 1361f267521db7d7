//! How a server is reached: what the URL asks for, and nothing that it does not.

use std::path::Path;

use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sea_orm::{ConnectOptions, DbErr};

use crate::service::config::{self, Parameter, Rule, StoreUrl, certificates, read_bytes};

const UTF8MB4: Rule = Rule::Never("is utf8mb4 in every session, because ids may hold any character: leave it out");

/// What may be behind the `?`.
const PARAMETERS: [Parameter; 7] = [
    Parameter {
        name: "ssl-mode",
        aliases: &["tls", "ssl", "use-ssl", "usessl", "require-ssl"],
        rule: Rule::Checked(|text| mode(text).map(drop)),
    },
    Parameter { name: "ssl-ca", aliases: &["ca", "tls-ca"], rule: Rule::Checked(|path| certificates(Path::new(path))) },
    Parameter { name: "ssl-cert", aliases: &[], rule: Rule::Checked(|path| certificates(Path::new(path))) },
    Parameter { name: "ssl-key", aliases: &[], rule: Rule::Checked(key) },
    Parameter { name: "socket", aliases: &["unix-socket"], rule: Rule::Checked(socket) },
    Parameter { name: "charset", aliases: &["character-set"], rule: UTF8MB4 },
    Parameter { name: "collation", aliases: &[], rule: UTF8MB4 },
];

fn mode(text: &str) -> Result<MySqlSslMode, String> {
    text.parse().map_err(|_| "must be DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY".to_owned())
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

fn parse(text: &str) -> Result<StoreUrl, String> {
    let url = StoreUrl::parse(text, &["mysql"], &PARAMETERS)?;
    if url.host.is_empty() && url.parameter("socket").is_none() {
        return Err("it names no host".into());
    }
    match url.path.as_str() {
        "" => return Err("it names no database".into()),
        database if database.contains('/') => return Err("there is a second / behind the host".into()),
        _ => {}
    }
    let mode = url.parameter("ssl-mode").map(mode).transpose()?;
    let verifies = matches!(mode, None | Some(MySqlSslMode::VerifyCa | MySqlSslMode::VerifyIdentity));
    if url.parameter("ssl-ca").is_some() && !verifies {
        return Err("its parameter `ssl-ca` is used with ssl-mode=VERIFY_IDENTITY or VERIFY_CA only".into());
    }
    if url.parameter("ssl-cert").is_some() != url.parameter("ssl-key").is_some() {
        return Err("ssl-cert and ssl-key need each other".into());
    }
    Ok(url)
}

/// Whether a connection can be tried with these settings; a sentence if not.
pub fn check(database: &config::Database) -> Result<(), String> {
    let text = database.url.0.as_str();
    let parsed = parse(text).and_then(|_| text.parse::<MySqlConnectOptions>().map_err(|error| error.to_string()));
    parsed.map(drop).map_err(|why| {
        format!("database.url cannot be used ({why}): it must be such as mysql://user:password@host:3306/footfall")
    })
}

/// Whether the server is on this machine. When in doubt, it is not.
#[must_use]
pub fn is_local(database: &config::Database) -> bool {
    parse(&database.url.0).is_ok_and(|url| url.parameter("socket").is_some() || url.is_on_loopback())
}

/// Who can listen on the way to this server, a sentence; none if nobody can.
#[must_use]
pub fn exposure(database: &config::Database) -> Option<String> {
    let url = parse(&database.url.0).ok().filter(|_| !is_local(database))?;
    let how = match url.parameter("ssl-mode").map(mode).transpose().ok()? {
        Some(MySqlSslMode::VerifyCa | MySqlSslMode::VerifyIdentity) => return None,
        None if url.parameter("ssl-ca").is_some() => return None,
        Some(MySqlSslMode::Required) => "with a certificate that is not verified: who stands in the way",
        Some(MySqlSslMode::Disabled) => "without TLS: who is on the way",
        None | Some(MySqlSslMode::Preferred) => "without TLS, unless the server offers it: who is on the way",
    };
    Some(format!(
        "database.url leads to {} {how} reads the password and can change what is counted; add \
         ?ssl-mode=VERIFY_IDENTITY, and &ssl-ca=/path/ca.pem if the authority is your own",
        url.host
    ))
}

/// Where a server is, without user and password, for people.
pub(super) fn place(database: &config::Database) -> String {
    const PORT: u16 = 3306;
    match parse(&database.url.0) {
        Ok(url) => url.parameter("socket").map_or_else(|| url.address(PORT), str::to_owned),
        Err(_) => "its URL".to_owned(),
    }
}

/// What the URL asks for, and what it does not decide: who names an authority wants the server's certificate verified, and
/// the characters of a session are always all there are.
fn complete(options: MySqlConnectOptions, verifies: bool) -> MySqlConnectOptions {
    // The library keeps the brackets of an IPv6 address, which no resolver knows.
    let host = options.get_host().trim_matches(['[', ']']).to_owned();
    let options = options.host(&host).charset("utf8mb4").set_names(true);
    if verifies { options.ssl_mode(MySqlSslMode::VerifyIdentity) } else { options }
}

/// Whether an authority is named, and no mode.
fn verifies_by_itself(database: &config::Database) -> bool {
    parse(&database.url.0).is_ok_and(|url| url.parameter("ssl-ca").is_some() && url.parameter("ssl-mode").is_none())
}

/// How to connect to a server, once.
pub(super) fn mysql_options(database: &config::Database) -> Result<MySqlConnectOptions, DbErr> {
    let refused = |error: sea_orm::sqlx::Error| DbErr::Custom(error.to_string());
    let options: MySqlConnectOptions = database.url.0.parse().map_err(refused)?;
    Ok(complete(options, verifies_by_itself(database)))
}

/// How to connect to a server. Every connection of Footfall is made with these.
#[must_use]
pub fn connect_options(database: &config::Database) -> ConnectOptions {
    let verifies = verifies_by_itself(database);
    let mut options = ConnectOptions::new(&database.url.0);
    options
        .connect_timeout(database.timeout_ms)
        .acquire_timeout(database.timeout_ms)
        .sqlx_logging(false)
        .map_sqlx_mysql_opts(move |options| complete(options, verifies));
    options
}
