//! What the two ends of a trace say to each other.
//!
//! ```text
//!  0       4      5    6       8       16        32    36       42   44    48      64          80        96
//! ┌───────┬──────┬────┬───────┬───────┬─────────┬─────┬────────┬────┬─────┬───────┬───────────┬─────────┐
//! │ magic │format│kind│ state │ token │ target  │ VNI │ counts │ 0  │ VNI │ from  │ interface │  zeros  │
//! └───────┴──────┴────┴───────┴───────┴─────────┴─────┴────────┴────┴─────┴───────┴───────────┴─────────┘
//!                                               └── the far end's ────────┴─ of what arrived ─┘
//! ```
//!
//! All numbers are in network order. Requests and replies are of one size, so nobody can use a node
//! to multiply traffic; what a request does not need is zero in it.

use std::net::{IpAddr, Ipv6Addr};

use thiserror::Error;

/// Octets of every message.
pub const SIZE: usize = 96;

/// The first octets of every message.
const MAGIC: [u8; 4] = *b"mntr";

/// The only format so far.
const FORMAT: u8 = 1;

/// The longest name of an interface in octets (`IFNAMSIZ` - 1, linux/if.h).
const NAME_MAX: usize = 15;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Is anybody there?
    Echo,
    /// Look for packets with the token in them.
    Watch,
    /// What was seen?
    Report,
}

/// Where the far end looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// The request, as it comes in from the underlay.
    RequestNic,
    /// The request, as it comes out of the tunnel.
    RequestDevice,
    /// The request, as it is given to the pod.
    RequestPod,
    /// The reply, as it comes from the pod.
    ReplyPod,
    /// The reply, as it goes into the tunnel.
    ReplyDevice,
    /// The reply, as it goes out to the underlay.
    ReplyNic,
}

impl Point {
    /// All, in the order in which a packet passes them.
    pub const ALL: [Point; 6] = [
        Point::RequestNic,
        Point::RequestDevice,
        Point::RequestPod,
        Point::ReplyPod,
        Point::ReplyDevice,
        Point::ReplyNic,
    ];
}

/// How things are at the far end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The watch that was asked for is there.
    pub watching: bool,
    /// Too many watches are there already.
    pub busy: bool,
    /// The daemon may not watch: it lacks `CAP_NET_RAW`, or the kernel has no packet sockets.
    pub blind: bool,
    /// The overlay's device is up.
    pub device_up: bool,
    /// The kernel forwards packets of the target's family.
    pub forwards: bool,
    /// The target is an address of the node itself.
    pub target_is_own: bool,
    /// A pod has the target's address.
    pub pod_known: bool,
    /// The link to that pod works.
    pub pod_link_up: bool,
}

impl State {
    const BITS: usize = 8;

    fn bits(self) -> [bool; Self::BITS] {
        let State { watching, busy, blind, device_up, forwards, target_is_own, pod_known, pod_link_up } =
            self;
        [watching, busy, blind, device_up, forwards, target_is_own, pod_known, pod_link_up]
    }

    fn encode(self) -> u16 {
        self.bits().iter().enumerate().map(|(bit, set)| u16::from(*set) << bit).sum()
    }

    fn decode(bits: u16) -> Self {
        let set = |bit: usize| bits >> bit & 1 == 1;
        State {
            watching: set(0),
            busy: set(1),
            blind: set(2),
            device_up: set(3),
            forwards: set(4),
            target_is_own: set(5),
            pod_known: set(6),
            pod_link_up: set(7),
        }
    }
}

/// The latest request that came in from the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its network identifier; none where it came without a tunnel.
    pub vni: Option<u32>,
    /// The address on the underlay that it came from.
    pub from: IpAddr,
    /// The interface that it came in by, at most 15 octets.
    pub interface: String,
}

/// What the far end says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// How things are there.
    pub state: State,
    /// The network identifier of its overlay, 24 bits.
    pub vni: u32,
    /// How many packets it saw, for each of [`Point::ALL`].
    pub counts: [u8; Point::ALL.len()],
    /// The latest request that arrived.
    pub arrived: Option<Arrival>,
}

impl Account {
    /// How many packets were seen at a point.
    pub fn at(&self, point: Point) -> u8 {
        self.counts[point as usize]
    }

    /// Counts a packet.
    pub fn count(&mut self, point: Point) {
        let count = &mut self.counts[point as usize];
        *count = count.saturating_add(1);
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is for.
    pub kind: Kind,
    /// The mark of the trace, and what tells its replies from others.
    pub token: u64,
    /// The address that is traced.
    pub target: IpAddr,
    /// What is said; none in a request.
    pub reply: Option<Account>,
}

/// Why some octets are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// Not as many octets as a message has.
    #[error("{len} octets are no message of a trace, which has {SIZE}")]
    Size {
        /// How many there were.
        len: usize,
    },
    /// Other leading octets.
    #[error("this is no message of a trace")]
    NotATrace,
    /// A format of another version of this program.
    #[error("format {format} of the trace is not known here: upgrade the older of the two nodes")]
    Format {
        /// What was found.
        format: u8,
    },
    /// A kind of message that is not known.
    #[error("kind {kind} of the trace is not known here: upgrade the older of the two nodes")]
    Kind {
        /// What was found.
        kind: u8,
    },
    /// The name of an interface that is not printable.
    #[error("the name of an interface is not printable")]
    Name,
}

/// The bit of the kind that makes a message a reply.
const REPLY: u8 = 0x80;

/// Where no tunnel was: no network identifier has so many bits (RFC 7348 section 5).
const NO_TUNNEL: u32 = u32::MAX;

impl Message {
    /// A request.
    pub fn request(kind: Kind, token: u64, target: IpAddr) -> Self {
        Message { kind, token, target, reply: None }
    }

    /// The octets of the message.
    pub fn encode(&self) -> [u8; SIZE] {
        let mut out = [0; SIZE];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = FORMAT;
        out[5] = match self.kind {
            Kind::Echo => 1,
            Kind::Watch => 2,
            Kind::Report => 3,
        };
        out[8..16].copy_from_slice(&self.token.to_be_bytes());
        out[16..32].copy_from_slice(&mapped(self.target));
        let Some(account) = &self.reply else { return out };
        out[5] |= REPLY;
        out[6..8].copy_from_slice(&account.state.encode().to_be_bytes());
        out[32..36].copy_from_slice(&account.vni.to_be_bytes());
        out[36..42].copy_from_slice(&account.counts);
        if let Some(arrival) = &account.arrived {
            out[44..48].copy_from_slice(&arrival.vni.unwrap_or(NO_TUNNEL).to_be_bytes());
            out[48..64].copy_from_slice(&mapped(arrival.from));
            let name = arrival.interface.as_bytes();
            let len = name.len().min(NAME_MAX);
            out[64..64 + len].copy_from_slice(&name[..len]);
        }
        out
    }

    /// Reads a message as it arrived.
    ///
    /// # Errors
    /// [`MessageError`] for anything that this program would not have sent.
    pub fn decode(datagram: &[u8]) -> Result<Self, MessageError> {
        let octets: &[u8; SIZE] =
            datagram.try_into().map_err(|_| MessageError::Size { len: datagram.len() })?;
        if octets[..4] != MAGIC {
            return Err(MessageError::NotATrace);
        }
        if octets[4] != FORMAT {
            return Err(MessageError::Format { format: octets[4] });
        }
        let kind = match octets[5] & !REPLY {
            1 => Kind::Echo,
            2 => Kind::Watch,
            3 => Kind::Report,
            kind => return Err(MessageError::Kind { kind }),
        };
        let reply = if octets[5] & REPLY == 0 { None } else { Some(account(octets)?) };
        Ok(Message { kind, token: u64::from_be_bytes(at(octets, 8)), target: address(octets, 16), reply })
    }
}

fn account(octets: &[u8; SIZE]) -> Result<Account, MessageError> {
    let name = &octets[64..64 + NAME_MAX];
    let name = &name[..name.iter().position(|octet| *octet == 0).unwrap_or(NAME_MAX)];
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(MessageError::Name);
    }
    // An interface has a name (dev_valid_name in net/core/dev.c).
    let arrived = (!name.is_empty()).then(|| Arrival {
        vni: Some(u32::from_be_bytes(at(octets, 44))).filter(|vni| *vni != NO_TUNNEL),
        from: address(octets, 48),
        interface: String::from_utf8_lossy(name).into_owned(),
    });
    Ok(Account {
        state: State::decode(u16::from_be_bytes(at(octets, 6))),
        vni: u32::from_be_bytes(at(octets, 32)),
        counts: at(octets, 36),
        arrived,
    })
}

/// `N` octets of a message.
fn at<const N: usize>(octets: &[u8; SIZE], from: usize) -> [u8; N] {
    std::array::from_fn(|i| octets[from + i])
}

fn address(octets: &[u8; SIZE], from: usize) -> IpAddr {
    Ipv6Addr::from(at::<16>(octets, from)).to_canonical()
}

/// An IPv4 address as an IPv6 one (RFC 4291 section 2.5.5.2).
fn mapped(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}

#[cfg(test)]
mod tests;
