//! The frame of a netlink attribute in a message that is being written (linux/netlink.h): 16 bits of
//! length and 16 of number, and zeros up to a multiple of four octets behind it.

/// `NLA_F_NESTED` of linux/netlink.h: it consists of attributes. Older messages do without.
pub(crate) const NESTED: u16 = 1 << 15;

/// Begins an attribute; what is appended from now on is its value. Returns what [`end`] wants.
pub(crate) fn begin(octets: &mut Vec<u8>, number: u16) -> usize {
    let start = octets.len();
    octets.extend_from_slice(&[0, 0]);
    octets.extend_from_slice(&number.to_ne_bytes());
    start
}

/// Ends an attribute; says whether its length fits the 16 bits.
#[must_use]
pub(crate) fn end(octets: &mut Vec<u8>, start: usize) -> bool {
    let length = u16::try_from(octets.len() - start);
    if let Ok(length) = length {
        octets[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
    octets.resize(octets.len().next_multiple_of(4), 0);
    length.is_ok()
}
