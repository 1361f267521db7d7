//! Who may see what: an open loopback, tokens, sessions of browsers; and how often one address may ask.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use footfall_shared::config::{self, ms};
use footfall_shared::http;
use footfall_shared::proxies::neighbourhood;
use footfall_shared::telemetry::{self, IntCounter};
use hmac::{Hmac, KeyInit, Mac};
use hyper::Uri;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap};
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

/// Decides about requests.
pub struct Access {
    /// What is seen without a token.
    open: Scope,
    /// Each token, and what it opens.
    tokens: Vec<(Scope, String)>,
    session: Duration,
    /// Whether browsers come over TLS, so that the cookie can be kept to it.
    is_secure: bool,
    /// The name in `dashboard.url`.
    name: Option<String>,
    requests: Limit,
    wrong_tokens: Limit,
    denied: IntCounter,
    limited: IntCounter,
}

/// Wrong tokens per second of one address, in the long run.
const WRONG_PER_SECOND: f64 = 1.0 / 6.0;
/// Wrong tokens of one address at once.
const WRONG_BURST: f64 = 10.0;
/// Seconds' worth of requests that may come at once.
const REQUESTS_BURST_S: f64 = 5.0;
const COOKIE_NAME: &str = "footfall";

impl Access {
    /// As configured.
    #[must_use]
    pub fn new(config: &config::Dashboard) -> Self {
        let tokens: Vec<(Scope, String)> =
            [(Scope::Everything, config.token.get()), (Scope::Numbers, config.read_token.get())]
                .into_iter()
                .filter_map(|(scope, token)| Some((scope, token?.to_owned())))
                .collect();
        let open = match (config.listen.ip().is_loopback(), tokens.is_empty()) {
            (true, true) => Scope::Everything,
            (true, false) => Scope::Numbers,
            (false, _) => Scope::Nothing,
        };
        let per_second = f64::from(config.requests_per_second);
        Self {
            open,
            tokens,
            session: ms(config.session_ms),
            is_secure: config.url.starts_with("https:"),
            name: config.url.parse::<Uri>().ok().and_then(|url| url.host().map(str::to_owned)),
            requests: Limit::new(per_second, per_second * REQUESTS_BURST_S),
            wrong_tokens: Limit::new(WRONG_PER_SECOND, WRONG_BURST),
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

    /// Takes one request of this address; whether it may ask now.
    pub fn may_ask(&self, peer: IpAddr) -> bool {
        let may = self.requests.take(peer, Instant::now());
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
            None => self.session_scope(headers, now_s),
        };
        Ok(shown.max(self.open))
    }

    /// What a token opens.
    pub fn scope_of(&self, peer: IpAddr, token: &str) -> Result<Scope, Denied> {
        // Looked at before the token is: whoever guesses does not learn that this one would have been right.
        if !self.wrong_tokens.has_left(peer, Instant::now()) {
            self.limited.inc();
            return Err(Denied::TooOften);
        }
        // All of them, so that the time does not say which one it was.
        let opened = self.tokens.iter().filter(|(_, known)| is_same(known, token)).map(|(scope, _)| *scope);
        opened.fold(None, |_, scope| Some(scope)).ok_or_else(|| {
            self.wrong_tokens.take(peer, Instant::now());
            Denied::WrongToken
        })
    }

    /// The value of `Set-Cookie` for a browser that has shown a token of this scope.
    #[must_use]
    pub fn session_cookie(&self, scope: Scope, now_s: u64) -> Option<String> {
        let (_, token) = self.tokens.iter().find(|(known, _)| *known == scope)?;
        let expires_s = now_s + self.session.as_secs();
        let secure = if self.is_secure { "; Secure" } else { "" };
        Some(format!(
            "{COOKIE_NAME}={expires_s}.{}; Max-Age={}; Path=/; HttpOnly; SameSite=Strict{secure}",
            seal(token, expires_s),
            self.session.as_secs()
        ))
    }

    /// What a browser's session opens. It needs no memory: its end is sealed with the token that was shown, so it holds
    /// in every process with the same tokens, and ends with them.
    fn session_scope(&self, headers: &HeaderMap, now_s: u64) -> Scope {
        headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))
            .filter_map(|session| {
                let (expires_s, sealed) = session.split_once('.')?;
                let expires_s = expires_s.parse().ok().filter(|expires_s| now_s < *expires_s)?;
                let sealed_by = |token: &str| is_same(&seal(token, expires_s), sealed);
                self.tokens.iter().find(|(_, token)| sealed_by(token)).map(|(scope, _)| *scope)
            })
            .max()
            .unwrap_or(Scope::Nothing)
    }
}

fn mac(key: &str, text: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key may have any length");
    mac.update(text.as_bytes());
    mac
}

fn seal(token: &str, expires_s: u64) -> String {
    let bytes = mac(token, &format!("a session of footfall's dashboard until {expires_s}")).finalize().into_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes the same time wherever the first difference is.
fn is_same(known: &str, given: &str) -> bool {
    const COMPARED: &str = "compared";
    mac(COMPARED, known).verify(&mac(COMPARED, given).finalize().into_bytes()).is_ok()
}

/// A bucket for each address, which fills up with time.
struct Limit {
    per_second: f64,
    burst: f64,
    buckets: Cache<IpAddr, Arc<Mutex<Bucket>>>,
}

struct Bucket {
    left: f64,
    at: Instant,
}

/// Addresses that are remembered; one that was forgotten begins with a full bucket.
const ADDRESSES_MAX: usize = 10_000;

impl Limit {
    fn new(per_second: f64, burst: f64) -> Self {
        Self { per_second, burst, buckets: Cache::new(ADDRESSES_MAX) }
    }

    fn take(&self, address: IpAddr, now: Instant) -> bool {
        self.with_bucket(address, now, |bucket| {
            let has_left = bucket.left >= 1.0;
            if has_left {
                bucket.left -= 1.0;
            }
            has_left
        })
    }

    fn has_left(&self, address: IpAddr, now: Instant) -> bool {
        self.with_bucket(address, now, |bucket| bucket.left >= 1.0)
    }

    fn with_bucket<T>(&self, address: IpAddr, now: Instant, look: impl FnOnce(&mut Bucket) -> T) -> T {
        let full = || Ok::<_, Infallible>(Arc::new(Mutex::new(Bucket { left: self.burst, at: now })));
        let Ok(bucket) = self.buckets.get_or_insert_with(&neighbourhood(address), full);
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = now.saturating_duration_since(bucket.at).as_secs_f64() * self.per_second;
        bucket.left = self.burst.min(bucket.left + filled);
        bucket.at = now;
        look(&mut bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use footfall_shared::config::Token;
    use hyper::header::{HOST, HeaderValue};

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
            assert!(cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains("Secure"), "{cookie}");
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
    fn whoever_guesses_is_not_told_when_it_was_right() {
        let access = access("0.0.0.0:0", [TOKEN, ""]);
        for _ in 0..WRONG_BURST as u32 {
            assert_eq!(access.scope_of(PEER, "guess"), Err(Denied::WrongToken));
        }
        assert_eq!(access.scope_of(PEER, TOKEN), Err(Denied::TooOften));
        let other = "192.0.2.2".parse().expect("an address");
        assert_eq!(access.scope_of(other, TOKEN), Ok(Scope::Everything));
    }

    #[test]
    fn a_bucket_fills_up_again_and_not_beyond_its_size() {
        let limit = Limit::new(2.0, 3.0);
        let now = Instant::now();
        let taken = |at| (0..10).filter(|_| limit.take(PEER, at)).count();
        assert_eq!(taken(now), 3);
        assert_eq!(taken(now + Duration::from_secs(1)), 2);
        assert_eq!(taken(now + Duration::from_secs(100)), 3);
        // Neighbours in IPv6 share one.
        let [one, two, far] = ["2001:db8::1", "2001:db8::2:2", "2001:db8:0:1::1"].map(|a| a.parse().expect("address"));
        assert!((0..3).all(|_| limit.take(one, now)) && !limit.take(two, now) && limit.take(far, now));
    }
}
