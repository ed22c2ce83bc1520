//! Reading the table back: messages to model.

use minionet_core::nft::{
    DataType, Element, Expr, Observed, ObservedChain, ObservedRule, ObservedSet, SetData, SetSpec,
};

use nix::errno::Errno;

use super::element;
use super::encode::{base_chain, set_flags, table_name, type_len};
use super::error::NftError;
use super::expr;
use super::socket::{NftSocket, Reply};
use super::uapi::*;
use super::wire::{Attrs, Malformed, Parsed};

/// A set as the kernel lists it: its name, and its definition if it is of a kind we could make.
type ListedSet = (String, Option<SetSpec>);

/// Reads a table; none if there is no such table. It is not checked here that nothing changed
/// between the first message and the last.
pub fn table(socket: &mut NftSocket, table: &str) -> Result<Option<Observed>, NftError> {
    let action = format!("read table inet {table}");
    let malformed = |source| NftError::Malformed { action: action.clone(), source };
    let generation = generation(socket)?;
    let Some(reply) = socket.get(GETTABLE, table_name(table), &action)? else {
        return Ok(None);
    };
    let flags = Parsed::new(&reply.attrs).and_then(|attrs| attrs.be32(TABLE_FLAGS));
    let dormant = flags.map_err(malformed)?.unwrap_or(0) & TABLE_F_DORMANT != 0;

    let mut sets = Vec::new();
    let mut filter = Attrs::default();
    filter.text(SET_TABLE, table);
    for reply in socket.dump(GETSET, NFPROTO_INET, filter, &action)? {
        if let Some((name, spec)) = set(&reply, table).map_err(malformed)? {
            sets.push(with_elements(socket, table, name, spec)?);
        }
    }
    // The chains of all tables come; those of others are passed over.
    let mut chains = Vec::new();
    for reply in socket.dump(GETCHAIN, NFPROTO_INET, Attrs::default(), &action)? {
        chains.extend(chain(&reply, table).map_err(malformed)?);
    }
    for (chain, rule) in rules(socket, table)? {
        if let Some(chain) = chains.iter_mut().find(|it: &&mut ObservedChain| it.name == chain) {
            chain.rules.push(rule);
        }
    }
    Ok(Some(Observed { table: table.to_owned(), dormant, sets, chains, generation }))
}

/// The rules of a table, each with the name of its chain; nothing if there is no such table.
pub fn rules(socket: &mut NftSocket, table: &str) -> Result<Vec<(String, ObservedRule)>, NftError> {
    let action = format!("read the rules of table inet {table}");
    let mut filter = Attrs::default();
    filter.text(RULE_TABLE, table);
    let mut rules = Vec::new();
    for reply in socket.dump(GETRULE, NFPROTO_INET, filter, &action)? {
        let rule = rule(&reply, table);
        rules.extend(rule.map_err(|source| NftError::Malformed { action: action.clone(), source })?);
    }
    Ok(rules)
}

/// The number of rules in a table; none if there is no such table.
pub fn rule_count(socket: &mut NftSocket, table: &str) -> Result<Option<usize>, NftError> {
    let action = format!("count the rules of table inet {table}");
    if socket.get(GETTABLE, table_name(table), &action)?.is_none() {
        return Ok(None);
    }
    let mut filter = Attrs::default();
    filter.text(RULE_TABLE, table);
    let malformed = |source| NftError::Malformed { action: action.clone(), source };
    let mut count = 0;
    for reply in socket.dump(GETRULE, NFPROTO_INET, filter, &action)? {
        let of = Parsed::new(&reply.attrs).map_err(malformed)?.text(RULE_TABLE);
        count += usize::from(of.as_deref() == Some(table));
    }
    Ok(Some(count))
}

/// The number of transactions that were ever committed in this namespace.
pub fn generation(socket: &mut NftSocket) -> Result<u32, NftError> {
    let action = "read the generation of the rulesets";
    let reply = socket.get(GETGEN, Attrs::default(), action)?;
    let generation = reply
        .ok_or(Malformed("there is none"))
        .and_then(|reply| Parsed::new(&reply.attrs)?.be32(GEN_ID))
        .and_then(|generation| generation.ok_or(Malformed("it has no number")));
    generation.map_err(|source| NftError::Malformed { action: action.to_owned(), source })
}

fn with_elements(
    socket: &mut NftSocket,
    table: &str,
    name: String,
    spec: Option<SetSpec>,
) -> Result<ObservedSet, NftError> {
    let Some(spec) = spec else {
        return Ok(ObservedSet { name, spec: None, elements: Vec::new() });
    };
    match elements(socket, table, &spec) {
        Ok(Some(elements)) => Ok(ObservedSet { name, spec: Some(spec), elements }),
        Ok(None) => Ok(ObservedSet { name, spec: None, elements: Vec::new() }),
        // It was there when the sets were listed.
        Err(error) if error.errno() == Some(Errno::ENOENT) => Err(NftError::changed("read a set")),
        Err(error) => Err(error),
    }
}

/// The elements of a set, sorted; none if there is one that minionet cannot have made.
pub fn elements(
    socket: &mut NftSocket,
    table: &str,
    spec: &SetSpec,
) -> Result<Option<Vec<Element>>, NftError> {
    let action = format!("read the elements of set {}", spec.name);
    let filter = element::set_name(table, &spec.name);
    let replies = socket.dump(GETSETELEM, NFPROTO_INET, filter, &action)?;
    let lists: Vec<Vec<u8>> = replies.into_iter().map(|reply| reply.attrs).collect();
    element::decode(spec, &lists).map_err(|source| NftError::Malformed { action, source })
}

/// One set of this table, unless it belongs to a rule.
fn set(reply: &Reply, table: &str) -> Result<Option<ListedSet>, Malformed> {
    let attrs = Parsed::new(&reply.attrs)?;
    let flags = attrs.be32(SET_FLAGS)?.unwrap_or(0);
    if attrs.text(SET_TABLE).as_deref() != Some(table) || flags & SET_ANONYMOUS != 0 {
        return Ok(None);
    }
    let name = attrs.text(SET_NAME).ok_or(Malformed("a set has no name"))?;
    let spec = spec(&name, flags, &attrs)?;
    Ok(Some((name, spec)))
}

fn spec(name: &str, flags: u32, attrs: &Parsed<'_>) -> Result<Option<SetSpec>, Malformed> {
    let Some(key) = types(attrs.be32(SET_KEY_TYPE)?.unwrap_or(0)) else {
        return Ok(None);
    };
    let data = match (flags & SET_MAP != 0, attrs.be32(SET_DATA_TYPE)?) {
        (false, _) => SetData::None,
        (true, Some(DATA_VERDICT)) => SetData::Verdict,
        (true, number) => match types(number.unwrap_or(0)) {
            Some(types) => SetData::Values(types),
            None => return Ok(None),
        },
    };
    let spec = SetSpec {
        name: name.to_owned(),
        key,
        data,
        interval: flags & SET_INTERVAL != 0,
        constant: flags & SET_CONSTANT != 0,
        dynamic: flags & SET_EVAL != 0,
    };
    // Other flags, or types that only look like ours.
    let same = set_flags(&spec) == flags && attrs.be32(SET_KEY_LEN)? == Some(type_len(&spec.key));
    Ok(same.then_some(spec))
}

/// The types in the number of a concatenation; none if one of them is never ours.
fn types(mut number: u32) -> Option<Vec<DataType>> {
    let mut types = Vec::new();
    while number != 0 {
        types.push(DataType::from_id(number & 0x3f)?);
        number >>= 6;
    }
    types.reverse();
    (!types.is_empty()).then_some(types)
}

fn chain(reply: &Reply, table: &str) -> Result<Option<ObservedChain>, Malformed> {
    let attrs = Parsed::new(&reply.attrs)?;
    if attrs.text(CHAIN_TABLE).as_deref() != Some(table) {
        return Ok(None);
    }
    let name = attrs.text(CHAIN_NAME).ok_or(Malformed("a chain has no name"))?;
    let hook = attrs.nested(CHAIN_HOOK)?;
    let base = match (hook.be32(HOOK_HOOKNUM)?, hook.be32(HOOK_PRIORITY)?) {
        (Some(number), Some(priority)) => {
            let kind = attrs.text(CHAIN_TYPE).unwrap_or_default();
            base_chain(&kind, number, priority, attrs.be32(CHAIN_POLICY)?.unwrap_or(NF_ACCEPT))
        }
        _ => None,
    };
    Ok(Some(ObservedChain { name, base, rules: Vec::new() }))
}

/// One rule of this table, and the name of its chain.
fn rule(reply: &Reply, table: &str) -> Result<Option<(String, ObservedRule)>, Malformed> {
    let attrs = Parsed::new(&reply.attrs)?;
    if attrs.text(RULE_TABLE).as_deref() != Some(table) {
        return Ok(None);
    }
    let chain = attrs.text(RULE_CHAIN).ok_or(Malformed("a rule has no chain"))?;
    let handle = attrs.be64(RULE_HANDLE)?.ok_or(Malformed("a rule has no handle"))?;
    let mut rule = ObservedRule { handle, exprs: Vec::new(), comment: comment(&attrs), counter: None };
    for (_, element) in attrs.nested(RULE_EXPRESSIONS)?.iter() {
        let expr = expr::decode(element)?;
        if rule.counter.is_none() && expr == Expr::Counter {
            rule.counter = expr::decode_counter(element)?;
        }
        rule.exprs.push(expr);
    }
    Ok(Some((chain, rule)))
}

/// The comment in what nft keeps beside a rule: entries of a type, a length and a value.
fn comment(attrs: &Parsed<'_>) -> String {
    let mut rest = attrs.get(RULE_USERDATA).unwrap_or_default();
    while let [kind, len, tail @ ..] = rest {
        let (value, tail) = tail.split_at(tail.len().min(usize::from(*len)));
        if *kind == UDATA_RULE_COMMENT {
            let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
            return String::from_utf8_lossy(&value[..end]).into_owned();
        }
        rest = tail;
    }
    String::new()
}
