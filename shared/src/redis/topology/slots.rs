//! Which node of a cluster has which slots, as its nodes say it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use redis::{RedisError, Value, from_redis_value};

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// Of a redirection: host and port. A node that does not know its own host leaves it out: it is where it was asked.
    pub(super) fn parse(text: &str, asked: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self { host: known(host, asked).to_owned(), port: port.parse().ok()? })
    }
}

fn known<'a>(host: &'a str, asked: &'a str) -> &'a str {
    if matches!(host, "" | "?") { asked } else { host }
}

/// Slots in a row that a node has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    first: u16,
    last: u16,
    node: Address,
    /// Each time that a node gets slots it has a greater one than any other.
    epoch: u64,
}

/// Which node has which slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Slots(Vec<Claim>);

impl Slots {
    /// What a node says: its answers to `CLUSTER SLOTS`, which has the addresses that clients should use, and to `CLUSTER NODES`,
    /// which has the epochs.
    pub(super) fn parse(slots: Vec<Vec<Value>>, nodes: &str, asked: &str) -> Result<Self, RedisError> {
        let epochs: BTreeMap<&str, u64> = nodes
            .lines()
            .filter_map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                Some((*words.first()?, words.get(6)?.parse().ok()?))
            })
            .collect();
        let claim = |range: Vec<Value>| {
            let mut parts = range.into_iter();
            let mut next = || parts.next().unwrap_or(Value::Nil);
            let (first, last) = (from_redis_value(next())?, from_redis_value(next())?);
            let mut master = from_redis_value::<Vec<Value>>(next())?.into_iter();
            let mut next = || master.next().unwrap_or(Value::Nil);
            let host: Option<String> = from_redis_value(next())?;
            let (port, id): (u16, String) = (from_redis_value(next())?, from_redis_value(next())?);
            let node = Address { host: known(host.as_deref().unwrap_or_default(), asked).to_owned(), port };
            Ok(Claim { first, last, node, epoch: epochs.get(&*id).copied().unwrap_or(0) })
        };
        Ok(Self(slots.into_iter().map(claim).collect::<Result<_, RedisError>>()?))
    }

    /// What holds of all that was said: for each slot the newest.
    pub(super) fn newest(said: impl IntoIterator<Item = Self>) -> Self {
        let all = Self(said.into_iter().flat_map(|slots| slots.0).collect());
        // Between these slots nothing changes.
        let bounds = all.0.iter().flat_map(|claim| [claim.first, claim.last.saturating_add(1)]);
        let held: BTreeSet<&Claim> = bounds.filter_map(|slot| all.claim(slot)).collect();
        Self(held.into_iter().cloned().collect())
    }

    /// The node that has a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Address> {
        self.claim(slot).map(|claim| &claim.node)
    }

    /// All nodes that have some.
    pub(super) fn masters(&self) -> BTreeSet<&Address> {
        self.0.iter().map(|claim| &claim.node).collect()
    }

    /// Whether each slot is where it is here.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let bounds = self.0.iter().chain(&other.0).flat_map(|claim| [claim.first, claim.last.saturating_add(1)]);
        bounds.into_iter().all(|slot| self.owner(slot) == other.owner(slot))
    }

    fn claim(&self, slot: u16) -> Option<&Claim> {
        let covers = |claim: &&Claim| claim.first <= slot && slot <= claim.last;
        self.0.iter().filter(covers).max_by_key(|claim| claim.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Address {
        Address { host: "h".into(), port }
    }

    fn slots(claims: &[(u16, u16, u16, u64)]) -> Slots {
        let claim =
            |(first, last, port, epoch): &_| Claim { first: *first, last: *last, node: at(*port), epoch: *epoch };
        Slots(claims.iter().map(claim).collect())
    }

    #[test]
    fn of_each_slot_the_newest_configuration_epoch_counts() {
        // One that was away says what was before: 2 has taken all of 1's slots, and 3 one of them after that.
        let old = slots(&[(0, 99, 1, 1), (100, 199, 3, 3)]);
        let new = slots(&[(0, 49, 2, 4), (50, 50, 3, 5), (51, 99, 2, 4), (100, 199, 3, 5)]);
        for said in [vec![old.clone(), new.clone()], vec![new.clone(), old.clone()]] {
            let held = Slots::newest(said);
            let owners = [0, 49, 50, 51, 99, 100, 199].map(|slot| held.owner(slot).map(|node| node.port));
            assert_eq!(owners, [2, 2, 3, 2, 2, 3, 3].map(Some));
            assert_eq!(held.owner(200), None);
            assert_eq!(held.masters(), BTreeSet::from([&at(2), &at(3)]), "1 has none");
            assert!(held.agrees(&new) && !held.agrees(&old));
        }
    }

    #[test]
    fn what_a_node_says_is_understood() {
        let text = |text: &str| Value::BulkString(text.into());
        let range = |first, last, host, port, id: &str| {
            let master = Value::Array(vec![host, Value::Int(port), text(id), Value::Array(vec![])]);
            vec![Value::Int(first), Value::Int(last), master]
        };
        let said = vec![
            range(0, 5, text("a.example"), 7_000, "one"),
            range(6, 6, text(""), 7_001, "two"),
            range(7, 7, Value::Nil, 7_002, "three"),
        ];
        let nodes = "one 10.0.0.1:7000@17000,a.example master - 0 0 12 connected 0-5\n\
                     two :7001@17001 myself,master - 0 0 3 connected 6 [6->-one]\n";
        let slots = Slots::parse(said, nodes, "asked").expect("an answer");
        let claims: Vec<_> = slots.0.iter().map(|claim| (&*claim.node.host, claim.node.port, claim.epoch)).collect();
        assert_eq!(claims, [("a.example", 7_000, 12), ("asked", 7_001, 3), ("asked", 7_002, 0)]);
        Slots::parse(vec![vec![Value::Int(0)]], "", "asked").expect_err("no node");
    }

    #[test]
    fn where_one_is_sent_to() {
        for (text, host) in
            [("10.0.0.1:7000", "10.0.0.1"), ("::1:7000", "::1"), (":7000", "asked"), ("?:7000", "asked")]
        {
            assert_eq!(Address::parse(text, "asked"), Some(Address { host: host.into(), port: 7_000 }));
        }
        assert_eq!(Address::parse("h:x", "asked"), None);
    }
}
