//! Rules as a person writes them: statements, with constructors that read like nft text.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::expr::NatFlags;
use super::field::{Field, Header};
use super::value::Value;

/// A decision about a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Lets it pass this chain.
    Accept,
    /// Drops it.
    Drop,
    /// Goes on with the next rule.
    Continue,
    /// Goes back to the calling chain, or to the policy.
    Return,
    /// Goes to a chain, and comes back.
    Jump(String),
    /// Goes to a chain for good.
    Goto(String),
}

/// Whether a match must hold or must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// It must hold.
    Is,
    /// It must not.
    IsNot,
}

/// The right-hand side of a match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operand {
    /// A value per field.
    Values(Vec<Value>),
    /// A network that the address is in.
    Network(IpNetwork),
    /// What an interface name begins with.
    NamePrefix(String),
    /// A range, both ends included.
    Range(Value, Value),
    /// A named set.
    Set(String),
    /// A value of the bits under a mask, of a field of 4 octets: of a header as a number that begins
    /// with the first octet, of all else as the host has it.
    Masked {
        /// The bits looked at.
        mask: u32,
        /// What they must be.
        value: u32,
    },
    /// At least one of these bits, of a field in host byte order.
    AnyBit(u32),
}

/// A condition on a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Match {
    /// The fields; more than one is a concatenation.
    pub fields: Vec<Field>,
    /// Whether it must hold.
    pub relation: Relation,
    /// What the fields are compared with.
    pub operand: Operand,
}

/// What a rule can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The mark of the packet.
    Mark,
    /// The mark of the connection.
    CtMark,
    /// A field of the packet. The checksums follow, but for raw bytes and for ports of no
    /// particular protocol.
    Header(Header),
}

/// Where an assigned value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A constant.
    Value(Value),
    /// Another field.
    Field(Field),
    /// A field in host byte order, with some bits set and the others as they were.
    Or(Field, u32),
    /// A field in host byte order, with all but these bits cleared.
    And(Field, u32),
}

/// Where destination NAT sends a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DnatTo {
    /// Always there.
    Fixed(IpAddr, Option<u16>),
    /// Where a map says, which maps the fields to an address, or to an address and a port.
    Map {
        /// The key.
        key: Vec<Field>,
        /// The map.
        map: String,
        /// The map holds IPv6 addresses.
        ipv6: bool,
        /// The map holds ports as well.
        port: bool,
    },
}

/// One statement of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statement {
    /// A condition for the rest of the rule.
    Match(Match),
    /// A decision.
    Verdict(Verdict),
    /// A decision taken from a verdict map.
    VerdictMap {
        /// The key.
        key: Vec<Field>,
        /// The map.
        map: String,
    },
    /// Counts packets and bytes.
    Counter,
    /// Changes a mark, or a field of the packet.
    Set(Target, Source),
    /// Source NAT to the address of the outgoing interface.
    Masquerade(NatFlags),
    /// Destination NAT.
    Dnat(DnatTo),
    /// Drops with an ICMP "port unreachable".
    Reject,
    /// Takes the packet out of connection tracking.
    Notrack,
}

/// A rule: statements from left to right, and a comment that `nft list` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The statements.
    pub statements: Vec<Statement>,
    /// The comment, at most 128 bytes (`nft` refuses longer ones); empty for none.
    pub comment: String,
}

// === impl Rule ===

impl Rule {
    /// A rule of these statements.
    pub fn of(statements: impl Into<Vec<Statement>>) -> Self {
        Self { statements: statements.into(), comment: String::new() }
    }

    /// The same with a comment.
    pub fn comment(self, comment: impl Into<String>) -> Self {
        Self { comment: comment.into(), ..self }
    }
}

// === impl Match ===

impl Match {
    /// Starts a match on a concatenation of fields.
    pub fn on(fields: impl Into<Vec<Field>>) -> MatchOn {
        MatchOn(fields.into())
    }
}

/// The left-hand side of a match that is being written.
#[derive(Debug, Clone)]
pub struct MatchOn(Vec<Field>);

impl MatchOn {
    /// `… @set`
    pub fn one_of(self, set: impl Into<String>) -> Statement {
        self.relate(Relation::Is, Operand::Set(set.into()))
    }

    /// `… != @set`
    pub fn none_of(self, set: impl Into<String>) -> Statement {
        self.relate(Relation::IsNot, Operand::Set(set.into()))
    }

    /// `… vmap @map`
    pub fn vmap(self, map: impl Into<String>) -> Statement {
        Statement::VerdictMap { key: self.0, map: map.into() }
    }

    fn relate(self, relation: Relation, operand: Operand) -> Statement {
        Statement::Match(Match { fields: self.0, relation, operand })
    }
}

// === impl Field: matches on one field ===

impl Field {
    /// `field value`
    pub fn is(self, value: impl Into<Value>) -> Statement {
        self.relate(Relation::Is, Operand::Values(vec![value.into()]))
    }

    /// `field != value`
    pub fn not(self, value: impl Into<Value>) -> Statement {
        self.relate(Relation::IsNot, Operand::Values(vec![value.into()]))
    }

    /// `field @set`
    pub fn one_of(self, set: impl Into<String>) -> Statement {
        Match::on([self]).one_of(set)
    }

    /// `field != @set`
    pub fn none_of(self, set: impl Into<String>) -> Statement {
        Match::on([self]).none_of(set)
    }

    /// `field network`
    pub fn within(self, network: IpNetwork) -> Statement {
        self.relate(Relation::Is, Operand::Network(network))
    }

    /// `field from-to`
    pub fn between(self, from: impl Into<Value>, to: impl Into<Value>) -> Statement {
        self.relate(Relation::Is, Operand::Range(from.into(), to.into()))
    }

    /// `field "prefix*"`
    pub fn starts_with(self, prefix: impl Into<String>) -> Statement {
        self.relate(Relation::Is, Operand::NamePrefix(prefix.into()))
    }

    /// `field != "prefix*"`
    pub fn does_not_start_with(self, prefix: impl Into<String>) -> Statement {
        self.relate(Relation::IsNot, Operand::NamePrefix(prefix.into()))
    }

    /// `field & mask == value`
    pub fn masked(self, mask: u32, value: u32) -> Statement {
        self.relate(Relation::Is, Operand::Masked { mask, value })
    }

    /// `field bit,bit`: at least one of the bits.
    pub fn any_bit(self, bits: u32) -> Statement {
        self.relate(Relation::Is, Operand::AnyBit(bits))
    }

    fn relate(self, relation: Relation, operand: Operand) -> Statement {
        MatchOn(vec![self]).relate(relation, operand)
    }
}

impl From<Verdict> for Statement {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}
