//! Many calls at once: runtimes take turns per container only.

use std::collections::BTreeSet;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::Node;
use netns_testbed::cni::{Attachment, CniAnswer};
use serde_json::{Value, json};

use super::support::*;

pub fn trials() -> Vec<Trial> {
    trials![
        a_hundred_at_once => [Need::Program("nft")],
        a_pool_of_exactly_as_many_serves_all => [Need::Program("nft")],
        one_of_many_equal_calls_wins => [Need::Program("nft")],
        deletions_of_one_attachment_all_succeed => [Need::Program("nft")],
    ]
}

/// Does something for every item at the same time.
fn at_once<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(move || work(item))).collect();
        let results =
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?);
        results.collect()
    })
}

fn sandboxes(node: &Node, count: usize) -> Result<Vec<Sandbox>> {
    (0..count).map(|number| Sandbox::new(node, &format!("c{number}"))).collect()
}

fn differ(results: &[Value], families: usize) -> Result<()> {
    let mut all = BTreeSet::new();
    for result in results {
        all.extend(addresses(result)?);
    }
    ensure!(all.len() == results.len() * families, "{} of {}", all.len(), results.len());
    Ok(())
}

/// Case 84.
fn a_hundred_at_once() -> Result<()> {
    on_dual_stack_node(|node| {
        let before = HostState::of(node)?;
        let sandboxes = sandboxes(node, 100)?;
        let results = at_once(&sandboxes, |sandbox| add(node, &sandbox.attachment, &conf("1.1.0")))?;
        differ(&results, 2)?;
        at_once(&sandboxes, |sandbox| del(node, &sandbox.attachment, &conf("1.1.0")))?;
        for sandbox in &sandboxes {
            sandbox.has(&["lo"])?;
        }
        before.returns(node)
    })
}

/// Thirteen addresses.
const SMALL: &str = "node_prefix = 28\nnode_networks = \"172.20.0.0/24\"\npod_network = \"10.32.0.0/16\"";

/// Case 85: no address twice, and no exhaustion that is none; each that is deleted makes room
/// for one that comes.
fn a_pool_of_exactly_as_many_serves_all() -> Result<()> {
    on_node_with(SMALL, |node| {
        let before = HostState::of(node)?;
        let sandboxes = sandboxes(node, 26)?;
        let (mut inside, mut outside) = sandboxes.split_at(13);
        let results = at_once(inside, |sandbox| add(node, &sandbox.attachment, &conf("1.1.0")))?;
        differ(&results, 1)?;
        for _ in 0..6 {
            let pairs: Vec<_> = inside.iter().zip(outside).collect();
            let results = at_once(&pairs, |(leaving, coming)| {
                del(node, &leaving.attachment, &conf("1.1.0"))?;
                add(node, &coming.attachment, &conf("1.1.0"))
            })?;
            differ(&results, 1)?;
            std::mem::swap(&mut inside, &mut outside);
        }
        at_once(inside, |sandbox| del(node, &sandbox.attachment, &conf("1.1.0")))?;
        before.returns(node)
    })
}

/// Two runtimes, or one that was restarted: the others are told to try again, or that it is done.
fn one_of_many_equal_calls_wins() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        for round in 0..5 {
            let sandbox = Sandbox::new(node, &format!("c{round}"))?;
            let copies: Vec<Attachment> = (0..8).map(|_| sandbox.attachment.clone()).collect();
            let answers: Vec<CniAnswer> = at_once(&copies, |copy| call(node, "ADD", copy, &conf("1.1.0")))?;
            let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(CniAnswer::success);
            ensure!(won.len() == 1, "{} calls succeeded", won.len());
            for answer in &lost {
                fails_any(answer, &[11, 112], &[])?;
            }
            let won = address(&succeeded(&won[0])?)?;
            let has = sandbox.namespace.exec(["ip", "-o", "address", "show", "dev", "eth0"])?;
            ensure!(has.contains(&won), "{has} lacks {won}");
            del(node, &sandbox.attachment, &conf("1.1.0"))?;
            before.returns(node)?;
        }
        Ok(())
    })
}

/// As when the runtime and a person clean up at once; meanwhile another container comes.
fn deletions_of_one_attachment_all_succeed() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        for round in 0..5 {
            let sandbox = Sandbox::new(node, &format!("c{round}"))?;
            let other = Sandbox::new(node, &format!("d{round}"))?;
            add(node, &sandbox.attachment, &conf("1.1.0"))?;
            let mut calls: Vec<_> = (0..8).map(|_| ("DEL", sandbox.attachment.clone())).collect();
            calls.push(("ADD", other.attachment.clone()));
            let answers =
                at_once(&calls, |(verb, attachment)| call(node, verb, attachment, &conf_with(json!({}))))?;
            for (answer, (verb, _)) in answers.iter().zip(&calls) {
                ensure!(answer.success(), "{verb}: {:?}", texts(answer));
            }
            sandbox.has(&["lo"])?;
            other.has(&["lo", "eth0"])?;
            del(node, &other.attachment, &conf("1.1.0")).context("DEL of the other")?;
            before.returns(node)?;
        }
        Ok(())
    })
}
