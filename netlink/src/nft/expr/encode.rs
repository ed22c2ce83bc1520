//! Expressions: model to attributes.

use minionet_core::nft::{
    CtKey, Expr, FibAddr, FibResult, MetaKey, NatFlags, PayloadBase, PayloadCsum, Reg, Verdict,
};

use super::super::uapi::*;
use super::super::wire::Attrs;
use super::{BASES, CMP_OPS, CT_KEYS, META_KEYS, number};

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

fn meta_number(key: MetaKey) -> u32 {
    if let MetaKey::Other(number) = key { number } else { number(META_KEYS, key) }
}

fn ct_number(key: CtKey) -> u32 {
    if let CtKey::Other(number) = key { number } else { number(CT_KEYS, key) }
}
