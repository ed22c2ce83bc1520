//! The addresses of an answer, as a sorted list: thousands of them are compared and searched far
//! more often than changed.

use std::cmp::Ordering;
use std::net::IpAddr;

/// A set of addresses that does not change. Comparing two costs one look at each address, and no
/// more memory than the addresses themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSet(Box<[IpAddr]>);

impl AddressSet {
    /// Whether the address is in it.
    pub fn contains(&self, addr: &IpAddr) -> bool {
        self.0.binary_search(addr).is_ok()
    }

    /// The addresses, in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, IpAddr> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The addresses that the other set has not, in their order.
    pub fn difference<'a>(&'a self, other: &'a AddressSet) -> impl Iterator<Item = &'a IpAddr> {
        let mut rest = &other.0[..];
        self.0.iter().filter(move |addr| {
            while let Some((first, behind)) = rest.split_first() {
                match first.cmp(addr) {
                    Ordering::Less => rest = behind,
                    Ordering::Equal => return false,
                    Ordering::Greater => break,
                }
            }
            true
        })
    }
}

impl FromIterator<IpAddr> for AddressSet {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addrs: I) -> Self {
        let mut addrs: Vec<IpAddr> = addrs.into_iter().collect();
        addrs.sort_unstable();
        addrs.dedup();
        AddressSet(addrs.into_boxed_slice())
    }
}

impl<'a> IntoIterator for &'a AddressSet {
    type Item = &'a IpAddr;
    type IntoIter = std::slice::Iter<'a, IpAddr>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Few enough that two sets have much in common.
    fn few() -> impl Strategy<Value = Vec<IpAddr>> {
        let v4 = (0u8..20).prop_map(|n| IpAddr::from([10, 0, 0, n]));
        let v6 = (0u16..10).prop_map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n]));
        proptest::collection::vec(prop_oneof![v4, v6], 0..40)
    }

    proptest! {
        #[test]
        fn it_is_the_set_that_the_standard_library_makes(a in few(), b in few()) {
            let (set, other): (AddressSet, AddressSet) = (a.iter().copied().collect(), b.iter().copied().collect());
            let (tree, others): (BTreeSet<IpAddr>, BTreeSet<IpAddr>) = (a.into_iter().collect(), b.into_iter().collect());
            prop_assert!(set.iter().eq(tree.iter()));
            prop_assert_eq!((set.len(), set.is_empty()), (tree.len(), tree.is_empty()));
            prop_assert!(set.difference(&other).eq(tree.difference(&others)));
            prop_assert!(others.iter().all(|addr| set.contains(addr) == tree.contains(addr)));
            prop_assert_eq!(set == other, tree == others);
        }
    }
}
