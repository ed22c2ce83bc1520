//! Netlink attributes: writing and reading them, nothing more.
//!
//! Integers of nf_tables are big endian, nested attributes carry `NLA_F_NESTED`, and every
//! attribute is padded to four bytes (linux/netlink.h).

use thiserror::Error;

use crate::attribute::{self, NESTED};

/// `NLA_TYPE_MASK`, linux/netlink.h.
const NLA_TYPE_MASK: u16 = 0x3fff;
/// `NLA_HDRLEN`, linux/netlink.h: 16 bits of length, 16 of type.
const HEADER: usize = 4;

/// Bytes from the kernel that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Attributes that are being written.
#[derive(Debug, Default)]
pub struct Attrs {
    bytes: Vec<u8>,
    overflow: bool,
}

impl Attrs {
    /// Appends an attribute.
    pub fn raw(&mut self, kind: u16, payload: &[u8]) {
        let start = self.begin(kind);
        self.bytes.extend_from_slice(payload);
        self.end(start);
    }

    /// Appends a string with its NUL.
    pub fn text(&mut self, kind: u16, text: &str) {
        let start = self.begin(kind);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.end(start);
    }

    /// Appends a number of 32 bits.
    pub fn be32(&mut self, kind: u16, number: u32) {
        self.raw(kind, &number.to_be_bytes());
    }

    /// Appends a nested attribute with whatever `fill` writes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.begin(kind | NESTED);
        fill(self);
        self.end(start);
    }

    /// Appends a nested attribute whose contents are bytes already.
    pub fn nested_raw(&mut self, kind: u16, contents: &[u8]) {
        self.raw(kind | NESTED, contents);
    }

    /// How many bytes there are so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes; none if an attribute became longer than its 16 bits of length can say.
    pub fn finish(self) -> Option<Vec<u8>> {
        (!self.overflow).then_some(self.bytes)
    }

    fn begin(&mut self, kind: u16) -> usize {
        attribute::begin(&mut self.bytes, kind)
    }

    fn end(&mut self, start: usize) {
        self.overflow |= !attribute::end(&mut self.bytes, start);
    }
}

/// Attributes as they were read, in order.
#[derive(Debug)]
pub struct Parsed<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Parsed<'a> {
    /// Splits bytes into attributes.
    pub fn new(mut bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut all = Vec::new();
        while bytes.len() >= HEADER {
            let len = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
            let kind = u16::from_ne_bytes([bytes[2], bytes[3]]) & NLA_TYPE_MASK;
            let payload = bytes.get(HEADER..len).ok_or(Malformed("an attribute is cut off"))?;
            all.push((kind, payload));
            bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(Self(all))
    }

    /// All attributes.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> + '_ {
        self.0.iter().copied()
    }

    /// The payload of the first attribute of a kind.
    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find(|attr| attr.0 == kind).map(|attr| attr.1)
    }

    /// The payload of an attribute that must be there.
    pub fn need(&self, kind: u16) -> Result<&'a [u8], Malformed> {
        self.get(kind).ok_or(Malformed("an attribute is missing"))
    }

    /// The attributes nested in an attribute; none if that is not there.
    pub fn nested(&self, kind: u16) -> Result<Self, Malformed> {
        Self::new(self.get(kind).unwrap_or_default())
    }

    /// A number of 32 bits, if it is there.
    pub fn be32(&self, kind: u16) -> Result<Option<u32>, Malformed> {
        let number = |payload: &[u8]| payload.try_into().map(u32::from_be_bytes);
        let number = self.get(kind).map(number).transpose();
        number.map_err(|_| Malformed("a number has not 4 bytes"))
    }

    /// A number of 64 bits, if it is there.
    pub fn be64(&self, kind: u16) -> Result<Option<u64>, Malformed> {
        let number = |payload: &[u8]| payload.try_into().map(u64::from_be_bytes);
        let number = self.get(kind).map(number).transpose();
        number.map_err(|_| Malformed("a number has not 8 bytes"))
    }

    /// A string, if it is there.
    pub fn text(&self, kind: u16) -> Option<String> {
        let bytes = self.get(kind)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let mut attrs = Attrs::default();
        attrs.text(1, "abc");
        attrs.nest(2, |inner| inner.raw(3, &[7]));
        let bytes = attrs.finish().unwrap();
        let wanted: Vec<u8> = [
            [8u16.to_ne_bytes(), 1u16.to_ne_bytes()].concat(),
            b"abc\0".to_vec(),
            [12u16.to_ne_bytes(), (2u16 | 1 << 15).to_ne_bytes()].concat(),
            [5u16.to_ne_bytes(), 3u16.to_ne_bytes()].concat(),
            vec![7, 0, 0, 0],
        ]
        .concat();
        assert_eq!(bytes, wanted);
        let parsed = Parsed::new(&bytes).unwrap();
        assert_eq!(parsed.text(1).as_deref(), Some("abc"));
        assert_eq!(parsed.nested(2).unwrap().get(3), Some(&[7u8][..]));
        assert_eq!(parsed.be32(2), Err(Malformed("a number has not 4 bytes")));
    }

    #[test]
    fn what_does_not_fit_is_refused_rather_than_wrapped() {
        let mut attrs = Attrs::default();
        attrs.raw(1, &vec![0; 65_531]);
        assert!(attrs.finish().is_some());
        let mut attrs = Attrs::default();
        attrs.raw(1, &vec![0; 65_532]);
        assert_eq!(attrs.finish(), None);
    }

    #[test]
    fn a_cut_attribute_is_an_error() {
        let bytes = [[8u16.to_ne_bytes(), 1u16.to_ne_bytes()].concat(), vec![1, 2]].concat();
        assert!(Parsed::new(&bytes).is_err());
        let no_length = [0u8; 8];
        assert!(Parsed::new(&no_length).is_err());
    }
}
