//! Whole clusters: switches, a router, DNS servers, minions and a host outside.

mod builder;
mod dump;
mod segment;

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;

pub use self::builder::ClusterBuilder;
use self::segment::Segment;
use crate::dns::{DOMAIN, DnsServer};
use crate::error::Result;
use crate::eventually::eventually;
use crate::host::Host;
use crate::node::Node;
use crate::switch::{Link, Switch};

/// How long a node may take from the start of its daemon until it is ready for pods.
const READY: Duration = Duration::from_secs(60);
/// The interface of every host on its first switch.
pub(crate) const NIC: &str = "eth0";

/// A running cluster. Everything in it ends when it is dropped.
///
/// When a test panics while it holds a cluster, the state of every node is printed to standard
/// error; [`ClusterBuilder::run`] does the same for errors.
pub struct Cluster {
    builder: ClusterBuilder,
    segments: Vec<(Segment, Switch)>,
    nodes: Vec<Node>,
    dns: Vec<(Host, DnsServer)>,
    router: Host,
    external: Host,
}

impl Cluster {
    /// Starts to describe a cluster of a name.
    pub fn builder(name: &str) -> ClusterBuilder {
        ClusterBuilder::new(name)
    }

    /// The name under which the nodes find each other, as in `minions.cncfdemo.k8s`.
    pub fn dns_name(&self) -> String {
        format!("minions.{}.{DOMAIN}", self.builder.name)
    }

    /// A node by its index; the first, index 0, is `node1` with the host number 1.
    ///
    /// # Panics
    /// When there are fewer nodes: an error of the test.
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The first DNS server.
    pub fn dns(&self) -> &DnsServer {
        &self.dns[0].1
    }

    /// All DNS servers, in the order in which the nodes ask them.
    pub fn dns_servers(&self) -> impl Iterator<Item = &DnsServer> {
        self.dns.iter().map(|(_, server)| server)
    }

    /// The host of the first DNS server.
    pub fn dns_host(&self) -> &Host {
        &self.dns[0].0
    }

    /// The hosts of all DNS servers, in the order in which the nodes ask them.
    pub fn dns_hosts(&self) -> impl Iterator<Item = &Host> {
        self.dns.iter().map(|(host, _)| host)
    }

    /// The router between the subnets and to the outside; it knows nothing of pods.
    pub fn router(&self) -> &Host {
        &self.router
    }

    /// A host outside, behind the router; it knows nothing of pods.
    pub fn external(&self) -> &Host {
        &self.external
    }

    /// The switch of a subnet, in the order in which they were given.
    ///
    /// # Panics
    /// When there are fewer subnets: an error of the test.
    pub fn switch(&self, subnet: usize) -> &Switch {
        &self.segments[subnet].1
    }

    /// The link of a node on the underlay, for loss, rate and delay.
    pub fn link(&self, node: usize) -> Result<Link> {
        self.node(node).link(NIC)
    }

    /// Adds a node and starts its daemon; DNS does not know it yet. Returns its index.
    pub fn add_node(&mut self) -> Result<usize> {
        let index = self.nodes.len();
        let node = self.builder.make_node(index, &self.segments)?;
        node.start_daemon()?;
        self.nodes.push(node);
        Ok(index)
    }

    /// Publishes the addresses of a node in DNS, nothing else.
    pub fn join(&self, node: usize) -> Result<()> {
        let (name, addresses) = (self.dns_name(), self.node(node).addresses());
        self.dns_servers().try_for_each(|server| server.add(&name, &addresses))
    }

    /// Takes the addresses of a node out of DNS, nothing else.
    pub fn leave(&self, node: usize) -> Result<()> {
        let (name, addresses) = (self.dns_name(), self.node(node).addresses());
        self.dns_servers().try_for_each(|server| server.remove(&name, &addresses))
    }

    /// Waits until every node is ready for pods.
    pub fn wait_ready(&self) -> Result<()> {
        self.nodes.iter().try_for_each(|node| {
            eventually(&format!("{} to become ready", node.name()), READY, || node.ready())
        })
    }

    /// Cuts the underlay: nodes of different groups no longer reach each other.
    ///
    /// Nodes in no group, the router and the DNS servers reach everybody.
    pub fn partition(&self, groups: &[&[usize]]) -> Result<()> {
        for (_, switch) in &self.segments {
            let links: Vec<Vec<Link>> = groups
                .iter()
                .map(|group| group.iter().map(|node| self.link(*node)).collect())
                .collect::<Result<_>>()?;
            // The switch leaves out the ports that it does not have.
            let links: Vec<Vec<&Link>> =
                links.iter().map(|group| group.iter().filter(|link| link.is_on(switch)).collect()).collect();
            switch.partition(&links)?;
        }
        self.router.nft(&self.routed_partition(groups))
    }

    /// Ends a partition.
    pub fn heal(&self) -> Result<()> {
        self.partition(&[])
    }

    /// What the router drops while the underlay is cut.
    fn routed_partition(&self, groups: &[&[usize]]) -> String {
        let set = |group: &[usize], v4: bool| {
            let addresses = group.iter().flat_map(|node| self.node(*node).addresses());
            let family = addresses.filter(|address| address.is_ipv4() == v4);
            family.map(|address| address.to_string()).collect::<Vec<_>>().join(", ")
        };
        let mut rules = String::new();
        for (from, source) in groups.iter().enumerate() {
            for (to, destination) in groups.iter().enumerate() {
                for (v4, family) in [(true, "ip"), (false, "ip6")] {
                    let (source, destination) = (set(source, v4), set(destination, v4));
                    if from != to && !source.is_empty() && !destination.is_empty() {
                        rules += &format!(
                            "    {family} saddr {{ {source} }} {family} daddr {{ {destination} }} drop\n"
                        );
                    }
                }
            }
        }
        format!(
            "table inet testbed\ndelete table inet testbed\ntable inet testbed {{\n  chain forward {{\n    \
             type filter hook forward priority 0;\n{rules}  }}\n}}\n"
        )
    }

    /// The subnets of the underlay.
    pub fn underlay(&self) -> Vec<IpNetwork> {
        self.segments.iter().flat_map(|(segment, _)| segment.networks()).collect()
    }

    /// The state of every node as text: addresses, routes, neighbours, rules, files and logs.
    pub fn dump(&self) -> String {
        dump::dump(self)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            dump::print(self);
        }
    }
}

/// The addresses of nodes that DNS starts with.
fn addresses_of(nodes: &[Node]) -> Vec<IpAddr> {
    nodes.iter().flat_map(|node| node.addresses()).collect()
}
