//! Peers of which only the probe exists: they answer and ask as true ones do.
//!
//! One thread speaks for all of them. It takes the packets of VXLAN that a minion sends to any of
//! their addresses, and sends what the kernel and the daemon of that peer would send: each has the
//! state machine that the daemon has, as it has become in a cluster of so many ([`crate::past`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use minionet_core::constants::{DEFAULT_PORT, DEFAULT_VNI};
use minionet_core::plan::NodePlan;
use minionet_core::probe::{Message, Prober, Transmit};
use netns_testbed::Namespace;
use nix::libc::{in_addr, in_pktinfo};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::Ipv4PacketInfo;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt,
};

use crate::past::{self, Acquainted, Heard, PROBE_PORT};

/// Octets before a message: VXLAN, Ethernet, IPv4 without options, UDP.
const BEFORE: usize = 8 + 14 + 20 + 8;
/// Where the headers of Ethernet, IPv4 and UDP begin.
const ETHERNET: usize = 8;
const IP: usize = ETHERNET + 14;
const UDP: usize = IP + 20;
/// The longest wait for an end.
const LOOK: Duration = Duration::from_millis(100);
/// The peers. They end with this.
pub struct Neighbours {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    heard: Mutex<Heard>,
}

impl Neighbours {
    /// Lets them live in a host that gets what is sent to their addresses.
    pub fn start(host: &Namespace, minion: &NodePlan, all: Vec<Acquainted>) -> Result<Self> {
        let socket = host.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT)))?;
        let socket = socket.context("listen for VXLAN")?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, Ipv4PacketInfo, &true)?;
        let shared = Arc::new(Shared::default());
        let mut peers = BTreeMap::new();
        for acquainted in all {
            peers.insert(ipv4(acquainted.plan.node)?, Peer::new(acquainted, minion)?);
        }
        let mut speaker = Speaker { socket, shared: Arc::clone(&shared), peers, due: BTreeSet::new() };
        speaker.take_up()?;
        Ok(Neighbours { shared, thread: Some(thread::spawn(move || speaker.speak())) })
    }

    /// What they have heard.
    ///
    /// # Errors
    /// When they are not there any more.
    pub fn heard(&self) -> Result<Heard> {
        ensure!(
            self.thread.as_ref().is_some_and(|thread| !thread.is_finished()),
            "the peers have fallen silent"
        );
        Ok(*self.shared.heard())
    }
}

impl Shared {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        // A count is right whoever panicked.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What went wrong shows in what they heard.
            let _ended = thread.join();
        }
    }
}

struct Speaker {
    socket: UdpSocket,
    shared: Arc<Shared>,
    peers: BTreeMap<Ipv4Addr, Peer>,
    /// When there is something to do for whom, once for every peer.
    due: BTreeSet<(Duration, Ipv4Addr)>,
}

struct Peer {
    prober: Prober,
    minion: Ipv4Addr,
    /// When there is something to do for it.
    due: Option<Duration>,
    /// What comes before its messages.
    before: [u8; BEFORE],
}

impl Speaker {
    /// Finds out when there is something to do for whom.
    fn take_up(&mut self) -> Result<()> {
        let now = past::now()?;
        for (address, peer) in &mut self.peers {
            peer.due = peer.prober.next_wake(now);
            self.due.extend(peer.due.map(|at| (at, *address)));
        }
        Ok(())
    }

    fn speak(mut self) -> Result<()> {
        // Larger than any packet.
        let mut buffer = vec![0; 65536];
        while !self.shared.over.load(Ordering::Relaxed) {
            while let Some((len, address, minion)) = self.receive(&mut buffer)? {
                self.hear(&buffer[..len], address, minion)?;
            }
            let now = past::now()?;
            while let Some((_, address)) = self.due.first().copied().filter(|(at, _)| *at <= now.monotonic) {
                self.ask(address)?;
            }
            let next = self.due.first().map_or(LOOK, |(at, _)| at.saturating_sub(now.monotonic));
            // A millisecond more than none: what is due sooner is due by then.
            let wait = PollTimeout::try_from(next.min(LOOK) + Duration::from_millis(1))?;
            poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], wait)?;
        }
        Ok(())
    }

    /// Lets a peer take a packet, and say what it has to say to it.
    fn hear(&mut self, packet: &[u8], address: Ipv4Addr, minion: Ipv4Addr) -> Result<()> {
        let Some((_, payload)) = packet.split_first_chunk::<BEFORE>() else { return Ok(()) };
        // What is no message of the probe is nothing that these would answer.
        let Ok(message) = Message::decode(payload) else { return Ok(()) };
        self.shared.heard().count(&message);
        let Some(peer) = self.peers.get_mut(&address).filter(|peer| peer.minion == minion) else {
            return Ok(());
        };
        let now = past::now()?;
        let from = ip(&packet[IP + 12..]);
        if let Some(reply) = peer.prober.receive(from, payload, now) {
            send(&self.socket, address, peer.minion, &peer.packet(&reply))?;
        }
        self.ask(address)
    }

    /// Lets a peer ask, if it is its time.
    fn ask(&mut self, address: Ipv4Addr) -> Result<()> {
        let now = past::now()?;
        let Some(peer) = self.peers.get_mut(&address) else { return Ok(()) };
        while let Some(transmit) = peer.prober.poll(now) {
            // Hellos go to those that do not answer.
            let Transmit::Datagram { payload, .. } = transmit else { continue };
            send(&self.socket, address, peer.minion, &peer.packet(&payload))?;
        }
        if let Some(at) = peer.due {
            self.due.remove(&(at, address));
        }
        peer.due = peer.prober.next_wake(now);
        self.due.extend(peer.due.map(|at| (at, address)));
        Ok(())
    }

    /// A packet, to whom it was sent, and by whom.
    fn receive(&self, buffer: &mut [u8]) -> Result<Option<(usize, Ipv4Addr, Ipv4Addr)>> {
        let mut space = nix::cmsg_space!(in_pktinfo);
        let mut parts = [IoSliceMut::new(buffer)];
        let received =
            recvmsg::<SockaddrIn>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty());
        let message = match received.map_err(std::io::Error::from) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            other => other.context("listen to the minion")?,
        };
        let from = message.address.context("a packet from nobody")?;
        let to = message.cmsgs()?.find_map(|told| match told {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr)))
            }
            _ => None,
        });
        Ok(Some((message.bytes, to.context("a packet to nobody")?, from.ip())))
    }
}

impl Peer {
    /// One that speaks to a minion.
    fn new(acquainted: Acquainted, minion: &NodePlan) -> Result<Self> {
        let Acquainted { plan, prober } = acquainted;
        let (from, to) = (ipv4(past::vtep(&plan)?)?, ipv4(past::vtep(minion)?)?);
        let mut before = [0; BEFORE];
        // The flag that says that a network identifier follows (RFC 7348 section 5).
        before[0] = 8;
        before[4..ETHERNET].copy_from_slice(&(DEFAULT_VNI << 8).to_be_bytes());
        before[ETHERNET..ETHERNET + 6].copy_from_slice(&minion.mac.0);
        before[ETHERNET + 6..ETHERNET + 12].copy_from_slice(&plan.mac.0);
        before[ETHERNET + 12] = 0x08;
        // A header of 20 octets, not to be fragmented, for 64 hops, of UDP (RFC 791 section 3.1).
        before[IP] = 0x45;
        before[IP + 6] = 0x40;
        before[IP + 8..IP + 10].copy_from_slice(&[64, 17]);
        before[IP + 12..IP + 16].copy_from_slice(&from.octets());
        before[IP + 16..IP + 20].copy_from_slice(&to.octets());
        for end in [UDP, UDP + 2] {
            before[end..end + 2].copy_from_slice(&PROBE_PORT.to_be_bytes());
        }
        Ok(Peer { prober, minion: ipv4(minion.node)?, due: None, before })
    }

    /// A message of it in a packet.
    fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut out = self.before.to_vec();
        // At most the MTU.
        let udp = (8 + payload.len()) as u16;
        out[IP + 2..IP + 4].copy_from_slice(&(20 + udp).to_be_bytes());
        out[IP + 10..IP + 12].fill(0);
        let words =
            out[IP..UDP].chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
        let sum: u32 = words.sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        // Folded twice, the sum of ten words fits (RFC 1071).
        let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
        out[IP + 10..IP + 12].copy_from_slice(&checksum.to_be_bytes());
        out[UDP + 4..UDP + 6].copy_from_slice(&udp.to_be_bytes());
        // Without a checksum (RFC 768): the outer packet has one.
        out[UDP + 6..UDP + 8].fill(0);
        out.extend_from_slice(payload);
        out
    }
}

/// Sends a packet of VXLAN in the name of a peer.
fn send(socket: &UdpSocket, peer: Ipv4Addr, minion: Ipv4Addr, packet: &[u8]) -> Result<()> {
    let source = in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: in_addr { s_addr: peer.to_bits().to_be() },
        ipi_addr: in_addr { s_addr: 0 },
    };
    let to = SockaddrIn::from(SocketAddrV4::new(minion, DEFAULT_PORT));
    let told = [ControlMessage::Ipv4PacketInfo(&source)];
    let sent = sendmsg(socket.as_raw_fd(), &[IoSlice::new(packet)], &told, MsgFlags::empty(), Some(&to));
    sent.with_context(|| format!("speak for {peer}"))?;
    Ok(())
}

/// An address in a header.
fn ip(octets: &[u8]) -> IpAddr {
    let address: [u8; 4] = std::array::from_fn(|i| octets[i]);
    address.into()
}

fn ipv4(address: IpAddr) -> Result<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => bail!("{address} is no IPv4 address"),
    }
}
