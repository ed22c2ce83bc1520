//! Checked address types: [`Cidr`], [`MacAddr`], [`Family`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The number of bits of an address: 32 or 128.
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// Why a text is not a [`Cidr`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CidrError {
    /// No prefix length was given.
    #[error("\"{text}\" has no prefix length: write it as ADDRESS/LENGTH, for example {text}/24")]
    NoPrefix {
        /// What was given.
        text: String,
    },
    /// Not an address with a prefix length.
    #[error("\"{text}\" is not a network: write it as ADDRESS/LENGTH, for example 10.32.0.0/12")]
    Malformed {
        /// What was given.
        text: String,
    },
    /// Bits are set behind the prefix.
    #[error("{given} has bits set behind its prefix: the network is {network}")]
    HostBits {
        /// What was given.
        given: String,
        /// The network that contains it.
        network: Cidr,
    },
    /// The prefix is longer than an address.
    #[error("prefix length {len} is too long for {family}: at most {}", family.bits())]
    PrefixTooLong {
        /// The length given.
        len: u8,
        /// The address family.
        family: Family,
    },
}

/// A network: an address whose bits behind the prefix are all zero, and a prefix length.
///
/// Wraps [`IpNetwork`], which accepts a missing prefix length and keeps host bits; neither can
/// get in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(IpNetwork);

impl Cidr {
    /// The network of `len` bits that contains `addr`.
    ///
    /// # Errors
    /// [`CidrError::PrefixTooLong`] for a length beyond the family's 32 or 128 bits.
    pub fn containing(addr: IpAddr, len: u8) -> Result<Self, CidrError> {
        let too_long = |_| CidrError::PrefixTooLong { len, family: Family::of(addr) };
        let net = IpNetwork::new(addr, len).map_err(too_long)?;
        IpNetwork::new(net.network(), len).map(Cidr).map_err(too_long)
    }

    /// The network that holds one address only (`/32` or `/128`).
    pub fn host(addr: IpAddr) -> Self {
        Cidr(IpNetwork::from(addr))
    }

    /// The first address.
    pub fn network(&self) -> IpAddr {
        self.0.network()
    }

    /// The prefix length in bits.
    pub fn prefix_len(&self) -> u8 {
        self.0.prefix()
    }

    /// Whether this is the network of all addresses (`0.0.0.0/0`, `::/0`).
    pub fn is_default(&self) -> bool {
        self.prefix_len() == 0
    }

    /// The address family.
    pub fn family(&self) -> Family {
        Family::of(self.network())
    }

    /// How many addresses there are, `u128::MAX` standing for all of IPv6.
    pub fn size(&self) -> u128 {
        1u128.checked_shl(u32::from(self.family().bits() - self.prefix_len())).unwrap_or(u128::MAX)
    }

    /// Whether the address lies inside; an address of the other family never does.
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.0.contains(addr)
    }

    /// Whether any address lies in both.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.contains(other.network()) || other.contains(self.network())
    }

    /// The position of an address, or nothing when it lies outside.
    pub fn offset_of(&self, addr: IpAddr) -> Option<u128> {
        self.contains(addr).then(|| to_bits(addr) - to_bits(self.network()))
    }

    /// The address at a position, or nothing when it lies outside.
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        (offset < self.size()).then(|| from_bits(self.family(), to_bits(self.network()) + offset))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Through a string, so that width and alignment of the format work.
        f.pad(&format!("{}/{}", self.network(), self.prefix_len()))
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let malformed = || CidrError::Malformed { text: text.to_owned() };
        let Some((addr, len)) = text.split_once('/') else {
            return Err(match text.parse::<IpAddr>() {
                Ok(_) => CidrError::NoPrefix { text: text.to_owned() },
                Err(_) => malformed(),
            });
        };
        let addr: IpAddr = addr.parse().map_err(|_| malformed())?;
        let len: u8 = len.parse().map_err(|_| malformed())?;
        let cidr = Cidr::containing(addr, len)?;
        if cidr.network() != addr {
            return Err(CidrError::HostBits { given: text.to_owned(), network: cidr });
        }
        Ok(cidr)
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;
    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for IpNetwork {
    fn from(cidr: Cidr) -> IpNetwork {
        cidr.0
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

fn to_bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

fn from_bits(family: Family, bits: u128) -> IpAddr {
    match family {
        // Positions are checked against the size first, so nothing is cut off here.
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

/// A text that is not an Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "\"{text}\" is not a MAC address: write six pairs of hexadecimal digits, for example 0e:6d:00:00:00:01"
)]
pub struct MacError {
    /// What was given.
    pub text: String,
}

impl MacAddr {
    /// The two leading octets of every VTEP MAC: locally administered, unicast, and then an `m`.
    pub const VTEP_PREFIX: [u8; 2] = [0x0e, 0x6d];

    /// The two leading octets of the MAC of a pod's interface; the last is a `p`.
    pub const POD_PREFIX: [u8; 2] = [0x0e, 0x70];

    /// The host's end of every pod's veth pair.
    ///
    /// The same everywhere: each pair is a segment of its own, and a pod's permanent neighbour
    /// entry for its gateway is never wrong.
    pub const POD_GATEWAY: MacAddr = MacAddr([0x0e, 0x67, 0, 0, 0, 1]);

    /// The MAC of a VTEP: a fixed prefix and the node's index.
    pub fn vtep(index: u32) -> Self {
        Self::with_prefix(Self::VTEP_PREFIX, index)
    }

    /// The MAC of a pod's interface: a fixed prefix and the last 32 bits of its first address.
    pub fn pod(addr: IpAddr) -> Self {
        Self::with_prefix(Self::POD_PREFIX, to_bits(addr) as u32)
    }

    /// The link-local address that follows from the MAC (RFC 4291, appendix A).
    pub fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        // The bit that says "not from a manufacturer" is inverted there.
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }

    /// Whether the address carries the prefix of our VTEPs.
    pub fn is_vtep(&self) -> bool {
        self.0[..2] == Self::VTEP_PREFIX
    }

    fn with_prefix(prefix: [u8; 2], rest: u32) -> Self {
        let [a, b, c, d] = rest.to_be_bytes();
        MacAddr([prefix[0], prefix[1], a, b, c, d])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        f.pad(&format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"))
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let error = || MacError { text: text.to_owned() };
        let mut octets = [0u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(error)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() {
            return Err(error());
        }
        Ok(MacAddr(octets))
    }
}

impl TryFrom<String> for MacAddr {
    type Error = MacError;
    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_read_strictly() {
        assert_eq!(cidr("10.32.0.0/12").to_string(), "10.32.0.0/12");
        assert_eq!(cidr("fd00::/48").prefix_len(), 48);
        for (text, part) in [
            ("10.0.0.1", "no prefix length"),
            ("10.0.0.1/8", "the network is 10.0.0.0/8"),
            ("10.0.0.0/33", "too long for IPv4"),
            ("10.0.0/8", "is not a network"),
            ("", "is not a network"),
            ("fd00::1/64", "the network is fd00::/64"),
        ] {
            let error = text.parse::<Cidr>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn positions_and_sizes() {
        let net = cidr("172.20.0.0/24");
        assert_eq!(net.size(), 256);
        assert_eq!(net.nth(12), Some("172.20.0.12".parse().unwrap()));
        assert_eq!(net.nth(256), None);
        assert_eq!(net.offset_of("172.20.0.255".parse().unwrap()), Some(255));
        assert_eq!(net.offset_of("172.20.1.0".parse().unwrap()), None);
        assert_eq!(net.offset_of("::1".parse().unwrap()), None);
        assert_eq!(cidr("::/0").size(), u128::MAX);
        assert_eq!(cidr("0.0.0.0/0").size(), 1 << 32);
    }

    #[test]
    fn overlap_is_mutual() {
        assert!(cidr("10.0.0.0/8").overlaps(&cidr("10.32.0.0/12")));
        assert!(cidr("10.32.0.0/12").overlaps(&cidr("10.0.0.0/8")));
        assert!(!cidr("10.32.0.0/12").overlaps(&cidr("10.48.0.0/12")));
        assert!(!cidr("10.0.0.0/8").overlaps(&cidr("fd00::/8")));
    }

    #[test]
    fn a_mac_has_a_link_local_address() {
        let mac = MacAddr([0x0e, 0x67, 0, 0, 0, 1]);
        assert_eq!(mac.link_local().to_string(), "fe80::c67:ff:fe00:1");
    }

    #[test]
    fn mac_addresses_read_and_print() {
        let mac = MacAddr::vtep(0x0102_0304);
        assert_eq!(mac.to_string(), "0e:6d:01:02:03:04");
        assert_eq!("0E:6D:01:02:03:04".parse::<MacAddr>().unwrap(), mac);
        assert!(mac.is_vtep());
        for text in ["", "0e:6d", "0e:6d:01:02:03:04:05", "0e:6d:1:2:3:4", "zz:00:00:00:00:00"] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
        // Locally administered and unicast: bit 1 set and bit 0 clear of the first octet.
        assert_eq!(mac.0[0] & 0b11, 0b10);
    }
}
