//! The packets of a trace: ICMP echo requests with the mark at the start of their data.

use std::net::IpAddr;

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type};

/// Octets of data behind the header of ICMP, as many as `ping` sends.
pub const DATA: usize = 56;

/// The data of every packet of a trace: the mark, and zeros.
fn data(token: u64) -> [u8; DATA] {
    let mut data = [0; DATA];
    data[..8].copy_from_slice(&token.to_be_bytes());
    data
}

/// The ICMP part of an echo request to a target (RFC 792, RFC 4443 section 4.1).
///
/// For IPv6 the checksum is left to the kernel, which knows the addresses (RFC 3542 section 3.1).
pub fn request(target: IpAddr, token: u64, sequence: u16) -> Vec<u8> {
    let data = data(token);
    // The identifier tells one pinging process from another; the mark does that better.
    let echo = IcmpEchoHeader { id: token as u16, seq: sequence };
    let mut out = match target {
        IpAddr::V4(_) => {
            Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &data).to_bytes().to_vec()
        }
        IpAddr::V6(_) => Icmpv6Header::new(Icmpv6Type::EchoRequest(echo)).to_bytes().to_vec(),
    };
    out.extend_from_slice(&data);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one() {
        let octets = request("10.32.2.7".parse().unwrap(), 0x0102_0304_0506_0708, 3);
        assert_eq!(octets[..2], [8, 0]);
        assert_eq!(octets[6..8], [0, 3]);
        assert_eq!(octets[8..16], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(octets.len(), 64);
        // A message is right when the sum over it is all ones (RFC 1071 section 1).
        let sum: u32 = octets.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        assert_eq!(request("fd00::7".parse().unwrap(), 1, 0)[..2], [128, 0]);
    }
}
