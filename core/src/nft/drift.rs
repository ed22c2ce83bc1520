//! What differs between the table that should be there and the one that is.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};

use super::expr::Expr;
use super::observed::{Observed, ObservedChain, ObservedSet};
use super::ruleset::{BaseChain, Chain, Ruleset};
use super::set::{Contents, Element, Set};
use super::text::joined;

/// One difference. Applying the ruleset again mends every kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drift {
    /// There is no such table.
    TableMissing {
        /// The table.
        table: String,
    },
    /// The table is switched off.
    TableDormant {
        /// The table.
        table: String,
    },
    /// A set or map is not there.
    SetMissing {
        /// Its name.
        set: String,
    },
    /// A set or map is there that nobody asked for.
    SetUnexpected {
        /// Its name.
        set: String,
    },
    /// A set or map has other types or flags.
    SetDiffers {
        /// Its name.
        set: String,
        /// Its definition as it should be, as nft text.
        wanted: String,
        /// Its definition as it is.
        found: String,
    },
    /// An element is not there.
    ElementMissing {
        /// The set.
        set: String,
        /// The element.
        element: Element,
    },
    /// An element is there that nobody asked for.
    ElementUnexpected {
        /// The set.
        set: String,
        /// The element.
        element: Element,
    },
    /// A chain is not there.
    ChainMissing {
        /// Its name.
        chain: String,
    },
    /// A chain is there that nobody asked for.
    ChainUnexpected {
        /// Its name.
        chain: String,
    },
    /// A chain hangs elsewhere.
    ChainDiffers {
        /// Its name.
        chain: String,
        /// Where it should hang.
        wanted: Option<BaseChain>,
        /// Where it does.
        found: Option<BaseChain>,
    },
    /// A rule is not there.
    RuleMissing {
        /// The chain.
        chain: String,
        /// Its place in the chain, from 0.
        index: usize,
        /// The rule as nft text.
        rule: String,
    },
    /// A rule is there that nobody asked for.
    RuleUnexpected {
        /// The chain.
        chain: String,
        /// The kernel's number of it.
        handle: u64,
        /// Its expressions.
        exprs: Vec<Expr>,
    },
    /// The rules are the right ones in the wrong order.
    RulesReordered {
        /// The chain.
        chain: String,
    },
}

/// Compares the table with what a dump found; none means that there is no such table.
///
/// Counters are not compared, nor are the elements of [`Contents::Kept`] sets.
pub fn drift(wanted: &Ruleset, found: Option<&Observed>) -> Vec<Drift> {
    let Some(found) = found else {
        return vec![Drift::TableMissing { table: wanted.table.clone() }];
    };
    let mut all = Vec::new();
    if found.dormant {
        all.push(Drift::TableDormant { table: wanted.table.clone() });
    }
    for set in &wanted.sets {
        match found.set(&set.spec.name) {
            None => all.push(Drift::SetMissing { set: set.spec.name.clone() }),
            Some(observed) => set_drift(set, observed, &mut all),
        }
    }
    for set in found.sets.iter().filter(|set| wanted.set(&set.name).is_none()) {
        all.push(Drift::SetUnexpected { set: set.name.clone() });
    }
    for chain in &wanted.chains {
        match found.chain(&chain.name) {
            None => all.push(Drift::ChainMissing { chain: chain.name.clone() }),
            Some(observed) => chain_drift(chain, observed, &mut all),
        }
    }
    let known: BTreeSet<&str> = wanted.chains.iter().map(|chain| chain.name.as_str()).collect();
    for chain in found.chains.iter().filter(|chain| !known.contains(chain.name.as_str())) {
        all.push(Drift::ChainUnexpected { chain: chain.name.clone() });
    }
    all
}

fn set_drift(wanted: &Set, found: &ObservedSet, all: &mut Vec<Drift>) {
    let name = &wanted.spec.name;
    if found.spec.as_ref() != Some(&wanted.spec) {
        let found = found.spec.as_ref();
        return all.push(Drift::SetDiffers {
            set: name.clone(),
            wanted: wanted.spec.to_string(),
            found: found.map_or_else(|| "types or flags of another program".into(), |spec| spec.to_string()),
        });
    }
    let Contents::Fixed(elements) = &wanted.contents else {
        return;
    };
    let wanted: BTreeSet<&Element> = elements.iter().collect();
    let found: BTreeSet<&Element> = found.elements.iter().collect();
    all.extend(
        wanted
            .difference(&found)
            .map(|element| Drift::ElementMissing { set: name.clone(), element: (*element).clone() }),
    );
    all.extend(
        found
            .difference(&wanted)
            .map(|element| Drift::ElementUnexpected { set: name.clone(), element: (*element).clone() }),
    );
}

fn chain_drift(wanted: &Chain, found: &ObservedChain, all: &mut Vec<Drift>) {
    if wanted.base != found.base {
        all.push(Drift::ChainDiffers { chain: wanted.name.clone(), wanted: wanted.base, found: found.base });
    }
    // A rule is what it does and what it says; equal rules are told apart by nothing.
    let mut left: Vec<_> = found.rules.iter().collect();
    let mut order = Vec::new();
    let before = all.len();
    for (index, rule) in wanted.rules.iter().enumerate() {
        let exprs = rule.exprs();
        match left.iter().position(|it| it.exprs == exprs && it.comment == rule.comment) {
            Some(place) => order.push(left.remove(place).handle),
            None => {
                all.push(Drift::RuleMissing { chain: wanted.name.clone(), index, rule: rule.to_string() })
            }
        }
    }
    all.extend(left.into_iter().map(|rule| Drift::RuleUnexpected {
        chain: wanted.name.clone(),
        handle: rule.handle,
        exprs: rule.exprs.clone(),
    }));
    if all.len() == before && !found.rules.iter().map(|rule| rule.handle).eq(order) {
        all.push(Drift::RulesReordered { chain: wanted.name.clone() });
    }
}

impl Display for Drift {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let place =
            |base: &Option<BaseChain>| base.map_or_else(|| "no hook".to_owned(), |base| base.to_string());
        match self {
            Self::TableMissing { table } => write!(f, "table inet {table} is missing"),
            Self::TableDormant { table } => write!(f, "table inet {table} is dormant"),
            Self::SetMissing { set } => write!(f, "set {set} is missing"),
            Self::SetUnexpected { set } => write!(f, "set {set} is not ours"),
            Self::SetDiffers { set, wanted, found } => {
                write!(f, "set {set} is \"{found}\" instead of \"{wanted}\"")
            }
            Self::ElementMissing { set, element } => {
                write!(f, "set {set} lacks the element {element}")
            }
            Self::ElementUnexpected { set, element } => {
                write!(f, "set {set} has the element {element}, which is not ours")
            }
            Self::ChainMissing { chain } => write!(f, "chain {chain} is missing"),
            Self::ChainUnexpected { chain } => write!(f, "chain {chain} is not ours"),
            Self::ChainDiffers { chain, wanted, found } => {
                write!(f, "chain {chain} is \"{}\" instead of \"{}\"", place(found), place(wanted))
            }
            Self::RuleMissing { chain, index, rule } => {
                write!(f, "chain {chain} lacks its rule {}: {rule}", index + 1)
            }
            Self::RuleUnexpected { chain, handle, exprs } => {
                write!(
                    f,
                    "chain {chain} has a rule that is not ours, handle {handle}: {}",
                    joined(exprs, " ")
                )
            }
            Self::RulesReordered { chain } => {
                write!(f, "the rules of chain {chain} are out of order")
            }
        }
    }
}

#[cfg(test)]
mod tests;
