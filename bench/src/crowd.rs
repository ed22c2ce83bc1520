//! One minion in a cluster of many, of which only the addresses exist, or the probe beside them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use minionet_core::addr::Family;
use minionet_core::constants::{ROUTE_PROTOCOL_PEER, RUN_DIR};
use minionet_core::plan::{AddressPlan, PlanSpec, PodNetwork};
use minionet_core::probe::view;
use minionet_netlink::Socket;
use netns_testbed::{Cluster, DOMAIN, Node};

use crate::measure::until;
use crate::neighbours::Neighbours;
use crate::past;
use crate::programs::Programs;

/// How long thousands of peers may take.
const PATIENT: Duration = Duration::from_secs(60);
/// Most records of a name: 4092 fit into an answer.
const NAME: usize = 2500;
/// Where the peers are: behind the router, which drops what is sent to them, or answers for them.
const BASE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
/// The plan has room for the minion's own subnet and 8192 others; see [`plan`].
const CONFIG: &str = "node_networks = [\"172.20.0.0/24\", \"192.168.0.0/19\"]\npod_network = \"10.0.0.0/8\"\nroles = [\"minions\", \"more\"]";

/// Peers that answer and ask.
pub struct Lively {
    /// They.
    pub peers: Neighbours,
    /// How many small requests, large requests, and replies to others' the minion has sent them a
    /// second, before this.
    pub rates: [f64; 3],
}

/// The minion.
pub struct Crowd {
    /// Ends before the cluster in which they live.
    neighbours: Option<Lively>,
    cluster: Cluster,
    ttl: u32,
}

impl Crowd {
    /// Starts a minion and waits until it has programmed so many peers, none of which answers.
    pub fn start(programs: &Programs, peers: usize, ttl: u32, config: &str) -> Result<Self> {
        let crowd = Self::without_daemon(programs, peers, ttl, config, "blackhole 192.168.0.0/16")?;
        crowd.begin(peers)
    }

    /// The same, with peers that answer the probe and ask themselves: all have been known to each other
    /// for long, and the daemon is one that was restarted.
    pub fn lively(programs: &Programs, peers: usize, ttl: u32, config: &str) -> Result<Self> {
        let way = "local 192.168.0.0/16 dev lo";
        let mut crowd = Self::without_daemon(programs, peers, ttl, config, way)?;
        let plan = plan()?;
        let addresses: Vec<IpAddr> = (0..peers).map(address).collect();
        let past = past::live(&plan, crowd.node().address(), &addresses)?;
        crowd.node().write(format!("{RUN_DIR}/{}", view::FILE), &past.left)?;
        let router = crowd.cluster.router().namespace();
        let peers_now = Neighbours::start(router, &plan.node(crowd.node().address())?, past.peers)?;
        crowd.neighbours = Some(Lively { peers: peers_now, rates: past.rates });
        crowd.begin(peers)
    }

    /// The minion before its start; `way` leads to its peers.
    fn without_daemon(programs: &Programs, peers: usize, ttl: u32, config: &str, way: &str) -> Result<Self> {
        let builder = Cluster::builder("bench").nodes(1).ttl(ttl).binaries(programs.binaries());
        let cluster = builder.config(&format!("{CONFIG}\n{config}")).start_without_daemons()?;
        cluster.router().ip(&format!("route add {way}"))?;
        let crowd = Crowd { neighbours: None, cluster, ttl };
        crowd.publish(peers)?;
        Ok(crowd)
    }

    fn begin(self, peers: usize) -> Result<Self> {
        self.node().start_daemon()?;
        self.wait_for(peers)?;
        Ok(self)
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
    pub fn neighbours(&self) -> Result<&Lively> {
        self.neighbours.as_ref().context("nobody answers here")
    }

    /// The daemon's process.
    pub fn pid(&self) -> Result<u32> {
        self.node().daemon_pid().context("the daemon does not run")
    }
}

/// The plan of the minion.
pub fn plan() -> Result<AddressPlan> {
    let node_networks = vec!["172.20.0.0/24".parse()?, "192.168.0.0/19".parse()?];
    let pods = PodNetwork { network: "10.0.0.0/8".parse()?, node_prefix: 24 };
    Ok(AddressPlan::new(PlanSpec { node_networks, pod_networks: vec![pods] })?)
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
