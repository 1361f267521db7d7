//! How a server is reached: what the URL asks for, and nothing that it does not.

use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sea_orm::{ConnectOptions, DbErr};

use crate::service::config;

/// What the URL asks for, and what it does not decide: who names an authority wants the server's certificate verified, and
/// the characters of a session are always all there are.
fn complete(options: MySqlConnectOptions, verifies: bool) -> MySqlConnectOptions {
    // The library keeps the brackets of an IPv6 address, which no resolver knows.
    let host = options.get_host().trim_matches(['[', ']']).to_owned();
    let options = options.host(&host).charset("utf8mb4").set_names(true);
    if verifies { options.ssl_mode(MySqlSslMode::VerifyIdentity) } else { options }
}

/// How to connect to a server, once.
pub(super) fn mysql_options(database: &config::Database) -> Result<MySqlConnectOptions, DbErr> {
    let refused = |error: sea_orm::sqlx::Error| DbErr::Custom(error.to_string());
    let options: MySqlConnectOptions = database.url.with_password().parse().map_err(refused)?;
    Ok(complete(options, database.url.names_authority_only()))
}

/// How to connect to a server. Every connection of Footfall is made with these.
#[must_use]
pub fn connect_options(database: &config::Database) -> ConnectOptions {
    let verifies = database.url.names_authority_only();
    let mut options = ConnectOptions::new(database.url.with_password());
    options
        .connect_timeout(database.timeout)
        .acquire_timeout(database.timeout)
        .sqlx_logging(false)
        .map_sqlx_mysql_opts(move |options| complete(options, verifies));
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration asks its own rules only, which must not be wider than the client's.
    #[test]
    fn the_client_takes_every_url_that_the_configuration_takes() {
        for url in [
            "mysql://u:p%40%2F@db.example/footfall",
            "mysql://u@[::1]:3306/footfall",
            "mysql://u@localhost/footfall?socket=/run/mysqld/mysqld.sock",
            "mysql:///footfall?socket=/run/mysqld/mysqld.sock",
            "mysql://u@db/foot%20fall?ssl-mode=verify_identity",
            "mysql://u@db/footfall?ssl-mode=DISABLED",
            "mysql://u@db/footfall?ssl-mode=Preferred",
            "mysql://u@db/footfall?ssl-mode=REQUIRED",
            "mysql://u@db/footfall?ssl-mode=VERIFY_CA",
        ] {
            let database = config::Database { url: url.parse().expect(url), ..config::Database::default() };
            mysql_options(&database).expect(url);
        }
    }
}
