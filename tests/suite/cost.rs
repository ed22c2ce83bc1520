//! What things cost, counted instead of timed: a count is the same on every machine, however busy.
//!
//! The bounds are generous. Whoever has to raise one knows what has become dearer.

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use minionet_core::addr::Family;
use minionet_core::constants::{DEVICE, NFT_TABLE, ROUTE_PROTOCOL_PEER};
use minionet_netlink::Socket;
use minionet_netlink::link::Which;
use minionet_netlink::monitor::{Interest, Monitor, Source};
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, Node, eventually};

use crate::cni::support::{
    PATIENT, Sandbox, conf, on_dual_stack_node, on_node, routes_are_known, rules_are_known,
};
use crate::pods::bed::command;
use crate::pods::trace::{Calls, count};

pub fn trials() -> Vec<Trial> {
    trials![
        calls_of_the_plugin => [Need::Program("nft")],
        calls_of_the_plugin_for_both_families => [Need::Program("nft")],
        calls_are_as_many_with_a_hundred_pods => [Need::Program("nft")],
        an_audit_with_nothing_to_do_changes_nothing => [Need::Program("nft")],
    ]
}

/// The most system calls of a verb that ask anything of the world, the most datagrams to the kernel
/// among them, and how often it asks the kernel for memory at the most.
type Bounds = (&'static str, usize, usize, usize);

/// How often each verb is counted at the most, until it is within its bounds: what a busy machine
/// makes a call repeat is no cost of its own.
const ATTEMPTS: usize = 10;

/// Of these, some ten calls are the start and the end of any program. For memory the count is beside
/// what [`start`] finds: with musl each is a heap that grows by 64 KiB.
const IPV4: [Bounds; 4] =
    [("VERSION", 16, 0, 0), ("STATUS", 75, 8, 12), ("ADD", 90, 6, 2), ("DEL", 95, 5, 2)];
/// A second family costs a look at two settings and at the address, and no conversation for each
/// object.
const BOTH: [Bounds; 2] = [("ADD", 130, 8, 2), ("DEL", 98, 5, 2)];

/// Makes one call of each verb; every one succeeds and stays within its bounds.
fn within(node: &Node, bounds: &[Bounds]) -> Result<()> {
    eventually("the daemon to say how many rules there are", PATIENT, || rules_are_known(node))?;
    for which in [Calls::Asking, Calls::Sending, Calls::Allocating] {
        let start = if which == Calls::Allocating { start(node)? } else { 0 };
        let most = |bounds: &Bounds| match which {
            Calls::Sending => bounds.2,
            Calls::Allocating => start + bounds.3,
            _ => bounds.1,
        };
        let mut least = vec![usize::MAX; bounds.len()];
        for attempt in 0..ATTEMPTS {
            if bounds.iter().zip(&least).all(|(bounds, made)| *made <= most(bounds)) {
                break;
            }
            // Another each time: what DEL leaves to the daemon would be in the way of the next ADD.
            let sandbox = Sandbox::new(node, &format!("{which:?}{attempt}"))?;
            for ((verb, ..), least) in bounds.iter().zip(&mut least) {
                *least = made(node, verb, &sandbox, which)?.min(*least);
            }
        }
        for (bounds, made) in bounds.iter().zip(least) {
            let (verb, most) = (bounds.0, most(bounds));
            ensure!(made <= most, "{verb} makes {made} calls ({which:?}), and {most} are the limit");
        }
    }
    Ok(())
}

/// How often memory is asked for before anything is done, which depends on the C library.
fn start(node: &Node) -> Result<usize> {
    let sandbox = Sandbox::new(node, "start")?;
    let made = made(node, "VERSION", &sandbox, Calls::Allocating)?;
    ensure!(made <= 7, "the start takes memory {made} times");
    Ok(made)
}

/// How many calls a verb makes that succeeds.
fn made(node: &Node, verb: &str, sandbox: &Sandbox, which: Calls) -> Result<usize> {
    let input = conf("1.1.0").to_string();
    let traced = count(command(node, verb, &sandbox.attachment), input.as_bytes(), which)?;
    ensure!(traced.code == Some(0), "{verb}: {traced:?}");
    ensure!(traced.calls > 2 || which != Calls::Asking, "nothing was counted: {traced:?}");
    // How often ADD looks whether the kernel's work queue has run is a matter of time. Each look
    // after a pause is a question, its answer, and at most the end of the answer.
    let look = match which {
        Calls::Sending => 1,
        Calls::Allocating => 0,
        _ => 3,
    };
    Ok(traced.calls.saturating_sub(look * traced.pauses))
}

fn calls_of_the_plugin() -> Result<()> {
    on_node(|node| within(node, &IPV4))
}

fn calls_of_the_plugin_for_both_families() -> Result<()> {
    on_dual_stack_node(|node| within(node, &BOTH))
}

/// What ADD and DEL cost does not grow with the number of pods.
fn calls_are_as_many_with_a_hundred_pods() -> Result<()> {
    on_node(|node| {
        // The first call of a node also makes what all later ones find.
        let both = |name: &str| -> Result<[usize; 2]> {
            let sandbox = Sandbox::new(node, name)?;
            let add = made(node, "ADD", &sandbox, Calls::Asking)?;
            Ok([add, made(node, "DEL", &sandbox, Calls::Asking)?])
        };
        both("first")?;
        let before = both("before")?;
        for number in 0..100 {
            node.add_pod(&format!("pod{number}"))?;
        }
        let mut after = [usize::MAX; 2];
        for attempt in 0..ATTEMPTS {
            for (least, made) in after.iter_mut().zip(both(&format!("after{attempt}"))?) {
                *least = made.min(*least);
            }
            if before.iter().zip(&after).all(|(before, after)| *after <= before + 3) {
                return Ok(());
            }
        }
        bail!("calls of ADD and DEL: {before:?} without other pods, {after:?} with a hundred")
    })
}

/// Many looks at everything, and the kernel has nothing to tell of.
fn an_audit_with_nothing_to_do_changes_nothing() -> Result<()> {
    let builder = Cluster::builder("cncfdemo").nodes(2).config("audit_interval = \"1s\"");
    builder.run(|cluster| {
        let node = cluster.node(0);
        let routes = |node: &Node| -> Result<usize> {
            let routes = node.run(|| Socket::open()?.routes(Family::V4, ROUTE_PROTOCOL_PEER))??;
            Ok(routes.iter().filter(|route| route.gateway.is_some()).count())
        };
        eventually("the peer to be programmed", PATIENT, || {
            let routes = routes(node)?;
            ensure!(routes == 1, "{routes} routes");
            // With the one that refuses what no node owns. It tells of them after its last change.
            routes_are_known(node, 2)?;
            rules_are_known(node)
        })?;
        let device = node.run(|| Socket::open()?.link(Which::Name(DEVICE)))??.context("the device")?;
        let interest = Interest {
            device: DEVICE.into(),
            links: vec![device.index],
            protocol: ROUTE_PROTOCOL_PEER,
            table: NFT_TABLE.into(),
            chains: Vec::new(),
            ..Interest::default()
        };
        let mut monitors = node.run(|| {
            [Source::Route, Source::Nft].into_iter().map(Monitor::open).collect::<Result<Vec<_>, _>>()
        })??;
        // Two questions a second, and an audit.
        let queries = cluster.dns().queries().udp;
        eventually("more questions", PATIENT, || {
            let more = cluster.dns().queries().udp - queries;
            ensure!(more >= 12, "{more} questions");
            Ok::<_, anyhow::Error>(())
        })?;
        for monitor in &mut monitors {
            let noticed = monitor.drain(&interest)?;
            ensure!(!noticed.changed, "somebody changed what was right: {noticed:?}");
        }
        // Somebody who does change something is heard.
        node.ip(&format!("route del 10.32.2.0/24 proto {ROUTE_PROTOCOL_PEER}"))?;
        eventually("the change to be heard", PATIENT, || {
            ensure!(monitors[0].drain(&interest)?.changed, "nothing was heard");
            Ok::<_, anyhow::Error>(())
        })?;
        Ok(())
    })
}
