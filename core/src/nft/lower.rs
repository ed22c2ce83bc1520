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
                // A header is in network byte order, all else in that of the host.
                let header = matches!(fields[..], [Field::Header(_)]);
                let octets =
                    |word: &u32| if header { word.to_be_bytes() } else { word.to_ne_bytes() }.to_vec();
                let ops = BitOps { mask: octets(mask), xor: vec![0; 4] };
                self.push(Expr::Bitwise { sreg: R0, dreg: R0, ops });
                self.compare(op, octets(value));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::{PayloadBase, Verdict};

    fn text(rule: &Rule) -> String {
        rule.exprs().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    /// The same as `nft --debug=netlink` shows for the same rules.
    #[test]
    fn rules_become_what_nft_makes_of_them() {
        let rule =
            Rule::of([Field::IP_SADDR.one_of("a"), Field::IP_DADDR.none_of("a"), Verdict::Return.into()]);
        assert_eq!(
            text(&rule),
            "[r0 = meta nfproto] [r0 == 0x02] [r0 = nh 12+4] [r0 in @a] [r0 = nh 16+4] [r0 not in @a] [return]"
        );
        let rule = Rule::of([Field::UDP_DPORT.is(Value::Service(4789)), Verdict::Drop.into()]);
        assert_eq!(text(&rule), "[r0 = meta l4proto] [r0 == 0x11] [r0 = th 2+2] [r0 == 0x12b5] [drop]");
        let rule =
            Rule::of([Field::IIFNAME.starts_with("vA"), Field::FIB_SADDR_IIF.is(Value::Integer(vec![0; 4]))]);
        assert_eq!(
            text(&rule),
            "[r0 = iifname] [r0 == 0x7641] [r0 = fib saddr . iif oif] [r0 == 0x00000000]"
        );
    }

    #[test]
    fn a_concatenation_starts_each_field_at_a_register_of_its_own() {
        let rule = Rule::of([Match::on([Field::IIFNAME, Field::L4PROTO, Field::IP_SADDR]).one_of("a")]);
        assert_eq!(
            text(&rule),
            "[r0 = meta nfproto] [r0 == 0x02] [r0 = iifname] [r4 = meta l4proto] [r5 = nh 12+4] [r0 in @a]"
        );
    }

    #[test]
    fn what_a_rule_says_itself_is_not_said_again() {
        let rule = Rule::of([Field::L4PROTO.is(Value::Proto(17)), Field::UDP_DPORT.is(Value::Service(53))]);
        assert_eq!(text(&rule), "[r0 = meta l4proto] [r0 == 0x11] [r0 = th 2+2] [r0 == 0x0035]");
        // But what it denies is no help.
        let rule = Rule::of([Field::L4PROTO.not(Value::Proto(17)), Field::UDP_DPORT.is(Value::Service(53))]);
        assert_eq!(
            text(&rule),
            "[r0 = meta l4proto] [r0 != 0x11] [r0 = meta l4proto] [r0 == 0x11] [r0 = th 2+2] [r0 == 0x0035]"
        );
    }

    #[test]
    fn networks_of_whole_octets_are_compared_without_a_mask() {
        let within = |net: &str| text(&Rule::of([Field::IP_DADDR.within(net.parse().unwrap())]));
        let start = "[r0 = meta nfproto] [r0 == 0x02]";
        assert_eq!(within("10.0.0.0/8"), format!("{start} [r0 = nh 16+1] [r0 == 0x0a]"));
        assert_eq!(within("10.1.2.3/32"), format!("{start} [r0 = nh 16+4] [r0 == 0x0a010203]"));
        assert_eq!(
            within("172.20.0.1/12"),
            format!("{start} [r0 = nh 16+4] [r0 = r0 & 0xfff00000 ^ 0x00000000] [r0 == 0xac100000]")
        );
        assert_eq!(
            within("0.0.0.0/0"),
            format!("{start} [r0 = nh 16+4] [r0 = r0 & 0x00000000 ^ 0x00000000] [r0 == 0x00000000]")
        );
    }

    #[test]
    fn the_port_of_a_map_follows_the_address() {
        let dnat = |ipv6| {
            let key = vec![Field::TH_DPORT];
            Rule::of([Statement::Dnat(DnatTo::Map { key, map: "m".into(), ipv6, port: true })])
        };
        assert_eq!(text(&dnat(false)), "[r0 = th 2+2] [r0 = r0 map @m] [dnat r0:r1]");
        assert_eq!(text(&dnat(true)), "[r0 = th 2+2] [r0 = r0 map @m] [dnat r0:r4]");
    }

    #[test]
    fn raw_octets_are_loaded_as_they_are() {
        let field =
            Field::Header(crate::nft::Header::Raw { base: PayloadBase::Transport, offset: 12, len: 3 });
        assert_eq!(
            text(&Rule::of([field.is(Value::Integer(vec![0, 16, 1]))])),
            "[r0 = th 12+3] [r0 == 0x001001]"
        );
    }

    #[test]
    fn a_word_of_a_header_is_masked_in_the_order_of_the_packet() {
        let field =
            Field::Header(crate::nft::Header::Raw { base: PayloadBase::Transport, offset: 12, len: 4 });
        assert_eq!(
            text(&Rule::of([field.masked(0xffff_ff00, 0x0010_0100)])),
            "[r0 = th 12+4] [r0 = r0 & 0xffffff00 ^ 0x00000000] [r0 == 0x00100100]"
        );
    }
}
