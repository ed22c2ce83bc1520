//! ADD and DEL are stopped at every single system call, by an error and by SIGKILL.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, print, trials};
use netns_testbed::Node;
use nix::errno::Errno;
use serde_json::Value;

use super::bed::{checking, collect_all, command, full_conf, on_orphaned_node, same, times, traces};
use super::trace::{CAN_FAIL, Calls, Fault, Traced, run};
use crate::cni::support::{Sandbox, add, call, del, silent};

pub fn trials() -> Vec<Trial> {
    trials![
        an_add_killed_at_any_call_is_undone_by_del => [Need::Program("nft")],
        an_add_killed_at_any_call_is_undone_by_the_collector => [Need::Program("nft")],
        an_add_killed_at_any_call_can_be_repeated => [Need::Program("nft")],
        an_add_whose_calls_fail_leaves_nothing => [Need::Program("nft")],
        an_add_that_can_undo_nothing_is_undone_by_del => [Need::Program("nft")],
        an_add_that_can_undo_nothing_is_undone_by_the_collector => [Need::Program("nft")],
        a_del_killed_at_any_call_can_be_repeated => [Need::Program("nft")],
        a_del_killed_at_any_call_is_finished_by_the_collector => [Need::Program("nft")],
        a_del_whose_calls_fail_can_be_repeated => [Need::Program("nft")],
    ]
}

/// Stops a verb at one call after the other, until it makes no more.
fn at_every_call(
    node: &Node,
    verb: &str,
    sandbox: &Sandbox,
    fault: Fault,
    mut before: impl FnMut() -> Result<()>,
    mut after: impl FnMut(&Traced) -> Result<()>,
) -> Result<()> {
    let which = match fault {
        _ if times(0, 1) == 1 => Calls::All,
        Fault::Kill | Fault::Errors(_) => Calls::Changing,
        Fault::Error(_) => Calls::Asking,
    };
    for at in 0.. {
        before()?;
        let traced = run(
            command(node, verb, &sandbox.attachment),
            full_conf().to_string().as_bytes(),
            fault,
            which,
            at,
        )?;
        after(&traced).with_context(|| format!("{verb} with {fault:?} at {traced:?}"))?;
        if traced.hit.is_none() {
            ensure!(traced.code == Some(0), "the last run was disturbed by nothing: {traced:?}");
            // Enough for the netlink conversations alone; fewer would mean that nothing was traced.
            ensure!(at > 15, "only {at} calls were seen");
            print(&format!("faults: {verb} met {fault:?} at each of {at} calls"));
            return Ok(());
        }
    }
    Ok(())
}

fn clean(before: &BTreeSet<String>, node: &Node, sandbox: &Sandbox) -> Result<()> {
    same(before, &traces(node, sandbox)?)
}

fn begin(node: &Node) -> Result<(Sandbox, BTreeSet<String>)> {
    let sandbox = Sandbox::new(node, "c1")?;
    let before = traces(node, &sandbox)?;
    Ok((sandbox, before))
}

fn an_add_killed_at_any_call_is_undone_by_del() -> Result<()> {
    on_orphaned_node("", |node| {
        let (sandbox, before) = begin(node)?;
        at_every_call(node, "ADD", &sandbox, Fault::Kill, nothing, |_| {
            del(node, &sandbox.attachment, &full_conf())?;
            clean(&before, node, &sandbox)
        })
    })
}

fn an_add_killed_at_any_call_is_undone_by_the_collector() -> Result<()> {
    on_orphaned_node("", |node| {
        let (sandbox, before) = begin(node)?;
        at_every_call(node, "ADD", &sandbox, Fault::Kill, nothing, |traced| {
            collect_all(node)?;
            if traces(node, &sandbox)? != before {
                // Killed after everything was done, the record included.
                goes_with_its_namespace(node, &sandbox, &before, traced)?;
            }
            clean(&before, node, &sandbox)
        })
    })
}

fn an_add_that_can_undo_nothing_is_undone_by_del() -> Result<()> {
    can_fail()?;
    on_orphaned_node("", |node| {
        let (sandbox, before) = begin(node)?;
        let fault = Fault::Errors(Errno::EIO);
        at_every_call(node, "ADD", &sandbox, fault, nothing, |_| {
            del(node, &sandbox.attachment, &full_conf())?;
            clean(&before, node, &sandbox)
        })
    })
}

fn an_add_that_can_undo_nothing_is_undone_by_the_collector() -> Result<()> {
    can_fail()?;
    on_orphaned_node("", |node| {
        let (sandbox, before) = begin(node)?;
        let fault = Fault::Errors(Errno::EIO);
        at_every_call(node, "ADD", &sandbox, fault, nothing, |traced| {
            collect_all(node)?;
            if traces(node, &sandbox)? != before {
                // It was complete when its result could not be written.
                goes_with_its_namespace(node, &sandbox, &before, traced)?;
            }
            clean(&before, node, &sandbox)
        })
    })
}

/// Before the first call of every round there is nothing to do.
fn nothing() -> Result<()> {
    Ok(())
}

/// What is left is an attachment like any other, except that its runtime did not hear of it. When
/// the namespace goes from its path and the interface with it, so does the rest.
fn goes_with_its_namespace(
    node: &Node,
    sandbox: &Sandbox,
    before: &BTreeSet<String>,
    traced: &Traced,
) -> Result<()> {
    check_alive(node, sandbox, traced)?;
    sandbox.namespace.ip("link del eth0")?;
    collect_all(node)?;
    clean(before, node, sandbox)
}

/// What is left is whole: the same ADD says that it is there already.
fn check_alive(node: &Node, sandbox: &Sandbox, traced: &Traced) -> Result<()> {
    let answer = call(node, "ADD", &sandbox.attachment, &full_conf())?;
    let text = answer.json()?["msg"].as_str().unwrap_or_default().to_owned();
    ensure!(text.contains("is attached already"), "{text} after {traced:?}");
    Ok(())
}

fn an_add_killed_at_any_call_can_be_repeated() -> Result<()> {
    on_orphaned_node("", |node| {
        let (sandbox, before) = begin(node)?;
        at_every_call(node, "ADD", &sandbox, Fault::Kill, nothing, |traced| {
            let answer = call(node, "ADD", &sandbox.attachment, &full_conf())?;
            if !answer.success() {
                let text = answer.json()?["msg"].as_str().unwrap_or_default().to_owned();
                ensure!(text.contains("is attached already"), "{text} after {traced:?}");
            }
            del(node, &sandbox.attachment, &full_conf())?;
            clean(&before, node, &sandbox)
        })
    })
}

fn can_fail() -> Result<()> {
    if !CAN_FAIL {
        bail!("calls cannot be made to fail on this kind of machine");
    }
    Ok(())
}

fn an_add_whose_calls_fail_leaves_nothing() -> Result<()> {
    can_fail()?;
    on_orphaned_node("", |node| {
        let (sandbox, before) = begin(node)?;
        at_every_call(node, "ADD", &sandbox, Fault::Error(Errno::EIO), nothing, |traced| {
            match traced.code {
                // It could do without.
                Some(0) => {
                    let result: Value = serde_json::from_str(&traced.stdout).context("its result")?;
                    let check = call(node, "CHECK", &sandbox.attachment, &checking(&full_conf(), &result))?;
                    silent(&check).context("CHECK")?;
                    del(node, &sandbox.attachment, &full_conf())?;
                }
                Some(_) => {}
                // The run-time library gives up without memory.
                None => del(node, &sandbox.attachment, &full_conf())?,
            }
            clean(&before, node, &sandbox)
        })
    })
}

fn a_del_killed_at_any_call_can_be_repeated() -> Result<()> {
    on_orphaned_node("", |node| {
        let (sandbox, before) = begin(node)?;
        let attach = || add(node, &sandbox.attachment, &full_conf()).map(drop);
        at_every_call(node, "DEL", &sandbox, Fault::Kill, attach, |_| {
            del(node, &sandbox.attachment, &full_conf())?;
            clean(&before, node, &sandbox)
        })
    })
}

fn a_del_killed_at_any_call_is_finished_by_the_collector() -> Result<()> {
    on_orphaned_node("", |node| {
        let (sandbox, before) = begin(node)?;
        let attach = || add(node, &sandbox.attachment, &full_conf()).map(drop);
        at_every_call(node, "DEL", &sandbox, Fault::Kill, attach, |traced| {
            let removed = collect_all(node)?;
            if traces(node, &sandbox)? == before {
                return Ok(());
            }
            // Killed before the interface went: to others, that is an attachment which lives.
            ensure!(removed.removed.is_empty(), "{removed:?} after {traced:?}");
            del(node, &sandbox.attachment, &full_conf())?;
            clean(&before, node, &sandbox)
        })
    })
}

fn a_del_whose_calls_fail_can_be_repeated() -> Result<()> {
    can_fail()?;
    on_orphaned_node("", |node| {
        let (sandbox, before) = begin(node)?;
        let attach = || add(node, &sandbox.attachment, &full_conf()).map(drop);
        at_every_call(node, "DEL", &sandbox, Fault::Error(Errno::EIO), attach, |traced| {
            if traced.code != Some(0) {
                del(node, &sandbox.attachment, &full_conf())?;
            }
            clean(&before, node, &sandbox)
        })
    })
}
