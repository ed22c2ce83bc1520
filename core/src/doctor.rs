//! The doctor: from facts about a node to findings, each with what to do.
//!
//! The shell gathers [`Facts`], as far as it can; every topic is a pure function from them to
//! findings. What could not be gathered is a finding too, and hinders no other check.
//!
//! | module | what it judges |
//! |---|---|
//! | [`config`] | settings, plan, and room for pods |
//! | [`daemon`] | the daemon, and the clock |
//! | [`dns`] | every resolver |
//! | [`registration`] | the own record in DNS, where the node keeps it itself |
//! | [`node`] | own address, interface, device |
//! | [`tables`] | what the kernel holds for every peer, and the nft table |
//! | [`path`] | whether peers are reached, on the underlay and through the tunnel |
//! | [`kernel`] | forwarding, filters, other programs' rules |
//! | [`host`] | network managers and firewalls |
//! | [`cni`] | configurations and plugin |
//! | [`pods`] | leases and links |
//! | [`kube`] | kubelet and kube-proxy |
//!
//! # Architecture invariants
//! * On a healthy node no finding is worse than [`Verdict::Ok`], and what does not exist there is
//!   skipped silently.
//! * Every finding carries the id of one of [`CHECKS`]; every one that is worse than a note has a
//!   remedy.

mod catalogue;
pub mod cni;
pub mod config;
pub mod daemon;
pub mod dns;
pub mod facts;
pub mod host;
pub mod kernel;
pub mod kube;
pub mod node;
pub mod path;
pub mod pods;
pub mod registration;
pub mod tables;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

pub use self::catalogue::{CHECKS, Check};
pub use self::facts::Facts;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to examine, or it cannot be examined now.
    Skipped,
    /// All is well.
    Ok,
    /// Worth knowing, and no fault.
    Note,
    /// Something may go wrong, or goes wrong for some.
    Warning,
    /// Something does not work.
    Error,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Skipped => "skipped",
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Warning => "warning",
            Verdict::Error => "error",
        })
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The id of the check.
    pub check: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// What is so.
    pub finding: String,
    /// What to do; none where nothing is to be done.
    pub remedy: Option<String>,
}

/// What the examination found, in the order of [`CHECKS`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of the findings.
    pub verdict: Verdict,
    /// At least one for each check.
    pub findings: Vec<Finding>,
}

/// Examines a node.
pub fn examine(facts: &Facts) -> Report {
    let mut findings = Findings::default();
    config::examine(facts, &mut findings);
    daemon::examine(facts, &mut findings);
    dns::examine(facts, &mut findings);
    registration::examine(facts, &mut findings);
    node::examine(facts, &mut findings);
    tables::examine(facts, &mut findings);
    path::examine(facts, &mut findings);
    kernel::examine(facts, &mut findings);
    host::examine(facts, &mut findings);
    cni::examine(facts, &mut findings);
    pods::examine(facts, &mut findings);
    kube::examine(facts, &mut findings);
    findings.report()
}

/// Findings as they are made.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// All is well.
    pub fn ok(&mut self, check: &'static str, finding: impl Into<String>) {
        self.add(check, Verdict::Ok, finding.into(), None);
    }

    /// There is nothing to examine, or it cannot be.
    pub fn skipped(&mut self, check: &'static str, why: impl Into<String>) {
        self.add(check, Verdict::Skipped, why.into(), None);
    }

    /// Something worth knowing.
    pub fn note(&mut self, check: &'static str, finding: impl Into<String>) {
        self.add(check, Verdict::Note, finding.into(), None);
    }

    /// Something that may go wrong.
    pub fn warning(&mut self, check: &'static str, finding: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Verdict::Warning, finding.into(), Some(remedy.into()));
    }

    /// Something that does not work.
    pub fn error(&mut self, check: &'static str, finding: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Verdict::Error, finding.into(), Some(remedy.into()));
    }

    /// Whether a check has found something bad already.
    pub fn is_bad(&self, check: &str) -> bool {
        self.0.iter().any(|f| f.check == check && f.verdict >= Verdict::Warning)
    }

    /// Says that all is well with a check, unless it has found something.
    pub fn otherwise_ok(&mut self, check: &'static str, finding: impl Into<String>) {
        if !self.0.iter().any(|f| f.check == check) {
            self.ok(check, finding);
        }
    }

    fn add(&mut self, check: &'static str, verdict: Verdict, finding: String, remedy: Option<String>) {
        self.0.push(Finding { check, verdict, finding, remedy });
    }

    fn report(mut self) -> Report {
        let place = |finding: &Finding| CHECKS.iter().position(|check| check.id == finding.check);
        // Stable, so that findings of one check keep their order.
        self.0.sort_by_key(place);
        let verdict = self.0.iter().map(|f| f.verdict).max().unwrap_or(Verdict::Skipped).max(Verdict::Ok);
        Report { verdict, findings: self.0 }
    }
}

/// The first of some things, and how many more there are.
pub(crate) fn some(things: &[String]) -> String {
    /// So many are named.
    const NAMED: usize = 3;
    let named = things.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match things.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}, and {more} more"),
    }
}
