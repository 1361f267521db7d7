//! Ways to the stores that are cut, slow, or go one way only.

use std::time::Duration;

use footfall_proof::{Network, Store, Who};
use footfall_sandbox::{Direction, Proxy};

use super::{Healing, only_simulated};
use crate::lab::Lab;
use crate::stack::Links;

fn proxy(links: &Links, store: Store) -> &Proxy {
    match store {
        Store::Redis => &links.redis,
        Store::MySql => &links.mysql,
    }
}

/// Disturbs the way of some services to a store until it is healed.
pub(super) fn disturb(lab: &mut Lab, store: Store, who: Who, state: Network) -> anyhow::Result<Healing> {
    let Network { refused, silent, lost_request, lost_answer, late, slow_ms } = state;
    // A proxy passes on all that it was given, sooner or later: what is lost in part is not in its power.
    let is_partly = |percent| percent != 0 && percent != 100;
    if lost_request > 0 || is_partly(lost_answer) || is_partly(late) {
        return Err(only_simulated(state));
    }
    for links in lab.links(who) {
        let proxy = proxy(links, store);
        if slow_ms > 0 {
            proxy.delay(Duration::from_millis(slow_ms));
        }
        if silent || late > 0 {
            proxy.stall(Direction::ToServer);
        }
        if silent || lost_answer > 0 {
            proxy.stall(Direction::ToClient);
        }
        if refused {
            proxy.cut();
        }
    }
    Ok(Box::new(move |lab| {
        for links in lab.links(who) {
            proxy(links, store).heal()?;
        }
        Ok(())
    }))
}
