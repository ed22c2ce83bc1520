//! What servers do, and what they are made to say.

use std::net::IpAddr;

use anyhow::Result;
use netns_testbed::{Fault, TcpAfterTruncation};
use nix::sys::signal::Signal;

use super::{Bed, Breakage, LOSS};
use crate::overlay::ip;

/// The first DNS server does something.
fn first(bed: &Bed<'_>, fault: Fault) -> Result<()> {
    bed.cluster.dns().set_fault(fault);
    Ok(())
}

/// No DNS server does anything out of the ordinary any more.
fn no_faults(bed: &Bed<'_>) -> Result<()> {
    bed.cluster.dns_servers().for_each(|server| server.set_fault(None::<Fault>));
    Ok(())
}

/// All servers list exactly these, with a TTL in seconds.
fn list(bed: &Bed<'_>, addresses: &[IpAddr], ttl: u32) -> Result<()> {
    let name = bed.cluster.dns_name();
    bed.cluster.dns_servers().try_for_each(|server| Ok(server.set(&name, addresses, ttl)?))
}

fn all_addresses(bed: &Bed<'_>) -> Vec<IpAddr> {
    bed.cluster.nodes().iter().map(|node| node.address()).collect()
}

pub const BREAKAGES: &[Breakage] = &[
    Breakage {
        name: "no server is known",
        break_it: |bed| Ok(bed.node.write("/etc/resolv.conf", "")?),
        mend_it: |bed| {
            Ok(bed.node.write("/etc/resolv.conf", "nameserver 172.20.0.253\nnameserver 172.20.0.252\n")?)
        },
        check: "resolvers",
        verdict: "error",
        words: &["/etc/resolv.conf"],
    },
    Breakage {
        name: "a server that does not know the name",
        break_it: |bed| first(bed, Fault::NxDomain),
        mend_it: no_faults,
        check: "dns-udp",
        verdict: "error",
        words: &["no such name", "add the addresses of all nodes"],
    },
    Breakage {
        name: "a server that is silent",
        break_it: |bed| first(bed, Fault::Timeout),
        mend_it: no_faults,
        check: "dns-udp",
        verdict: "error",
        words: &["172.20.0.253:53", "UDP port 53"],
    },
    Breakage {
        name: "truncation, and no TCP",
        break_it: |bed| first(bed, Fault::Truncated(TcpAfterTruncation::Closed)),
        mend_it: no_faults,
        check: "dns-truncation",
        verdict: "error",
        words: &["truncates its answers", "open TCP port 53"],
    },
    Breakage {
        name: "TCP is closed",
        break_it: |bed| {
            let rule = "table inet loss {\nchain loss {\ntype filter hook input priority 0;\ntcp dport 53 reject\n}\n}\n";
            bed.cluster.dns_hosts().try_for_each(|host| Ok(host.nft(rule)?))
        },
        mend_it: |bed| bed.cluster.dns_hosts().try_for_each(|host| Ok(host.nft(LOSS)?)),
        check: "dns-tcp",
        verdict: "warning",
        words: &["over TCP", "70 addresses"],
    },
    Breakage {
        name: "random samples",
        break_it: |bed| {
            let many: Vec<IpAddr> = (1..=40).map(|host| IpAddr::from([172, 20, 0, host])).collect();
            list(bed, &many, 1)?;
            bed.cluster.dns_servers().for_each(|server| server.set_fault(Fault::RandomSubset(8)));
            bed.node.signal_daemon(Signal::SIGSTOP)?;
            Ok(bed.far.signal_daemon(Signal::SIGSTOP)?)
        },
        mend_it: |bed| {
            no_faults(bed)?;
            list(bed, &all_addresses(bed), 1)?;
            for node in bed.cluster.nodes() {
                node.kill_daemon(Signal::SIGKILL)?;
                node.exec(["rm", "-f", "/var/lib/minionet/peers.json"])?;
                node.exec(["ip", "link", "del", "minionet"])?;
                node.start_daemon()?;
            }
            Ok(())
        },
        check: "dns-sampling",
        verdict: "warning",
        words: &["8 of", "returns all records"],
    },
    Breakage {
        name: "an answer that lives for an hour",
        break_it: |bed| list(bed, &all_addresses(bed), 3600),
        mend_it: |bed| list(bed, &all_addresses(bed), 1),
        check: "dns-ttl",
        verdict: "warning",
        words: &["TTL of 3600 s", "5 to 60 seconds"],
    },
    Breakage {
        name: "servers that disagree",
        break_it: |bed| first(bed, Fault::Partial(vec![ip("172.20.0.1")])),
        mend_it: no_faults,
        check: "dns-agreement",
        verdict: "warning",
        words: &["does not list 172.20.0.2"],
    },
    Breakage {
        name: "this node is not listed",
        break_it: |bed| Ok(bed.cluster.leave(0)?),
        mend_it: |bed| Ok(bed.cluster.join(0)?),
        check: "dns-self",
        verdict: "error",
        words: &["not this one (172.20.0.1)", "add 172.20.0.1 to minions.cncfdemo.k8s."],
    },
    Breakage {
        name: "two addresses of this node are listed",
        break_it: |bed| {
            bed.node.ip("addr add 172.20.0.77/24 dev eth0")?;
            list(bed, &[all_addresses(bed), vec![ip("172.20.0.77")]].concat(), 1)
        },
        mend_it: |bed| {
            list(bed, &all_addresses(bed), 1)?;
            Ok(bed.node.ip("addr del 172.20.0.77/24 dev eth0")?)
        },
        check: "address",
        verdict: "warning",
        words: &["DNS lists other addresses of this node too: 172.20.0.77", "one address of each node"],
    },
    Breakage {
        name: "a node outside of the plan",
        break_it: |bed| list(bed, &[all_addresses(bed), vec![ip("172.21.0.9")]].concat(), 1),
        mend_it: |bed| list(bed, &all_addresses(bed), 1),
        check: "members",
        verdict: "warning",
        words: &["172.21.0.9", "node_networks"],
    },
];
