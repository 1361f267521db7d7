//! Whose request it is when a proxy has passed it on. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use hyper::header::HeaderMap;
use serde::{Deserialize, Serialize, Serializer};

/// The proxies that are believed what they say in `X-Forwarded-For`: addresses and networks, separated by commas, such as
/// `10.0.0.5, 192.168.0.0/16, fd00::/8`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Proxies(Vec<Network>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    /// Bits that an address has in common with it.
    prefix: u32,
}

/// The header in which a proxy says for whom it asks.
pub const FORWARDED_FOR: &str = "x-forwarded-for";

impl Proxies {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The address of the client whose request came from `peer`: the last one that is not a proxy of ours. Everybody can
    /// write anything into the header, but each proxy adds to its right end from whom it got the request.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut before = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        while self.contain(client) {
            match before.next().and_then(parse_address) {
                Some(address) => client = address,
                None => break,
            }
        }
        client
    }

    /// Whether this is the address of one of them.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        // Shifted by all bits, nothing is left that could differ.
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => {
                (ours.to_bits() ^ other.to_bits()).checked_shr(32 - self.prefix).is_none_or(|differing| differing == 0)
            }
            (IpAddr::V6(ours), IpAddr::V6(other)) => {
                (ours.to_bits() ^ other.to_bits()).checked_shr(128 - self.prefix).is_none_or(|differing| differing == 0)
            }
            _ => false,
        }
    }
}

/// An address as proxies write it: some add the port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let with_port = || Some(text.parse::<SocketAddr>().ok()?.ip());
    let address = text.trim_matches(['[', ']']).parse().ok().or_else(with_port)?;
    Some(IpAddr::to_canonical(&address))
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (address, prefix) =
                text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
            let address: IpAddr = address.parse().ok()?;
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.map_or(Some(bits), |prefix| prefix.parse().ok())?;
            (prefix <= bits).then_some(Self { address, prefix })
        };
        parse().ok_or_else(|| {
            format!("`{text}` is neither an address, such as 10.0.0.5, nor a network, such as 10.0.0.0/8")
        })
    }
}

impl TryFrom<String> for Proxies {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let networks = text.split(',').map(str::trim).filter(|network| !network.is_empty());
        Ok(Self(networks.map(str::parse).collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Network { address, prefix }) in self.0.iter().enumerate() {
            write!(f, "{}{address}/{prefix}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Serialize for Proxies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whoever has one IPv6 address has the 2⁶⁴ beside it: a household, or a machine. They count as one.
#[must_use]
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn proxies(text: &str) -> Proxies {
        Proxies::try_from(text.to_owned()).expect("valid")
    }

    fn client(proxies: &Proxies, peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).expect("a header"));
        }
        proxies.client(peer.parse().expect("an address"), &headers).to_string()
    }

    #[test]
    fn the_last_address_that_is_no_proxy_of_ours_is_the_client() {
        let ours = proxies("10.0.0.0/8, 192.0.2.1,fd00::/8");
        for (peer, lines, expected) in [
            ("203.0.113.9", &["198.51.100.1"][..], "203.0.113.9"), // No proxy of ours: it may say what it likes.
            ("192.0.2.2", &["198.51.100.1"], "192.0.2.2"),
            ("10.1.2.3", &[], "10.1.2.3"),
            ("10.1.2.3", &["198.51.100.1"], "198.51.100.1"),
            ("192.0.2.1", &["2001:db8::7"], "2001:db8::7"),
            ("fd12::1", &[" 198.51.100.1 "], "198.51.100.1"),
            // What the client has written stands further to the left, or in an earlier line.
            ("10.1.2.3", &["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
            ("10.1.2.3", &["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
            // Two proxies of ours in a row, and a client that sits among them.
            ("10.1.2.3", &["1.1.1.1, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
            ("10.1.2.3", &["10.3.3.3, 10.9.9.9"], "10.3.3.3"),
            // Nothing behind what cannot be read is believed.
            ("10.1.2.3", &["198.51.100.1, unknown"], "10.1.2.3"),
            ("10.1.2.3", &["198.51.100.1, unknown, 10.9.9.9"], "10.9.9.9"),
            ("10.1.2.3", &["198.51.100.1,"], "10.1.2.3"),
            ("10.1.2.3", &["198.51.100.\u{e9}"], "10.1.2.3"),
            // Forms.
            ("10.1.2.3", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.1.2.3", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("10.1.2.3", &["[2001:db8::7]"], "2001:db8::7"),
            ("10.1.2.3", &["::ffff:198.51.100.1"], "198.51.100.1"),
        ] {
            assert_eq!(client(&ours, peer, lines), expected, "{peer} {lines:?}");
        }
        assert_eq!(
            client(&Proxies::default(), "10.1.2.3", &["198.51.100.1"]),
            "10.1.2.3",
            "by default nobody is believed"
        );
        assert_eq!(client(&proxies("0.0.0.0/0, ::/0"), "8.8.8.8", &["9.9.9.9"]), "9.9.9.9");
    }

    #[test]
    fn networks_are_read_and_written() {
        assert_eq!(proxies("10.0.0.5,fd00::/8").to_string(), "10.0.0.5/32, fd00::/8");
        assert_eq!(proxies(" ").to_string(), "");
        for wrong in
            ["10.0.0.0/33", "::/129", "10.0.0", "10.0.0.0/", "10.0.0.0/-1", "proxy.example", "10.0.0.1;10.0.0.2"]
        {
            let error = Proxies::try_from(wrong.to_owned()).expect_err(wrong);
            assert!(error.contains(wrong), "{error}");
        }
    }
}
