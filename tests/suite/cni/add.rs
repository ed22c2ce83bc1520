//! What a successful ADD makes: traffic, both families, several interfaces, addresses in turn.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::traffic::Ping;
use netns_testbed::{Cluster, Namespace, Node, eventually};
use serde_json::json;

use super::support::*;

pub fn trials() -> Vec<Trial> {
    trials![
        pods_reach_gateway_neighbours_and_themselves,
        dual_stack_addresses_are_usable_at_once,
        the_first_packet_arrives_on_a_busy_node,
        ipv6_is_switched_on_where_it_was_off,
        ipv4_alone_leaves_ipv6_settings_alone,
        ipv6_alone_gives_ipv6_alone,
        interfaces_of_a_container_live_by_themselves => [Need::Program("nft")],
        networks_of_a_node_live_by_themselves => [Need::Program("nft")],
        a_foreign_default_route_stays,
        released_addresses_come_last,
        ipv6_is_refused_clearly_where_the_kernel_has_none => [Need::Program("nft")],
    ]
}

/// Case 27; the address of a pod behind a DNAT rule is what a Service is.
fn pods_reach_gateway_neighbours_and_themselves() -> Result<()> {
    let cluster = Cluster::builder("cncfdemo").nodes(2);
    cluster.run(|cluster| {
        let (first, second) = (cluster.node(0), cluster.node(1));
        let (a, b) = (first.add_pod("a")?, first.add_pod("b")?);
        let far = second.add_pod("far")?;
        let gateway = a.result()["ips"][0]["gateway"].as_str().context("a gateway")?.parse()?;
        for target in [gateway, b.address(), a.address()] {
            a.ping(target, PATIENT).with_context(|| format!("from a to {target}"))?;
        }
        reaches(&a, far.address())?;
        Ping::to(a.address()).send(first, PATIENT).context("from the node")?;
        Ok(())
    })
}

/// Case 29: no duplicate address detection stands between ADD and the first packet.
fn dual_stack_addresses_are_usable_at_once() -> Result<()> {
    on_dual_stack_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        // What a machine has that runs no other network plugin.
        sandbox.namespace.sysctl([("net.ipv6.conf.default.accept_dad", "1")])?;
        let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let list =
            sandbox.namespace.exec(["ip", "-6", "address", "show", "dev", "eth0", "scope", "global"])?;
        ensure!(list.contains("fd00:32:") && !list.contains("tentative"), "{list}");
        ensure!(addresses(&result)?.len() == 2, "{result}");
        for index in 0..2 {
            let gateway = result["ips"][index]["gateway"].as_str().context("a gateway")?.parse()?;
            Ping::to(gateway).send(&sandbox.namespace, PATIENT).with_context(|| format!("to {gateway}"))?;
        }
        Ok(())
    })
}

/// Other nodes are found by DNS, which takes its time.
fn reaches(pod: &Namespace, target: IpAddr) -> Result<()> {
    let attempt = || Ping::to(target).send(pod, Duration::from_secs(2));
    eventually(&format!("{target} to answer"), PATIENT, attempt)?;
    Ok(())
}

/// Nothing that the kernel does later stands between ADD and the first packet.
fn the_first_packet_arrives_on_a_busy_node() -> Result<()> {
    on_dual_stack_node(|node| {
        thread::scope(|scope| {
            let worker = |worker: usize| {
                for round in 0..20 {
                    let sandbox = Sandbox::new(node, &format!("c{worker}-{round}"))?;
                    for address in addresses(&add(node, &sandbox.attachment, &conf("1.1.0"))?)? {
                        Ping::to(address.parse()?).send(node, PATIENT).with_context(|| address.clone())?;
                    }
                    del(node, &sandbox.attachment, &conf("1.1.0"))?;
                }
                Ok(())
            };
            let workers: Vec<_> = (0..4).map(|number| scope.spawn(move || worker(number))).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().map_err(|_| anyhow!("a thread panicked"))?)
        })
    })
}

/// Case 30: runtimes switch it off in new namespaces when they know of no IPv6.
fn ipv6_is_switched_on_where_it_was_off() -> Result<()> {
    on_dual_stack_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        sandbox
            .namespace
            .sysctl([("net.ipv6.conf.all.disable_ipv6", "1"), ("net.ipv6.conf.default.disable_ipv6", "1")])?;
        let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let addresses = sandbox.namespace.exec(["ip", "-6", "-o", "address"])?;
        ensure!(addresses.contains("fd00:32:") && addresses.contains("::1/128"), "{addresses}");
        let gateway = result["ips"][1]["gateway"].as_str().context("a gateway")?.parse()?;
        Ping::to(gateway).send(&sandbox.namespace, PATIENT)?;
        Ok(())
    })
}

/// Case 28, second half.
fn ipv4_alone_leaves_ipv6_settings_alone() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        sandbox
            .namespace
            .sysctl([("net.ipv6.conf.all.disable_ipv6", "1"), ("net.ipv6.conf.default.disable_ipv6", "1")])?;
        add(node, &sandbox.attachment, &conf("1.1.0"))?;
        for name in ["lo", "eth0", "all", "default"] {
            let path = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
            let value = sandbox.namespace.exec(["cat", &path])?;
            ensure!(value.trim() == "1", "{name}: {value}");
        }
        Ok(())
    })
}

/// Case 28, first half.
fn ipv6_alone_gives_ipv6_alone() -> Result<()> {
    let builder = Cluster::builder("cncfdemo").nodes(2).underlay("fd00:20::/64");
    builder.config("node_networks = \"fd00:20::/116\"\npod_network = \"fd00:32::/48\"").run(|cluster| {
        let (node, other) = (cluster.node(0), cluster.node(1));
        let sandbox = Sandbox::new(node, "c1")?;
        for version in VERSIONS {
            let result = add(node, &sandbox.attachment, &conf(version)).context(version)?;
            if version < "0.3.0" {
                ensure!(result["ip4"].is_null() && result["ip6"]["ip"].is_string(), "{result}");
            } else {
                let addresses = addresses(&result)?;
                ensure!(addresses.len() == 1 && addresses[0].starts_with("fd00:32:"), "{result}");
                ensure!(result["routes"].as_array().is_some_and(|routes| routes.len() == 1), "{result}");
            }
            let v4 = sandbox.namespace.exec(["ip", "-4", "-o", "address", "show", "dev", "eth0"])?;
            ensure!(v4.is_empty(), "{v4}");
            del(node, &sandbox.attachment, &conf(version))?;
        }
        let (here, there) = (node.add_pod("here")?, other.add_pod("there")?);
        reaches(&here, there.address())
    })
}

/// Case 48.
fn interfaces_of_a_container_live_by_themselves() -> Result<()> {
    on_dual_stack_node(|node| {
        let before = HostState::of(node)?;
        let sandbox = Sandbox::new(node, "c1")?;
        let mut second = sandbox.attachment.clone();
        second.interface = "eth1".into();
        let first = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let with_one = HostState::of(node)?;
        let other = add(node, &second, &conf("1.1.0"))?;
        let all: BTreeSet<_> = addresses(&first)?.into_iter().chain(addresses(&other)?).collect();
        ensure!(all.len() == 4, "{all:?}");
        for name in ["eth0", "eth1"] {
            let gateway = first["ips"][0]["gateway"].as_str().context("a gateway")?;
            sandbox
                .namespace
                .exec(["ping", "-c1", "-W60", "-I", name, gateway])
                .with_context(|| name.to_owned())?;
        }
        // The first has the default route; a result tells only of what was made.
        ensure!(other["routes"].is_null(), "{other}");
        del(node, &second, &conf("1.1.0"))?;
        sandbox.has(&["lo", "eth0"])?;
        with_one.returns(node)?;
        let gateway = first["ips"][0]["gateway"].as_str().context("a gateway")?.parse()?;
        Ping::to(gateway).send(&sandbox.namespace, PATIENT)?;

        add(node, &second, &conf("1.1.0"))?;
        del(node, &sandbox.attachment, &conf("1.1.0"))?;
        sandbox.has(&["lo", "eth1"])?;
        del(node, &second, &conf("1.1.0"))?;
        before.returns(node)
    })
}

/// The same container and the same interface in two networks are two attachments; the names
/// cannot be mixed up by joining them with a separator.
fn networks_of_a_node_live_by_themselves() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let (one, two) = (Sandbox::new(node, "a-b")?, Sandbox::new(node, "b")?);
        let (net, net_a) = (conf_with(json!({"name": "net"})), conf_with(json!({"name": "net-a"})));
        let first = add(node, &one.attachment, &net)?;
        let with_one = HostState::of(node)?;
        let second = add(node, &two.attachment, &net_a)?;
        ensure!(address(&first)? != address(&second)?);
        ensure!(first["interfaces"][0]["name"] != second["interfaces"][0]["name"], "{second}");
        // The interface of the other network has the name that this one wants.
        let answer = call(node, "ADD", &one.attachment, &net_a)?;
        fails_any(&answer, &[110], &["eth0"])?;
        del(node, &one.attachment, &net_a)?;
        one.has(&["lo", "eth0"])?;
        del(node, &two.attachment, &net_a)?;
        with_one.returns(node)?;
        del(node, &one.attachment, &net)?;
        before.returns(node)
    })
}

/// The way out that another plugin made is not taken over, and not told as ours (specification
/// 0.4.0: "be prepared to skip over its default route").
fn a_foreign_default_route_stays() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        sandbox
            .namespace
            .ip("link add net0 type bridge\naddr add 192.168.7.2/24 dev net0\nlink set net0 up\n\
             route add default via 192.168.7.1\n")?;
        let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let routes = sandbox.namespace.exec(["ip", "route", "show", "default"])?;
        ensure!(routes.lines().any(|line| line.starts_with("default via 192.168.7.1 dev net0")), "{routes}");
        ensure!(result["routes"].is_null(), "{result}");
        del(node, &sandbox.attachment, &conf("1.1.0"))?;
        let routes = sandbox.namespace.exec(["ip", "route", "show", "default"])?;
        ensure!(routes.contains("192.168.7.1"), "{routes}");
        Ok(())
    })
}

/// A block of sixteen: network, gateway, thirteen pods, broadcast.
const SMALL: &str = "node_prefix = 28\nnode_networks = \"172.20.0.0/24\"\npod_network = \"10.32.0.0/16\"";

/// Case 40: not before all others were used.
fn released_addresses_come_last() -> Result<()> {
    on_node_with(SMALL, |node: &Node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let mut seen = Vec::new();
        for _ in 0..26 {
            seen.push(address(&add(node, &sandbox.attachment, &conf("1.1.0"))?)?);
            del(node, &sandbox.attachment, &conf("1.1.0"))?;
        }
        let (first, again) = seen.split_at(13);
        ensure!(first.iter().collect::<BTreeSet<_>>().len() == 13, "{seen:?}");
        ensure!(first == again, "{seen:?}");
        Ok(())
    })
}

/// Case 28: `ipv6.disable=1` cannot be set for one namespace; a namespace without the files is
/// what the plugin sees then.
fn ipv6_is_refused_clearly_where_the_kernel_has_none() -> Result<()> {
    on_dual_stack_node(|node| {
        let before = HostState::of(node)?;
        let sandbox = Sandbox::new(node, "c1")?;
        let script = r#"mount -t tmpfs none /proc/sys/net && exec "$0""#;
        let plugin = node.programs().join("minionet");
        let plugin = plugin.to_str().context("a path")?;
        let answer = node.cni_exec("ADD", &sandbox.attachment, conf("1.1.0").to_string(), |call| call)?;
        succeeded(&answer)?;
        del(node, &sandbox.attachment, &conf("1.1.0"))?;
        let environment = netns_testbed::cni::CniCall::new("ADD", &sandbox.attachment, "", Vec::new());
        let mut words = vec!["unshare".to_owned(), "--mount".into(), "env".into()];
        words.extend(environment.environment.iter().map(|(name, value)| format!("{name}={value}")));
        words.extend(["sh", "-c", script, plugin].map(str::to_owned));
        let error = node.exec_with_input(words, conf("1.1.0").to_string().as_bytes());
        ensure!(error.is_err(), "an ADD without IPv6 succeeded");
        sandbox.has(&["lo"])?;
        before.returns(node)
    })
}
