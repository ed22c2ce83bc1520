//! Host ports: who reaches a pod by them, and whom the pod sees.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, Namespace, eventually};

use super::{DUAL, PATIENT, Teller, UNDERLAY, ask_tcp, ask_udp, ip, nobody_answers, pod_with, ports};

pub fn trials() -> Vec<Trial> {
    trials![
        everybody_reaches_a_host_port_and_the_pod_sees_who_it_is,
        a_host_address_restricts_a_port_to_itself,
        loopback_services_of_the_node_stay_out_of_reach,
        sctp_is_translated_too => [Need::Program("nft")],
        a_port_of_another_pod_is_refused_by_name,
        only_sensible_mappings_are_taken,
    ]
}

/// Asks a host port over both protocols.
fn ask(client: &Namespace, server: SocketAddr) -> Result<Vec<String>> {
    let what = || format!("{server} from {}", client.name());
    Ok(vec![
        ask_tcp(client, server, PATIENT).with_context(what)?,
        ask_udp(client, server, PATIENT).with_context(what)?,
    ])
}

fn everybody_reaches_a_host_port_and_the_pod_sees_who_it_is() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).underlay(UNDERLAY).config(DUAL).run(|cluster| {
        let (own, other) = (cluster.node(0), cluster.node(1));
        let mapped = ports(&[(8080, 80, "tcp", ""), (8080, 80, "udp", "")]);
        let web = pod_with(own, "web", mapped)?;
        let neighbour = own.add_pod("neighbour")?;
        let distant = other.add_pod("distant")?;
        let _server = Teller::start(&web, 80, "web")?;
        let family = |addresses: Vec<IpAddr>, v4: bool| {
            addresses.into_iter().find(|address| address.is_ipv4() == v4).context("an address")
        };
        for v4 in [true, false] {
            let node = family(own.addresses(), v4)?;
            let server = SocketAddr::from((node, 8080));
            let external = if v4 { ip("198.51.100.1") } else { ip("2001:db8:100::1") };
            let seen = |clients: &Namespace, as_whom: IpAddr| -> Result<()> {
                let answers = ask(clients, server)?;
                let expected = format!("web {as_whom}");
                ensure!(answers.iter().all(|a| *a == expected), "{answers:?} instead of {expected}");
                Ok(())
            };
            seen(cluster.external(), external).context("from outside")?;
            seen(other, family(other.addresses(), v4)?).context("from another node")?;
            seen(own, node).context("from the node itself")?;
            seen(&neighbour, family(neighbour.addresses(), v4)?).context("from a pod of the node")?;
            // A pod is hidden behind its node from everything outside of the pod network.
            seen(&distant, family(other.addresses(), v4)?).context("from a pod of another node")?;

            let hairpin = ask(&web, server).context("from the pod itself")?;
            let web_address = family(web.addresses(), v4)?;
            ensure!(
                hairpin.iter().all(|a| a.starts_with("web ") && *a != format!("web {web_address}")),
                "{hairpin:?}"
            );
            nobody_answers(cluster.external(), (node, 8081).into())?;
        }
        let answers = ask(own, (ip("127.0.0.1"), 8080).into()).context("from the node's loopback")?;
        ensure!(answers.iter().all(|a| a.starts_with("web ")), "{answers:?}");
        // A client of "localhost" is refused at once, and goes on to 127.0.0.1.
        let refused = ask_tcp(own, (ip("::1"), 8080).into(), PATIENT).err().context("::1 answers")?;
        let kind = refused.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        ensure!(kind == Some(ErrorKind::ConnectionRefused), "{refused:#}");
        web.check()?;
        web.delete()?;
        let node = own.address();
        // A daemon that looks while DEL is at work puts the port back for a moment.
        let closed =
            |from: &Namespace, to| eventually("the port to be closed", PATIENT, || nobody_answers(from, to));
        closed(cluster.external(), (node, 8080).into())?;
        closed(own, (ip("127.0.0.1"), 8080).into())?;
        Ok(())
    })
}

fn a_host_address_restricts_a_port_to_itself() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).underlay(UNDERLAY).config(DUAL).run(|cluster| {
        let node = cluster.node(0);
        node.ip("addr add 172.20.0.77/24 dev eth0")?;
        let mapped = ports(&[
            (1000, 80, "tcp", "172.20.0.77"),
            (1000, 80, "udp", "172.20.0.77"),
            (1001, 80, "tcp", "127.0.0.1"),
            (1001, 80, "udp", "127.0.0.1"),
            (1002, 80, "tcp", "0.0.0.0"),
            (1002, 80, "udp", "0.0.0.0"),
            (1003, 80, "tcp", "::"),
            (1003, 80, "udp", "::"),
        ]);
        let web = pod_with(node, "web", mapped)?;
        let _server = Teller::start(&web, 80, "web")?;
        let external = cluster.external();
        let addresses = ["172.20.0.1", "172.20.0.77", "fd00:20::1"].map(ip);
        for (port, reached) in [
            (1000, [false, true, false]),
            (1001, [false, false, false]),
            (1002, [true, true, false]),
            (1003, [false, false, true]),
        ] {
            for (address, reached) in addresses.into_iter().zip(reached) {
                let server = (address, port).into();
                if reached {
                    let answers = ask(external, server)?;
                    let source = if address.is_ipv4() { "198.51.100.1" } else { "2001:db8:100::1" };
                    ensure!(answers.iter().all(|a| *a == format!("web {source}")), "{answers:?}");
                } else {
                    nobody_answers(external, server)?;
                }
            }
        }
        ask(node, (ip("127.0.0.1"), 1001).into())?;
        nobody_answers(node, (ip("172.20.0.1"), 1001).into())?;
        nobody_answers(node, (ip("127.0.0.1"), 1000).into())
    })
}

/// The interface of a pod with host ports takes packets for 127.0.0.1 (route_localnet), but only
/// answers.
fn loopback_services_of_the_node_stay_out_of_reach() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let node = cluster.node(0);
        let web = pod_with(node, "web", ports(&[(8080, 80, "tcp", "")]))?;
        let _private = Teller::start(node, 9999, "node")?;
        let reached = ask_tcp(&web, (node.address(), 9999).into(), PATIENT)?;
        ensure!(reached.starts_with("node "), "{reached}");
        // As CVE-2020-8558 had it: the pod sends packets for 127.0.0.1 out of its interface.
        web.sysctl([("net.ipv4.conf.eth0.route_localnet", "1"), ("net.ipv4.conf.all.route_localnet", "1")])?;
        web.ip("addr del 127.0.0.1/8 dev lo\nroute add 127.0.0.1 via 10.32.1.1 dev eth0 onlink")?;
        nobody_answers(&web, (ip("127.0.0.1"), 9999).into())?;
        let rules = node.exec(["nft", "list", "chain", "inet", "minionet", "from_pods"])?;
        ensure!(!rules.contains("ip daddr 127.0.0.0/8 counter packets 0 "), "nothing was sent: {rules}");
        Ok(())
    })
}

/// Kernels without SCTP sockets forward and translate it all the same.
fn sctp_is_translated_too() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).underlay(UNDERLAY).config(DUAL).run(|cluster| {
        let node = cluster.node(0);
        let pod = pod_with(node, "web", ports(&[(5000, 80, "SCTP", "")]))?;
        for (map, address) in [("hostports4", 0), ("hostports6", 1)] {
            let elements = node.exec(["nft", "list", "map", "inet", "minionet", map])?;
            let wanted = format!("sctp . 5000 : {} . 80", pod.addresses()[address]);
            ensure!(elements.contains(&wanted), "{elements} lacks {wanted}");
        }
        Ok(())
    })
}

fn a_port_of_another_pod_is_refused_by_name() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let node = cluster.node(0);
        let first = pod_with(node, "first", ports(&[(8080, 80, "tcp", "")]))?;
        for host_ip in ["", "0.0.0.0", "172.20.0.1"] {
            let second =
                pod_with(node, "second", ports(&[(7070, 80, "tcp", ""), (8080, 81, "tcp", host_ip)]));
            let text = format!("{:#}", second.err().context("the port was given twice")?);
            for part in ["113", "8080/tcp", "default/first", &first.attachment().container] {
                ensure!(text.contains(part), "{part} is missing: {text}");
            }
        }
        let leases = node.exec(["ls", "/run/minionet/leases"])?;
        ensure!(leases.lines().count() == 1, "a refused pod has a lease: {leases}");
        // Another protocol is another port, and what is free again can be had.
        pod_with(node, "third", ports(&[(8080, 80, "udp", "")]))?;
        first.delete()?;
        let second = pod_with(node, "second", ports(&[(8080, 80, "tcp", "")]))?;
        // A holder whose namespace is gone without a DEL has nothing to hold it with.
        let name = second.name().to_owned();
        second.vanish()?;
        let again = eventually("the port to be free", PATIENT, || {
            pod_with(node, "fourth", ports(&[(8080, 80, "tcp", "")]))
        })?;
        let _server = Teller::start(&again, 80, "fourth")?;
        let answer = ask_tcp(cluster.external(), (node.address(), 8080).into(), PATIENT)?;
        ensure!(answer.starts_with("fourth "), "{answer}, not {name}");
        Ok(())
    })
}

fn only_sensible_mappings_are_taken() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let node = cluster.node(0);
        for (mappings, code, part) in [
            (vec![(0, 80, "tcp", "")], 7, "hostPort"),
            (vec![(80, 0, "tcp", "")], 7, "containerPort"),
            (vec![(80, 80, "icmp", "")], 2, "icmp"),
            (vec![(80, 80, "tcp", "here")], 7, "here"),
            (vec![(80, 80, "tcp", "::1")], 7, "127.0.0.1"),
            (vec![(80, 80, "tcp", "::")], 7, "no IPv6 address"),
            (vec![(80, 80, "tcp", ""), (80, 81, "TCP", "127.0.0.1")], 7, "overlaps"),
        ] {
            let text = format!("{:#}", pod_with(node, "web", ports(&mappings)).err().context(part)?);
            ensure!(text.contains(&format!("\"code\": {code}")) && text.contains(part), "{text}");
        }
        // Said twice, it is the same.
        pod_with(node, "web", ports(&[(80, 80, "tcp", ""), (80, 80, "TCP", "")]))?.delete()?;
        let leases = node.exec(["ls", "/run/minionet/leases"]).unwrap_or_default();
        ensure!(leases.is_empty(), "{leases}");
        Ok(())
    })
}
