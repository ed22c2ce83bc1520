//! ADD where many addresses are taken already.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use minionet_core::cni::attachment::{Id, Key};
use minionet_core::cni::ipam::Space;
use minionet_core::constants::RUN_DIR;
use minionet_core::handoff::{FILE, NodeFacts};
use minionet_pods::store::Store;
use netns_testbed::Namespace;

use super::Bench;
use super::add::adds;
use crate::finding::{Finding, Findings, Plot, Series, Target};
use crate::stats::Summary;
use crate::subjects::{Reference, Subject, with_pods};

/// How many leases are held.
const HELD: [usize; 4] = [1, 100, 1000, 10_000];
/// How often each is called.
const ROUNDS: usize = 30;
/// The plugin alone, for room for 16381 pods; the daemon never looks at leases without a pod.
const CONFIG: &str = "node_networks = [\"172.20.0.0/24\"]\npod_network = \"10.0.0.0/8\"\nnode_prefix = 18\ncollect_interval = \"1h\"";

/// The row.
pub fn run(bench: &Bench) -> Result<Findings> {
    let mut subjects = Vec::new();
    for held in HELD {
        let ours = Subject::minionet(&bench.programs, CONFIG)?;
        hold(ours.host(), held)?;
        subjects.push(ours);
        let theirs = Subject::reference(Reference::Bridge)?;
        hold_reference(theirs.host(), held)?;
        subjects.push(theirs);
    }
    let samples = adds(&mut with_pods(subjects, 1)?, bench.rounds(ROUNDS), Duration::ZERO)?;
    let side = |name: &str, offset: usize| Series {
        name: name.into(),
        points: HELD
            .iter()
            .zip(samples.iter().skip(offset).step_by(2))
            .map(|(held, samples)| (*held as f64, Summary::of(samples)))
            .collect(),
    };
    let plot = Plot {
        name: "leases",
        title: "ADD with leases held".into(),
        x: "leases held",
        y: "ms",
        series: vec![side("minionet", 0), side("bridge + host-local", 1)],
    };
    let (first, last) = (0, 2 * (HELD.len() - 1));
    let growth = |who: &str, target, offset: usize| {
        let many = format!("{who}, {} leases", HELD[HELD.len() - 1]);
        let few = format!("{who}, {} lease", HELD[0]);
        let what = format!("{many} against {}", HELD[0]);
        let sides = ((&*many, &samples[last + offset][..]), (&*few, &samples[first + offset][..]));
        Finding::ratio(&what, target, "ms", sides.0, sides.1)
    };
    let findings =
        vec![growth("minionet", Target::AtMost(1.3), 0), growth("bridge + host-local", Target::None, 1)];
    Ok(Findings { findings, plots: vec![plot] })
}

/// Takes leases as ADD does, through the store's own lock and queue; there is no pod behind them.
fn hold(host: &Namespace, count: usize) -> Result<()> {
    host.run(|| -> Result<()> {
        let facts = std::fs::read_to_string(Path::new(RUN_DIR).join(FILE)).context("the node's facts")?;
        let space = Space::new(&NodeFacts::parse(&facts)?.blocks);
        let store = Store::new(RUN_DIR);
        store.probe()?;
        let mut locked = store.lock()?;
        for number in 0..count {
            let id = id(number);
            let chosen = locked.choose(&space, &[])?;
            locked.take(&chosen, id)?;
            // A lease whose attachment has no record is free.
            let record = Path::new(RUN_DIR).join("attachments").join(format!("{id}.json"));
            std::fs::write(record, "{}")?;
        }
        Ok(())
    })?
}

fn id(number: usize) -> Id {
    let (network, container) = ("held".to_owned(), format!("{number:064x}"));
    Key { network, container, ifname: "eth0".to_owned() }.id()
}

/// Leaves the files of host-local that tell of as many leases.
fn hold_reference(host: &Namespace, count: usize) -> Result<()> {
    host.run(|| -> Result<()> {
        let directory = Path::new("/var/lib/cni/networks/bench");
        std::fs::create_dir_all(directory)?;
        for number in 0..count {
            let address = std::net::Ipv4Addr::from_bits(0x0a58_0002 + number as u32);
            std::fs::write(directory.join(address.to_string()), format!("{number:064x}\r\neth0"))?;
            if number + 1 == count {
                std::fs::write(directory.join("last_reserved_ip.0"), address.to_string())?;
            }
        }
        Ok(())
    })?
}
