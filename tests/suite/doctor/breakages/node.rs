//! Settings, device, tables, rules and ways of a node.

use nix::sys::signal::Signal;

use super::{Breakage, CONFIG, LOSS, behind_its_back, exec, wake};
use crate::overlay::host_end;

pub const BREAKAGES: &[Breakage] = &[
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
        name: "an interface that is bridged through iptables",
        break_it: |bed| {
            bed.node.ip("link add br0 type bridge\nlink set br0 up\nlink set eth0 master br0\n\
                         addr del 172.20.0.1/24 dev eth0\naddr add 172.20.0.1/24 dev br0\n\
                         route add default via 172.20.0.254 dev br0\n")?;
            Ok(bed.node.sysctl([("net.bridge.bridge-nf-call-iptables", "1")])?)
        },
        mend_it: |bed| {
            bed.node.sysctl([("net.bridge.bridge-nf-call-iptables", "0")])?;
            Ok(bed.node.ip("link del br0\naddr add 172.20.0.1/24 dev eth0\n\
                            route add default via 172.20.0.254 dev eth0\n")?)
        },
        check: "bridge-netfilter",
        verdict: "note",
        words: &["frames of br0 go through iptables"],
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
        words: &["1 of 1 peer has a daemon that does not answer", "systemctl status minionetd"],
    },
    Breakage {
        name: "a peer that is silent through the tunnel",
        break_it: |bed| Ok(bed.far.signal_daemon(Signal::SIGSTOP)?),
        mend_it: |bed| Ok(bed.far.signal_daemon(Signal::SIGCONT)?),
        check: "tunnel",
        verdict: "warning",
        words: &[
            "1 of 1 peer does not answer through the tunnel: 172.20.0.2",
            "the daemons there have to run",
        ],
    },
    Breakage {
        name: "a peer with another plan",
        break_it: |bed| {
            bed.far.write(CONFIG, "node_networks = [\"172.20.0.0/24\", \"172.21.0.0/24\"]\n")?;
            Ok(bed.far.signal_daemon(Signal::SIGHUP)?)
        },
        mend_it: |bed| {
            bed.far.exec(["rm", CONFIG])?;
            Ok(bed.far.signal_daemon(Signal::SIGHUP)?)
        },
        check: "plans",
        verdict: "error",
        words: &["172.20.0.2 has another plan", "the same node_networks"],
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
