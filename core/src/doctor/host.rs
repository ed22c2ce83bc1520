//! Network managers and firewalls.

use super::Findings;
use super::facts::Facts;
use crate::cni::attachment::HOST_IFNAME_PREFIX;
use crate::constants::DEVICE;

/// Judges them; those that do not run are passed over.
pub fn examine(facts: &Facts, findings: &mut Findings) {
    networkd(facts, findings);
    network_manager(facts, findings);
    firewalld(facts, findings);
}

fn networkd(facts: &Facts, findings: &mut Findings) {
    let Some(networkd) = facts.host.networkd else {
        findings.skipped("networkd", "systemd-networkd does not run");
        return;
    };
    if networkd.manages_foreign_routes {
        findings.warning(
            "networkd",
            "systemd-networkd removes routes that it did not make, ours among them, when it is restarted",
            "write [Network] ManageForeignRoutes=no ManageForeignRoutingPolicyRules=no to /etc/systemd/networkd.conf.d/minionet.conf, and restart systemd-networkd",
        );
    }
    if !networkd.unmanaged {
        findings.warning(
            "networkd",
            format!("systemd-networkd is not told to leave {DEVICE} and {HOST_IFNAME_PREFIX}* alone"),
            format!("write [Match] Name={DEVICE} {HOST_IFNAME_PREFIX}* and [Link] Unmanaged=yes to /etc/systemd/network/05-minionet.network, and networkctl reload"),
        );
    }
    findings.otherwise_ok("networkd", "it leaves our routes and interfaces alone");
}

fn network_manager(facts: &Facts, findings: &mut Findings) {
    match facts.host.network_manager {
        None => findings.skipped("network-manager", "NetworkManager does not run"),
        Some([true, true]) => findings.ok("network-manager", "it leaves our interfaces alone"),
        Some([device, _]) => {
            let which = if device { format!("{HOST_IFNAME_PREFIX}*") } else { DEVICE.to_owned() };
            findings.warning(
                "network-manager",
                format!("NetworkManager is not told to leave {which} alone, and may take its addresses away"),
                format!("write [keyfile] unmanaged-devices=interface-name:{DEVICE};interface-name:{HOST_IFNAME_PREFIX}* to /etc/NetworkManager/conf.d/minionet.conf, and nmcli general reload"),
            );
        }
    }
}

fn firewalld(facts: &Facts, findings: &mut Findings) {
    let port = facts.config.as_ref().map_or(crate::constants::DEFAULT_PORT, |config| config.port);
    match facts.host.firewalld {
        None => findings.skipped("firewalld", "firewalld does not run"),
        Some([true, true]) => findings.ok("firewalld", "it lets pods and VXLAN pass"),
        Some(_) => findings.warning(
            "firewalld",
            format!("firewalld runs, and its zones do not name {DEVICE} and UDP port {port}: packets of pods are dropped"),
            format!("firewall-cmd --permanent --zone=trusted --add-interface={DEVICE} --add-source=POD_NETWORK; firewall-cmd --permanent --add-port={port}/udp; firewall-cmd --reload"),
        ),
    }
}
