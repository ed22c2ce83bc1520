//! From statements to the kernel's expressions.
//!
//! The result is the same as `nft` makes of the same text, down to the registers, wherever that is
//! practical: then a table written by either can be compared, and `nft list` reads ours well.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::expr::{BitOps, CmpOp, Expr, NatFlags, Reg};
use super::field::{CtKey, Field, MetaKey};
use super::rule::{DnatTo, Match, Operand, Relation, Rule, Source, Statement, Target};
use super::value::Value;

/// The first data register; every statement starts there.
const R0: Reg = Reg(0);
/// `NFT_REJECT_ICMPX_UNREACH` and `NFT_REJECT_ICMPX_PORT_UNREACH`, linux/netfilter/nf_tables.h.
const REJECT_PORT_UNREACHABLE: (u32, u8) = (2, 1);

impl Rule {
    /// The rule as the kernel's expressions.
    pub fn exprs(&self) -> Vec<Expr> {
        let mut lowering = Lowering::default();
        for statement in &self.statements {
            lowering.statement(statement);
        }
        lowering.exprs
    }
}

/// A rule that is being lowered.
#[derive(Default)]
struct Lowering {
    exprs: Vec<Expr>,
    /// The protocols that the expressions so far have already established.
    known: Vec<(MetaKey, u8)>,
}

impl Lowering {
    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Match(condition) => self.condition(condition),
            Statement::Verdict(verdict) => self.push(Expr::Verdict(verdict.clone())),
            Statement::VerdictMap { key, map } => {
                self.load(key);
                self.push(Expr::LookupVerdict { map: map.clone(), sreg: R0 });
            }
            Statement::Counter => self.push(Expr::Counter),
            Statement::Set(field, source) => self.assign(*field, source),
            Statement::Masquerade(flags) => self.push(Expr::Masq { flags: *flags }),
            Statement::Dnat(to) => self.dnat(to),
            Statement::Reject => {
                let (kind, code) = REJECT_PORT_UNREACHABLE;
                self.push(Expr::Reject { kind, code });
            }
            Statement::Notrack => self.push(Expr::Notrack),
        }
    }

    fn push(&mut self, expr: Expr) {
        self.exprs.push(expr);
    }

    /// Loads the fields side by side, each padded to whole registers, after their conditions.
    fn load(&mut self, fields: &[Field]) {
        for field in fields {
            self.require(*field);
        }
        let mut word = 0;
        for field in fields {
            self.push(field.load(Reg(word)));
            word += words(field.data_type().size());
        }
    }

    /// Adds the condition under which the field exists, unless it is known to hold.
    fn require(&mut self, field: Field) {
        let Some((key, number)) = field.condition().filter(|known| !self.known.contains(known)) else {
            return;
        };
        self.push(Expr::Meta { key, dreg: R0 });
        self.compare(CmpOp::Eq, vec![number]);
        self.known.push((key, number));
    }

    fn compare(&mut self, op: CmpOp, data: Vec<u8>) {
        self.push(Expr::Cmp { sreg: R0, op, data });
    }

    fn condition(&mut self, condition: &Match) {
        let Match { fields, relation, operand } = condition;
        let op = match relation {
            Relation::Is => CmpOp::Eq,
            Relation::IsNot => CmpOp::Neq,
        };
        match operand {
            Operand::Network(network) => return self.network(fields, op, *network),
            Operand::AnyBit(bits) => {
                self.load(fields);
                self.mask(*bits, 0);
                // A set bit makes the word differ from zero.
                let op = if op == CmpOp::Eq { CmpOp::Neq } else { CmpOp::Eq };
                return self.compare(op, vec![0; 4]);
            }
            _ => self.load(fields),
        }
        match operand {
            Operand::Values(values) => {
                self.compare(op, Value::concatenated(values));
                self.learn(fields, op, values);
            }
            Operand::NamePrefix(prefix) => self.compare(op, prefix.as_bytes().to_vec()),
            Operand::Range(from, to) => self.push(Expr::Range {
                sreg: R0,
                negated: *relation == Relation::IsNot,
                from: from.bytes(),
                to: to.bytes(),
            }),
            Operand::Set(set) => {
                self.push(Expr::Lookup { set: set.clone(), sreg: R0, inverted: *relation == Relation::IsNot })
            }
            Operand::Masked { mask, value } => {
                self.mask(*mask, 0);
                self.compare(op, value.to_ne_bytes().to_vec());
            }
            Operand::Network(_) | Operand::AnyBit(_) => {}
        }
    }

    /// Remembers a protocol that the rule itself demands, so that it is not demanded twice.
    fn learn(&mut self, fields: &[Field], op: CmpOp, values: &[Value]) {
        if let (CmpOp::Eq, [Field::Meta(key)], [value]) = (op, fields, values)
            && matches!(key, MetaKey::NfProto | MetaKey::L4Proto)
            && let [number] = value.bytes()[..]
        {
            self.known.push((*key, number));
        }
    }

    /// `R0 = R0 & mask ^ xor`, for a word in host byte order.
    fn mask(&mut self, mask: u32, xor: u32) {
        let ops = BitOps { mask: mask.to_ne_bytes().into(), xor: xor.to_ne_bytes().into() };
        self.push(Expr::Bitwise { sreg: R0, dreg: R0, ops });
    }

    /// A network of whole bytes is compared by loading only those; any other one is masked.
    fn network(&mut self, fields: &[Field], op: CmpOp, network: IpNetwork) {
        let (address, mask) = match network {
            IpNetwork::V4(v4) => (v4.network().octets().to_vec(), v4.mask().octets().to_vec()),
            IpNetwork::V6(v6) => (v6.network().octets().to_vec(), v6.mask().octets().to_vec()),
        };
        self.load(fields);
        let whole = usize::from(network.prefix() / 8);
        if network.prefix().is_multiple_of(8)
            && whole > 0
            && let Some(Expr::Payload { len, .. }) = self.exprs.last_mut()
        {
            *len = whole as u32;
            return self.compare(op, address[..whole].to_vec());
        }
        let ops = BitOps { xor: vec![0; mask.len()], mask };
        self.push(Expr::Bitwise { sreg: R0, dreg: R0, ops });
        self.compare(op, address);
    }

    fn assign(&mut self, target: Target, source: &Source) {
        // Before the value, as the condition uses the same register.
        if let Target::Header(header) = target {
            self.require(Field::Header(header));
        }
        match source {
            Source::Value(value) => self.push(Expr::Immediate { dreg: R0, data: value.bytes() }),
            Source::Field(from) => self.load(&[*from]),
            Source::Or(from, bits) => {
                self.load(&[*from]);
                self.mask(!bits, *bits);
            }
            Source::And(from, bits) => {
                self.load(&[*from]);
                self.mask(*bits, 0);
            }
        }
        self.push(match target {
            Target::Mark => Expr::MetaSet { key: MetaKey::Mark, sreg: R0 },
            Target::CtMark => Expr::CtSet { key: CtKey::Mark, sreg: R0 },
            Target::Header(header) => {
                let (base, offset, len) = header.place();
                Expr::PayloadSet { base, offset, len, sreg: R0, csum: header.checksum() }
            }
        });
    }

    fn dnat(&mut self, to: &DnatTo) {
        let (ipv6, port) = match to {
            DnatTo::Fixed(address, port) => {
                self.push(Expr::Immediate { dreg: R0, data: Value::from(*address).bytes() });
                let register = port.map(|port| {
                    // The word after the longest address.
                    let dreg = Reg(4);
                    self.push(Expr::Immediate { dreg, data: port.to_be_bytes().to_vec() });
                    dreg
                });
                (matches!(address, IpAddr::V6(_)), register)
            }
            DnatTo::Map { key, map, ipv6, port } => {
                self.load(key);
                self.push(Expr::LookupMap { map: map.clone(), sreg: R0, dreg: R0 });
                // The map's data is address, then port, each in whole registers.
                let register = Reg(if *ipv6 { 4 } else { 1 });
                (*ipv6, port.then_some(register))
            }
        };
        self.push(Expr::Dnat { ipv6, addr: R0, port, flags: NatFlags::default() });
    }
}

/// How many registers so many bytes take.
fn words(bytes: usize) -> u8 {
    bytes.div_ceil(4) as u8
}
