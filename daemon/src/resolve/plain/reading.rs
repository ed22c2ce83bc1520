//! An answer, read while its octets arrive.
//!
//! One of a large cluster has thousands of records and some dozens of segments, and most of them can be
//! read before the last is there. A record is a matter of what stands before it alone: names are written
//! out, or point backwards (RFC 1035 section 4.1.4).

use domain::base::iana::Class;
use domain::base::wire::ParseError;
use domain::base::{Message, ParsedRecord};
use domain::dep::octseq::{Octets, Parser};
use domain::rdata::{A, Aaaa};
use minionet_core::addr::Family;

use super::super::Records;

/// What has been read of an answer. It is the same however the octets come.
pub struct Reading {
    family: Family,
    records: Records,
    /// Octets of the whole message.
    length: usize,
    /// Where the next record begins, once the beginning of the first is there.
    next: Option<usize>,
    /// How many more there are to be.
    left: u16,
}

impl Reading {
    /// Nothing yet, of a message of so many octets that is to tell addresses of this family.
    pub fn new(family: Family, length: usize) -> Self {
        Reading { family, records: Records::default(), length, next: None, left: 0 }
    }

    /// Reads what is there as a whole; `octets` is all that has arrived of the message.
    pub fn go_on(&mut self, octets: &[u8]) {
        // Whether there is more to come, or it is mangled, is seen at its end.
        let _not_yet = self.read(octets);
    }

    /// All records of the family, whoever owns them: a name may lead to another one. `octets` is the
    /// whole message.
    ///
    /// # Errors
    /// When it is mangled, anywhere in its records.
    pub fn finish(mut self, octets: &[u8]) -> Result<Records, ParseError> {
        self.read(octets)?;
        Ok(self.records)
    }

    fn read(&mut self, octets: &[u8]) -> Result<(), ParseError> {
        let mut parser = Parser::from_ref(octets);
        parser.advance(self.begin(octets)?)?;
        while self.left > 0 {
            self.take(&mut parser)?;
            (self.left, self.next) = (self.left - 1, Some(parser.pos()));
        }
        Ok(())
    }

    /// Where the next record begins.
    fn begin(&mut self, octets: &[u8]) -> Result<usize, ParseError> {
        if let Some(next) = self.next {
            return Ok(next);
        }
        let message = Message::from_slice(octets).map_err(|_| ParseError::ShortInput)?;
        let first = message.answer()?.pos();
        self.left = message.header_counts().ancount();
        // An address of IPv4 takes 16 octets in a message, one of IPv6 takes 28.
        self.records.expect(self.family, usize::from(self.left).min(self.length / 16));
        self.next = Some(first);
        Ok(first)
    }

    /// Takes in one record.
    fn take<'a, O: Octets + ?Sized>(&mut self, parser: &mut Parser<'a, O>) -> Result<(), ParseError> {
        let record = ParsedRecord::parse(parser)?;
        if record.class() != Class::IN {
            return Ok(());
        }
        let ttl = record.ttl().as_secs();
        match self.family {
            Family::V4 => {
                if let Some(record) = record.into_record::<A>()? {
                    self.records.add(record.data().addr().into(), ttl);
                }
            }
            Family::V6 => {
                if let Some(record) = record.into_record::<Aaaa>()? {
                    self.records.add(record.data().addr().into(), ttl);
                }
            }
        }
        Ok(())
    }
}
