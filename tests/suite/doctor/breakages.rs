//! What can be wrong on a node, each provoked for real on one cluster, and undone.

use std::net::IpAddr;

use anyhow::{Context, Result};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, Fault, Node, Pod, TcpAfterTruncation, eventually};
use nix::sys::signal::Signal;

use super::{PATIENT, expect_finding, wait_for_answers, wait_for_health};
use crate::overlay::{host_end, ip};

pub fn trials() -> Vec<Trial> {
    trials![
        every_breakage_is_named => [Need::Program("nft")],
        breakages_of_dns_are_named,
        breakages_of_other_programs_are_named => [Need::Program("nft"), Need::Program("busybox")],
    ]
}

/// A cluster of two, and a pod on the first node, which is examined.
struct Bed<'a> {
    cluster: &'a Cluster,
    node: &'a Node,
    far: &'a Node,
    pod: Pod,
}

/// A breakage: what is done, how it is undone, and what the doctor says.
struct Breakage {
    name: &'static str,
    break_it: fn(&Bed<'_>) -> Result<()>,
    mend_it: fn(&Bed<'_>) -> Result<()>,
    check: &'static str,
    verdict: &'static str,
    words: &'static [&'static str],
}

/// Breaks, expects, mends, for each; the node must be healthy after each.
fn run(breakages: &[Breakage]) -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).dns_servers(2).run(|cluster| {
        wait_for_answers(cluster)?;
        let (node, far) = (cluster.node(0), cluster.node(1));
        let bed = Bed { cluster, node, far, pod: node.add_pod("web")? };
        for breakage in breakages {
            let Breakage { name, break_it, mend_it, check, verdict, words } = breakage;
            break_it(&bed).with_context(|| format!("break: {name}"))?;
            eventually(name, PATIENT, || expect_finding(node, check, verdict, words))?;
            mend_it(&bed).with_context(|| format!("mend: {name}"))?;
            wait_for_health(node).with_context(|| format!("after: {name}"))?;
        }
        Ok(())
    })
}

/// Changes something while the daemon hangs, so that it does not repair it.
fn behind_its_back(bed: &Bed<'_>, lines: &str) -> Result<()> {
    bed.node.signal_daemon(Signal::SIGSTOP)?;
    Ok(bed.node.ip(lines)?)
}

fn wake(bed: &Bed<'_>) -> Result<()> {
    Ok(bed.node.signal_daemon(Signal::SIGCONT)?)
}

fn exec(bed: &Bed<'_>, line: &str) -> Result<()> {
    Ok(bed.node.exec(line.split_whitespace()).map(drop)?)
}

const CONFIG: &str = "/etc/minionet/minionet.toml";

const LOSS: &str = "table inet loss\ndelete table inet loss";

const BREAKAGES: &[Breakage] = &[
    Breakage {
        name: "a setting that does not exist",
        break_it: |bed| Ok(bed.node.write(CONFIG, "vmi = 5\n")?),
        mend_it: |bed| exec(bed, "rm /etc/minionet/minionet.toml"),
        check: "config",
        verdict: "error",
        words: &["minionet.toml:1", "vmi"],
    },
    Breakage {
        name: "a plan that cannot hold",
        break_it: |bed| Ok(bed.node.write(CONFIG, "node_networks = [\"172.20.0.0/16\"]\n")?),
        mend_it: |bed| exec(bed, "rm /etc/minionet/minionet.toml"),
        check: "config",
        verdict: "error",
        words: &["65536 addresses"],
    },
    Breakage {
        name: "an address of this host in the pod network",
        break_it: |bed| Ok(bed.node.ip("addr add 10.40.0.1/24 dev eth0")?),
        mend_it: |bed| Ok(bed.node.ip("addr del 10.40.0.1/24 dev eth0")?),
        check: "overlap",
        verdict: "warning",
        words: &["10.40.0.1/24 on eth0", "pod_network"],
    },
    Breakage {
        name: "an underlay MTU that the interface does not have",
        break_it: |bed| Ok(bed.node.write(CONFIG, "underlay_mtu = 9000\n")?),
        mend_it: |bed| exec(bed, "rm /etc/minionet/minionet.toml"),
        check: "underlay-mtu",
        verdict: "error",
        words: &["9000", "at most 1500"],
    },
    Breakage {
        name: "the device is down",
        break_it: |bed| behind_its_back(bed, "link set minionet down"),
        mend_it: wake,
        check: "device",
        verdict: "error",
        words: &["it is down"],
    },
    Breakage {
        name: "the device has another MAC",
        break_it: |bed| behind_its_back(bed, "link set minionet address 0e:6d:00:00:00:77"),
        mend_it: wake,
        check: "device",
        verdict: "error",
        words: &["MAC is 0e:6d:00:00:00:77 instead of 0e:6d:00:00:00:01"],
    },
    Breakage {
        name: "the device has another MTU",
        break_it: |bed| behind_its_back(bed, "link set minionet mtu 1400"),
        mend_it: wake,
        check: "device-mtu",
        verdict: "error",
        words: &["1400 instead of 1450"],
    },
    Breakage {
        name: "the device is gone",
        break_it: |bed| behind_its_back(bed, "link del minionet"),
        mend_it: wake,
        check: "device",
        verdict: "error",
        words: &["there is no device minionet"],
    },
    Breakage {
        name: "another device has our network identifier",
        break_it: |bed| {
            behind_its_back(
                bed,
                "link del minionet\nlink add rival type vxlan id 4097 dstport 4789 local 172.20.0.1",
            )
        },
        mend_it: |bed| {
            bed.node.ip("link del rival")?;
            wake(bed)
        },
        check: "vxlan-port",
        verdict: "error",
        words: &["rival", "ip link del rival"],
    },
    Breakage {
        name: "a neighbour is missing",
        break_it: |bed| behind_its_back(bed, "neigh del 10.32.2.1 dev minionet"),
        mend_it: wake,
        check: "peer-tables",
        verdict: "error",
        words: &["set the neighbour 10.32.2.1"],
    },
    Breakage {
        name: "a forwarding entry is missing",
        break_it: |bed| {
            bed.node.signal_daemon(Signal::SIGSTOP)?;
            exec(bed, "bridge fdb del 0e:6d:00:00:00:02 dev minionet")
        },
        mend_it: wake,
        check: "peer-tables",
        verdict: "error",
        words: &["set the forwarding entry 0e:6d:00:00:00:02 to 172.20.0.2"],
    },
    Breakage {
        name: "a route is missing",
        break_it: |bed| behind_its_back(bed, "route del 10.32.2.0/24 proto 109"),
        mend_it: wake,
        check: "peer-tables",
        verdict: "error",
        words: &["add the route 10.32.2.0/24"],
    },
    Breakage {
        name: "a rule leads packets to pods elsewhere",
        break_it: |bed| {
            Ok(bed.node.ip(
                "route add 10.32.2.0/24 via 172.20.0.254 table 99\nrule add to 10.32.2.0/24 table 99 pref 10",
            )?)
        },
        mend_it: |bed| Ok(bed.node.ip("rule del pref 10\nroute flush table 99")?),
        check: "peer-routes",
        verdict: "error",
        words: &["10.32.2.0/24 by eth0 instead of minionet"],
    },
    Breakage {
        name: "the table of rules is gone",
        break_it: |bed| {
            bed.node.signal_daemon(Signal::SIGSTOP)?;
            Ok(bed.node.nft("delete table inet minionet")?)
        },
        mend_it: wake,
        check: "nft-table",
        verdict: "error",
        words: &["missing", "systemctl restart minionetd"],
    },
    Breakage {
        name: "packets are not forwarded",
        break_it: |bed| {
            bed.node.signal_daemon(Signal::SIGSTOP)?;
            Ok(bed.node.sysctl([("net.ipv4.ip_forward", "0")])?)
        },
        mend_it: wake,
        check: "forwarding",
        verdict: "error",
        words: &["net.ipv4.ip_forward is 0", "sysctl -w net.ipv4.ip_forward=1"],
    },
    Breakage {
        name: "another program drops what is forwarded",
        break_it: |bed| {
            Ok(bed.node.nft("table ip filter {\nchain FORWARD {\ntype filter hook forward priority 0; policy drop;\n}\n}\n")?)
        },
        mend_it: |bed| Ok(bed.node.nft("delete table ip filter")?),
        check: "forward-policy",
        verdict: "warning",
        words: &["table ip filter, chain FORWARD", "accept"],
    },
    Breakage {
        name: "VXLAN is dropped on the way",
        break_it: |bed| {
            let rule = "table bridge loss {\nchain loss {\ntype filter hook forward priority -10;\nudp dport 4789 drop\n}\n}\n";
            Ok(bed.cluster.switch(0).namespace().nft(rule)?)
        },
        mend_it: |bed| Ok(bed.cluster.switch(0).namespace().nft("delete table bridge loss")?),
        check: "vxlan-filtered",
        verdict: "error",
        words: &["172.20.0.2", "open UDP port 4789 between all nodes"],
    },
    Breakage {
        name: "full packets are dropped on the way",
        break_it: |bed| {
            let rule = "table inet loss {\nchain loss {\ntype filter hook prerouting priority -450;\nudp dport 4789 meta length > 1400 drop\n}\n}\n";
            Ok(bed.far.nft(rule)?)
        },
        mend_it: |bed| Ok(bed.far.nft(LOSS)?),
        check: "path-mtu",
        verdict: "error",
        words: &["1450 octets do not pass", "underlay_mtu"],
    },
    Breakage {
        name: "a peer that is gone",
        break_it: |bed| Ok(bed.cluster.partition(&[&[0], &[1]])?),
        mend_it: |bed| Ok(bed.cluster.heal()?),
        check: "underlay",
        verdict: "error",
        words: &["172.20.0.2", "take it out of DNS"],
    },
    Breakage {
        name: "the daemon of a peer is dead",
        break_it: |bed| Ok(bed.far.kill_daemon(Signal::SIGKILL).map(drop)?),
        mend_it: |bed| Ok(bed.far.start_daemon()?),
        check: "underlay",
        verdict: "warning",
        words: &["the daemons of 1 of 1 peers", "systemctl status minionetd"],
    },
    Breakage {
        name: "the clock is behind",
        break_it: |bed| {
            bed.node.signal_daemon(Signal::SIGSTOP)?;
            let file = "/var/lib/minionet/peers.json";
            let mut peers: serde_json::Value = serde_json::from_str(&bed.node.read(file)?)?;
            peers["written"] = 4_000_000_000_u64.into();
            Ok(bed.node.write(file, peers.to_string())?)
        },
        mend_it: |bed| {
            bed.node.exec(["rm", "/var/lib/minionet/peers.json"])?;
            bed.node.kill_daemon(Signal::SIGKILL)?;
            Ok(bed.node.start_daemon()?)
        },
        check: "clock",
        verdict: "warning",
        words: &["in the future", "NTP"],
    },
    Breakage {
        name: "the daemon does not run",
        break_it: |bed| Ok(bed.node.kill_daemon(Signal::SIGKILL).map(drop)?),
        mend_it: |bed| Ok(bed.node.start_daemon()?),
        check: "daemon",
        verdict: "error",
        words: &["does not run", "systemctl restart minionetd"],
    },
    Breakage {
        name: "another network comes first",
        break_it: |bed| {
            let flannel = r#"{"cniVersion": "1.0.0", "name": "cbr0", "plugins": [{"type": "flannel"}]}"#;
            Ok(bed.node.write("/etc/cni/net.d/05-flannel.conflist", flannel)?)
        },
        mend_it: |bed| exec(bed, "rm /etc/cni/net.d/05-flannel.conflist"),
        check: "cni-config",
        verdict: "error",
        words: &["takes 05-flannel.conflist", "rm /etc/cni/net.d/05-flannel.conflist"],
    },
    Breakage {
        name: "a configuration that is no JSON",
        break_it: |bed| Ok(bed.node.write("/etc/cni/net.d/99-broken.conf", "{")?),
        mend_it: |bed| exec(bed, "rm /etc/cni/net.d/99-broken.conf"),
        check: "cni-config",
        verdict: "warning",
        words: &["99-broken.conf", "remove or mend it"],
    },
    Breakage {
        name: "our configuration is gone",
        break_it: |bed| {
            bed.node.signal_daemon(Signal::SIGSTOP)?;
            exec(bed, "rm /etc/cni/net.d/10-minionet.conflist")
        },
        mend_it: wake,
        check: "cni-config",
        verdict: "error",
        words: &["no configuration in /etc/cni/net.d has the plugin minionet"],
    },
    Breakage {
        name: "the route to a pod is gone",
        break_it: |bed| Ok(bed.node.ip(&format!("route del {} proto 110", bed.pod.address()))?),
        mend_it: |bed| {
            Ok(bed.node.ip(&format!(
                "route add {} dev {} proto 110",
                bed.pod.address(),
                host_end(&bed.pod)?
            ))?)
        },
        check: "leases",
        verdict: "error",
        words: &["no route leads to pods of this node: 10.32.1.2"],
    },
];

fn every_breakage_is_named() -> Result<()> {
    run(BREAKAGES)
}

/// All DNS servers do something.
fn servers(bed: &Bed<'_>, fault: impl Fn() -> Option<Fault>) {
    bed.cluster.dns_servers().for_each(|server| server.set_fault(fault()));
}

fn all_addresses(bed: &Bed<'_>) -> Vec<IpAddr> {
    bed.cluster.nodes().iter().map(|node| node.address()).collect()
}

const DNS: &[Breakage] = &[
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
        break_it: |bed| {
            bed.cluster.dns().set_fault(Fault::NxDomain);
            Ok(())
        },
        mend_it: |bed| {
            servers(bed, || None);
            Ok(())
        },
        check: "dns-udp",
        verdict: "error",
        words: &["no such name", "add the addresses of all nodes"],
    },
    Breakage {
        name: "a server that is silent",
        break_it: |bed| {
            bed.cluster.dns().set_fault(Fault::Timeout);
            Ok(())
        },
        mend_it: |bed| {
            servers(bed, || None);
            Ok(())
        },
        check: "dns-udp",
        verdict: "error",
        words: &["172.20.0.253:53", "UDP port 53"],
    },
    Breakage {
        name: "truncation, and no TCP",
        break_it: |bed| {
            bed.cluster.dns().set_fault(Fault::Truncated(TcpAfterTruncation::Closed));
            Ok(())
        },
        mend_it: |bed| {
            servers(bed, || None);
            Ok(())
        },
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
            for server in bed.cluster.dns_servers() {
                server.set(&bed.cluster.dns_name(), &many, 1)?;
            }
            servers(bed, || Some(Fault::RandomSubset(8)));
            bed.node.signal_daemon(Signal::SIGSTOP)?;
            Ok(bed.far.signal_daemon(Signal::SIGSTOP)?)
        },
        mend_it: |bed| {
            servers(bed, || None);
            for server in bed.cluster.dns_servers() {
                server.set(&bed.cluster.dns_name(), &all_addresses(bed), 1)?;
            }
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
        break_it: |bed| {
            let addresses = all_addresses(bed);
            bed.cluster
                .dns_servers()
                .try_for_each(|s| Ok(s.set(&bed.cluster.dns_name(), &addresses, 3600)?))
        },
        mend_it: |bed| {
            let addresses = all_addresses(bed);
            bed.cluster.dns_servers().try_for_each(|s| Ok(s.set(&bed.cluster.dns_name(), &addresses, 1)?))
        },
        check: "dns-ttl",
        verdict: "warning",
        words: &["TTL of 3600 s", "5 to 60 seconds"],
    },
    Breakage {
        name: "servers that disagree",
        break_it: |bed| {
            bed.cluster.dns().set_fault(Fault::Partial(vec![ip("172.20.0.1")]));
            Ok(())
        },
        mend_it: |bed| {
            servers(bed, || None);
            Ok(())
        },
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
        name: "a node outside of the plan",
        break_it: |bed| {
            bed.cluster
                .dns_servers()
                .try_for_each(|s| Ok(s.add(&bed.cluster.dns_name(), &[ip("172.21.0.9")])?))
        },
        mend_it: |bed| {
            bed.cluster
                .dns_servers()
                .try_for_each(|s| Ok(s.remove(&bed.cluster.dns_name(), &[ip("172.21.0.9")])?))
        },
        check: "members",
        verdict: "warning",
        words: &["172.21.0.9", "node_networks"],
    },
];

fn breakages_of_dns_are_named() -> Result<()> {
    run(DNS)
}

const OTHERS: &[Breakage] = &[
    Breakage {
        name: "systemd-networkd removes routes",
        break_it: |bed| exec(bed, "mkdir -p /run/systemd/netif/links"),
        mend_it: |bed| exec(bed, "rm -r /run/systemd/netif"),
        check: "networkd",
        verdict: "warning",
        words: &["removes routes that it did not make", "ManageForeignRoutes=no"],
    },
    Breakage {
        name: "systemd-networkd manages our interfaces",
        break_it: |bed| {
            bed.node
                .write("/etc/systemd/networkd.conf.d/minionet.conf", "[Network]\nManageForeignRoutes=no\n")?;
            exec(bed, "mkdir -p /run/systemd/netif/links")
        },
        mend_it: |bed| {
            // With the files that the remedy names, it is no matter that it runs.
            let network = "[Match]\nName=minionet mnet*\n[Link]\nUnmanaged=yes\n";
            bed.node.write("/etc/systemd/network/05-minionet.network", network)?;
            Ok(())
        },
        check: "networkd",
        verdict: "warning",
        words: &["leave minionet and mnet* alone", "Unmanaged=yes"],
    },
    Breakage {
        name: "NetworkManager manages our interfaces",
        break_it: |bed| exec(bed, "mkdir -p /run/NetworkManager/devices"),
        mend_it: |bed| {
            let keyfile = "[keyfile]\nunmanaged-devices=interface-name:minionet;interface-name:mnet*\n";
            Ok(bed.node.write("/etc/NetworkManager/conf.d/minionet.conf", keyfile)?)
        },
        check: "network-manager",
        verdict: "warning",
        words: &["leave minionet alone", "unmanaged-devices"],
    },
    Breakage {
        name: "firewalld knows nothing of us",
        break_it: |bed| Ok(bed.node.nft("table inet firewalld {\n}\n")?),
        mend_it: |bed| {
            let zone = "<zone><interface name=\"minionet\"/><port port=\"4789\" protocol=\"udp\"/></zone>";
            Ok(bed.node.write("/etc/firewalld/zones/trusted.xml", zone)?)
        },
        check: "firewalld",
        verdict: "warning",
        words: &["do not name minionet", "firewall-cmd"],
    },
    Breakage {
        name: "kube-proxy has another cluster CIDR",
        break_it: |bed| {
            Ok(bed.node.write("/var/lib/kube-proxy/config.conf", "clusterCIDR: 10.244.0.0/16\n")?)
        },
        mend_it: |bed| {
            Ok(bed.node.write("/var/lib/kube-proxy/config.conf", "clusterCIDR: 10.32.0.0/12\n")?)
        },
        check: "kube-proxy",
        verdict: "warning",
        words: &["10.244.0.0/16", "set its cluster CIDR to 10.32.0.0/12"],
    },
    Breakage {
        name: "kubelet has another pod CIDR",
        break_it: |bed| Ok(bed.node.write("/var/lib/kubelet/config.yaml", "podCIDR: \"10.88.0.0/24\"\n")?),
        mend_it: |bed| Ok(bed.node.write("/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\n")?),
        check: "kubelet",
        verdict: "warning",
        words: &["10.88.0.0/24", "10.32.1.0/24"],
    },
    Breakage {
        name: "kubelet gives the node another address",
        break_it: |bed| {
            // A shell under this name, which waits for a word; what counts is its command line.
            let script = "cp /bin/sh /run/kubelet && mkfifo /run/end && \
                          /run/kubelet -c 'read word < /run/end' --node-ip=10.9.9.9 >/dev/null 2>&1 &";
            Ok(bed.node.exec(["sh", "-c", script]).map(drop)?)
        },
        mend_it: |bed| Ok(bed.node.exec(["sh", "-c", "echo end > /run/end"]).map(drop)?),
        check: "kubelet",
        verdict: "warning",
        words: &["it says that this node is 10.9.9.9", "--node-ip=172.20.0.1"],
    },
    Breakage {
        name: "another program has the port",
        break_it: |bed| {
            behind_its_back(bed, "link del minionet")?;
            let script = "busybox nc -l -u -p 4789 >/dev/null 2>&1 </dev/null & echo $! > /run/holder";
            Ok(bed.node.exec(["sh", "-c", script]).map(drop)?)
        },
        mend_it: |bed| {
            bed.node.exec(["sh", "-c", "kill $(cat /run/holder)"])?;
            wake(bed)
        },
        check: "vxlan-port",
        verdict: "error",
        words: &["has UDP port 4789", "stop that program"],
    },
    Breakage {
        name: "a lease without a record",
        break_it: |bed| {
            bed.node.signal_daemon(Signal::SIGSTOP)?;
            let id = "0123456789abcdef0123456789abcdef";
            exec(bed, &format!("ln -s {id} /run/minionet/leases/10.32.1.77"))
        },
        mend_it: |bed| {
            exec(bed, "rm /run/minionet/leases/10.32.1.77")?;
            wake(bed)
        },
        check: "leases",
        verdict: "warning",
        words: &["10.32.1.77"],
    },
    Breakage {
        name: "a link without a record",
        break_it: |bed| Ok(bed.node.ip("link add mnetffffffffff type veth peer name other")?),
        mend_it: |bed| Ok(bed.node.ip("link del mnetffffffffff")?),
        check: "leases",
        verdict: "warning",
        words: &["links of pods without a record: mnetffffffffff"],
    },
    Breakage {
        name: "the filter of sources is strict, and peers are not encapsulated",
        break_it: |bed| {
            bed.node.signal_daemon(Signal::SIGSTOP)?;
            bed.node.sysctl([("net.ipv4.conf.eth0.rp_filter", "1"), ("net.ipv4.conf.all.rp_filter", "1")])?;
            Ok(bed.node.write(CONFIG, "encapsulation = \"cross-subnet\"\n")?)
        },
        mend_it: |bed| {
            bed.node.exec(["rm", CONFIG])?;
            wake(bed)
        },
        check: "rp-filter",
        verdict: "warning",
        words: &["strict on eth0", "sysctl -w net.ipv4.conf.eth0.rp_filter=2"],
    },
    Breakage {
        name: "all addresses are taken",
        break_it: |bed| {
            let script = "for i in $(busybox seq 3 254); do [ -L /run/minionet/leases/10.32.1.$i ] || ln -s hand \
                          /run/minionet/leases/10.32.1.$i; done";
            Ok(bed.node.exec(["busybox", "sh", "-c", script]).map(drop)?)
        },
        mend_it: |bed| {
            let script = "for i in /run/minionet/leases/*; do [ \"$(busybox readlink $i)\" != hand ] || busybox rm $i; done";
            Ok(bed.node.exec(["busybox", "sh", "-c", script]).map(drop)?)
        },
        check: "capacity",
        verdict: "error",
        words: &["no pod can be started", "node_prefix"],
    },
];

fn breakages_of_other_programs_are_named() -> Result<()> {
    run(OTHERS)
}
