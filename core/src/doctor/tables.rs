//! What the kernel holds for every peer, and the nft table.

use super::facts::Facts;
use super::{Findings, some};
use crate::constants::{DEVICE, NFT_TABLE};
use crate::overlay::{Change, NextHop, diff};
use crate::words::count;

/// Judges the tables.
pub fn examine(facts: &Facts, findings: &mut Findings) {
    entries(facts, findings);
    routes(facts, findings);
    match &facts.rules {
        Err(why) => findings.skipped("nft-table", why),
        Ok(drift) if drift.is_empty() => findings.ok("nft-table", format!("table inet {NFT_TABLE} is as it should be")),
        Ok(drift) => findings.error(
            "nft-table",
            format!("table inet {NFT_TABLE}: {}", some(drift)),
            "systemctl restart minionetd, which repairs it; another program flushes rulesets if it comes back",
        ),
    }
}

fn entries(facts: &Facts, findings: &mut Findings) {
    let (Ok(kernel), Ok(place)) = (&facts.kernel, &facts.place) else {
        findings.skipped("peer-tables", "the kernel cannot be read, or this node is not known");
        return;
    };
    // Without the device there is nothing, which is said once.
    if kernel.observed.device.as_ref().is_none_or(|device| !device.is_vxlan) {
        findings.skipped("peer-tables", format!("there is no device {DEVICE}"));
        return;
    }
    let Ok(changes) = diff(&place.wanted, &kernel.observed) else { return };
    // A device that has to be made anew, or gets another MAC, loses what lies on it.
    let renewed =
        |c: &Change| matches!(c, Change::CreateDevice(_) | Change::UpdateDevice { mac: Some(_), .. });
    if changes.iter().any(renewed) {
        findings.skipped("peer-tables", "the device is not right");
        return;
    }
    let (extra, missing): (Vec<&Change>, Vec<&Change>) = changes
        .iter()
        .filter(|change| change.object() != "device")
        .partition(|change| change.removes_peer() || matches!(change, Change::RemoveAddress(..)));
    let list = |changes: &[&Change]| some(&changes.iter().map(|c| c.to_string()).collect::<Vec<_>>());
    if !missing.is_empty() {
        let remedy = match facts.daemon.lives {
            true => {
                "journalctl -u minionetd says what is in the way (a foreign route, a full table); remove that"
            }
            false => "systemctl restart minionetd, which repairs it",
        };
        findings.error(
            "peer-tables",
            format!("the kernel's tables lack something: {}", list(&missing)),
            remedy,
        );
    }
    if !extra.is_empty() {
        findings.warning(
            "peer-tables",
            format!("the kernel's tables have something too much: {}", list(&extra)),
            "systemctl restart minionetd, which repairs it once DNS has answered",
        );
    }
    findings.otherwise_ok("peer-tables", {
        let peers = place.wanted.fdb.len();
        format!("what leads to {} is as it should be", count(peers, "peer"))
    });
}

fn routes(facts: &Facts, findings: &mut Findings) {
    let (Ok(kernel), Ok(place)) = (&facts.kernel, &facts.place) else {
        findings.skipped("peer-routes", "the kernel cannot be read, or this node is not known");
        return;
    };
    let Some(device) = &kernel.observed.device else {
        findings.skipped("peer-routes", format!("there is no device {DEVICE}"));
        return;
    };
    let name = |index: &Option<u32>| match index {
        Some(index) => kernel.names.get(index).cloned().unwrap_or_else(|| format!("device {index}")),
        None => "no device".to_owned(),
    };
    let elsewhere = kernel.leads.iter().filter_map(|(cidr, leaves)| {
        let wanted = match place.wanted.routes.get(cidr)? {
            NextHop::Vtep(_) => Some(device.index),
            NextHop::Direct(_) => place.wanted.underlay,
        };
        (*leaves != wanted).then(|| format!("{cidr} by {} instead of {}", name(leaves), name(&wanted)))
    });
    let elsewhere: Vec<String> = elsewhere.collect();
    // What is missing altogether was said above.
    if !elsewhere.is_empty() && (device.up || !findings.is_bad("device")) {
        findings.error(
            "peer-routes",
            format!("packets to pods leave elsewhere: {}", some(&elsewhere)),
            "ip route get ADDRESS and ip rule show the route or the rule that comes before ours; remove it, or choose another pod_network",
        );
    }
    findings.otherwise_ok(
        "peer-routes",
        format!("packets to all {} pod CIDRs leave as they should", kernel.leads.len()),
    );
}
