//! nftables' expressions, read as the few kinds of rules that are followed.

use std::net::IpAddr;

use super::{Action, Rule, TableFamily, Test};
use crate::addr::{Cidr, Family};
use crate::nft::{CmpOp, Expr, MetaKey, PayloadBase, Reg, Verdict};

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loaded {
    /// An address, or its first octets: source or destination, the family, how many octets.
    Address { source: bool, family: Family, octets: u8 },
    /// A name of an interface: that the packet came in by, or that it leaves by.
    Interface { incoming: bool },
    /// The family.
    Family,
}

/// Reads the expressions of a rule in a table of this family.
pub fn rule(exprs: &[Expr], family: TableFamily) -> Rule {
    let rule = Rule { tests: Vec::new(), action: Action::Nothing };
    let mut reading = Reading { rule, loaded: None, family };
    exprs.iter().for_each(|expr| reading.take(expr));
    // A value that nothing was compared with.
    if reading.loaded.is_some() {
        reading.rule.tests.push(Test::Unknown);
    }
    reading.rule
}

struct Reading {
    rule: Rule,
    /// The register that was loaded last, what it holds, and how many bits of it count.
    loaded: Option<(Reg, Loaded, Option<u8>)>,
    family: TableFamily,
}

impl Reading {
    fn take(&mut self, expr: &Expr) {
        match expr {
            Expr::Counter => {}
            Expr::Verdict(verdict) => self.rule.action = action(verdict),
            Expr::Reject { .. } => self.rule.action = Action::Drop,
            Expr::Payload { base: PayloadBase::Network, offset, len, dreg } => {
                self.load(*dreg, self.address(*offset, *len));
            }
            Expr::Meta { key, dreg } => self.load(*dreg, meta(*key)),
            Expr::Bitwise { sreg, dreg, ops } => {
                let bits = ops.xor.iter().all(|octet| *octet == 0).then(|| prefix(&ops.mask)).flatten();
                match self.loaded.take().filter(|(reg, ..)| reg == sreg).zip(bits) {
                    Some(((_, loaded, None), bits)) => self.loaded = Some((*dreg, loaded, Some(bits))),
                    _ => self.rule.tests.push(Test::Unknown),
                }
            }
            Expr::Cmp { sreg, op: CmpOp::Eq, data } => {
                let loaded = self.loaded.take().filter(|(reg, ..)| reg == sreg);
                let test = loaded.and_then(|(_, loaded, bits)| test(loaded, bits, data));
                self.rule.tests.push(test.unwrap_or(Test::Unknown));
            }
            _ => {
                self.loaded = None;
                self.rule.tests.push(Test::Unknown);
            }
        }
    }

    fn load(&mut self, reg: Reg, loaded: Option<Loaded>) {
        // Of two values that are loaded, one is compared in a way that is not followed.
        if self.loaded.take().is_some() || loaded.is_none() {
            self.rule.tests.push(Test::Unknown);
        }
        self.loaded = loaded.map(|loaded| (reg, loaded, None));
    }

    /// The offsets are those of RFC 791 section 3.1 and RFC 8200 section 3.
    fn address(&self, offset: u32, len: u32) -> Option<Loaded> {
        // In a table of both families, the rule has asked for one of them before.
        let asked = self.rule.tests.iter().find_map(|test| match test {
            Test::Family(family) => Some(*family),
            _ => None,
        });
        let family = match self.family {
            TableFamily::Ip => Family::V4,
            TableFamily::Ip6 => Family::V6,
            TableFamily::Inet => asked?,
        };
        let source = match (family, offset) {
            (Family::V4, 12) | (Family::V6, 8) => true,
            (Family::V4, 16) | (Family::V6, 24) => false,
            _ => return None,
        };
        let octets = u8::try_from(len).ok().filter(|octets| *octets <= family.bits() / 8)?;
        Some(Loaded::Address { source, family, octets })
    }
}

fn meta(key: MetaKey) -> Option<Loaded> {
    match key {
        MetaKey::IifName => Some(Loaded::Interface { incoming: true }),
        MetaKey::OifName => Some(Loaded::Interface { incoming: false }),
        MetaKey::NfProto => Some(Loaded::Family),
        _ => None,
    }
}

fn action(verdict: &Verdict) -> Action {
    match verdict {
        Verdict::Accept => Action::Accept,
        Verdict::Drop => Action::Drop,
        Verdict::Continue => Action::Nothing,
        Verdict::Return => Action::Return,
        Verdict::Jump(chain) => Action::Jump(chain.clone()),
        Verdict::Goto(chain) => Action::Goto(chain.clone()),
    }
}

/// How many leading bits are set, if no other is.
pub fn prefix(mask: &[u8]) -> Option<u8> {
    let ones: u32 = mask.iter().map(|octet| octet.count_ones()).sum();
    let full = mask.iter().take_while(|octet| **octet == u8::MAX).count();
    let leading = 8 * full as u32 + mask.get(full).map_or(0, |octet| octet.leading_ones());
    (leading == ones).then(|| u8::try_from(ones).ok()).flatten()
}

fn test(loaded: Loaded, bits: Option<u8>, data: &[u8]) -> Option<Test> {
    match loaded {
        Loaded::Address { source, family, octets } => {
            let network = network(family, data, bits.unwrap_or(octets * 8))?;
            Some(if source { Test::From(network) } else { Test::To(network) })
        }
        Loaded::Interface { incoming } if bits.is_none() => {
            // A name that is compared as a whole has the zeros behind it (IFNAMSIZ octets).
            let whole = data.last() == Some(&0);
            let end = data.iter().position(|octet| *octet == 0).unwrap_or(data.len());
            let name = String::from_utf8(data[..end].to_vec()).ok()?;
            Some(if incoming { Test::In(name, !whole) } else { Test::Out(name, !whole) })
        }
        // NFPROTO_IPV4 and NFPROTO_IPV6 of linux/netfilter.h.
        Loaded::Family if bits.is_none() => match data {
            [2] => Some(Test::Family(Family::V4)),
            [10] => Some(Test::Family(Family::V6)),
            _ => None,
        },
        _ => None,
    }
}

/// The network of an address whose first octets are these; the others are zero.
pub fn network(family: Family, octets: &[u8], len: u8) -> Option<Cidr> {
    let mut all = [0; 16];
    all.get_mut(..octets.len())?.copy_from_slice(octets);
    let [a, b, c, d, ..] = all;
    let addr = match family {
        Family::V4 if octets.len() > 4 => return None,
        Family::V4 => IpAddr::from([a, b, c, d]),
        Family::V6 => IpAddr::from(all),
    };
    Cidr::containing(addr, len).ok()
}
