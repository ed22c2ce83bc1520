//! The result of ADD in the exact shape of every version.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::Node;
use serde_json::{Map, Value, json};

use super::support::*;

pub fn trials() -> Vec<Trial> {
    trials![
        every_version_has_its_shape,
        without_a_version_it_is_the_oldest,
        results_agree_with_the_kernel,
        a_previous_result_is_passed_on,
        a_previous_result_that_points_nowhere_is_not_made_to_point_at_us => [Need::Program("nft")],
        previous_results_of_every_shape_are_understood,
        fields_of_1_1_0_are_kept_and_dropped_below,
    ]
}

/// The keys of an object.
fn keys(value: &Value) -> Result<BTreeSet<&str>> {
    Ok(value.as_object().with_context(|| format!("no object: {value}"))?.keys().map(String::as_str).collect())
}

fn has_keys(value: &Value, expected: &[&str]) -> Result<()> {
    ensure!(keys(value)? == expected.iter().copied().collect(), "keys {expected:?} expected: {value}");
    Ok(())
}

/// Adds and deletes a container in a version.
fn result_of(node: &Node, sandbox: &Sandbox, conf: &Value) -> Result<Value> {
    let result = add(node, &sandbox.attachment, conf)?;
    del(node, &sandbox.attachment, conf)?;
    Ok(result)
}

/// Case 19.
fn every_version_has_its_shape() -> Result<()> {
    on_dual_stack_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        for version in VERSIONS {
            let result = result_of(node, &sandbox, &conf(version)).context(version)?;
            ensure!(result["cniVersion"] == version, "{result}");
            match version {
                "0.1.0" | "0.2.0" => old_shape(&result),
                _ => new_shape(&result, version),
            }
            .with_context(|| format!("{version}: {result:#}"))?;
        }
        Ok(())
    })
}

/// One address a family, with the routes of that family; no interfaces.
fn old_shape(result: &Value) -> Result<()> {
    has_keys(result, &["cniVersion", "ip4", "ip6", "dns"])?;
    for (family, length, default) in [("ip4", "/32", "0.0.0.0/0"), ("ip6", "/128", "::/0")] {
        let ip = &result[family];
        has_keys(ip, &["ip", "gateway", "routes"])?;
        ensure!(ip["ip"].as_str().is_some_and(|ip| ip.ends_with(length)), "{ip}");
        ensure!(ip["routes"] == json!([{"dst": default, "gw": ip["gateway"]}]), "{ip}");
    }
    ensure!(result["dns"] == json!({}), "{result}");
    Ok(())
}

/// Lists of interfaces, addresses and routes.
fn new_shape(result: &Value, version: &str) -> Result<()> {
    let before_1 = version < "1.0.0";
    let mut expected = vec!["cniVersion", "interfaces", "ips", "routes"];
    if before_1 {
        expected.push("dns");
        ensure!(result["dns"] == json!({}), "dns before 1.0.0 is there and empty");
    }
    has_keys(result, &expected)?;
    let mtu: &[&str] = if version == "1.1.0" { &["mtu"] } else { &[] };
    let [host, pod] = result["interfaces"].as_array().map_or(&[][..], Vec::as_slice) else {
        anyhow::bail!("two interfaces expected");
    };
    has_keys(host, &[&["name", "mac"], mtu].concat())?;
    has_keys(pod, &[&["name", "mac", "sandbox"], mtu].concat())?;
    let [v4, v6] = result["ips"].as_array().map_or(&[][..], Vec::as_slice) else {
        anyhow::bail!("two addresses expected");
    };
    for (ip, family) in [(v4, "4"), (v6, "6")] {
        let with_version: &[&str] = if before_1 { &["version"] } else { &[] };
        has_keys(ip, &[&["address", "gateway", "interface"], with_version].concat())?;
        // Go's type has it as text, and a number fails to decode there.
        ensure!(!before_1 || ip["version"] == family, "{ip}");
        ensure!(ip["interface"] == 1, "the position of the container's interface: {ip}");
    }
    ensure!(v4["address"].as_str().is_some_and(|a| a.ends_with("/32")), "IPv4 comes first: {v4}");
    let routes = json!([
        {"dst": "0.0.0.0/0", "gw": v4["gateway"]}, {"dst": "::/0", "gw": v6["gateway"]},
    ]);
    ensure!(result["routes"] == routes, "{routes}");
    Ok(())
}

/// Case 18.
fn without_a_version_it_is_the_oldest() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        for conf in [
            json!({"name": "net1", "type": "minionet"}),
            json!({"cniVersion": "", "name": "net1"}),
            json!({"cniVersion": null, "name": "net1"}),
        ] {
            let result = result_of(node, &sandbox, &conf)?;
            has_keys(&result, &["cniVersion", "ip4", "dns"])?;
            ensure!(result["cniVersion"] == "0.1.0", "{result}");
        }
        Ok(())
    })
}

/// Cases 26 and 31: what is told is what is there.
fn results_agree_with_the_kernel() -> Result<()> {
    on_dual_stack_node(|node| {
        // A path with all that may stand in one; it comes back as it was given.
        let mut sandbox = Sandbox::new(node, "c1")?;
        node.exec(["ln", "-s", "/run/netns/c1", "/run/a näme with \"quotes\""])?;
        sandbox.attachment.netns = "/run/../run/a näme with \"quotes\"".to_owned();
        let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let (host, pod) = (&result["interfaces"][0], &result["interfaces"][1]);
        ensure!(pod["sandbox"] == sandbox.attachment.netns, "{pod}");
        ensure!(pod["name"] == "eth0", "{pod}");
        let agrees = |link: String, told: &Value| -> Result<()> {
            let links: Value = serde_json::from_str(&link)?;
            let link = &links[0];
            ensure!(link["address"] == told["mac"], "{link} is not {told}");
            ensure!(link["mtu"] == told["mtu"], "{link} is not {told}");
            let up = link["flags"].as_array().is_some_and(|flags| flags.contains(&json!("LOWER_UP")));
            ensure!(up, "{link} is not up");
            Ok(())
        };
        let show = |name: &str| ["ip", "-j", "link", "show", "dev", name].map(str::to_owned);
        agrees(sandbox.namespace.exec(show("eth0"))?, pod)?;
        agrees(node.exec(show(host["name"].as_str().context("a name")?))?, host)?;
        let list =
            sandbox.namespace.exec(["ip", "-o", "address", "show", "dev", "eth0", "scope", "global"])?;
        for ip in result["ips"].as_array().context("a list")? {
            // ip(8) leaves the full length of a prefix out only where a peer is set.
            let address = ip["address"].as_str().context("text")?;
            ensure!(list.contains(address), "{address} is not in {list}");
        }
        ensure!(list.lines().count() == 2, "{list}");
        Ok(())
    })
}

/// The result of a plugin that came before ours.
fn before_us() -> Value {
    json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "br0", "mac": "02:00:00:00:00:01"},
            {"name": "net1", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/c1", "mtu": 9000},
        ],
        "ips": [{"address": "192.168.7.2/24", "gateway": "192.168.7.1", "interface": 1}],
        "routes": [{"dst": "192.168.0.0/16", "gw": "192.168.7.1", "mtu": 1280, "table": 0}],
        "dns": {"nameservers": ["192.168.7.53"], "search": ["a.example"]},
    })
}

/// Case 34: earlier entries first, as they were, and our positions behind them.
fn a_previous_result_is_passed_on() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let before = before_us();
        let result = result_of(node, &sandbox, &conf_with(json!({"prevResult": before})))?;
        for (list, ours) in [("interfaces", 2), ("ips", 1), ("routes", 1)] {
            let (earlier, now) = (before[list].as_array().context("a list")?, result[list].as_array());
            let now = now.context("a list")?;
            ensure!(now.starts_with(earlier), "{list} were changed: {result:#}");
            ensure!(now.len() == earlier.len() + ours, "{list}: {result:#}");
        }
        ensure!(result["ips"][1]["interface"] == 3, "{result:#}");
        ensure!(result["interfaces"][3]["name"] == "eth0", "{result:#}");
        ensure!(result["dns"] == before["dns"], "{result:#}");
        // Our own configuration is stronger.
        let conf = conf_with(json!({"prevResult": before, "dns": {"nameservers": ["10.0.0.53"]}}));
        let result = result_of(node, &sandbox, &conf)?;
        ensure!(result["dns"] == json!({"nameservers": ["10.0.0.53"]}), "{result:#}");
        Ok(())
    })
}

/// What an earlier plugin says of an interface that it does not list, must not become true by ours.
fn a_previous_result_that_points_nowhere_is_not_made_to_point_at_us() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let sandbox = Sandbox::new(node, "c1")?;
        for position in [0, 1, 2, 99] {
            let previous =
                json!({"cniVersion": "1.1.0", "ips": [{"address": "192.168.7.2/24", "interface": position}]});
            let result = result_of(node, &sandbox, &conf_with(json!({"prevResult": previous})))?;
            ensure!(result["ips"][0] == json!({"address": "192.168.7.2/24"}), "{result:#}");
        }
        for version in [json!("9.9.9"), json!(1)] {
            let conf = conf_with(json!({"prevResult": {"cniVersion": version, "ips": []}}));
            fails(&call(node, "ADD", &sandbox.attachment, &conf)?, 6, &["prevResult", "cniVersion"])?;
        }
        before.returns(node)
    })
}

/// libcni converts it to the configuration's version; others do not, and old ones leave
/// `cniVersion` out.
fn previous_results_of_every_shape_are_understood() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let old = json!({
            "ip4": {"ip": "192.168.7.2/24", "gateway": "192.168.7.1", "routes": [{"dst": "192.168.0.0/16"}]},
            "dns": {},
        });
        let middle = json!({
            "cniVersion": "0.3.1",
            "interfaces": [{"name": "net1", "sandbox": "/run/netns/c1"}],
            "ips": [{"version": "4", "address": "192.168.7.2/24", "interface": 0}],
            "routes": [{"dst": "192.168.0.0/16"}], "dns": {},
        });
        let any_case = json!({
            "CNIVersion": "1.0.0", "IPs": [{"Address": "192.168.7.2/24", "Interface": 0}],
            "Interfaces": [{"Name": "net1", "Unknown": 1}], "Routes": [{"Dst": "192.168.0.0/16"}],
        });
        for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            for previous in [&old, &middle, &any_case] {
                let conf = merged(conf(version), json!({"prevResult": previous}));
                let result = result_of(node, &sandbox, &conf).with_context(|| conf.to_string())?;
                ensure!(result["cniVersion"] == version, "{result:#}");
                ensure!(
                    addresses(&result)?[0] == "192.168.7.2" && addresses(&result)?.len() == 2,
                    "{result:#}"
                );
                ensure!(result["routes"][0] == json!({"dst": "192.168.0.0/16"}), "{result:#}");
                let versions = result["ips"].as_array().context("a list")?.iter();
                let told = versions.filter(|ip| ip["version"] == "4").count();
                ensure!(told == if version < "1.0.0" { 2 } else { 0 }, "{result:#}");
            }
        }
        // An old version has room for the first address only.
        let conf = merged(conf("0.2.0"), json!({"prevResult": old}));
        let result = result_of(node, &sandbox, &conf)?;
        ensure!(result["ip4"]["ip"] == "192.168.7.2/24", "{result:#}");
        let empty: Map<String, Value> = Map::new();
        result_of(node, &sandbox, &conf_with(json!({"prevResult": empty})))?;
        Ok(())
    })
}

/// What only 1.1.0 can say is no part of an older result.
fn fields_of_1_1_0_are_kept_and_dropped_below() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let previous = json!({
            "interfaces": [{"name": "vhost0", "socketPath": "/run/v.sock", "pciID": "0000:00:1f.6", "mtu": 9000}],
            "ips": [{"address": "192.168.7.2/24", "interface": 0}],
            "routes": [{"dst": "192.168.0.0/16", "mtu": 1280, "advmss": 1200, "priority": 5, "table": 0, "scope": 0}],
        });
        let newest = result_of(node, &sandbox, &conf_with(json!({"prevResult": previous})))?;
        ensure!(newest["interfaces"][0] == previous["interfaces"][0], "{newest:#}");
        ensure!(newest["routes"][0] == previous["routes"][0], "{newest:#}");
        for version in ["0.3.1", "0.4.0", "1.0.0"] {
            let conf = merged(conf(version), json!({"prevResult": previous}));
            let result = result_of(node, &sandbox, &conf)?;
            ensure!(result["interfaces"][0] == json!({"name": "vhost0"}), "{result:#}");
            ensure!(result["routes"][0] == json!({"dst": "192.168.0.0/16"}), "{result:#}");
        }
        Ok(())
    })
}
