//! Whose request it is when a proxy has passed it on. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use hyper::header::HeaderMap;

/// The proxies that are believed what they say in `X-Forwarded-For`: addresses and networks, separated by commas, such as
/// `10.0.0.5, 192.168.0.0/16, fd00::/8`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(Vec<Network>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Network {
    /// All bits behind the prefix are 0, and an IPv4 address is one, not mapped into IPv6: one network has one form.
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
        // Of a listener for both, which sees `::ffff:10.0.0.5` where others see `10.0.0.5`.
        let mut client = peer.to_canonical();
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

    /// Whether a proxy of ours asks for itself: it names nobody, or only others of ours. One that names somebody whom
    /// nobody can read asks for somebody.
    #[must_use]
    pub fn ask_for_themselves(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(FORWARDED_FOR).iter();
        let mut named = lines.flat_map(|line| line.to_str().unwrap_or_default().split(','));
        self.contain(peer) && named.all(|address| parse_address(address).is_some_and(|address| self.contain(address)))
    }

    /// Whether one of them is a network of all addresses.
    #[must_use]
    pub fn are_everybody(&self) -> bool {
        self.0.iter().any(|network| network.prefix == 0)
    }

    /// Whether this is the address of one of them.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }
}

impl Network {
    /// Its first address.
    fn first(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - self.prefix).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        }
    }

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

    /// Answers what it must be.
    fn from_str(text: &str) -> Result<Self, String> {
        /// Of the IPv4 addresses within IPv6, `::ffff:0:0/96`.
        const MAPPED_PREFIX: u32 = 96;
        let wanted = || {
            let item = if text.contains('@') { "an entry" } else { text };
            format!(
                "addresses, such as 10.0.0.5, and networks, such as 10.0.0.0/8, separated by commas; `{item}` is neither"
            )
        };
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        if address.contains('%') {
            return Err(format!("addresses without a zone; write `{}`", address.split('%').next().unwrap_or_default()));
        }
        let address: IpAddr = address.parse().map_err(|_| wanted())?;
        let is_number = |prefix: &str| !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(prefix) if is_number(prefix) => {
                prefix.parse().ok().filter(|prefix| *prefix <= bits).ok_or_else(wanted)?
            }
            Some(_) => return Err(wanted()),
        };
        let network = match (address, address.to_canonical()) {
            (IpAddr::V6(_), v4 @ IpAddr::V4(_)) if prefix >= MAPPED_PREFIX => {
                Self { address: v4, prefix: prefix - MAPPED_PREFIX }
            }
            _ => Self { address, prefix },
        };
        let first = network.first();
        if first != network.address {
            let (one, prefix) = (network.address, network.prefix);
            return Err(format!(
                "networks by their first address: write {first}/{prefix}, or {one} for this one address"
            ));
        }
        Ok(network)
    }
}

impl FromStr for Proxies {
    type Err = String;

    /// Answers what it must be.
    fn from_str(text: &str) -> Result<Self, String> {
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
        text.parse().expect("valid")
    }

    fn client(proxies: &Proxies, peer: &str, lines: &[&str]) -> String {
        proxies.client(peer.parse().expect("an address"), &forwarded(lines)).to_string()
    }

    fn forwarded(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).expect("a header"));
        }
        headers
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
        // A listener for both kinds of address sees IPv4 mapped into IPv6; an operator may write it so.
        for ours in ["127.0.0.1", "::ffff:127.0.0.1", "::ffff:127.0.0.0/104"] {
            for peer in ["127.0.0.1", "::ffff:127.0.0.1"] {
                assert_eq!(client(&proxies(ours), peer, &["198.51.100.1"]), "198.51.100.1", "{ours} {peer}");
            }
        }
        assert_eq!(client(&proxies("192.0.2.1"), "::ffff:203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(client(&proxies("0.0.0.0/0, ::/0"), "8.8.8.8", &["9.9.9.9"]), "9.9.9.9");
    }

    #[test]
    fn a_proxy_that_names_nobody_asks_for_itself() {
        let ours = proxies("10.0.0.0/8, 192.0.2.1");
        for (peer, lines, expected) in [
            ("10.1.2.3", &[][..], true),
            ("::ffff:10.1.2.3", &[], true),
            ("10.1.2.3", &["10.9.9.9"], true),
            ("10.1.2.3", &["10.3.3.3, 10.9.9.9", "192.0.2.1"], true),
            ("203.0.113.9", &[], false),
            ("203.0.113.9", &["10.9.9.9"], false),
            ("10.1.2.3", &["198.51.100.1"], false),
            // Whatever is written to the left of it, or before.
            ("10.1.2.3", &["10.9.9.9, 198.51.100.1"], false),
            ("10.1.2.3", &["10.9.9.9", "198.51.100.1"], false),
            ("10.1.2.3", &["198.51.100.1, 10.9.9.9"], false),
            // Somebody, whoever that is.
            ("10.1.2.3", &["unknown"], false),
            ("10.1.2.3", &[""], false),
            ("10.1.2.3", &["fe80::1%eth0"], false),
            ("10.1.2.3", &["198.51.100.\u{e9}"], false),
        ] {
            let headers = forwarded(lines);
            let peer = peer.parse().expect("an address");
            assert_eq!(ours.ask_for_themselves(peer, &headers), expected, "{peer} {headers:?}");
        }
    }

    #[test]
    fn networks_are_read_and_written() {
        assert_eq!(proxies("10.0.0.5,fd00::/8").to_string(), "10.0.0.5/32, fd00::/8");
        assert_eq!(proxies(" ").to_string(), "");
        // One network has one form, whoever writes it.
        for mapped in ["::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:127.0.0.1/128"] {
            assert_eq!(proxies(mapped).to_string(), "127.0.0.1/32");
        }
        assert_eq!(proxies("::ffff:10.0.0.0/104").to_string(), "10.0.0.0/8");
        for wrong in [
            "10.0.0.0/33",
            "::/129",
            "10.0.0",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "proxy.example",
            "10.0.0.1;10.0.0.2",
        ] {
            let error = wrong.parse::<Proxies>().expect_err(wrong);
            assert!(error.contains(wrong), "{error}");
        }
        for (wrong, right) in [
            ("10.0.0.5/8", "write 10.0.0.0/8, or 10.0.0.5 for"),
            ("fd00::1/8", "write fd00::/8, or fd00::1 for"),
            ("::ffff:10.0.0.5/104", "write 10.0.0.0/8, or 10.0.0.5 for"),
            ("fe80::1%eth0", "write `fe80::1`"),
        ] {
            let error = wrong.parse::<Proxies>().expect_err(wrong);
            assert!(error.contains(right), "{error}");
        }
    }
}
