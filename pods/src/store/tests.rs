use std::collections::BTreeSet;
use std::fs;
use std::thread;

use minionet_core::addr::{Cidr, MacAddr};
use minionet_core::cni::attachment::{Id, Key, Limits, NetnsRef, PodLink, Record, SCHEMA};
use minionet_core::cni::ipam::{Assigned, Space};
use minionet_core::plan::Block;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{Claim, Stage, Store, StoreError};

fn space(cidrs: &[&str]) -> Space {
    let block = |text: &&str| {
        let cidr: Cidr = text.parse().unwrap();
        Block { cidr, gateway: cidr.nth(1).unwrap() }
    };
    Space::new(&cidrs.iter().map(block).collect::<Vec<_>>())
}

fn key(container: &str) -> Key {
    Key { network: "minionet".into(), container: container.into(), ifname: "eth0".into() }
}

fn record(key: &Key, space: &Space, addresses: Vec<Assigned>) -> Record {
    Record {
        schema: SCHEMA,
        writer: "test".into(),
        pod: None,
        boot: String::new(),
        netns: NetnsRef { path: "/run/netns/x".into(), device: 0, inode: 0 },
        origin: space.origin(&addresses),
        link: PodLink {
            host_ifname: key.id().host_ifname(),
            alias: key.id().alias(key),
            host_mac: MacAddr::POD_GATEWAY,
            ifname: key.ifname.clone(),
            mac: MacAddr::POD_GATEWAY,
            mtu: 1450,
            addresses,
            source_rules: Vec::new(),
        },
        ports: Vec::new(),
        limits: Limits::default(),
        key: key.clone(),
    }
}

/// A store in a directory of its own.
struct Fixture {
    _dir: TempDir,
    store: Store,
    space: Space,
}

impl Fixture {
    fn new(cidrs: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Fixture { store: Store::new(dir.path().join("run")), _dir: dir, space: space(cidrs) }
    }

    fn add(&self, container: &str) -> Result<Vec<String>, StoreError> {
        self.add_requesting(container, &[])
    }

    fn add_requesting(&self, container: &str, requested: &[&str]) -> Result<Vec<String>, StoreError> {
        let addresses: Vec<_> = requested.iter().map(|a| a.parse().unwrap()).collect();
        let requested = self.space.requested(&addresses).unwrap();
        let key = key(container);
        let mut locked = self.store.lock()?;
        let addresses = locked.choose(&self.space, &requested)?;
        let texts = addresses.iter().map(|a| a.address.to_string()).collect();
        let journal = locked.record(&record(&key, &self.space, addresses.clone()))?;
        locked.take(&addresses, key.id())?;
        journal.complete()?;
        Ok(texts)
    }

    fn del(&self, container: &str) {
        let key = key(container);
        let Some(mut found) = self.store.find(key.id()).unwrap() else { return };
        assert!(found.claim().unwrap());
        let record = found.read().unwrap().unwrap();
        let mut locked = self.store.lock().unwrap();
        locked.release(&record.link.addresses, &record.origin, key.id()).unwrap();
        locked.forget(key.id()).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.store.root.join(name)
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(dir)) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn both_families_come_from_one_offset() {
    let fixture = Fixture::new(&["10.32.1.0/24", "fd00:32:0:1::/64"]);
    assert_eq!(fixture.add("a").unwrap(), ["10.32.1.2", "fd00:32:0:1::2"]);
    assert_eq!(fixture.names("leases"), ["10.32.1.2", "fd00:32:0:1::2"]);
    fixture.del("a");
    assert!(fixture.names("leases").is_empty());
    assert!(fixture.names("attachments").is_empty());
}

#[test]
fn an_address_comes_back_last() {
    let fixture = Fixture::new(&["10.32.1.0/29"]);
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.extend(fixture.add("a").unwrap());
        fixture.del("a");
    }
    let last: Vec<_> = seen.iter().map(|a| a.rsplit('.').next().unwrap()).collect();
    assert_eq!(last, ["2", "3", "4", "5", "6", "2", "3"]);
}

#[test]
fn a_full_pool_says_so_and_recovers() {
    let fixture = Fixture::new(&["10.32.1.0/30"]);
    fixture.add("a").unwrap();
    let error = fixture.add("b").unwrap_err();
    assert!(error.to_string().contains("10.32.1.0/30 (1 of 1 in use)"), "{error}");
    fixture.del("a");
    assert_eq!(fixture.add("b").unwrap(), ["10.32.1.2"]);
}

#[test]
fn a_requested_address_is_given_or_its_holder_is_named() {
    let fixture = Fixture::new(&["10.32.1.0/24", "fd00:32:0:1::/64"]);
    let got = fixture.add_requesting("a", &["10.32.1.77"]).unwrap();
    assert_eq!(got, ["10.32.1.77", "fd00:32:0:1::2"]);
    let error = fixture.add_requesting("b", &["fd00:32:0:1::99", "10.32.1.77"]).unwrap_err();
    assert!(error.to_string().contains("in use by container a interface eth0"), "{error}");
    assert_eq!(fixture.names("leases"), ["10.32.1.77", "fd00:32:0:1::2"], "nothing of b is left");
    // Nobody else gets any of them when the rest runs out.
    let fixture = Fixture::new(&["10.32.1.0/29"]);
    fixture.add_requesting("a", &["10.32.1.4"]).unwrap();
    let others: Vec<_> = (0..4).flat_map(|i| fixture.add(&format!("o{i}")).unwrap()).collect();
    assert_eq!(others, ["10.32.1.2", "10.32.1.3", "10.32.1.5", "10.32.1.6"]);
    assert!(matches!(fixture.add("late"), Err(StoreError::Exhausted { size: 5, .. })));
}

#[test]
fn a_lease_without_a_record_is_free() {
    let fixture = Fixture::new(&["10.32.1.0/30"]);
    // As when a record was removed by hand.
    fixture.add("dead").unwrap();
    fixture.store.lock().unwrap().forget(key("dead").id()).unwrap();
    assert_eq!(fixture.names("leases"), ["10.32.1.2"]);
    assert_eq!(fixture.add("a").unwrap(), ["10.32.1.2"]);
}

#[test]
fn a_reservation_by_hand_stays() {
    let fixture = Fixture::new(&["10.32.1.0/29"]);
    fixture.add("a").unwrap();
    std::os::unix::fs::symlink("printer", fixture.path("leases/10.32.1.3")).unwrap();
    assert_eq!(fixture.add("b").unwrap(), ["10.32.1.4"]);
    let error = fixture.add_requesting("c", &["10.32.1.3"]).unwrap_err().to_string();
    assert!(error.contains("reservation by hand (printer)"), "{error}");
}

#[test]
fn a_lost_or_damaged_queue_costs_no_address() {
    for damage in [None, Some(vec![]), Some(b"garbage".to_vec()), Some(vec![0xff; 1044])] {
        let fixture = Fixture::new(&["10.32.1.0/29"]);
        fixture.add("a").unwrap();
        match damage {
            None => fs::remove_file(fixture.path("queue")).unwrap(),
            Some(content) => fs::write(fixture.path("queue"), content).unwrap(),
        }
        let others: BTreeSet<_> = (0..4).flat_map(|i| fixture.add(&format!("o{i}")).unwrap()).collect();
        assert_eq!(others.len(), 4);
        assert!(!others.contains("10.32.1.2"));
        assert!(fixture.add("late").is_err());
    }
}

#[test]
fn leases_of_another_block_are_kept_and_released() {
    let mut fixture = Fixture::new(&["10.32.1.0/24"]);
    fixture.add("old").unwrap();
    fixture.space = space(&["10.32.9.0/24"]);
    assert_eq!(fixture.add("new").unwrap(), ["10.32.9.2"]);
    fixture.del("old");
    assert_eq!(fixture.names("leases"), ["10.32.9.2"]);
    // The queue of the new block did not get the old address.
    assert_eq!(fixture.add("next").unwrap(), ["10.32.9.3"]);
}

#[test]
fn a_release_leaves_what_belongs_to_others() {
    let fixture = Fixture::new(&["10.32.1.0/24"]);
    fixture.add("a").unwrap();
    let stranger: Id = key("stranger").id();
    let addresses = fixture.space.at(2);
    let origin = fixture.space.origin(&addresses);
    fixture.store.lock().unwrap().release(&addresses, &origin, stranger).unwrap();
    assert_eq!(fixture.names("leases"), ["10.32.1.2"]);
}

#[test]
fn an_add_at_work_is_told_from_a_dead_one() {
    let fixture = Fixture::new(&["10.32.1.0/24"]);
    let key = key("a");
    let journal = fixture.store.lock().unwrap().record(&record(&key, &fixture.space, vec![])).unwrap();
    let mut found = fixture.store.find(key.id()).unwrap().unwrap();
    assert_eq!(found.stage, Stage::Adding);
    assert_eq!(found.claim_now().unwrap(), Claim::Busy);
    drop(journal);
    assert_eq!(found.claim_now().unwrap(), Claim::Ours);
    fixture.store.lock().unwrap().forget(key.id()).unwrap();
    assert!(!found.claim().unwrap(), "the record is gone");
    assert!(fixture.store.find(key.id()).unwrap().is_none());
}

#[test]
fn an_add_that_ended_since_it_was_found_is_not_dead() {
    let fixture = Fixture::new(&["10.32.1.0/24"]);
    let key = key("a");
    let journal = fixture.store.lock().unwrap().record(&record(&key, &fixture.space, vec![])).unwrap();
    let mut found = fixture.store.find(key.id()).unwrap().unwrap();
    journal.complete().unwrap();
    drop(journal);
    assert_eq!(found.claim_now().unwrap(), Claim::Ours);
    assert_eq!(found.stage, Stage::Ready);
    fixture.store.lock().unwrap().forget(key.id()).unwrap();
    assert_eq!(found.claim_now().unwrap(), Claim::Gone);
}

#[test]
fn a_mark_is_about_one_record_and_goes_with_it() {
    let fixture = Fixture::new(&["10.32.1.0/24"]);
    let id = key("a").id();
    fixture.store.mark_leaving(id).unwrap();
    assert!(fixture.names("attachments").is_empty(), "there is nothing to mark");
    fixture.add("a").unwrap();
    let found = || fixture.store.find(id).unwrap().unwrap();
    assert!(!found().is_leaving().unwrap());
    for _ in 0..2 {
        fixture.store.mark_leaving(id).unwrap();
        assert!(found().is_leaving().unwrap());
    }
    assert_eq!(fixture.store.recorded().unwrap(), BTreeSet::from([id]));
    assert!(found().read().unwrap().is_ok(), "the record itself is as it was");

    // Somebody who does not know of marks removes the record alone, and attaches anew.
    fs::remove_file(fixture.path(&format!("attachments/{id}.json"))).unwrap();
    assert!(fixture.store.find(id).unwrap().is_none());
    fixture.add("a").unwrap();
    assert!(!found().is_leaving().unwrap());
    fixture.store.lock().unwrap().prune().unwrap();
    fixture.store.mark_leaving(id).unwrap();
    assert!(found().is_leaving().unwrap());
    fixture.del("a");
    assert!(fixture.names("attachments").is_empty());

    fs::write(fixture.path(&format!("attachments/{id}.leaving")), "").unwrap();
    fixture.store.lock().unwrap().prune().unwrap();
    assert!(fixture.names("attachments").is_empty());
}

#[test]
fn an_earlier_boot_holds_nothing() {
    let fixture = Fixture::new(&["10.32.1.0/29"]);
    for (container, boot) in [("old", "another"), ("new", crate::boot::current())] {
        let key = key(container);
        let mut locked = fixture.store.lock().unwrap();
        let addresses = locked.choose(&fixture.space, &[]).unwrap();
        let record = Record { boot: boot.into(), ..record(&key, &fixture.space, addresses.clone()) };
        let journal = locked.record(&record).unwrap();
        locked.take(&addresses, key.id()).unwrap();
        journal.complete().unwrap();
    }
    fs::write(fixture.path("boot"), "another").unwrap();
    assert_eq!(fixture.store.lock().unwrap().prune().unwrap(), 1);
    assert_eq!(fixture.store.recorded().unwrap(), [key("new").id()].into());
    assert_eq!(fixture.store.lock().unwrap().free(&fixture.space).unwrap(), 4);
}

/// Two first calls of a boot at once, or one that was killed: the lock says nothing of directories.
#[test]
fn it_does_not_matter_how_far_the_directories_were_made() {
    for made in [&[][..], &["attachments"], &["leases"], &["attachments", "leases"]] {
        for locked in [false, true] {
            let fixture = Fixture::new(&["10.32.1.0/24", "fd00:32:0:1::/64"]);
            for dir in made {
                fs::create_dir_all(fixture.path(dir)).unwrap();
            }
            if locked {
                fs::create_dir_all(fixture.path("")).unwrap();
                fs::write(fixture.path("lock"), "").unwrap();
            }
            assert_eq!(fixture.add("a").unwrap().len(), 2, "with {made:?}, locked before: {locked}");
            fixture.del("a");
            assert_eq!((fixture.names("leases").len(), fixture.names("attachments").len()), (0, 0));
        }
    }
}

#[test]
fn a_pool_of_n_serves_n_at_once() {
    let fixture = Fixture::new(&["10.32.1.0/26"]);
    let size = fixture.space.pool().len();
    for round in 0..3 {
        let addresses: BTreeSet<String> = thread::scope(|scope| {
            let one = |i| {
                scope.spawn({
                    let fixture = &fixture;
                    move || fixture.add(&format!("{round}-{i}"))
                })
            };
            let threads: Vec<_> = (0..size).map(one).collect();
            threads.into_iter().flat_map(|t| t.join().unwrap().unwrap()).collect()
        });
        assert_eq!(addresses.len(), size);
        thread::scope(|scope| {
            for i in 0..size {
                let fixture = &fixture;
                scope.spawn(move || fixture.del(&format!("{round}-{i}")));
            }
        });
        assert!(fixture.names("leases").is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is added, removed and damaged: no address has two owners, none is lost.
    #[test]
    fn no_address_is_ever_lost_or_doubled(steps in prop::collection::vec((0u8..10, 0u8..12), 1..80)) {
        let fixture = Fixture::new(&["10.32.1.0/28"]);
        let mut living = std::collections::BTreeMap::new();
        for (action, who) in steps {
            let name = format!("c{who}");
            match action {
                0..6 if !living.contains_key(&name) => {
                    let got = fixture.add(&name).unwrap();
                    prop_assert!(!living.values().any(|held| *held == got), "{got:?} has two owners");
                    living.insert(name, got);
                }
                6..8 => {
                    fixture.del(&name);
                    living.remove(&name);
                }
                8 => drop(fs::remove_file(fixture.path("queue"))),
                9 => drop(fs::write(fixture.path("queue"), [who; 80])),
                _ => {}
            }
            prop_assert_eq!(living.len(), fixture.names("leases").len());
        }
        // 13 addresses: whatever is not held can be had.
        for i in living.len()..13 {
            let name = format!("fill{i}");
            prop_assert!(fixture.add(&name).is_ok());
        }
        prop_assert!(fixture.add("late").is_err());
    }
}
