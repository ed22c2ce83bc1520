//! Another tool drops what is forwarded, as Docker does: that is told by name, with the rules that
//! help, and they do.

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_core::forward::{Backend, ForwardPolicy};
use minionet_core::health::Health;
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, Node, Pod, eventually};

use super::{LONG, wait_for_answer, wait_for_log};
use crate::overlay::{SILENCE, everybody_reaches_everybody, ip, pod_per_node};

/// Pods of both families.
const DUAL: &str = "pod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]\n";
/// Nothing but notifications makes the daemon look.
const UNAUDITED: &str = "audit_interval = \"1h\"\nrefresh_min = \"30s\"\nrefresh_max = \"1h\"\n";
/// The older tables tell nobody of their changes.
const AUDITED: &str = "audit_interval = \"1s\"\n";

pub fn trials() -> Vec<Trial> {
    trials![
        a_policy_in_nftables_is_noticed_and_named => [Need::Program("nft"), Need::Program("iptables-nft")],
        a_policy_of_iptables_legacy_is_named => [Need::Program("iptables-legacy")],
        a_chain_that_ends_with_a_drop_is_named_and_others_are_not => [Need::Program("nft")],
    ]
}

/// What Docker makes of the table, by this program: a policy, and a chain for the operator.
fn as_docker_does(program: &str) -> Vec<String> {
    let words =
        ["-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-A FORWARD -j DOCKER-USER", "-P FORWARD DROP"];
    words.map(|words| format!("{program} {words}")).to_vec()
}

/// Commands that undo those before them.
fn undone(program: &str) -> Vec<String> {
    ["-P FORWARD ACCEPT", "-F", "-X"].map(|words| format!("{program} {words}")).to_vec()
}

fn execute(node: &Node, lines: &[impl AsRef<str>]) -> Result<()> {
    for line in lines.iter().map(AsRef::as_ref) {
        match line.strip_prefix("nft ") {
            Some(script) => node.nft(script)?,
            None => drop(node.exec(line.split(' ')).with_context(|| format!("`{line}`"))?),
        }
    }
    Ok(())
}

/// What the daemon says of other programs' chains.
fn policies(node: &Node) -> Result<Vec<ForwardPolicy>> {
    let health = Health::parse(&node.read("/run/minionet/health.json")?).context("health.json")?;
    // It is a warning: pods can be attached.
    ensure!(health.troubles.is_empty(), "{:?}", health.troubles);
    Ok(health.forward_policies)
}

fn wait_for_policies(node: &Node, right: impl Fn(&[ForwardPolicy]) -> bool) -> Result<Vec<ForwardPolicy>> {
    Ok(eventually("the policies to be known", LONG, || {
        let found = policies(node)?;
        ensure!(right(&found), "{found:?}");
        anyhow::Ok(found)
    })?)
}

/// A tool drops what is forwarded; that is told, and what is told to do helps.
fn told_and_remedied(
    node: &Node,
    pods: &[Pod],
    setup: &[String],
    undo: &[String],
    place: &str,
) -> Result<()> {
    let [from, to] = pods else { anyhow::bail!("two pods") };
    let families: Vec<_> = from.addresses().into_iter().zip(to.addresses()).collect();
    execute(node, setup)?;
    let dropped = |(_, to): &&(_, _)| from.ping(*to, SILENCE).is_err();
    ensure!(families.iter().any(|pair| dropped(&pair)), "nothing is dropped");
    let found = wait_for_policies(node, |found| found.iter().any(|p| p.place() == place && !p.open))?;
    let found = found.into_iter().find(|policy| policy.place() == place).context("the policy")?;
    wait_for_log(node, &["WARN", place, &found.remedy[0]])?;
    execute(node, &found.remedy)?;
    for (near, far) in families {
        from.ping(far, LONG).with_context(|| format!("{far} after {:?}", found.remedy))?;
        to.ping(near, LONG)?;
    }
    from.ping(ip("198.51.100.1"), LONG).context("the outside")?;
    wait_for_policies(node, |found| found.iter().any(|p| p.place() == place && p.open))?;
    wait_for_log(node, &[place, "lets pods' packets pass now"])?;
    execute(node, undo)?;
    wait_for_policies(node, <[_]>::is_empty)?;
    Ok(())
}

fn a_policy_in_nftables_is_noticed_and_named() -> Result<()> {
    let config = format!("{DUAL}{UNAUDITED}");
    Cluster::builder("cncfdemo").nodes(2).ttl(3600).config(&config).run(|cluster| {
        let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
        everybody_reaches_everybody(&pods)?;
        for (family, program) in [("ip", "iptables-nft"), ("ip6", "ip6tables-nft")] {
            let place = format!("table {family} filter, chain FORWARD");
            told_and_remedied(node, &pods, &as_docker_does(program), &undone(program), &place)?;
            // Without Docker.
            let setup = [format!("{program} -P FORWARD DROP")];
            told_and_remedied(node, &pods, &setup, &undone(program), &place)?;
        }
        for family in ["ip", "ip6", "inet"] {
            let chain = "{ type filter hook forward priority 0; policy drop; }";
            let setup = [format!("nft add table {family} wall\nadd chain {family} wall routed {chain}")];
            let undo = [format!("nft delete table {family} wall")];
            told_and_remedied(node, &pods, &setup, &undo, &format!("table {family} wall, chain routed"))?;
        }
        Ok(())
    })
}

fn a_policy_of_iptables_legacy_is_named() -> Result<()> {
    let config = format!("{DUAL}{AUDITED}");
    Cluster::builder("cncfdemo").nodes(2).config(&config).run(|cluster| {
        let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
        everybody_reaches_everybody(&pods)?;
        // To look does not make the tables.
        for names in ["/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"] {
            ensure!(node.read(names)?.is_empty(), "{names}: {}", node.read(names)?);
        }
        for (family, program) in [("ip", "iptables-legacy"), ("ip6", "ip6tables-legacy")] {
            let place = format!("table {family} filter, chain FORWARD (iptables-legacy)");
            told_and_remedied(node, &pods, &as_docker_does(program), &undone(program), &place)?;
            let setup = [format!("{program} -P FORWARD DROP")];
            told_and_remedied(node, &pods, &setup, &undone(program), &place)?;
            // By the names of pods' interfaces, from a chain that is gone to for good, behind rules
            // about others.
            let lines = [
                "-N PODS",
                "-A PODS -i mnet+ -j ACCEPT",
                "-A PODS -o mnet+ -j ACCEPT",
                "-A FORWARD -i docker0 -p tcp --dport 80 -j ACCEPT",
                "-A FORWARD -g PODS",
                "-P FORWARD DROP",
            ];
            execute(node, &lines.map(|line| format!("{program} {line}")))?;
            let found = wait_for_policies(node, |found| !found.is_empty())?;
            ensure!(found.iter().all(|p| p.open && p.backend == Backend::Legacy), "{found:?}");
            everybody_reaches_everybody(&pods)?;
            // Only some of the packets, or those of an interface that is named like ours.
            execute(node, &[format!("{program} -R PODS 1 -i mnet -j ACCEPT")])?;
            wait_for_policies(node, |found| found.iter().any(|p| !p.open))?;
            execute(node, &undone(program))?;
            wait_for_policies(node, <[_]>::is_empty)?;
        }
        Ok(())
    })
}

fn a_chain_that_ends_with_a_drop_is_named_and_others_are_not() -> Result<()> {
    let config = format!("{DUAL}{UNAUDITED}");
    Cluster::builder("cncfdemo").nodes(2).ttl(3600).config(&config).run(|cluster| {
        let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
        everybody_reaches_everybody(&pods)?;
        // As firewalld ends its chain, whose policy is to accept.
        let chain = "{ type filter hook forward priority 10; policy accept; }";
        let setup = [format!(
            "nft add table inet wall\nadd chain inet wall routed {chain}\n\
             add rule inet wall routed ct state established,related accept\n\
             add rule inet wall routed reject with icmpx admin-prohibited"
        )];
        let undo = ["nft delete table inet wall".to_owned()];
        told_and_remedied_but_gone(node, &pods, &setup, &undo)?;
        // What decides about some packets, or drops elsewhere, is nothing to tell.
        node.nft(&format!(
            "add table inet wall\nadd chain inet wall routed {chain}\n\
             add rule inet wall routed ip saddr 203.0.113.0/24 drop\n\
             add chain inet wall local {{ type filter hook input priority 0; policy drop; }}\n\
             add rule inet wall local accept"
        ))?;
        wait_for_answer(&pods[0], pods[1].address())?;
        // A change that is noticed, and after which it would be known.
        node.ip("route del 10.32.2.0/24")?;
        wait_for_answer(&pods[0], pods[1].address())?;
        ensure!(policies(node)?.is_empty(), "{:?}", policies(node)?);
        Ok(())
    })
}

/// The rules that help come before the last one, so that no packet of a pod comes as far, and the
/// chain is none of those that drop any more.
fn told_and_remedied_but_gone(node: &Node, pods: &[Pod], setup: &[String], undo: &[String]) -> Result<()> {
    let place = "table inet wall, chain routed";
    execute(node, setup)?;
    ensure!(pods[0].ping(pods[1].address(), SILENCE).is_err(), "nothing is dropped");
    let found = wait_for_policies(node, |found| found.iter().any(|p| p.place() == place && !p.open))?;
    execute(node, &found[0].remedy)?;
    everybody_reaches_everybody(pods)?;
    wait_for_policies(node, <[_]>::is_empty)?;
    execute(node, undo)
}
