//! Elements of sets and maps: model to attributes, and back.
//!
//! The kernel has three forms of a key: one value; in an interval set, a start and, one past the
//! end, a second element that is marked as an end; in an interval set of concatenations, one
//! element with two keys.

use minionet_core::nft::{DataType, Datum, Element, SetData, SetSpec, Span, Value};

use super::batch::{Batch, Step};
use super::error::Subject;
use super::expr::{decode_verdict, encode_verdict, value};
use super::uapi::*;
use super::wire::{Attrs, Malformed, Parsed};

/// How much of the 65535 bytes of the list attribute is used before another message is begun: an
/// element takes at most some 400 bytes.
const LIST_LIMIT: usize = 60_000;

/// Appends messages that add (`NEWSETELEM`) or delete (`DELSETELEM`) elements, as many as needed.
/// What is deleted is named by its key alone.
pub fn change(batch: &mut Batch, kind: u16, table: &str, spec: &SetSpec, elements: &[Element]) {
    let (verb, flags) = if kind == NEWSETELEM { ("add", NLM_F_CREATE) } else { ("delete", 0) };
    let mut rest = elements;
    while let Some(first) = rest.first() {
        let mut attrs = set_name(table, &spec.name);
        let mut count = 0;
        attrs.nest(SET_ELEM_LIST_ELEMENTS, |list| {
            let start = list.len();
            for element in rest.iter() {
                if list.len() - start > LIST_LIMIT {
                    break;
                }
                match kind {
                    DELSETELEM => encode(list, spec, &Element { data: None, ..element.clone() }),
                    _ => encode(list, spec, element),
                }
                count += 1;
            }
        });
        let action = match count {
            1 => format!("{verb} the element {first} of set {}", spec.name),
            _ => format!("{verb} {count} elements of set {}, from {first} on", spec.name),
        };
        batch.push(kind, flags, Step::new(Subject::Elements, action), attrs);
        rest = &rest[count..];
    }
}

/// The attributes that name a set.
pub fn set_name(table: &str, set: &str) -> Attrs {
    let mut attrs = Attrs::default();
    attrs.text(SET_ELEM_LIST_TABLE, table);
    attrs.text(SET_ELEM_LIST_SET, set);
    attrs
}

/// Appends one element to a list, as one attribute or, for an interval, as two.
pub fn encode(list: &mut Attrs, spec: &SetSpec, element: &Element) {
    let (from, to) = key_bytes(element);
    list.nest(LIST_ELEM, |attrs| {
        value(attrs, SET_ELEM_KEY, &from);
        if spec.concat_ranges() {
            value(attrs, SET_ELEM_KEY_END, &to);
        }
        match &element.data {
            None => {}
            Some(Datum::Values(values)) => value(attrs, SET_ELEM_DATA, &Value::concatenated(values)),
            Some(Datum::Verdict(verdict)) => {
                attrs.nest(SET_ELEM_DATA, |data| encode_verdict(verdict, data));
            }
        }
    });
    if spec.interval
        && !spec.concat_ranges()
        && let Some(end) = incremented(to)
    {
        list.nest(LIST_ELEM, |attrs| {
            attrs.be32(SET_ELEM_FLAGS, SET_ELEM_INTERVAL_END);
            value(attrs, SET_ELEM_KEY, &end);
        });
    }
}

fn key_bytes(element: &Element) -> (Vec<u8>, Vec<u8>) {
    let from: Vec<Value> = element.key.iter().map(|span| span.from.clone()).collect();
    let to: Vec<Value> = element.key.iter().map(|span| span.to.clone()).collect();
    (Value::concatenated(&from), Value::concatenated(&to))
}

/// The next number of the same length; none after the last, where an interval has no end element.
fn incremented(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    for byte in bytes.iter_mut().rev() {
        let (next, overflow) = byte.overflowing_add(1);
        *byte = next;
        if !overflow {
            return Some(bytes);
        }
    }
    None
}

fn decremented(mut bytes: Vec<u8>) -> Vec<u8> {
    for byte in bytes.iter_mut().rev() {
        let (next, overflow) = byte.overflowing_sub(1);
        *byte = next;
        if !overflow {
            break;
        }
    }
    bytes
}

// === reading ===

/// An element as the kernel lists it.
struct Raw {
    key: Vec<u8>,
    key_end: Option<Vec<u8>>,
    end_of_interval: bool,
    data: Option<Datum>,
}

/// The elements in the lists of a dump, sorted. None if there is one that minionet cannot have
/// made (a catch-all, data of another kind).
pub fn decode(spec: &SetSpec, lists: &[Vec<u8>]) -> Result<Option<Vec<Element>>, Malformed> {
    let mut all = Vec::new();
    for list in lists {
        let list = Parsed::new(list)?.nested(SET_ELEM_LIST_ELEMENTS)?;
        for (_, element) in list.iter() {
            match decode_raw(spec, &Parsed::new(element)?)? {
                Some(raw) => all.push(raw),
                None => return Ok(None),
            }
        }
    }
    let pairs = if spec.interval && !spec.concat_ranges() {
        paired(all)
    } else {
        all.into_iter().map(|raw| (raw.key.clone(), raw.key_end.unwrap_or(raw.key), raw.data)).collect()
    };
    let mut elements = Vec::with_capacity(pairs.len());
    for (from, to, data) in pairs {
        match spans(spec, &from, &to) {
            Some(key) => elements.push(Element { key, data }),
            None => return Ok(None),
        }
    }
    elements.sort();
    Ok(Some(elements))
}

fn decode_raw(spec: &SetSpec, attrs: &Parsed<'_>) -> Result<Option<Raw>, Malformed> {
    let flags = attrs.be32(SET_ELEM_FLAGS)?.unwrap_or(0);
    if flags & SET_ELEM_CATCHALL != 0 {
        return Ok(None);
    }
    let bytes = |kind| -> Result<Option<Vec<u8>>, Malformed> {
        Ok(attrs.nested(kind)?.get(DATA_VALUE).map(<[u8]>::to_vec))
    };
    let Some(key) = bytes(SET_ELEM_KEY)? else {
        return Ok(None);
    };
    let end_of_interval = flags & SET_ELEM_INTERVAL_END != 0;
    let data = match &spec.data {
        _ if end_of_interval => None,
        SetData::None => None,
        SetData::Verdict => match decode_verdict(&attrs.nested(SET_ELEM_DATA)?)? {
            Some(verdict) => Some(Datum::Verdict(verdict)),
            None => return Ok(None),
        },
        SetData::Values(types) => {
            let data = bytes(SET_ELEM_DATA)?.unwrap_or_default();
            match split(types, &data) {
                Some(values) => Some(Datum::Values(values)),
                None => return Ok(None),
            }
        }
    };
    Ok(Some(Raw { key, key_end: bytes(SET_ELEM_KEY_END)?, end_of_interval, data }))
}

/// Puts starts and ends together. Where one interval begins as another ends, the end comes first.
fn paired(mut all: Vec<Raw>) -> Vec<(Vec<u8>, Vec<u8>, Option<Datum>)> {
    all.sort_by(|a, b| a.key.cmp(&b.key).then(b.end_of_interval.cmp(&a.end_of_interval)));
    let mut pairs: Vec<(Vec<u8>, Vec<u8>, Option<Datum>)> = Vec::new();
    let mut open = false;
    for raw in all {
        if !raw.end_of_interval {
            let last = vec![0xff; raw.key.len()];
            pairs.push((raw.key, last, raw.data));
            open = true;
        } else if open && let Some(pair) = pairs.last_mut() {
            pair.1 = decremented(raw.key);
            open = false;
        }
        // An end without a start is how nft marks the gap before the first interval.
    }
    pairs
}

fn spans(spec: &SetSpec, from: &[u8], to: &[u8]) -> Option<Vec<Span>> {
    let (from, to) = (split(&spec.key, from)?, split(&spec.key, to)?);
    Some(from.into_iter().zip(to).map(|(from, to)| Span { from, to }).collect())
}

/// The values in a key or in data.
fn split(types: &[DataType], bytes: &[u8]) -> Option<Vec<Value>> {
    let mut at = 0;
    let mut values = Vec::with_capacity(types.len());
    for kind in types {
        values.push(kind.decode(bytes.get(at..)?)?);
        at += kind.size().next_multiple_of(4);
    }
    Some(values)
}
