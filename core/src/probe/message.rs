//! What probes look like on the wire.
//!
//! ```text
//!  0       4      5    6      8          12    14      15  16      24     32        48          64  65       96
//! ┌───────┬──────┬────┬──────┬──────────┬─────┬───────┬───┬───────┬──────┬─────────┬───────────┬───┬────────┬───────
//! │ magic │format│kind│ size │ sequence │ MTU │ flags │ 0 │ token │ plan │ boot id │   node    │ n │version │ zeros
//! └───────┴──────┴────┴──────┴──────────┴─────┴───────┴───┴───────┴──────┴─────────┴───────────┴───┴────────┴───────
//! ```
//!
//! All numbers are in network order. The fixed part of [`HEADER`] octets may be followed by zeros
//! up to the size that is being tried. A reply is the fixed part alone and a request is never
//! shorter, so nobody can use a node to multiply traffic. The lowest of the flags is
//! [`Message::hears`]. Octets and flags that are zero today may get a meaning; the format changes
//! only when an older reader would be misled.
//!
//! Nothing here is authenticated. A message is worth as much as the address that it came from,
//! which the guards in the kernel vouch for (see [`super`]).

use std::net::{IpAddr, Ipv6Addr};

use thiserror::Error;

/// Octets of the fixed part: the size of a reply, and the least size of a request.
pub const HEADER: usize = 96;

/// The first octets of every message.
const MAGIC: [u8; 4] = *b"mnpb";

/// The only format so far.
const FORMAT: u8 = 1;

/// The flag of [`Message::hears`].
const HEARS: u8 = 1;

/// The longest text of a version, in octets.
const VERSION_MAX: usize = HEADER - 65;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Asks for a reply.
    Request,
    /// Answers a request, with its sequence number and its token.
    Reply,
    /// Asks for nothing: tells a peer that does not answer who is there.
    Hello,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Request => 1,
            Kind::Reply => 2,
            Kind::Hello => 3,
        }
    }
}

/// What a node says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its address on the underlay.
    pub node: IpAddr,
    /// The digest of its plan ([`crate::plan::AddressPlan::digest`]).
    pub plan: u64,
    /// The MTU of its overlay in octets.
    pub mtu: u16,
    /// The kernel's number for its present boot (random(4), `boot_id`).
    pub boot: [u8; 16],
    /// The version of its program: printable ASCII, at most 31 octets.
    pub version: String,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is for.
    pub kind: Kind,
    /// Octets of the request's UDP payload; in a reply, those of the request that arrived.
    pub size: u16,
    /// Counts the requests of a sender, for a person who watches the wire.
    pub sequence: u32,
    /// What only who got the request can know.
    pub token: u64,
    /// Whether the sender of a request got the receiver's reply to the one before.
    pub hears: bool,
    /// Who sent it.
    pub about: About,
}

/// Why some octets are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// Fewer octets than the fixed part has.
    #[error("{len} octets are too few for a probe, which has at least {HEADER}")]
    Short {
        /// How many there were.
        len: usize,
    },
    /// Other leading octets.
    #[error("this is not a probe")]
    NotAProbe,
    /// A format of another version of this program.
    #[error("format {format} of the probe is not known here: upgrade the older of the two nodes")]
    Format {
        /// What was found.
        format: u8,
    },
    /// A kind of message that is not known.
    #[error("kind {kind} of the probe is not known here: upgrade the older of the two nodes")]
    Kind {
        /// What was found.
        kind: u8,
    },
    /// A request that is not as long as it says it is.
    #[error("a request of {said} octets arrived with {len}")]
    Size {
        /// What it says.
        said: u16,
        /// What arrived.
        len: usize,
    },
    /// A text of the version that is too long or not printable.
    #[error("the version of the sender is not a printable text of at most {VERSION_MAX} octets")]
    Version,
}

impl Message {
    /// The octets of the message, with zeros up to `size` for a request, and none for others.
    pub fn encode(&self) -> Vec<u8> {
        let len = match self.kind {
            Kind::Request => usize::from(self.size).max(HEADER),
            Kind::Reply | Kind::Hello => HEADER,
        };
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[FORMAT, self.kind.code()]);
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.about.mtu.to_be_bytes());
        out.extend_from_slice(&[if self.hears { HEARS } else { 0 }, 0]);
        out.extend_from_slice(&self.token.to_be_bytes());
        out.extend_from_slice(&self.about.plan.to_be_bytes());
        out.extend_from_slice(&self.about.boot);
        out.extend_from_slice(&mapped(self.about.node).octets());
        let version = self.about.version.as_bytes();
        let version = &version[..version.len().min(VERSION_MAX)];
        // At most 31.
        out.push(version.len() as u8);
        out.extend_from_slice(version);
        out.resize(len, 0);
        out
    }

    /// Reads a message as it arrived.
    ///
    /// # Errors
    /// [`MessageError`] for anything that this program would not have sent.
    pub fn decode(datagram: &[u8]) -> Result<Self, MessageError> {
        let fixed: &[u8; HEADER] =
            datagram.first_chunk().ok_or(MessageError::Short { len: datagram.len() })?;
        if fixed[..4] != MAGIC {
            return Err(MessageError::NotAProbe);
        }
        if fixed[4] != FORMAT {
            return Err(MessageError::Format { format: fixed[4] });
        }
        let kind = match fixed[5] {
            1 => Kind::Request,
            2 => Kind::Reply,
            3 => Kind::Hello,
            kind => return Err(MessageError::Kind { kind }),
        };
        let size = u16::from_be_bytes(at(fixed, 6));
        if kind == Kind::Request && usize::from(size) != datagram.len() {
            return Err(MessageError::Size { said: size, len: datagram.len() });
        }
        let len = usize::from(fixed[64]);
        let version = fixed[65..].get(..len).filter(|text| is_version(text));
        let version = version.ok_or(MessageError::Version)?;
        Ok(Message {
            kind,
            size,
            sequence: u32::from_be_bytes(at(fixed, 8)),
            token: u64::from_be_bytes(at(fixed, 16)),
            hears: fixed[14] & HEARS != 0,
            about: About {
                mtu: u16::from_be_bytes(at(fixed, 12)),
                plan: u64::from_be_bytes(at(fixed, 24)),
                boot: at(fixed, 32),
                node: Ipv6Addr::from(at::<16>(fixed, 48)).to_canonical(),
                version: String::from_utf8_lossy(version).into_owned(),
            },
        })
    }
}

/// Whether a message could say that this is the sender's version.
pub(super) fn is_version(text: &[u8]) -> bool {
    text.len() <= VERSION_MAX && text.iter().all(u8::is_ascii_graphic)
}

/// `N` octets of the fixed part.
fn at<const N: usize>(fixed: &[u8; HEADER], from: usize) -> [u8; N] {
    std::array::from_fn(|i| fixed[from + i])
}

/// An IPv4 address as an IPv6 one (RFC 4291 section 2.5.5.2).
fn mapped(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = Message> {
        let kind = prop_oneof![Just(Kind::Request), Just(Kind::Reply), Just(Kind::Hello)];
        let about = (any::<[u8; 4]>(), any::<u64>(), any::<u16>(), any::<[u8; 16]>(), "[!-~]{0,31}");
        let numbers = (HEADER as u16..9000, any::<u32>(), any::<u64>(), any::<bool>());
        (kind, numbers, about).prop_map(|(kind, (size, sequence, token, hears), a)| {
            let about = About { node: a.0.into(), plan: a.1, mtu: a.2, boot: a.3, version: a.4 };
            Message { kind, size, sequence, token, hears, about }
        })
    }

    proptest! {
        #[test]
        fn survives_the_wire(message in message()) {
            let wire = message.encode();
            prop_assert_eq!(Message::decode(&wire), Ok(message.clone()));
            let size = if message.kind == Kind::Request { usize::from(message.size) } else { HEADER };
            prop_assert_eq!(wire.len(), size);
        }

        #[test]
        fn noise_is_no_message_and_no_panic(mut noise in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Message::decode(&noise).is_err());
            // Also with the right beginning; whatever is understood can be said again.
            let n = noise.len().min(5);
            noise[..n].copy_from_slice(&[b'm', b'n', b'p', b'b', 1][..n]);
            if let Ok(message) = Message::decode(&noise) {
                prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
            }
        }

        #[test]
        fn a_request_that_was_cut_is_none(message in message(), cut in 1usize..200) {
            let wire = Message { kind: Kind::Request, ..message }.encode();
            prop_assert!(Message::decode(&wire[..wire.len() - cut.min(wire.len())]).is_err());
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let about = About {
            node: "172.20.0.12".parse().unwrap(),
            plan: 0x0102_0304_0506_0708,
            mtu: 1450,
            boot: [0xb0; 16],
            version: "0.1.0".into(),
        };
        let token = 0xa1a2_a3a4_a5a6_a7a8;
        let wire =
            Message { kind: Kind::Request, size: 100, sequence: 7, token, hears: true, about }.encode();
        assert_eq!(wire[..8], *b"mnpb\x01\x01\x00\x64");
        assert_eq!(wire[8..16], [0, 0, 0, 7, 0x05, 0xaa, 1, 0]);
        assert_eq!(wire[16..24], [0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8]);
        assert_eq!(wire[24..32], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(wire[32..48], [0xb0; 16]);
        assert_eq!(wire[58..64], [0xff, 0xff, 172, 20, 0, 12]);
        assert_eq!(wire[64..71], *b"\x050.1.0\x00");
        assert_eq!(wire.len(), 100);
    }

    #[test]
    fn what_another_version_sends_is_named() {
        let about = About {
            node: "fd20::1".parse().unwrap(),
            plan: 0,
            mtu: 0,
            boot: [0; 16],
            version: "x".repeat(40),
        };
        let message = Message { kind: Kind::Reply, size: 96, sequence: 0, token: 0, hears: false, about };
        let wire = message.encode();
        assert_eq!(Message::decode(&wire).unwrap().about.version.len(), 31);
        for (octet, value, part) in
            [(0, b'x', "not a probe"), (4, 2, "format 2"), (5, 9, "kind 9"), (64, 32, "version")]
        {
            let mut other = wire.clone();
            other[octet] = value;
            let error = Message::decode(&other).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
