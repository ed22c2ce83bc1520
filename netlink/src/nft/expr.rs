//! Expressions of rules: model to attributes, and back.

use minionet_core::nft::{
    BitOps, CmpOp, CtKey, Expr, FibAddr, FibResult, MetaKey, NatFlags, PayloadBase, PayloadCsum, Reg, Verdict,
};

use super::uapi::*;
use super::wire::{Attrs, Malformed, Parsed};

/// Kernel numbers of `enum nft_meta_keys`.
const META_KEYS: &[(u32, MetaKey)] = &[
    (3, MetaKey::Mark),
    (4, MetaKey::Iif),
    (5, MetaKey::Oif),
    (6, MetaKey::IifName),
    (7, MetaKey::OifName),
    (15, MetaKey::NfProto),
    (16, MetaKey::L4Proto),
    (26, MetaKey::IifKind),
    (27, MetaKey::OifKind),
];
/// Kernel numbers of `enum nft_ct_keys`.
const CT_KEYS: &[(u32, CtKey)] =
    &[(0, CtKey::State), (1, CtKey::Direction), (2, CtKey::Status), (3, CtKey::Mark)];
/// Kernel numbers of `enum nft_payload_bases`.
const BASES: &[(u32, PayloadBase)] = &[
    (0, PayloadBase::Link),
    (1, PayloadBase::Network),
    (2, PayloadBase::Transport),
    (3, PayloadBase::Inner),
];
/// Kernel numbers of `enum nft_cmp_ops`.
const CMP_OPS: &[(u32, CmpOp)] =
    &[(0, CmpOp::Eq), (1, CmpOp::Neq), (2, CmpOp::Lt), (3, CmpOp::Lte), (4, CmpOp::Gt), (5, CmpOp::Gte)];

// === writing ===

/// Appends an expression as an element of a list.
pub fn encode(expr: &Expr, list: &mut Attrs) {
    list.nest(LIST_ELEM, |element| {
        element.text(EXPR_NAME, expr.name());
        element.nest(EXPR_DATA, |data| encode_data(expr, data));
    });
}

fn encode_data(expr: &Expr, data: &mut Attrs) {
    match expr {
        Expr::Meta { key, dreg } => {
            data.be32(META_KEY, meta_number(*key));
            data.be32(META_DREG, register(*dreg));
        }
        Expr::MetaSet { key, sreg } => {
            data.be32(META_KEY, meta_number(*key));
            data.be32(META_SREG, register(*sreg));
        }
        Expr::Payload { base, offset, len, dreg } => {
            place(data, *base, *offset, *len);
            data.be32(PAYLOAD_DREG, register(*dreg));
        }
        Expr::PayloadSet { base, offset, len, sreg, csum } => {
            place(data, *base, *offset, *len);
            data.be32(PAYLOAD_SREG, register(*sreg));
            checksum(data, *csum);
        }
        Expr::Cmp { sreg, op, data: right } => {
            data.be32(CMP_SREG, register(*sreg));
            data.be32(CMP_OP, number(CMP_OPS, *op));
            value(data, CMP_DATA, right);
        }
        Expr::Bitwise { sreg, dreg, ops } => {
            data.be32(BITWISE_SREG, register(*sreg));
            data.be32(BITWISE_DREG, register(*dreg));
            data.be32(BITWISE_LEN, ops.mask.len() as u32);
            value(data, BITWISE_MASK, &ops.mask);
            value(data, BITWISE_XOR, &ops.xor);
        }
        Expr::Range { sreg, negated, from, to } => {
            data.be32(RANGE_SREG, register(*sreg));
            data.be32(RANGE_OP, if *negated { RANGE_NEQ } else { RANGE_EQ });
            value(data, RANGE_FROM_DATA, from);
            value(data, RANGE_TO_DATA, to);
        }
        Expr::Lookup { set, sreg, inverted } => {
            data.text(LOOKUP_SET, set);
            data.be32(LOOKUP_SREG, register(*sreg));
            if *inverted {
                data.be32(LOOKUP_FLAGS, LOOKUP_F_INV);
            }
        }
        Expr::LookupMap { map, sreg, dreg } => {
            data.text(LOOKUP_SET, map);
            data.be32(LOOKUP_SREG, register(*sreg));
            data.be32(LOOKUP_DREG, register(*dreg));
        }
        Expr::LookupVerdict { map, sreg } => {
            data.text(LOOKUP_SET, map);
            data.be32(LOOKUP_SREG, register(*sreg));
            data.be32(LOOKUP_DREG, REG_VERDICT);
        }
        Expr::Immediate { dreg, data: constant } => {
            data.be32(IMMEDIATE_DREG, register(*dreg));
            value(data, IMMEDIATE_DATA, constant);
        }
        Expr::Verdict(verdict) => {
            data.be32(IMMEDIATE_DREG, REG_VERDICT);
            data.nest(IMMEDIATE_DATA, |nest| encode_verdict(verdict, nest));
        }
        Expr::Ct { key, dreg } => {
            data.be32(CT_KEY, ct_number(*key));
            data.be32(CT_DREG, register(*dreg));
        }
        Expr::CtSet { key, sreg } => {
            data.be32(CT_KEY, ct_number(*key));
            data.be32(CT_SREG, register(*sreg));
        }
        Expr::Fib { addr, iif, result, dreg } => {
            data.be32(FIB_DREG, register(*dreg));
            let (result, present) = match result {
                FibResult::Exists => (FIB_RESULT_OIF, FIB_F_PRESENT),
                FibResult::Type => (FIB_RESULT_ADDRTYPE, 0),
            };
            data.be32(FIB_RESULT, result);
            let addr = match addr {
                FibAddr::Saddr => FIB_F_SADDR,
                FibAddr::Daddr => FIB_F_DADDR,
            };
            data.be32(FIB_FLAGS, addr | present | if *iif { FIB_F_IIF } else { 0 });
        }
        Expr::Masq { flags } => {
            if *flags != NatFlags::default() {
                data.be32(MASQ_FLAGS, flags.0);
            }
        }
        Expr::Dnat { ipv6, addr, port, flags } => {
            data.be32(NAT_TYPE, NAT_DNAT);
            data.be32(NAT_FAMILY, if *ipv6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 });
            data.be32(NAT_REG_ADDR_MIN, register(*addr));
            if let Some(port) = port {
                data.be32(NAT_REG_PROTO_MIN, register(*port));
            }
            if *flags != NatFlags::default() {
                data.be32(NAT_FLAGS, flags.0);
            }
        }
        Expr::Reject { kind, code } => {
            data.be32(REJECT_TYPE, *kind);
            data.raw(REJECT_ICMP_CODE, &[*code]);
        }
        Expr::Counter | Expr::Notrack | Expr::Unknown { .. } => {}
    }
}

/// Appends a verdict in the form that data has, in rules and in verdict maps.
pub fn encode_verdict(verdict: &Verdict, data: &mut Attrs) {
    let (code, chain) = match verdict {
        Verdict::Drop => (NF_DROP, None),
        Verdict::Accept => (NF_ACCEPT, None),
        Verdict::Continue => (VERDICT_CONTINUE as u32, None),
        Verdict::Return => (VERDICT_RETURN as u32, None),
        Verdict::Jump(chain) => (VERDICT_JUMP as u32, Some(chain)),
        Verdict::Goto(chain) => (VERDICT_GOTO as u32, Some(chain)),
    };
    data.nest(DATA_VERDICT_ATTR, |nest| {
        nest.be32(VERDICT_CODE, code);
        if let Some(chain) = chain {
            nest.text(VERDICT_CHAIN, chain);
        }
    });
}

/// Appends bytes in the form that data has.
pub fn value(attrs: &mut Attrs, kind: u16, bytes: &[u8]) {
    attrs.nest(kind, |nest| nest.raw(DATA_VALUE, bytes));
}

fn place(data: &mut Attrs, base: PayloadBase, offset: u32, len: u32) {
    data.be32(PAYLOAD_BASE, number(BASES, base));
    data.be32(PAYLOAD_OFFSET, offset);
    data.be32(PAYLOAD_LEN, len);
}

fn checksum(data: &mut Attrs, csum: PayloadCsum) {
    if let Some(offset) = csum.offset {
        data.be32(PAYLOAD_CSUM_TYPE, PAYLOAD_CSUM_INET);
        data.be32(PAYLOAD_CSUM_OFFSET, offset);
    } else {
        data.be32(PAYLOAD_CSUM_TYPE, PAYLOAD_CSUM_NONE);
    }
    if csum.pseudo_header {
        data.be32(PAYLOAD_CSUM_FLAGS, PAYLOAD_L4CSUM_PSEUDOHDR);
    }
}

fn register(reg: Reg) -> u32 {
    REG32_00 + u32::from(reg.0)
}

/// The number of an item that is in the table; every one is.
fn number<T: Copy + PartialEq>(table: &[(u32, T)], item: T) -> u32 {
    table.iter().find(|entry| entry.1 == item).map_or(u32::MAX, |entry| entry.0)
}

fn named<T: Copy>(table: &[(u32, T)], number: u32) -> Option<T> {
    table.iter().find(|entry| entry.0 == number).map(|entry| entry.1)
}

fn meta_number(key: MetaKey) -> u32 {
    if let MetaKey::Other(number) = key { number } else { number(META_KEYS, key) }
}

fn ct_number(key: CtKey) -> u32 {
    if let CtKey::Other(number) = key { number } else { number(CT_KEYS, key) }
}

// === reading ===

/// Reads one element of a list of expressions; what is not ours becomes [`Expr::Unknown`].
pub fn decode(element: &[u8]) -> Result<Expr, Malformed> {
    let element = Parsed::new(element)?;
    let name = element.text(EXPR_NAME).ok_or(Malformed("an expression has no name"))?;
    let data = element.nested(EXPR_DATA)?;
    Ok(decode_data(&name, &data)?.unwrap_or(Expr::Unknown { name }))
}

/// Reads the numbers of a counter: packets and bytes.
pub fn decode_counter(element: &[u8]) -> Result<Option<(u64, u64)>, Malformed> {
    let data = Parsed::new(element)?.nested(EXPR_DATA)?;
    Ok(data.be64(COUNTER_PACKETS)?.zip(data.be64(COUNTER_BYTES)?))
}

fn decode_data(name: &str, data: &Parsed<'_>) -> Result<Option<Expr>, Malformed> {
    let expr = match name {
        "meta" => {
            let key = need(data, META_KEY)?;
            let key = named(META_KEYS, key).unwrap_or(MetaKey::Other(key));
            match (reg(data, META_DREG)?, reg(data, META_SREG)?) {
                (Some(dreg), _) => Expr::Meta { key, dreg },
                (None, Some(sreg)) => Expr::MetaSet { key, sreg },
                (None, None) => return Ok(None),
            }
        }
        "ct" => {
            // A direction makes it another question than any of ours.
            if data.get(CT_DIRECTION).is_some() {
                return Ok(None);
            }
            let key = need(data, CT_KEY)?;
            let key = named(CT_KEYS, key).unwrap_or(CtKey::Other(key));
            match (reg(data, CT_DREG)?, reg(data, CT_SREG)?) {
                (Some(dreg), _) => Expr::Ct { key, dreg },
                (None, Some(sreg)) => Expr::CtSet { key, sreg },
                (None, None) => return Ok(None),
            }
        }
        "payload" => return decode_payload(data),
        "cmp" => {
            let op = named(CMP_OPS, need(data, CMP_OP)?);
            let (Some(sreg), Some(op)) = (reg(data, CMP_SREG)?, op) else {
                return Ok(None);
            };
            Expr::Cmp { sreg, op, data: bytes(data, CMP_DATA)? }
        }
        "bitwise" => {
            // Only masks; shifts, and operations on two registers, have another number.
            if data.be32(BITWISE_OP)?.unwrap_or(0) != 0 {
                return Ok(None);
            }
            let (sreg, dreg) = (reg(data, BITWISE_SREG)?, reg(data, BITWISE_DREG)?);
            let Some((sreg, dreg)) = sreg.zip(dreg) else {
                return Ok(None);
            };
            let ops = BitOps { mask: bytes(data, BITWISE_MASK)?, xor: bytes(data, BITWISE_XOR)? };
            Expr::Bitwise { sreg, dreg, ops }
        }
        "range" => {
            let Some(sreg) = reg(data, RANGE_SREG)? else {
                return Ok(None);
            };
            let negated = need(data, RANGE_OP)? == RANGE_NEQ;
            let (from, to) = (bytes(data, RANGE_FROM_DATA)?, bytes(data, RANGE_TO_DATA)?);
            Expr::Range { sreg, negated, from, to }
        }
        "lookup" => return decode_lookup(data),
        "immediate" => match need(data, IMMEDIATE_DREG)? {
            REG_VERDICT => {
                return Ok(decode_verdict(&data.nested(IMMEDIATE_DATA)?)?.map(Expr::Verdict));
            }
            _ => match reg(data, IMMEDIATE_DREG)? {
                Some(dreg) => Expr::Immediate { dreg, data: bytes(data, IMMEDIATE_DATA)? },
                None => return Ok(None),
            },
        },
        "fib" => return decode_fib(data),
        "masq" if data.get(MASQ_REG_PROTO_MIN).is_none() => {
            Expr::Masq { flags: NatFlags(data.be32(MASQ_FLAGS)?.unwrap_or(0)) }
        }
        "nat" => return decode_nat(data),
        "reject" => {
            let code = data.get(REJECT_ICMP_CODE).and_then(|code| code.first());
            Expr::Reject { kind: need(data, REJECT_TYPE)?, code: code.copied().unwrap_or(0) }
        }
        "counter" => Expr::Counter,
        "notrack" => Expr::Notrack,
        _ => return Ok(None),
    };
    Ok(Some(expr))
}

fn decode_payload(data: &Parsed<'_>) -> Result<Option<Expr>, Malformed> {
    let Some(base) = named(BASES, need(data, PAYLOAD_BASE)?) else {
        return Ok(None);
    };
    let (offset, len) = (need(data, PAYLOAD_OFFSET)?, need(data, PAYLOAD_LEN)?);
    if let Some(dreg) = reg(data, PAYLOAD_DREG)? {
        return Ok(Some(Expr::Payload { base, offset, len, dreg }));
    }
    let Some(sreg) = reg(data, PAYLOAD_SREG)? else {
        return Ok(None);
    };
    let offset_of_csum = match data.be32(PAYLOAD_CSUM_TYPE)?.unwrap_or(PAYLOAD_CSUM_NONE) {
        PAYLOAD_CSUM_NONE => None,
        PAYLOAD_CSUM_INET => Some(need(data, PAYLOAD_CSUM_OFFSET)?),
        _ => return Ok(None),
    };
    let flags = data.be32(PAYLOAD_CSUM_FLAGS)?.unwrap_or(0);
    let csum = PayloadCsum { offset: offset_of_csum, pseudo_header: flags & PAYLOAD_L4CSUM_PSEUDOHDR != 0 };
    Ok(Some(Expr::PayloadSet { base, offset, len, sreg, csum }))
}

fn decode_lookup(data: &Parsed<'_>) -> Result<Option<Expr>, Malformed> {
    let set = data.text(LOOKUP_SET).ok_or(Malformed("a lookup names no set"))?;
    let Some(sreg) = reg(data, LOOKUP_SREG)? else {
        return Ok(None);
    };
    let inverted = data.be32(LOOKUP_FLAGS)?.unwrap_or(0) & LOOKUP_F_INV != 0;
    Ok(match data.be32(LOOKUP_DREG)? {
        None => Some(Expr::Lookup { set, sreg, inverted }),
        Some(REG_VERDICT) => Some(Expr::LookupVerdict { map: set, sreg }),
        Some(_) => reg(data, LOOKUP_DREG)?.map(|dreg| Expr::LookupMap { map: set, sreg, dreg }),
    })
}

fn decode_fib(data: &Parsed<'_>) -> Result<Option<Expr>, Malformed> {
    let Some(dreg) = reg(data, FIB_DREG)? else {
        return Ok(None);
    };
    let flags = need(data, FIB_FLAGS)?;
    let result = match (need(data, FIB_RESULT)?, flags & FIB_F_PRESENT != 0) {
        (FIB_RESULT_OIF, true) => FibResult::Exists,
        (FIB_RESULT_ADDRTYPE, false) => FibResult::Type,
        _ => return Ok(None),
    };
    let addr = match flags & !(FIB_F_PRESENT | FIB_F_IIF) {
        FIB_F_SADDR => FibAddr::Saddr,
        FIB_F_DADDR => FibAddr::Daddr,
        _ => return Ok(None),
    };
    Ok(Some(Expr::Fib { addr, iif: flags & FIB_F_IIF != 0, result, dreg }))
}

fn decode_nat(data: &Parsed<'_>) -> Result<Option<Expr>, Malformed> {
    let ipv6 = match need(data, NAT_FAMILY)? {
        NFPROTO_IPV4 => false,
        NFPROTO_IPV6 => true,
        _ => return Ok(None),
    };
    let (addr, port) = (reg(data, NAT_REG_ADDR_MIN)?, reg(data, NAT_REG_PROTO_MIN)?);
    // The kernel shows the end of a range even where there is none: then it is the beginning.
    let ranges = reg(data, NAT_REG_ADDR_MAX)?.is_some_and(|max| Some(max) != addr)
        || reg(data, NAT_REG_PROTO_MAX)?.is_some_and(|max| Some(max) != port);
    let Some(addr) = addr.filter(|_| !ranges) else {
        return Ok(None);
    };
    if need(data, NAT_TYPE)? != NAT_DNAT {
        return Ok(None);
    }
    let flags = NatFlags(data.be32(NAT_FLAGS)?.unwrap_or(0) & !NatFlags::IMPLIED);
    Ok(Some(Expr::Dnat { ipv6, addr, port, flags }))
}

/// Reads a verdict out of data; none for one that is not a rule's (queue, …).
pub fn decode_verdict(data: &Parsed<'_>) -> Result<Option<Verdict>, Malformed> {
    let verdict = data.nested(DATA_VERDICT_ATTR)?;
    let code = verdict.be32(VERDICT_CODE)?.ok_or(Malformed("a verdict has no code"))?;
    let chain = || verdict.text(VERDICT_CHAIN).ok_or(Malformed("a jump leads nowhere"));
    Ok(Some(match (code, code as i32) {
        (NF_ACCEPT, _) => Verdict::Accept,
        (NF_DROP, _) => Verdict::Drop,
        (_, VERDICT_CONTINUE) => Verdict::Continue,
        (_, VERDICT_RETURN) => Verdict::Return,
        (_, VERDICT_JUMP) => Verdict::Jump(chain()?),
        (_, VERDICT_GOTO) => Verdict::Goto(chain()?),
        _ => return Ok(None),
    }))
}

fn need(data: &Parsed<'_>, kind: u16) -> Result<u32, Malformed> {
    data.be32(kind)?.ok_or(Malformed("an expression lacks a number"))
}

/// A data register. The kernel writes the first word of each 16 bytes by the old numbers 1 to 4
/// (nft_dump_register, net/netfilter/nf_tables_api.c).
fn reg(data: &Parsed<'_>, kind: u16) -> Result<Option<Reg>, Malformed> {
    Ok(match data.be32(kind)? {
        Some(old @ 1..=4) => Some(Reg((old as u8 - 1) * 4)),
        Some(new @ REG32_00..=23) => Some(Reg((new - REG32_00) as u8)),
        _ => None,
    })
}

fn bytes(data: &Parsed<'_>, kind: u16) -> Result<Vec<u8>, Malformed> {
    Ok(data.nested(kind)?.need(DATA_VALUE)?.to_vec())
}
