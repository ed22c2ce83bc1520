//! Connections that the kernel remembers, and how they are forgotten.
//!
//! Where a packet goes after its destination was translated is decided once per connection. For
//! UDP and SCTP, whose packets keep a connection alive without ever beginning a new one, this
//! outlives the pod that the packets went to. What is remembered of such a pod is deleted here.

use std::net::IpAddr;

use minionet_core::addr::Family;
use nix::errno::Errno;

use crate::nft::Malformed;
use crate::nft::NftError;
use crate::nft::socket::{NftSocket, Reply};
use crate::nft::wire::{Attrs, Parsed};
use crate::sysctl;

/// How many connections one call deletes at most, so that no call takes for ever; what is left
/// ends by itself.
const MOST: usize = 20_000;

// linux/netlink.h
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;

// linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h
const SUBSYS_CTNETLINK: u16 = 1;
const CT_GET: u16 = SUBSYS_CTNETLINK << 8 | 1;
const CT_DELETE: u16 = SUBSYS_CTNETLINK << 8 | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
// `CTA_FILTER_F_CTA_*`, net/netfilter/nf_internals.h
const BY_SOURCE: u32 = 1 << 0;
const BY_PROTOCOL: u32 = 1 << 3;
const BY_DESTINATION_PORT: u32 = 1 << 5;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Where its packets come from.
    pub source: IpAddr,
    /// Where they go.
    pub destination: IpAddr,
    /// The transport protocol's number.
    pub protocol: u8,
    /// The source port; 0 where the protocol has none.
    pub source_port: u16,
    /// The destination port; 0 where the protocol has none.
    pub destination_port: u16,
}

/// A connection: the first packets as they came in, and the answers as they come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The direction of the first packet, before anything was translated.
    pub original: Tuple,
    /// The answers, before anything is translated back.
    pub reply: Tuple,
}

/// Which connections are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Those that this address began.
    From(IpAddr),
    /// Those that this address answers, whatever they were addressed to.
    AnsweredBy(IpAddr),
    /// All of a family.
    Any(Family),
    /// Those to a port, whatever they were translated to.
    ToPort {
        /// The addresses' family.
        family: Family,
        /// The transport protocol's number.
        protocol: u8,
        /// The port.
        port: u16,
    },
}

/// The connections of one network namespace: that of the thread that called [`Conntrack::open`].
#[derive(Debug)]
pub struct Conntrack {
    socket: NftSocket,
}

/// A connection with what the kernel needs to find it again.
struct Found {
    flow: Flow,
    original: Vec<u8>,
    id: Option<Vec<u8>>,
    zone: Option<Vec<u8>>,
}

/// How many connections the kernel remembers in the calling thread's network namespace; nothing
/// where it does not say. Cheap, where going through them takes as long as its table has places.
pub fn remembered() -> Option<usize> {
    sysctl::read("netfilter/nf_conntrack_count").ok().flatten()?.parse().ok()
}

impl Conntrack {
    /// Opens a socket to netfilter in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`NftError::Open`].
    pub fn open() -> Result<Self, NftError> {
        Ok(Self { socket: NftSocket::open()? })
    }

    /// Forgets the connections of a pattern that `doomed` says yes to; gives their number.
    ///
    /// # Errors
    /// A netlink error, also where the kernel has no `nf_conntrack_netlink`.
    pub fn forget(&mut self, pattern: Pattern, doomed: impl Fn(&Flow) -> bool) -> Result<usize, NftError> {
        let mut listed = Vec::new();
        self.walk(pattern, |found| {
            if listed.len() < MOST && doomed(&found.flow) {
                listed.push(found);
            }
        })?;
        let mut count = 0;
        for found in listed {
            let action = "forget a connection";
            let mut attrs = Attrs::default();
            attrs.nested_raw(CTA_TUPLE_ORIG, &found.original);
            // Only that one: another may have taken its place.
            found.id.iter().for_each(|id| attrs.raw(CTA_ID, id));
            found.zone.iter().for_each(|zone| attrs.raw(CTA_ZONE, zone));
            match self.socket.request(CT_DELETE, NLM_F_ACK, pattern.family(), attrs, action) {
                Ok(_) => count += 1,
                Err(error) if error.errno() == Some(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Looks at the connections of a pattern, however many they are.
    ///
    /// # Errors
    /// As [`Conntrack::forget`].
    pub fn each(&mut self, pattern: Pattern, mut visit: impl FnMut(&Flow)) -> Result<(), NftError> {
        self.walk(pattern, |found| visit(&found.flow))
    }

    /// Goes through the connections of a pattern. The kernel leaves out others where it can (Linux
    /// 5.8); what an older one lists beyond is left out here.
    fn walk(&mut self, pattern: Pattern, mut visit: impl FnMut(Found)) -> Result<(), NftError> {
        let action = "list connections";
        let (family, filter) = (pattern.family(), pattern.filter());
        self.socket.request_each(CT_GET, NLM_F_DUMP, family, filter, action, |reply| {
            let found =
                decode(&reply).map_err(|source| NftError::Malformed { action: action.to_owned(), source })?;
            found.filter(|found| pattern.matches(&found.flow)).into_iter().for_each(&mut visit);
            Ok(())
        })
    }
}

impl Pattern {
    /// `AF_INET` or `AF_INET6`.
    fn family(self) -> u8 {
        let ipv4 = match self {
            Pattern::From(address) | Pattern::AnsweredBy(address) => address.is_ipv4(),
            Pattern::Any(family) | Pattern::ToPort { family, .. } => family == Family::V4,
        };
        if ipv4 { nix::libc::AF_INET as u8 } else { nix::libc::AF_INET6 as u8 }
    }

    fn matches(self, flow: &Flow) -> bool {
        match self {
            Pattern::From(address) => flow.original.source == address,
            Pattern::AnsweredBy(address) => flow.reply.source == address,
            Pattern::Any(family) => Family::of(flow.original.source) == family,
            Pattern::ToPort { family, protocol, port } => {
                let to = &flow.original;
                (Family::of(to.destination), to.protocol, to.destination_port) == (family, protocol, port)
            }
        }
    }

    fn filter(self) -> Attrs {
        let mut attrs = Attrs::default();
        let (tuple, flags_of, flags) = match self {
            Pattern::From(_) => (CTA_TUPLE_ORIG, CTA_FILTER_ORIG_FLAGS, BY_SOURCE),
            Pattern::AnsweredBy(_) => (CTA_TUPLE_REPLY, CTA_FILTER_REPLY_FLAGS, BY_SOURCE),
            Pattern::Any(_) => return attrs,
            Pattern::ToPort { .. } => {
                (CTA_TUPLE_ORIG, CTA_FILTER_ORIG_FLAGS, BY_PROTOCOL | BY_DESTINATION_PORT)
            }
        };
        attrs.nest(tuple, |tuple| match self {
            Pattern::From(address) | Pattern::AnsweredBy(address) => {
                tuple.nest(CTA_TUPLE_IP, |ip| match address {
                    IpAddr::V4(v4) => ip.raw(CTA_IP_V4_SRC, &v4.octets()),
                    IpAddr::V6(v6) => ip.raw(CTA_IP_V6_SRC, &v6.octets()),
                });
            }
            Pattern::Any(_) => {}
            Pattern::ToPort { protocol, port, .. } => tuple.nest(CTA_TUPLE_PROTO, |proto| {
                proto.raw(CTA_PROTO_NUM, &[protocol]);
                proto.raw(CTA_PROTO_DST_PORT, &port.to_be_bytes());
            }),
        });
        // In the byte order of the host, unlike the rest.
        attrs.nest(CTA_FILTER, |filter| filter.raw(flags_of, &flags.to_ne_bytes()));
        attrs
    }
}

/// A connection from a message; none if it is of a kind that has no addresses.
fn decode(reply: &Reply) -> Result<Option<Found>, Malformed> {
    let attrs = Parsed::new(&reply.attrs)?;
    let original = attrs.need(CTA_TUPLE_ORIG)?;
    let answers = attrs.need(CTA_TUPLE_REPLY)?;
    let (Some(flow_original), Some(flow_reply)) = (tuple(original)?, tuple(answers)?) else {
        return Ok(None);
    };
    Ok(Some(Found {
        flow: Flow { original: flow_original, reply: flow_reply },
        original: original.to_vec(),
        id: attrs.get(CTA_ID).map(<[u8]>::to_vec),
        zone: attrs.get(CTA_ZONE).map(<[u8]>::to_vec),
    }))
}

fn tuple(bytes: &[u8]) -> Result<Option<Tuple>, Malformed> {
    let tuple = Parsed::new(bytes)?;
    let (ip, proto) = (tuple.nested(CTA_TUPLE_IP)?, tuple.nested(CTA_TUPLE_PROTO)?);
    let address = |v4: u16, v6: u16| {
        let of4 = ip.get(v4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(IpAddr::from);
        of4.or_else(|| ip.get(v6).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(IpAddr::from))
    };
    let port = |kind| {
        let bytes = proto.get(kind).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u16::from_be_bytes)
    };
    let (Some(source), Some(destination)) =
        (address(CTA_IP_V4_SRC, CTA_IP_V6_SRC), address(CTA_IP_V4_DST, CTA_IP_V6_DST))
    else {
        return Ok(None);
    };
    Ok(Some(Tuple {
        source,
        destination,
        protocol: proto.get(CTA_PROTO_NUM).and_then(|bytes| bytes.first().copied()).unwrap_or(0),
        source_port: port(CTA_PROTO_SRC_PORT),
        destination_port: port(CTA_PROTO_DST_PORT),
    }))
}
