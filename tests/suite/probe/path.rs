//! The largest packet that passes.

use anyhow::Result;
use libtest_mimic::Trial;
use minionet_core::membership::Liveness;
use minionet_core::probe::view::PathState;
use minionet_tests::{Need, trials};
use netns_testbed::Node;

use super::{cluster, wait};
use crate::robust::wait_for_log;

pub fn trials() -> Vec<Trial> {
    trials![
        packets_that_vanish_for_their_size_are_found_out => [Need::Program("nft")],
        routers_that_fragment_are_no_limit,
    ]
}

/// Drops the overlay's packets that are larger than 1400 octets, before anything else.
const NARROW: &str = "table inet narrow {
  chain narrow {
    type filter hook prerouting priority -450;
    udp dport 4789 meta length > 1400 counter drop
  }
}
";

fn packets_that_vanish_for_their_size_are_found_out() -> Result<()> {
    cluster().run(|cluster| {
        let full = |of: usize, about: usize| {
            wait(cluster, of, about, "at full size", |p| {
                p.path == PathState::Full && p.path_mtu == Some(1450)
            })
        };
        for (of, about) in [(0, 1), (2, 1), (1, 0), (0, 2)] {
            full(of, about)?;
        }
        cluster.node(1).nft(NARROW)?;
        // 1400 octets outside, less 50 for the encapsulation.
        for of in [0, 2] {
            wait(cluster, of, 1, "limited to 1350", |p| {
                p.path == PathState::Limited && p.path_mtu == Some(1350) && p.state == Liveness::Alive
            })?;
        }
        // The other direction, and the other peer, are as they were.
        full(1, 0)?;
        full(0, 2)?;
        wait_for_log(cluster.node(0), &["packets to 172.20.0.2 pass only up to 1350 of 1450 octets"])?;

        cluster.node(1).nft("delete table inet narrow")?;
        full(0, 1)?;
        Ok(())
    })
}

fn routers_that_fragment_are_no_limit() -> Result<()> {
    let builder = cluster()
        .nodes(2)
        .underlay("172.20.0.0/24")
        .underlay("172.20.1.0/24")
        .config("node_networks = [\"172.20.0.0/24\", \"172.20.1.0/24\"]");
    let cluster = builder.start_without_daemons()?;
    // Every large packet of the first node is fragmented on its way, and put together again by
    // the kernel of the second.
    cluster.router().ip("link set eth1 mtu 1300")?;
    cluster.nodes().iter().try_for_each(Node::start_daemon)?;
    cluster.wait_ready()?;
    wait(&cluster, 0, 1, "at full size", |p| p.path == PathState::Full && p.path_mtu == Some(1450))?;
    Ok(())
}
