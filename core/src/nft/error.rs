//! What can be wrong with a ruleset before the kernel has seen it.

use thiserror::Error;

/// A ruleset, set or element that the kernel could not hold as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelError {
    /// A name is empty, too long or has a NUL in it.
    #[error("{name:?} cannot be a {kind}: it needs 1 to {max} bytes, none of them NUL")]
    BadName {
        /// "table", "set", "chain" or "comment".
        kind: &'static str,
        /// The name as given.
        name: String,
        /// The greatest length in bytes.
        max: usize,
    },
    /// An element has another number or type of key fields than its set.
    #[error("element {element} does not fit set {set}, whose key is {key}")]
    ElementKey {
        /// The set.
        set: String,
        /// The element, as nft text.
        element: String,
        /// The key types of the set, as nft text.
        key: String,
    },
    /// An element carries data where its set has none, or the other way round, or of another type.
    #[error("element {element} carries the wrong data for {set}, which maps to {data}")]
    ElementData {
        /// The set.
        set: String,
        /// The element, as nft text.
        element: String,
        /// The data types of the map, as nft text.
        data: String,
    },
    /// A range stands in a set without the flag `interval`, or runs backwards.
    #[error("element {element} of set {set} is a range, and {reason}")]
    ElementRange {
        /// The set.
        set: String,
        /// The element, as nft text.
        element: String,
        /// Why that is wrong.
        reason: &'static str,
    },
    /// Two chains or two sets of one ruleset have the same name.
    #[error("two {kind}s are named {name}: merge them, or rename one")]
    Duplicate {
        /// "set" or "chain".
        kind: &'static str,
        /// The name that occurs twice.
        name: String,
    },
}
