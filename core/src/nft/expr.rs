//! The kernel's own expressions: what a rule is lowered to, and what a dump decodes to.
//!
//! Names and meanings are those of linux/netfilter/nf_tables.h; numbers are in the netlink crate.

use std::fmt;

use super::field::{CtKey, FibAddr, FibResult, MetaKey};
use super::rule::Verdict;

/// One of the sixteen 32-bit data registers, by its index (`NFT_REG32_00` + index).
///
/// A value longer than a word occupies the following ones too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reg(pub u8);

/// The header that a payload expression reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PayloadBase {
    /// Link layer.
    Link,
    /// IPv4 or IPv6.
    Network,
    /// TCP, UDP, …
    Transport,
    /// What follows the transport header.
    Inner,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CmpOp {
    /// Equal.
    Eq,
    /// Not equal.
    Neq,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
}

/// How the checksums follow a payload write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadCsum {
    /// There is an internet checksum (RFC 1071) in the same header, at this offset in bytes.
    pub offset: Option<u32>,
    /// The transport checksum covers the bytes through its pseudo header.
    pub pseudo_header: bool,
}

/// `(register & mask) ^ xor`, as bytes in the order they have in the register.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitOps {
    /// The bits kept.
    pub mask: Vec<u8>,
    /// The bits turned over afterwards.
    pub xor: Vec<u8>,
}

/// `NF_NAT_RANGE_*` bits (linux/netfilter/nf_nat.h) that are not implied by the registers in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NatFlags(pub u32);

impl NatFlags {
    /// `random`: ports are chosen by hash.
    pub const RANDOM: Self = Self(1 << 2);
    /// `fully-random`: ports are chosen at random.
    pub const FULLY_RANDOM: Self = Self(1 << 4);
    /// `NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED`: the kernel sets them on its own
    /// where an address or a port is given (nft_nat_init, net/netfilter/nft_nat.c).
    pub const IMPLIED: u32 = 0b11;
}

/// One expression of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expr {
    /// Loads metadata.
    Meta {
        /// What.
        key: MetaKey,
        /// Where to.
        dreg: Reg,
    },
    /// Sets metadata.
    MetaSet {
        /// What.
        key: MetaKey,
        /// Where from.
        sreg: Reg,
    },
    /// Loads bytes of a header.
    Payload {
        /// The header.
        base: PayloadBase,
        /// Offset in bytes.
        offset: u32,
        /// Length in bytes.
        len: u32,
        /// Where to.
        dreg: Reg,
    },
    /// Writes bytes of a header.
    PayloadSet {
        /// The header.
        base: PayloadBase,
        /// Offset in bytes.
        offset: u32,
        /// Length in bytes.
        len: u32,
        /// Where from.
        sreg: Reg,
        /// What becomes of the checksums.
        csum: PayloadCsum,
    },
    /// Ends the rule unless the comparison holds.
    Cmp {
        /// The left-hand side.
        sreg: Reg,
        /// The comparison.
        op: CmpOp,
        /// The right-hand side.
        data: Vec<u8>,
    },
    /// Masks and flips bits.
    Bitwise {
        /// Where from.
        sreg: Reg,
        /// Where to.
        dreg: Reg,
        /// The operation.
        ops: BitOps,
    },
    /// Ends the rule unless the value is in the range, or, negated, if it is.
    Range {
        /// The value.
        sreg: Reg,
        /// Outside instead of inside.
        negated: bool,
        /// First value of the range.
        from: Vec<u8>,
        /// Last value of the range.
        to: Vec<u8>,
    },
    /// Ends the rule unless the set holds the key.
    Lookup {
        /// The set.
        set: String,
        /// The key.
        sreg: Reg,
        /// Ends the rule if the set holds the key instead.
        inverted: bool,
    },
    /// Looks a key up in a map, and ends the rule if it is not there.
    LookupMap {
        /// The map.
        map: String,
        /// The key.
        sreg: Reg,
        /// Where the data goes.
        dreg: Reg,
    },
    /// Looks a key up in a verdict map and obeys.
    LookupVerdict {
        /// The map.
        map: String,
        /// The key.
        sreg: Reg,
    },
    /// Loads a constant.
    Immediate {
        /// Where to.
        dreg: Reg,
        /// The constant.
        data: Vec<u8>,
    },
    /// Decides.
    Verdict(Verdict),
    /// Counts packets and bytes; the counts themselves are not part of the rule.
    Counter,
    /// Loads a property of the connection.
    Ct {
        /// What.
        key: CtKey,
        /// Where to.
        dreg: Reg,
    },
    /// Sets a property of the connection.
    CtSet {
        /// What.
        key: CtKey,
        /// Where from.
        sreg: Reg,
    },
    /// Asks the routing tables.
    Fib {
        /// The address looked up.
        addr: FibAddr,
        /// Only routes over the interface the packet came in by.
        iif: bool,
        /// What is asked.
        result: FibResult,
        /// Where to.
        dreg: Reg,
    },
    /// Source NAT to the address of the outgoing interface.
    Masq {
        /// How ports are chosen.
        flags: NatFlags,
    },
    /// Destination NAT.
    Dnat {
        /// IPv6 rather than IPv4.
        ipv6: bool,
        /// The register with the new address.
        addr: Reg,
        /// The register with the new port.
        port: Option<Reg>,
        /// How ports are chosen.
        flags: NatFlags,
    },
    /// Drops with an ICMP error, by its `NFT_REJECT_*` type and code.
    Reject {
        /// `enum nft_reject_types`
        kind: u32,
        /// The code within that type.
        code: u8,
    },
    /// Takes the packet out of connection tracking.
    Notrack,
    /// Something that minionet does not write, by its name in the kernel.
    Unknown {
        /// The kernel's name of it.
        name: String,
    },
}

impl Expr {
    /// The kernel's name of the expression, which is also that of its module after `nft_` where it
    /// is in a module of its own.
    pub fn name(&self) -> &str {
        match self {
            Self::Meta { .. } | Self::MetaSet { .. } => "meta",
            Self::Payload { .. } | Self::PayloadSet { .. } => "payload",
            Self::Cmp { .. } => "cmp",
            Self::Bitwise { .. } => "bitwise",
            Self::Range { .. } => "range",
            Self::Lookup { .. } | Self::LookupMap { .. } | Self::LookupVerdict { .. } => "lookup",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Counter => "counter",
            Self::Ct { .. } | Self::CtSet { .. } => "ct",
            Self::Fib { .. } => "fib",
            Self::Masq { .. } => "masq",
            Self::Dnat { .. } => "nat",
            Self::Reject { .. } => "reject",
            Self::Notrack => "notrack",
            Self::Unknown { name } => name,
        }
    }
}

// === text, close to what `nft --debug=netlink` prints ===

impl fmt::Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl fmt::Display for PayloadBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "ll",
            Self::Network => "nh",
            Self::Transport => "th",
            Self::Inner => "ih",
        })
    }
}

/// Bytes as one hexadecimal number.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta { key, dreg } => write!(f, "[{dreg} = {key}]"),
            Self::MetaSet { key, sreg } => write!(f, "[{key} = {sreg}]"),
            Self::Payload { base, offset, len, dreg } => {
                write!(f, "[{dreg} = {base} {offset}+{len}]")
            }
            Self::PayloadSet { base, offset, len, sreg, .. } => {
                write!(f, "[{base} {offset}+{len} = {sreg}]")
            }
            Self::Cmp { sreg, op, data } => {
                let op = match op {
                    CmpOp::Eq => "==",
                    CmpOp::Neq => "!=",
                    CmpOp::Lt => "<",
                    CmpOp::Lte => "<=",
                    CmpOp::Gt => ">",
                    CmpOp::Gte => ">=",
                };
                write!(f, "[{sreg} {op} {}]", Hex(data))
            }
            Self::Bitwise { sreg, dreg, ops } => {
                write!(f, "[{dreg} = {sreg} & {} ^ {}]", Hex(&ops.mask), Hex(&ops.xor))
            }
            Self::Range { sreg, negated, from, to } => {
                let op = if *negated { "outside" } else { "in" };
                write!(f, "[{sreg} {op} {}-{}]", Hex(from), Hex(to))
            }
            Self::Lookup { set, sreg, inverted } => {
                let op = if *inverted { "not in" } else { "in" };
                write!(f, "[{sreg} {op} @{set}]")
            }
            Self::LookupMap { map, sreg, dreg } => write!(f, "[{dreg} = {sreg} map @{map}]"),
            Self::LookupVerdict { map, sreg } => write!(f, "[{sreg} vmap @{map}]"),
            Self::Immediate { dreg, data } => write!(f, "[{dreg} = {}]", Hex(data)),
            Self::Verdict(verdict) => write!(f, "[{verdict}]"),
            Self::Ct { key, dreg } => write!(f, "[{dreg} = {key}]"),
            Self::CtSet { key, sreg } => write!(f, "[{key} = {sreg}]"),
            Self::Fib { addr, iif, result, dreg } => {
                let field = super::Field::Fib { addr: *addr, iif: *iif, result: *result };
                write!(f, "[{dreg} = {field}]")
            }
            Self::Masq { flags } => write!(f, "[masquerade{flags}]"),
            Self::Dnat { addr, port, flags, .. } => {
                write!(f, "[dnat {addr}")?;
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
                write!(f, "{flags}]")
            }
            Self::Reject { kind, code } => write!(f, "[reject {kind}/{code}]"),
            Self::Counter | Self::Notrack | Self::Unknown { .. } => write!(f, "[{}]", self.name()),
        }
    }
}

impl fmt::Display for NatFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self(0) => Ok(()),
            Self::RANDOM => f.write_str(" random"),
            Self::FULLY_RANDOM => f.write_str(" fully-random"),
            Self(bits) => write!(f, " flags {bits:#x}"),
        }
    }
}
