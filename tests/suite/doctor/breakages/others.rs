//! Other programs of the host, and the state of pods.

use nix::sys::signal::Signal;

use super::{Breakage, CONFIG, behind_its_back, exec, wake};

pub const BREAKAGES: &[Breakage] = &[
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
            let bind = "socket(S, PF_INET, SOCK_DGRAM, 0); bind(S, sockaddr_in(4789, INADDR_ANY)); sleep 600";
            let script = format!("perl -MSocket -e '{bind}' >/dev/null 2>&1 & echo $! > /run/holder");
            Ok(bed.node.exec(["sh", "-c", &script]).map(drop)?)
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
