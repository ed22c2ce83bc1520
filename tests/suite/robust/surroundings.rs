//! What happens around the overlay: interfaces go, their MTU and addresses change, and others use
//! names, routes and network identifiers that would have been ours.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::{Capture, Cluster, Node, Tables, eventually};
use nix::sys::signal::Signal;

use super::{LONG, print, wait_for_answer, wait_for_log};
use crate::overlay::{
    DEVICE, PATIENT, everybody_reaches_everybody, ip, pod_per_node, tables_for, wait_for_everybody,
    wait_for_tables,
};

/// What is not told by a notification is found by the audit.
const AUDITED: &str = "audit_interval = \"1s\"\n";
/// Answers of DNS count at once.
const HASTY: &str =
    "refresh_min = \"100ms\"\nrefresh_max = \"200ms\"\nmissing_answers = 1\nhold_down = \"0s\"\n";

/// Pods of both families, and no audit: what is in the way is known to be gone by notifications.
const DUAL: &str = "pod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]\naudit_interval = \"1h\"\n";

pub fn trials() -> Vec<Trial> {
    trials![
        the_underlays_interface_goes_and_comes_back,
        a_change_of_the_underlays_mtu_reaches_device_and_pods,
        a_change_of_the_nodes_address_leaves_its_pods_connected,
        a_foreign_route_in_the_way_is_reported_and_not_replaced,
        a_foreign_route_like_our_refusal_stays_and_is_told,
        a_foreign_tunnel_with_our_identifier_is_named,
        a_foreign_device_with_our_name_is_not_touched,
    ]
}

fn elapsed(what: &str, start: Instant) {
    let time: Duration = start.elapsed();
    print(&format!("surroundings: {what} after {:.1} ms", time.as_secs_f64() * 1e3));
}

fn the_underlays_interface_goes_and_comes_back() -> Result<()> {
    for mode in ["always", "cross-subnet", "never"] {
        let config = format!("{AUDITED}encapsulation = \"{mode}\"");
        Cluster::builder("cncfdemo").nodes(2).config(&config).run(|cluster| {
            let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
            everybody_reaches_everybody(&pods)?;
            node.remove_nic("eth0")?;
            // The pods of the node still have each other.
            let near = node.add_pod("near")?;
            near.ping(pods[0].address(), PATIENT)?;
            node.restore_nic("eth0")?;
            let start = Instant::now();
            wait_for_answer(&pods[0], pods[1].address()).with_context(|| mode.to_owned())?;
            elapsed(&format!("the interface is back ({mode}): the far pod answers"), start);
            everybody_reaches_everybody(&pods)
        })?;
    }
    Ok(())
}

fn a_change_of_the_underlays_mtu_reaches_device_and_pods() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).run(|cluster| {
        let node = cluster.node(0);
        for (underlay, overlay) in [(1400, 1350), (1500, 1450)] {
            node.ip(&format!("link set eth0 mtu {underlay}"))?;
            let start = Instant::now();
            eventually("the MTU to follow", LONG, || {
                let device = node.json(["ip", "-j", "link", "show", DEVICE])?;
                ensure!(device[0]["mtu"] == overlay, "the device has {}", device[0]["mtu"]);
                let facts: serde_json::Value = serde_json::from_str(&node.read("/run/minionet/node.json")?)?;
                ensure!(facts["mtu"] == overlay, "new pods get {}", facts["mtu"]);
                anyhow::Ok(())
            })?;
            elapsed(&format!("an MTU of {underlay}: the device and the facts follow"), start);
            let pod = node.add_pod(&format!("with{overlay}"))?;
            let link = pod.json(["ip", "-j", "link", "show", "eth0"])?;
            ensure!(link[0]["mtu"] == overlay, "the pod has {}", link[0]["mtu"]);
        }
        Ok(())
    })
}

fn a_change_of_the_nodes_address_leaves_its_pods_connected() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config(HASTY).run(|cluster| {
        let (node, far) = (cluster.node(0), cluster.node(1));
        let pods = pod_per_node(cluster)?;
        let companion = node.add_pod("companion")?;
        node.ip("addr del 172.20.0.1/24 dev eth0\naddr add 172.20.0.9/24 dev eth0\n\
             route add default via 172.20.0.254")?;
        cluster.dns().set(&cluster.dns_name(), &[ip("172.20.0.2"), ip("172.20.0.9")], 1)?;
        wait_for_tables(far, &tables_for([9]))?;
        wait_for_log(node, &["this node", "node=172.20.0.9", "10.32.9.0/24"])?;
        // New pods get addresses of the new block.
        let new = eventually("a pod with an address of the new block", LONG, || {
            let facts = node.read("/run/minionet/node.json")?;
            ensure!(facts.contains("10.32.9.0/24"), "{facts}");
            anyhow::Ok(node.add_pod("new")?)
        })?;
        ensure!(new.address().to_string().starts_with("10.32.9."), "it has {}", new.address());
        everybody_reaches_everybody(&[new])?;
        // Those that were there keep working on their node, and towards the outside.
        let new = node.add_pod("newer")?;
        for (from, to) in [(&pods[0], &companion), (&pods[0], &new), (&new, &companion)] {
            from.ping(to.address(), PATIENT).with_context(|| format!("{} to {}", from.name(), to.name()))?;
        }
        pods[0].ping(ip("198.51.100.1"), PATIENT)?;
        pods[0].ping(ip("10.32.9.1"), PATIENT)?;
        // They also reach pods elsewhere, which see them as their node.
        let wire = Capture::start(&pods[1], "eth0")?;
        pods[0].ping(pods[1].address(), PATIENT).context("a pod that was there to one elsewhere")?;
        let asked = wire.wait_for("the question", PATIENT, |frame| frame.involves(ip("10.32.9.1")))?;
        ensure!(!asked.involves(pods[0].address()), "{asked:?}");
        companion.ping(ip("10.32.2.1"), PATIENT)?;
        // And the new ones everywhere.
        new.ping(pods[1].address(), PATIENT)?;
        pods[1].ping(new.address(), PATIENT)?;
        for pod in [pods.into_iter().next().context("the first pod")?, companion] {
            pod.delete()?;
        }
        Ok(())
    })
}

/// How often a route was tried.
fn attempts(node: &Node, dst: &str) -> Result<u64> {
    let line = format!("kernel: add the route {dst}");
    Ok(node.log()?.lines().filter(|l| l.contains(&line)).count() as u64)
}

/// What the daemon says of itself to the plugin.
fn health(node: &Node) -> Result<serde_json::Value> {
    Ok(serde_json::from_str(&node.read("/run/minionet/health.json")?)?)
}

/// Does something while the daemon hangs, so that it finds it done.
fn behind_its_back(node: &Node, lines: &str) -> Result<()> {
    node.signal_daemon(Signal::SIGSTOP)?;
    node.ip(lines)?;
    Ok(node.signal_daemon(Signal::SIGCONT)?)
}

fn a_foreign_route_in_the_way_is_reported_and_not_replaced() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(3).config(AUDITED).run(|cluster| {
        let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
        wait_for_tables(node, &tables_for([2, 3]))?;
        let foreign = "10.32.2.0/24 via 172.20.0.254 dev eth0";
        let (tried, start) = (attempts(node, "10.32.2.0/24")?, Instant::now());
        behind_its_back(node, &format!("route del 10.32.2.0/24\nroute add {foreign}"))?;
        wait_for_log(node, &["ERROR", "10.32.2.0/24", "it is tried again in 1 s"])?;
        // Others are not affected, and what is in the way stays, through audits and notifications:
        // they cost no attempt. The waits double, so the n-th attempt takes 2^(n-1) - 1 seconds.
        // The file follows the line.
        let troubled = eventually("the trouble to be told", PATIENT, || {
            let health = health(node)?;
            // Two peers and the route that refuses, without the one that is refused.
            ensure!(health["peer_routes"] == 2, "{health}");
            ensure!(health["troubles"].to_string().contains("10.32.2.0/24"), "{health}");
            anyhow::Ok(health)
        })?;
        for _ in 0..20 {
            node.ip("route del 10.32.3.0/24")?;
            eventually("the other peer's route", PATIENT, || {
                ensure!(Tables::read(node, DEVICE)?.routes == tables_for([3]).routes);
                anyhow::Ok(())
            })?;
        }
        eventually("another attempt", LONG, || {
            ensure!(attempts(node, "10.32.2.0/24")? >= tried + 2);
            anyhow::Ok(())
        })?;
        let tried = attempts(node, "10.32.2.0/24")? - tried;
        let most = 1 + u64::from((start.elapsed().as_secs() + 1).ilog2());
        ensure!(tried <= most, "{tried} attempts instead of {most}: {}", node.log()?);
        let said = |health: &serde_json::Value| (health["peer_routes"].clone(), health["troubles"].clone());
        eventually("the same to be told", PATIENT, || {
            let health = health(node)?;
            ensure!(said(&troubled) == said(&health), "{health} instead of {troubled}");
            anyhow::Ok(())
        })?;
        let errors = node.log()?.lines().filter(|line| line.contains("ERROR")).count();
        ensure!(errors == 1, "said {errors} times: {}", node.log()?);
        pods[0].ping(pods[2].address(), PATIENT)?;
        let route = node.exec(["ip", "route", "show", "10.32.2.0/24"])?;
        ensure!(route.trim() == foreign, "{route}");
        // The other way to the same place, with less weight, is in nobody's way.
        node.ip(&format!("route del {foreign}\nroute add {foreign} metric 100"))?;
        let start = Instant::now();
        wait_for_tables(node, &tables_for([2, 3]))?;
        elapsed("the foreign route is gone: ours is there", start);
        wait_for_log(node, &["the trouble is over"])?;
        let routes = node.exec(["ip", "route", "show", "10.32.2.0/24"])?;
        ensure!(routes.contains("metric 100"), "{routes}");
        pods[0].ping(pods[1].address(), PATIENT)?;
        Ok(())
    })
}

/// The route that refuses packets to nobody's pods gives way to any other, but for one that is
/// like it: of that there can only be one.
fn a_foreign_route_like_our_refusal_stays_and_is_told() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config(DUAL).run(|cluster| {
        let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
        let metric = minionet_core::overlay::REFUSING_METRIC;
        for (family, network, way) in
            [("-4", "10.32.0.0/16", "via 172.20.0.254 dev eth0"), ("-6", "fd00:32::/56", "dev eth0")]
        {
            let foreign = format!("{network} {way} metric {metric}");
            let shown = || Ok::<_, anyhow::Error>(node.exec(["ip", family, "route", "show", network])?);
            eventually("our route", LONG, || {
                ensure!(shown()?.starts_with("unreachable"), "{}", shown()?);
                anyhow::Ok(())
            })?;
            behind_its_back(
                node,
                &format!("route del unreachable {network} proto 109 metric {metric}\nroute add {foreign}"),
            )?;
            wait_for_log(node, &["ERROR", network, "unreachable", "File exists"])?;
            ensure!(shown()?.starts_with(&format!("{network} {way}")), "{}", shown()?);
            // Peers are not concerned, and new pods can be attached.
            everybody_reaches_everybody(&pods)?;
            node.add_pod("new")?.delete()?;
            node.ip(&format!("route del {foreign}"))?;
            eventually("our route again", LONG, || {
                ensure!(shown()?.starts_with("unreachable"), "{}", shown()?);
                ensure!(health(node)?["troubles"].as_array().is_some_and(Vec::is_empty));
                anyhow::Ok(())
            })?;
        }
        Ok(())
    })
}

fn a_foreign_tunnel_with_our_identifier_is_named() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config(AUDITED).run(|cluster| {
        let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
        behind_its_back(
            node,
            "link del minionet\nlink add rival type vxlan id 4097 dstport 4789 local 172.20.0.1 nolearning",
        )?;
        wait_for_log(node, &["ERROR", "rival", "vni"])?;
        node.ip("link del rival")?;
        wait_for_tables(node, &tables_for([2]))?;
        wait_for_everybody(&pods)
    })
}

fn a_foreign_device_with_our_name_is_not_touched() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config(AUDITED).run(|cluster| {
        let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
        behind_its_back(
            node,
            "link del minionet\nlink add minionet address 02:00:00:00:00:05 type veth peer name otherend\n\
             addr add 192.0.2.1/24 dev minionet\nlink set minionet up",
        )?;
        wait_for_log(node, &["ERROR", "a device named minionet exists and is no VXLAN device"])?;
        // Without the state of the link, which the kernel finds out at leisure.
        let shown = || {
            let link = node.json(["ip", "-j", "-d", "addr", "show", "dev", DEVICE])?;
            let keys = ["ifindex", "address", "linkinfo", "addr_info"];
            anyhow::Ok(keys.map(|key| link[0][key].to_string()).join(" "))
        };
        let before = shown()?;
        // A change that wakes the daemon up.
        node.ip("link set eth0 mtu 1400\nlink set eth0 mtu 1500")?;
        let queries = cluster.dns().queries().udp;
        eventually("the daemon to go on", PATIENT, || {
            ensure!(cluster.dns().queries().udp >= queries + 8, "it does not ask");
            anyhow::Ok(())
        })?;
        ensure!(shown()? == before && before.contains("192.0.2.1"), "{} instead of {before}", shown()?);
        node.ip("link del minionet")?;
        wait_for_tables(node, &tables_for([2]))?;
        wait_for_everybody(&pods)
    })
}
