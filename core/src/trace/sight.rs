//! Finding the mark in a packet, with or without a tunnel around it.

use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::message::Point;
use super::verdict::Hop;

/// Octets of the header of VXLAN (RFC 7348 section 5).
const VXLAN: usize = 8;

/// The flag that says that the network identifier is valid (RFC 7348 section 5).
const VNI_VALID: u8 = 0x08;

/// Octets of Ethernet (IEEE 802.3), which VXLAN carries.
const ETHERNET: usize = 14;

/// The tunnel around a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tunnel {
    /// The network identifier.
    pub vni: u32,
    /// The node that it came from.
    pub from: IpAddr,
    /// The node that it goes to.
    pub to: IpAddr,
}

/// A packet with the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// What is around it, if anything.
    pub tunnel: Option<Tunnel>,
    /// Where the packet itself comes from.
    pub from: IpAddr,
    /// Where it goes.
    pub to: IpAddr,
    /// Whether it is an answer.
    pub reply: bool,
}

/// What kind of interface a packet was seen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// One that leads to other nodes.
    Underlay,
    /// The overlay's device.
    Device,
    /// The host's end of a pod's link.
    Pod,
}

/// The point at the far end that a packet is seen at; nothing where it should not come by.
pub fn far(place: Place, outgoing: bool, reply: bool) -> Option<Point> {
    match (place, outgoing, reply) {
        (Place::Underlay, false, false) => Some(Point::RequestNic),
        (Place::Device, false, false) => Some(Point::RequestDevice),
        (Place::Pod, true, false) => Some(Point::RequestPod),
        (Place::Pod, false, true) => Some(Point::ReplyPod),
        (Place::Device, true, true) => Some(Point::ReplyDevice),
        (Place::Underlay, true, true) => Some(Point::ReplyNic),
        _ => None,
    }
}

/// The hop on the node of the trace itself; nothing where the packet should not come by.
pub fn near(place: Place, outgoing: bool, reply: bool) -> Option<Hop> {
    match (place, outgoing, reply) {
        (Place::Device, true, false) => Some(Hop::OwnDevice),
        (Place::Underlay, true, false) => Some(Hop::OwnNic),
        (Place::Pod, true, false) => Some(Hop::Pod),
        (Place::Pod, false, true) => Some(Hop::PodReply),
        (Place::Underlay, false, true) => Some(Hop::OwnNicBack),
        (Place::Device, false, true) => Some(Hop::OwnDeviceBack),
        _ => None,
    }
}

/// Reads a packet, which begins with the header of IP; nothing where it has no such mark.
pub fn read(packet: &[u8], port: u16, token: u64) -> Option<Marked> {
    let outer = SlicedPacket::from_ip(packet).ok()?;
    if let Some(TransportSlice::Udp(udp)) = &outer.transport {
        let (header, frame) = udp.payload().split_first_chunk::<VXLAN>()?;
        if udp.destination_port() != port || header[0] & VNI_VALID == 0 {
            return None;
        }
        let inner = SlicedPacket::from_ip(frame.get(ETHERNET..)?).ok()?;
        let (from, to) = addresses(&outer)?;
        let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
        return marked(&inner, Some(Tunnel { vni, from, to }), token);
    }
    marked(&outer, None, token)
}

fn marked(packet: &SlicedPacket<'_>, tunnel: Option<Tunnel>, token: u64) -> Option<Marked> {
    // Echo request and reply: RFC 792, RFC 4443 section 4.
    let (kind, data, [request, reply]) = match packet.transport.as_ref()? {
        TransportSlice::Icmpv4(icmp) => (icmp.type_u8(), icmp.payload(), [8, 0]),
        TransportSlice::Icmpv6(icmp) => (icmp.type_u8(), icmp.payload(), [128, 129]),
        _ => return None,
    };
    // Behind the fixed four octets are identifier and sequence, which the library counts to the
    // header of an echo.
    if !data.starts_with(&token.to_be_bytes()) || (kind != request && kind != reply) {
        return None;
    }
    let (from, to) = addresses(packet)?;
    Some(Marked { tunnel, from, to, reply: kind == reply })
}

fn addresses(packet: &SlicedPacket<'_>) -> Option<(IpAddr, IpAddr)> {
    Some(match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        _ => return None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use etherparse::{IpNumber, PacketBuilder};
    use proptest::prelude::*;

    use super::*;
    use crate::trace::echo;

    pub const TOKEN: u64 = 0xa1a2_a3a4_a5a6_a7a8;
    pub const PORT: u16 = 4789;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// An IP packet.
    fn packet(from: IpAddr, to: IpAddr, protocol: IpNumber, payload: &[u8]) -> Vec<u8> {
        let builder = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
            _ => panic!("two families"),
        };
        let mut bytes = Vec::new();
        builder.write(&mut bytes, protocol, payload).unwrap();
        bytes
    }

    pub fn request(v6: bool, token: u64) -> Vec<u8> {
        let (from, to, protocol) = match v6 {
            false => (ip("10.32.1.1"), ip("10.32.2.7"), IpNumber::ICMP),
            true => (ip("fd00:32:1::1"), ip("fd00:32:2::7"), IpNumber::IPV6_ICMP),
        };
        packet(from, to, protocol, &echo::request(to, token, 1))
    }

    pub fn tunnelled(v6: bool, vni: u32, inner: &[u8]) -> Vec<u8> {
        let (from, to) = match v6 {
            false => (ip("172.20.0.1"), ip("172.20.0.2")),
            true => (ip("fd20::1"), ip("fd20::2")),
        };
        let mut payload = vec![0; 8];
        payload[0..2].copy_from_slice(&40000u16.to_be_bytes());
        payload[2..4].copy_from_slice(&PORT.to_be_bytes());
        payload[4..6].copy_from_slice(&((8 + 8 + 14 + inner.len()) as u16).to_be_bytes());
        payload.extend([VNI_VALID, 0, 0, 0]);
        payload.extend((vni << 8).to_be_bytes());
        payload.extend([0; 12]);
        payload.extend(if inner[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] });
        payload.extend(inner);
        packet(from, to, IpNumber::UDP, &payload)
    }

    #[test]
    fn the_mark_is_found_with_and_without_a_tunnel() {
        for inner in [false, true] {
            let plain = request(inner, TOKEN);
            let found = read(&plain, PORT, TOKEN).unwrap();
            assert_eq!((found.tunnel, found.reply), (None, false));
            assert_eq!(found.to, if inner { ip("fd00:32:2::7") } else { ip("10.32.2.7") });
            for outer in [false, true] {
                let found = read(&tunnelled(outer, 0x00_1001, &plain), PORT, TOKEN).unwrap();
                let tunnel = found.tunnel.unwrap();
                assert_eq!(tunnel.vni, 0x00_1001);
                assert_eq!(tunnel.to, if outer { ip("fd20::2") } else { ip("172.20.0.2") });
                assert_eq!(found.from, if inner { ip("fd00:32:1::1") } else { ip("10.32.1.1") });
            }
        }
    }

    #[test]
    fn an_answer_is_told_from_a_question() {
        let mut answer = request(false, TOKEN);
        answer[20] = 0;
        assert!(read(&answer, PORT, TOKEN).unwrap().reply);
        answer[20] = 3;
        assert_eq!(read(&answer, PORT, TOKEN), None, "an error that quotes something");
    }

    #[test]
    fn other_packets_have_no_mark() {
        let plain = request(false, TOKEN);
        assert_eq!(read(&plain, PORT, TOKEN + 1), None);
        assert_eq!(read(&tunnelled(false, 1, &plain), PORT + 1, TOKEN), None, "another port");
        let mut invalid = tunnelled(false, 1, &plain);
        invalid[28] = 0;
        assert_eq!(read(&invalid, PORT, TOKEN), None, "no valid network identifier");
    }

    proptest! {
        #[test]
        fn noise_is_no_packet_and_no_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(read(&noise, PORT, TOKEN), None);
        }

        #[test]
        fn packets_may_be_spoiled_and_cut(at in 0usize..134, value in any::<u8>(), len in 0usize..140) {
            let mut packet = tunnelled(false, 0x00_1001, &request(false, TOKEN));
            let at = at.min(packet.len() - 1);
            packet[at] = value;
            packet.truncate(len);
            // No panic; nothing else can be said of it.
            let _anything = read(&packet, PORT, TOKEN);
        }
    }
}
