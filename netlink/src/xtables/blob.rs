//! A table of the older packet filter, out of the octets that the kernel hands out.

use std::collections::BTreeMap;

use minionet_core::addr::Family;
use minionet_core::forward::{Action, Backend, Rule, Table, TableFamily, Test, network, prefix};

/// `NF_INET_FORWARD` of linux/netfilter.h.
const FORWARD: usize = 2;
/// The chain at that hook.
const CHAIN: &str = "FORWARD";
/// Octets of `struct xt_entry_target`, which a target begins with.
const TARGET: usize = 32;
/// Targets that decide nothing: the next rule goes on.
const HARMLESS: [&str; 10] =
    ["LOG", "NFLOG", "MARK", "CONNMARK", "TCPMSS", "SET", "CT", "ACCT", "CLASSIFY", "SECMARK"];

/// Where things are in `struct ipt_entry` and `struct ip6t_entry`, in octets.
struct Layout {
    /// Octets of an address.
    address: usize,
    /// Names of the interfaces, behind two addresses and their masks.
    names: usize,
    /// The protocol, 16 bits; flags and inverted flags follow in single octets, for IPv6 with
    /// one for the traffic class before them.
    protocol: usize,
    flags: usize,
    inverted: usize,
    /// Where the target is, 16 bits, and the next entry after that.
    target: usize,
    /// Where matches begin.
    matches: usize,
}

const V4: Layout =
    Layout { address: 4, names: 16, protocol: 80, flags: 82, inverted: 83, target: 88, matches: 112 };
const V6: Layout =
    Layout { address: 16, names: 64, protocol: 128, flags: 131, inverted: 132, target: 140, matches: 168 };

/// Octets of all entries, out of `struct ipt_getinfo`.
pub fn size(info: &[u8]) -> Option<usize> {
    u32_at(info, 80).map(|size| size as usize)
}

/// One entry.
struct Entry {
    rule: Rule,
    /// Where a jump leads to.
    jump: Option<usize>,
    /// The chain that begins after it, where it marks one.
    begins: Option<String>,
}

/// Reads the chain at the forward hook, and those that it leads to.
///
/// # Errors
/// What is wrong with the octets.
pub fn table(family: Family, info: &[u8], entries: &[u8]) -> Result<Table, String> {
    let cut = || "it is cut off".to_owned();
    let hook = |base: usize| u32_at(info, base + 4 * FORWARD).map(|at| at as usize).ok_or_else(cut);
    // hook_entry and underflow of struct ipt_getinfo: the first rule, and the policy.
    let (first, policy) = (hook(36)?, hook(56)?);
    let layout = if family == Family::V4 { &V4 } else { &V6 };
    let mut chains: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
    // By the position of their first rule.
    let mut names = BTreeMap::from([(first, CHAIN.to_owned())]);
    let mut jumps: Vec<(String, usize, usize)> = Vec::new();
    let (mut at, mut chain, mut drops) = (0, None::<String>, false);
    while at < entries.len() {
        let rest = entries.get(at..).unwrap_or_default();
        let next = usize::from(u16_at(rest, layout.target + 2).ok_or_else(cut)?);
        let octets = rest.get(..next).filter(|octets| octets.len() > layout.matches).ok_or_else(cut)?;
        let entry = entry(family, layout, octets).ok_or_else(cut)?;
        if at == first {
            chain = Some(CHAIN.to_owned());
        }
        if at == policy {
            drops = entry.rule.action == Action::Drop;
            chain = None;
        } else if let Some(name) = entry.begins {
            names.insert(at + next, name.clone());
            chains.entry(name.clone()).or_default();
            chain = Some(name);
        } else if let Some(chain) = &chain {
            let rules = chains.entry(chain.clone()).or_default();
            jumps.extend(entry.jump.map(|to| (chain.clone(), rules.len(), to)));
            rules.push(entry.rule);
        }
        at += next;
    }
    for (chain, position, to) in jumps {
        // A jump to the rule after it is none: that is how a rule without a target is kept.
        let name = names.get(&to).cloned();
        let rule = chains.get_mut(&chain).and_then(|rules| rules.get_mut(position));
        if let (Some(rule), Some(name)) = (rule, name) {
            rule.action = match rule.action {
                Action::Goto(_) => Action::Goto(name),
                _ => Action::Jump(name),
            };
        }
    }
    chains.entry(CHAIN.to_owned()).or_default();
    let family = if family == Family::V4 { TableFamily::Ip } else { TableFamily::Ip6 };
    let (backend, name) = (Backend::Legacy, "filter".to_owned());
    Ok(Table { backend, family, name, hooked: BTreeMap::from([(CHAIN.to_owned(), drops)]), chains })
}

fn entry(family: Family, layout: &Layout, octets: &[u8]) -> Option<Entry> {
    let at = usize::from(u16_at(octets, layout.target)?);
    let target = octets.get(at..)?;
    let (name, data) = (text(target.get(2..31)?), target.get(TARGET..)?);
    let mut rule = Rule { tests: tests(family, layout, octets)?, action: Action::Unknown };
    if at > layout.matches {
        rule.tests.push(Test::Unknown);
    }
    let (mut jump, mut begins) = (None, None);
    match name.as_str() {
        // The standard target: a verdict, or the position of another chain. Verdicts are
        // negative and less by one (linux/netfilter/x_tables.h); XT_RETURN is NF_REPEAT.
        "" => match u32_at(data, 0)? as i32 {
            -1 => rule.action = Action::Drop,
            -2 => rule.action = Action::Accept,
            -5 => rule.action = Action::Return,
            to @ 0.. => {
                jump = Some(to as usize);
                let goto = octets.get(layout.flags)? & go_to(family) != 0;
                rule.action = if goto { Action::Goto(String::new()) } else { Action::Nothing };
            }
            _ => {}
        },
        "ERROR" => begins = Some(text(data)),
        "REJECT" => rule.action = Action::Drop,
        harmless if HARMLESS.contains(&harmless) => rule.action = Action::Nothing,
        _ => {}
    }
    Some(Entry { rule, jump, begins })
}

/// `IPT_F_GOTO` and `IP6T_F_GOTO`.
fn go_to(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 4,
    }
}

fn tests(family: Family, layout: &Layout, octets: &[u8]) -> Option<Vec<Test>> {
    let mut tests = Vec::new();
    let part = |from: usize, length: usize| octets.get(from..from + length);
    // Anything that is inverted, a protocol, or a flag other than "go to".
    let flags = *octets.get(layout.flags)? & !go_to(family);
    let plain = flags == 0 && *octets.get(layout.inverted)? == 0 && u16_at(octets, layout.protocol)? == 0;
    if !plain {
        tests.push(Test::Unknown);
    }
    let (a, n) = (layout.address, layout.names);
    for (value, source) in [(0, true), (a, false)] {
        let mask = part(2 * a + value, a)?;
        if mask.iter().all(|octet| *octet == 0) {
            continue;
        }
        let found = prefix(mask).and_then(|len| network(family, part(value, a)?, len));
        tests.push(match found {
            Some(network) if source => Test::From(network),
            Some(network) => Test::To(network),
            None => Test::Unknown,
        });
    }
    for (value, incoming) in [(n, true), (n + 16, false)] {
        let mask = part(value + 32, 16)?;
        if mask.iter().all(|octet| *octet == 0) {
            continue;
        }
        // Only so much of the name counts: a whole one with the zero behind it, the beginning of
        // one without the plus sign.
        let compared = mask.iter().filter(|octet| **octet != 0).count();
        let octets = part(value, compared)?;
        let (name, whole) = (text(octets), octets.contains(&0));
        tests.push(if incoming { Test::In(name, !whole) } else { Test::Out(name, !whole) });
    }
    Some(tests)
}

fn text(octets: &[u8]) -> String {
    let end = octets.iter().position(|octet| *octet == 0).unwrap_or(octets.len());
    String::from_utf8_lossy(&octets[..end]).into_owned()
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry that accepts, as `struct ipt_entry` with the standard target.
    fn accept() -> Vec<u8> {
        let mut octets = vec![0; V4.matches + TARGET + 8];
        let length = octets.len() as u16;
        octets[V4.target..V4.target + 2].copy_from_slice(&(V4.matches as u16).to_ne_bytes());
        octets[V4.target + 2..V4.target + 4].copy_from_slice(&length.to_ne_bytes());
        let verdict = V4.matches + TARGET;
        octets[verdict..verdict + 4].copy_from_slice(&(-2i32).to_ne_bytes());
        octets
    }

    #[test]
    fn mangled_tables_are_errors() {
        let mut info = vec![0; 84];
        // The policy is the second entry.
        info[64..68].copy_from_slice(&152u32.to_ne_bytes());
        let entries = [accept(), accept()].concat();
        let found = table(Family::V4, &info, &entries).unwrap();
        assert_eq!(found.chains["FORWARD"], [Rule { tests: vec![], action: Action::Accept }]);
        assert!(!found.hooked["FORWARD"]);
        for length in (1..entries.len()).filter(|length| *length != 152) {
            assert!(table(Family::V4, &info, &entries[..length]).is_err(), "{length} octets");
        }
        // An entry that has no end, or ends before it begins.
        for next in [0u16, 1, 111, 65_535] {
            let mut entries = entries.clone();
            entries[V4.target + 2..V4.target + 4].copy_from_slice(&next.to_ne_bytes());
            assert!(table(Family::V4, &info, &entries).is_err(), "{next}");
        }
        assert!(table(Family::V4, &info[..50], &entries).is_err());
    }
}
