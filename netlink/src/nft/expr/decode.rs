//! Expressions: attributes to model.

use minionet_core::nft::{
    BitOps, CtKey, Expr, FibAddr, FibResult, MetaKey, NatFlags, PayloadCsum, Reg, Verdict,
};

use super::super::uapi::*;
use super::super::wire::{Malformed, Parsed};
use super::{BASES, CMP_OPS, CT_KEYS, META_KEYS, named};

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
