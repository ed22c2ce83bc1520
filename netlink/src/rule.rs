//! Rules of policy routing: which table is asked for which packet.

use std::net::IpAddr;

use minionet_core::addr::Family;
use nix::libc;

use crate::decode::{self, ip_of, u32_at};
use crate::error::Error;
use crate::received::Received;
use crate::request::{CREATE, EXCLUSIVE, Request};
use crate::socket::Socket;

/// Octets of `struct fib_rule_hdr` of linux/fib_rules.h: family, lengths of destination and source,
/// and the action at 7.
const HEADER: usize = 12;

/// `FR_ACT_TO_TBL`, `FRA_SRC`, `FRA_PRIORITY`, `FRA_TABLE` and `FRA_PROTOCOL` of linux/fib_rules.h.
const TO_TABLE: u8 = 1;
const SOURCE: u16 = 2;
const PRIORITY: u16 = 6;
const TABLE: u16 = 15;
const PROTOCOL: u16 = 21;

/// A rule that looks packets from one address up in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The packets' source.
    pub source: IpAddr,
    /// The table's number.
    pub table: u32,
    /// Its place among the rules: the lowest is asked first.
    pub priority: u32,
    /// Who made it (`FRA_PROTOCOL`).
    pub protocol: u8,
}

impl Socket {
    /// Reads the rules by source address, of one family and made by one protocol.
    ///
    /// # Errors
    /// [`Error`] when the kernel cannot be asked.
    pub fn rules(&mut self, family: Family, protocol: u8) -> Result<Vec<Rule>, Error> {
        let request = begin(libc::RTM_GETRULE, 0, family, 0, 0);
        self.dump(&request, "read the routing rules", |object| {
            Ok(decode(object).filter(|rule| rule.protocol == protocol))
        })
    }
}

/// The request that adds a rule; refused with `EEXIST` when it is there.
pub(crate) fn add(rule: &Rule) -> Request {
    encode(libc::RTM_NEWRULE, CREATE | EXCLUSIVE, rule)
}

/// The request that removes exactly this rule.
pub(crate) fn remove(rule: &Rule) -> Request {
    encode(libc::RTM_DELRULE, 0, rule)
}

fn encode(kind: u16, flags: u16, rule: &Rule) -> Request {
    let family = Family::of(rule.source);
    begin(kind, flags, family, family.bits(), TO_TABLE)
        .address(SOURCE, rule.source)
        .number(TABLE, rule.table)
        .number(PRIORITY, rule.priority)
        .octets(PROTOCOL, &[rule.protocol])
}

fn begin(kind: u16, flags: u16, family: Family, source_len: u8, action: u8) -> Request {
    let mut begin = [0; HEADER];
    (begin[0], begin[2], begin[7]) = (decode::family(family), source_len, action);
    Request::new(kind, flags, &begin)
}

/// Nothing for a rule that is not about one source address.
fn decode(object: &Received<'_>) -> Option<Rule> {
    if object.kind != libc::RTM_NEWRULE {
        return None;
    }
    let body = object.body();
    let source_len = *body.get(2)?;
    let (mut source, mut table, mut priority, mut protocol) = (None, 0, 0, 0);
    for (number, value) in decode::attributes(body, HEADER) {
        match number {
            SOURCE => source = ip_of(value),
            TABLE => table = u32_at(value, 0)?,
            PRIORITY => priority = u32_at(value, 0)?,
            PROTOCOL => protocol = *value.first()?,
            _ => {}
        }
    }
    let source = source.filter(|address| source_len == Family::of(*address).bits())?;
    Some(Rule { source, table, priority, protocol })
}
