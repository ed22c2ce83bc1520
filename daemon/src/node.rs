//! This node: what it heard, what it decided, and what it told the kernel and the plugin.
//!
//! Every call of [`Node::reconcile`] starts from what the kernel holds at that moment; nothing
//! that was programmed earlier is remembered.

mod report;
mod settle;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use minionet_core::addr::{Cidr, Family};
use minionet_core::cni::attachment::HOST_IFNAME_PREFIX;
use minionet_core::config::Config;
use minionet_core::constants::{DEVICE, NFT_TABLE, ROUTE_PROTOCOL_PEER};
use minionet_core::handoff::{self, NodeFacts};
use minionet_core::identity::{self, Evidence, Identity, IdentityError, LocalAddress, Overrides};
use minionet_core::membership::{Membership, Outcome, Round, Scope};
use minionet_core::overlay::{self, Device, Local};
use minionet_core::plan::{AddressPlan, NodePlan};
use minionet_netlink::Socket;
use minionet_netlink::link::{Link, Which};
use minionet_netlink::monitor::Interest;
use tracing::{error, info};

use crate::clock::Clock;
use crate::firewall::{self, Firewall};
use crate::forwarding::Forwarding;
use crate::health::State;
use crate::probe::Probe;
use crate::run::random;
use crate::{keep, sysctls};

use self::report::log;
use self::settle::{Settler, Wanted};

/// MTU of Ethernet in octets (RFC 894); assumed until an interface says another.
const ETHERNET_MTU: u32 = 1500;

/// This node.
pub struct Node {
    config: Config,
    socket: Socket,
    /// Opened when it is needed first.
    firewall: Option<Firewall>,
    forwarding: Forwarding,
    membership: Membership,
    clock: Clock,
    probe: Probe,
    /// What this node is, once that is known.
    own: Option<Own>,
    /// Why it is not known, or why the kernel is not right, as it was last logged.
    trouble: Option<String>,
    /// Whether a round of lookups has ended since the start.
    asked: bool,
    /// What the kernel should hold, as it was computed last.
    wanted: State,
    settler: Settler,
    /// When the last complete answer came; the start, while there was none.
    answered: Instant,
    /// Whether a complete answer came since the start; nothing is removed before.
    trusted: bool,
    /// The peers as they were last saved.
    saved: keep::Saved,
    /// Which notifications of the kernel matter.
    interest: Interest,
    /// MTU of the underlay in octets, as it was known last.
    underlay_mtu: u32,
}

/// What follows from this node's own address.
#[derive(Clone, PartialEq)]
struct Own {
    identity: Identity,
    plan: AddressPlan,
    me: NodePlan,
    /// Who is in it is a neighbour on the underlay.
    subnet: Cidr,
}

impl Node {
    /// Opens the kernel's door and takes over what an earlier run left.
    ///
    /// # Errors
    /// When netlink cannot be used, or the thresholds of the membership contradict each other.
    pub fn new(config: Config) -> Result<Self> {
        let socket = Socket::open()?;
        socket.enlarge_buffers();
        let membership = Membership::new(&config.cluster_name, &config.names(), config.thresholds.clone())?;
        let clock = Clock::start();
        let mut node = Node {
            probe: Probe::new(&config, clock),
            config,
            socket,
            firewall: None,
            forwarding: Forwarding::default(),
            membership,
            clock,
            own: None,
            trouble: None,
            asked: false,
            wanted: State::default(),
            settler: Settler::new(clock),
            answered: Instant::now(),
            trusted: false,
            saved: keep::Saved::default(),
            interest: Interest {
                device: DEVICE.to_owned(),
                links: Vec::new(),
                protocol: ROUTE_PROTOCOL_PEER,
                table: NFT_TABLE.to_owned(),
                chains: Vec::new(),
                pod_links: HOST_IFNAME_PREFIX.to_owned(),
                settings: sysctls::silent(),
                refused: None,
            },
            underlay_mtu: ETHERNET_MTU,
        };
        keep::restore(&mut node.membership, &mut node.socket, clock.now());
        Ok(node)
    }

    /// Takes in what a round of lookups found, and makes the kernel follow.
    pub fn observe(&mut self, round: &Round) {
        self.asked = true;
        // The own address comes first: by it and the plan that follows from it the addresses of
        // the answer are judged. Whatever is wrong with it is said by the reconciliation below.
        let heard = round.replies.iter().filter_map(|reply| match &reply.outcome {
            Outcome::Answer { addresses, .. } => Some(addresses.iter().copied()),
            Outcome::Failure { .. } => None,
        });
        let _said_below = self.identify(heard.flatten().collect());
        self.probe.testify(&mut self.membership, self.clock.now());
        log(&self.membership.apply(round, self.clock.now()));
        if self.membership.is_complete() {
            self.answered = Instant::now();
        }
        self.trusted |= self.membership.is_complete();
        self.reconcile();
        self.trusted |= self.membership.is_complete();
        self.saved.save(self.membership.snapshot(self.clock.now()));
    }

    /// Which notifications of the kernel are worth another look at its tables.
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// Takes over another configuration, and makes the kernel follow at once.
    ///
    /// # Errors
    /// When the new configuration cannot work; the old one stays.
    pub fn reconfigure(&mut self, config: Config) -> Result<()> {
        self.membership.reconfigure(&config.names(), config.thresholds.clone())?;
        self.config = config;
        // Who changes the configuration may have changed more.
        self.settler.hurry();
        if let Some(identity) = self.own.as_ref().map(|own| own.identity.clone()) {
            // The plan may be another one now.
            self.own = Some(self.become_node(identity)?);
        }
        self.reconcile();
        Ok(())
    }

    /// How pods are connected, for those who ask.
    pub fn state(&self) -> State {
        let silent = self.answered.elapsed();
        let dns = (silent >= self.config.dns_silence).then(|| {
            let names = self.config.names().join(", ");
            let minutes = silent.as_secs() / 60;
            format!("DNS has not answered {names} completely for {minutes} minutes, so new peers are not known: see journalctl -u minionetd")
        });
        let troubles = self.trouble.iter().cloned().chain(dns).collect();
        let forward_policies = self.forwarding.policies().to_vec();
        State { troubles, forward_policies, ..self.wanted.clone() }
    }

    /// The probe of its peers.
    pub fn probe(&self) -> &Probe {
        &self.probe
    }

    /// Lets the probe do what there is to do.
    pub fn work_probe(&mut self) {
        self.probe.work();
    }

    /// When to ask again.
    pub fn next_refresh(&self) -> Duration {
        self.membership.next_refresh(random())
    }

    /// Compares what the kernel holds with what it should hold, and repairs.
    pub fn reconcile(&mut self) {
        let result = self.try_reconcile();
        self.settler.rest();
        match result {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    info!("the trouble is over");
                }
            }
            // Nothing is wrong yet while the first question is on its way.
            Err(error) if !self.asked && error.is::<IdentityError>() => info!("waiting for DNS"),
            Err(error) => {
                let text = format!("{error:#}");
                // Once, not with every round.
                if self.trouble.as_ref() != Some(&text) {
                    error!("{text}{}", self.settler.prospect());
                }
                self.trouble = Some(text);
            }
        }
    }

    /// How long to wait before what the kernel refused is tried again.
    pub fn again(&self) -> Option<Duration> {
        self.settler.again()
    }

    /// Takes in that what was in the way of what the kernel refused may be gone.
    pub fn way_free(&mut self) {
        self.settler.hurry();
    }

    fn try_reconcile(&mut self) -> Result<()> {
        let identified = self.identify(BTreeSet::new());
        // An address that is lost for a while is no reason to let the overlay decay.
        let Some(own) = self.own.clone() else { return identified };
        let (device, underlay) = self.device(&own)?;
        let (encapsulation, assigned) = (self.config.encapsulation, &own.plan.assigned());
        let below = underlay.map(|(index, _)| index);
        let local = Local { me: &own.me, subnet: own.subnet, underlay: below, encapsulation, assigned };
        let peers: Vec<NodePlan> =
            self.membership.peers().filter_map(|addr| own.plan.node(addr).ok()).collect();
        let wanted = overlay::desired(device, &local, &peers);
        let ipv6_pods = own.me.block(Family::V6).is_some();
        sysctls::forwarding(ipv6_pods)?;
        let wanted_now = Wanted { overlay: &wanted, underlay, trusted: self.trusted };
        self.interest.links = self.settler.settle(&mut self.socket, &wanted_now)?;
        let refused = self.settler.trouble();
        self.interest.refused = refused.is_some().then(|| self.settler.refused_routes().collect());
        // What the kernel refuses is told here, and is no fault of single attachments.
        let routes = self.settler.refused_routes().count();
        self.wanted.peer_routes = Some((wanted.routes.len() + wanted.refused.len()).saturating_sub(routes));
        sysctls::device()?;
        sysctls::both_ways(&own.identity.interface)?;
        self.probe.update(&own.plan, &own.me, wanted.device.mtu, &peers, &self.membership);
        // Pods can be attached while a rule or a peer is missing; what is wrong is said below.
        let filtered = self.filter(&own);
        self.interest.chains = self.forwarding.look(&own.plan);
        self.hand_over(&own)?;
        if self.settler.device_works() {
            keep::announce(&self.config.cni_conf_dir)?;
        }
        identified?;
        filtered?;
        refused.map_or(Ok(()), |text| Err(anyhow!(text)))
    }

    /// Finds this node's own address among the local ones, and everything that follows from it.
    /// The candidates are what the membership lists and what was heard just now.
    fn identify(&mut self, heard: BTreeSet<IpAddr>) -> Result<()> {
        let local = self.local_addresses()?;
        let mut answered = self.membership.addresses();
        answered.extend(heard);
        let overrides = Overrides { node_ip: self.config.node_ip, interface: self.config.interface.clone() };
        let identity = identity::choose(&Evidence {
            local: &local,
            answered: &answered,
            node_networks: &self.config.node_networks,
            overrides: &overrides,
            current: self.own.as_ref().map(|own| own.identity.address).or_else(keep::last_address),
        })?;
        let own = match self.own.clone().filter(|own| own.identity.is_same_place(&identity)) {
            Some(own) => Own { identity, ..own },
            None => self.become_node(identity)?,
        };
        let scope = Scope {
            plan: Some(own.plan.clone()),
            own: Some(own.identity.address),
            local: local.iter().map(|l| l.address).collect(),
        };
        self.own = Some(own);
        log(&self.membership.set_scope(scope, self.clock.now()));
        Ok(())
    }

    /// Everything that follows from an own address that is new.
    fn become_node(&self, identity: Identity) -> Result<Own> {
        let networks = &self.config.node_networks;
        let subnet = if networks.is_empty() { Some(identity.default_node_network()?) } else { None };
        let plan = self.config.plan(subnet)?;
        let me = plan.node(identity.address)?;
        let blocks: Vec<String> = me.blocks.iter().map(|b| b.cidr.to_string()).collect();
        info!(node = %me.node, interface = identity.interface, pods = blocks.join(" "), mac = %me.mac, "this node");
        let subnet = Cidr::containing(identity.address, identity.prefix_len)?;
        Ok(Own { identity, plan, me, subnet })
    }

    fn local_addresses(&mut self) -> Result<Vec<LocalAddress>> {
        let links = self.socket.links()?;
        // What is on our own device, or on loopback, is never what other nodes reach us by.
        let outward =
            |index: u32| links.iter().find(|l: &&Link| l.index == index && !l.loopback && l.name != DEVICE);
        let addresses = self.socket.addresses(None)?;
        let local = |a: &minionet_netlink::address::Address| {
            let link = outward(a.index).filter(|_| a.global)?;
            Some(LocalAddress {
                address: a.addr,
                prefix_len: a.prefix_len,
                interface: link.name.clone(),
                tentative: a.tentative,
                deprecated: a.deprecated,
                secondary: a.secondary,
            })
        };
        Ok(addresses.iter().filter_map(local).collect())
    }

    /// What the VTEP should be, and the number of the interface below it and whether it is up, if
    /// it is there.
    fn device(&mut self, own: &Own) -> Result<(Device, Option<(u32, bool)>)> {
        let link = self.socket.link(Which::Name(&own.identity.interface))?;
        let underlay = own.plan.underlay();
        let mtu = self.config.underlay_mtu.or(link.as_ref().map(|l| l.mtu));
        // While the interface is gone, what it was.
        self.underlay_mtu = mtu.unwrap_or(self.underlay_mtu);
        let device = Device {
            name: DEVICE.to_owned(),
            vni: self.config.vni,
            port: self.config.port,
            local: own.identity.address,
            mac: own.me.mac,
            mtu: overlay::overlay_mtu(underlay, self.underlay_mtu),
        };
        Ok((device, link.map(|l| (l.index, l.up))))
    }

    /// Makes the nft table what it should be.
    fn filter(&mut self, own: &Own) -> Result<()> {
        let mut firewall = match self.firewall.take() {
            Some(firewall) => firewall,
            None => Firewall::open()?,
        };
        let members = self.membership.peers().collect();
        let wanted = firewall::ruleset(&self.config, &own.plan, &own.me, members);
        self.wanted.rules = Some(wanted.chains.iter().map(|chain| chain.rules.len()).sum());
        let result = firewall.reconcile(&wanted, self.trusted);
        self.firewall = Some(firewall);
        result
    }

    /// Leaves the node's facts for the plugin.
    fn hand_over(&self, own: &Own) -> Result<()> {
        let underlay = own.plan.underlay();
        let mtu = overlay::pod_mtu(self.config.encapsulation, &own.me.blocks, underlay, self.underlay_mtu);
        let facts = NodeFacts {
            schema: handoff::SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: self.config.cluster_name.clone(),
            node: own.me.node,
            mtu,
            blocks: own.me.blocks.clone(),
            pod_networks: own.plan.spec().pod_networks.iter().map(|p| p.network).collect(),
        };
        keep::hand_over(&facts)
    }
}
