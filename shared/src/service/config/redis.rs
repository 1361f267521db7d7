//! `[redis]`: the log of views, and the cache.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use webpki::anchor_from_trusted_cert;

use super::setting::{section, settings_of_text};
use super::store_url::certificates;
use super::{RedisUrls, ms};

section!(
    /// Redis: the log of the views that the database does not have yet, and the cache.
    Redis {
        /// `rediss://user:password@host:6379/0` with TLS and a password; or `unix:///path/to/socket`. Several share the
        /// shards among them. With `redis.sentinels`, the name of the master stands in the place of host and port.
        url: RedisUrls = RedisUrls::default();
        /// How the servers belong together: `single`, `shards` (several, each with some of the shards), `sentinel`, or
        /// [`cluster`](docs/operations.md#redis-cluster), of which `redis.url` names some nodes; `auto` goes by what
        /// `redis.url` and `redis.sentinels` name, and is no cluster.
        topology: Topology = Topology::Auto;
        /// `redis://user:password@host:26379` of each [Sentinel](docs/operations.md#redis-with-sentinel), or `rediss://`.
        sentinels: Option<RedisUrls> = None;
        /// With `rediss://`: a PEM file with the authorities that may have signed Redis's certificate, instead of the
        /// system's.
        ca: Option<PathBuf> = None;
        /// For a connection and for an answer.
        timeout: Duration = ms(2_000);
    }
);

/// How several Redis servers belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// As is plain from what is named.
    Auto,
    /// One server has all keys.
    Single,
    /// Each server has the keys of some shards.
    Shards,
    /// Sentinels say which server has all keys.
    Sentinel,
    /// A Redis Cluster says which server has which slots.
    Cluster,
}

/// How they are written.
const TOPOLOGIES: [(&str, Topology); 5] = [
    ("auto", Topology::Auto),
    ("single", Topology::Single),
    ("shards", Topology::Shards),
    ("sentinel", Topology::Sentinel),
    ("cluster", Topology::Cluster),
];

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = TOPOLOGIES.iter().find(|(_, topology)| topology == self).expect("all are in the list");
        f.write_str(name)
    }
}

impl FromStr for Topology {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = TOPOLOGIES.iter().find(|(name, _)| *name == text);
        known.map(|(_, topology)| *topology).ok_or_else(|| "auto, single, shards, sentinel or cluster".to_owned())
    }
}

settings_of_text!(Topology: "`auto`, `single`, `shards`, `sentinel` or `cluster`");

impl Redis {
    /// Whether all that is named is on this machine. Where Sentinels or a cluster lead to is not known.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.sentinels.is_none() && self.topology != Topology::Cluster && self.url.iter().all(super::RedisUrl::is_local)
    }

    /// Who can listen on the way, a sentence each.
    pub(super) fn exposures(&self) -> impl Iterator<Item = String> {
        let sentinels = self.sentinels.as_ref().and_then(|urls| urls.exposure("redis.sentinels"));
        self.url.exposure("redis.url").into_iter().chain(sentinels)
    }

    /// What no setting shows alone, a sentence each.
    pub(super) fn mistakes(&self, shards: u16) -> Vec<String> {
        let mut mistakes = Vec::new();
        let servers = self.url.iter().len();
        match (self.topology, &self.sentinels) {
            (Topology::Sentinel, None) => mistakes.push(
                "redis.topology is sentinel, and redis.sentinels names none: name all of them, such as \
                 redis://10.0.0.1:26379,redis://10.0.0.2:26379,redis://10.0.0.3:26379"
                    .into(),
            ),
            (Topology::Auto | Topology::Sentinel, Some(sentinels)) => {
                mistakes.extend(self.mistakes_with_sentinels(sentinels));
            }
            (topology, Some(_)) => mistakes.push(format!(
                "redis.topology is {topology}, and redis.sentinels is set: leave it empty, or set redis.topology to sentinel"
            )),
            (Topology::Single, None) if servers > 1 => mistakes.push(format!(
                "redis.topology is single, and redis.url names {servers} servers: name one, or set redis.topology to shards"
            )),
            (Topology::Cluster, None) => mistakes.extend(self.mistake_with_cluster()),
            (_, None) if servers > usize::from(shards) => mistakes.push(format!(
                "redis.url names {servers} servers for {shards} shards: some would have none; name fewer servers, or begin \
                 with more shards"
            )),
            (_, None) => {}
        }
        let places = self.url.iter().map(|url| ("redis.url", url.place()));
        let sentinels = self.sentinels.iter().flat_map(RedisUrls::iter).map(|url| {
            let (host, port) = url.sentinel();
            ("redis.sentinels", format!("{host}:{port}"))
        });
        let mut seen = BTreeSet::new();
        for (setting, place) in places.chain(sentinels) {
            if !seen.insert((setting, place.clone())) {
                mistakes.push(format!("{setting} names {place} twice: name each server once"));
            }
        }
        mistakes.extend(self.ca.as_deref().and_then(|ca| self.mistake_of_authorities(ca)));
        mistakes
    }

    fn mistake_with_cluster(&self) -> Option<String> {
        const WANTED: &str =
            "name some of its nodes, such as redis://user:password@10.0.0.1:6379,redis://user:password@10.0.0.2:6379";
        let no_node = self.url.iter().find_map(|url| Some(format!("{url}, and {}", url.no_node()?)));
        let another = || {
            let login = self.url.first().login();
            let other = self.url.iter().find(|url| url.login() != login)?;
            Some(format!(
                "{other} with another user, password or encryption than the first, and all nodes have the same"
            ))
        };
        let why = no_node.or_else(another)?;
        Some(format!("redis.topology is cluster, redis.url names {why}: {WANTED}"))
    }

    fn mistakes_with_sentinels(&self, sentinels: &RedisUrls) -> Vec<String> {
        const WANTED: &str = "with redis.sentinels it is redis://user:password@NAME/0, with the name that the Sentinels have \
                              for the master in the place of host and port";
        let mut mistakes = Vec::new();
        let of_master = match self.url.iter().len() {
            1 => self.url.first().no_master().map(str::to_owned),
            servers => Some(format!("names {servers} servers")),
        };
        mistakes.extend(of_master.map(|why| format!("redis.url {why}: {WANTED}")));
        let of_sentinels = sentinels.iter().find_map(|url| Some((url, url.no_sentinel()?)));
        mistakes.extend(of_sentinels.map(|(url, why)| {
            format!("redis.sentinels names {url}, and {why}; it is redis://user:password@host:26379")
        }));
        mistakes
    }

    fn mistake_of_authorities(&self, ca: &Path) -> Option<String> {
        let mut all = self.url.iter().chain(self.sentinels.iter().flat_map(RedisUrls::iter));
        if !all.any(super::RedisUrl::has_tls) {
            return Some("redis.ca is set, and redis.url is not rediss://: TLS is used with rediss:// only".into());
        }
        match certificates(ca) {
            Err(why) => Some(format!("redis.ca {why}")),
            Ok(authorities) => {
                authorities.iter().find_map(|authority| anchor_from_trusted_cert(authority).err()).map(|error| {
                    format!(
                        "redis.ca, {}, cannot be used: a certificate in it is no authority's ({error})",
                        ca.display()
                    )
                })
            }
        }
    }
}
