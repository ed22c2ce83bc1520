//! Nodes that fill an empty zone.

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::{Cluster, Tables, eventually};

use super::server::Server;
use super::{
    LONG, NAME, addresses, cluster, command, pods_talk, start, wait_for_log, wait_for_records, with,
};
use crate::overlay::{DEVICE, wait_for_members};

pub fn trials() -> Vec<Trial> {
    trials![
        an_empty_zone_of_bind_is_filled => [Need::Program("named"), Need::Program("dig")],
        an_empty_zone_of_knot_is_filled => [Need::Program("knotd"), Need::Program("dig")],
        nodes_with_ipv6_register_too => [Need::Program("named"), Need::Program("dig")],
        a_record_that_somebody_removed_is_back
            => [Need::Program("named"), Need::Program("dig"), Need::Program("nsupdate")],
        a_node_with_another_address_moves_its_record => [Need::Program("named"), Need::Program("dig")],
        a_node_with_several_interfaces_is_told_which => [Need::Program("named"), Need::Program("dig")],
    ]
}

/// Starts nodes that nobody lists, and waits until pods of all of them talk.
fn form(cluster: &Cluster, server: &Server<'_>) -> Result<()> {
    ensure!(server.addresses(NAME)?.is_empty(), "the zone is not empty");
    cluster.nodes().iter().try_for_each(start)?;
    wait_for_records(server, &addresses(cluster.nodes()))?;
    pods_talk(cluster)
}

fn an_empty_zone_of_bind_is_filled() -> Result<()> {
    with(cluster(3, ""), |cluster| {
        let server = Server::bind(cluster.external(), |config| config)?;
        form(cluster, &server)?;
        let lease = server.lease(cluster.node(0).address())?;
        ensure!(lease.starts_with("\"minionet id="), "the lease says {lease}");
        let ttl = server.dig(&["+noall", "+answer", NAME, "A"])?;
        ensure!(ttl.lines().all(|line| line.split_whitespace().nth(1) == Some("1")), "{ttl}");
        // The file follows the acknowledgement.
        eventually("the report", LONG, || {
            let report = cluster.node(0).read("/run/minionet/register.json")?;
            for part in
                ["\"server\": \"198.51.100.1:53\"", "\"address\": \"172.20.0.1\"", "\"trouble\": null"]
            {
                ensure!(report.contains(part), "{part} is not in {report}");
            }
            anyhow::Ok(())
        })?;
        Ok(())
    })
}

fn an_empty_zone_of_knot_is_filled() -> Result<()> {
    with(cluster(3, ""), |cluster| {
        let server = Server::knot(cluster.external())?;
        form(cluster, &server)?;
        let node = cluster.node(2);
        command(node, &["deregister"])?;
        wait_for_records(&server, &addresses(&cluster.nodes()[..2]))?;
        ensure!(server.lease(node.address())?.is_empty(), "the lease is left");
        wait_for_members(&[cluster.node(0), cluster.node(1)], &[1, 2])
    })
}

fn nodes_with_ipv6_register_too() -> Result<()> {
    // The name of the server has an IPv4 address alone.
    let config =
        "node_prefix = 28\nresolvers = [\"2001:db8:100::1\"]\nregister_server = \"2001:db8:100::1\"\n";
    with(cluster(2, config).underlay("fd00:20::/112"), |cluster| {
        let server = Server::bind(cluster.external(), |config| config)?;
        form(cluster, &server)
    })
}

fn a_record_that_somebody_removed_is_back() -> Result<()> {
    with(cluster(2, ""), |cluster| {
        let server = Server::bind(cluster.external(), |config| config)?;
        form(cluster, &server)?;
        let address = cluster.node(1).address();
        let lease = server.lease(address)?;
        server.update(&format!("del {NAME} A {address}"))?;
        eventually("another lease", LONG, || {
            let now = server.lease(address)?;
            ensure!(now != lease, "it still is {now}");
            anyhow::Ok(())
        })?;
        wait_for_records(&server, &addresses(cluster.nodes()))
    })
}

fn a_node_with_another_address_moves_its_record() -> Result<()> {
    with(cluster(2, "node_networks = [\"172.20.0.0/24\"]\n"), |cluster| {
        let server = Server::bind(cluster.external(), |config| config)?;
        form(cluster, &server)?;
        let (node, peer) = (cluster.node(1), cluster.node(0));
        node.ip("addr del 172.20.0.2/24 dev eth0\naddr add 172.20.0.77/24 dev eth0\n\
             route add default via 172.20.0.254 dev eth0\n")?;
        wait_for_log(node, &["registered 172.20.0.77 in DNS instead of 172.20.0.2"])?;
        wait_for_records(&server, &[peer.address(), "172.20.0.77".parse()?])?;
        ensure!(server.lease(node.address())?.is_empty(), "the lease of the former address is left");
        eventually("the peer to follow", LONG, || {
            let found = Tables::read(peer, DEVICE)?;
            ensure!(found == crate::overlay::tables_for([77]), "it has {found:?}");
            anyhow::Ok(())
        })?;
        Ok(())
    })
}

fn a_node_with_several_interfaces_is_told_which() -> Result<()> {
    with(cluster(1, ""), |cluster| {
        let server = Server::bind(cluster.external(), |config| config)?;
        let node = cluster.node(0);
        node.ip("link add docker0 type bridge\nlink set docker0 up\naddr add 172.17.0.1/16 dev docker0\n")?;
        start(node)?;
        let line = wait_for_log(node, &["ERROR", "set node_ip"])?;
        ensure!(server.addresses(NAME)?.is_empty(), "registered all the same; {line}");
        let config = node.read("/etc/minionet/minionet.toml")?;
        node.write("/etc/minionet/minionet.toml", config + "interface = \"eth0\"\n")?;
        node.signal_daemon(nix::sys::signal::Signal::SIGHUP)?;
        wait_for_records(&server, &addresses(cluster.nodes())).context("after SIGHUP")
    })
}
