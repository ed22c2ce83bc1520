//! Typed values and their bytes in the kernel's registers and sets.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The length of an interface name in a register, NUL padded (`IFNAMSIZ`, linux/if.h).
pub const IFNAME_LEN: usize = 16;

/// The type of a set key, of map data or of a field of a packet.
///
/// The kernel stores the number and never looks at it; `nft` needs it to print a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataType {
    /// `ipv4_addr`, 4 bytes.
    Ipv4,
    /// `ipv6_addr`, 16 bytes.
    Ipv6,
    /// `inet_proto`, 1 byte.
    Proto,
    /// `inet_service`: a port of any transport protocol, 2 bytes, big endian.
    Service,
    /// `mark`, 4 bytes, host byte order.
    Mark,
    /// `ifname`, 16 bytes.
    IfName,
    /// `iface_index`, 4 bytes, host byte order.
    IfIndex,
    /// A number or a flag word that is never a set key here; its length in bytes.
    Integer(u8),
}

impl DataType {
    /// The number `nft` knows the type by (`enum datatypes`, nftables include/datatype.h).
    pub fn id(self) -> u32 {
        match self {
            Self::Integer(_) => 4,
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Proto => 12,
            Self::Service => 13,
            Self::Mark => 19,
            Self::IfIndex => 20,
            Self::IfName => 41,
        }
    }

    /// The type that `nft` knows by this number, for those that can be a set key here.
    pub fn from_id(id: u32) -> Option<Self> {
        [Self::Ipv4, Self::Ipv6, Self::Proto, Self::Service, Self::Mark, Self::IfIndex, Self::IfName]
            .into_iter()
            .find(|kind| kind.id() == id)
    }

    /// The length of a value in bytes, without the padding of a concatenation.
    pub fn size(self) -> usize {
        match self {
            Self::Proto => 1,
            Self::Service => 2,
            Self::Ipv4 | Self::Mark | Self::IfIndex => 4,
            Self::Ipv6 | Self::IfName => 16,
            Self::Integer(len) => usize::from(len),
        }
    }

    /// Whether values are kept in the byte order of the host, so that ranges of them, which the
    /// kernel orders byte by byte, are not what they seem.
    pub fn host_order(self) -> bool {
        matches!(self, Self::Mark | Self::IfIndex | Self::Integer(4))
    }

    /// The value of this type in `bytes`, which must hold at least [`DataType::len`] of them.
    pub fn decode(self, bytes: &[u8]) -> Option<Value> {
        let bytes = bytes.get(..self.size())?;
        Some(match self {
            Self::Ipv4 => Value::Ipv4(<[u8; 4]>::try_from(bytes).ok()?.into()),
            Self::Ipv6 => Value::Ipv6(<[u8; 16]>::try_from(bytes).ok()?.into()),
            Self::Proto => Value::Proto(bytes[0]),
            Self::Service => Value::Service(u16::from_be_bytes(bytes.try_into().ok()?)),
            Self::Mark => Value::Mark(u32::from_ne_bytes(bytes.try_into().ok()?)),
            Self::IfIndex => Value::IfIndex(u32::from_ne_bytes(bytes.try_into().ok()?)),
            Self::IfName => {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                Value::IfName(String::from_utf8_lossy(&bytes[..end]).into_owned())
            }
            Self::Integer(_) => Value::Integer(bytes.to_vec()),
        })
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4_addr",
            Self::Ipv6 => "ipv6_addr",
            Self::Proto => "inet_proto",
            Self::Service => "inet_service",
            Self::Mark => "mark",
            Self::IfName => "ifname",
            Self::IfIndex => "iface_index",
            Self::Integer(_) => "integer",
        })
    }
}

/// A constant in a rule or a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
    /// An IP protocol number, such as 6 for TCP.
    Proto(u8),
    /// A port.
    Service(u16),
    /// A packet or connection mark.
    Mark(u32),
    /// The name of an interface, at most 15 bytes.
    IfName(String),
    /// The index of an interface.
    IfIndex(u32),
    /// Bytes as they stand in the register.
    Integer(Vec<u8>),
}

impl Value {
    /// The type of the value.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Ipv4(_) => DataType::Ipv4,
            Self::Ipv6(_) => DataType::Ipv6,
            Self::Proto(_) => DataType::Proto,
            Self::Service(_) => DataType::Service,
            Self::Mark(_) => DataType::Mark,
            Self::IfName(_) => DataType::IfName,
            Self::IfIndex(_) => DataType::IfIndex,
            Self::Integer(bytes) => DataType::Integer(bytes.len() as u8),
        }
    }

    /// The bytes of the value as a register holds them, not padded to a word.
    ///
    /// A name longer than 15 bytes is cut, as no interface can have it.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Ipv4(address) => address.octets().to_vec(),
            Self::Ipv6(address) => address.octets().to_vec(),
            Self::Proto(number) => vec![*number],
            Self::Service(port) => port.to_be_bytes().to_vec(),
            Self::Mark(word) | Self::IfIndex(word) => word.to_ne_bytes().to_vec(),
            Self::IfName(name) => {
                let mut bytes = vec![0; IFNAME_LEN];
                let used = name.len().min(IFNAME_LEN - 1);
                bytes[..used].copy_from_slice(&name.as_bytes()[..used]);
                bytes
            }
            Self::Integer(bytes) => bytes.clone(),
        }
    }

    /// The bytes of several values side by side, each padded to whole registers of 4 bytes; one
    /// alone is not padded.
    pub fn concatenated(values: &[Self]) -> Vec<u8> {
        if let [value] = values {
            return value.bytes();
        }
        let mut bytes = Vec::new();
        for value in values {
            bytes.extend(value.bytes());
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(address) => write!(f, "{address}"),
            Self::Ipv6(address) => write!(f, "{address}"),
            // The numbers of RFC 790 ff. that nft prints by name; it reads any number.
            Self::Proto(1) => f.write_str("icmp"),
            Self::Proto(6) => f.write_str("tcp"),
            Self::Proto(17) => f.write_str("udp"),
            Self::Proto(58) => f.write_str("ipv6-icmp"),
            Self::Proto(132) => f.write_str("sctp"),
            Self::Proto(number) => write!(f, "{number}"),
            Self::Service(port) => write!(f, "{port}"),
            Self::Mark(mark) => write!(f, "{mark:#010x}"),
            Self::IfName(name) => write!(f, "\"{name}\""),
            Self::IfIndex(index) => write!(f, "{index}"),
            Self::Integer(bytes) => {
                f.write_str("0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl From<Ipv4Addr> for Value {
    fn from(address: Ipv4Addr) -> Self {
        Self::Ipv4(address)
    }
}

impl From<Ipv6Addr> for Value {
    fn from(address: Ipv6Addr) -> Self {
        Self::Ipv6(address)
    }
}

impl From<std::net::IpAddr> for Value {
    fn from(address: std::net::IpAddr) -> Self {
        match address {
            std::net::IpAddr::V4(address) => Self::Ipv4(address),
            std::net::IpAddr::V6(address) => Self::Ipv6(address),
        }
    }
}
