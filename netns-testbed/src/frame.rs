//! What a captured Ethernet frame says, down to the pod's packet inside a VXLAN tunnel.

use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// Bytes of an Ethernet header without tags.
const ETHERNET: usize = 14;
/// Bytes of a VXLAN header: RFC 7348, section 5.
const VXLAN: usize = 8;
/// The flag that says that the network identifier is valid: RFC 7348, section 5.
const VXLAN_VNI_VALID: u8 = 0x08;

/// A parsed Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The sender's hardware address.
    pub source: [u8; 6],
    /// The receiver's hardware address.
    pub destination: [u8; 6],
    /// The type of the payload, as in 0x0800 for IPv4.
    pub ethertype: u16,
    /// The IP packet, if it is one.
    pub packet: Option<Packet>,
    /// Bytes of the whole frame, without the checksum.
    pub length: usize,
}

/// A parsed IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The sender's address.
    pub source: IpAddr,
    /// The receiver's address.
    pub destination: IpAddr,
    /// The protocol behind the IP headers, as in 17 for UDP.
    pub protocol: u8,
    /// Bytes from the start of the IP header.
    pub length: usize,
    /// Whether the packet is a fragment; then there is no transport to see.
    pub fragment: bool,
    /// The transport header.
    pub transport: Transport,
    /// What follows the transport header.
    pub payload: Vec<u8>,
}

/// A transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP with its ports.
    Udp {
        /// The port it came from.
        source: u16,
        /// The port it goes to.
        destination: u16,
    },
    /// TCP with its ports.
    Tcp {
        /// The port it came from.
        source: u16,
        /// The port it goes to.
        destination: u16,
    },
    /// ICMP or ICMPv6 with its type and code.
    Icmp {
        /// The type, as in 8 for an IPv4 echo request.
        kind: u8,
        /// The code.
        code: u8,
    },
    /// Anything else.
    Other,
}

/// What a VXLAN packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// The network identifier, 24 bits.
    pub vni: u32,
    /// The frame inside.
    pub inner: Frame,
}

// === impl Frame ===

impl Frame {
    /// Parses a frame; `None` if it is shorter than an Ethernet header.
    ///
    /// A frame whose IP part is damaged has no [`Frame::packet`].
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, _) = bytes.split_at_checked(ETHERNET)?;
        Some(Self {
            destination: header[..6].try_into().ok()?,
            source: header[6..12].try_into().ok()?,
            ethertype: u16::from_be_bytes([header[12], header[13]]),
            packet: SlicedPacket::from_ethernet(bytes).ok().and_then(|parsed| Packet::from_slices(&parsed)),
            length: bytes.len(),
        })
    }

    /// The tunnelled frame, if this is a VXLAN packet to the UDP port `port`.
    pub fn vxlan(&self, port: u16) -> Option<Vxlan> {
        let packet = self.packet.as_ref()?;
        match packet.transport {
            Transport::Udp { destination, .. } if destination == port => {}
            _ => return None,
        }
        let (header, inner) = packet.payload.split_at_checked(VXLAN)?;
        if header[0] & VXLAN_VNI_VALID == 0 {
            return None;
        }
        let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
        Some(Vxlan { vni, inner: Self::parse(inner)? })
    }

    /// Whether the frame's own IP packet (not a tunnelled one) is from or to the address.
    pub fn involves(&self, address: IpAddr) -> bool {
        self.packet.as_ref().is_some_and(|packet| packet.source == address || packet.destination == address)
    }
}

impl Packet {
    fn from_slices(parsed: &SlicedPacket<'_>) -> Option<Self> {
        let (source, destination, payload, header) = match parsed.net.as_ref()? {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                let addresses = (header.source_addr().into(), header.destination_addr().into());
                (addresses.0, addresses.1, ip.payload(), header.slice().len())
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                let addresses = (header.source_addr().into(), header.destination_addr().into());
                let extensions =
                    usize::from(header.payload_length()).saturating_sub(ip.payload().payload.len());
                (addresses.0, addresses.1, ip.payload(), header.slice().len() + extensions)
            }
            _ => return None,
        };
        let (transport, rest) = match &parsed.transport {
            Some(TransportSlice::Udp(udp)) => {
                let (source, destination) = (udp.source_port(), udp.destination_port());
                (Transport::Udp { source, destination }, udp.payload())
            }
            Some(TransportSlice::Tcp(tcp)) => {
                let (source, destination) = (tcp.source_port(), tcp.destination_port());
                (Transport::Tcp { source, destination }, tcp.payload())
            }
            Some(TransportSlice::Icmpv4(icmp)) => {
                (Transport::Icmp { kind: icmp.type_u8(), code: icmp.code_u8() }, icmp.payload())
            }
            Some(TransportSlice::Icmpv6(icmp)) => {
                (Transport::Icmp { kind: icmp.type_u8(), code: icmp.code_u8() }, icmp.payload())
            }
            _ => (Transport::Other, payload.payload),
        };
        Some(Self {
            source,
            destination,
            protocol: payload.ip_number.0,
            length: header + payload.payload.len(),
            fragment: payload.fragmented,
            transport,
            payload: rest.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const PORT: u16 = 4789;

    fn udp(from: [u8; 4], to: [u8; 4], port: u16, payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4(from, to, 64)
            .udp(1234, port);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, payload).unwrap();
        bytes
    }

    fn tunnelled(flags: u8) -> Vec<u8> {
        let mut payload = vec![flags, 0, 0, 0, 0x12, 0x34, 0x56, 0];
        payload.extend(udp([10, 32, 1, 5], [10, 32, 2, 7], 9, b"hello"));
        udp([172, 20, 0, 1], [172, 20, 0, 2], PORT, &payload)
    }

    #[test]
    fn the_inner_packet_of_a_tunnel_is_seen() {
        let frame = Frame::parse(&tunnelled(VXLAN_VNI_VALID)).unwrap();
        assert!(frame.involves("172.20.0.2".parse().unwrap()));
        let vxlan = frame.vxlan(PORT).unwrap();
        assert_eq!(vxlan.vni, 0x12_3456);
        let inner = vxlan.inner.packet.unwrap();
        assert_eq!(inner.destination, "10.32.2.7".parse::<IpAddr>().unwrap());
        assert_eq!(inner.transport, Transport::Udp { source: 1234, destination: 9 });
        assert_eq!(inner.payload, b"hello");
        assert_eq!(inner.length, 20 + 8 + 5);
    }

    #[test]
    fn only_vxlan_is_taken_for_vxlan() {
        let frame = Frame::parse(&tunnelled(VXLAN_VNI_VALID)).unwrap();
        assert_eq!(frame.vxlan(8472), None, "another port");
        assert_eq!(Frame::parse(&tunnelled(0)).unwrap().vxlan(PORT), None, "no valid identifier");
        let short = Frame::parse(&udp([1, 1, 1, 1], [2, 2, 2, 2], PORT, b"short")).unwrap();
        assert_eq!(short.vxlan(PORT), None, "shorter than the header");
    }

    #[test]
    fn damaged_frames_are_no_packets() {
        let bytes = udp([1, 1, 1, 1], [2, 2, 2, 2], 9, b"payload");
        assert_eq!(Frame::parse(&bytes[..13]), None);
        assert_eq!(Frame::parse(&bytes[..20]).unwrap().packet, None);
    }
}
