//! Replacing the table as a whole.

use std::net::Ipv4Addr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use minionet_core::nft::{
    DataType, Element, Field, Rule, Ruleset, SetSpec, Statement, TABLE, Value, Verdict,
};
use minionet_netlink::nft::{Nft, TableName};

use crate::support::{Namespace, filter, in_namespace, run, usual_masquerade};

fn owners() -> SetSpec {
    SetSpec::set("owners", [DataType::IfName, DataType::Ipv4])
}

fn owner(number: u32) -> Element {
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 32, 0, 0)) + number);
    Element::key([Value::IfName(format!("mn{number}")).into(), address.into()])
}

/// A table with one set of elements per pod, and one rule that says which version it is.
fn version(number: u32) -> Ruleset {
    let mut ruleset = filter(vec![Rule::of([Field::MARK.is(Value::Mark(number)), Verdict::Accept.into()])]);
    ruleset.sets.push(owners().kept());
    ruleset
}

#[test]
fn applying_twice_changes_nothing_that_shows() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        nft.apply(&usual_masquerade()).unwrap();
        let once = run("nft list ruleset");
        nft.apply(&usual_masquerade()).unwrap();
        assert_eq!(run("nft list ruleset"), once);
    });
}

#[test]
fn other_tables_are_not_touched() {
    in_namespace(|| {
        run("nft add table ip minionet; nft add table inet other; nft add chain inet other c");
        let mut nft = Nft::open().unwrap();
        nft.apply(&usual_masquerade()).unwrap();
        let table = |family, name: &str| TableName { family, name: name.into() };
        let all = nft.tables().unwrap();
        assert_eq!(all, [table(2, TABLE), table(1, "other"), table(1, TABLE)]);
        assert!(nft.delete_table(TABLE).unwrap());
        assert!(!nft.delete_table(TABLE).unwrap());
        assert_eq!(nft.tables().unwrap(), [table(2, TABLE), table(1, "other")]);
        assert!(run("nft list table inet other").contains("chain c"));
    });
}

#[test]
fn what_is_kept_is_carried_over() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        nft.apply(&version(1)).unwrap();
        nft.add_elements(TABLE, &owners(), &[owner(1), owner(2)]).unwrap();
        nft.apply(&version(2)).unwrap();
        assert_eq!(nft.elements(TABLE, &owners()).unwrap(), [owner(1), owner(2)]);
        assert_eq!(nft.drift(&version(2)).unwrap(), vec![]);
        // A set of another type cannot take them.
        let mut other = version(3);
        other.sets[0] = SetSpec::set("owners", [DataType::Ipv4]).kept();
        nft.apply(&other).unwrap();
        assert_eq!(nft.dump(TABLE).unwrap().unwrap().set("owners").unwrap().elements, []);
    });
}

/// The daemon replaces the table while plugins come and go.
#[test]
fn no_element_is_lost_between_reading_and_replacing() {
    const PODS: u32 = 300;
    let namespace = Namespace::new();
    let open = || namespace.within(|| Nft::open().unwrap());
    let (mut daemon, mut plugin) = (open(), open());
    daemon.apply(&version(0)).unwrap();
    let (done, begun) = (AtomicBool::new(false), Barrier::new(2));
    let replaced = std::thread::scope(|scope| {
        let daemon = scope.spawn(|| {
            let mut replaced = 0;
            while !done.load(Ordering::Relaxed) {
                replaced += 1;
                daemon.apply(&version(replaced)).unwrap();
                if replaced == 1 {
                    begun.wait();
                }
            }
            replaced
        });
        // Not before the daemon has had its first turn.
        begun.wait();
        for pod in 0..PODS {
            plugin.add_elements(TABLE, &owners(), &[owner(pod)]).unwrap();
            if pod % 2 == 1 {
                plugin.delete_elements(TABLE, &owners(), &[owner(pod)]).unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
        daemon.join().unwrap()
    });
    assert!(replaced > 0);
    let mut wanted: Vec<Element> = (0..PODS).step_by(2).map(owner).collect();
    wanted.sort();
    assert_eq!(plugin.elements(TABLE, &owners()).unwrap(), wanted);
    assert_eq!(plugin.drift(&version(replaced)).unwrap(), vec![]);
}

#[test]
fn a_refused_ruleset_leaves_the_old_one() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        nft.apply(&usual_masquerade()).unwrap();
        let before = run("nft list ruleset");
        let broken =
            filter(vec![Rule::of([Statement::Counter]), Rule::of([Verdict::Jump("nowhere".into()).into()])]);
        nft.apply(&broken).unwrap_err();
        assert_eq!(run("nft list ruleset"), before);
    });
}

#[test]
fn the_generation_counts_everyones_transactions() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        let before = nft.generation().unwrap();
        run("nft add table ip other");
        assert_ne!(nft.generation().unwrap(), before);
    });
}
