//! Sets and maps: their types, their elements, and who puts the elements there.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::error::ModelError;
use super::rule::Verdict;
use super::text::joined;
use super::value::{DataType, Value};

/// What a set maps its keys to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetData {
    /// Nothing: a plain set.
    None,
    /// Values, several of them concatenated: a map.
    Values(Vec<DataType>),
    /// Verdicts: a verdict map.
    Verdict,
}

/// The definition of a set or map, without its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSpec {
    /// Its name within the table.
    pub name: String,
    /// The types of its key; more than one is a concatenation.
    pub key: Vec<DataType>,
    /// What it maps to.
    pub data: SetData,
    /// Keys may be ranges and prefixes.
    pub interval: bool,
    /// The kernel refuses new elements once a rule uses the set.
    pub constant: bool,
    /// Rules may add elements.
    pub dynamic: bool,
}

/// Who decides what is in a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// Exactly these elements; anything else is drift.
    Fixed(Vec<Element>),
    /// Elements come and go at run time (one per pod). Replacing the table carries them over, and
    /// no element is drift.
    Kept,
}

/// A set or a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its definition.
    pub spec: SetSpec,
    /// Its elements, or that they are not decided here.
    pub contents: Contents,
}

/// One field of an element's key: a value, or an inclusive range of values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first value.
    pub from: Value,
    /// The last value; equal to `from` for a single value.
    pub to: Value,
}

/// What an element of a map maps to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datum {
    /// Values, one per data type of the map.
    Values(Vec<Value>),
    /// A verdict.
    Verdict(Verdict),
}

/// One element of a set or a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// One span per key type of the set.
    pub key: Vec<Span>,
    /// The data, for a map.
    pub data: Option<Datum>,
}

// === impl SetSpec ===

impl SetSpec {
    /// A plain set with this key.
    pub fn set(name: impl Into<String>, key: impl Into<Vec<DataType>>) -> Self {
        Self {
            name: name.into(),
            key: key.into(),
            data: SetData::None,
            interval: false,
            constant: false,
            dynamic: false,
        }
    }

    /// A map from this key to these values.
    pub fn map(
        name: impl Into<String>,
        key: impl Into<Vec<DataType>>,
        data: impl Into<Vec<DataType>>,
    ) -> Self {
        Self { data: SetData::Values(data.into()), ..Self::set(name, key) }
    }

    /// A map from this key to verdicts.
    pub fn verdict_map(name: impl Into<String>, key: impl Into<Vec<DataType>>) -> Self {
        Self { data: SetData::Verdict, ..Self::set(name, key) }
    }

    /// The same with `flags interval`.
    pub fn interval(self) -> Self {
        Self { interval: true, ..self }
    }

    /// The same with `flags constant`.
    pub fn constant(self) -> Self {
        Self { constant: true, ..self }
    }

    /// The same with `flags dynamic`.
    pub fn dynamic(self) -> Self {
        Self { dynamic: true, ..self }
    }

    /// The set with exactly these elements.
    pub fn with(self, elements: Vec<Element>) -> Set {
        Set { spec: self, contents: Contents::Fixed(elements) }
    }

    /// The set whose elements come and go at run time.
    pub fn kept(self) -> Set {
        Set { spec: self, contents: Contents::Kept }
    }

    /// Whether the key is a concatenation with ranges, which the kernel keeps in another
    /// structure (pipapo) and takes in another form than single ranges.
    pub fn concat_ranges(&self) -> bool {
        self.interval && self.key.len() > 1
    }

    /// Checks that an element can be in this set.
    ///
    /// # Errors
    /// [`ModelError::ElementKey`], [`ModelError::ElementData`] or [`ModelError::ElementRange`].
    pub fn check(&self, element: &Element) -> Result<(), ModelError> {
        self.check_key(element)?;
        self.check_data(element)
    }

    /// Checks that the key of an element fits this set, whatever its data.
    ///
    /// # Errors
    /// [`ModelError::ElementKey`] or [`ModelError::ElementRange`].
    pub fn check_key(&self, element: &Element) -> Result<(), ModelError> {
        let from = element.key.iter().map(|span| span.from.data_type());
        let to = element.key.iter().map(|span| span.to.data_type());
        if !from.eq(self.key.iter().copied()) || !to.eq(self.key.iter().copied()) {
            return Err(ModelError::ElementKey {
                set: self.name.clone(),
                element: element.to_string(),
                key: joined(&self.key, " . "),
            });
        }
        for span in element.key.iter().filter(|span| !span.is_single()) {
            let reason = if !self.interval {
                "the set has no flag interval"
            } else if span.from.data_type().host_order() {
                "values in host byte order have no ranges"
            } else if span.from.bytes() > span.to.bytes() {
                "it runs backwards"
            } else {
                continue;
            };
            return Err(ModelError::ElementRange {
                set: self.name.clone(),
                element: element.to_string(),
                reason,
            });
        }
        Ok(())
    }

    fn check_data(&self, element: &Element) -> Result<(), ModelError> {
        let (fits, wanted) = match (&self.data, &element.data) {
            (SetData::None, data) => (data.is_none(), "nothing".to_owned()),
            (SetData::Verdict, data) => (matches!(data, Some(Datum::Verdict(_))), "verdict".to_owned()),
            (SetData::Values(types), data) => (
                matches!(data, Some(Datum::Values(values))
                    if values.iter().map(Value::data_type).eq(types.iter().copied())),
                joined(types, " . "),
            ),
        };
        if fits {
            return Ok(());
        }
        Err(ModelError::ElementData { set: self.name.clone(), element: element.to_string(), data: wanted })
    }
}

// === impl Span ===

impl Span {
    /// A range, both ends included.
    pub fn range(from: impl Into<Value>, to: impl Into<Value>) -> Self {
        Self { from: from.into(), to: to.into() }
    }

    /// Every address of a network; bits of the host part are ignored.
    pub fn network(network: IpNetwork) -> Self {
        match network {
            IpNetwork::V4(network) => Self::range(network.network(), network.broadcast()),
            IpNetwork::V6(network) => Self::range(network.network(), network.broadcast()),
        }
    }

    /// The length of the prefix, if the span is all addresses of a network.
    pub fn prefix(&self) -> Option<u32> {
        let (from, to, bits) = match (&self.from, &self.to) {
            (Value::Ipv4(from), Value::Ipv4(to)) => (u32::from(*from).into(), u32::from(*to).into(), 32),
            (Value::Ipv6(from), Value::Ipv6(to)) => (u128::from(*from), u128::from(*to), 128),
            _ => return None,
        };
        // In a network the first address ends in zeros where the last one ends in ones.
        let host = from ^ to;
        let host_bits = host.trailing_ones();
        (from & host == 0 && host_bits == host.count_ones()).then_some(bits - host_bits)
    }

    /// Whether the span is one value.
    pub fn is_single(&self) -> bool {
        self.from == self.to
    }
}

impl<V: Into<Value>> From<V> for Span {
    fn from(value: V) -> Self {
        let value = value.into();
        Self { from: value.clone(), to: value }
    }
}

// === impl Element ===

impl Element {
    /// An element of a plain set.
    pub fn key(key: impl Into<Vec<Span>>) -> Self {
        Self { key: key.into(), data: None }
    }

    /// An element of a map to values.
    pub fn map(key: impl Into<Vec<Span>>, values: impl Into<Vec<Value>>) -> Self {
        Self { key: key.into(), data: Some(Datum::Values(values.into())) }
    }

    /// An element of a verdict map.
    pub fn verdict(key: impl Into<Vec<Span>>, verdict: Verdict) -> Self {
        Self { key: key.into(), data: Some(Datum::Verdict(verdict)) }
    }

    /// The networks as elements of an interval set: sorted, and what overlaps or touches merged,
    /// since the kernel refuses overlapping elements (EEXIST).
    pub fn networks<'a>(networks: impl IntoIterator<Item = &'a IpNetwork>) -> Vec<Self> {
        let mut spans: Vec<(IpAddr, IpAddr)> = networks
            .into_iter()
            .map(|network| match network {
                IpNetwork::V4(v4) => (v4.network().into(), v4.broadcast().into()),
                IpNetwork::V6(v6) => (v6.network().into(), v6.broadcast().into()),
            })
            .collect();
        spans.sort();
        let mut merged: Vec<(IpAddr, IpAddr)> = Vec::with_capacity(spans.len());
        for (from, to) in spans {
            match merged.last_mut() {
                Some((_, last)) if from <= *last || next(*last) == Some(from) => {
                    *last = (*last).max(to);
                }
                _ => merged.push((from, to)),
            }
        }
        merged.into_iter().map(|(from, to)| Self::key([Span::range(from, to)])).collect()
    }
}

/// The address after this one in the same family.
fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4).checked_add(1).map(|n| IpAddr::V4(n.into())),
        IpAddr::V6(v6) => u128::from(v6).checked_add(1).map(|n| IpAddr::V6(n.into())),
    }
}

#[cfg(test)]
mod tests;
