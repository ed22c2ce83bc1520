//! What is wrong, and how bad it is: every rule in one place.

use super::{PeerReport, Report, Running, Severity, Source, Verdict, Warning};
use crate::membership::Liveness;
use crate::probe::view::{Agreement, PathState, PeerProbe};
use crate::state::{Dns, Standing};
use crate::words::{ago, choose, count, few, span};

/// The share of requests without a reply from which on it is worth a warning, and the least number
/// of requests that say anything.
const LOSS: f64 = 0.1;
const LOSS_REQUESTS: u32 = 10;

/// So many repairs within so many seconds mean that somebody else manages the same objects.
const FIGHT: usize = 5;
const FIGHT_WINDOW: u64 = 600;

/// Adds the warnings and the verdict.
pub(super) fn judge(report: &mut Report, troubles: Vec<String>, unknown: Vec<String>) {
    let mut found = Findings::default();
    daemon(report, &mut found);
    kernel(report, &mut found);
    for trouble in troubles {
        // Of a daemon that has ended, its troubles may have ended as well.
        let old = report.source != Source::Daemon;
        found.warn(if old { format!("when it ended: {trouble}") } else { trouble });
    }
    if let Some(dns) = &report.dns {
        self::dns(dns, report.taken, &mut found);
    }
    peers(report, &mut found);
    pods(report, &mut found);
    repairs(report, &mut found);
    unknown.into_iter().for_each(|text| found.warn(text));
    found.0.sort_by_key(|warning| std::cmp::Reverse(warning.severity));
    report.verdict = match found.0.first().map(|warning| warning.severity) {
        Some(Severity::Failure) => Verdict::Failed,
        Some(Severity::Warning) => Verdict::Warnings,
        Some(Severity::Note) | None => Verdict::Well,
    };
    report.warnings = found.0;
}

#[derive(Default)]
struct Findings(Vec<Warning>);

impl Findings {
    fn add(&mut self, severity: Severity, text: String) {
        self.0.push(Warning { severity, text });
    }

    fn fail(&mut self, text: String) {
        self.add(Severity::Failure, text);
    }

    fn warn(&mut self, text: String) {
        self.add(Severity::Warning, text);
    }

    fn note(&mut self, text: String) {
        self.add(Severity::Note, text);
    }
}

fn daemon(report: &Report, found: &mut Findings) {
    let last = report.last_sign.map(|at| format!(" (last sign of life {})", ago(report.taken, at)));
    let last = last.unwrap_or_default();
    match report.running {
        Running::Yes => {}
        Running::Never => found.fail(
            "minionetd has never run since this host was started, or what it left was removed: start it, as in \
             systemctl start minionetd"
                .into(),
        ),
        Running::No => found.fail(format!(
            "minionetd is not running{last}: the overlay stays as it is, but nobody follows changes of the \
             cluster; start it, as in systemctl start minionetd"
        )),
        Running::Silent => found.fail(format!(
            "minionetd runs and does not answer{last}: see journalctl -u minionetd, and restart it"
        )),
        Running::Unknown => {
            found.warn(format!("whether minionetd runs can only be seen by root{last}: call this with sudo"));
        }
    }
    if report.running == Running::Yes
        && let Some(readiness) = report.readiness.as_ref().filter(|r| !r.ready)
    {
        found.fail(format!("the overlay is not formed: {}", readiness.lacks.join("; ")));
    }
}

fn kernel(report: &Report, found: &mut Findings) {
    let Some(kernel) = &report.kernel else { return };
    if kernel.device.is_none() {
        found.fail("the kernel has no device minionet: pods reach no other node".into());
    } else if !kernel.differences.is_empty() {
        found.fail(format!("the device minionet is not as it should be: {}", kernel.differences.join(", ")));
    }
    if kernel.table == Some(false) {
        found.fail(
            "the kernel has no nft table inet minionet: pods reach nothing outside, and strangers may send into \
             the overlay"
                .into(),
        );
    }
}

fn dns(dns: &Dns, now: u64, found: &mut Findings) {
    for name in dns.names.iter().filter(|name| name.failures > 0) {
        let failure = name.last_failure.as_ref().map(|f| format!(": {}: {}", f.kind, f.text));
        let since = name.last_success.map_or("never yet".to_owned(), |at| ago(now, at));
        found.warn(format!(
            "{} is not answered{} (last answer {since}); the peers stay as they are",
            name.name,
            failure.unwrap_or_default()
        ));
    }
    for name in dns.names.iter().filter(|name| name.failures == 0) {
        for resolver in name.resolvers.iter().filter(|resolver| resolver.lacking > 0) {
            found.warn(format!(
                "resolver {} lacks {} of {} that others have",
                resolver.resolver,
                count(resolver.lacking, "record"),
                name.name
            ));
        }
    }
    if let Some(since) = dns.own_missing_since {
        found.warn(format!(
            "DNS has not listed this node for {}: other nodes forget it, add its record",
            span(now.saturating_sub(since))
        ));
    }
    if let Some(mass) = dns.mass_hold {
        found.warn(format!(
            "{} of {} went missing from DNS at once: they are held for {}, as DNS may be wrong",
            mass.missing,
            count(mass.of, "peer"),
            span(dns.thresholds.mass_hold.as_secs())
        ));
    }
    if dns.sampling {
        found.warn(
            "a resolver answers with random samples: peers are removed only when dead by probe; use one that \
             gives all records"
                .into(),
        );
    }
    let alive: Vec<_> = dns.departed.iter().filter(|d| d.liveness == Liveness::Alive).collect();
    if !alive.is_empty() {
        found.note(format!(
            "removed because DNS does not list them any more, although they answered: {}",
            few(alive.iter().map(|d| d.address))
        ));
    }
}

fn peers(report: &Report, found: &mut Findings) {
    let select = |is: &dyn Fn(&PeerReport) -> bool| -> Vec<&PeerReport> {
        report.peers.iter().filter(|peer| is(peer)).collect()
    };
    let probed = |is: &dyn Fn(&PeerProbe) -> bool| select(&|p| p.peer.probe.as_ref().is_some_and(is));
    let names = |peers: &[&PeerReport]| few(peers.iter().map(|p| p.peer.address));

    let lacking = select(&|p| p.programmed == Some(false));
    if !lacking.is_empty() {
        let mut what: Vec<&str> = lacking.iter().flat_map(|p| p.lacks.iter().map(String::as_str)).collect();
        what.sort_unstable();
        what.dedup();
        found.warn(format!(
            "the kernel lacks what leads to {}: {} ({})",
            count(lacking.len(), "peer"),
            names(&lacking),
            what.join(", ")
        ));
    }
    for refused in select(&|p| p.peer.state == Standing::Refused).iter().take(3) {
        let reason = refused.peer.reason.as_deref().unwrap_or("refused");
        found.warn(format!("{} is no peer: {reason}", refused.peer.address));
    }
    let missing = select(&|p| p.peer.state == Standing::Missing);
    if !missing.is_empty() {
        found.warn(format!(
            "DNS does not list {} any more: {}",
            count(missing.len(), "peer"),
            names(&missing)
        ));
    }
    let dead = probed(&|p| p.state == Liveness::Dead);
    if !dead.is_empty() {
        let all = probed(&|_| true).len();
        found.warn(format!(
            "{} of {} {} not answer through the tunnel: {}",
            dead.len(),
            count(all, "peer"),
            choose(dead.len(), "does", "do"),
            names(&dead)
        ));
    }
    let other = probed(&|p| p.plan == Agreement::Different);
    if !other.is_empty() {
        found.warn(format!(
            "{} {} another address plan than this node: make pod_network, node_networks and node_prefix the \
             same on every node",
            names(&other),
            choose(other.len(), "has", "have")
        ));
    }
    let limited = probed(&|p| p.path == PathState::Limited);
    if !limited.is_empty() {
        let least = limited.iter().filter_map(|p| p.peer.probe.as_ref()?.path_mtu).min();
        let pass = least.map_or(String::new(), |least| format!(", only {least} octets pass"));
        found.warn(format!(
            "packets of the full MTU do not pass to {}{pass}: set underlay_mtu, or mend the path",
            names(&limited)
        ));
    }
    let lossy = probed(&|p| {
        p.state == Liveness::Alive && p.requests >= LOSS_REQUESTS && p.loss().is_some_and(|loss| loss >= LOSS)
    });
    if !lossy.is_empty() {
        found.warn(format!(
            "packets to {} are lost on the way: {}",
            count(lossy.len(), "peer"),
            names(&lossy)
        ));
    }
    let ours = report.daemon.as_ref().map(|daemon| daemon.version.as_str());
    let version = |p: &PeerProbe| p.version.as_deref().is_some_and(|theirs| Some(theirs) != ours);
    let others = probed(&version);
    if ours.is_some() && !others.is_empty() {
        found.note(format!(
            "{} {} another version than this node",
            names(&others),
            choose(others.len(), "runs", "run")
        ));
    }
}

fn pods(report: &Report, found: &mut Findings) {
    if let Some(why) = &report.pods_unknown {
        found.warn(why.clone());
    }
    let unlinked: Vec<_> = report.pods.iter().filter(|pod| pod.ready && pod.linked == Some(false)).collect();
    if !unlinked.is_empty() {
        found.warn(format!(
            "the interface is gone of {}: {}",
            count(unlinked.len(), "pod"),
            few(unlinked.iter().map(|pod| pod.name.as_deref().unwrap_or(&pod.container)))
        ));
    }
}

fn repairs(report: &Report, found: &mut Findings) {
    let Some(repairs) = &report.repairs else { return };
    let recent = repairs.last.iter().filter(|r| report.taken.saturating_sub(r.at) <= FIGHT_WINDOW).count();
    if recent >= FIGHT {
        let last = repairs.last.first().map(|r| format!(", the last one: {}", r.what)).unwrap_or_default();
        found.warn(format!(
            "somebody else changes what minionetd programs: {recent} repairs within {}{last}",
            span(FIGHT_WINDOW)
        ));
    }
}
