//! What a host has, so that "nothing is left" can be said of all of it.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use netns_testbed::{Namespace, Node, eventually};

use super::PATIENT;

/// Everything on a node that an attachment could have changed.
#[derive(Debug, PartialEq, Eq)]
pub struct HostState {
    facts: BTreeSet<String>,
}

impl HostState {
    /// Looks at the node.
    pub fn of(node: &Node) -> Result<Self> {
        let mut facts: BTreeSet<String> =
            link_names(node)?.into_iter().map(|n| format!("link {n}")).collect();
        let commands: [&[&str]; 5] = [
            &["ip", "-4", "route", "show", "table", "all"],
            &["ip", "-6", "route", "show", "table", "all"],
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
                facts.insert(format!("{} {} {above}: {}", command[0], command[1], line.trim()));
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

/// The names of the interfaces of a namespace.
pub fn link_names(namespace: &Namespace) -> Result<Vec<String>> {
    let list = namespace.exec(["ip", "-o", "link", "show"])?;
    let name = |line: &str| {
        let name = line.split(": ").nth(1)?;
        Some(name.split('@').next().unwrap_or(name).to_owned())
    };
    Ok(list.lines().filter_map(name).collect())
}
