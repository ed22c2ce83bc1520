//! DEL: succeeds whatever is missing, cleans what ADD made, and nothing else.

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::traffic::Ping;
use netns_testbed::{Namespace, Node};
use serde_json::{Value, json};

use super::support::*;

pub fn trials() -> Vec<Trial> {
    trials![
        repeats_and_strangers_are_fine => [Need::Program("nft")],
        the_namespace_may_be_gone => [Need::Program("nft")],
        the_path_may_lead_elsewhere => [Need::Program("nft")],
        the_previous_result_may_be_anything => [Need::Program("nft")],
        the_configuration_may_have_changed => [Need::Program("nft")],
        the_environment_may_be_unreadable => [Need::Program("nft")],
        the_link_may_have_been_changed => [Need::Program("nft")],
        others_stay => [Need::Program("nft")],
        after_a_boot_everything_is_free => [Need::Program("nft")],
        a_damaged_record_is_no_obstacle => [Need::Program("nft")],
    ]
}

/// Cases 56 and 57, in every version.
fn repeats_and_strangers_are_fine() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let sandbox = Sandbox::new(node, "c1")?;
        for version in VERSIONS {
            del(node, &sandbox.attachment, &conf(version)).with_context(|| format!("{version}, no ADD"))?;
            add(node, &sandbox.attachment, &conf(version))?;
            for _ in 0..3 {
                del(node, &sandbox.attachment, &conf(version)).context(version)?;
                sandbox.has(&["lo"])?;
            }
            before.returns(node)?;
        }
        Ok(())
    })
}

/// Cases 8, 58 and 59: removed, its path left over as a plain file, or never told.
fn the_namespace_may_be_gone() -> Result<()> {
    on_dual_stack_node(|node| {
        let before = HostState::of(node)?;
        for way in ["removed", "a plain file", "not told", "empty"] {
            let sandbox = Sandbox::new(node, "c1")?;
            add(node, &sandbox.attachment, &conf("1.1.0"))?;
            let attachment = sandbox.attachment.clone();
            match way {
                "removed" | "a plain file" => {
                    drop(sandbox.namespace);
                    node.unbind_pod("c1")?;
                    if way == "a plain file" {
                        node.write("/run/netns/c1", "")?;
                    }
                    silent(&call(node, "DEL", &attachment, &conf("1.1.0"))?)
                }
                "not told" => silent(&call_with(node, "DEL", &attachment, &conf("1.1.0"), |c| {
                    c.without_env("CNI_NETNS")
                })?),
                _ => {
                    silent(&call_with(node, "DEL", &attachment, &conf("1.1.0"), |c| c.env("CNI_NETNS", ""))?)
                }
            }
            .with_context(|| way.to_owned())?;
            before.returns(node).with_context(|| way.to_owned())?;
            node.exec(["sh", "-c", "umount /run/netns/c1; rm -f /run/netns/c1"])?;
        }
        Ok(())
    })
}

/// Case 59: a stale path that is by now the namespace of another container.
fn the_path_may_lead_elsewhere() -> Result<()> {
    on_node(|node| {
        let (old, new) = (Sandbox::new(node, "old")?, Sandbox::new(node, "new")?);
        add(node, &old.attachment, &conf("1.1.0"))?;
        let result = add(node, &new.attachment, &conf("1.1.0"))?;
        let mut stale = old.attachment.clone();
        stale.netns.clone_from(&new.attachment.netns);
        for _ in 0..2 {
            del(node, &stale, &conf("1.1.0"))?;
            new.has(&["lo", "eth0"])?;
            Ping::to(address(&result)?.parse()?).send(node, PATIENT)?;
        }
        old.has(&["lo"])?;
        // One that was never attached does not touch the interface of that name, either.
        del(node, &attachment("never", &new.attachment.netns), &conf("1.1.0"))?;
        Ping::to(address(&result)?.parse()?).send(node, PATIENT)?;
        // Nor does it delete what the host has, given the host's own namespace.
        let mut own = new.attachment.clone();
        own.netns = "/proc/self/ns/net".into();
        del(node, &own, &conf("1.1.0"))?;
        ensure!(node.exec(["ip", "-o", "link"])?.contains("eth0"), "the host lost its interface");
        new.has(&["lo"])?;
        Ok(())
    })
}

/// Case 60.
fn the_previous_result_may_be_anything() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let sandbox = Sandbox::new(node, "c1")?;
        let long_list: Vec<Value> = (0..1000).map(|n| json!({"name": format!("x{n}")})).collect();
        let odd = [
            json!(null),
            json!({}),
            json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.32.1.9/32"}}),
            json!({"cniVersion": "9.9.9", "ips": []}),
            json!({"ips": [{"address": "garbage", "interface": -5}]}),
            json!({"interfaces": "text", "ips": 5, "routes": true}),
            json!({"interfaces": long_list}),
            json!("text"),
            json!([]),
            json!(5),
            // Of another attachment: the record says what is ours.
            json!({"cniVersion": "1.1.0", "ips": [{"address": "10.32.1.1/32"}],
                   "interfaces": [{"name": "eth0"}, {"name": "minionet"}]}),
        ];
        for previous in odd {
            add(node, &sandbox.attachment, &conf("1.1.0"))?;
            del(node, &sandbox.attachment, &conf_with(json!({"prevResult": previous})))
                .with_context(|| previous.to_string())?;
            sandbox.has(&["lo"])?;
            before.returns(node).with_context(|| previous.to_string())?;
        }
        Ok(())
    })
}

/// Case 61: containerd calls with the configuration of today.
fn the_configuration_may_have_changed() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let sandbox = Sandbox::new(node, "c1")?;
        let today = [
            conf_with(json!({"mtu": 99999999})),
            conf_with(json!({"mtu": "text", "dns": 5, "ipam": []})),
            conf_with(json!({"ipam": {"type": "host-local", "ranges": 5}})),
            conf_with(json!({"runtimeConfig": "text", "args": 7})),
            conf_with(
                json!({"runtimeConfig": {"portMappings": "x", "bandwidth": 5, "ips": [0], "mac": "y"}}),
            ),
            conf_with(json!({"type": "other"})),
            conf("0.1.0"),
            json!({"name": "net1"}),
        ];
        for conf in today {
            add(node, &sandbox.attachment, &super::support::conf("1.1.0"))?;
            del(node, &sandbox.attachment, &conf).with_context(|| conf.to_string())?;
            sandbox.has(&["lo"])?;
            before.returns(node).with_context(|| conf.to_string())?;
        }
        Ok(())
    })
}

/// What DEL does not use cannot keep it from its work.
fn the_environment_may_be_unreadable() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let sandbox = Sandbox::new(node, "c1")?;
        add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let plugin = node.programs().join("minionet");
        // Octets that are no UTF-8 cannot pass through a string of Rust; a shell makes them.
        let script = "CNI_COMMAND=DEL CNI_CONTAINERID=c1 CNI_IFNAME=eth0 \
            CNI_NETNS=$(printf '/run/\\377') CNI_ARGS=$(printf 'A=\\377;') exec \"$0\"";
        let plugin = plugin.to_str().context("a path")?;
        let said =
            node.exec_with_input(["sh", "-c", script, plugin], conf("1.1.0").to_string().as_bytes())?;
        ensure!(said.is_empty(), "{said}");
        sandbox.has(&["lo"])?;
        before.returns(node)
    })
}

/// Case 64.
fn the_link_may_have_been_changed() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let sandbox = Sandbox::new(node, "c1")?;
        let changes: [(&str, bool); 6] = [
            ("link set {} down", true),
            ("addr flush dev {}", true),
            ("route flush dev {}", true),
            ("link set eth0 down", false),
            ("addr flush dev eth0", false),
            ("link del eth0", false),
        ];
        for (change, on_host) in changes {
            let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
            let name = result["interfaces"][0]["name"].as_str().context("a name")?;
            let place: &Namespace = if on_host { node } else { &sandbox.namespace };
            place.ip(&format!("{}\n", change.replace("{}", name))).with_context(|| change.to_owned())?;
            del(node, &sandbox.attachment, &conf("1.1.0")).with_context(|| change.to_owned())?;
            sandbox.has(&["lo"])?;
            before.returns(node).with_context(|| change.to_owned())?;
        }
        // Under another name, inside or outside, it is still the same link.
        for (on_host, from) in [(false, "eth0"), (true, "")] {
            let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
            let host = result["interfaces"][0]["name"].as_str().context("a name")?;
            let (place, from): (&Namespace, &str) =
                if on_host { (node, host) } else { (&sandbox.namespace, from) };
            place.ip(&format!("link set {from} down\nlink set {from} name renamed0\n"))?;
            del(node, &sandbox.attachment, &conf("1.1.0"))?;
            sandbox.has(&["lo"])?;
            before.returns(node).with_context(|| format!("renamed on host: {on_host}"))?;
        }
        Ok(())
    })
}

/// The address of one that is gone is not that of another that got it since.
fn others_stay() -> Result<()> {
    on_node(|node| {
        let wish = conf_with(json!({"runtimeConfig": {"ips": ["10.32.1.50"]}}));
        let (old, new) = (Sandbox::new(node, "old")?, Sandbox::new(node, "new")?);
        let empty = HostState::of(node)?;
        let result = add(node, &old.attachment, &wish)?;
        del(node, &old.attachment, &wish)?;
        // The daemon destroys the interface a little later.
        empty.returns(node)?;
        add(node, &new.attachment, &wish)?;
        let state = HostState::of(node)?;
        // Late repeats, with the result of then.
        for _ in 0..2 {
            del(node, &old.attachment, &merged(wish.clone(), json!({"prevResult": result})))?;
        }
        state.is_that_of(node)?;
        Ping::to("10.32.1.50".parse()?).send(node, PATIENT)?;
        Ok(())
    })
}

/// Case 90: the runtime directory is a tmpfs and does not survive; everything else does.
fn after_a_boot_everything_is_free() -> Result<()> {
    on_node(|node: &Node| {
        let sandboxes: Vec<_> =
            (0..5).map(|n| Sandbox::new(node, &format!("c{n}"))).collect::<Result<_>>()?;
        let add_all = || sandboxes.iter().map(|s| address(&add(node, &s.attachment, &conf("1.1.0"))?));
        let first: Vec<String> = add_all().collect::<Result<_>>()?;
        node.kill_daemon(nix::sys::signal::Signal::SIGKILL)?;
        // The machine goes down: links, namespaces, nft rules and /run/minionet are gone.
        node.exec([
            "sh",
            "-c",
            "for link in $(ip -o link | grep -o 'mnet[0-9a-f]*'); do ip link del $link; done
            ip link del minionet; nft flush ruleset; rm -r /run/minionet",
        ])?;
        for sandbox in &sandboxes {
            sandbox.has(&["lo"])?;
            del(node, &sandbox.attachment, &conf("1.1.0")).context("DEL of a pod from before the boot")?;
        }
        // The durable facts are enough to attach pods before the daemon is up.
        let again: Vec<String> = add_all().collect::<Result<_>>()?;
        ensure!(first == again, "{first:?} {again:?}");
        Ok(())
    })
}

/// A file system that was full, or a disk that lies.
fn a_damaged_record_is_no_obstacle() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let sandbox = Sandbox::new(node, "c1")?;
        for content in ["", "{", "\\0\\0\\0", "null", "{\"schema\": 1}"] {
            add(node, &sandbox.attachment, &conf("1.1.0"))?;
            let script = format!("for f in /run/minionet/attachments/*; do printf '{content}' > $f; done");
            node.exec(["sh", "-c", &script])?;
            del(node, &sandbox.attachment, &conf("1.1.0")).with_context(|| format!("{content:?}"))?;
            sandbox.has(&["lo"])?;
            before.returns(node).with_context(|| format!("{content:?}"))?;
        }
        // One of a later version is left alone, and said so.
        add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let attached = HostState::of(node)?;
        node.exec([
            "sh",
            "-c",
            "for f in /run/minionet/attachments/*; do printf '{\"schema\": 99}' > $f; done",
        ])?;
        let answer = call(node, "DEL", &sandbox.attachment, &conf("1.1.0"))?;
        fails(&answer, 102, &["99"])?;
        sandbox.has(&["lo", "eth0"])?;
        attached.is_that_of(node)
    })
}
