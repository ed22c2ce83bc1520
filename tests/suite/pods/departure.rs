//! DEL makes a pod disappear at once, and leaves the destruction of its interface to the daemon.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_netlink::conntrack::{Conntrack, Pattern};
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, Node, eventually};
use nix::sys::signal::Signal;

use super::bed::{same, traces};
use crate::cni::support::{PATIENT, Sandbox, add, addresses, conf, conf_with, del, on_node};

pub fn trials() -> Vec<Trial> {
    trials![
        what_the_daemon_is_yet_to_destroy_is_in_nobodys_way => [Need::Program("nft")],
        connections_of_a_pod_that_left_are_forgotten => [Need::Program("nft")],
    ]
}

/// The daemon is held, so that the moment between DEL and the destruction lasts.
fn what_the_daemon_is_yet_to_destroy_is_in_nobodys_way() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let other = Sandbox::new(node, "c2")?;
        let before = traces(node, &sandbox)?;
        node.signal_daemon(Signal::SIGSTOP)?;
        eventually("every thread of the daemon to stand still", PATIENT, || stands_still(node))?;
        let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let host_links =
            |text: &str| Ok::<_, anyhow::Error>(node.exec(["ip", "-o", "link"])?.matches(text).count());
        ensure!(host_links(": mnet")? == 1, "one host end");
        del(node, &sandbox.attachment, &conf("1.1.0"))?;
        ensure!(host_links(": mnet")? == 1, "it is still there: nobody waited for it to go");
        ensure!(!sandbox.links()?.contains(&"eth0".to_owned()), "the container has lost it");
        // Its address can be had by another at once, which is reached under it.
        let address = addresses(&result)?.remove(0);
        let same_address = conf_with(serde_json::json!({"args": {"cni": {"ips": [address]}}}));
        let given = add(node, &other.attachment, &same_address)?;
        ensure!(addresses(&given)?.contains(&address), "{given}");
        netns_testbed::traffic::Ping::to(address.parse()?).send(node, PATIENT)?;
        // And the same container can be attached under the same name.
        add(node, &sandbox.attachment, &conf("1.1.0"))?;
        del(node, &other.attachment, &conf("1.1.0"))?;
        del(node, &sandbox.attachment, &conf("1.1.0"))?;
        node.signal_daemon(Signal::SIGCONT)?;
        for sandbox in [&sandbox, &other] {
            eventually("the daemon to destroy the rest", PATIENT, || same(&before, &traces(node, sandbox)?))?;
        }
        Ok(())
    })
}

/// The signal reaches a thread at its next return from the kernel (proc_pid_stat(5): T is stopped).
fn stands_still(node: &Node) -> Result<()> {
    let pid = node.daemon_pid().context("a daemon")?;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
        let (_, state) = stat.rsplit_once(") ").context("a state")?;
        ensure!(state.starts_with('T'), "{stat}");
    }
    Ok(())
}

/// How many connections the kernel of a node remembers that an address began.
fn remembered(node: &Node, address: IpAddr) -> Result<usize> {
    let count = || {
        let mut count = 0;
        Conntrack::open()?.each(Pattern::From(address), |_| count += 1)?;
        Ok::<_, anyhow::Error>(count)
    };
    node.run(count)?
}

/// By the daemon, which hears of several pods and goes through the kernel's table once; and, of those
/// that leave while there is none, by the next.
fn connections_of_a_pod_that_left_are_forgotten() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let node = cluster.node(0);
        // Longer than 30 s, after which the kernel forgets a ping by itself.
        node.sysctl([("net.netfilter.nf_conntrack_icmp_timeout", "3600")])?;
        for daemon in [true, false] {
            if !daemon {
                node.kill_daemon(Signal::SIGKILL)?;
            }
            let pods = [node.add_pod("one")?, node.add_pod("two")?, node.add_pod("stays")?];
            let addresses = pods.each_ref().map(|pod| pod.address());
            for pod in &pods {
                pod.ping(cluster.external().addresses()[0], PATIENT)?;
            }
            for address in addresses {
                ensure!(remembered(node, address)? == 1, "the ping of {address}");
            }
            let [one, two, stays] = pods;
            one.delete()?;
            two.delete()?;
            if !daemon {
                node.start_daemon()?;
            }
            for address in &addresses[..2] {
                eventually("its connection to be forgotten", PATIENT, || {
                    let count = remembered(node, *address)?;
                    ensure!(count == 0, "{count} connections of {address} are remembered");
                    Ok::<_, anyhow::Error>(())
                })?;
            }
            ensure!(remembered(node, addresses[2])? == 1, "the connection of the pod that stays");
            stays.delete()?;
        }
        Ok(())
    })
}
