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

/// How much of the 65535 octets of the list attribute is used before another message is begun. An
/// element takes less than 1 KiB: its keys and data have at most 64 octets each
/// (`NFT_DATA_VALUE_MAXLEN`, linux/netfilter/nf_tables.h), the name of a chain 256.
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use minionet_core::nft::Verdict;

    use super::*;

    /// The octets of a list of elements, as `nft --debug=mnl` 1.0.6 shows them, but for the flag
    /// of nested attributes, which is the highest bit of a type.
    fn list(spec: &SetSpec, elements: &[Element]) -> Vec<u8> {
        let mut attrs = Attrs::default();
        attrs.nest(SET_ELEM_LIST_ELEMENTS, |list| elements.iter().for_each(|it| encode(list, spec, it)));
        attrs.finish().unwrap()
    }

    /// An attribute out of its type, whether it is nested, and what is in it.
    fn attribute(kind: u16, nested: bool, payload: &[&[u8]]) -> Vec<u8> {
        let payload = payload.concat();
        let kind = if nested { kind | 1 << 15 } else { kind };
        let mut bytes = [(payload.len() as u16 + 4).to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn data(kind: u16, payload: &[u8]) -> Vec<u8> {
        attribute(kind, true, &[&attribute(1, false, &[payload])])
    }

    fn read_back(spec: &SetSpec, bytes: Vec<u8>) -> Vec<Element> {
        decode(spec, &[bytes]).unwrap().unwrap()
    }

    #[test]
    fn a_range_is_a_start_and_an_end() {
        let spec = SetSpec::set("pods4", [DataType::Ipv4]).interval();
        let element = Element::key([Span::network("10.32.0.0/12".parse().unwrap())]);
        let start = attribute(1, true, &[&data(1, &[10, 32, 0, 0])]);
        let end = attribute(1, true, &[&attribute(3, false, &[&[0, 0, 0, 1]]), &data(1, &[10, 48, 0, 0])]);
        let bytes = list(&spec, std::slice::from_ref(&element));
        assert_eq!(bytes, attribute(3, true, &[&start, &end]));
        assert_eq!(read_back(&spec, bytes), [element]);
        // nft writes the gap before the first range too; it is no element.
        let gap = attribute(1, true, &[&attribute(3, false, &[&[0, 0, 0, 1]]), &data(1, &[0; 4])]);
        let theirs = attribute(3, true, &[&gap, &start, &end]);
        assert_eq!(read_back(&spec, theirs).len(), 1);
    }

    #[test]
    fn a_range_to_the_last_value_has_no_end() {
        let spec = SetSpec::set("s", [DataType::Service]).interval();
        let element = Element::key([Span::range(Value::Service(0xff00), Value::Service(0xffff))]);
        let bytes = list(&spec, std::slice::from_ref(&element));
        assert_eq!(bytes, attribute(3, true, &[&attribute(1, true, &[&data(1, &[0xff, 0])])]));
        assert_eq!(read_back(&spec, bytes), [element]);
    }

    #[test]
    fn a_concatenation_of_ranges_has_two_keys() {
        let spec = SetSpec::map(
            "hostports",
            [DataType::Ipv4, DataType::Proto, DataType::Service],
            [DataType::Ipv4, DataType::Service],
        )
        .interval();
        let element = Element::map(
            [Span::network("10.0.0.0/8".parse().unwrap()), Value::Proto(6).into(), Value::Service(80).into()],
            [Ipv4Addr::new(10, 32, 1, 5).into(), Value::Service(8080)],
        );
        let wanted = attribute(
            1,
            true,
            &[
                &data(1, &[10, 0, 0, 0, 6, 0, 0, 0, 0, 80, 0, 0]),
                &data(10, &[10, 255, 255, 255, 6, 0, 0, 0, 0, 80, 0, 0]),
                &data(2, &[10, 32, 1, 5, 0x1f, 0x90, 0, 0]),
            ],
        );
        let bytes = list(&spec, std::slice::from_ref(&element));
        assert_eq!(bytes, attribute(3, true, &[&wanted]));
        assert_eq!(read_back(&spec, bytes), [element]);
    }

    #[test]
    fn a_verdict_names_its_chain() {
        let spec = SetSpec::verdict_map("vm", [DataType::Ipv4]);
        let jump = Verdict::Jump("foo".into());
        let element = Element::verdict([Ipv4Addr::new(1, 2, 3, 5).into()], jump);
        let code = attribute(1, false, &[&[0xff, 0xff, 0xff, 0xfd]]);
        let verdict = attribute(2, true, &[&code, &attribute(2, false, &[b"foo\0"])]);
        let key = data(1, &[1, 2, 3, 5]);
        let bytes = list(&spec, std::slice::from_ref(&element));
        assert_eq!(
            bytes,
            attribute(3, true, &[&attribute(1, true, &[&key, &attribute(2, true, &[&verdict])])])
        );
        assert_eq!(read_back(&spec, bytes), [element]);
    }

    #[test]
    fn what_we_cannot_have_made_is_told_from_what_is_mangled() {
        let spec = SetSpec::set("s", [DataType::Ipv4]);
        let list = |element: &[u8]| attribute(3, true, &[&attribute(1, true, &[element])]);
        let catch_all = attribute(3, false, &[&[0, 0, 0, 2]]);
        assert_eq!(decode(&spec, &[list(&catch_all)]), Ok(None));
        assert_eq!(decode(&spec, &[list(&data(1, &[1, 2]))]), Ok(None));
        assert!(decode(&spec, &[list(&[9, 0, 1, 0])]).is_err());
    }

    #[test]
    fn long_lists_are_split_and_complete() {
        let spec = SetSpec::set("s", [DataType::Ipv4]);
        let all: Vec<Element> = (0..10_000u32).map(|n| Element::key([Ipv4Addr::from(n).into()])).collect();
        let mut batch = Batch::new("test");
        change(&mut batch, NEWSETELEM, "t", &spec, &all);
        assert_eq!(batch.too_long(), None);
        let counts: Vec<usize> = (batch.steps().iter())
            .map(|step| step.action.split(' ').nth(1).unwrap().parse().unwrap())
            .collect();
        assert_eq!(counts.iter().sum::<usize>(), all.len());
        // 16 octets each, a little below 64 KiB.
        assert_eq!(counts.len(), 3, "{counts:?}");
    }
}
