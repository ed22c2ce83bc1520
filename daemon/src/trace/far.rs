//! The far end of others' traces: a part of the daemon's loop that answers members.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use minionet_core::cni::attachment::HOST_IFNAME_PREFIX;
use minionet_core::config::Config;
use minionet_core::constants::DEVICE;
use minionet_core::plan::NodePlan;
use minionet_core::trace::desk::{Desk, Order};
use minionet_core::trace::{Account, Arrival, Message, Point, State, filter, message, sight};
use minionet_netlink::link::Which;
use minionet_netlink::packet::Watch;
use minionet_netlink::{Socket, sysctl};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::look::sightings;
use crate::causes::chain;
use crate::clock::Clock;

/// Most messages that are read from one socket at once.
const BATCH: usize = 32;

/// The far end of traces on this node.
pub struct Service {
    port: Option<u16>,
    vxlan_port: u16,
    vni: u32,
    clock: Clock,
    sockets: Option<Sockets>,
    desk: Desk,
    watches: BTreeMap<u64, (Watch, Account)>,
    /// The node of each address that a peer may speak from: its own, and those of its VTEP.
    members: BTreeMap<IpAddr, IpAddr>,
    /// Why there are no sockets, as it was last logged.
    trouble: Option<String>,
}

/// One for each channel, bound to the address that others know.
struct Sockets {
    node: IpAddr,
    vtep: IpAddr,
    underlay: UdpSocket,
    tunnel: UdpSocket,
}

impl Service {
    /// A service that waits to be told where it is.
    pub fn new(config: &Config, clock: Clock) -> Self {
        Service {
            port: config.trace_port,
            vxlan_port: config.port,
            vni: config.vni,
            clock,
            sockets: None,
            desk: Desk::default(),
            watches: BTreeMap::new(),
            members: BTreeMap::new(),
            trouble: None,
        }
    }

    /// Takes over where this node is and who its peers are. The overlay is in place by then.
    pub fn update(&mut self, config: &Config, me: &NodePlan, peers: &[NodePlan]) {
        if self.port != config.trace_port {
            self.sockets = None;
        }
        (self.port, self.vxlan_port, self.vni) = (config.trace_port, config.port, config.vni);
        let Some(port) = self.port else { return };
        let Some(block) = me.blocks.first() else { return };
        let known = |s: &Sockets| s.node == me.node && s.vtep == block.gateway;
        if !self.sockets.as_ref().is_some_and(known) {
            self.sockets = None;
            match Sockets::open(me.node, block.gateway, port) {
                Ok(sockets) => {
                    self.sockets = Some(sockets);
                    self.trouble = None;
                    info!(port, "traces of peers are answered");
                }
                Err(error) => {
                    let text = format!("traces of peers are not answered: {}", chain(&error));
                    if self.trouble.as_ref() != Some(&text) {
                        warn!("{text}");
                    }
                    self.trouble = Some(text);
                }
            }
        }
        let addresses = |p: &NodePlan| {
            let node = p.node;
            let vteps: Vec<_> = p.blocks.iter().map(|b| b.gateway).collect();
            std::iter::once(node).chain(vteps).map(move |address| (address, node))
        };
        self.members = peers.iter().flat_map(addresses).collect();
    }

    /// Waits until there is something to do; for ever where nobody is answered.
    pub async fn due(&self) {
        let Some(sockets) = &self.sockets else { return std::future::pending().await };
        let over = async {
            match self.desk.next_wake() {
                Some(wake) => sleep(wake.saturating_sub(self.now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // An error is read, and so cleared, with the messages.
            _ = sockets.underlay.ready(Interest::READABLE) => {}
            _ = sockets.tunnel.ready(Interest::READABLE) => {}
            () = over => {}
        }
    }

    /// Answers what has arrived, and ends the watches whose time is over.
    pub fn work(&mut self) {
        for token in self.desk.expire(self.now()) {
            self.watches.remove(&token);
        }
        let Some(sockets) = self.sockets.take() else { return };
        for socket in [&sockets.underlay, &sockets.tunnel] {
            self.serve(socket);
        }
        self.sockets = Some(sockets);
    }

    fn serve(&mut self, socket: &UdpSocket) {
        // One more than a message has, so that a longer one shows.
        let mut buffer = [0; message::SIZE + 1];
        for _ in 0..BATCH {
            match socket.try_recv_from(&mut buffer) {
                Ok((len, from)) => {
                    let Some(reply) = self.answer(&buffer[..len], from) else { continue };
                    if let Err(error) = socket.try_send_to(&reply.encode(), from) {
                        debug!(to = %from, "an answer is not sent: {error}");
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // What an earlier answer met with (ip(7), "error handling").
                Err(_) => {}
            }
        }
    }

    /// The answer to a message, if it deserves one.
    fn answer(&mut self, datagram: &[u8], from: SocketAddr) -> Option<Message> {
        let peer = *self.members.get(&from.ip().to_canonical())?;
        let message = Message::decode(datagram).ok()?;
        let (token, target) = (message.token, message.target);
        let account = match self.desk.receive(peer, &message, self.now()) {
            Order::Ignore => return None,
            Order::Answer => Account { vni: self.vni, ..Account::default() },
            Order::Refuse => {
                let state = State { busy: true, ..State::default() };
                Account { state, vni: self.vni, ..Account::default() }
            }
            Order::Watch => self.watch(token, target),
            Order::Report => self.report(token, target),
        };
        Some(Message { reply: Some(account), ..message })
    }

    fn watch(&mut self, token: u64, target: IpAddr) -> Account {
        if !self.watches.contains_key(&token) {
            match Watch::open(&filter::program(token)) {
                Ok(watch) => {
                    debug!(%target, "a peer traces");
                    let account = Account { vni: self.vni, ..Account::default() };
                    self.watches.insert(token, (watch, account));
                }
                Err(error) => debug!("a peer's trace is not watched: {error}"),
            }
        }
        self.report(token, target)
    }

    /// What was seen so far.
    fn report(&mut self, token: u64, target: IpAddr) -> Account {
        let mut state = State::default();
        let Ok(mut socket) = Socket::open() else {
            return Account { state, vni: self.vni, ..Account::default() };
        };
        describe(&mut socket, target, &mut state);
        let Some((watch, account)) = self.watches.get_mut(&token) else {
            state.blind = true;
            return Account { state, vni: self.vni, ..Account::default() };
        };
        for sighting in sightings(watch, &mut socket, self.vxlan_port, token) {
            let marked = sighting.marked;
            let Some(point) = sight::far(sighting.place, sighting.outgoing, marked.reply) else { continue };
            account.count(point);
            if point == Point::RequestNic {
                account.arrived = Some(Arrival {
                    vni: marked.tunnel.map(|tunnel| tunnel.vni),
                    from: marked.tunnel.map_or(marked.from, |tunnel| tunnel.from),
                    interface: sighting.interface,
                });
            }
        }
        state.watching = true;
        account.state = state;
        account.clone()
    }

    fn now(&self) -> Duration {
        self.clock.now().monotonic
    }
}

impl Sockets {
    fn open(node: IpAddr, vtep: IpAddr, port: u16) -> Result<Self> {
        let bind = |address: IpAddr| -> Result<UdpSocket> {
            let address = SocketAddr::new(address, port);
            let socket = StdSocket::bind(address).with_context(|| format!("cannot open {address}"))?;
            socket.set_nonblocking(true)?;
            Ok(UdpSocket::from_std(socket)?)
        };
        Ok(Sockets { node, vtep, underlay: bind(node)?, tunnel: bind(vtep)? })
    }
}

/// How things are on this node for a target; what cannot be read counts as not so.
fn describe(socket: &mut Socket, target: IpAddr, state: &mut State) {
    state.device_up = matches!(socket.link(Which::Name(DEVICE)), Ok(Some(link)) if link.up);
    let forwarding = if target.is_ipv4() { "ipv4/ip_forward" } else { "ipv6/conf/all/forwarding" };
    state.forwards = matches!(sysctl::read(forwarding), Ok(Some(value)) if value != "0");
    let Ok(Some(lead)) = socket.leads(target) else { return };
    state.target_is_own = lead.here;
    let Some(Ok(Some(link))) = lead.device.map(|index| socket.link(Which::Index(index))) else { return };
    state.pod_known = link.name.starts_with(HOST_IFNAME_PREFIX);
    state.pod_link_up = state.pod_known && link.running;
}
