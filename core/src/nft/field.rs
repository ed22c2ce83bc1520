//! What a rule can look at: the left-hand sides of nft matches.

use std::fmt;

use super::expr::{Expr, PayloadBase, PayloadCsum, Reg};
use super::value::DataType;

/// A key of the `meta` expression (`enum nft_meta_keys`, linux/netfilter/nf_tables.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetaKey {
    /// The mark of the packet.
    Mark,
    /// Index of the interface it came in by.
    Iif,
    /// Index of the interface it leaves by.
    Oif,
    /// Name of the interface it came in by.
    IifName,
    /// Name of the interface it leaves by.
    OifName,
    /// The network protocol, 1 byte: 2 for IPv4, 10 for IPv6.
    NfProto,
    /// The transport protocol, 1 byte.
    L4Proto,
    /// The link kind ("veth", "vxlan", …) of the interface it came in by.
    IifKind,
    /// The link kind of the interface it leaves by.
    OifKind,
    /// A key that minionet never writes, as its number.
    Other(u32),
}

/// A key of the `ct` expression (`enum nft_ct_keys`, linux/netfilter/nf_tables.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtKey {
    /// State bits.
    State,
    /// Direction, 1 byte: 0 for the original one, 1 for replies.
    Direction,
    /// Status bits.
    Status,
    /// The mark of the connection.
    Mark,
    /// A key that minionet never writes, as its number.
    Other(u32),
}

/// Which address a `fib` expression looks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FibAddr {
    /// The source.
    Saddr,
    /// The destination.
    Daddr,
}

/// What a `fib` expression returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FibResult {
    /// Whether there is a route at all: 1 or 0.
    Exists,
    /// The type of the address (`RTN_*`, linux/rtnetlink.h), of which 2 is local.
    Type,
}

/// A field of a packet, its metadata or its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// Metadata.
    Meta(MetaKey),
    /// The connection the packet belongs to.
    Ct(CtKey),
    /// A look-up in the routing tables.
    Fib {
        /// The address looked up.
        addr: FibAddr,
        /// Only routes over the interface the packet came in by.
        iif: bool,
        /// What is asked.
        result: FibResult,
    },
    /// Bytes of the packet.
    Header(Header),
}

/// A field of the packet itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Header {
    /// IPv4 source address.
    IpSaddr,
    /// IPv4 destination address.
    IpDaddr,
    /// IPv6 source address.
    Ip6Saddr,
    /// IPv6 destination address.
    Ip6Daddr,
    /// A port.
    Port {
        /// The transport protocol that the rule demands, or any.
        proto: Option<u8>,
        /// The destination port rather than the source port.
        destination: bool,
    },
    /// Bytes of a header.
    Raw {
        /// The header.
        base: PayloadBase,
        /// Where they start, in bytes.
        offset: u32,
        /// How many.
        len: u8,
    },
}

/// The number of UDP in an IP header (RFC 768).
pub(super) const UDP: u8 = 17;
/// The number of TCP in an IP header (RFC 9293).
const TCP: u8 = 6;

impl Field {
    /// `meta mark`
    pub const MARK: Self = Self::Meta(MetaKey::Mark);
    /// `meta l4proto`
    pub const L4PROTO: Self = Self::Meta(MetaKey::L4Proto);
    /// `meta nfproto`
    pub const NFPROTO: Self = Self::Meta(MetaKey::NfProto);
    /// `iifname`
    pub const IIFNAME: Self = Self::Meta(MetaKey::IifName);
    /// `oifname`
    pub const OIFNAME: Self = Self::Meta(MetaKey::OifName);
    /// `ip saddr`
    pub const IP_SADDR: Self = Self::Header(Header::IpSaddr);
    /// `ip daddr`
    pub const IP_DADDR: Self = Self::Header(Header::IpDaddr);
    /// `ip6 saddr`
    pub const IP6_SADDR: Self = Self::Header(Header::Ip6Saddr);
    /// `ip6 daddr`
    pub const IP6_DADDR: Self = Self::Header(Header::Ip6Daddr);
    /// `udp dport`
    pub const UDP_DPORT: Self = Self::Header(Header::Port { proto: Some(UDP), destination: true });
    /// `tcp dport`
    pub const TCP_DPORT: Self = Self::Header(Header::Port { proto: Some(TCP), destination: true });
    /// `th dport`: the destination port of whatever transport protocol it is.
    pub const TH_DPORT: Self = Self::Header(Header::Port { proto: None, destination: true });
    /// `ct state`
    pub const CT_STATE: Self = Self::Ct(CtKey::State);
    /// `ct status`
    pub const CT_STATUS: Self = Self::Ct(CtKey::Status);
    /// `ct direction`
    pub const CT_DIRECTION: Self = Self::Ct(CtKey::Direction);
    /// `ct mark`
    pub const CT_MARK: Self = Self::Ct(CtKey::Mark);
    /// `fib daddr type`
    pub const FIB_DADDR_TYPE: Self = Self::Fib { addr: FibAddr::Daddr, iif: false, result: FibResult::Type };
    /// `fib saddr . iif oif`: whether the way back to the source is the interface it came in by.
    pub const FIB_SADDR_IIF: Self = Self::Fib { addr: FibAddr::Saddr, iif: true, result: FibResult::Exists };

    /// The type of the field's values.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Meta(key) => match key {
                MetaKey::Mark => DataType::Mark,
                MetaKey::Iif | MetaKey::Oif => DataType::IfIndex,
                MetaKey::IifName | MetaKey::OifName | MetaKey::IifKind | MetaKey::OifKind => DataType::IfName,
                MetaKey::NfProto => DataType::Integer(1),
                MetaKey::L4Proto => DataType::Proto,
                MetaKey::Other(_) => DataType::Integer(4),
            },
            Self::Ct(CtKey::Mark) => DataType::Mark,
            Self::Ct(CtKey::Direction) => DataType::Integer(1),
            Self::Ct(_) | Self::Fib { .. } => DataType::Integer(4),
            Self::Header(header) => match header {
                Header::IpSaddr | Header::IpDaddr => DataType::Ipv4,
                Header::Ip6Saddr | Header::Ip6Daddr => DataType::Ipv6,
                Header::Port { .. } => DataType::Service,
                Header::Raw { len, .. } => DataType::Integer(len),
            },
        }
    }

    /// The expression that loads the field into a register.
    pub(super) fn load(self, dreg: Reg) -> Expr {
        match self {
            Self::Meta(key) => Expr::Meta { key, dreg },
            Self::Ct(key) => Expr::Ct { key, dreg },
            Self::Fib { addr, iif, result } => Expr::Fib { addr, iif, result, dreg },
            Self::Header(header) => {
                let (base, offset, len) = header.place();
                Expr::Payload { base, offset, len, dreg }
            }
        }
    }

    /// What else must hold for the field to exist: in a table of the family `inet` an IPv4 address
    /// is only looked for in an IPv4 packet. `nft` adds the same conditions on its own.
    pub(super) fn condition(self) -> Option<(MetaKey, u8)> {
        let Self::Header(header) = self else {
            return None;
        };
        // NFPROTO_IPV4 and NFPROTO_IPV6, linux/netfilter.h.
        match header {
            Header::IpSaddr | Header::IpDaddr => Some((MetaKey::NfProto, 2)),
            Header::Ip6Saddr | Header::Ip6Daddr => Some((MetaKey::NfProto, 10)),
            Header::Port { proto, .. } => proto.map(|proto| (MetaKey::L4Proto, proto)),
            Header::Raw { .. } => None,
        }
    }
}

impl Header {
    /// Where the field stands in the packet: header, offset and length in bytes.
    pub(super) fn place(self) -> (PayloadBase, u32, u32) {
        // RFC 791 section 3.1, RFC 8200 section 3, RFC 768 and RFC 9293 section 3.1.
        match self {
            Self::IpSaddr => (PayloadBase::Network, 12, 4),
            Self::IpDaddr => (PayloadBase::Network, 16, 4),
            Self::Ip6Saddr => (PayloadBase::Network, 8, 16),
            Self::Ip6Daddr => (PayloadBase::Network, 24, 16),
            Self::Port { destination, .. } => (PayloadBase::Transport, if destination { 2 } else { 0 }, 2),
            Self::Raw { base, offset, len } => (base, offset, u32::from(len)),
        }
    }

    /// Which checksums cover the field (RFC 768, RFC 791, RFC 8200 section 8.1, RFC 9293).
    pub(super) fn checksum(self) -> PayloadCsum {
        let (offset, pseudo_header) = match self {
            Self::IpSaddr | Self::IpDaddr => (Some(10), true),
            Self::Ip6Saddr | Self::Ip6Daddr => (None, true),
            Self::Port { proto: Some(TCP), .. } => (Some(16), false),
            Self::Port { proto: Some(UDP), .. } => (Some(6), false),
            Self::Port { .. } | Self::Raw { .. } => (None, false),
        };
        PayloadCsum { offset, pseudo_header }
    }
}

impl fmt::Display for MetaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mark => "meta mark",
            Self::Iif => "iif",
            Self::Oif => "oif",
            Self::IifName => "iifname",
            Self::OifName => "oifname",
            Self::NfProto => "meta nfproto",
            Self::L4Proto => "meta l4proto",
            Self::IifKind => "meta iifkind",
            Self::OifKind => "meta oifkind",
            Self::Other(number) => return write!(f, "meta #{number}"),
        })
    }
}

impl fmt::Display for CtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::State => "ct state",
            Self::Direction => "ct direction",
            Self::Status => "ct status",
            Self::Mark => "ct mark",
            Self::Other(number) => return write!(f, "ct #{number}"),
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta(key) => write!(f, "{key}"),
            Self::Ct(key) => write!(f, "{key}"),
            Self::Fib { addr, iif, result } => write!(
                f,
                "fib {}{} {}",
                match addr {
                    FibAddr::Saddr => "saddr",
                    FibAddr::Daddr => "daddr",
                },
                if *iif { " . iif" } else { "" },
                match result {
                    FibResult::Exists => "oif",
                    FibResult::Type => "type",
                }
            ),
            Self::Header(header) => write!(f, "{header}"),
        }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IpSaddr => f.write_str("ip saddr"),
            Self::IpDaddr => f.write_str("ip daddr"),
            Self::Ip6Saddr => f.write_str("ip6 saddr"),
            Self::Ip6Daddr => f.write_str("ip6 daddr"),
            Self::Port { proto, destination } => {
                match proto {
                    Some(TCP) => f.write_str("tcp")?,
                    Some(UDP) => f.write_str("udp")?,
                    _ => f.write_str("th")?,
                }
                f.write_str(if *destination { " dport" } else { " sport" })
            }
            Self::Raw { base, offset, len } => {
                write!(f, "@{base},{},{}", offset * 8, u32::from(*len) * 8)
            }
        }
    }
}
