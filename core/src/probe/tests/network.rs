//! A simulated network: nodes, a clock, and rules for what gets through.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::super::view::{PeerProbe, ProbeView};
use super::super::{About, Event, Limits, Local, Prober, Target, Transmit};
use crate::membership::Now;

/// Octets of IPv4 and UDP.
const OVERHEAD: usize = 28;

/// A packet's fate.
pub type Rule = Box<dyn FnMut(&Packet) -> Option<Duration>>;

/// A packet under way.
#[derive(Clone, Debug)]
pub struct Packet {
    pub from: u16,
    pub to: u16,
    /// Octets of the IP packet.
    pub size: usize,
    pub hello: bool,
    /// Whether it asks for a reply.
    pub request: bool,
    payload: Vec<u8>,
}

pub struct Network {
    pub nodes: BTreeMap<u16, Prober>,
    pub now: Duration,
    /// How long a packet takes, or nothing when it is lost.
    pub rule: Rule,
    under_way: BTreeMap<(Duration, u64), Packet>,
    packets: u64,
}

pub fn node(index: u16) -> IpAddr {
    Ipv4Addr::from_bits(0xac14_0000 + u32::from(index)).into()
}

pub fn vtep(index: u16) -> IpAddr {
    Ipv4Addr::from_bits(0x0a20_0001 + (u32::from(index) << 8)).into()
}

fn index(addr: IpAddr) -> u16 {
    match addr {
        IpAddr::V4(addr) if addr.octets()[0] == 10 => ((addr.to_bits() - 0x0a20_0001) >> 8) as u16,
        IpAddr::V4(addr) => (addr.to_bits() - 0xac14_0000) as u16,
        IpAddr::V6(_) => panic!("no such node"),
    }
}

pub fn local(index: u16) -> Local {
    let about =
        About { node: node(index), plan: 0xabc, mtu: 1450, boot: [index as u8; 16], version: "0.1.0".into() };
    Local { vtep: vtep(index), about }
}

pub fn target(index: u16) -> Target {
    Target { node: node(index), vtep: vtep(index), missing: false }
}

pub fn at(monotonic: Duration) -> Now {
    Now { monotonic, unix: 1_700_000_000 + monotonic.as_secs() }
}

impl Network {
    /// Nodes from 1 to `count`, all peers of each other, a millisecond apart.
    pub fn new(count: u16, limits: &Limits) -> Self {
        let mut network = Network {
            nodes: BTreeMap::new(),
            now: Duration::from_secs(100),
            rule: Box::new(|_| Some(Duration::from_millis(1))),
            under_way: BTreeMap::new(),
            packets: 0,
        };
        for i in 1..=count {
            let mut prober = Prober::new(limits.clone(), u64::from(i));
            prober.update(local(i), (1..=count).map(target), at(network.now));
            network.nodes.insert(i, prober);
        }
        network
    }

    /// Runs for a while.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.send();
            let arrival = self.under_way.first_key_value().map(|((at, _), _)| *at);
            let wakes = self.nodes.values().filter_map(|n| n.next_wake(at(self.now)));
            let Some(next) = wakes.chain(arrival).min().filter(|next| *next < end) else { break };
            assert!(next >= self.now, "back in time");
            // A wake-up for the present moment would be a loop.
            self.now = if next == self.now { next + Duration::from_micros(100) } else { next };
            self.deliver();
        }
        self.now = end;
    }

    fn send(&mut self) {
        let now = at(self.now);
        let mut out = Vec::new();
        for (from, prober) in &mut self.nodes {
            while let Some(transmit) = prober.poll(now) {
                let (hello, to, payload) = match transmit {
                    Transmit::Datagram { to, payload } => (false, to, payload),
                    Transmit::Hello { to, payload } => (true, to, payload),
                };
                let size = payload.len() + OVERHEAD;
                out.push(Packet { from: *from, to: index(to), size, hello, request: !hello, payload });
            }
        }
        out.into_iter().for_each(|p| self.post(p));
    }

    fn post(&mut self, packet: Packet) {
        if let Some(delay) = (self.rule)(&packet) {
            self.packets += 1;
            self.under_way.insert((self.now + delay, self.packets), packet);
        }
    }

    fn deliver(&mut self) {
        let later = self.under_way.split_off(&(self.now + Duration::from_nanos(1), 0));
        let arrived = std::mem::replace(&mut self.under_way, later);
        for packet in arrived.into_values() {
            let Some(prober) = self.nodes.get_mut(&packet.to) else { continue };
            if packet.hello {
                prober.receive_hello(&packet.payload);
            } else if let Some(payload) = prober.receive(vtep(packet.from), &packet.payload, at(self.now)) {
                assert!(payload.len() <= packet.payload.len(), "a reply larger than its request");
                let size = payload.len() + OVERHEAD;
                self.post(Packet {
                    from: packet.to,
                    to: packet.from,
                    size,
                    hello: false,
                    request: false,
                    payload,
                });
            }
        }
    }

    pub fn prober(&mut self, node: u16) -> &mut Prober {
        self.nodes.get_mut(&node).unwrap()
    }

    pub fn view(&self, node: u16) -> ProbeView {
        self.nodes[&node].view(at(self.now)).unwrap()
    }

    /// What a node thinks of a peer.
    pub fn opinion(&self, of: u16, about: u16) -> PeerProbe {
        self.view(of).peers.into_iter().find(|p| p.address == node(about)).unwrap()
    }

    /// What a node had to tell since the last call.
    pub fn events(&mut self, node: u16) -> Vec<Event> {
        self.prober(node).events()
    }
}
