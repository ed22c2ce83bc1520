//! CHECK: silent where everything is as ADD made it, and clear about what is not.

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::{Cluster, Namespace, Node, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::support::*;

pub fn trials() -> Vec<Trial> {
    trials![
        what_was_just_made_is_in_order,
        damage_to_the_attachment_is_found => [Need::Program("nft")],
        damage_to_the_node_is_found => [Need::Program("nft")],
        a_missing_route_to_a_peer_is_found,
        a_route_that_the_kernel_refuses_is_told_by_status_alone,
        what_later_plugins_may_change_is_no_damage,
        the_previous_result_is_required_and_compared,
        another_namespace_is_found,
        what_was_never_added_is_found,
    ]
}

/// Verbs know CHECK from here on.
const SINCE: [&str; 3] = ["0.4.0", "1.0.0", "1.1.0"];

fn with_result(version: &str, result: &Value) -> Value {
    merged(conf(version), json!({"prevResult": result}))
}

/// CHECK finds a difference and names things.
fn finds(node: &Node, sandbox: &Sandbox, result: &Value, named: &[&str]) -> Result<()> {
    let answer = call(node, "CHECK", &sandbox.attachment, &with_result("1.1.0", result))?;
    fails(&answer, 103, named)?;
    Ok(())
}

/// CHECK right after ADD; it changes nothing.
fn what_was_just_made_is_in_order() -> Result<()> {
    on_dual_stack_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        for version in SINCE {
            let result = add(node, &sandbox.attachment, &conf(version))?;
            let before = HostState::of(node)?;
            for _ in 0..3 {
                let answer = call(node, "CHECK", &sandbox.attachment, &with_result(version, &result))?;
                silent(&answer).context(version)?;
            }
            before.is_that_of(node)?;
            del(node, &sandbox.attachment, &with_result(version, &result))?;
            let gone = call(node, "CHECK", &sandbox.attachment, &with_result(version, &result))?;
            fails(&gone, 103, &["eth0"]).context(version)?;
        }
        Ok(())
    })
}

/// Cases 66 to 71: a change in the container or on the host, and what the error names.
fn damage_to_the_attachment_is_found() -> Result<()> {
    // Commands of ip(8) with {host} for the host's end, and of a shell.
    const IN_POD: [(&str, &str); 8] = [
        ("neigh replace fd00:32:0:1::1 lladdr 02:00:00:00:00:09 dev eth0", "fd00:32:0:1::1"),
        ("link del eth0", "eth0"),
        ("addr del 10.32.1.50/32 dev eth0", "10.32.1.50"),
        ("addr del fd00:32:0:1::50/128 dev eth0", "fd00:32:0:1::50"),
        ("route del default", "10.32.1.1"),
        ("-6 route del default", "fd00:32:0:1::1"),
        ("link set eth0 down", "eth0"),
        ("neigh replace 10.32.1.1 lladdr 02:00:00:00:00:09 dev eth0", "10.32.1.1"),
    ];
    const ON_HOST: [(&str, &str); 8] = [
        ("ip link add br0 type bridge && ip link set {host} master br0", "{host}"),
        ("ip link del {host}", "{host}"),
        ("ip neigh replace 10.32.1.50 lladdr 02:00:00:00:00:09 dev {host}", "10.32.1.50"),
        ("ip link set {host} down", "{host}"),
        ("ip route del 10.32.1.50", "10.32.1.50"),
        ("ip -6 route del fd00:32:0:1::50", "fd00:32:0:1::50"),
        ("ip neigh del 10.32.1.50 dev {host}", "10.32.1.50"),
        ("rm /run/minionet/leases/10.32.1.50", "10.32.1.50"),
    ];
    on_dual_stack_node(|node| {
        let wish = conf_with(json!({"runtimeConfig": {"ips": ["10.32.1.50", "fd00:32:0:1::50"]}}));
        let sandbox = Sandbox::new(node, "c1")?;
        let in_pod = IN_POD.iter().map(|damage| (true, damage));
        for (inside, (damage, named)) in in_pod.chain(ON_HOST.iter().map(|damage| (false, damage))) {
            let result = add(node, &sandbox.attachment, &wish)?;
            let host = result["interfaces"][0]["name"].as_str().context("a name")?;
            let damage = damage.replace("{host}", host);
            let place: &Namespace = if inside { &sandbox.namespace } else { node };
            let command = if inside { format!("ip {damage}") } else { damage };
            place.exec(["sh", "-c", &command])?;
            finds(node, &sandbox, &result, &[&named.replace("{host}", host)])
                .with_context(|| command.clone())?;
            del(node, &sandbox.attachment, &wish).with_context(|| command.clone())?;
        }
        // The lease of another, and no record at all.
        let result = add(node, &sandbox.attachment, &wish)?;
        node.exec(["ln", "-sfn", "somebody", "/run/minionet/leases/10.32.1.50"])?;
        finds(node, &sandbox, &result, &["10.32.1.50"])?;
        node.exec(["sh", "-c", "rm /run/minionet/attachments/*"])?;
        finds(node, &sandbox, &result, &["eth0"])
    })
}

/// Cases 72 and 73. While the daemon runs it repairs both within moments, so it is stopped;
/// and a stopped daemon alone is no difference, for everything works.
fn damage_to_the_node_is_found() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let check = || call(node, "CHECK", &sandbox.attachment, &with_result("1.1.0", &result));
        eventually("the daemon to tell of its rules", PATIENT, || rules_are_known(node))?;
        node.kill_daemon(Signal::SIGKILL)?;
        silent(&check()?).context("the daemon does not run")?;
        let damages = [
            ("nft delete table inet minionet", "minionet"),
            ("ip link set minionet down", "minionet"),
            ("ip link del minionet", "minionet"),
        ];
        for (damage, named) in damages {
            node.exec(["sh", "-c", damage])?;
            finds(node, &sandbox, &result, &[named]).context(damage)?;
            // It comes back by itself.
            node.start_daemon()?;
            eventually("the daemon to repair it", PATIENT, || silent(&check()?))?;
            eventually("the daemon to tell of it", PATIENT, || rules_are_known(node))?;
            node.kill_daemon(Signal::SIGKILL)?;
        }
        node.exec(["nft", "flush", "ruleset"])?;
        finds(node, &sandbox, &result, &["nft"])?;
        node.start_daemon()?;
        eventually("the daemon to repair it", PATIENT, || silent(&check()?))?;
        // Repaired while it runs, without being told.
        node.exec(["nft", "flush", "ruleset"])?;
        eventually("the rules to come back", PATIENT, || silent(&check()?))?;
        Ok(())
    })
}

/// Case 74.
fn a_missing_route_to_a_peer_is_found() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).run(|cluster| {
        let node = cluster.node(0);
        let sandbox = Sandbox::new(node, "c1")?;
        let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let check = || call(node, "CHECK", &sandbox.attachment, &with_result("1.1.0", &result));
        let routed =
            || node.exec(["ip", "route", "get", "10.32.2.5"]).map(|route| route.contains("dev minionet"));
        eventually("the route to the peer", PATIENT, || -> Result<()> {
            ensure!(routed()?, "there is none");
            Ok(())
        })?;
        // One route is that which refuses what no node owns. CHECK misses what it was told of.
        eventually("the daemon to tell of its routes", PATIENT, || routes_are_known(node, 2))?;
        eventually("a node in order", PATIENT, || silent(&check()?))?;
        node.kill_daemon(Signal::SIGKILL)?;
        node.exec(["ip", "route", "del", "10.32.2.0/24"])?;
        finds(node, &sandbox, &result, &["route"])
    })
}

/// Somebody else's route keeps ours from being made: that is no fault of any attachment, and nothing
/// that a new one would mend; STATUS names it.
fn a_route_that_the_kernel_refuses_is_told_by_status_alone() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(3).run(|cluster| {
        let node = cluster.node(0);
        let sandbox = Sandbox::new(node, "c1")?;
        let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let check = || call(node, "CHECK", &sandbox.attachment, &with_result("1.1.0", &result));
        let status = || call(node, "STATUS", &attachment("", ""), &conf("1.1.0"));
        let peers = || -> Result<()> {
            let routes = node.exec(["ip", "route", "show", "proto", "109"])?;
            ensure!(routes.lines().filter(|line| line.contains("dev minionet")).count() == 2, "{routes}");
            silent(&check()?)
        };
        eventually("a node in order", PATIENT, peers)?;
        // One route is that which refuses what no node owns.
        eventually("the daemon to tell of its routes", PATIENT, || routes_are_known(node, 3))?;
        node.kill_daemon(Signal::SIGKILL)?;
        node.ip("route replace blackhole 10.32.2.0/24")?;
        finds(node, &sandbox, &result, &["1 of 3 routes"])?;
        node.start_daemon()?;
        let told = || fails(&status()?, 51, &["10.32.2.0/24", "exists"]);
        eventually("the daemon to tell", PATIENT, told)?;
        eventually("the daemon to tell of its routes", PATIENT, || routes_are_known(node, 2))?;
        silent(&check()?)?;
        // Another one that goes is found.
        node.kill_daemon(Signal::SIGKILL)?;
        node.ip("route del 10.32.3.0/24")?;
        finds(node, &sandbox, &result, &["1 of 2 routes"])?;
        // The way is free again.
        node.ip("route del blackhole 10.32.2.0/24")?;
        node.start_daemon()?;
        eventually("a node in order", PATIENT, peers)?;
        eventually("STATUS to be well", PATIENT, || silent(&status()?))?;
        Ok(())
    })
}

/// Case 31 and specification, "CHECK": the result of the chain tells what others made.
fn what_later_plugins_may_change_is_no_damage() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let mut result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        // As tuning and bandwidth do, and what happens in a container.
        sandbox.namespace.ip(
            "link set eth0 mtu 1300\nlink set eth0 txqueuelen 50\n\
             addr add 192.168.7.2/24 dev eth0\nroute add 192.168.8.0/24 dev eth0\nlink add net0 type bridge\n",
        )?;
        result["interfaces"][1]["mtu"] = json!(1300);
        result["interfaces"].as_array_mut().context("a list")?.push(json!({"name": "bwp0123456789ab"}));
        result["routes"].as_array_mut().context("a list")?.push(json!({"dst": "192.168.8.0/24"}));
        result["dns"] = json!({"nameservers": ["192.0.2.53"]});
        for version in SINCE {
            let answer = call(node, "CHECK", &sandbox.attachment, &with_result(version, &result))?;
            silent(&answer).context(version)?;
        }
        Ok(())
    })
}

/// Case 65, and results that are not that of the attachment.
fn the_previous_result_is_required_and_compared() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        for conf in [conf("1.1.0"), conf_with(json!({"prevResult": null}))] {
            fails_any(&call(node, "CHECK", &sandbox.attachment, &conf)?, &[6, 7], &["prevResult"])?;
        }
        for garbage in [json!("text"), json!(5), json!([]), json!({"ips": 5}), json!({"cniVersion": "9.9.9"})]
        {
            let conf = conf_with(json!({"prevResult": garbage}));
            fails(&call(node, "CHECK", &sandbox.attachment, &conf)?, 6, &["prevResult"])?;
        }
        let mut other = result.clone();
        other["ips"][0]["address"] = json!("10.32.1.99/32");
        finds(node, &sandbox, &other, &[&address(&result)?])?;
        for (position, name) in [(0, "mnet"), (1, "eth0")] {
            let mut other = result.clone();
            other["interfaces"][position]["mac"] = json!("02:00:00:00:00:09");
            finds(node, &sandbox, &other, &[name, "02:00:00:00:00:09"])?;
        }
        let mut other = result.clone();
        other["interfaces"] = json!([]);
        finds(node, &sandbox, &other, &["eth0"])?;
        // In the shape of an older version it is the same result.
        let old = json!({"cniVersion": "0.4.0", "interfaces": result["interfaces"], "routes": result["routes"], "dns": {},
            "ips": [{"version": "4", "interface": 1, "address": result["ips"][0]["address"], "gateway": "10.32.1.1"}]});
        silent(&call(node, "CHECK", &sandbox.attachment, &with_result("0.4.0", &old))?)
    })
}

/// Case 76.
fn another_namespace_is_found() -> Result<()> {
    on_node(|node| {
        let (sandbox, other) = (Sandbox::new(node, "c1")?, Sandbox::new(node, "other")?);
        let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let mut moved = sandbox.attachment.clone();
        moved.netns.clone_from(&other.attachment.netns);
        let answer = call(node, "CHECK", &moved, &with_result("1.1.0", &result))?;
        fails(&answer, 103, &["/run/netns/c1"])?;
        moved.netns = "/run/netns/gone".into();
        let answer = call(node, "CHECK", &moved, &with_result("1.1.0", &result))?;
        fails_any(&answer, &[3, 4], &["/run/netns/gone"])?;
        // The interface as such may be elsewhere, too.
        let pid_one = "/proc/1/ns/net";
        sandbox.namespace.exec(["ip", "link", "set", "eth0", "netns", pid_one])?;
        finds(node, &sandbox, &result, &["eth0"])
    })
}

/// Of another network, another interface, or not at all.
fn what_was_never_added_is_found() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let other_network = merged(with_result("1.1.0", &result), json!({"name": "net2"}));
        fails(&call(node, "CHECK", &sandbox.attachment, &other_network)?, 103, &["eth0"])?;
        let mut other = sandbox.attachment.clone();
        other.interface = "eth1".into();
        fails(&call(node, "CHECK", &other, &with_result("1.1.0", &result))?, 103, &["eth1"])?;
        other = sandbox.attachment.clone();
        other.container = "c2".into();
        fails(&call(node, "CHECK", &other, &with_result("1.1.0", &result))?, 103, &["eth0"])?;
        Ok(())
    })
}
