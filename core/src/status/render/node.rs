//! This node: everything about it that is no table.

use std::fmt::Write;

use super::table::wrap;
use super::{Colour, Style, registration};
use crate::membership::NameView;
use crate::plan::NodePlan;
use crate::state::Dns;
use crate::status::{Report, Running, Source};
use crate::words::{ago, count, few, span};

/// Columns of the names on the left.
const MARGIN: usize = 10;

/// Most names of DNS that are shown one by one.
const NAMES: usize = 4;

/// Most repairs that are shown one by one.
const REPAIRS: usize = 5;

pub(super) fn text(report: &Report, style: Style) -> String {
    let mut lines = Lines { text: String::new(), style };
    if let Some(cluster) = &report.cluster {
        lines.add("cluster", cluster);
    }
    daemon(report, &mut lines);
    if let Some(node) = &report.node {
        let basis = format!("{} on {}, {}", node.place.node, node.interface, node.basis);
        lines.add("node", &basis);
        lines.add("", &format!("pods {}, MTU {}", blocks(&node.place), node.pod_mtu));
        if !node.also_listed.is_empty() {
            lines.add("", &format!("DNS lists this node also as {}", few(node.also_listed.iter())));
        }
    }
    if let Some(plan) = &report.plan {
        let pods: Vec<String> =
            plan.pod_networks.iter().map(|n| format!("{} in /{}", n.network, n.node_prefix)).collect();
        let nodes: Vec<String> = plan.node_networks.iter().map(ToString::to_string).collect();
        lines.add("plan", &format!("nodes {}; pods {}", nodes.join(", "), pods.join(", ")));
        lines.add("", &format!("digest {}", plan.digest));
    }
    device(report, &mut lines);
    if let Some(dns) = &report.dns {
        self::dns(dns, report, &mut lines);
    }
    let told = report.registration.iter().flat_map(|told| registration::lines(told, report.taken));
    for (number, line) in told.enumerate() {
        lines.add(if number == 0 { "register" } else { "" }, &line);
    }
    lines.text
}

/// What others changed, and was mended.
pub(super) fn repairs(report: &Report, style: Style) -> String {
    let (Some(repairs), Some(rounds)) = (&report.repairs, &report.rounds) else { return String::new() };
    let mut lines = Lines { text: "\n".to_owned(), style };
    let total: u64 = repairs.counts.values().sum();
    let kinds: Vec<String> = repairs.counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
    let failed = if rounds.failed > 0 { format!(", {} not well", rounds.failed) } else { String::new() };
    lines.add(
        "repairs",
        &format!(
            "{total}{kinds} in {}{failed}; the last took {:.1} ms, the longest {:.1} ms",
            count(usize::try_from(rounds.count).unwrap_or(usize::MAX), "round"),
            rounds.last_duration * 1e3,
            rounds.longest_duration * 1e3
        ),
    );
    for repair in repairs.last.iter().take(REPAIRS) {
        lines.add("", &format!("{}: {}", ago(report.taken, repair.at), repair.what));
    }
    lines.text
}

struct Lines {
    text: String,
    style: Style,
}

impl Lines {
    fn add(&mut self, name: &str, content: &str) {
        for (number, line) in wrap(content, self.style.width.saturating_sub(MARGIN)).into_iter().enumerate() {
            let name = format!("{:MARGIN$}", if number == 0 { name } else { "" });
            let _ = writeln!(self.text, "{}{line}", self.style.paint(Colour::Dim, &name));
        }
    }
}

fn daemon(report: &Report, lines: &mut Lines) {
    let Some(daemon) = &report.daemon else {
        lines.add("daemon", "has left no state: what follows is what the kernel holds");
        return;
    };
    let written = report.written.unwrap_or(report.taken);
    let state = match (report.source, report.running) {
        (Source::Daemon, _) => {
            let up = span(report.taken.saturating_sub(daemon.started));
            let formed = report.readiness.as_ref().is_some_and(|r| r.ready);
            let formed = if formed { "the overlay is formed" } else { "the overlay is not formed" };
            format!("minionetd {}, process {}, up for {up}; {formed}", daemon.version, daemon.pid)
        }
        (_, Running::Silent) => format!(
            "minionetd {} does not answer; what follows was written {}",
            daemon.version,
            ago(report.taken, written)
        ),
        _ => format!(
            "minionetd {}, as it left its state {}; the kernel as it is now",
            daemon.version,
            ago(report.taken, written)
        ),
    };
    lines.add("daemon", &state);
}

fn blocks(place: &NodePlan) -> String {
    let blocks: Vec<String> =
        place.blocks.iter().map(|block| format!("{} via {}", block.cidr, block.gateway)).collect();
    blocks.join(", ")
}

fn device(report: &Report, lines: &mut Lines) {
    if let Some(device) = report.device.as_ref().map(|device| &device.vtep) {
        lines.add(
            "device",
            &format!(
                "{}, VNI {}, port {}, MAC {}, MTU {}",
                device.name, device.vni, device.port, device.mac, device.mtu
            ),
        );
    }
    let Some(kernel) = &report.kernel else { return };
    let device = match &kernel.device {
        None => "not there",
        Some(_) if kernel.differences.is_empty() && report.device.is_none() => "there",
        Some(_) if kernel.differences.is_empty() => "as it should be",
        Some(_) => "not as it should be",
    };
    let table = match kernel.table {
        Some(true) => "there",
        Some(false) => "not there",
        None => "not known",
    };
    let wanted = report.device.as_ref().map(|d| format!(" of {}", d.peer_routes)).unwrap_or_default();
    let strays = match kernel.stray_routes {
        0 => String::new(),
        strays => format!(" ({strays} of them to nobody known)"),
    };
    lines.add(
        "kernel",
        &format!("device {device}, nft table {table}, routes {}{wanted}{strays}", kernel.routes),
    );
}

fn dns(dns: &Dns, report: &Report, lines: &mut Lines) {
    for (number, name) in dns.names.iter().take(NAMES).enumerate() {
        lines.add(if number == 0 { "dns" } else { "" }, &self::name(name, report.taken));
    }
    if dns.names.len() > NAMES {
        lines.add("", &format!("and {}", count(dns.names.len() - NAMES, "more name")));
    }
    let limits = &dns.thresholds;
    let mut rule = format!(
        "a peer goes after {} and {} without it",
        count(limits.missing_answers as usize, "answer"),
        span(limits.hold_down.as_secs())
    );
    if dns.sampling {
        rule = "random samples: a peer goes only when it is dead by probe as well".to_owned();
    }
    if let Some(next) = dns.next_refresh.filter(|_| report.source == Source::Daemon) {
        rule = format!("asked again in {}; {rule}", span(next.saturating_sub(report.taken)));
    }
    lines.add("", &rule);
}

fn name(name: &NameView, now: u64) -> String {
    let answered =
        name.last_success.map_or("never answered".to_owned(), |at| format!("answered {}", ago(now, at)));
    let incomplete = if name.complete || name.last_success.is_none() { "" } else { ", incomplete" };
    let resolvers = few(name.resolvers.iter().map(|resolver| &resolver.resolver));
    let by = if resolvers.is_empty() { String::new() } else { format!(" by {resolvers}") };
    format!(
        "{}: {}, TTL {} s{incomplete}, {answered}{by}",
        name.name,
        count(name.records, "record"),
        name.ttl
    )
}
