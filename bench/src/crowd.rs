//! One minion in a cluster of many, of which only the addresses exist, or the probe beside them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use minionet_core::addr::Family;
use minionet_core::constants::ROUTE_PROTOCOL_PEER;
use minionet_netlink::Socket;
use netns_testbed::{Cluster, DOMAIN, Node};

use crate::measure::until;
use crate::neighbours::Neighbours;
use crate::programs::Programs;

/// How long thousands of peers may take.
const PATIENT: Duration = Duration::from_secs(60);
/// Most records of a name: 4092 fit into an answer.
const NAME: usize = 2500;
/// Where the peers are: behind the router, which drops what is sent to them, or answers for them.
const BASE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
/// The plan has room for the minion's own subnet and 8192 others.
const CONFIG: &str = "node_networks = [\"172.20.0.0/24\", \"192.168.0.0/19\"]\npod_network = \"10.0.0.0/8\"\nroles = [\"minions\", \"more\"]";

/// The minion.
pub struct Crowd {
    /// Ends before the cluster in which they live.
    neighbours: Option<Neighbours>,
    cluster: Cluster,
    ttl: u32,
}

impl Crowd {
    /// Starts a minion and waits until it has programmed so many peers, none of which answers.
    pub fn start(programs: &Programs, peers: usize, ttl: u32, config: &str) -> Result<Self> {
        Self::begin(programs, peers, ttl, config, false)
    }

    /// The same, with peers that answer the probe and ask themselves.
    pub fn lively(programs: &Programs, peers: usize, ttl: u32, config: &str) -> Result<Self> {
        Self::begin(programs, peers, ttl, config, true)
    }

    fn begin(programs: &Programs, peers: usize, ttl: u32, config: &str, lively: bool) -> Result<Self> {
        let builder = Cluster::builder("bench").nodes(1).ttl(ttl).binaries(programs.binaries());
        let cluster = builder.config(&format!("{CONFIG}\n{config}")).start_without_daemons()?;
        let router = cluster.router();
        let way = |way: &str| router.ip(&format!("route add {way}"));
        if lively {
            way("local 192.168.0.0/16 dev lo")?
        } else {
            way("blackhole 192.168.0.0/16")?
        }
        let neighbours = lively.then(|| Neighbours::start(router.namespace(), peers)).transpose()?;
        let crowd = Crowd { neighbours, cluster, ttl };
        crowd.publish(peers)?;
        crowd.node().start_daemon()?;
        crowd.wait_for(peers)?;
        Ok(crowd)
    }

    /// The minion itself.
    pub fn node(&self) -> &Node {
        self.cluster.node(0)
    }

    /// The cluster around it.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Lets DNS list so many peers beside the minion.
    pub fn publish(&self, peers: usize) -> Result<()> {
        let mut all = self.node().addresses();
        all.extend((0..peers).map(address));
        let (first, more) = all.split_at(all.len().min(NAME));
        self.cluster.dns().set(&self.cluster.dns_name(), first, self.ttl)?;
        // A name without addresses is no complete answer; one address may be in both.
        let more = if more.is_empty() { &first[..1] } else { more };
        Ok(self.cluster.dns().set(&format!("more.bench.{DOMAIN}"), more, self.ttl)?)
    }

    /// Waits until there are routes to so many peers, and the daemon has come to rest.
    pub fn wait_for(&self, peers: usize) -> Result<()> {
        let mut socket = self.node().run(Socket::open)??;
        until(&format!("routes to {peers} peers"), PATIENT, || {
            let exit = self.node().daemon_exit();
            ensure!(exit.is_none(), "the daemon {}", exit.unwrap_or_default());
            match socket.routes(Family::V4, ROUTE_PROTOCOL_PEER) {
                // The others lead nowhere: what nobody owns is refused.
                Ok(routes) => Ok(routes.iter().filter(|route| route.gateway.is_some()).count() == peers),
                Err(minionet_netlink::Error::Interrupted { .. }) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })?;
        Ok(self.cluster.wait_ready()?)
    }

    /// The peers, where they answer.
    pub fn neighbours(&self) -> Result<&Neighbours> {
        self.neighbours.as_ref().context("nobody answers here")
    }

    /// The daemon's process.
    pub fn pid(&self) -> Result<u32> {
        self.node().daemon_pid().context("the daemon does not run")
    }
}

/// The address of a peer.
pub fn address(number: usize) -> IpAddr {
    // There are fewer than 8192.
    Ipv4Addr::from_bits(BASE.to_bits() + number as u32).into()
}

/// The first address of a peer's pods, by the plan of the minion: the 256 blocks of its own subnet
/// come first.
pub fn pods(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + ((256 + 1 + number as u32) << 8))
}
