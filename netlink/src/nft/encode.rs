//! Tables, sets, chains and rules: model to messages.

use minionet_core::nft::{
    BaseChain, Chain, ChainType, DataType, Element, Hook, Policy, Rule, Ruleset, SetData, SetSpec,
};

use super::batch::{Batch, Part, Step};
use super::element;
use super::error::Subject;
use super::expr;
use super::uapi::*;
use super::wire::Attrs;

/// The whole table anew, in one transaction. `elements` gives what is in each set.
///
/// The order matters to the kernel: rules and verdict maps name chains, rules name sets, and a
/// constant set takes no elements once a rule uses it.
pub fn replace(ruleset: &Ruleset, elements: &[Vec<Element>]) -> Batch {
    let table = &ruleset.table;
    let mut batch = Batch::new(format!("replace table inet {table}"));
    // Deleting what is not there is an error; creating what is there is not.
    add_table(&mut batch, table);
    delete_table(&mut batch, table);
    add_table(&mut batch, table);
    for (index, set) in ruleset.sets.iter().enumerate() {
        add_set(&mut batch, table, &set.spec, index as u32 + 1);
    }
    for chain in &ruleset.chains {
        add_chain(&mut batch, table, chain);
    }
    for (set, elements) in ruleset.sets.iter().zip(elements) {
        element::change(&mut batch, NEWSETELEM, table, &set.spec, elements);
    }
    for chain in &ruleset.chains {
        for (index, rule) in chain.rules.iter().enumerate() {
            add_rule(&mut batch, table, chain, index, rule);
        }
    }
    batch
}

fn add_table(batch: &mut Batch, table: &str) {
    let step = Step::new(Subject::Table, format!("add table inet {table}"));
    batch.push(NEWTABLE, NLM_F_CREATE, step, table_name(table));
}

/// Appends the deletion of a table with everything in it.
pub fn delete_table(batch: &mut Batch, table: &str) {
    let step = Step::new(Subject::Table, format!("delete table inet {table}"));
    batch.push(DELTABLE, 0, step, table_name(table));
}

/// The attributes that name a table.
pub fn table_name(table: &str) -> Attrs {
    let mut attrs = Attrs::default();
    attrs.text(TABLE_NAME, table);
    attrs
}

/// The flags of a set.
pub fn set_flags(spec: &SetSpec) -> u32 {
    [
        (spec.interval, SET_INTERVAL),
        (spec.constant, SET_CONSTANT),
        (spec.dynamic, SET_EVAL),
        (spec.data != SetData::None, SET_MAP),
        (spec.concat_ranges(), SET_CONCAT),
    ]
    .iter()
    .filter(|flag| flag.0)
    .fold(0, |all, flag| all | flag.1)
}

/// The number by which nft knows a concatenation: six bits for each type, the first one highest
/// (`TYPE_BITS`, nftables include/datatype.h).
pub fn type_number(types: &[DataType]) -> u32 {
    types.iter().fold(0, |all, kind| all << 6 | kind.id())
}

/// The length in bytes of a value, or of a concatenation, in which each is padded to 4 bytes.
pub fn type_len(types: &[DataType]) -> u32 {
    let len = match types {
        [kind] => kind.size(),
        _ => types.iter().map(|kind| kind.size().next_multiple_of(4)).sum(),
    };
    len as u32
}

fn add_set(batch: &mut Batch, table: &str, spec: &SetSpec, id: u32) {
    let mut attrs = Attrs::default();
    attrs.text(SET_TABLE, table);
    attrs.text(SET_NAME, &spec.name);
    attrs.be32(SET_FLAGS, set_flags(spec));
    attrs.be32(SET_KEY_TYPE, type_number(&spec.key));
    attrs.be32(SET_KEY_LEN, type_len(&spec.key));
    match &spec.data {
        SetData::None => {}
        SetData::Verdict => {
            attrs.be32(SET_DATA_TYPE, DATA_VERDICT);
            attrs.be32(SET_DATA_LEN, 0);
        }
        SetData::Values(types) => {
            attrs.be32(SET_DATA_TYPE, type_number(types));
            attrs.be32(SET_DATA_LEN, type_len(types));
        }
    }
    // Any number, but each its own within the transaction.
    attrs.be32(SET_ID, id);
    if spec.concat_ranges() {
        attrs.nest(SET_DESC, |desc| {
            desc.nest(SET_DESC_CONCAT, |fields| {
                for kind in &spec.key {
                    fields.nest(LIST_ELEM, |field| {
                        field.be32(SET_FIELD_LEN, kind.size() as u32);
                    });
                }
            });
        });
    }
    attrs.raw(SET_USERDATA, &set_userdata(spec));
    let action = format!("add set {} ({})", spec.name, spec.to_string().trim_end_matches(';'));
    batch.push(NEWSET, NLM_F_CREATE, Step::new(Subject::Set, action), attrs);
}

/// What nft keeps beside a set to print it: the byte order of its key and data.
fn set_userdata(spec: &SetSpec) -> Vec<u8> {
    let order = |types: &[DataType]| match types {
        [kind] if kind.host_order() || *kind == DataType::IfName => BYTEORDER_HOST,
        [_] => BYTEORDER_BIG,
        // Each part of a concatenation has its own.
        _ => BYTEORDER_INVALID,
    };
    let mut userdata = Vec::new();
    let mut entry = |kind: u8, order: u32| {
        userdata.extend([kind, 4]);
        userdata.extend(order.to_ne_bytes());
    };
    entry(UDATA_SET_KEYBYTEORDER, order(&spec.key));
    if let SetData::Values(types) = &spec.data {
        entry(UDATA_SET_DATABYTEORDER, order(types));
    }
    userdata
}

fn add_chain(batch: &mut Batch, table: &str, chain: &Chain) {
    let mut attrs = Attrs::default();
    attrs.text(CHAIN_TABLE, table);
    attrs.text(CHAIN_NAME, &chain.name);
    let mut action = format!("add chain {}", chain.name);
    if let Some(base) = &chain.base {
        attrs.text(CHAIN_TYPE, chain_type(base.kind));
        attrs.be32(CHAIN_POLICY, policy(base.policy));
        attrs.nest(CHAIN_HOOK, |hook| {
            hook.be32(HOOK_HOOKNUM, hook_number(base.hook));
            hook.be32(HOOK_PRIORITY, base.priority as u32);
        });
        action = format!("{action} ({})", base.to_string().trim_end_matches(';'));
    }
    batch.push(NEWCHAIN, NLM_F_CREATE, Step::new(Subject::Chain, action), attrs);
}

fn add_rule(batch: &mut Batch, table: &str, chain: &Chain, index: usize, rule: &Rule) {
    let mut attrs = Attrs::default();
    attrs.text(RULE_TABLE, table);
    attrs.text(RULE_CHAIN, &chain.name);
    let mut parts = Vec::new();
    // The list's own header; within it, positions are counted from its first expression.
    let list_start = attrs.len() + 4;
    attrs.nest(RULE_EXPRESSIONS, |list| {
        for expr in rule.exprs() {
            let start = list.len();
            expr::encode(&expr, list);
            parts.push(Part { range: start..list.len(), expr: expr.name().to_owned() });
        }
    });
    debug_assert!(parts.first().is_none_or(|part| part.range.start == list_start));
    if !rule.comment.is_empty() {
        let mut userdata = vec![UDATA_RULE_COMMENT, rule.comment.len() as u8 + 1];
        userdata.extend_from_slice(rule.comment.as_bytes());
        userdata.push(0);
        attrs.raw(RULE_USERDATA, &userdata);
    }
    let action = format!("add rule {} of chain {}, \"{rule}\"", index + 1, chain.name);
    let step = Step { subject: Subject::Rule, action, parts };
    batch.push(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, step, attrs);
}

// === numbers of base chains, both ways ===

/// `enum nf_inet_hooks`, linux/netfilter.h.
const HOOKS: [Hook; 5] = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];

fn hook_number(hook: Hook) -> u32 {
    HOOKS.iter().position(|it| *it == hook).map_or(u32::MAX, |number| number as u32)
}

fn chain_type(kind: ChainType) -> &'static str {
    match kind {
        ChainType::Filter => "filter",
        ChainType::Nat => "nat",
        ChainType::Route => "route",
    }
}

fn policy(policy: Policy) -> u32 {
    match policy {
        Policy::Accept => NF_ACCEPT,
        Policy::Drop => NF_DROP,
    }
}

/// A base chain from what the kernel says; none if it is of a kind that minionet never makes.
pub fn base_chain(kind: &str, hook: u32, priority: u32, verdict: u32) -> Option<BaseChain> {
    let kind = [ChainType::Filter, ChainType::Nat, ChainType::Route]
        .into_iter()
        .find(|it| chain_type(*it) == kind)?;
    Some(BaseChain {
        kind,
        hook: *HOOKS.get(hook as usize)?,
        priority: priority as i32,
        policy: if verdict == NF_DROP { Policy::Drop } else { Policy::Accept },
    })
}
