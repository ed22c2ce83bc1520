//! The node's own address, its interface, and its device.

use super::facts::Facts;
use super::{Findings, some};
use crate::constants::DEVICE;
use crate::identity::Basis;
use crate::overlay::{Device, ObservedDevice};

/// Judges address, interface, port and device.
pub fn examine(facts: &Facts, findings: &mut Findings) {
    address(facts, findings);
    port(facts, findings);
    device(facts, findings);
}

fn address(facts: &Facts, findings: &mut Findings) {
    let place = match &facts.place {
        Ok(place) => place,
        Err(why) => {
            match facts.config {
                Ok(_) => findings.error(
                    "address",
                    why,
                    "let DNS list an address of this node, or set node_ip or interface",
                ),
                Err(_) => findings.skipped("address", "the settings cannot be used"),
            }
            findings.skipped("underlay-mtu", "this node's own address is not known");
            return;
        }
    };
    let identity = &place.identity;
    let text = format!("{} on {} ({})", identity.address, identity.interface, identity.basis);
    if !place.running {
        findings.error(
            "address",
            format!("{text}: the interface is down"),
            format!(
                "ip link set {} up; look at its cable, its driver, or the cloud's console",
                identity.interface
            ),
        );
    } else if !identity.also_listed.is_empty() {
        let others: Vec<String> = identity.also_listed.iter().map(ToString::to_string).collect();
        findings.warning(
            "address",
            format!("{text}; DNS lists other addresses of this node too: {}", some(&others)),
            "let DNS list one address of each node; the other nodes take the others for nodes of their own",
        );
    } else if identity.basis == Basis::LastKnown {
        findings.note("address", text);
    } else {
        findings.ok("address", text);
    }
    let Ok(config) = &facts.config else { return };
    match config.underlay_mtu {
        Some(mtu) if mtu > place.mtu => findings.error(
            "underlay-mtu",
            format!(
                "underlay_mtu is {mtu}, and {} has an MTU of {}: full packets of pods are dropped",
                identity.interface, place.mtu
            ),
            format!("set underlay_mtu to at most {}, or leave it out", place.mtu),
        ),
        _ => findings.ok("underlay-mtu", format!("{} on {}", place.mtu, identity.interface)),
    }
}

fn port(facts: &Facts, findings: &mut Findings) {
    let (Ok(kernel), Ok(config)) = (&facts.kernel, &facts.config) else {
        findings.skipped("vxlan-port", "the kernel or the settings cannot be read");
        return;
    };
    for owner in &kernel.port_owners {
        findings.error(
            "vxlan-port",
            format!("{owner} has UDP port {}, which the overlay needs", config.port),
            "stop that program, or set port to another one on every node",
        );
    }
    let rivals = kernel.tunnels.iter().filter(|(_, vni, port)| (*vni, *port) == (config.vni, config.port));
    for (name, vni, port) in rivals {
        findings.error(
            "vxlan-port",
            format!("the device {name} has VNI {vni} and port {port}, which the overlay needs"),
            format!("ip link del {name}, or set vni or port to others on every node"),
        );
    }
    findings.otherwise_ok("vxlan-port", format!("UDP port {} with VNI {} is ours", config.port, config.vni));
}

fn device(facts: &Facts, findings: &mut Findings) {
    let (Ok(kernel), Ok(place)) = (&facts.kernel, &facts.place) else {
        findings.skipped("device", "the kernel cannot be read, or this node is not known");
        findings.skipped("device-mtu", "the same");
        return;
    };
    let wanted = &place.wanted.device;
    let remedy = match facts.daemon.lives {
        true => "journalctl -u minionetd says why it cannot repair this; then systemctl restart minionetd",
        false => "systemctl restart minionetd, which repairs it",
    };
    let Some(found) = &kernel.observed.device else {
        findings.error("device", format!("there is no device {DEVICE}"), remedy);
        findings.skipped("device-mtu", format!("there is no device {DEVICE}"));
        return;
    };
    if !found.is_vxlan {
        findings.error(
            "device",
            format!("a device named {DEVICE} is there, and is no VXLAN device"),
            format!("rename or remove it: ip link set {DEVICE} name other"),
        );
        findings.skipped("device-mtu", "it is not ours");
        return;
    }
    let wrong = differences(wanted, found);
    if !wrong.is_empty() {
        findings.error("device", format!("{DEVICE}: {}", some(&wrong)), remedy);
    }
    findings.otherwise_ok("device", format!("{DEVICE} is up, VNI {}, MAC {}", wanted.vni, wanted.mac));
    if found.mtu == wanted.mtu {
        findings.ok("device-mtu", wanted.mtu.to_string());
    } else {
        findings.error(
            "device-mtu",
            format!("{DEVICE} has an MTU of {} instead of {}", found.mtu, wanted.mtu),
            remedy,
        );
    }
}

/// What differs, but for the MTU.
fn differences(wanted: &Device, found: &ObservedDevice) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut differs = |what: &str, is: String, should: String| {
        if is != should {
            wrong.push(format!("{what} is {is} instead of {should}"));
        }
    };
    let text = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    differs("VNI", found.vni.to_string(), wanted.vni.to_string());
    differs("port", found.port.to_string(), wanted.port.to_string());
    differs("its address", text(found.local.map(|a| a.to_string())), wanted.local.to_string());
    differs("MAC", text(found.mac.map(|m| m.to_string())), wanted.mac.to_string());
    if !found.up {
        wrong.push("it is down".to_owned());
    }
    if found.foreign_features {
        wrong.push("it learns, is bound to a device, or takes tunnels from routes".to_owned());
    }
    wrong
}
