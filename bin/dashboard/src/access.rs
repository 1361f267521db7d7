//! Who may see what: an open loopback address, tokens, browser sessions; and how many requests one address may send.
//!
//! | file | what |
//! | --- | --- |
//! | `scope` | what somebody may see |
//! | `token` | the two tokens, and the sessions that they seal |
//! | `guesses` | how many wrong tokens one network may try |

mod guesses;
mod scope;
mod token;

use std::net::IpAddr;
use std::time::Duration;

use footfall_shared::service::config;
use footfall_shared::service::http;
use footfall_shared::service::limit::Limit;
use footfall_shared::service::telemetry::{self, IntCounter};
use hyper::Uri;
use hyper::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderValue, ORIGIN};
use quick_cache::sync::Cache;
use tokio::time::Instant;

use self::guesses::Guesses;
use self::token::{Token, is_same};

pub(crate) use self::scope::{Denied, Scope};

/// Decides which requests may see what.
pub(crate) struct Access {
    /// What is seen without a token.
    open: Scope,
    tokens: Vec<Token>,
    session: Duration,
    /// Whether browsers connect over TLS, so that the cookie can be marked `Secure`.
    is_secure: bool,
    /// The name in `dashboard.url`.
    name: Option<String>,
    /// Scheme, name and port in `dashboard.url`, as a browser would write them.
    origin: Option<String>,
    requests: Limit,
    guesses: Guesses,
    /// What recent sessions open, if anything. A known session costs no computation, and the same wrong one is not counted as
    /// another guess: a browser goes on sending what it has.
    sessions: Cache<String, Option<Scope>>,
    denied: IntCounter,
    limited: IntCounter,
}

/// Seconds' worth of requests that may come at once.
const REQUESTS_BURST_S: u32 = 5;
const COOKIE_NAME: &str = "footfall";
/// Sessions that are checked in one request: a browser sends one, and perhaps one more of another path.
const SESSIONS_MAX: usize = 2;
/// Sessions that are cached; one that was evicted is checked again.
const SESSIONS_KNOWN_MAX: usize = 10_000;
/// Digits, a dot, and 32 bytes in hexadecimal digits.
const SESSION_BYTES_MAX: usize = 20 + 1 + 64;

impl Access {
    /// As configured.
    #[must_use]
    pub(crate) fn new(config: &config::Dashboard) -> Self {
        let tokens: Vec<Token> = [(Scope::Everything, config.token.get()), (Scope::Numbers, config.read_token.get())]
            .into_iter()
            .filter_map(|(scope, token)| Some(Token::new(scope, token?)))
            .collect();
        let open = match (config.listen.ip().is_loopback(), tokens.is_empty()) {
            (true, true) => Scope::Everything,
            (true, false) => Scope::Numbers,
            (false, _) => Scope::Nothing,
        };
        let per_second = config.requests_per_second.get();
        let url = config.url.as_str().parse::<Uri>().ok();
        Self {
            open,
            tokens,
            session: config.session,
            is_secure: config.url.as_str().starts_with("https:"),
            name: url.as_ref().and_then(|url| url.host().map(str::to_owned)),
            origin: url.and_then(|url| {
                let (scheme, authority) = (url.scheme_str()?, url.authority()?.as_str());
                Some(format!("{scheme}://{}", without_default_port(scheme, authority)))
            }),
            requests: Limit::new("requests", f64::from(per_second), per_second * REQUESTS_BURST_S),
            guesses: Guesses::default(),
            sessions: Cache::new(SESSIONS_KNOWN_MAX),
            denied: telemetry::counter(
                "footfall_dashboard_denied_total",
                "Requests without the token that they need, or with a wrong one.",
            ),
            limited: telemetry::counter(
                "footfall_dashboard_limited_total",
                "Requests refused because their address asks too often.",
            ),
        }
    }

    /// Whether a request was sent to a name of ours. It matters only where something is shown without a token: nobody
    /// else's page has one, nor the cookie.
    pub(crate) fn knows_host(&self, headers: &HeaderMap) -> bool {
        self.open == Scope::Nothing || http::names_us(headers, self.name.as_deref())
    }

    /// Whether a request comes from a page of this very host or of `dashboard.url`, or from no page at all.
    pub(crate) fn is_same_origin(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(ORIGIN) else {
            return headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
        };
        let Some((scheme, page)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else {
            return false;
        };
        let page = without_default_port(scheme, page);
        let is_host = headers
            .get(HOST)
            .map(HeaderValue::to_str)
            .is_some_and(|host| host.is_ok_and(|host| without_default_port(scheme, host).eq_ignore_ascii_case(page)));
        is_host || self.origin.as_ref().is_some_and(|ours| ours.eq_ignore_ascii_case(&format!("{scheme}://{page}")))
    }

    /// Counts one request of this address, and says whether it may be served now.
    pub(crate) fn admits(&self, peer: IpAddr) -> bool {
        let is_admitted = self.requests.take(peer, 1, Instant::now()).is_ok();
        if !is_admitted {
            self.limited.inc();
        }
        is_admitted
    }

    /// A request did not get what it asked for.
    pub(crate) fn count_denied(&self) {
        self.denied.inc();
    }

    /// What a request with these headers may see.
    pub(crate) fn scope(&self, peer: IpAddr, headers: &HeaderMap, now_s: u64) -> Result<Scope, Denied> {
        if self.tokens.is_empty() {
            return Ok(self.open);
        }
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let shown = match bearer {
            Some(token) => self.scope_of(peer, token)?,
            None => self.session_scope(peer, headers, now_s),
        };
        Ok(shown.max(self.open))
    }

    /// What a token opens.
    pub(crate) fn scope_of(&self, peer: IpAddr, token: &str) -> Result<Scope, Denied> {
        // Before the token is compared, so that a client that is shut out does not learn that its guess was right.
        if !self.guesses.are_left(peer) {
            self.limited.inc();
            return Err(Denied::TooOften);
        }
        // All of them, so that the time does not say which one it was.
        let opened = self.tokens.iter().filter(|known| is_same(&known.text, token)).map(|known| known.scope);
        opened.fold(None, |_, scope| Some(scope)).ok_or_else(|| {
            self.guesses.count(peer);
            Denied::WrongToken
        })
    }

    /// The value of `Set-Cookie` for a browser that has shown a token of this scope. `Lax`: it comes along with a link
    /// from another site, as from a mail, and with nothing else that others begin; what is shown by a link changes nothing.
    #[must_use]
    pub(crate) fn session_cookie(&self, scope: Scope, now_s: u64) -> Option<String> {
        let token = self.tokens.iter().find(|token| token.scope == scope)?;
        let expires_s = now_s + self.session.as_secs();
        let secure = if self.is_secure { "; Secure" } else { "" };
        Some(format!(
            "{COOKIE_NAME}={expires_s}.{}; Max-Age={}; Path=/; HttpOnly; SameSite=Lax{secure}",
            token.seal(expires_s),
            self.session.as_secs()
        ))
    }

    /// The value of `Set-Cookie` that ends a browser's session.
    #[must_use]
    pub(crate) fn end_of_session() -> String {
        format!("{COOKIE_NAME}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax")
    }

    /// What a browser's session opens. It needs no memory: its end is sealed with the token that was shown, so it holds
    /// in every process with the same tokens, and ends with them.
    fn session_scope(&self, peer: IpAddr, headers: &HeaderMap, now_s: u64) -> Scope {
        headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))
            .take(SESSIONS_MAX)
            .filter_map(|session| self.opened_by(session, peer, now_s))
            .max()
            .unwrap_or(Scope::Nothing)
    }

    fn opened_by(&self, session: &str, peer: IpAddr, now_s: u64) -> Option<Scope> {
        let (expires_s, sealed) = session.split_once('.').filter(|_| session.len() <= SESSION_BYTES_MAX)?;
        let expires_s: u64 = expires_s.parse().ok().filter(|expires_s| now_s < *expires_s)?;
        if let Some(known) = self.sessions.get(session) {
            return known;
        }
        // A seal that fits a guessed token would be as good as the token.
        if !self.guesses.are_left(peer) {
            self.limited.inc();
            return None;
        }
        let opened = self.tokens.iter().find(|token| is_same(&token.seal(expires_s), sealed)).map(|token| token.scope);
        if opened.is_none() {
            self.guesses.count(peer);
        }
        self.sessions.insert(session.to_owned(), opened);
        opened
    }
}

/// A name and port without the port that goes without saying.
fn without_default_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    authority.strip_suffix(port).unwrap_or(authority)
}

#[cfg(test)]
mod tests;
