//! Rules of policy routing: which table is asked for which packet.

use std::net::IpAddr;

use minionet_core::addr::Family;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use crate::decode;
use crate::error::Error;
use crate::socket::{Request, Socket};

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
        let mut message = RuleMessage::default();
        message.header.family = decode::family(family);
        self.dump(Message::GetRule(message), "read the routing rules", |m| match m {
            Message::NewRule(rule) => decode(&rule).filter(|r| r.protocol == protocol),
            _ => None,
        })
    }
}

/// The request that adds a rule; refused with `EEXIST` when it is there.
pub(crate) fn add(rule: &Rule) -> Request {
    Request::new(Message::NewRule(encode(rule)), NLM_F_CREATE | NLM_F_EXCL)
}

/// The request that removes exactly this rule.
pub(crate) fn remove(rule: &Rule) -> Request {
    Request::new(Message::DelRule(encode(rule)), 0)
}

fn encode(rule: &Rule) -> RuleMessage {
    let family = Family::of(rule.source);
    let mut message = RuleMessage::default();
    message.header.family = decode::family(family);
    message.header.src_len = family.bits();
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Source(rule.source),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Protocol(RouteProtocol::from(rule.protocol)),
    ];
    message
}

/// Nothing for a rule that is not about one source address.
fn decode(message: &RuleMessage) -> Option<Rule> {
    let (mut source, mut table, mut priority, mut protocol) = (None, 0, 0, 0);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(address) => source = Some(*address),
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::Protocol(number) => protocol = u8::from(*number),
            _ => {}
        }
    }
    let source = source.filter(|address| message.header.src_len == Family::of(*address).bits())?;
    Some(Rule { source, table, priority, protocol })
}
