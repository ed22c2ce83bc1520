//! Peers, asked one by one and all at the same time.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use minionet_core::config::Config;
use minionet_core::doctor::facts::PeerFacts;
use minionet_core::membership::Liveness;
use minionet_core::overlay::overlay_mtu;
use minionet_core::plan::NodePlan;
use minionet_core::probe::view::ProbeView;
use minionet_core::probe::{About, HEADER, Kind as ProbeKind, Message as Probe};
use minionet_core::trace::{Kind, Message};

use crate::local::Place;
use crate::probe::{boot_id, unfragmented};
use crate::trace::{Channels, ping, readable, token};

/// Most peers that are asked; of more, as many evenly spread ones.
const MOST: usize = 32;

/// How often, and with what patience, a peer is asked.
const WAITS: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800)];

/// Asks the peers, at most [`MOST`], each in a thread of its own.
pub fn ask(config: &Config, place: &Place, peers: &[NodePlan], probed: Option<&ProbeView>) -> Vec<PeerFacts> {
    let step = peers.len().div_ceil(MOST).max(1);
    let chosen: Vec<&NodePlan> = peers.iter().step_by(step).collect();
    thread::scope(|scope| {
        let threads: Vec<_> =
            chosen.iter().map(|peer| scope.spawn(move || ask_one(config, place, peer, probed))).collect();
        // One that panics has said nothing.
        threads.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    })
}

fn ask_one(config: &Config, place: &Place, peer: &NodePlan, probed: Option<&ProbeView>) -> Option<PeerFacts> {
    let (own, theirs) = (place.me.blocks.first()?.gateway, peer.blocks.first()?.gateway);
    let mtu = overlay_mtu(place.plan.underlay(), config.underlay_mtu.unwrap_or(place.interface.mtu));
    let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
    let prober = config.probe_port.map(|port| Prober { place, own, to: SocketAddr::new(theirs, port), mtu });
    // All at the same time, so that a peer that is silent costs the time of one question.
    let (ping, answers, probe) = thread::scope(|scope| {
        let ping = scope.spawn(|| ping(place.identity.address, peer.node, &WAITS));
        let answers = scope.spawn(|| {
            let request = Message::request(Kind::Echo, token(), theirs);
            let channels = Channels::open(place.identity.address, own, config.trace_port?);
            Some(channels.ask(peer.node, theirs, &request, &WAITS))
        });
        let probe = prober.as_ref().is_some_and(|prober| prober.passes(HEADER as u16));
        (ping.join().unwrap_or(false), answers.join().ok().flatten(), probe)
    });
    let mut tunnel = probe || answers.as_ref().is_some_and(|answers| answers.tunnel.is_some());
    if config.probe_port.is_none() && config.trace_port.is_none() {
        let known = probed.iter().flat_map(|view| &view.peers).find(|p| p.address == peer.node);
        tunnel = known.is_some_and(|p| p.state == Liveness::Alive);
    }
    // IP and UDP (RFC 791, RFC 8200, RFC 768) take their part of the full size.
    let headers = if theirs.is_ipv4() { 28 } else { 48 };
    let size = mtu.saturating_sub(headers).max(HEADER as u16);
    Some(PeerFacts {
        node: peer.node,
        ping,
        underlay: answers.map(|answers| answers.underlay.is_some()),
        tunnel,
        full_size: prober.filter(|_| probe).map(|prober| prober.passes(size)),
    })
}

/// Sends what the daemon's probe sends, from a port of its own.
struct Prober<'a> {
    place: &'a Place,
    own: IpAddr,
    to: SocketAddr,
    mtu: u16,
}

impl Prober<'_> {
    /// Whether a request of this size is answered.
    fn passes(&self, size: u16) -> bool {
        let Ok(socket) = unfragmented(SocketAddr::new(self.own, 0)) else { return false };
        let request = Probe {
            kind: ProbeKind::Request,
            size,
            sequence: 0,
            token: token(),
            hears: false,
            about: About {
                node: self.place.identity.address,
                plan: self.place.plan.digest(),
                mtu: self.mtu,
                boot: boot_id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
        };
        WAITS.iter().any(|wait| {
            // Too large for the device is the same as too large for the way.
            let _unanswered = socket.send_to(&request.encode(), self.to);
            let until = Instant::now() + *wait;
            while readable(std::iter::once(&socket), until) {
                if is_answered(&socket, &request) {
                    return true;
                }
            }
            false
        })
    }
}

fn is_answered(socket: &UdpSocket, request: &Probe) -> bool {
    /// More than a reply and the errors before it.
    const MOST: usize = 16;
    let mut buffer = [0; HEADER + 1];
    for _ in 0..MOST {
        match socket.recv_from(&mut buffer) {
            Ok((len, _)) => {
                let reply = Probe::decode(&buffer[..len]);
                if reply.is_ok_and(|r| r.kind == ProbeKind::Reply && r.token == request.token) {
                    return true;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => {}
        }
    }
    false
}
