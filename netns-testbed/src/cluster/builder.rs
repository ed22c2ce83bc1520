//! The description of a cluster, and how it is brought up.

use std::fmt::Write;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::segment::Segment;
use super::{Cluster, NIC, addresses_of, dump};
use crate::binaries::Binaries;
use crate::dns::DnsServer;
use crate::error::{Error, Result};
use crate::host::{Host, Nic};
use crate::node::{ENVIRONMENT_FILE, Node};
use crate::switch::Switch;

/// The subnets between the router and the host outside: RFC 5737 and RFC 3849.
const OUTSIDE: &str = "198.51.100.0/24, 2001:db8:100::/64";

/// A cluster that is yet to be started.
#[derive(Clone)]
#[must_use = "a description starts nothing"]
pub struct ClusterBuilder {
    pub(super) name: String,
    nodes: usize,
    underlay: Vec<String>,
    mtu: u32,
    config: String,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    ttl: u32,
    dns_servers: u32,
    binaries: Option<Binaries>,
}

impl ClusterBuilder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            nodes: 3,
            underlay: Vec::new(),
            mtu: 1500,
            config: String::new(),
            environment: Vec::new(),
            arguments: Vec::new(),
            ttl: 1,
            dns_servers: 1,
            binaries: None,
        }
    }

    /// How many minions there are at the start (3).
    pub fn nodes(mut self, count: usize) -> Self {
        self.nodes = count;
        self
    }

    /// Adds a subnet: `172.20.0.0/24`, `fd00:20::/64`, or both with a comma between them.
    ///
    /// Without any there is `172.20.0.0/24`. With several, the nodes are dealt to them in turn, and
    /// a router connects them. Nodes have the host numbers from 1, the router the highest.
    pub fn underlay(mut self, subnet: &str) -> Self {
        self.underlay.push(subnet.to_owned());
        self
    }

    /// The MTU of the underlay in bytes (1500).
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// Lines for `/etc/minionet/minionet.toml`; without any there is no such file.
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// A variable of the daemons' environment, besides `CLUSTER_NAME`.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Words that follow `minionetd run`.
    pub fn daemon_args(mut self, words: &[&str]) -> Self {
        self.arguments.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// The time to live of the nodes' records in seconds (1).
    pub fn ttl(mut self, seconds: u32) -> Self {
        self.ttl = seconds;
        self
    }

    /// How many DNS servers there are (1, at most 3, as in resolv.conf(5)).
    pub fn dns_servers(mut self, count: u32) -> Self {
        self.dns_servers = count;
        self
    }

    /// Other programs than those of [`Binaries::locate`].
    pub fn binaries(mut self, binaries: Binaries) -> Self {
        self.binaries = Some(binaries);
        self
    }

    /// Makes the hosts, publishes every node and starts the daemons; does not wait for them.
    pub fn start(self) -> Result<Cluster> {
        let cluster = self.start_without_daemons()?;
        cluster.nodes.iter().try_for_each(Node::start_daemon)?;
        Ok(cluster)
    }

    /// Starts the cluster, waits until it is ready and runs a test with it.
    ///
    /// When the test fails, the state of every node is printed to standard error.
    pub fn run<T, E: From<Error>>(self, test: impl FnOnce(&mut Cluster) -> Result<T, E>) -> Result<T, E> {
        let mut cluster = self.start()?;
        let outcome = cluster.wait_ready().map_err(E::from).and_then(|()| test(&mut cluster));
        if outcome.is_err() {
            dump::print(&cluster);
        }
        outcome
    }

    /// Makes the hosts and publishes every node, for a test that starts the daemons itself.
    pub fn start_without_daemons(mut self) -> Result<Cluster> {
        if !(1..=3).contains(&self.dns_servers) {
            return Err(Error::Invalid {
                what: "the number of DNS servers",
                value: self.dns_servers.to_string(),
                reason: "resolv.conf(5) takes one to three".into(),
            });
        }
        let binaries = self.binaries.take().map_or_else(Binaries::locate, Ok)?;
        self.binaries = Some(binaries);
        if self.underlay.is_empty() {
            self.underlay.push("172.20.0.0/24".into());
        }
        let segments: Vec<(Segment, Switch)> = self
            .underlay
            .iter()
            .enumerate()
            .map(|(index, text)| Ok((Segment::parse(text)?, Switch::new(&format!("switch{}", index + 1))?)))
            .collect::<Result<_>>()?;

        let (router, external) = self.make_router(&segments)?;
        let dns: Vec<(Host, DnsServer)> =
            (0..self.dns_servers).map(|index| self.make_dns(index, &segments)).collect::<Result<_>>()?;
        let nodes: Vec<Node> =
            (0..self.nodes).map(|index| self.make_node(index, &segments)).collect::<Result<_>>()?;
        let cluster = Cluster { builder: self, segments, nodes, dns, router, external };
        let addresses = addresses_of(&cluster.nodes);
        for server in cluster.dns_servers() {
            server.set(&cluster.dns_name(), &addresses, cluster.builder.ttl)?;
        }
        Ok(cluster)
    }

    fn nic(&self, name: &str, addresses: Vec<IpNetwork>, gateways: Vec<IpAddr>) -> Nic {
        Nic { name: name.to_owned(), addresses, mtu: self.mtu, gateways }
    }

    /// The router with a leg in every subnet and one outside, and the host there.
    fn make_router(&self, segments: &[(Segment, Switch)]) -> Result<(Host, Host)> {
        let (outside, switch) = (Segment::parse(OUTSIDE)?, Switch::new("outside")?);
        let router = Host::new("router")?;
        router.forward()?;
        for (index, (segment, switch)) in segments.iter().enumerate() {
            router.attach(switch, self.nic(&format!("eth{index}"), segment.router(), Vec::new()))?;
        }
        router.attach(&switch, self.nic("outside", outside.router(), Vec::new()))?;
        let external = Host::new("external")?;
        external.attach(&switch, self.nic(NIC, outside.host(1)?, outside.gateways()))?;
        Ok((router, external))
    }

    fn make_dns(&self, index: u32, segments: &[(Segment, Switch)]) -> Result<(Host, DnsServer)> {
        let (segment, switch) = &segments[0];
        let host = Host::new(&format!("dns{}", index + 1))?;
        host.attach(switch, self.nic(NIC, segment.dns(index), segment.gateways()))?;
        let server = DnsServer::start(&host)?;
        Ok((host, server))
    }

    /// A minion that nobody knows of yet.
    pub(super) fn make_node(&self, index: usize, segments: &[(Segment, Switch)]) -> Result<Node> {
        let (segment, switch) = &segments[index % segments.len()];
        let number = u32::try_from(index / segments.len() + 1).unwrap_or(u32::MAX);
        let name = format!("node{}", index + 1);
        let host = Host::new(&name)?;
        host.attach(switch, self.nic(NIC, segment.host(number)?, segment.gateways()))?;

        let mut environment = format!("CLUSTER_NAME={}\n", self.name);
        for (name, value) in &self.environment {
            let _ = writeln!(environment, "{name}={value}");
        }
        host.write(ENVIRONMENT_FILE, environment)?;
        let mut resolv = String::new();
        for server in 0..self.dns_servers {
            if let Some(address) = segments[0].0.dns(server).first() {
                let _ = writeln!(resolv, "nameserver {}", address.ip());
            }
        }
        host.write("/etc/resolv.conf", format!("{resolv}options timeout:1 attempts:2\n"))?;
        if !self.config.is_empty() {
            host.write("/etc/minionet/minionet.toml", &self.config)?;
        }
        let binaries = self.binaries.clone().map_or_else(Binaries::locate, Ok)?;
        Ok(Node::new(host, binaries, self.arguments.clone()))
    }
}
