//! Rulesets as nft text, which `nft -f` reads and which is close to what `nft list` prints.

use std::fmt::{self, Display, Formatter, Write};

use super::field::{CtKey, FibResult, Field, MetaKey};
use super::rule::{DnatTo, Match, Operand, Relation, Rule, Source, Statement, Target, Verdict};
use super::ruleset::{BaseChain, Chain, ChainType, Hook, Policy, Ruleset};
use super::set::{Contents, Datum, Element, Set, SetData, SetSpec, Span};
use super::value::Value;

/// The items with a separator between them.
pub(super) fn joined<T: Display>(items: &[T], separator: &str) -> String {
    let mut text = String::new();
    for (index, item) in items.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}{item}", if index == 0 { "" } else { separator });
    }
    text
}

// === rules ===

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Continue => f.write_str("continue"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

/// Names of `ct state` bits (`NF_CT_STATE_BIT`, linux/netfilter/nf_conntrack_common.h).
const CT_STATES: &[(u32, &str)] =
    &[(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
/// Names of `ct status` bits (`IPS_*`, the same header) as nft knows them.
const CT_STATUSES: &[(u32, &str)] = &[
    (1, "expected"),
    (2, "seen-reply"),
    (4, "assured"),
    (8, "confirmed"),
    (16, "snat"),
    (32, "dnat"),
    (512, "dying"),
];
/// Names of address types (`RTN_*`, linux/rtnetlink.h).
const ADDRESS_TYPES: &[(u32, &str)] = &[
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
];

/// A value as nft writes it beside this field, where it has names that the value's type does not.
fn named(field: Option<&Field>, value: &Value) -> String {
    let word = match value {
        Value::Integer(bytes) => match bytes[..] {
            [byte] => u32::from(byte),
            [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]),
            _ => return value.to_string(),
        },
        _ => return value.to_string(),
    };
    let lookup = |names: &[(u32, &str)]| {
        let name = names.iter().find(|(number, _)| *number == word);
        name.map_or_else(|| word.to_string(), |(_, name)| (*name).to_owned())
    };
    match field {
        Some(Field::Meta(MetaKey::NfProto)) => lookup(&[(2, "ipv4"), (10, "ipv6")]),
        Some(Field::Ct(CtKey::Direction)) => lookup(&[(0, "original"), (1, "reply")]),
        Some(Field::Ct(CtKey::State)) => lookup(CT_STATES),
        Some(Field::Ct(CtKey::Status)) => lookup(CT_STATUSES),
        Some(Field::Fib { result: FibResult::Type, .. }) => lookup(ADDRESS_TYPES),
        Some(Field::Fib { result: FibResult::Exists, .. }) => lookup(&[(0, "missing"), (1, "exists")]),
        _ => value.to_string(),
    }
}

/// The names of all bits that are set.
fn bit_names(field: Option<&Field>, bits: u32) -> String {
    let names = (0..32)
        .map(|bit| bits & 1 << bit)
        .filter(|bit| *bit != 0)
        .map(|bit| named(field, &Value::Integer(bit.to_ne_bytes().to_vec())))
        .collect::<Vec<_>>();
    names.join(",")
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { fields, relation, operand } = self;
        let left = joined(fields, " . ");
        let not = match relation {
            Relation::Is => "",
            Relation::IsNot => "!= ",
        };
        match operand {
            Operand::Values(values) => {
                let values: Vec<String> = (values.iter().enumerate())
                    .map(|(index, value)| named(fields.get(index), value))
                    .collect();
                write!(f, "{left} {not}{}", values.join(" . "))
            }
            Operand::Network(network) => write!(f, "{left} {not}{network}"),
            Operand::NamePrefix(prefix) => write!(f, "{left} {not}\"{prefix}*\""),
            Operand::Range(from, to) => write!(f, "{left} {not}{from}-{to}"),
            Operand::Set(set) => write!(f, "{left} {not}@{set}"),
            Operand::Masked { mask, value } => {
                let op = if not.is_empty() { "==" } else { "!=" };
                write!(f, "{left} & {mask:#010x} {op} {value:#010x}")
            }
            Operand::AnyBit(bits) => {
                write!(f, "{left} {not}{}", bit_names(fields.first(), *bits))
            }
        }
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "{value}"),
            Self::Field(field) => write!(f, "{field}"),
            Self::Or(field, bits) => write!(f, "{field} | {bits:#010x}"),
            Self::And(field, bits) => write!(f, "{field} & {bits:#010x}"),
        }
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark => f.write_str("meta mark"),
            Self::CtMark => f.write_str("ct mark"),
            Self::Header(header) => write!(f, "{header}"),
        }
    }
}

impl Display for DnatTo {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        use std::net::IpAddr::{V4, V6};
        match self {
            Self::Fixed(V4(address), None) => write!(f, "ip to {address}"),
            Self::Fixed(V6(address), None) => write!(f, "ip6 to {address}"),
            Self::Fixed(V4(address), Some(port)) => write!(f, "ip to {address}:{port}"),
            Self::Fixed(V6(address), Some(port)) => write!(f, "ip6 to [{address}]:{port}"),
            Self::Map { key, map, ipv6, .. } => {
                let family = if *ipv6 { "ip6" } else { "ip" };
                write!(f, "{family} to {} map @{map}", joined(key, " . "))
            }
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match(condition) => write!(f, "{condition}"),
            Self::Verdict(verdict) => write!(f, "{verdict}"),
            Self::VerdictMap { key, map } => write!(f, "{} vmap @{map}", joined(key, " . ")),
            Self::Counter => f.write_str("counter"),
            Self::Set(target, source) => write!(f, "{target} set {source}"),
            Self::Masquerade(flags) => write!(f, "masquerade{flags}"),
            Self::Dnat(to) => write!(f, "dnat {to}"),
            Self::Reject => f.write_str("reject"),
            Self::Notrack => f.write_str("notrack"),
        }
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&joined(&self.statements, " "))?;
        if !self.comment.is_empty() {
            write!(f, " comment \"{}\"", self.comment)?;
        }
        Ok(())
    }
}

// === sets ===

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_single() {
            return write!(f, "{}", self.from);
        }
        match self.prefix() {
            Some(prefix) => write!(f, "{}/{prefix}", self.from),
            None => write!(f, "{}-{}", self.from, self.to),
        }
    }
}

impl Display for Datum {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Values(values) => f.write_str(&joined(values, " . ")),
            Self::Verdict(verdict) => write!(f, "{verdict}"),
        }
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&joined(&self.key, " . "))?;
        match &self.data {
            Some(data) => write!(f, " : {data}"),
            None => Ok(()),
        }
    }
}

impl SetSpec {
    /// "set" or "map", as nft has it.
    pub(super) fn kind(&self) -> &'static str {
        if self.data == SetData::None { "set" } else { "map" }
    }
}

impl Display for SetSpec {
    /// Type and flags, as between the braces of a set.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "type {}", joined(&self.key, " . "))?;
        match &self.data {
            SetData::None => {}
            SetData::Values(types) => write!(f, " : {}", joined(types, " . "))?,
            SetData::Verdict => f.write_str(" : verdict")?,
        }
        f.write_str(";")?;
        let flags = [(self.constant, "constant"), (self.dynamic, "dynamic"), (self.interval, "interval")];
        let flags: Vec<_> = flags.iter().filter(|flag| flag.0).map(|flag| flag.1).collect();
        if !flags.is_empty() {
            write!(f, " flags {};", flags.join(","))?;
        }
        Ok(())
    }
}

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\t{} {} {{", self.spec.kind(), self.spec.name)?;
        writeln!(f, "\t\t{}", self.spec)?;
        if let Contents::Fixed(elements) = &self.contents
            && !elements.is_empty()
        {
            writeln!(f, "\t\telements = {{ {} }}", joined(elements, ", "))?;
        }
        f.write_str("\t}\n")
    }
}

// === chains ===

impl Display for BaseChain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ChainType::Filter => "filter",
            ChainType::Nat => "nat",
            ChainType::Route => "route",
        };
        let hook = match self.hook {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        let policy = match self.policy {
            Policy::Accept => "accept",
            Policy::Drop => "drop",
        };
        write!(f, "type {kind} hook {hook} priority {}; policy {policy};", self.priority)
    }
}

impl Display for Chain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(base) = &self.base {
            writeln!(f, "\t\t{base}")?;
        }
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        f.write_str("\t}\n")
    }
}

impl Display for Ruleset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {} {{", self.table)?;
        self.sets.iter().try_for_each(|set| write!(f, "{set}"))?;
        self.chains.iter().try_for_each(|chain| write!(f, "{chain}"))?;
        f.write_str("}\n")
    }
}
