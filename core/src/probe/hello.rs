//! A hello: a frame that a peer takes whatever its plan is.
//!
//! By another plan a peer has another VTEP address and another MAC, so that its kernel drops
//! what we send to it, and we drop what it sends to us: to both, the other is silent. A hello is
//! put together by hand and sent to the peer's port of VXLAN: inside is a broadcast from "no
//! address" to all, as a DHCP client sends (RFC 2131 section 4.1), which needs no agreement
//! about addresses, and which the reverse path filter lets pass. The kernel of the peer accepts
//! it from members only, like every packet of the overlay.

use std::net::{IpAddr, Ipv4Addr};

use crate::addr::MacAddr;

/// Where hellos go to inside of the tunnel: all who hear it (RFC 919 section 7).
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);

/// The source of the frame. No VTEP has it, because a kernel drops what comes from its own MAC,
/// and two plans may give the same MAC to two nodes. The second octet is an `h`.
const SOURCE: MacAddr = MacAddr([0x0e, 0x68, 0, 0, 0, 1]);

/// The first octets of VXLAN: the flag that says that a network identifier follows (RFC 7348
/// section 5).
const VXLAN_FLAGS: [u8; 4] = [0x08, 0, 0, 0];

/// The UDP payload that makes the kernel of a peer deliver `payload` to the port `port` of
/// [`ADDRESS`] on its device. A payload too long for a packet is cut off.
pub fn frame(vni: u32, port: u16, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(1000)];
    // At most 1000, and two headers.
    let udp_len = (8 + payload.len()) as u16;
    let mut out = Vec::with_capacity(8 + 14 + 20 + usize::from(udp_len));
    out.extend_from_slice(&VXLAN_FLAGS);
    // 24 bits, and an octet that is reserved.
    out.extend_from_slice(&(vni << 8).to_be_bytes());
    // Ethernet: to all, IPv4.
    out.extend_from_slice(&[0xff; 6]);
    out.extend_from_slice(&SOURCE.0);
    out.extend_from_slice(&[0x08, 0x00]);
    out.extend_from_slice(&ipv4(20 + udp_len));
    // UDP, without a checksum (RFC 768): the outer packet has one.
    for field in [port, port, udp_len, 0] {
        out.extend_from_slice(&field.to_be_bytes());
    }
    out.extend_from_slice(payload);
    out
}

/// A header of IPv4 for UDP from nobody to all, with a checksum (RFC 791 section 3.1).
fn ipv4(total: u16) -> [u8; 20] {
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    // Not to be fragmented, not to be forwarded.
    header[6] = 0x40;
    header[8] = 1;
    header[9] = 17;
    header[16..20].copy_from_slice(&Ipv4Addr::BROADCAST.octets());
    let words = header.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    // Folded twice, the sum of ten words fits.
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_what_the_kernel_expects() {
        let frame = frame(0x00_1001, 4790, b"payload");
        assert_eq!(frame[..8], [8, 0, 0, 0, 0, 0x10, 0x01, 0]);
        assert_eq!(frame[8..14], [0xff; 6]);
        assert_eq!(frame[20..22], [8, 0]);
        let ip = &frame[22..42];
        assert_eq!((ip[0], ip[2], ip[3], ip[9]), (0x45, 0, 20 + 8 + 7, 17));
        assert_eq!(ip[12..20], [0, 0, 0, 0, 255, 255, 255, 255]);
        // A header is right when the sum over it is all ones (RFC 1071 section 1).
        let sum: u32 = ip.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        assert_eq!(frame[42..50], [0x12, 0xb6, 0x12, 0xb6, 0, 15, 0, 0]);
        assert_eq!(frame[50..], *b"payload");
    }

    #[test]
    fn no_vtep_has_the_source() {
        assert!(!SOURCE.is_vtep());
        // Locally administered and unicast.
        assert_eq!(SOURCE.0[0] & 0b11, 0b10);
    }
}
