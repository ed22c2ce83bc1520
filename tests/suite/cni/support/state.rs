//! What a host has, so that "nothing is left" can be said of all of it.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use netns_testbed::{Namespace, Node, eventually};

use super::PATIENT;

/// Everything on a node that an attachment could have changed.
///
/// What the kernel does by itself is left out, as it does so a moment later: link-local addresses
/// come, routes of IPv6 addresses follow them, neighbours grow old.
#[derive(Debug, PartialEq, Eq)]
pub struct HostState {
    facts: BTreeSet<String>,
}

impl HostState {
    /// Looks at the node.
    pub fn of(node: &Node) -> Result<Self> {
        let mut facts: BTreeSet<String> =
            link_names(node)?.into_iter().map(|n| format!("link {n}")).collect();
        let commands: [&[&str]; 6] = [
            &["ip", "-4", "route", "show", "table", "all"],
            &["ip", "-6", "route", "show", "table", "all"],
            // Instead of the routes that the kernel makes of them.
            &["ip", "-6", "-o", "address", "show", "scope", "global"],
            &["ip", "neigh", "show", "proto", "110"],
            &["nft", "--stateless", "list", "ruleset"],
            // The queue of free addresses, the locks and what the daemon writes are no trace of
            // an attachment.
            &["find", "/run/minionet", "-mindepth", "2"],
        ];
        for command in commands {
            let mut above = String::new();
            for line in node.exec(command)?.lines() {
                // The lines of a rule set mean something only below their headings.
                if line.ends_with('{') {
                    above = line.trim().to_owned();
                }
                if let Some(line) = lasting(line) {
                    facts.insert(format!("{} {} {above}: {line}", command[0], command[1]));
                }
            }
        }
        Ok(Self { facts })
    }

    /// Waits until the node is again as it was; the daemon may have the last links to destroy.
    pub fn returns(&self, node: &Node) -> Result<()> {
        Ok(eventually(&format!("{} to be as before", node.name()), PATIENT, || self.is_that_of(node))?)
    }

    /// Whether the node is as it was, right now.
    pub fn is_that_of(&self, node: &Node) -> Result<()> {
        let now = Self::of(node)?;
        let more: Vec<_> = now.facts.difference(&self.facts).collect();
        let less: Vec<_> = self.facts.difference(&now.facts).collect();
        ensure!(more.is_empty() && less.is_empty(), "left behind: {more:#?}; missing: {less:#?}");
        Ok(())
    }
}

/// A line without what passes: routes to link-local and IPv6 addresses that the kernel makes, and
/// the words for states that follow from events.
fn lasting(line: &str) -> Option<String> {
    const KERNEL: [&str; 4] = ["local ", "anycast ", "multicast ff00::/8 ", "fe80:"];
    const PASSING: [&str; 9] =
        ["tentative", "linkdown", "dead", "REACHABLE", "STALE", "DELAY", "PROBE", "INCOMPLETE", "FAILED"];
    // A route of IPv4 is there as soon as its address is.
    if line.contains("proto kernel") && line.contains(':') && KERNEL.iter().any(|kind| line.starts_with(kind))
    {
        return None;
    }
    let words = line.split_whitespace().filter(|word| !PASSING.contains(word));
    Some(words.collect::<Vec<_>>().join(" "))
}

/// The names of the interfaces of a namespace.
pub fn link_names(namespace: &Namespace) -> Result<Vec<String>> {
    let list = namespace.exec(["ip", "-o", "link", "show"])?;
    let name = |line: &str| {
        let name = line.split(": ").nth(1)?;
        Some(name.split('@').next().unwrap_or(name).to_owned())
    };
    Ok(list.lines().filter_map(name).collect())
}
