//! Who sends a view: a user whom the site has named, an anonymous reader, or a client that does not count, such as a bot.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use footfall_shared::protocol::{User, View};
use footfall_shared::redis::{QueueError, Redis};
use footfall_shared::service::config::{Config, ms};
use footfall_shared::service::proxies::{FORWARDED_FOR, Proxies, neighbourhood};
use footfall_shared::service::telemetry::{self, IntCounterVec, Readiness};
use footfall_shared::service::{clock, random};
use hmac::{Hmac, KeyInit, Mac};
use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use sha2::Sha256;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::bots::Bots;
use crate::request::{Rejection, Sent};

/// Decides for every request whose view it is, and whether it counts.
pub struct Visitors {
    bots: Bots,
    proxies: Proxies,
    /// Makes names for anonymous readers. None if a view must name its user.
    salts: Option<Arc<Salts>>,
    readiness: Readiness,
    left_out: IntCounterVec,
}

/// Why a view is answered and not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// Its `User-Agent` is that of a bot.
    Bot,
    /// The browser prefetches the page, and perhaps nobody will look at it.
    Prefetch,
    /// It is a HEAD request, so there is nothing to see.
    Head,
    /// An anonymous reader's browser sends Global Privacy Control: <https://www.w3.org/TR/gpc/>.
    Gpc,
}

impl LeftOut {
    /// The word for it in metrics and in the header `Footfall-Not-Counted`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Bot => "bot",
            Self::Prefetch => "prefetch",
            Self::Head => "head",
            Self::Gpc => "gpc",
        }
    }
}

/// A view to be counted, or why it is left out.
pub(crate) type Fate = Result<View, LeftOut>;

/// The headers by which browsers mark a prefetch: <https://wicg.github.io/nav-speculation/prefetch.html#sec-purpose-header>,
/// and the older ones from before that standard.
const PURPOSES: [HeaderName; 4] = [
    HeaderName::from_static("sec-purpose"),
    HeaderName::from_static("purpose"),
    HeaderName::from_static("x-purpose"),
    HeaderName::from_static("x-moz"),
];

fn is_prefetch(headers: &HeaderMap) -> bool {
    PURPOSES.iter().filter_map(|name| headers.get(name)?.to_str().ok()).any(|purpose| {
        let purpose = purpose.to_ascii_lowercase();
        ["prefetch", "prerender", "preview"].iter().any(|ahead| purpose.contains(ahead))
    })
}

/// Without this nobody would notice that all readers behind a proxy are one, and share one limit.
const UNKNOWN_PROXY: &str = "views come through a proxy that `http.trusted_proxies` does not name: all who come through it \
                             have one address, so readers without a name are told apart by their browsers only";

impl Visitors {
    /// As configured; `salts` if a view may come without a user.
    #[must_use]
    pub fn new(config: &Config, salts: Option<Arc<Salts>>, readiness: Readiness) -> Self {
        let left_out = telemetry::counters(
            "footfall_views_left_out_total",
            "Views that were answered as usual and not counted: of bots, of browsers that fetch ahead (prefetch) or ask \
             for a head only, or of people who ask not to be followed (gpc).",
            "reason",
        );
        Self {
            bots: Bots::new(&config.ingest.bots),
            proxies: config.http.trusted_proxies.clone(),
            salts,
            readiness,
            left_out,
        }
    }

    /// Who sends a request by this method with these headers, which came from `peer`.
    pub(crate) fn visitor<'a>(&'a self, peer: IpAddr, method: &Method, headers: &'a HeaderMap) -> Visitor<'a> {
        let agent = headers.get(USER_AGENT).map_or(&[][..], HeaderValue::as_bytes);
        let nobody = if self.bots.contain(agent) {
            Some(LeftOut::Bot)
        } else if is_prefetch(headers) {
            Some(LeftOut::Prefetch)
        } else {
            (*method == Method::HEAD).then_some(LeftOut::Head)
        };
        Visitor { visitors: self, peer, headers, agent, nobody, name: OnceLock::new() }
    }

    fn leave_out(&self, why: LeftOut) -> Fate {
        self.left_out.with_label_values(&[why.word()]).inc();
        Err(why)
    }
}

/// Who sends one request.
pub(crate) struct Visitor<'a> {
    visitors: &'a Visitors,
    peer: IpAddr,
    headers: &'a HeaderMap,
    agent: &'a [u8],
    /// Why no view of this request counts; none if they do.
    nobody: Option<LeftOut>,
    /// The name of an anonymous reader, computed when it is first needed.
    name: OnceLock<User>,
}

impl Visitor<'_> {
    /// The view to count, or why it is left out. If there must be a user and is none, the rejection says so.
    pub(crate) fn view(&self, sent: Sent, missing: impl FnOnce() -> Rejection) -> Result<Fate, Rejection> {
        let Sent { article, user, id } = sent;
        let user = match (user, &self.visitors.salts, self.nobody) {
            (None, None, _) => return Err(missing()),
            (_, _, Some(why)) => return Ok(self.visitors.leave_out(why)),
            (Some(user), _, None) => user,
            (None, Some(_), None) if self.objects() => return Ok(self.visitors.leave_out(LeftOut::Gpc)),
            (None, Some(salts), None) => self.name.get_or_init(|| self.name(salts)).clone(),
        };
        Ok(Ok(View { article, user, id }))
    }

    /// The name of an anonymous reader for today.
    fn name(&self, salts: &Salts) -> User {
        name(&salts.of(clock::unix_ms() / DAY_MS), self.address(), self.agent)
    }

    /// The address whose budget pays; none if a trusted proxy sends on its own behalf, as the server of a site does for all
    /// its readers.
    pub(crate) fn limited(&self) -> Option<IpAddr> {
        let is_own = self.visitors.proxies.ask_for_themselves(self.peer, self.headers);
        (!is_own).then(|| self.address())
    }

    fn address(&self) -> IpAddr {
        let Visitors { proxies, readiness, .. } = self.visitors;
        let is_for_another = self.headers.contains_key(FORWARDED_FOR) && !proxies.contain(self.peer);
        if is_for_another && readiness.note(UNKNOWN_PROXY) {
            warn!("{UNKNOWN_PROXY}: {} says for whom it asks (X-Forwarded-For)", self.peer);
        }
        proxies.client(self.peer, self.headers)
    }

    fn objects(&self) -> bool {
        self.headers.get("sec-gpc").is_some_and(|value| value == "1")
    }
}

/// The name of an anonymous reader on one day. The same address and browser get the same name, and without the day's salt
/// nobody can find out which they were. A household has 2⁶⁴ addresses of IPv6, and its machines change theirs every day
/// or oftener: of these only the part that they have in common is looked at.
fn name(salt: &str, address: IpAddr, agent: &[u8]) -> User {
    let address = neighbourhood(address);
    let mut hash = Hmac::<Sha256>::new_from_slice(salt.as_bytes()).expect("it takes keys of any length");
    hash.update(format!("{address}\n").as_bytes());
    hash.update(agent);
    // Half of the hash is enough: with 128 bits no two people share a name by chance.
    let hash = u128::from_be_bytes(hash.finalize().into_bytes()[..16].try_into().expect("16 bytes"));
    User::parse(format!("anon:{hash:032x}").as_bytes()).expect("letters and digits, and few of them")
}

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// How long before midnight the next day's salt is agreed on, so that a Redis that is away just then does no harm.
const AHEAD_MS: u64 = 10 * 60 * 1_000;
/// How long after midnight Redis forgets a salt, if no ingest has deleted it by then.
const BEHIND_MS: u64 = 60 * 60 * 1_000;
/// How often an ingest checks that it still has the salt that the others have.
const PERIOD: Duration = Duration::from_secs(10);

/// The salt of each day (days since 1970 UTC), which all ingests share through Redis and nobody keeps for longer. Never
/// shown.
#[derive(Default)]
pub struct Salts {
    days: Mutex<BTreeMap<u64, String>>,
    /// Whether Redis's file may still hold one that we have deleted.
    is_in_file: AtomicBool,
}

impl Salts {
    /// Those on which the ingests agree, as far as Redis can be reached.
    pub async fn agreed(redis: &Redis) -> Self {
        let salts = Self::default();
        salts.try_agree(redis).await;
        salts
    }

    /// Keeps the salts the same as those of the other ingests, until `stop`.
    pub async fn keep(self: Arc<Self>, redis: Redis, stop: CancellationToken) -> anyhow::Result<()> {
        let agree = async {
            loop {
                tokio::time::sleep(PERIOD).await;
                self.try_agree(&redis).await;
            }
        };
        stop.run_until_cancelled(agree).await;
        Ok(())
    }

    /// Until it succeeds this ingest has a salt of its own: then a person is another one here than elsewhere.
    async fn try_agree(&self, redis: &Redis) {
        if let Err(error) = self.agree(redis, clock::unix_ms()).await {
            debug!("the salt of the day could not be agreed on: {error}");
        }
    }

    /// Offers Redis our salts, and takes those that were offered first; so a Redis that lost them gets them back. Ends
    /// that of the day before, in Redis's file too.
    async fn agree(&self, redis: &Redis, now_ms: u64) -> Result<(), QueueError> {
        let today = now_ms / DAY_MS;
        self.days().retain(|day, _| *day >= today);
        for day in today..=(now_ms + AHEAD_MS) / DAY_MS {
            let life = ms((day + 1) * DAY_MS + BEHIND_MS - now_ms);
            let agreed = redis.salt(day, &self.of(day), life).await?;
            self.days().insert(day, agreed);
        }
        if redis.end_salt(today.saturating_sub(1)).await? {
            self.is_in_file.store(true, Ordering::Relaxed);
        }
        // One of all ingests does this, again until it succeeds: Redis refuses while it is at it already.
        if self.is_in_file.load(Ordering::Relaxed) {
            redis.rewrite_file().await?;
            self.is_in_file.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    fn of(&self, day: u64) -> String {
        let salt = || [(); 4].map(|()| format!("{:016x}", random::number())).concat();
        self.days().entry(day).or_insert_with(salt).clone()
    }

    fn days(&self) -> MutexGuard<'_, BTreeMap<u64, String>> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use footfall_shared::protocol::Article;

    use super::*;

    const CHROME: &str =
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    fn sent(user: Option<&str>) -> Sent {
        let user = user.map(|user| User::parse(user.as_bytes()).expect("test id"));
        Sent { article: Article::parse(b"a").expect("test id"), user, id: None }
    }

    fn missing() -> Rejection {
        crate::request::missing_in_query("user")
    }

    #[test]
    fn a_name_is_of_one_day_one_address_and_one_browser() {
        let of = |salt, address, agent: &str| name(salt, ip(address), agent.as_bytes());
        let ours = of("one day", "192.0.2.1", CHROME);
        assert_eq!(ours, of("one day", "192.0.2.1", CHROME));
        let others = [("another", "192.0.2.1", CHROME), ("one day", "192.0.2.2", CHROME), ("one day", "192.0.2.1", "")];
        for (salt, address, agent) in others {
            assert_ne!(ours, of(salt, address, agent));
        }
        // Of one household with IPv6, whichever address its machine has just now.
        let home = of("one day", "2001:db8:0:7::1", CHROME);
        assert_eq!(home, of("one day", "2001:db8:0:7:a:b:c:d", CHROME));
        assert_ne!(home, of("one day", "2001:db8:0:8::1", CHROME));
        assert_eq!(ours, of("one day", "::ffff:192.0.2.1", CHROME));
        let hash = ours.as_str().strip_prefix("anon:").expect("they are told from users");
        assert!(hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{ours}");
    }

    #[test]
    fn what_is_left_out_is_counted_apart() {
        let config = Config::default();
        let strict = Visitors::new(&config, None, Readiness::default());
        let open = Visitors::new(&config, Some(Arc::default()), Readiness::default());
        let (person, bot, private) =
            (headers(&[("user-agent", CHROME)]), headers(&[("user-agent", "Bot")]), headers(&[("sec-gpc", "1")]));
        let view = |visitors: &Visitors, headers: &HeaderMap, user| {
            visitors.visitor(ip("192.0.2.1"), &Method::POST, headers).view(sent(user), missing)
        };
        let user = |view: Result<Fate, Rejection>| view.expect("fine").map(|view| view.user.to_string());
        assert_eq!(user(view(&strict, &person, Some("u"))).as_deref(), Ok("u"));
        // A bot's bad request is rejected like anybody else's.
        assert_eq!((view(&strict, &person, None), view(&strict, &bot, None)), (Err(missing()), Err(missing())));
        assert!(user(view(&open, &person, None)).is_ok_and(|name| name.starts_with("anon:")));
        assert_eq!(user(view(&open, &private, Some("u"))).as_deref(), Ok("u"));
        let left_out = |why: LeftOut| open.left_out.with_label_values(&[why.word()]).get();
        assert_eq!([LeftOut::Bot, LeftOut::Gpc].map(left_out), [0, 0]);
        for reader in [None, Some("u")] {
            assert_eq!(user(view(&open, &bot, reader)), Err(LeftOut::Bot));
        }
        assert_eq!(user(view(&open, &private, None)), Err(LeftOut::Gpc));
        assert_eq!([LeftOut::Bot, LeftOut::Gpc].map(left_out), [2, 1]);
        assert!(user(view(&open, &headers(&[("sec-gpc", "0")]), None)).is_ok());
    }

    #[test]
    fn who_only_fetches_ahead_has_read_nothing() {
        let open = Visitors::new(&Config::default(), Some(Arc::default()), Readiness::default());
        let fate = |method: &Method, pairs: &[(&'static str, &str)]| {
            let view = open.visitor(ip("192.0.2.1"), method, &headers(pairs)).view(sent(Some("u")), missing);
            view.expect("fine").map(|_| ())
        };
        for pair in [
            ("sec-purpose", "prefetch"),
            ("sec-purpose", "prefetch;prerender"),
            ("sec-purpose", "Prefetch;anonymous-client-ip"),
            ("purpose", "prefetch"),
            ("x-purpose", "preview"),
            ("x-moz", "prefetch"),
        ] {
            assert_eq!(fate(&Method::GET, &[pair]), Err(LeftOut::Prefetch), "{pair:?}");
        }
        for pair in [("sec-purpose", ""), ("sec-fetch-dest", "document"), ("purpose", "read")] {
            assert_eq!(fate(&Method::GET, &[pair]), Ok(()), "{pair:?}");
        }
        assert_eq!(fate(&Method::HEAD, &[]), Err(LeftOut::Head));
    }

    #[test]
    fn a_proxy_that_nobody_has_named_is_noticed() {
        let readiness = Readiness::default();
        let proxies = "192.0.2.1".parse().expect("an address");
        let mut config = Config::default();
        config.http.trusted_proxies = proxies;
        let open = Visitors::new(&config, Some(Arc::default()), readiness.clone());
        let headers = headers(&[("x-forwarded-for", "203.0.113.1")]);
        for (peer, user, is_noticed) in
            [("192.0.2.1", None, false), ("192.0.2.2", Some("u"), false), ("192.0.2.2", None, true)]
        {
            open.visitor(ip(peer), &Method::GET, &headers).view(sent(user), missing).expect("fine").expect("counted");
            assert_eq!(readiness.health().reason.is_some(), is_noticed, "{peer} {user:?}");
        }
    }

    #[test]
    fn only_a_proxy_that_asks_for_itself_has_no_limit() {
        let readiness = Readiness::default();
        let mut config = Config::default();
        config.http.trusted_proxies = "192.0.2.1".parse().expect("an address");
        let all = Visitors::new(&config, None, readiness.clone());
        let (forwarded, nobody) = (headers(&[("x-forwarded-for", "203.0.113.1")]), HeaderMap::new());
        let unreadable = headers(&[("x-forwarded-for", "unknown")]);
        for (peer, headers, limited, is_noticed) in [
            ("192.0.2.1", &nobody, None, false),
            ("192.0.2.1", &forwarded, Some("203.0.113.1"), false),
            ("192.0.2.1", &unreadable, Some("192.0.2.1"), false),
            ("192.0.2.2", &nobody, Some("192.0.2.2"), false),
            // All who come through it share one limit: somebody should know.
            ("192.0.2.2", &forwarded, Some("192.0.2.2"), true),
        ] {
            assert_eq!(all.visitor(ip(peer), &Method::POST, headers).limited(), limited.map(ip), "{peer} {headers:?}");
            assert_eq!(readiness.health().reason.is_some(), is_noticed, "{peer} {headers:?}");
        }
    }

    #[test]
    fn a_salt_stays_until_its_day_is_over() {
        let salts = Salts::default();
        let salt = salts.of(7);
        assert!(salt.len() == 64 && salts.of(7) == salt && salts.of(8) != salt);
    }
}
