//! The network configuration: name, version, and keys known and unknown.

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::support::*;

pub fn trials() -> Vec<Trial> {
    trials![
        network_names_are_checked => [Need::Program("nft")],
        versions_are_checked => [Need::Program("nft")],
        verbs_are_refused_in_versions_before_theirs,
        errors_speak_the_callers_version,
        keys_match_in_any_case,
        foreign_keys_are_ignored,
        null_is_the_same_as_absent,
        unknown_keys_of_our_own_are_refused => [Need::Program("nft")],
        the_mtu_is_checked => [Need::Program("nft")],
        values_of_the_wrong_kind_are_named => [Need::Program("nft")],
    ]
}

/// Case 16: nothing is written outside of the state directory, either.
fn network_names_are_checked() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let before = HostState::of(node)?;
        // It writes files as well, whenever there is something to tell.
        node.kill_daemon(Signal::SIGKILL)?;
        let everything = || node.exec(["find", "/etc", "/run", "/var/lib", "-newer", "/etc/resolv.conf"]);
        let files = everything()?;
        let bad: [Value; 9] = [
            json!({}),
            json!({"name": ""}),
            json!({"name": null}),
            json!({"name": "te%%st"}),
            json!({"name": "../x"}),
            json!({"name": "/etc/x"}),
            json!({"name": ".x"}),
            json!({"name": "a b"}),
            json!({"name": "é"}),
        ];
        for name in bad {
            let mut conf = conf("1.1.0");
            conf.as_object_mut().context("an object")?.remove("name");
            let conf = merged(conf, name.clone());
            for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
                let answer = call(node, verb, &sandbox.attachment, &conf)?;
                fails(&answer, 7, &["name"]).with_context(|| format!("{verb} with {name}"))?;
            }
        }
        let answer = call(node, "ADD", &sandbox.attachment, &conf_with(json!({"name": 5})))?;
        fails(&answer, 6, &["name"])?;
        ensure!(files == everything()?, "files changed: {}", everything()?);
        before.is_that_of(node)
    })
}

/// Case 17.
fn versions_are_checked() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let before = HostState::of(node)?;
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            for version in ["2.0.0", "1.2.0", "0.0.1", "1.1", "v1.1.0", "1.1.0 ", "abc"] {
                let answer = call(node, verb, &sandbox.attachment, &conf(version))?;
                let mut named = vec![version.trim()];
                named.extend(VERSIONS);
                fails(&answer, 1, &named).with_context(|| format!("{verb} with {version:?}"))?;
            }
            for version in [json!(1), json!(true), json!(["1.1.0"]), json!({})] {
                let answer =
                    call(node, verb, &sandbox.attachment, &conf_with(json!({"cniVersion": version})))?;
                fails(&answer, 6, &["cniVersion"]).with_context(|| format!("{verb} with {version}"))?;
            }
        }
        sandbox.has(&["lo"])?;
        before.is_that_of(node)
    })
}

/// Case 20: CHECK came with 0.4.0, GC and STATUS with 1.1.0.
fn verbs_are_refused_in_versions_before_theirs() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let none = attachment("", "");
        for (index, version) in VERSIONS.into_iter().enumerate() {
            if index < 4 {
                let answer = call(node, "CHECK", &sandbox.attachment, &conf(version))?;
                fails(&answer, 1, &["CHECK"]).with_context(|| format!("CHECK in {version}"))?;
            }
            for verb in ["GC", "STATUS"] {
                if index < 6 {
                    let answer = call(node, verb, &none, &conf(version))?;
                    fails(&answer, 1, &[verb]).with_context(|| format!("{verb} in {version}"))?;
                }
            }
        }
        Ok(())
    })
}

/// Case 21: the version of an error is that of the configuration, else the newest.
fn errors_speak_the_callers_version() -> Result<()> {
    on_node(|node| {
        let nowhere = attachment("c1", "/run/netns/nowhere");
        for version in VERSIONS {
            let failure = failure(&call(node, "ADD", &nowhere, &conf(version))?)?;
            ensure!(failure.version == version, "{failure:?}");
        }
        let newest = [conf("2.0.0"), json!([]), json!({"name": "n", "cniVersion": 3})];
        for input in newest {
            let failure = failure(&call(node, "ADD", &nowhere, &input)?)?;
            ensure!(failure.version == "1.1.0", "{failure:?}");
        }
        let missing = failure(&call(node, "ADD", &nowhere, &json!({"name": "n"}))?)?;
        ensure!(missing.version == "0.1.0", "{missing:?}");
        Ok(())
    })
}

/// Go's decoder, for which every runtime was written, does not distinguish.
fn keys_match_in_any_case() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let conf = json!({
            "CNIVERSION": "1.0.0", "Name": "net1", "TYPE": "minionet", "MTU": 1300,
            "DNS": {"NameServers": ["10.0.0.53"]}, "IPAM": {"Type": "minionet"},
            "RuntimeConfig": {"MAC": "0a:00:00:00:00:01"},
        });
        let result = add(node, &sandbox.attachment, &conf)?;
        ensure!(result["cniVersion"] == "1.0.0", "{result}");
        ensure!(result["dns"] == json!({"nameservers": ["10.0.0.53"]}), "{result}");
        ensure!(result["interfaces"][1]["mac"] == "0a:00:00:00:00:01", "{result}");
        let link = sandbox.namespace.exec(["ip", "link", "show", "eth0"])?;
        ensure!(link.contains("mtu 1300 ") && link.contains("0a:00:00:00:00:01"), "{link}");
        del(node, &sandbox.attachment, &json!({"cniversion": "1.0.0", "NAME": "net1"}))?;
        sandbox.has(&["lo"])?;
        Ok(())
    })
}

/// Case 22: keys of runtimes, of libcni, of other plugins and of later versions.
fn foreign_keys_are_ignored() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let conf = conf_with(json!({
            "capabilities": {"portMappings": true, "unheardOf": true},
            "args": {"labels": [{"key": "app", "value": "web"}], "cni": {"labels": [], "sysctl": {}}},
            "cni.dev/foo": {"x": 1},
            "cni.dev/valid-attachments": [{"containerID": "other", "ifname": "eth0"}],
            "disableCheck": true, "disableGC": true, "loadOnlyInlinedPlugins": true,
            "cniVersions": ["0.4.0", "1.1.0"],
            "plugins": [{"type": "other"}],
            "isGateway": true, "bridge": "cni0", "whatever": [[{}]],
            "runtimeConfig": {
                "cgroupPath": "/x", "aliases": ["a"], "deviceID": "d", "infinibandGUID": "g",
                "io.kubernetes.cri.pod-annotations": {"a": "b"}, "unheardOf": {"a": 1},
            },
        }));
        add(node, &sandbox.attachment, &conf)?;
        del(node, &sandbox.attachment, &conf)?;
        sandbox.has(&["lo"])?;
        Ok(())
    })
}

/// Go writes null for what is not set.
fn null_is_the_same_as_absent() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let runtime = json!({"portMappings": null, "bandwidth": null, "ips": null, "mac": null, "dns": null});
        let variants = [
            json!({"mtu": null, "dns": null, "ipam": null, "args": null, "runtimeConfig": null,
                   "prevResult": null, "capabilities": null, "type": null}),
            json!({"ipam": {"type": null}, "args": {"cni": null}, "runtimeConfig": runtime,
                   "dns": {"nameservers": null, "domain": null, "search": null, "options": null}}),
            json!({"args": {"cni": {"ips": null, "mac": null}}, "prevResult": {"cniVersion": null,
                   "interfaces": null, "ips": null, "routes": null, "dns": null}}),
        ];
        let usual = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        del(node, &sandbox.attachment, &conf("1.1.0"))?;
        for variant in variants {
            let conf = conf_with(variant);
            let result = add(node, &sandbox.attachment, &conf).with_context(|| conf.to_string())?;
            let keys =
                |result: &Value| result.as_object().map(|keys| keys.keys().cloned().collect::<Vec<_>>());
            ensure!(keys(&result) == keys(&usual), "{result}");
            ensure!(!result.to_string().contains("null"), "{result}");
            del(node, &sandbox.attachment, &conf).with_context(|| conf.to_string())?;
        }
        let unversioned = conf_with(json!({"cniVersion": null}));
        ensure!(add(node, &sandbox.attachment, &unversioned)?["cniVersion"] == "0.1.0");
        Ok(())
    })
}

/// Case 22, second half, and case 41: address ranges are not for the plugin's configuration.
fn unknown_keys_of_our_own_are_refused() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let before = HostState::of(node)?;
        let bad = [
            (json!({"type": "host-local"}), ["ipam.type", "host-local"]),
            (json!({"subnet": "10.32.1.0/24"}), ["ipam.subnet", "10.32.1.0/24"]),
            (json!({"subnet": "10.32.1.7/24"}), ["ipam.subnet", "10.32.1.7/24"]),
            (json!({"ranges": [[{"subnet": "10.9.0.0/31"}]]}), ["ipam.ranges", "10.9.0.0/31"]),
            (json!({"type": "minionet", "rangeStart": "10.32.1.9"}), ["ipam.rangeStart", "10.32.1.9"]),
            (json!({"type": "minionet", "typo": 5}), ["ipam.typo", "5"]),
        ];
        for (ipam, named) in bad {
            let conf = conf_with(json!({"ipam": ipam}));
            let answer = call(node, "ADD", &sandbox.attachment, &conf)?;
            fails(&answer, 2, &named).with_context(|| conf.to_string())?;
            let answer = call(node, "STATUS", &attachment("", ""), &conf)?;
            fails(&answer, 2, &named).with_context(|| format!("STATUS with {conf}"))?;
            // DEL undoes what was recorded; the configuration of today does not matter.
            del(node, &sandbox.attachment, &conf)?;
        }
        sandbox.has(&["lo"])?;
        before.is_that_of(node)
    })
}

/// The overlay has room for so much; IPv4 needs 68 octets (RFC 791).
fn the_mtu_is_checked() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let before = HostState::of(node)?;
        for (mtu, code) in [
            (json!(1451), 7),
            (json!(67), 7),
            (json!(1u64 << 32), 7),
            (json!(9e15), 7),
            (json!(-1), 6),
            (json!(1400.5), 6),
            (json!("1400"), 6),
            (json!([1400]), 6),
        ] {
            let answer = call(node, "ADD", &sandbox.attachment, &conf_with(json!({"mtu": mtu})))?;
            fails(&answer, code, &["mtu"]).with_context(|| mtu.to_string())?;
        }
        sandbox.has(&["lo"])?;
        before.is_that_of(node)?;

        // 0 means the default, as it does for the reference plugins; libcni writes all numbers
        // as floating point.
        for (mtu, effective) in
            [(json!(0), 1450), (json!(1450), 1450), (json!(68), 68), (json!(1400.0), 1400)]
        {
            let conf = conf_with(json!({"mtu": mtu}));
            let result = add(node, &sandbox.attachment, &conf).with_context(|| mtu.to_string())?;
            ensure!(result["interfaces"][1]["mtu"] == effective, "{result}");
            del(node, &sandbox.attachment, &conf)?;
        }
        before.returns(node)
    })
}

/// Whatever stands where something else belongs is named, and nothing is made.
fn values_of_the_wrong_kind_are_named() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let before = HostState::of(node)?;
        let bad = [
            (json!({"dns": []}), "dns"),
            (json!({"dns": {"nameservers": "10.0.0.53"}}), "dns.nameservers"),
            (json!({"dns": {"nameservers": [53]}}), "dns.nameservers"),
            (json!({"dns": {"domain": ["x"]}}), "dns.domain"),
            (json!({"ipam": "minionet"}), "ipam"),
            (json!({"args": 1}), "args"),
            (json!({"args": {"cni": []}}), "args.cni"),
            (json!({"runtimeConfig": [1]}), "runtimeConfig"),
            (json!({"runtimeConfig": {"ips": "10.32.1.5"}}), "ips"),
            (json!({"runtimeConfig": {"ips": [5]}}), "ips"),
            (json!({"runtimeConfig": {"mac": 5}}), "mac"),
            (json!({"runtimeConfig": {"dns": "10.0.0.53"}}), "dns"),
            (json!({"prevResult": "text"}), "prevResult"),
            (json!({"prevResult": {"ips": 5}}), "prevResult"),
            (json!({"prevResult": {"ips": [{"address": "10.0.0.1"}]}}), "prevResult"),
            (json!({"prevResult": {"interfaces": ["eth0"]}}), "prevResult"),
        ];
        for (variant, named) in bad {
            let answer = call(node, "ADD", &sandbox.attachment, &conf_with(variant.clone()))?;
            fails(&answer, 6, &[named]).with_context(|| variant.to_string())?;
            del(node, &sandbox.attachment, &conf_with(variant.clone()))
                .with_context(|| variant.to_string())?;
        }
        sandbox.has(&["lo"])?;
        before.is_that_of(node)
    })
}
