//! What the commands gather, and the report that follows from it.

use serde::{Deserialize, Serialize};

use super::{Report, SCHEMA, Source, judge, kernel, pods};
use crate::cni::attachment::Record;
use crate::handoff::NodeFacts;
use crate::overlay::Observed;
use crate::probe::view::ProbeView;
use crate::state::{State, merge_probe};

/// Whether the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Running {
    /// It does, and answers.
    Yes,
    /// It does, and does not answer.
    Silent,
    /// It does not.
    No,
    /// It did not yet, as far as can be seen.
    Never,
    /// Only root can see that.
    Unknown,
}

/// Everything that a report follows from.
#[derive(Debug)]
pub struct Evidence {
    /// Now, in seconds since 1970-01-01T00:00:00Z.
    pub now: u64,
    /// Whether the daemon runs.
    pub running: Running,
    /// When it last gave a sign of life.
    pub last_sign: Option<u64>,
    /// What the daemon knows, and where that comes from.
    pub state: Option<(State, Source)>,
    /// The results of the probe, where they are newer than what the daemon left.
    pub probe: Option<ProbeView>,
    /// The facts that the daemon leaves for the plugin: what remains where there is no state.
    pub facts: Option<NodeFacts>,
    /// What the kernel holds, where it could be asked.
    pub kernel: Option<KernelEvidence>,
    /// The pods, or why they are not known.
    pub pods: Result<Vec<PodEvidence>, String>,
    /// What could not be found out, and why.
    pub unknown: Vec<String>,
}

/// What the kernel holds.
#[derive(Debug)]
pub struct KernelEvidence {
    /// The overlay.
    pub overlay: Observed,
    /// Whether the nft table is there; none where that cannot be told.
    pub table: Option<bool>,
}

/// What there is of a pod.
#[derive(Debug)]
pub struct PodEvidence {
    /// Its record.
    pub record: Record,
    /// Whether its ADD is done.
    pub ready: bool,
    /// Whether the host's end of its link is there; none where the kernel could not be asked.
    pub linked: Option<bool>,
}

/// The report.
pub fn report(evidence: Evidence) -> Report {
    let Evidence { now, running, last_sign, state, probe, facts, kernel, pods, unknown } = evidence;
    let (mut state, source) = match state {
        Some((state, source)) => (Some(state), source),
        None => (None, Source::Kernel),
    };
    if let (Some(state), Some(probe)) = (&mut state, probe)
        && probe.written > state.written
    {
        merge_probe(&mut state.peers, &probe);
    }
    let peers = kernel::peers(state.as_ref(), kernel.as_ref().map(|k| &k.overlay));
    let (pods, pods_unknown) = match pods {
        Ok(pods) => (pods, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let mut report = Report {
        schema: SCHEMA,
        taken: now,
        verdict: super::Verdict::Well,
        warnings: Vec::new(),
        source,
        running,
        last_sign,
        written: state.as_ref().map(|s| s.written),
        daemon: None,
        cluster: facts.map(|f| f.cluster),
        readiness: None,
        node: None,
        plan: None,
        device: None,
        kernel: kernel.as_ref().map(|k| kernel::summary(k, state.as_ref())),
        dns: None,
        registration: None,
        peers,
        ignored_more: 0,
        probe: None,
        pods: pods.into_iter().map(pods::pod).collect(),
        pods_unknown,
        repairs: None,
        rounds: None,
    };
    report.pods.sort_by(|a, b| (&a.name, &a.container).cmp(&(&b.name, &b.container)));
    let mut troubles = Vec::new();
    if let Some(state) = state {
        troubles = state.troubles;
        report.daemon = Some(state.daemon);
        report.cluster = Some(state.cluster);
        report.readiness = Some(state.readiness);
        report.node = state.node;
        report.plan = state.plan;
        report.device = state.device;
        report.dns = Some(state.dns);
        report.registration = state.registration;
        report.ignored_more = state.ignored_more;
        report.probe = state.probe;
        report.repairs = Some(state.repairs);
        report.rounds = Some(state.rounds);
    }
    judge::judge(&mut report, troubles, unknown);
    report
}
