//! Who answers, how fast, and what happens when nobody does.

use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use minionet_core::membership::Liveness;
use minionet_core::probe::view::{Agreement, PathState};
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, eventually};

use super::{PATIENT, RESULTS, cluster, results, wait};
use crate::robust::wait_for_log;

pub fn trials() -> Vec<Trial> {
    trials![
        peers_answer_over_ipv4,
        peers_answer_over_ipv6,
        a_long_way_shows_in_the_round_trip,
        a_peer_that_is_cut_off_is_dead_and_nothing_is_removed => [Need::Program("nft")],
        the_probe_outlives_its_device,
        a_probe_that_is_off_sends_nothing,
    ]
}

/// All nodes see all others, with everything that there is to see.
fn all_answer(cluster: &Cluster, mtu: u16) -> Result<()> {
    for of in 0..cluster.nodes().len() {
        for about in (0..cluster.nodes().len()).filter(|about| *about != of) {
            let peer = wait(cluster, of, about, "as it is", |p| {
                p.state == Liveness::Alive && p.path == PathState::Full
            })?;
            ensure!(peer.path_mtu == Some(mtu) && peer.mtu == Some(mtu), "{peer:?}");
            ensure!(peer.plan == Agreement::Same, "{peer:?}");
            ensure!(peer.version.as_deref() == Some(env!("CARGO_PKG_VERSION")), "{peer:?}");
            let rtt = peer.rtt.map_or(0, |rtt| rtt.min);
            // Through a bridge of the same machine; a second would be the timeout.
            ensure!((1..1_000_000).contains(&rtt), "{peer:?}");
        }
    }
    Ok(())
}

fn peers_answer_over_ipv4() -> Result<()> {
    cluster().run(|cluster| all_answer(cluster, 1450))
}

fn peers_answer_over_ipv6() -> Result<()> {
    let builder = cluster().underlay("fd00:20::/112").config("pod_network = \"fd00:32::/48\"");
    builder.run(|cluster| all_answer(cluster, 1430))
}

fn a_long_way_shows_in_the_round_trip() -> Result<()> {
    cluster().nodes(2).run(|cluster| {
        cluster.link(1)?.set_delay(Duration::from_millis(20))?;
        for (of, about) in [(0, 1), (1, 0)] {
            let long = |p: &minionet_core::probe::view::PeerProbe| {
                p.rtt.is_some_and(|rtt| rtt.smoothed >= 40_000 && rtt.last >= 40_000)
                    && p.state == Liveness::Alive
            };
            wait(cluster, of, about, "far away", long)?;
        }
        Ok(())
    })
}

fn a_peer_that_is_cut_off_is_dead_and_nothing_is_removed() -> Result<()> {
    cluster().run(|cluster| {
        all_answer(cluster, 1450)?;
        let routes = |node: usize| cluster.node(node).exec(["ip", "route", "show", "proto", "109"]);
        let before = routes(1)?;
        ensure!(before.lines().filter(|route| route.contains("via")).count() == 2, "{before}");

        cluster.partition(&[&[0], &[1, 2]])?;
        let dead = wait(cluster, 1, 0, "dead", |p| p.state == Liveness::Dead)?;
        ensure!(dead.lost >= 5 && dead.last_reply.is_some(), "{dead:?}");
        wait(cluster, 0, 1, "dead", |p| p.state == Liveness::Dead)?;
        // A busy machine may let it look otherwise for a moment.
        wait(cluster, 1, 2, "alive, in the other half", |p| p.state == Liveness::Alive)?;
        ensure!(routes(1)? == before, "a route was removed");
        wait_for_log(cluster.node(1), &["172.20.0.1 does not answer through the tunnel any more"])?;

        cluster.heal()?;
        wait(cluster, 1, 0, "alive again", |p| p.state == Liveness::Alive)?;
        wait(cluster, 0, 2, "alive again", |p| p.state == Liveness::Alive)?;
        Ok(())
    })
}

fn the_probe_outlives_its_device() -> Result<()> {
    cluster().nodes(2).run(|cluster| {
        all_answer(cluster, 1450)?;
        let node = cluster.node(0);
        node.ip("link del minionet")?;
        eventually("the device to be made anew", PATIENT, || node.exec(["ip", "link", "show", "minionet"]))?;
        let replies = |of: usize| results(cluster.node(of)).map(|r| r.counters.replies_received);
        for of in [0, 1] {
            let before = replies(of)?;
            eventually("replies through the new device", PATIENT, || match replies(of)? {
                now if now > before + 2 => Ok(()),
                now => Err(anyhow::anyhow!("{now} replies, {before} before")),
            })?;
        }
        Ok(())
    })
}

fn a_probe_that_is_off_sends_nothing() -> Result<()> {
    let builder = Cluster::builder("cncfdemo").nodes(2).config("probe_port = \"off\"");
    builder.run(|cluster| {
        // Both nodes are ready by now, and there is neither a socket nor a file.
        let sockets = cluster.node(0).exec(["ss", "-Huln"])?;
        ensure!(!sockets.contains(":4797"), "{sockets}");
        ensure!(!cluster.node(0).exists(RESULTS)?);
        Ok(())
    })
}
