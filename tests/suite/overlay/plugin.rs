//! What ADD and DEL leave behind, on a real node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use ipnetwork::IpNetwork;
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::cni::Attachment;
use netns_testbed::{Cluster, Namespace, Node, Pod, PodSpec, eventually};
use nix::sys::signal::Signal;
use serde_json::{Map, json};

use super::{PATIENT, everybody_reaches_everybody, host_end};

/// As many as a full node starts at once.
const MANY: usize = 30;

pub fn trials() -> Vec<Trial> {
    trials![
        an_add_that_fails_leaves_nothing,
        del_can_be_repeated_and_needs_next_to_nothing,
        pods_come_and_go_without_the_daemon,
        thirty_adds_at_once_get_thirty_addresses,
    ]
}

/// Everything on the node that belongs to pods.
#[derive(Debug, PartialEq)]
struct Traces {
    links: BTreeSet<String>,
    routes: String,
    files: BTreeSet<String>,
}

fn traces(node: &Node) -> Result<Traces> {
    let links = node.json(["ip", "-j", "link", "show", "type", "veth"])?;
    let names = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
    let files = node.exec(["find", "/run/minionet/attachments", "/run/minionet/leases"])?;
    Ok(Traces {
        links: names.map(str::to_owned).collect(),
        routes: node.exec(["ip", "route", "show", "proto", "110"])?,
        files: files.lines().map(str::to_owned).collect(),
    })
}

/// A node on which a pod came and went, so that the directories are there.
fn used_node(cluster: &Cluster) -> Result<(&Node, Traces)> {
    let node = cluster.node(0);
    node.add_pod("first")?.delete()?;
    wait_for_links(node, &BTreeSet::from(["eth0".to_owned()]))?;
    Ok((node, traces(node)?))
}

/// Waits until a node has no other links than these: the daemon destroys what DEL took away.
fn wait_for_links(node: &Node, links: &BTreeSet<String>) -> Result<()> {
    eventually("the links of pods to be gone", PATIENT, || {
        let left = traces(node)?.links;
        ensure!(left == *links, "{left:?}");
        anyhow::Ok(())
    })?;
    Ok(())
}

/// Expects that nothing is left but what was there before.
fn expect_only(before: &Traces, node: &Node) -> Result<()> {
    wait_for_links(node, &before.links)?;
    // DEL has removed the rest itself.
    let now = traces(node)?;
    ensure!(now == *before, "{now:?} instead of {before:?}");
    Ok(())
}

/// An attachment that nobody made with the runtime's usual steps.
fn attachment(name: &str, netns: &str) -> Attachment {
    Attachment {
        container: name.repeat(4),
        netns: netns.into(),
        interface: "eth0".into(),
        args: String::new(),
        capabilities: Map::new(),
    }
}

fn conf(more: serde_json::Value) -> String {
    let mut conf = json!({"cniVersion": "1.1.0", "name": "minionet", "type": "minionet"});
    conf.as_object_mut()
        .into_iter()
        .for_each(|conf| conf.extend(more.as_object().cloned().unwrap_or_default()));
    conf.to_string()
}

fn an_add_that_fails_leaves_nothing() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let (node, before) = used_node(cluster)?;
        let taken = node.pod("taken")?;
        taken.ip("link add eth0 type veth peer name other")?;
        let path = Namespace::netns_path("taken");
        let empty = Namespace::netns_path("empty");
        node.pod("empty")?;
        let inside = taken.exec(["ip", "-o", "addr"])?;
        for (what, netns, more) in [
            ("an interface of the name is there", path.as_str(), json!({})),
            ("the namespace is missing", "/run/netns/nowhere", json!({})),
            ("the path is no namespace", "/etc/hostname", json!({})),
            ("the MTU is too large", &empty, json!({"mtu": 9000})),
            ("the address is another node's", &empty, json!({"runtimeConfig": {"ips": ["10.32.77.7/32"]}})),
        ] {
            let answer = node.cni_exec("ADD", &attachment("fail", netns), conf(more), |call| call)?;
            let error = answer.json()?;
            ensure!(!answer.success() && error["code"].is_u64(), "{what}: {answer:?}");
            ensure!(error["msg"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {error}");
            expect_only(&before, node).context(what)?;
        }
        ensure!(taken.exec(["ip", "-o", "addr"])? == inside, "the container was changed");
        Ok(())
    })
}

fn del_can_be_repeated_and_needs_next_to_nothing() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let (node, before) = used_node(cluster)?;
        let gone = |what: &str, pod: &Pod, times: usize, stdin: &str, netns: Option<&str>| -> Result<()> {
            for round in 1..=times {
                let answer = node.cni_exec("DEL", pod.attachment(), stdin, |call| match netns {
                    Some(path) => call.env("CNI_NETNS", path),
                    None => call.without_env("CNI_NETNS"),
                })?;
                ensure!(answer.success(), "{what}, {round}: {answer:?}");
                expect_only(&before, node).with_context(|| format!("{what}, {round}"))?;
            }
            Ok(())
        };
        let plain = conf(json!({}));
        let pod = node.add_pod("with-all")?;
        let with_result = conf(json!({"prevResult": pod.result()}));
        gone("with all", &pod, 2, &with_result, Some(&pod.attachment().netns))?;
        gone("without prevResult", &node.add_pod("a")?, 2, &plain, Some(&Namespace::netns_path("a")))?;
        gone("without CNI_NETNS", &node.add_pod("b")?, 2, &plain, None)?;
        let pod = node.add_pod("c")?;
        node.unbind_pod("c")?;
        gone("with a namespace that is gone", &pod, 2, &plain, Some(&pod.attachment().netns))?;
        let pod = node.add_pod("d")?;
        node.kill_daemon(Signal::SIGKILL)?;
        node.exec(["rm", "/run/minionet/node.json", "/var/lib/minionet/node.json"])?;
        gone("without the daemon and its facts", &pod, 2, &plain, None)?;
        let never = node.cni_exec("DEL", &attachment("never", ""), plain.as_str(), |call| call)?;
        ensure!(never.success(), "{never:?}");
        expect_only(&before, node)
    })
}

fn pods_come_and_go_without_the_daemon() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).run(|cluster| {
        let (node, before) = used_node(cluster)?;
        for node in cluster.nodes() {
            node.kill_daemon(Signal::SIGKILL)?;
        }
        let pods = [node.add_pod("one")?, node.add_pod("two")?, cluster.node(1).add_pod("far")?];
        everybody_reaches_everybody(&pods)?;
        for pod in pods {
            pod.delete()?;
        }
        expect_only(&before, node)
    })
}

fn thirty_adds_at_once_get_thirty_addresses() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let (node, before) = used_node(cluster)?;
        let pods =
            at_once(0..MANY, |number| Ok(node.add_pod_with(&format!("pod{number}"), PodSpec::default())?))?;
        let addresses: BTreeSet<IpAddr> = pods.iter().map(|pod| pod.address()).collect();
        let block: IpNetwork = "10.32.1.0/24".parse()?;
        ensure!(
            addresses.len() == MANY && addresses.iter().all(|address| block.contains(*address)),
            "{addresses:?}"
        );
        let ends: BTreeSet<&str> = pods.iter().map(host_end).collect::<Result<_>>()?;
        ensure!(ends.len() == MANY, "{ends:?}");
        let first = &pods[0];
        pods.iter().try_for_each(|pod| pod.ping(first.address(), PATIENT).map(drop))?;
        at_once(pods, |pod| Ok(pod.delete()?))?;
        expect_only(&before, node)
    })
}

/// Does the work for all items at the same time.
fn at_once<I: Send, T: Send>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
        threads.into_iter().map(|thread| thread.join().ok().context("a thread panicked")?).collect()
    })
}
