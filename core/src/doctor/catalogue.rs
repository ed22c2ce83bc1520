//! The list of all checks, as the documentation has it.

/// A check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its id, which never changes.
    pub id: &'static str,
    /// What it looks at.
    pub looks_at: &'static str,
    /// What to do in general; the finding itself says it more exactly.
    pub remedy: &'static str,
}

const fn check(id: &'static str, looks_at: &'static str, remedy: &'static str) -> Check {
    Check { id, looks_at, remedy }
}

/// Every check, in the order of the report: causes before their effects.
pub const CHECKS: &[Check] = &[
    check(
        "config",
        "flags, environment and file: whether the settings can be used",
        "correct the setting that is named",
    ),
    check(
        "capacity",
        "how many addresses are left for pods of this node",
        "choose larger blocks (`node_prefix`), or spread the pods",
    ),
    check(
        "overlap",
        "whether the pod network overlaps an address of this host",
        "choose another `pod_network`, the same on every node",
    ),
    check(
        "daemon",
        "whether `minionetd` runs, speaks, and what it complains about",
        "`systemctl start minionetd`; `journalctl -u minionetd`",
    ),
    check(
        "clock",
        "whether the clock is behind what was written earlier",
        "set the clock; run an NTP client",
    ),
    check(
        "resolvers",
        "whether any DNS server is named",
        "name one in `/etc/resolv.conf`, or set `resolvers`",
    ),
    check(
        "dns-udp",
        "every name at every resolver over UDP",
        "see the failure: the server, its zone, or the way to it",
    ),
    check("dns-tcp", "the same over TCP, to which large answers fall back", "open TCP port 53 to the server"),
    check(
        "dns-truncation",
        "whether answers are too large for UDP",
        "make TCP work, or split the nodes over several roles",
    ),
    check("dns-ttl", "how long caches may keep an answer", "give the records a TTL of 5 to 60 seconds"),
    check("dns-agreement", "whether all resolvers list the same nodes", "find out which one is behind"),
    check(
        "dns-sampling",
        "whether answers are random samples of the records",
        "use a server that returns all records",
    ),
    check("dns-self", "whether DNS lists this node", "add its address to the name"),
    check(
        "registration",
        "whether this node keeps its own record in DNS, where it is to",
        "see the failure: the key, the server, or its policy",
    ),
    check(
        "members",
        "whether DNS lists addresses without a place in the plan, or others than the peers",
        "append their network to `node_networks`, or take them out of DNS",
    ),
    check(
        "address",
        "the node's own address, and the interface that has it",
        "see the finding; `node_ip` and `interface` decide",
    ),
    check(
        "underlay-mtu",
        "the MTU of the underlay against that of the interface",
        "set `underlay_mtu` to what the network carries",
    ),
    check(
        "vxlan-port",
        "who has the UDP port of VXLAN, and other devices with our VNI",
        "stop the other program, or set `port` or `vni` on every node",
    ),
    check("device", "the device `minionet`: VNI, port, address, MAC, up", "`systemctl restart minionetd`"),
    check("device-mtu", "the MTU of the device against the plan", "`systemctl restart minionetd`"),
    check(
        "peer-tables",
        "neighbour, forwarding entry and route of every peer",
        "`systemctl restart minionetd`; remove what is in the way",
    ),
    check(
        "peer-routes",
        "by which device packets to every peer's pods really leave",
        "remove the route or rule that leads elsewhere",
    ),
    check("nft-table", "the nft table `inet minionet`", "`systemctl restart minionetd`"),
    check(
        "underlay",
        "whether peers answer on the underlay",
        "start the node, or take it out of DNS; mend the network",
    ),
    check(
        "vxlan-filtered",
        "whether VXLAN alone is dropped between nodes",
        "open the UDP port of VXLAN between all nodes",
    ),
    check("tunnel", "whether peers answer through the tunnel", "`minionetd trace` names the hop"),
    check(
        "path-mtu",
        "whether the full size passes through the tunnel",
        "raise the MTU on the way, or set `underlay_mtu` lower",
    ),
    check("plans", "whether peers have the same plan and version", "give every node the same settings"),
    check(
        "forwarding",
        "whether the kernel forwards",
        "`sysctl -w net.ipv4.ip_forward=1`, and find what resets it",
    ),
    check(
        "rp-filter",
        "whether the filter of sources drops pods' packets",
        "set `rp_filter` to 2 on the interface",
    ),
    check(
        "bridge-netfilter",
        "whether bridged underlay packets go through iptables",
        "`sysctl -w net.bridge.bridge-nf-call-iptables=0`, or accept them",
    ),
    check(
        "forward-policy",
        "chains of nft and both iptables that drop what is forwarded",
        "accept the pod network there",
    ),
    check(
        "networkd",
        "whether systemd-networkd removes our routes",
        "`ManageForeignRoutes=no`, and `Unmanaged=yes` for our interfaces",
    ),
    check(
        "network-manager",
        "whether NetworkManager manages our interfaces",
        "`unmanaged-devices` for our interfaces",
    ),
    check(
        "firewalld",
        "whether firewalld lets pods and VXLAN pass",
        "trusted zone for `minionet`, and the UDP port",
    ),
    check(
        "cni-config",
        "`/etc/cni/net.d`: ours, others, and the order of file names",
        "remove the configurations of other networks",
    ),
    check(
        "cni-plugin",
        "the plugin: present, executable, static, of this version",
        "install `minionet` of the same version",
    ),
    check(
        "leases",
        "records, addresses and links of pods against each other",
        "wait for the collector, or restart the pod",
    ),
    check(
        "kube-proxy",
        "kube-proxy's cluster CIDR against the pod network",
        "give kube-proxy the pod network, or none",
    ),
    check(
        "kubelet",
        "kubelet's pod CIDR and address against ours",
        "leave them out, or set them as `minionetd plan` prints",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_exactly_these_checks() {
        let text = include_str!("../../../docs/troubleshooting.md");
        let section =
            text.split("### All checks").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
        let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
        let row = |c: &Check| format!("| `{}` | {} | {} |", c.id, c.looks_at, c.remedy);
        let wanted: Vec<String> = CHECKS.iter().map(row).collect();
        assert_eq!(rows, wanted);
    }

    #[test]
    fn every_check_that_a_symptom_names_exists() {
        let text = include_str!("../../../docs/troubleshooting.md");
        let section = text.split("## By symptom").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
        let lists =
            section.lines().filter_map(|line| line.split("`minionetd doctor`").nth(1)?.split('|').next());
        let named: Vec<&str> = lists.flat_map(|list| list.split('`').skip(1).step_by(2)).collect();
        assert!(named.len() > 20, "{named:?}");
        for name in named.iter().filter(|name| !name.starts_with("minionetd")) {
            assert!(CHECKS.iter().any(|check| check.id == *name), "{name}");
        }
    }
}
