use proptest::prelude::*;
use std::collections::VecDeque;

use super::*;

fn block(cidr: &str) -> Block {
    let cidr: Cidr = cidr.parse().unwrap();
    Block { cidr, gateway: cidr.nth(1).unwrap() }
}

fn space(cidrs: &[&str]) -> Space {
    Space::new(&cidrs.iter().map(|c| block(c)).collect::<Vec<_>>())
}

#[test]
fn the_pool_leaves_out_network_gateway_and_broadcast() {
    assert_eq!(space(&["10.32.1.0/24"]).pool(), 2..255);
    assert_eq!(space(&["10.32.1.0/30"]).pool(), 2..3);
    assert!(space(&["10.32.1.0/31"]).pool().is_empty());
    assert_eq!(space(&["fd00::/126"]).pool(), 2..4);
    assert_eq!(space(&["fd00::/64"]).pool(), 2..2 + POOL_MAX);
    assert_eq!(space(&["10.32.1.0/24", "fd00::/64"]).pool(), 2..255);
    assert!(space(&[]).pool().is_empty());
}

#[test]
fn one_offset_serves_both_families() {
    let space = space(&["10.32.1.0/24", "fd00:32:0:1::/64"]);
    let texts: Vec<_> = space.at(5).iter().map(|a| a.address.to_string()).collect();
    assert_eq!(texts, ["10.32.1.5", "fd00:32:0:1::5"]);
    assert_eq!(space.offset_of("fd00:32:0:1::5".parse().unwrap()), Some(5));
    assert_eq!(space.offset_of("10.32.2.5".parse().unwrap()), None);
    assert_eq!(space.offset_of("10.32.1.1".parse().unwrap()), None);
}

#[test]
fn requests_are_checked_against_the_blocks() {
    let space = space(&["10.32.1.0/24", "fd00:32:0:1::/64"]);
    let ask =
        |texts: &[&str]| space.requested(&texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>());
    let error = |text| ask(&[text]).unwrap_err().to_string();
    assert!(error("10.32.2.5").contains("10.32.1.0/24, fd00:32:0:1::/64"));
    assert!(error("10.32.1.0").contains("network address"));
    assert!(error("10.32.1.1").contains("gateway"));
    assert!(error("10.32.1.255").contains("broadcast"));
    assert!(error("fd00:32:0:1::").contains("network address"));
    assert!(matches!(ask(&["10.32.1.5", "10.32.1.6"]), Err(RequestedError::Twice { .. })));
    let one = ask(&["fd00:32:0:1:ffff::1"]).unwrap();
    assert!(!space.is_complete(&one));
    let rest = space.completing(&one, 7);
    assert_eq!(rest.iter().map(|a| a.address.to_string()).collect::<Vec<_>>(), ["10.32.1.7"]);
    assert!(space.is_complete(&ask(&["10.32.1.5", "fd00:32:0:1::9"]).unwrap()));
}

#[test]
fn a_queue_for_other_blocks_or_of_garbage_is_not_believed() {
    let queue = Queue::filled(7, 10, 10);
    assert_eq!(Queue::decode(&queue.encode(), 7), Some(queue));
    assert_eq!(Queue::decode(&queue.encode(), 8), None);
    assert_eq!(Queue::decode(&queue.encode()[1..], 7), None);
    assert_eq!(Queue::decode(&[0; HEADER_LEN], 7), None);
    let mut wild = queue.encode();
    wild[20] = 10;
    assert_eq!(Queue::decode(&wild, 7), None, "the head lies outside");
}

proptest! {
    /// Offsets come out in the order in which they went in.
    #[test]
    fn the_queue_is_first_in_first_out(capacity in 1u32..20, steps in prop::collection::vec(any::<bool>(), 0..200)) {
        let mut slots = vec![None; capacity as usize];
        let (mut queue, mut model, mut next) = (Queue::filled(1, capacity, 0), VecDeque::new(), 0u32);
        for push in steps {
            if push {
                let slot = queue.push();
                prop_assert_eq!(slot.is_some(), model.len() < capacity as usize);
                if let Some(slot) = slot {
                    slots[slot as usize] = Some(next);
                    model.push_back(next);
                    next += 1;
                }
            } else {
                let taken = queue.pop().and_then(|slot| slots[slot as usize]);
                prop_assert_eq!(taken, model.pop_front());
            }
            prop_assert_eq!(Queue::decode(&queue.encode(), 1), Some(queue));
        }
    }

    /// No header, whatever stands in it, leads to a slot outside of the ring.
    #[test]
    fn a_damaged_header_never_leads_outside(header in prop::array::uniform32(any::<u8>()), capacity in 1u32..100) {
        let mut header = header;
        header[..8].copy_from_slice(b"mnqueue1");
        let digest = u64::from_le_bytes(header[8..16].try_into().unwrap());
        header[16..20].copy_from_slice(&capacity.to_le_bytes());
        if let Some(mut queue) = Queue::decode(&header, digest) {
            prop_assert!(queue.push().is_none_or(|slot| slot < capacity));
            prop_assert!(queue.pop().is_none_or(|slot| slot < capacity));
        }
    }
}
