//! What a dump of the table found.

use super::expr::Expr;
use super::ruleset::BaseChain;
use super::set::{Element, SetSpec};

/// The table as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Its name.
    pub table: String,
    /// Someone switched the table off (`flags dormant`).
    pub dormant: bool,
    /// Named sets and maps; those that belong to a rule (anonymous) are not ours and are left out.
    pub sets: Vec<ObservedSet>,
    /// Chains with their rules.
    pub chains: Vec<ObservedChain>,
    /// The generation of the rulesets of the namespace: it changes whenever anyone commits.
    pub generation: u32,
}

/// A set or map in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedSet {
    /// Its name.
    pub name: String,
    /// Its definition; none if it has types or flags that minionet never uses.
    pub spec: Option<SetSpec>,
    /// Its elements, sorted; none of them if the definition could not be read.
    pub elements: Vec<Element>,
}

/// A chain in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedChain {
    /// Its name.
    pub name: String,
    /// Where it hangs.
    pub base: Option<BaseChain>,
    /// Its rules in order.
    pub rules: Vec<ObservedRule>,
}

/// A rule in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedRule {
    /// The kernel's number of it, for `nft delete rule`.
    pub handle: u64,
    /// Its expressions.
    pub exprs: Vec<Expr>,
    /// Its comment; empty for none.
    pub comment: String,
    /// Packets and bytes that its first counter saw.
    pub counter: Option<(u64, u64)>,
}

impl Observed {
    /// The set of this name.
    pub fn set(&self, name: &str) -> Option<&ObservedSet> {
        self.sets.iter().find(|set| set.name == name)
    }

    /// The chain of this name.
    pub fn chain(&self, name: &str) -> Option<&ObservedChain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}
