//! Nodes on which nothing is wrong.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::{Cluster, Node, eventually};

use super::{PATIENT, examine, expect_in, minionetd, wait_for_answers};

pub fn trials() -> Vec<Trial> {
    trials![
        nothing_is_found_on_healthy_nodes,
        nothing_is_found_over_ipv6_without_encapsulation,
        a_node_that_never_ran_is_examined_too,
    ]
}

fn nothing_is_found_on_healthy_nodes() -> Result<()> {
    Cluster::builder("cncfdemo").run(|cluster| {
        wait_for_answers(cluster)?;
        let node = cluster.node(0);
        let _pods = [node.add_pod("one")?, node.add_pod("two")?];
        // Its own packets may be late on a busy machine.
        Ok(eventually("nothing to be found", PATIENT, || nothing_is_found(node))?)
    })
}

fn nothing_is_found(node: &Node) -> Result<()> {
    let (document, code) = examine(node)?;
    ensure!(document["verdict"] == "ok" && document["schema"] == 1 && code == Some(0), "{document:#}");
    // What can be examined was, and not passed over.
    let skipped = document["findings"].as_array().into_iter().flatten().filter(|f| f["verdict"] == "skipped");
    let skipped: Vec<_> = skipped.filter_map(|f| f["check"].as_str()).collect();
    ensure!(
        skipped == ["registration", "networkd", "network-manager", "firewalld", "kube-proxy", "kubelet"],
        "{skipped:?}"
    );
    // For people: little, on a terminal's width, without colours where there is none.
    let programs = node.programs().display().to_string();
    let spoken = minionetd(node, &["doctor", "--cni-bin-dir", &programs])?;
    ensure!(spoken.out.starts_with("nothing is wrong: 0 errors, 0 warnings, 0 notes, "), "{}", spoken.out);
    let spoken = minionetd(node, &["doctor", "--all", "--cni-bin-dir", &programs])?;
    let text = &spoken.out;
    let long = text.lines().find(|line| line.chars().count() > 80 && !line.contains(&programs));
    ensure!(long.is_none() && !text.contains('\x1b'), "{long:?} {text}");
    ensure!(text.contains("ok       dns-self          172.20.0.1 is listed"), "{text}");
    Ok(())
}

fn nothing_is_found_over_ipv6_without_encapsulation() -> Result<()> {
    let builder = Cluster::builder("cncfdemo").nodes(2).underlay("fd00:20::/112");
    let config = "pod_network = \"fd00:32::/48\"\nencapsulation = \"cross-subnet\"";
    builder.config(config).run(|cluster| wait_for_answers(cluster))
}

fn a_node_that_never_ran_is_examined_too() -> Result<()> {
    let cluster = Cluster::builder("cncfdemo").nodes(1).start_without_daemons()?;
    let node = cluster.node(0);
    eventually("an examination while DNS answers", PATIENT, || {
        let (document, code) = examine(node)?;
        let systemctl = "systemctl enable --now minionetd";
        expect_in(&document, code, "daemon", "error", &["never run here", systemctl])?;
        expect_in(&document, code, "device", "error", &["there is no device minionet"])?;
        // What works is told from what does not.
        let findings = document["findings"].as_array().into_iter().flatten();
        let ok: Vec<_> =
            findings.filter(|f| f["verdict"] == "ok").filter_map(|f| f["check"].as_str()).collect();
        for check in ["config", "resolvers", "dns-udp", "dns-self", "address", "cni-plugin"] {
            ensure!(ok.contains(&check), "{check} is not ok: {document:#}");
        }
        anyhow::Ok(())
    })?;
    Ok(())
}
