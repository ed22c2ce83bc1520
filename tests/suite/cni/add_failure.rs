//! An ADD that fails leaves nothing, and what was there stays.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::traffic::Ping;
use netns_testbed::{Cluster, Node, eventually};
use nix::sys::signal::Signal;
use serde_json::json;

use super::support::*;

pub fn trials() -> Vec<Trial> {
    trials![
        a_full_pool_is_a_passing_condition => [Need::Program("nft")],
        a_foreign_interface_stays => [Need::Program("nft")],
        a_second_add_changes_nothing => [Need::Program("nft")],
        a_foreign_device_with_the_hosts_name_stays => [Need::Program("nft")],
        state_that_cannot_be_written_is_an_io_failure => [Need::Program("nft")],
        before_the_daemon_ran_it_says_what_to_do => [Need::Program("nft")],
        without_the_daemon_pods_come_and_go => [Need::Program("nft")],
        facts_that_cannot_be_used_are_named => [Need::Program("nft")],
    ]
}

/// A block of four: network, gateway, one pod, broadcast.
const ONE_POD: &str = "node_prefix = 30\nnode_networks = \"172.20.0.0/24\"\npod_network = \"10.32.0.0/16\"";

/// Case 38.
fn a_full_pool_is_a_passing_condition() -> Result<()> {
    on_node_with(ONE_POD, |node: &Node| {
        let empty = HostState::of(node)?;
        let (first, second) = (Sandbox::new(node, "first")?, Sandbox::new(node, "second")?);
        let result = add(node, &first.attachment, &conf("1.1.0"))?;
        let full = HostState::of(node)?;
        let answer = call(node, "ADD", &second.attachment, &conf("1.1.0"))?;
        fails(&answer, 11, &["no IP address", "10.32.0.4/30", "1 of 1"])?;
        second.has(&["lo"])?;
        full.returns(node)?;
        del(node, &second.attachment, &conf("1.1.0"))?;
        full.returns(node)?;
        Ping::to(address(&result)?.parse()?).send(node, PATIENT)?;
        del(node, &first.attachment, &conf("1.1.0"))?;
        add(node, &second.attachment, &conf("1.1.0"))?;
        del(node, &second.attachment, &conf("1.1.0"))?;
        empty.returns(node)
    })
}

/// Case 45.
fn a_foreign_interface_stays() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let sandbox = Sandbox::new(node, "c1")?;
        sandbox
            .namespace
            .ip("link add eth0 type bridge\naddr add 192.168.7.2/24 dev eth0\nlink set eth0 up\n")?;
        // The link-local address is the kernel's, which looks for a second whether another has it.
        let show = || sandbox.namespace.exec(["ip", "address", "show", "dev", "eth0", "scope", "global"]);
        let foreign = show()?;
        let answer = call(node, "ADD", &sandbox.attachment, &conf("1.1.0"))?;
        fails(&answer, 110, &["eth0"])?;
        ensure!(show()? == foreign, "{}", show()?);
        before.returns(node)?;
        del(node, &sandbox.attachment, &conf("1.1.0"))?;
        ensure!(show()? == foreign, "DEL touched an interface that ADD did not make: {}", show()?);
        Ok(())
    })
}

/// Case 46.
fn a_second_add_changes_nothing() -> Result<()> {
    on_dual_stack_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let before = HostState::of(node)?;
        // The link-local address is the kernel's, which looks for a second whether another has it.
        let show = || sandbox.namespace.exec(["ip", "-o", "address", "show", "scope", "global"]);
        let inside = show()?;
        for _ in 0..2 {
            let answer = call(node, "ADD", &sandbox.attachment, &conf("1.1.0"))?;
            fails(&answer, 112, &["eth0", &addresses(&result)?[0]])?;
            // Into another namespace, too: the container is attached.
            let mut moved = sandbox.attachment.clone();
            let other = Sandbox::new(node, "other")?;
            moved.netns.clone_from(&other.attachment.netns);
            fails(&call(node, "ADD", &moved, &conf("1.1.0"))?, 112, &["eth0"])?;
            other.has(&["lo"])?;
            node.unbind_pod("other")?;
        }
        before.returns(node)?;
        ensure!(show()? == inside, "{}", show()?);
        for address in addresses(&result)? {
            Ping::to(address.parse()?).send(node, PATIENT)?;
        }
        Ok(())
    })
}

/// The name of the host's end follows from the attachment; somebody may have it.
fn a_foreign_device_with_the_hosts_name_stays() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let name = result["interfaces"][0]["name"].as_str().context("a name")?.to_owned();
        del(node, &sandbox.attachment, &conf("1.1.0"))?;
        let gone = || -> Result<()> {
            ensure!(!node.exec(["ip", "-o", "link"])?.contains(&name), "{name} is still there");
            Ok(())
        };
        eventually("the device to go", PATIENT, gone)?;
        node.ip(&format!("link add {name} type bridge\n"))?;
        let before = HostState::of(node)?;
        let answer = call(node, "ADD", &sandbox.attachment, &conf("1.1.0"))?;
        let failure = failure(&answer)?;
        ensure!(failure.code >= 100 && failure.text.contains(&name), "{failure:?}");
        sandbox.has(&["lo"])?;
        before.returns(node)?;
        del(node, &sandbox.attachment, &conf("1.1.0"))?;
        before.returns(node)
    })
}

/// Case 52: the directory cannot be written, or is no directory.
fn state_that_cannot_be_written_is_an_io_failure() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let before = HostState::of(node)?;
        // The daemon writes there as well, and replaces what is copied below.
        node.kill_daemon(Signal::SIGKILL)?;
        node.exec(["mount", "--bind", "/run/minionet", "/run/minionet"])?;
        node.exec(["mount", "-o", "remount,ro,bind", "/run/minionet"])?;
        let answer = call(node, "ADD", &sandbox.attachment, &conf("1.1.0"))?;
        fails(&answer, 5, &["/run/minionet"])?;
        node.exec(["umount", "/run/minionet"])?;
        sandbox.has(&["lo"])?;
        before.returns(node)?;

        // No space left: a file system that has room for the facts and nothing more.
        node.exec(["sh", "-c", "cp -a /run/minionet /run/copy && mount -t tmpfs -o nr_inodes=8,size=64k none /run/minionet && cp /run/copy/node.json /run/minionet/ && cd /run/minionet && ! touch 1 2 3 4 5 6 7 8 2>/dev/null"])?;
        let answer = call(node, "ADD", &sandbox.attachment, &conf("1.1.0"))?;
        fails(&answer, 5, &["/run/minionet"])?;
        node.exec(["sh", "-c", "umount /run/minionet && rm -r /run/copy"])?;
        sandbox.has(&["lo"])?;
        before.returns(node)?;
        add(node, &sandbox.attachment, &conf("1.1.0"))?;
        Ok(())
    })
}

/// Case 55, and 82: neither facts of this boot nor of one before.
fn before_the_daemon_ran_it_says_what_to_do() -> Result<()> {
    let cluster = Cluster::builder("cncfdemo").nodes(1).start_without_daemons()?;
    let node = cluster.node(0);
    let sandbox = Sandbox::new(node, "c1")?;
    let answer = call(node, "ADD", &sandbox.attachment, &conf("1.1.0"))?;
    fails(&answer, 11, &["minionetd", "/run/minionet/node.json"])?;
    ensure!(answer.elapsed < PATIENT, "it waited for {:?}", answer.elapsed);
    sandbox.has(&["lo"])?;
    let answer = call(node, "STATUS", &attachment("", ""), &conf("1.1.0"))?;
    fails(&answer, 50, &["minionetd"])?;
    // Nothing can be attached, so nothing can be left; DEL does not need to know.
    del(node, &sandbox.attachment, &conf("1.1.0"))?;
    ensure!(!node.exec(["ip", "-o", "link"])?.contains("mnet"));
    Ok(())
}

/// Cases 55 and 62: the daemon may be upgraded while pods come and go.
fn without_the_daemon_pods_come_and_go() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let old = Sandbox::new(node, "old")?;
        add(node, &old.attachment, &conf("1.1.0"))?;
        node.kill_daemon(Signal::SIGKILL)?;
        let new = Sandbox::new(node, "new")?;
        let result = add(node, &new.attachment, &conf("1.1.0"))?;
        Ping::to(address(&result)?.parse()?).send(node, PATIENT)?;
        for sandbox in [&old, &new] {
            del(node, &sandbox.attachment, &conf("1.1.0"))?;
            sandbox.has(&["lo"])?;
        }
        // At once and completely: there is nobody to do the rest.
        before.is_that_of(node)
    })
}

/// A file from a later version, or half of one.
fn facts_that_cannot_be_used_are_named() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let before = HostState::of(node)?;
        node.kill_daemon(Signal::SIGKILL)?;
        let texts: BTreeSet<&str> = ["", "{", "[]", r#"{"schema": 99}"#, r#"{"schema": 1}"#].into();
        for text in texts {
            node.write("/run/minionet/node.json", text)?;
            let answer = call(node, "ADD", &sandbox.attachment, &conf("1.1.0"))?;
            fails(&answer, 102, &["/run/minionet/node.json"]).with_context(|| text.to_owned())?;
            let answer = call(node, "STATUS", &attachment("", ""), &conf("1.1.0"))?;
            fails_any(&answer, &[50, 51], &["/run/minionet/node.json"]).with_context(|| text.to_owned())?;
            del(node, &sandbox.attachment, &json!({"name": "net1", "cniVersion": "1.1.0"}))?;
        }
        sandbox.has(&["lo"])?;
        before.returns(node)
    })
}
