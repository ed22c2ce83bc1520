//! The addresses of an answer, as sorted lists: thousands of them are compared and searched far
//! more often than changed.

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A set of addresses that does not change.
///
/// Addresses are kept as the numbers that they are, in the order of [`IpAddr`]: IPv4 first, then IPv6,
/// each by its number. Comparing two sets is comparing octets, and a set takes four octets for an
/// address of IPv4 and sixteen for one of IPv6.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AddressSet {
    v4: Box<[u32]>,
    v6: Box<[u128]>,
}

impl AddressSet {
    /// The set of these addresses, each family as numbers, in any order and as often as they come.
    /// Lists that are in order already cost one look at each.
    pub fn of(v4: Vec<u32>, v6: Vec<u128>) -> Self {
        AddressSet { v4: ordered(v4), v6: ordered(v6) }
    }

    /// Whether the address is in it.
    pub fn contains(&self, addr: &IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => self.v4.binary_search(&addr.to_bits()).is_ok(),
            IpAddr::V6(addr) => self.v6.binary_search(&addr.to_bits()).is_ok(),
        }
    }

    /// The addresses, in their order.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + Clone + '_ {
        addresses(self.v4.iter().copied(), self.v6.iter().copied())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The addresses that the other set has not, in their order.
    pub fn difference<'a>(&'a self, other: &'a AddressSet) -> impl Iterator<Item = IpAddr> + 'a {
        addresses(lacking(&self.v4, &other.v4), lacking(&self.v6, &other.v6))
    }
}

impl FromIterator<IpAddr> for AddressSet {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addrs: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for addr in addrs {
            match addr {
                IpAddr::V4(addr) => v4.push(addr.to_bits()),
                IpAddr::V6(addr) => v6.push(addr.to_bits()),
            }
        }
        AddressSet::of(v4, v6)
    }
}

impl fmt::Debug for AddressSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

fn addresses(
    v4: impl Iterator<Item = u32> + Clone,
    v6: impl Iterator<Item = u128> + Clone,
) -> impl Iterator<Item = IpAddr> + Clone {
    let v4 = v4.map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
    v4.chain(v6.map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))))
}

/// In order, each once.
fn ordered<T: Ord>(mut list: Vec<T>) -> Box<[T]> {
    if !list.is_sorted_by(|one, next| one < next) {
        list.sort_unstable();
        list.dedup();
    }
    list.into_boxed_slice()
}

/// What is in one ordered list and not in the other.
fn lacking<'a, T: Ord + Copy>(list: &'a [T], other: &'a [T]) -> impl Iterator<Item = T> + Clone + 'a {
    let mut rest = other;
    list.iter().copied().filter(move |item| {
        while let Some((first, behind)) = rest.split_first() {
            match first.cmp(item) {
                Ordering::Less => rest = behind,
                Ordering::Equal => {
                    rest = behind;
                    return false;
                }
                Ordering::Greater => break,
            }
        }
        true
    })
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
            prop_assert!(set.iter().eq(tree.iter().copied()));
            prop_assert_eq!((set.len(), set.is_empty()), (tree.len(), tree.is_empty()));
            prop_assert!(set.difference(&other).eq(tree.difference(&others).copied()));
            prop_assert!(others.iter().all(|addr| set.contains(addr) == tree.contains(addr)));
            prop_assert_eq!(set == other, tree == others);
        }
    }
}
