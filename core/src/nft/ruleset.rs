//! The whole of minionet's table: sets, chains and rules.

use std::collections::BTreeSet;

use super::error::ModelError;
use super::rule::Rule;
use super::set::{Contents, Set};

/// What a base chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainType {
    /// Filters; sees every packet.
    Filter,
    /// NAT; sees the first packet of a connection.
    Nat,
    /// Filters, and looks the route up again when a mark or an address was changed.
    Route,
}

/// Where a base chain hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// After routing.
    Postrouting,
}

/// What becomes of a packet that no rule decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It passes.
    Accept,
    /// It is dropped.
    Drop,
}

/// How a chain is tied into the path of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseChain {
    /// Its purpose.
    pub kind: ChainType,
    /// Its place.
    pub hook: Hook,
    /// Its order among the chains there, lowest first (`NF_IP_PRI_*`, linux/netfilter_ipv4.h).
    pub priority: i32,
    /// What happens at its end.
    pub policy: Policy,
}

/// A chain of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name within the table.
    pub name: String,
    /// Where it hangs; none for a chain that is only jumped to.
    pub base: Option<BaseChain>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// Everything in one table of the family `inet`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// The name of the table.
    pub table: String,
    /// Sets and maps.
    pub sets: Vec<Set>,
    /// Chains.
    pub chains: Vec<Chain>,
}

/// The greatest length of a name in bytes (`NFT_NAME_MAXLEN` - 1, linux/netfilter/nf_tables.h).
const NAME_MAX: usize = 255;
/// The greatest length of a comment in bytes (`NFTNL_UDATA_COMMENT_MAXLEN`, libnftnl/udata.h).
const COMMENT_MAX: usize = 128;

impl Ruleset {
    /// A table with nothing in it.
    pub fn new(table: impl Into<String>) -> Self {
        Self { table: table.into(), sets: Vec::new(), chains: Vec::new() }
    }

    /// The sets and chains of both. Rulesets are written apart, one per purpose, and put
    /// together into the one table; names must differ ([`Ruleset::check`]).
    pub fn with(mut self, other: Self) -> Self {
        self.sets.extend(other.sets);
        self.chains.extend(other.chains);
        self
    }

    /// The set of this name.
    pub fn set(&self, name: &str) -> Option<&Set> {
        self.sets.iter().find(|set| set.spec.name == name)
    }

    /// Checks names, and that every element fits its set.
    ///
    /// # Errors
    /// The first [`ModelError`] found. What only the kernel can know (a jump to a chain that is
    /// not there, a loop) is left to the kernel.
    pub fn check(&self) -> Result<(), ModelError> {
        check_name("table", &self.table, NAME_MAX)?;
        let mut names = BTreeSet::new();
        for set in &self.sets {
            check_name("set", &set.spec.name, NAME_MAX)?;
            if !names.insert(&set.spec.name) {
                return Err(duplicate("set", &set.spec.name));
            }
            if let Contents::Fixed(elements) = &set.contents {
                elements.iter().try_for_each(|element| set.spec.check(element))?;
            }
        }
        let mut names = BTreeSet::new();
        for chain in &self.chains {
            check_name("chain", &chain.name, NAME_MAX)?;
            if !names.insert(&chain.name) {
                return Err(duplicate("chain", &chain.name));
            }
            for rule in chain.rules.iter().filter(|rule| !rule.comment.is_empty()) {
                check_name("comment", &rule.comment, COMMENT_MAX)?;
            }
        }
        Ok(())
    }
}

fn check_name(kind: &'static str, name: &str, max: usize) -> Result<(), ModelError> {
    if name.is_empty() || name.len() > max || name.contains('\0') {
        return Err(ModelError::BadName { kind, name: name.to_owned(), max });
    }
    Ok(())
}

fn duplicate(kind: &'static str, name: &str) -> ModelError {
    ModelError::Duplicate { kind, name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::{DataType, Element, SetSpec, Value};

    fn chain(name: &str) -> Chain {
        Chain { name: name.into(), base: None, rules: vec![] }
    }

    #[test]
    fn names_are_checked_before_the_kernel_sees_them() {
        let long = "n".repeat(256);
        for (name, fits) in [("c", true), ("", false), ("a\0b", false), (&long, false), (&long[1..], true)] {
            let mut ruleset = Ruleset::new("t");
            ruleset.chains.push(chain(name));
            assert_eq!(ruleset.check().is_ok(), fits, "{name:?}");
            assert_eq!(Ruleset::new(name).check().is_ok(), fits, "{name:?}");
        }
    }

    #[test]
    fn two_policies_with_the_same_name_do_not_become_one() {
        let mut one = Ruleset::new("t");
        one.chains.push(chain("c"));
        let duplicate = ModelError::Duplicate { kind: "chain", name: "c".into() };
        assert_eq!(one.clone().with(one.clone()).check(), Err(duplicate));
        let mut other = Ruleset::new("t");
        other.chains.push(chain("d"));
        assert_eq!(one.with(other).check(), Ok(()));
    }

    #[test]
    fn elements_and_comments_are_checked() {
        let mut ruleset = Ruleset::new("t");
        let port = Element::key([Value::Service(80).into()]);
        ruleset.sets.push(SetSpec::set("s", [DataType::Ipv4]).with(vec![port]));
        assert!(matches!(ruleset.check(), Err(ModelError::ElementKey { .. })));
        let mut ruleset = Ruleset::new("t");
        let rule = |comment: String| Chain { rules: vec![Rule::of([]).comment(comment)], ..chain("c") };
        ruleset.chains = vec![rule("x".repeat(128))];
        assert_eq!(ruleset.check(), Ok(()));
        ruleset.chains = vec![rule("x".repeat(129))];
        assert!(matches!(ruleset.check(), Err(ModelError::BadName { kind: "comment", .. })));
    }
}
