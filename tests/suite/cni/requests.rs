//! What a runtime may wish for one container: addresses, a MAC, name servers.

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::traffic::Ping;
use serde_json::{Value, json};

use super::support::*;

pub fn trials() -> Vec<Trial> {
    trials![
        a_requested_address_is_given,
        requests_have_an_order,
        addresses_that_cannot_be_had_are_refused => [Need::Program("nft")],
        an_address_in_use_names_its_holder => [Need::Program("nft")],
        a_requested_mac_is_given,
        macs_that_no_interface_can_have_are_refused => [Need::Program("nft")],
        name_servers_are_passed_on,
        keys_of_containerd_are_understood,
    ]
}

/// Case 35, in every way that there is; the block of the first node is 10.32.1.0/24.
fn a_requested_address_is_given() -> Result<()> {
    on_dual_stack_node(|node| {
        let mut sandbox = Sandbox::new(node, "c1")?;
        let ways: [(Value, &str, &[&str]); 9] = [
            (json!({"runtimeConfig": {"ips": ["10.32.1.77"]}}), "", &["10.32.1.77"]),
            (json!({"runtimeConfig": {"ips": ["10.32.1.77/24"]}}), "", &["10.32.1.77"]),
            (json!({"runtimeConfig": {"IPs": ["10.32.1.77/32"]}}), "", &["10.32.1.77"]),
            (json!({"args": {"cni": {"ips": ["10.32.1.78"]}}}), "", &["10.32.1.78"]),
            (json!({"args": {"cni": {"ips": ["10.32.1.78/16"]}}}), "", &["10.32.1.78"]),
            (json!({}), "IP=10.32.1.79", &["10.32.1.79"]),
            (json!({}), "IgnoreUnknown=1;IP=10.32.1.79/24;MAC=0a:00:00:00:00:09", &["10.32.1.79"]),
            (json!({"runtimeConfig": {"ips": ["fd00:32:0:1::77"]}}), "", &["fd00:32:0:1::77"]),
            (
                json!({"runtimeConfig": {"ips": ["fd00:32:0:1::99/64", "10.32.1.80/24"]}}),
                "",
                &["10.32.1.80", "fd00:32:0:1::99"],
            ),
        ];
        for (more, args, expected) in ways {
            sandbox.attachment.args = args.to_owned();
            let conf = conf_with(more);
            let result = add(node, &sandbox.attachment, &conf).with_context(|| conf.to_string())?;
            let given = addresses(&result)?;
            ensure!(given.len() == 2, "the other family is completed: {result}");
            ensure!(
                expected.iter().all(|address| given.iter().any(|a| a == address)),
                "{expected:?}: {result}"
            );
            for address in given {
                Ping::to(address.parse()?).send(node, PATIENT).with_context(|| address.clone())?;
            }
            del(node, &sandbox.attachment, &conf)?;
        }
        Ok(())
    })
}

/// Case 37: the runtime's wish, then the configuration's, then the environment's; the strongest
/// as a whole.
fn requests_have_an_order() -> Result<()> {
    on_node(|node| {
        let mut sandbox = Sandbox::new(node, "c1")?;
        sandbox.attachment.args = "IP=10.32.1.73;MAC=0a:00:00:00:00:03".into();
        let by_conf = json!({"args": {"cni": {"ips": ["10.32.1.72"], "mac": "0a:00:00:00:00:02"}}});
        let by_runtime = json!({"runtimeConfig": {"ips": ["10.32.1.71"], "mac": "0a:00:00:00:00:01"}});
        for (number, more) in [
            (3, json!({})),
            (2, by_conf.clone()),
            (1, by_runtime.clone()),
            (1, merged(by_conf.clone(), by_runtime)),
            (2, merged(by_conf.clone(), json!({"runtimeConfig": {"ips": null, "mac": ""}}))),
        ] {
            let conf = conf_with(more);
            let result = add(node, &sandbox.attachment, &conf)?;
            ensure!(address(&result)? == format!("10.32.1.7{number}"), "{conf}: {result}");
            ensure!(
                result["interfaces"][1]["mac"] == format!("0a:00:00:00:00:0{number}"),
                "{conf}: {result}"
            );
            del(node, &sandbox.attachment, &conf)?;
        }
        // An empty list is a list: the address of the environment is ignored (CONVENTIONS.md).
        let conf = conf_with(json!({"args": {"cni": {"ips": []}}}));
        let result = add(node, &sandbox.attachment, &conf)?;
        ensure!(address(&result)? != "10.32.1.73", "{result}");
        Ok(())
    })
}

/// Case 36.
fn addresses_that_cannot_be_had_are_refused() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let mut sandbox = Sandbox::new(node, "c1")?;
        let bad = [
            "10.32.1.0",
            "10.32.1.1",
            "10.32.1.255",
            "10.32.2.5",
            "192.0.2.1",
            "127.0.0.1",
            "0.0.0.0",
            "fd00:32:0:1::5",
            "10.32.1",
            "10.32.1.5/33",
            "10.32.1.5/",
            "10.32.1.05",
            "",
            "x",
            "::ffff:10.32.1.5",
        ];
        for text in bad {
            for origin in ["runtimeConfig", "args.cni", "CNI_ARGS"] {
                let (more, args) = match origin {
                    "runtimeConfig" => (json!({"runtimeConfig": {"ips": [text]}}), String::new()),
                    "args.cni" => (json!({"args": {"cni": {"ips": [text]}}}), String::new()),
                    _ => (json!({}), format!("IP={text}")),
                };
                sandbox.attachment.args = args;
                let answer = call(node, "ADD", &sandbox.attachment, &conf_with(more))?;
                fails_any(&answer, &[4, 7], &[text]).with_context(|| format!("{origin} {text:?}"))?;
            }
        }
        sandbox.attachment.args.clear();
        let two = conf_with(json!({"runtimeConfig": {"ips": ["10.32.1.5", "10.32.1.6"]}}));
        fails(&call(node, "ADD", &sandbox.attachment, &two)?, 7, &["10.32.1.5", "10.32.1.6"])?;
        sandbox.has(&["lo"])?;
        before.returns(node)
    })
}

/// Case 36: by another container, and by the same one.
fn an_address_in_use_names_its_holder() -> Result<()> {
    on_node(|node| {
        let (holder, other) = (Sandbox::new(node, "holder")?, Sandbox::new(node, "other")?);
        let wish = conf_with(json!({"runtimeConfig": {"ips": ["10.32.1.50"]}}));
        add(node, &holder.attachment, &wish)?;
        let with_holder = HostState::of(node)?;
        let answer = call(node, "ADD", &other.attachment, &wish)?;
        fails(&answer, 111, &["10.32.1.50", "holder", "eth0"])?;
        other.has(&["lo"])?;
        fails(&call(node, "ADD", &holder.attachment, &wish)?, 112, &["eth0", "10.32.1.50"])?;
        with_holder.returns(node)?;
        // A failed ADD is followed by a DEL, which must not take the holder's address.
        del(node, &other.attachment, &wish)?;
        with_holder.returns(node)?;
        del(node, &holder.attachment, &wish)?;
        let result = add(node, &other.attachment, &wish)?;
        ensure!(address(&result)? == "10.32.1.50", "{result}");
        Ok(())
    })
}

/// Case 32; any spelling.
fn a_requested_mac_is_given() -> Result<()> {
    on_node(|node| {
        let mut sandbox = Sandbox::new(node, "c1")?;
        let ways = [
            (json!({"runtimeConfig": {"mac": "0A:1B:2C:3D:4E:5F"}}), ""),
            (json!({"runtimeConfig": {"mac": "0a-1b-2c-3d-4e-5f"}}), ""),
            (json!({"args": {"cni": {"mac": "0a:1b:2c:3d:4e:5f"}}}), ""),
            (json!({}), "MAC=0a:1b:2c:3d:4e:5f"),
        ];
        for (more, args) in ways {
            sandbox.attachment.args = args.to_owned();
            let conf = conf_with(more);
            let result = add(node, &sandbox.attachment, &conf)?;
            ensure!(result["interfaces"][1]["mac"] == "0a:1b:2c:3d:4e:5f", "{result}");
            let link = sandbox.namespace.exec(["ip", "link", "show", "eth0"])?;
            ensure!(link.contains("link/ether 0a:1b:2c:3d:4e:5f"), "{link}");
            Ping::to(address(&result)?.parse()?).send(node, PATIENT)?;
            del(node, &sandbox.attachment, &conf)?;
        }
        Ok(())
    })
}

/// Multicast, zero, the host end's own, and what is none.
fn macs_that_no_interface_can_have_are_refused() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let mut sandbox = Sandbox::new(node, "c1")?;
        for mac in [
            "01:00:5e:00:00:01",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "0e:67:00:00:00:01",
            "0a:00",
            "x",
            "0a:00:00:00:00:01:02",
        ] {
            let conf = conf_with(json!({"runtimeConfig": {"mac": mac}}));
            let answer = call(node, "ADD", &sandbox.attachment, &conf)?;
            fails(&answer, 7, &[mac]).with_context(|| format!("{mac:?}"))?;
            sandbox.attachment.args = format!("MAC={mac}");
            let answer = call(node, "ADD", &sandbox.attachment, &super::support::conf("1.1.0"))?;
            fails(&answer, 4, &["CNI_ARGS", mac]).with_context(|| format!("{mac:?}"))?;
            sandbox.attachment.args.clear();
        }
        sandbox.has(&["lo"])?;
        before.returns(node)
    })
}

/// Case 33; the runtime's wish for one container is stronger than what is configured for all.
fn name_servers_are_passed_on() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let configured = json!({
            "nameservers": ["10.0.0.53", "fd00::53"], "domain": "cluster.local",
            "search": ["default.svc.cluster.local"], "options": ["ndots:5"],
        });
        let earlier = json!({"dns": {"nameservers": ["192.0.2.53"]}});
        let cases = [
            (json!({"dns": configured}), configured.clone()),
            (json!({"dns": configured, "prevResult": earlier}), configured.clone()),
            (json!({"prevResult": earlier}), earlier["dns"].clone()),
            (
                json!({"dns": configured, "runtimeConfig": {"dns": {"Servers": ["10.0.0.9"], "Searches": ["a.b"], "Options": []}}}),
                json!({"nameservers": ["10.0.0.9"], "search": ["a.b"]}),
            ),
            // Set, and empty: overrides all the same.
            (json!({"dns": {"nameservers": []}, "prevResult": earlier}), Value::Null),
        ];
        for (more, expected) in cases {
            let conf = conf_with(more);
            let result = add(node, &sandbox.attachment, &conf)?;
            ensure!(result["dns"] == expected, "{conf}: {result}");
            del(node, &sandbox.attachment, &conf)?;
            // Old results always have the key.
            let conf = merged(conf, json!({"cniVersion": "0.2.0"}));
            let expected = if expected.is_null() { json!({}) } else { expected };
            let result = add(node, &sandbox.attachment, &conf)?;
            ensure!(result["dns"] == expected, "{conf}: {result}");
            del(node, &sandbox.attachment, &conf)?;
        }
        Ok(())
    })
}

/// Case 25: go-cni's structures have no names for JSON, so Go writes those of the fields.
fn keys_of_containerd_are_understood() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let conf = conf_with(json!({"runtimeConfig": {
            "dns": {"Servers": ["10.0.0.53"], "Searches": ["a.example"], "Options": ["ndots:1"]},
            "portMappings": [], "bandwidth": null,
        }}));
        let result = add(node, &sandbox.attachment, &conf)?;
        let expected = json!({"nameservers": ["10.0.0.53"], "search": ["a.example"], "options": ["ndots:1"]});
        ensure!(result["dns"] == expected, "{result}");
        Ok(())
    })
}
