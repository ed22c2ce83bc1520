//! Newcomers and operators who type what the documents say, on bare hosts with a real systemd.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::systemd::Systemd;
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, DAEMON_LOG, Node, eventually};
use serde_json::Value;

use super::commands::{self, Reader, shell};
use super::traces::{Host, expect_same};
use super::{LONG, bare};
use crate::overlay::everybody_reaches_everybody;

/// The documents that the tests here follow to their ends.
const FOLLOWED: [&str; 5] =
    ["README.md", "docs/install.md", "docs/operations.md", "docs/status.md", "docs/troubleshooting.md"];

pub fn trials() -> Vec<Trial> {
    trials![
        every_command_is_executed_or_says_why_not,
        a_newcomer_needs_nothing_but_the_readme => [Need::Systemd, Need::Program("nft")],
        the_long_form_works_as_it_stands => [Need::Systemd],
    ]
}

fn every_command_is_executed_or_says_why_not() -> Result<()> {
    let mut executed = BTreeSet::new();
    for name in commands::documents()? {
        let found = commands::parse(&commands::read(&name)?).with_context(|| name.clone())?;
        if found.iter().any(|command| command.reason.is_none()) {
            executed.insert(name);
        }
    }
    ensure!(executed.iter().eq(&FOLLOWED), "nobody follows one of {executed:?}");
    // It is a check only if something wrong is noticed.
    let reasons = |text: &str| -> Result<Vec<Option<String>>> {
        Ok(commands::parse(text)?.into_iter().map(|command| command.reason).collect())
    };
    ensure!(
        reasons("```sh\nls  # all\nrm x  # not executed: it is needed\n```\n")?
            == [None, Some("it is needed".to_owned())]
    );
    for hidden in [
        "```\nls\n```\n",
        "```text\n$ ls\n```\n",
        "\n    ls\n",
        "```sh\nls  # not executed: no\n```\n",
        "```sh\nls\n",
    ] {
        ensure!(commands::parse(hidden).is_err(), "{hidden} passes");
    }
    Ok(())
}

/// Hosts with systemd and nothing of minionet's, not even the line that says who they are.
fn hosts(nodes: usize) -> Result<(Cluster, Vec<Systemd>)> {
    let cluster = Cluster::builder("cncfdemo").nodes(nodes).start_without_daemons()?;
    let systemds = cluster
        .nodes()
        .iter()
        .map(|node| {
            bare(node)?;
            node.exec(["mount", "-t", "tmpfs", "tmpfs", "/mnt"])?;
            node.exec(["rm", "-r", "/etc/sysconfig"])?;
            // There is no journal.
            let log = format!("[Service]\nStandardError=append:{DAEMON_LOG}\n");
            node.write("/run/systemd/system/minionetd.service.d/log.conf", log)?;
            node.write(DAEMON_LOG, "")?;
            // As on every host that is not a router.
            node.sysctl([("net.ipv4.ip_forward", "0")])?;
            Systemd::start(node, &[])
        })
        .collect::<Result<_>>()?;
    Ok((cluster, systemds))
}

/// Something that goes wrong, and what the doctor says.
struct Breakage {
    /// What is done to the node, by a shell.
    break_it: &'static str,
    /// The check that fails.
    check: &'static str,
    /// A part of what it finds.
    finding: &'static str,
    /// Commands of the remedies, which are all that is done about it.
    remedies: &'static [&'static str],
}

const BREAKAGES: [Breakage; 6] = [
    Breakage {
        break_it: "systemctl stop minionetd",
        check: "daemon",
        finding: "minionetd does not run",
        remedies: &["systemctl restart minionetd"],
    },
    Breakage {
        break_it: "echo '{\"name\": \"cbr0\", \"plugins\": [{\"type\": \"flannel\"}]}' \
                   > /etc/cni/net.d/05-flannel.conflist",
        check: "cni-config",
        finding: "takes 05-flannel.conflist",
        remedies: &["rm /etc/cni/net.d/05-flannel.conflist"],
    },
    Breakage {
        break_it: "chmod 644 /opt/cni/bin/minionet",
        check: "cni-plugin",
        finding: "may not be executed",
        remedies: &["chmod 755 /opt/cni/bin/minionet"],
    },
    Breakage {
        break_it: "systemctl stop minionetd && sysctl -w net.ipv4.ip_forward=0",
        check: "forwarding",
        finding: "net.ipv4.ip_forward is 0",
        remedies: &["sysctl -w net.ipv4.ip_forward=1", "systemctl restart minionetd"],
    },
    Breakage {
        break_it: "systemctl stop minionetd && ip link del minionet && \
                   ip link add rival type vxlan id 4097 dstport 4789 local 172.20.0.1",
        check: "vxlan-port",
        finding: "rival",
        remedies: &["ip link del rival", "systemctl restart minionetd"],
    },
    Breakage {
        break_it: "nft 'table inet firewall { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'",
        check: "forward-policy",
        finding: "table inet firewall, chain FORWARD",
        remedies: &[
            "nft insert rule inet firewall FORWARD ip saddr 10.32.0.0/12 accept",
            "nft insert rule inet firewall FORWARD ip daddr 10.32.0.0/12 accept",
        ],
    },
];

/// The findings of the doctor that are worse than `ok`.
fn examine(node: &Node, systemd: &Systemd) -> Result<Vec<Value>> {
    // Its exit status tells how bad it is, which is not at issue.
    let document: Value = serde_json::from_str(&shell(node, systemd, "minionetd doctor --json || true")?)?;
    let findings = document["findings"].as_array().context("findings")?.clone();
    Ok(findings.into_iter().filter(|f| f["verdict"] != "ok" && f["verdict"] != "skipped").collect())
}

/// Breaks a node, asks the doctor, does what it says and nothing else, and asks again.
fn recover(node: &Node, systemd: &Systemd, breakage: &Breakage) -> Result<()> {
    let Breakage { break_it, check, finding, remedies } = breakage;
    shell(node, systemd, break_it)?;
    eventually(&format!("{check} to be named"), LONG, || {
        let findings = examine(node, systemd)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        ensure!(
            findings.iter().any(|f| f["check"] == *check && text(&f["finding"]).contains(finding)),
            "{findings:#?}"
        );
        let said: String = findings.iter().map(|f| text(&f["remedy"]) + "\n").collect();
        ensure!(remedies.iter().all(|remedy| said.contains(remedy)), "{said}");
        anyhow::Ok(())
    })?;
    for remedy in *remedies {
        shell(node, systemd, remedy)?;
    }
    eventually(&format!("{check} to be well"), LONG, || {
        let findings = examine(node, systemd)?;
        ensure!(findings.is_empty(), "{findings:#?}");
        anyhow::Ok(())
    })?;
    Ok(())
}

fn a_newcomer_needs_nothing_but_the_readme() -> Result<()> {
    let (cluster, systemds) = hosts(2)?;
    let (node, systemd) = (cluster.node(0), &systemds[0]);
    let before = Host::settled(node)?;
    let [mut here, mut there] = [Reader::of("README.md")?, Reader::of("README.md")?];
    let install = |reader: &mut Reader, n: usize| reader.follow("Use it", cluster.node(n), &systemds[n]);
    // The first one looks at its health until the second one answers.
    std::thread::scope(|scope| {
        let other = scope.spawn(|| install(&mut there, 1));
        install(&mut here, 0)?;
        other.join().map_err(|_| anyhow::anyhow!("the other node"))?
    })?;
    ensure!(systemd.property("minionetd.service", "ActiveState")? == "active");
    let pods = [node.add_pod("web")?, cluster.node(1).add_pod("web")?];
    everybody_reaches_everybody(&pods)?;
    here.follow("When something is wrong", node, systemd)?;
    for breakage in &BREAKAGES {
        recover(node, systemd, breakage).with_context(|| breakage.break_it)?;
        everybody_reaches_everybody(&pods)?;
    }
    // Drained, and what was not minionet's is taken away by who made it.
    pods.into_iter().try_for_each(|pod| pod.delete().map(drop))?;
    shell(node, systemd, "nft delete table inet firewall && rm -r /etc/sysconfig")?;
    here.follow("Remove it", node, systemd)?;
    here.close()?;
    node.write(DAEMON_LOG, "")?;
    expect_same(node, &before)
}

fn the_long_form_works_as_it_stands() -> Result<()> {
    let (cluster, systemds) = hosts(2)?;
    let (node, systemd) = (cluster.node(0), &systemds[0]);
    node.exec(["mkdir", "-p", "/mnt/image/etc"])?;
    let mut install = Reader::of("docs/install.md")?;
    // k3s has its own directories on the second node, and the testbed's runtime looks there too; a
    // pod there shows that both are a network.
    install.follow("With k3s and other single binaries", cluster.node(1), &systemds[1])?;
    let link = "ln -s /var/lib/rancher/k3s/agent/etc/cni/net.d /etc/cni/net.d";
    shell(cluster.node(1), &systemds[1], link)?;
    install.follow("Three machines, from nothing", node, systemd)?;
    install.follow("Into an image", node, systemd)?;
    install.close()?;
    let pods = [node.add_pod("web")?, cluster.node(1).add_pod("web")?];
    everybody_reaches_everybody(&pods)?;
    for (name, section) in
        [("docs/status.md", "`minionetd status`"), ("docs/troubleshooting.md", "Troubleshooting")]
    {
        let mut reader = Reader::of(name)?;
        reader.follow(section, node, systemd)?;
        reader.close()?;
    }
    let mut operations = Reader::of("docs/operations.md")?;
    operations.follow("How is it", node, systemd)?;
    let pid = || systemd.property("minionetd.service", "MainPID");
    let first = pid()?;
    operations.follow("Upgrade", node, systemd)?;
    ensure!(pid()? != first, "the service was not restarted");
    operations.follow("Change settings", node, systemd)?;
    everybody_reaches_everybody(&pods)?;
    pods.into_iter().try_for_each(|pod| pod.delete().map(drop))?;
    operations.follow("Remove", node, systemd)?;
    operations.close()?;
    ensure!(!node.exists("/usr/local/bin/minionetd")? && !node.exists("/run/minionet")?);
    // The directories of k3s are emptied of what is ours as well.
    shell(cluster.node(1), &systemds[1], "./minionetd uninstall")?;
    ensure!(!cluster.node(1).exists("/var/lib/rancher")?, "something is left in k3s's directories");
    Ok(())
}
