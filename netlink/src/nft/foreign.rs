//! Other programs' chains at the forward hook, with the rules that they lead to.

use std::collections::BTreeMap;

use minionet_core::forward::{Action, Backend, Rule, Table, TableFamily, rule};

use super::error::NftError;
use super::expr;
use super::socket::{NftSocket, Reply};
use super::uapi::*;
use super::wire::{Attrs, Malformed, Parsed};

/// Most chains whose rules are read in one table: those that hooked chains lead to by way of others.
const CHAINS: usize = 64;

/// `NF_INET_FORWARD` of linux/netfilter.h.
const FORWARD: u32 = 2;

/// A chain at the forward hook.
struct Hooked {
    family: TableFamily,
    table: String,
    chain: String,
    drops: bool,
}

/// Reads all tables with chains at the forward hook, but for `own` of the family inet.
pub fn tables(socket: &mut NftSocket, own: &str) -> Result<Vec<Table>, NftError> {
    let action = "read the chains that forwarded packets go through";
    let malformed = |source| NftError::Malformed { action: action.to_owned(), source };
    let mut tables: BTreeMap<(TableFamily, String), Table> = BTreeMap::new();
    for reply in socket.dump(GETCHAIN, NFPROTO_UNSPEC, Attrs::default(), action)? {
        let Some(hooked) = hooked(&reply).map_err(malformed)? else { continue };
        if hooked.family == TableFamily::Inet && hooked.table == own {
            continue;
        }
        let name = hooked.table.clone();
        let table = tables.entry((hooked.family, hooked.table)).or_insert(Table {
            backend: Backend::Nft,
            family: hooked.family,
            name,
            hooked: BTreeMap::new(),
            chains: BTreeMap::new(),
        });
        table.hooked.insert(hooked.chain, hooked.drops);
    }
    let mut tables: Vec<Table> = tables.into_values().collect();
    for table in &mut tables {
        chains(socket, table)?;
    }
    Ok(tables)
}

/// Reads the rules of the hooked chains, and of those that they lead to.
fn chains(socket: &mut NftSocket, table: &mut Table) -> Result<(), NftError> {
    let mut wanted: Vec<String> = table.hooked.keys().cloned().collect();
    while let Some(chain) = wanted.pop() {
        if table.chains.contains_key(&chain) || table.chains.len() == CHAINS {
            continue;
        }
        let rules = rules(socket, table.family, &table.name, &chain)?;
        wanted.extend(rules.iter().filter_map(|rule| match &rule.action {
            Action::Jump(to) | Action::Goto(to) => Some(to.clone()),
            _ => None,
        }));
        table.chains.insert(chain, rules);
    }
    Ok(())
}

fn rules(
    socket: &mut NftSocket,
    family: TableFamily,
    table: &str,
    chain: &str,
) -> Result<Vec<Rule>, NftError> {
    let action = format!("read the rules of table {} {table}, chain {chain}", family.name());
    let malformed = |source| NftError::Malformed { action: action.clone(), source };
    let mut filter = Attrs::default();
    filter.text(RULE_TABLE, table);
    filter.text(RULE_CHAIN, chain);
    let mut rules = Vec::new();
    for reply in socket.dump(GETRULE, number(family), filter, &action)? {
        let attrs = Parsed::new(&reply.attrs).map_err(malformed)?;
        // An older kernel may not know the filter.
        if attrs.text(RULE_TABLE).as_deref() != Some(table)
            || attrs.text(RULE_CHAIN).as_deref() != Some(chain)
        {
            continue;
        }
        let expressions = attrs.nested(RULE_EXPRESSIONS).map_err(malformed)?;
        let exprs: Result<Vec<_>, Malformed> =
            expressions.iter().map(|(_, element)| expr::decode(element)).collect();
        rules.push(rule(&exprs.map_err(malformed)?, family));
    }
    Ok(rules)
}

fn hooked(reply: &Reply) -> Result<Option<Hooked>, Malformed> {
    let families = [TableFamily::Ip, TableFamily::Ip6, TableFamily::Inet];
    let Some(family) = families.into_iter().find(|family| number(*family) == reply.family) else {
        return Ok(None);
    };
    let attrs = Parsed::new(&reply.attrs)?;
    if attrs.nested(CHAIN_HOOK)?.be32(HOOK_HOOKNUM)? != Some(FORWARD) {
        return Ok(None);
    }
    let name = |kind| attrs.text(kind).ok_or(Malformed("a chain has no name"));
    let drops = attrs.be32(CHAIN_POLICY)?.is_some_and(|policy| policy == NF_DROP);
    Ok(Some(Hooked { family, table: name(CHAIN_TABLE)?, chain: name(CHAIN_NAME)?, drops }))
}

/// `NFPROTO_*` of linux/netfilter.h.
fn number(family: TableFamily) -> u8 {
    match family {
        TableFamily::Ip => NFPROTO_IPV4 as u8,
        TableFamily::Ip6 => NFPROTO_IPV6 as u8,
        TableFamily::Inet => NFPROTO_INET,
    }
}
