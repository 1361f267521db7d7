//! A cluster is set up, grows by a node and loses it again, by the commands of the manual and under load.

use footfall_sandbox::{Cluster, ClusterOptions};

use super::{SOON, Site as _, on, run_documented};
use crate::common::eventually;

/// Slots that a node has, as another one says.
fn slots(cluster: &mut Cluster, index: usize) -> usize {
    let id = cluster.id(index).to_owned();
    let nodes = cluster.node(0).query(&["CLUSTER", "NODES"]).expect("an answer").concat();
    let line = nodes.lines().find(|line| line.starts_with(&id)).unwrap_or_default();
    let ranges = line.split(' ').skip(8).map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<usize>().expect("a slot");
        number(last) + 1 - number(first)
    });
    ranges.sum()
}

#[test]
fn a_cluster_is_set_up_grown_and_shrunk_as_the_manual_says() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let cluster = Cluster::start_apart(dir.path(), &ClusterOptions::default()).expect("six nodes");
    let theirs = ["10.0.0.1:", "10.0.0.2:", "10.0.0.3:", "10.0.0.4:", "10.0.0.5:", "10.0.0.6:"];
    let addresses = cluster.addresses().iter().map(ToString::to_string);
    let theirs_with_port: Vec<String> = theirs.iter().map(|host| format!("{host}6379")).collect();
    let ours: Vec<(&str, String)> = theirs_with_port.iter().map(String::as_str).zip(addresses).collect();
    run_documented("redis-cli --cluster create", &ours);
    cluster.wait_whole().expect("a cluster");

    let mut site = on(cluster, dir, "redis://", |_| {});
    let first = site.cluster.addresses()[0].to_string();
    site.under_load("grown", 1, |site| {
        let added = site.cluster.add().expect("a node");
        let address = site.cluster.addresses()[added].to_string();
        let addresses = [("10.0.0.7:6379", address), ("10.0.0.1:6379", first.clone())];
        run_documented("redis-cli --cluster add-node", &addresses);
        let id = site.cluster.id(added).to_owned();
        eventually("all masters know it", SOON, || {
            let mut known = (0..3).map(|node| site.cluster.node(node).query(&["CLUSTER", "NODES"]));
            known.all(|known| known.is_ok_and(|known| known.concat().contains(&id)))
        });
        eventually("it is ready", SOON, || {
            let info = site.cluster.node(added).query(&["CLUSTER", "INFO"]);
            info.is_ok_and(|info| info.concat().contains("cluster_state:ok"))
        });
        run_documented("redis-cli --cluster rebalance", &[("10.0.0.1:6379", first.clone())]);
        assert_eq!(slots(&mut site.cluster, added), 16_384 / 4);
    });
    site.under_load("shrunk", 3, |site| {
        let added = site.cluster.addresses().len() - 1;
        let ids = [("ID_FROM", added), ("ID_TO", 0)].map(|(name, node)| (name, site.cluster.id(node).to_owned()));
        let [from, to] = ids;
        run_documented("redis-cli --cluster reshard", &[("10.0.0.1:6379", first.clone()), from.clone(), to]);
        assert_eq!(slots(&mut site.cluster, added), 0);
        run_documented("redis-cli --cluster del-node", &[("10.0.0.1:6379", first.clone()), from]);
    });
}
