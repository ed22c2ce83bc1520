//! An interface beside another that has the default route: answers leave where the question came in.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use minionet_tests::{Trial, trials};
use netns_testbed::cni::Attachment;
use netns_testbed::traffic::{Ping, TcpEcho, tcp_round_trip};
use netns_testbed::{Cluster, Namespace, Node, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::support::*;

pub fn trials() -> Vec<Trial> {
    trials![
        both_interfaces_of_a_container_answer,
        beside_another_way_out_it_answers_too,
        rules_go_with_the_attachment_on_every_way,
        lost_rules_are_found,
    ]
}

fn on_two_nodes(test: impl FnOnce(&Node, &Node) -> Result<()>) -> Result<()> {
    let (underlay, config) = DUAL_STACK;
    let builder = Cluster::builder("cncfdemo").nodes(2).underlay(underlay).config(config);
    builder.run(|cluster| test(cluster.node(0), cluster.node(1)))
}

fn second(sandbox: &Sandbox) -> Attachment {
    Attachment { interface: "eth1".into(), ..sandbox.attachment.clone() }
}

/// A way out that another plugin made, for IPv4 only.
fn other_way_out(sandbox: &Sandbox) -> Result<()> {
    sandbox.namespace.ip("link add other0 type bridge\nlink set other0 up\n\
         addr add 192.168.7.2/24 dev other0\nroute add default via 192.168.7.1\n")?;
    Ok(())
}

/// The addresses answer to a ping and a connection, and reach others from themselves.
fn answers(pod: &Namespace, addresses: &[String], from: &[&Namespace]) -> Result<()> {
    for text in addresses {
        let address: IpAddr = text.parse()?;
        let server = TcpEcho::start(pod, SocketAddr::new(address, 0))?;
        for peer in from {
            let context = || format!("{} to {address}", peer.name());
            // The first packet to another node may wait for DNS.
            let attempt = || Ping::to(address).send(peer, Duration::from_secs(2));
            eventually(&context(), PATIENT, attempt)?;
            tcp_round_trip(peer, server.address(), 100_000, PATIENT).with_context(context)?;
        }
    }
    Ok(())
}

/// The rules that are ours, one a line.
fn rules(pod: &Namespace) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for family in ["-4", "-6"] {
        let list = pod.exec(["ip", "-N", family, "rule", "show"])?;
        found.extend(list.lines().filter(|line| line.contains("proto 110")).map(str::to_owned));
    }
    Ok(found)
}

fn both_interfaces_of_a_container_answer() -> Result<()> {
    on_two_nodes(|node, other| {
        let sandbox = Sandbox::new(node, "c1")?;
        let pod = &sandbox.namespace;
        let (near, far) = (node.add_pod("near")?, other.add_pod("far")?);
        let first = addresses(&add(node, &sandbox.attachment, &conf("1.1.0"))?)?;
        ensure!(rules(pod)?.is_empty(), "one interface alone needs no rule: {:?}", rules(pod)?);
        let more = addresses(&add(node, &second(&sandbox), &conf("1.1.0"))?)?;
        let found = rules(pod)?;
        ensure!(
            found.len() == 2 && more.iter().all(|a| found.iter().any(|rule| rule.contains(a))),
            "{found:?}"
        );
        let all: Vec<String> = first.iter().chain(&more).cloned().collect();
        answers(pod, &all, &[&near, &far, node])?;
        for address in &all {
            let address: IpAddr = address.parse()?;
            let wanted = far.addresses().into_iter().find(|a| a.is_ipv4() == address.is_ipv4());
            Ping::to(wanted.context("an address of that family")?)
                .from_address(address)
                .send(pod, PATIENT)?;
        }
        // Either goes without the other.
        del(node, &second(&sandbox), &conf("1.1.0"))?;
        ensure!(rules(pod)?.is_empty(), "{:?}", rules(pod)?);
        answers(pod, &first, &[&near, &far])?;
        let more = addresses(&add(node, &second(&sandbox), &conf("1.1.0"))?)?;
        del(node, &sandbox.attachment, &conf("1.1.0"))?;
        answers(pod, &more, &[&near, &far])?;
        del(node, &second(&sandbox), &conf("1.1.0"))?;
        ensure!(rules(pod)?.is_empty(), "{:?}", rules(pod)?);
        Ok(())
    })
}

fn beside_another_way_out_it_answers_too() -> Result<()> {
    on_two_nodes(|node, other| {
        let sandbox = Sandbox::new(node, "c1")?;
        let (near, far) = (node.add_pod("near")?, other.add_pod("far")?);
        other_way_out(&sandbox)?;
        let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        // The IPv6 default route was free.
        let found = rules(&sandbox.namespace)?;
        ensure!(found.len() == 1 && found[0].contains(&address(&result)?), "{found:?}");
        answers(&sandbox.namespace, &addresses(&result)?, &[&near, &far, node])?;
        let check = merged(conf("1.1.0"), json!({"prevResult": result}));
        silent(&call(node, "CHECK", &sandbox.attachment, &check)?)
    })
}

fn rules_go_with_the_attachment_on_every_way() -> Result<()> {
    on_dual_stack_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        other_way_out(&sandbox)?;
        let before = HostState::of(node)?;
        let make = || -> Result<Value> {
            let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
            ensure!(rules(&sandbox.namespace)?.len() == 1, "{:?}", rules(&sandbox.namespace)?);
            Ok(result)
        };
        let gone = || -> Result<()> {
            ensure!(rules(&sandbox.namespace)?.is_empty(), "{:?}", rules(&sandbox.namespace)?);
            // The daemon destroys the interface, and with it the last of its routes, a little later.
            before.returns(node)?;
            let all = sandbox.namespace.exec(["ip", "route", "show", "table", "all"])?;
            ensure!(!all.contains("10.32."), "{all}");
            Ok(())
        };
        // The device went before, and takes no rule with it.
        for end in ["eth0", "the host's"] {
            let result = make()?;
            let host = result["interfaces"][0]["name"].as_str().context("the host's end")?;
            match end {
                "eth0" => sandbox.namespace.ip("link del eth0\n")?,
                _ => node.ip(&format!("link del {host}\n"))?,
            };
            ensure!(rules(&sandbox.namespace)?.len() == 1, "the kernel removes rules with devices");
            del(node, &sandbox.attachment, &conf("1.1.0"))?;
            gone().context(end)?;
        }
        // Somebody removed it already.
        make()?;
        sandbox.namespace.exec(["ip", "rule", "del", "protocol", "110"])?;
        del(node, &sandbox.attachment, &conf("1.1.0"))?;
        gone()?;
        // Not wanted any more.
        make()?;
        let gc = merged(conf("1.1.0"), json!({"cni.dev/valid-attachments": []}));
        silent(&call(node, "GC", &sandbox.attachment, &gc)?)?;
        gone()?;
        // Nobody there to destroy it later.
        make()?;
        node.kill_daemon(Signal::SIGKILL)?;
        del(node, &sandbox.attachment, &conf("1.1.0"))?;
        gone()?;
        // The record knows where they are, also where the runtime does not.
        make()?;
        del(node, &Attachment { netns: String::new(), ..sandbox.attachment.clone() }, &conf("1.1.0"))?;
        gone()
    })
}

fn lost_rules_are_found() -> Result<()> {
    on_dual_stack_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let beside = second(&sandbox);
        for (damage, named) in [
            ("-4 rule del protocol 110", "10.32.1."),
            ("-6 rule del protocol 110", "fd00:32:0:1:"),
            ("-4 route flush table {table}", "10.32.1."),
            ("-6 route flush table {table}", "fd00:32:0:1:"),
        ] {
            let result = add(node, &beside, &conf("1.1.0"))?;
            let check = merged(conf("1.1.0"), json!({"prevResult": result}));
            silent(&call(node, "CHECK", &beside, &check)?).context("CHECK")?;
            let rule = rules(&sandbox.namespace)?.into_iter().next().context("a rule")?;
            let table = rule.split_whitespace().skip_while(|word| *word != "lookup").nth(1);
            let command = damage.replace("{table}", table.context("a table")?);
            sandbox.namespace.exec(["ip"].into_iter().chain(command.split(' ')))?;
            fails(&call(node, "CHECK", &beside, &check)?, 103, &["rule", named]).context(command)?;
            del(node, &beside, &conf("1.1.0"))?;
            ensure!(rules(&sandbox.namespace)?.is_empty(), "{:?}", rules(&sandbox.namespace)?);
        }
        Ok(())
    })
}
