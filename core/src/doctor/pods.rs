//! Records, leases and links of pods against each other.

use super::facts::Facts;
use super::{Findings, some};

/// Judges them.
pub fn examine(facts: &Facts, findings: &mut Findings) {
    let pods = match &facts.pods {
        Ok(pods) => pods,
        Err(why) => {
            findings.skipped("leases", why);
            return;
        }
    };
    let dead: Vec<String> =
        pods.attachments.iter().filter(|(_, there)| !there).map(|(name, _)| name.clone()).collect();
    if !dead.is_empty() {
        findings.warning(
            "leases",
            match dead.as_slice() {
                [one] => format!("the link of a pod is gone, and its address still taken: {one}"),
                several => format!(
                    "the links of {} pods are gone, and their addresses still taken: {}",
                    several.len(),
                    some(several)
                ),
            },
            "restart these pods if they still run; minionetd frees the addresses after collect_grace when they are gone",
        );
    }
    if !pods.strays.is_empty() {
        findings.warning(
            "leases",
            format!("links of pods without a record: {}", some(&pods.strays)),
            "their pods are gone, or state below /run/minionet was removed by hand: restart the pods of this node, or ip link del the links",
        );
    }
    let list =
        |addresses: &[std::net::IpAddr]| some(&addresses.iter().map(ToString::to_string).collect::<Vec<_>>());
    if !pods.orphans.is_empty() {
        findings.warning(
            "leases",
            format!("addresses are taken by attachments that have no record: {}", list(&pods.orphans)),
            "nothing: minionetd frees them with its next look (collect_interval), if it runs",
        );
    }
    if !pods.unrouted.is_empty() {
        findings.error(
            "leases",
            format!("no route leads to pods of this node: {}", list(&pods.unrouted)),
            "restart these pods; find out what removed their routes (systemd-networkd, NetworkManager)",
        );
    }
    let sound = match pods.attachments.len() {
        0 => "no pods".to_owned(),
        1 => "1 pod, with its link and route".to_owned(),
        number => format!("{number} pods, all with their links and routes"),
    };
    findings.otherwise_ok("leases", sound);
}
