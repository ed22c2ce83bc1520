//! Two nodes on one cable, joined in one of several ways, with an end for traffic on each.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use netns_testbed::{CNI_CONFIG, DOMAIN, DnsServer, Host, Namespace};
use serde_json::json;

use crate::measure::{time, until};
use crate::programs::Programs;
use crate::subjects::address;

/// How the nodes are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// minionet as it is by default.
    Minionet,
    /// minionet without encapsulation.
    MinionetPlain,
    /// A bridge on each node and VXLAN between them, with the rules of flannel.
    Bridge,
    /// Routed pods and VXLAN, without any rules.
    Routed,
    /// The same on nodes that track connections, as all do that kube-proxy runs on.
    RoutedTracked,
    /// The same with as little as guards what pods send and who speaks on the overlay.
    RoutedGuarded,
    /// Routed pods without VXLAN and without any rules.
    Direct,
    /// The same on nodes that track connections.
    DirectTracked,
    /// The same with as little as guards what pods send.
    DirectGuarded,
    /// The nodes themselves, without pods.
    Nodes,
}

impl Shape {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Minionet => "minionet",
            Shape::MinionetPlain => "minionet, no encapsulation",
            Shape::Bridge => "bridge + VXLAN",
            Shape::Routed => "routed + VXLAN",
            Shape::RoutedTracked => "routed + VXLAN + connection tracking",
            Shape::RoutedGuarded => "routed + VXLAN + connection tracking + least guard",
            Shape::Direct => "routed",
            Shape::DirectTracked => "routed + connection tracking",
            Shape::DirectGuarded => "routed + connection tracking + least guard",
            Shape::Nodes => "node to node",
        }
    }
}

/// The pair.
pub struct Pair {
    /// Where traffic begins and where it ends.
    pub ends: [Namespace; 2],
    /// The address of the second end.
    pub target: IpAddr,
    /// The nodes.
    pub hosts: [Host; 2],
    children: Vec<Child>,
    _dns: Option<DnsServer>,
}

impl Pair {
    /// Makes the nodes, the cable, and what joins the pods.
    pub fn new(shape: Shape, programs: &Programs) -> Result<Self> {
        let hosts = [Host::new("near")?, Host::new("far")?];
        let far = format!("/proc/{}/fd/{}", std::process::id(), hosts[1].net_fd().as_raw_fd());
        hosts[0].ip(&format!("link add eth0 mtu 1500 type veth peer name eth0 mtu 1500 netns {far}"))?;
        for (k, host) in (1..).zip(&hosts) {
            host.ip(&format!("addr add 172.20.0.{k}/24 dev eth0\nlink set eth0 up"))?;
            host.forward()?;
        }
        let ends = hosts.each_ref().map(|host| host.namespace().clone());
        let target = Ipv4Addr::new(172, 20, 0, 2).into();
        let mut pair = Pair { ends, target, hosts, children: Vec::new(), _dns: None };
        match shape {
            Shape::Nodes => {}
            Shape::Minionet => pair.minionet(programs, "")?,
            Shape::MinionetPlain => pair.minionet(programs, "encapsulation = \"never\"")?,
            Shape::Bridge => pair.by_hand("10.244", bridge)?,
            Shape::Routed => pair.by_hand("10.32", routed)?,
            Shape::RoutedTracked => pair.by_hand("10.32", |k, other, pod| tracked(routed(k, other, pod)))?,
            Shape::RoutedGuarded => pair.by_hand("10.32", |k, other, pod| guarded(routed(k, other, pod)))?,
            Shape::Direct => pair.by_hand("10.32", direct)?,
            Shape::DirectTracked => pair.by_hand("10.32", |k, other, pod| tracked(direct(k, other, pod)))?,
            Shape::DirectGuarded => pair.by_hand("10.32", |k, other, pod| guarded(direct(k, other, pod)))?,
        }
        Ok(pair)
    }

    /// Starts a program that lives as long as the pair, in one of the ends.
    pub fn serve(&mut self, end: usize, words: &[&str]) -> Result<()> {
        let mut command = self.ends[end].command(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.children.push(self.ends[end].spawn(command)?);
        Ok(())
    }

    fn minionet(&mut self, programs: &Programs, config: &str) -> Result<()> {
        let dns = DnsServer::start(&self.hosts[0])?;
        let nodes = [1, 2].map(|k| IpAddr::from([172, 20, 0, k]));
        dns.set(&format!("minions.bench.{DOMAIN}"), &nodes, 5)?;
        for host in &self.hosts {
            host.write("/etc/resolv.conf", "nameserver 172.20.0.1\n")?;
            host.write("/etc/minionet/minionet.toml", config)?;
            let mut command = host.command(programs.path("minionetd"));
            command.arg("run").env_clear().env("CLUSTER_NAME", "bench");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            self.children.push(host.spawn(command)?);
        }
        self._dns = Some(dns);
        let mut addresses = Vec::new();
        for (end, host) in self.ends.iter_mut().zip(&self.hosts) {
            until("a node to be ready", Duration::from_secs(20), || Ok(host.exists(CNI_CONFIG)?))?;
            *end = host.pod("pod")?;
            let mut command = Command::new(programs.path("minionet"));
            command.env_clear().envs([
                ("CNI_COMMAND", "ADD"),
                ("CNI_CONTAINERID", "bench"),
                ("CNI_NETNS", &Namespace::netns_path("pod")),
                ("CNI_IFNAME", "eth0"),
                ("CNI_PATH", "/"),
            ]);
            let conf = json!({"cniVersion": "1.0.0", "name": "bench", "type": "minionet"}).to_string();
            addresses.push(address(&time(host, command, conf.as_bytes())?.1.stdout)?);
        }
        self.target = addresses[1];
        let (near, target) = (self.ends[0].clone(), self.target);
        until("the pods to reach each other", Duration::from_secs(20), || {
            Ok(netns_testbed::traffic::Ping::to(target).send(&near, Duration::from_millis(200)).is_ok())
        })
    }

    fn by_hand(&mut self, prefix: &str, lines: fn(usize, usize, &str) -> Lines) -> Result<()> {
        for (k, other) in [(1, 2), (2, 1)] {
            let host = &self.hosts[k - 1];
            let end = host.pod("pod")?;
            let pod = format!("/proc/{}/fd/{}", std::process::id(), end.net_fd().as_raw_fd());
            let lines = lines(k, other, &pod);
            host.ip(&lines.host)?;
            host.exec_with_input(["bridge", "-batch", "-"], lines.fdb.as_bytes())?;
            end.ip(&lines.pod)?;
            if !lines.nft.is_empty() {
                host.nft(&lines.nft)?;
            }
            self.ends[k - 1] = end;
        }
        self.target = format!("{prefix}.2.5").parse()?;
        Ok(())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended already; then there is only the status to collect.
            let _ended = child.kill();
            let _collected = child.wait();
        }
    }
}

/// What is given to iproute2 and nft.
struct Lines {
    host: String,
    fdb: String,
    pod: String,
    nft: String,
}

/// The shape that flannel and the bridge plugin make (flannel 0.28: pkg/backend/vxlan, and
/// pkg/trafficmngr/nftables for the rules).
fn bridge(k: usize, other: usize, pod: &str) -> Lines {
    let host = format!(
        "link add flannel.1 address 0e:f1:00:00:00:0{k} mtu 1450 type vxlan id 1 dstport 8472 local 172.20.0.{k} dev eth0 nolearning\n\
         addr add 10.244.{k}.0/32 dev flannel.1\n\
         link set flannel.1 up\n\
         neigh add 10.244.{other}.0 lladdr 0e:f1:00:00:00:0{other} dev flannel.1 nud permanent\n\
         route add 10.244.{other}.0/24 via 10.244.{other}.0 dev flannel.1 onlink\n\
         link add cni0 mtu 1450 type bridge\n\
         addr add 10.244.{k}.1/24 dev cni0\n\
         link set cni0 up\n\
         link add veth0 mtu 1450 type veth peer name eth0 mtu 1450 netns {pod}\n\
         link set veth0 master cni0 up\n"
    );
    let fdb = format!(
        "fdb add 0e:f1:00:00:00:0{other} dev flannel.1 dst 172.20.0.{other} self permanent\nlink set dev veth0 hairpin on\n"
    );
    let pod =
        format!("addr add 10.244.{k}.5/24 dev eth0\nlink set eth0 up\nroute add default via 10.244.{k}.1\n");
    let (own, all) = (format!("10.244.{k}.0/24"), "10.244.0.0/16");
    let nft = format!(
        "table ip flannel-ipv4 {{\n\
           chain postrtg {{\n\
             type nat hook postrouting priority srcnat;\n\
             meta mark 0x4000 return\n\
             ip saddr {own} ip daddr {all} return\n\
             ip saddr {all} ip daddr {own} return\n\
             ip saddr != {own} ip daddr {own} return\n\
             ip saddr {all} ip daddr != 224.0.0.0/4 masquerade fully-random\n\
             ip saddr != {all} ip daddr {all} masquerade fully-random\n\
           }}\n\
           chain forward {{\n\
             type filter hook forward priority filter;\n\
             ip saddr {all} accept\n\
             ip daddr {all} accept\n\
           }}\n\
         }}\n"
    );
    Lines { host, fdb, pod, nft }
}

/// What minionet makes, without its rules.
fn routed(k: usize, other: usize, pod: &str) -> Lines {
    let vxlan = format!(
        "link add vx address 0e:6d:00:00:00:0{k} mtu 1450 type vxlan id 4097 dstport 4789 local 172.20.0.{k} nolearning\n\
         link set vx addrgenmode none\n\
         addr add 10.32.{k}.1/32 dev vx\n\
         link set vx up\n\
         neigh add 10.32.{other}.1 lladdr 0e:6d:00:00:00:0{other} dev vx nud permanent\n\
         route add 10.32.{other}.0/24 via 10.32.{other}.1 dev vx onlink\n"
    );
    let fdb = format!("fdb add 0e:6d:00:00:00:0{other} dev vx dst 172.20.0.{other} self permanent\n");
    let pod = routed_pod(k, 1450, pod);
    Lines { host: vxlan + &pod.host, fdb, ..pod }
}

/// What minionet makes in the mode without encapsulation, without its rules.
fn direct(k: usize, other: usize, pod: &str) -> Lines {
    let pod = routed_pod(k, 1500, pod);
    Lines { host: format!("route add 10.32.{other}.0/24 via 172.20.0.{other}\n{}", pod.host), ..pod }
}

/// A pod that is routed, on its own.
fn routed_pod(k: usize, mtu: u32, pod: &str) -> Lines {
    let (outer, inner) = (format!("0e:aa:00:00:00:0{k}"), format!("0e:bb:00:00:00:0{k}"));
    let host = format!(
        "link add veth0 address {outer} mtu {mtu} type veth peer name eth0 address {inner} mtu {mtu} netns {pod}\n\
         link set veth0 up\n\
         neigh add 10.32.{k}.5 lladdr {inner} dev veth0 nud permanent\n\
         route add 10.32.{k}.5/32 dev veth0 scope link\n"
    );
    let pod = format!(
        "addr add 10.32.{k}.5/32 dev eth0\nlink set eth0 up\nneigh add 10.32.{k}.1 lladdr {outer} dev eth0 nud permanent\n\
         route add 10.32.{k}.1 dev eth0 scope link\nroute add default via 10.32.{k}.1\n"
    );
    Lines { host, fdb: String::new(), pod, nft: String::new() }
}

/// One rule that could masquerade and never does, as kube-proxy has it.
pub const MASQUERADING: &str = "table ip kube-proxy {\n\
         chain prerouting { type nat hook prerouting priority -100; }\n\
         chain output { type nat hook output priority -100; }\n\
         chain postrouting { type nat hook postrouting priority 100;\n\
           meta mark & 0x4000 == 0x4000 masquerade\n\
         }\n\
       }\n";

/// With the least of what kube-proxy brings to every node: one rule that can masquerade makes the
/// kernel track every connection (`nft_masq_init` calls `nf_ct_netns_get`, net/netfilter/nft_masq.c;
/// chains of the type nat alone do not). Nothing carries the mark, so nothing is translated, and
/// the chains are asked about the first packet of a connection only.
fn tracked(lines: Lines) -> Lines {
    Lines { nft: MASQUERADING.into(), ..lines }
}

/// The least guard that names no single pod: one rule for what pods send, which knows their interfaces
/// by a group, as nothing that tells them from others was found to cost less, and one for who speaks on
/// the overlay. Neither counts, and VXLAN that pods send is not looked for.
const LEAST_GUARD: &str = "table inet guard {\n\
         set members { type ipv4_addr; elements = { 172.20.0.1, 172.20.0.2 }; }\n\
         chain pods { type filter hook prerouting priority raw;\n\
           meta iifgroup 7 fib saddr . iif oif missing drop\n\
         }\n\
         chain overlay { type filter hook input priority filter;\n\
           th dport 4789 ip saddr != @members meta l4proto udp drop\n\
         }\n\
       }\n";

/// On nodes that track connections, with the least guard.
fn guarded(lines: Lines) -> Lines {
    let host = format!("{}link set veth0 group 7\n", lines.host);
    Lines { host, nft: format!("{MASQUERADING}{LEAST_GUARD}"), ..lines }
}
