//! Who may see what: an open loopback, tokens, sessions of browsers; and how often one address may ask.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use footfall_shared::service::config;
use footfall_shared::service::http;
use footfall_shared::service::limit::Limit;
use footfall_shared::service::telemetry::{self, IntCounter};
use hmac::{Hmac, KeyInit, Mac};
use hyper::Uri;
use hyper::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderValue, ORIGIN};
use quick_cache::sync::Cache;
use sha2::Sha256;
use tokio::time::Instant;

/// What somebody may see; each sees also what those before it see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Whether the process lives, and the page to log in.
    Nothing,
    /// Numbers of articles and of the site.
    Numbers,
    /// Also who reads what.
    Everything,
}

/// Why somebody sees nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The token is neither of the two.
    WrongToken,
    /// This address tried too many wrong tokens, or asks too often.
    TooOften,
}

/// A token, and what it opens.
struct Token {
    scope: Scope,
    text: String,
    /// Seals sessions. Stretched from the token, so that nobody who has seen a session can try tokens on it by the million.
    seal_key: [u8; 32],
}

impl Token {
    fn new(scope: Scope, text: &str) -> Self {
        let mut seal_key = [0; 32];
        // The same in every process with this token: a session holds in all of them.
        let salt = b"sessions of footfall's dashboard";
        pbkdf2::pbkdf2_hmac::<Sha256>(text.as_bytes(), salt, STRETCHING_ROUNDS, &mut seal_key);
        Self { scope, text: text.to_owned(), seal_key }
    }

    fn seal(&self, expires_s: u64) -> String {
        let bytes = mac(&self.seal_key, &expires_s.to_string()).finalize().into_bytes();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Some ten milliseconds, once at the start.
const STRETCHING_ROUNDS: u32 = 100_000;

/// Decides about requests.
pub struct Access {
    /// What is seen without a token.
    open: Scope,
    tokens: Vec<Token>,
    session: Duration,
    /// Whether browsers come over TLS, so that the cookie can be kept to it.
    is_secure: bool,
    /// The name in `dashboard.url`.
    name: Option<String>,
    /// Scheme, name and port in `dashboard.url`, as a browser would write them.
    origin: Option<String>,
    requests: Limit,
    guesses: Guesses,
    /// What sessions that were looked at open, if anything. One that is known costs nothing to look at, and the same wrong
    /// one again is no new guess: a browser goes on sending what it has.
    sessions: Cache<String, Option<Scope>>,
    denied: IntCounter,
    limited: IntCounter,
}

/// Seconds' worth of requests that may come at once.
const REQUESTS_BURST_S: u32 = 5;
const COOKIE_NAME: &str = "footfall";
/// Sessions in one request that are looked at: a browser sends one, and perhaps one more of another path.
const SESSIONS_MAX: usize = 2;
/// Sessions that are remembered; a new session of one that was forgotten is looked at again.
const SESSIONS_KNOWN_MAX: usize = 10_000;
/// Digits, a dot, and 32 bytes in hexadecimal digits.
const SESSION_BYTES_MAX: usize = 20 + 1 + 64;

impl Access {
    /// As configured.
    #[must_use]
    pub fn new(config: &config::Dashboard) -> Self {
        let tokens: Vec<Token> = [(Scope::Everything, config.token.get()), (Scope::Numbers, config.read_token.get())]
            .into_iter()
            .filter_map(|(scope, token)| Some(Token::new(scope, token?)))
            .collect();
        let open = match (config.listen.ip().is_loopback(), tokens.is_empty()) {
            (true, true) => Scope::Everything,
            (true, false) => Scope::Numbers,
            (false, _) => Scope::Nothing,
        };
        let per_second = config.requests_per_second;
        let url = config.url.as_str().parse::<Uri>().ok();
        Self {
            open,
            tokens,
            session: config.session_ms,
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
    pub fn knows_host(&self, headers: &HeaderMap) -> bool {
        self.open == Scope::Nothing || http::names_us(headers, self.name.as_deref())
    }

    /// Whether a request comes from a page of this very host or of `dashboard.url`, or from no page at all.
    pub fn is_same_origin(&self, headers: &HeaderMap) -> bool {
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

    /// Takes one request of this address; whether it may ask now.
    pub fn may_ask(&self, peer: IpAddr) -> bool {
        let may = self.requests.take(peer, 1, Instant::now()).is_ok();
        if !may {
            self.limited.inc();
        }
        may
    }

    /// A request did not get what it asked for.
    pub fn count_denied(&self) {
        self.denied.inc();
    }

    /// What a request with these headers may see.
    pub fn scope(&self, peer: IpAddr, headers: &HeaderMap, now_s: u64) -> Result<Scope, Denied> {
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
    pub fn scope_of(&self, peer: IpAddr, token: &str) -> Result<Scope, Denied> {
        // Looked at before the token is: whoever guesses does not learn that this one would have been right.
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
    pub fn session_cookie(&self, scope: Scope, now_s: u64) -> Option<String> {
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
    pub fn end_of_session() -> String {
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

fn mac(key: &[u8], text: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key may have any length");
    mac.update(text.as_bytes());
    mac
}

/// Takes the same time wherever the first difference is.
fn is_same(known: &str, given: &str) -> bool {
    const COMPARED: &[u8] = b"compared";
    mac(COMPARED, known).verify(&mac(COMPARED, given).finalize().into_bytes()).is_ok()
}

/// How often wrong tokens and sessions were shown, by those whose first 64 bits are the same, and by those whose first 48
/// are: a network that somebody rents has 65,536 of the first kind.
struct Guesses {
    near: Limit,
    wide: Limit,
}

impl Default for Guesses {
    fn default() -> Self {
        Self { near: Limit::new("guesses", 1.0 / 6.0, 10), wide: Limit::new("guesses_of_48", 0.5, 30) }
    }
}

impl Guesses {
    fn are_left(&self, peer: IpAddr) -> bool {
        let now = Instant::now();
        self.near.has_left(peer, now) && self.wide.has_left(site(peer), now)
    }

    fn count(&self, peer: IpAddr) {
        let now = Instant::now();
        // Nothing is left where nothing can be taken.
        let _ = self.near.take(peer, 1, now);
        let _ = self.wide.take(site(peer), 1, now);
    }
}

/// What a network of IPv6 has in common.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use footfall_shared::service::config::Token;

    const TOKEN: &str = "the token that opens everything";
    const READ_TOKEN: &str = "the token of the wall";
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn access(listen: &str, tokens: [&str; 2]) -> Access {
        let [token, read_token] = tokens.map(|token| Token(token.into()));
        let listen = listen.parse().expect("an address");
        Access::new(&config::Dashboard { listen, token, read_token, ..config::Dashboard::default() })
    }

    fn headers(name: hyper::header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("printable"))])
    }

    #[test]
    fn a_token_opens_what_the_address_does_not() {
        for (listen, tokens, without, with_read_token) in [
            ("127.0.0.1:0", ["", ""], Scope::Everything, None),
            ("127.0.0.1:0", [TOKEN, READ_TOKEN], Scope::Numbers, Some(Scope::Numbers)),
            ("[::1]:0", [TOKEN, ""], Scope::Numbers, None),
            ("0.0.0.0:0", [TOKEN, READ_TOKEN], Scope::Nothing, Some(Scope::Numbers)),
        ] {
            let access = access(listen, tokens);
            let scope = |headers: &HeaderMap| access.scope(PEER, headers, 0);
            let bearer = |token: &str| headers(AUTHORIZATION, &format!("Bearer {token}"));
            assert_eq!(scope(&HeaderMap::new()), Ok(without));
            assert_eq!(scope(&bearer(TOKEN)), Ok(Scope::Everything));
            if let Some(expected) = with_read_token {
                assert_eq!(scope(&bearer(READ_TOKEN)), Ok(expected));
            }
            if !tokens[0].is_empty() {
                assert_eq!(scope(&bearer("another")), Err(Denied::WrongToken));
            }
        }
    }

    #[test]
    fn a_session_ends_with_its_time_and_with_its_token() {
        let first = access("0.0.0.0:0", [TOKEN, READ_TOKEN]);
        for scope in [Scope::Everything, Scope::Numbers] {
            let cookie = first.session_cookie(scope, 1_000).expect("a session");
            assert!(cookie.contains("; HttpOnly; SameSite=Lax") && !cookie.contains("Secure"), "{cookie}");
            let session = cookie.split(';').next().expect("a pair");
            let session = headers(COOKIE, &format!("other=1; {session}"));
            let seconds = first.session.as_secs();
            assert_eq!(first.scope(PEER, &session, 1_000 + seconds - 1), Ok(scope));
            assert_eq!(first.scope(PEER, &session, 1_000 + seconds), Ok(Scope::Nothing));
            let later = access("0.0.0.0:0", ["another token for everything", "another token of the wall"]);
            assert_eq!(later.scope(PEER, &session, 1_000), Ok(Scope::Nothing));
        }
        let over_tls = Access { is_secure: true, ..access("0.0.0.0:0", [TOKEN, ""]) };
        assert!(over_tls.session_cookie(Scope::Everything, 0).is_some_and(|cookie| cookie.ends_with("; Secure")));
        // Its end cannot be moved.
        let cookie = first.session_cookie(Scope::Everything, 1_000).expect("a session");
        let (_, sealed) = cookie.split_once('.').expect("a seal");
        let forged = headers(COOKIE, &format!("footfall=99999999999.{}", sealed.split(';').next().expect("a seal")));
        assert_eq!(first.scope(PEER, &forged, 1_000), Ok(Scope::Nothing));
    }

    #[test]
    fn guesses_are_limited_whatever_way_they_come() {
        let access = access("0.0.0.0:0", [TOKEN, ""]);
        let cookie = access.session_cookie(Scope::Everything, 1_000).expect("a session");
        let right = cookie.split(';').next().expect("a pair").to_owned();
        let ask = |peer: &str, cookies: &str| {
            access.scope(peer.parse().expect("an address"), &headers(COOKIE, cookies), 1_000)
        };
        let wrong = |number: u32| format!("footfall=9999999999.{number:064x}");
        // At most two are looked at, whatever comes behind them.
        let many: Vec<String> = (0..360).map(wrong).collect();
        assert_eq!(ask("192.0.2.1", &many.join("; ")), Ok(Scope::Nothing));
        assert_eq!(access.sessions.len(), 2);
        assert_eq!(ask("192.0.2.2", &format!("{}; {}; {right}", wrong(0), wrong(1))), Ok(Scope::Nothing));
        assert_eq!(ask("192.0.2.2", &format!("{}; {right}", wrong(0))), Ok(Scope::Everything));
        // A browser that goes on sending the same old one is not shut out; whoever tries another each time is, for tokens
        // too.
        for _ in 0..100 {
            assert_eq!(ask("192.0.2.2", &wrong(7)), Ok(Scope::Nothing));
        }
        assert_eq!(access.scope_of("192.0.2.2".parse().expect("an address"), TOKEN), Ok(Scope::Everything));
        for number in 100..120 {
            assert_eq!(ask("192.0.2.2", &wrong(number)), Ok(Scope::Nothing));
        }
        assert_eq!(access.scope_of("192.0.2.2".parse().expect("an address"), TOKEN), Err(Denied::TooOften));
        // Who is logged in stays so, even from the same address.
        assert_eq!(ask("192.0.2.2", &right), Ok(Scope::Everything));
        // A network of its own does not give more than a few.
        for number in 0..60 {
            let _ = access.scope_of(format!("2001:db8:1:{number:x}::1").parse().expect("an address"), "wrong");
        }
        let of = |peer: &str| access.scope_of(peer.parse().expect("an address"), TOKEN);
        assert_eq!((of("2001:db8:1:ffff::1"), of("2001:db8:2::1")), (Err(Denied::TooOften), Ok(Scope::Everything)));
    }

    #[test]
    fn only_our_names_reach_what_needs_no_token() {
        let listen = |listen: &str, tokens| {
            let mut access = access(listen, tokens);
            access.name = Some("Numbers.example".into());
            access
        };
        let open = listen("127.0.0.1:0", ["", ""]);
        let with_token = listen("[::1]:0", [TOKEN, ""]);
        for ours in [
            "127.0.0.1",
            "127.0.0.1:8001",
            "[::1]:8001",
            "192.0.2.1",
            "localhost",
            "LOCALHOST:8001",
            "localhost.",
            "a.localhost:1",
            "numbers.example",
            "numbers.example:443",
        ] {
            let headers = headers(HOST, ours);
            assert!(open.knows_host(&headers) && with_token.knows_host(&headers), "{ours}");
        }
        assert!(open.knows_host(&HeaderMap::new()), "whoever sends none is no browser");
        let everywhere = listen("0.0.0.0:0", [TOKEN, ""]);
        for other in [
            "evil.example",
            "evil.example:8001",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "notlocalhost",
            "numbers.example.evil.example",
            "127.0.0.1@evil.example",
            "",
            ":8001",
            "a b",
        ] {
            let headers = headers(HOST, other);
            assert!(!open.knows_host(&headers) && !with_token.knows_host(&headers), "{other}");
            assert!(everywhere.knows_host(&headers), "the token keeps it");
        }
        let mut twice = headers(HOST, "localhost");
        twice.append(HOST, HeaderValue::from_static("evil.example"));
        assert!(!open.knows_host(&twice));
    }

    #[test]
    fn a_page_of_another_site_is_known_by_its_origin() {
        let access = access("127.0.0.1:0", ["", ""]);
        for (host, origin, is_ours) in [
            ("numbers.example", "http://numbers.example", true),
            ("numbers.example:80", "http://numbers.example", true),
            ("numbers.example:443", "https://numbers.example", true),
            ("numbers.example:8080", "http://numbers.example:8080", true),
            ("[::1]:8001", "http://[::1]:8001", true),
            ("numbers.example:443", "http://numbers.example", false),
            ("numbers.example:8080", "http://numbers.example", false),
            ("numbers.example", "http://evil.example", false),
            ("numbers.example", "null", false),
        ] {
            let mut headers = headers(HOST, host);
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            assert_eq!(access.is_same_origin(&headers), is_ours, "{host} {origin}");
        }
        for (site, is_ours) in [("same-origin", true), ("none", true), ("cross-site", false), ("same-site", false)] {
            assert_eq!(access.is_same_origin(&headers("sec-fetch-site".parse().expect("a name"), site)), is_ours);
        }
        assert!(access.is_same_origin(&HeaderMap::new()), "no browser");
    }

    #[test]
    fn whoever_guesses_is_not_told_when_it_was_right() {
        let access = access("0.0.0.0:0", [TOKEN, ""]);
        for _ in 0..10 {
            assert_eq!(access.scope_of(PEER, "guess"), Err(Denied::WrongToken));
        }
        assert_eq!(access.scope_of(PEER, TOKEN), Err(Denied::TooOften));
        let other = "192.0.2.2".parse().expect("an address");
        assert_eq!(access.scope_of(other, TOKEN), Ok(Scope::Everything));
    }
}
