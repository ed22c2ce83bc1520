//! The table of peers.

use std::cmp::Reverse;

use super::table::{Cell, Table};
use super::{Colour, Style};
use crate::membership::Liveness;
use crate::probe::view::{Agreement, PathState, PeerProbe};
use crate::state::Standing;
use crate::status::{PeerReport, Report};
use crate::words::span;

const HEAD: [&str; 9] = ["PEER", "POD CIDR", "STATE", "SINCE", "KERNEL", "LOSS", "RTT", "MTU", "VERSION"];

/// The peers, those with a problem first; at most so many, and then how many more there are.
pub(super) fn text(report: &Report, style: Style, most: Option<usize>) -> String {
    let mut shown: Vec<&PeerReport> =
        report.peers.iter().filter(|peer| peer.peer.state != Standing::Ignored).collect();
    // Stable: within equals the order of the addresses stays.
    shown.sort_by_key(|peer| Reverse(trouble(peer)));
    let most = most.unwrap_or(shown.len());
    let mut table = Table::new(&HEAD);
    for peer in shown.iter().take(most) {
        rows(peer, report.taken, &mut table);
    }
    let mut text = table.text(style);
    if shown.len() > most {
        let rest = &shown[most..];
        let bad = rest.iter().filter(|peer| trouble(peer) > 0).count();
        let bad = if bad > 0 { format!(", {bad} of them with a problem") } else { String::new() };
        text += &format!("and {} more{bad}: minionetd peers\n", rest.len());
    }
    if report.peers.is_empty() {
        text += "none\n";
    }
    text
}

/// How bad it is; 0 is well.
fn trouble(peer: &PeerReport) -> u8 {
    let probe = peer.peer.probe.as_ref();
    let probed = |is: &dyn Fn(&PeerProbe) -> bool| probe.is_some_and(is);
    match peer.peer.state {
        _ if peer.programmed == Some(false) => 7,
        _ if probed(&|p| p.state == Liveness::Dead) => 6,
        _ if probed(&|p| p.plan == Agreement::Different) => 5,
        Standing::Refused => 4,
        Standing::Held | Standing::Missing => 3,
        _ if probed(&|p| p.path == PathState::Limited) => 2,
        _ if probed(&|p| p.lost > 0) => 1,
        _ => 0,
    }
}

/// One row for a peer, and further ones for its further pod CIDRs and what there is to say.
fn rows(report: &PeerReport, now: u64, table: &mut Table) {
    let peer = &report.peer;
    let state = match peer.state {
        Standing::Active => Cell::new("active"),
        Standing::Missing | Standing::Held => Cell::coloured(peer.state.name(), Colour::Yellow),
        Standing::Refused => Cell::coloured(peer.state.name(), Colour::Red),
        Standing::Ignored | Standing::Unknown => Cell::coloured(peer.state.name(), Colour::Dim),
    };
    let kernel = match report.programmed {
        Some(true) => Cell::coloured("yes", Colour::Green),
        Some(false) => Cell::coloured("no", Colour::Red),
        None => Cell::coloured("-", Colour::Dim),
    };
    let first = peer.blocks.first().map_or("-".to_owned(), |block| block.cidr.to_string());
    let since = peer.since.map_or("-".to_owned(), |at| span(now.saturating_sub(at)));
    let mut cells = vec![Cell::new(peer.address), Cell::new(first), state, Cell::new(since), kernel];
    cells.extend(probed(peer.probe.as_ref()));
    table.row(cells);
    for block in peer.blocks.iter().skip(1) {
        table.row(vec![Cell::default(), Cell::new(block.cidr)]);
    }
}

fn probed(probe: Option<&PeerProbe>) -> [Cell; 4] {
    let unknown = || Cell::coloured("-", Colour::Dim);
    let Some(probe) = probe else { return [unknown(), unknown(), unknown(), unknown()] };
    let loss = match probe.loss() {
        _ if probe.state == Liveness::Dead => Cell::coloured("dead", Colour::Red),
        Some(loss) if loss > 0.0 => {
            // What is lost is never rounded to nothing.
            Cell::coloured(format!("{:.0}%", (loss * 100.0).max(1.0)), Colour::Yellow)
        }
        Some(_) => Cell::new("0%"),
        None => unknown(),
    };
    let rtt = match &probe.rtt {
        Some(times) if probe.state != Liveness::Dead => Cell::new(millis(times.smoothed)),
        _ => unknown(),
    };
    let path = match (probe.path_mtu, probe.path) {
        (Some(size), PathState::Limited) => Cell::coloured(size, Colour::Yellow),
        (Some(size), _) => Cell::new(size),
        (None, _) => unknown(),
    };
    let version = match (&probe.version, probe.plan) {
        (_, Agreement::Different) => Cell::coloured("other plan", Colour::Red),
        (Some(version), _) => Cell::new(version),
        (None, _) => unknown(),
    };
    [loss, rtt, path, version]
}

/// Microseconds as milliseconds, with as many digits as mean something.
fn millis(micros: u32) -> String {
    let millis = f64::from(micros) / 1e3;
    if millis < 10.0 { format!("{millis:.1}ms") } else { format!("{millis:.0}ms") }
}
