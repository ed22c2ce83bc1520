//! What the kernel does with forwarded packets.

use super::Findings;
use super::facts::Facts;
use crate::addr::Family;
use crate::constants::DEVICE;
use crate::overlay::Encapsulation;

/// Judges settings of the kernel, and other programs' rules.
pub fn examine(facts: &Facts, findings: &mut Findings) {
    forwarding(facts, findings);
    rp_filter(facts, findings);
    bridge(facts, findings);
    match &facts.forward {
        Err(why) => findings.skipped("forward-policy", why),
        Ok(chains) => {
            for chain in chains.iter().filter(|chain| !chain.open) {
                findings.warning(
                    "forward-policy",
                    format!("{} of another program drops what is forwarded", chain.place()),
                    format!("accept packets from and to pods there: {}", chain.remedy.join("; ")),
                );
            }
            findings.otherwise_ok("forward-policy", "no other program drops what pods send");
        }
    }
}

fn value<'a>(facts: &'a Facts, key: &str) -> Option<&'a str> {
    facts.settings.get(key).map(String::as_str)
}

fn forwarding(facts: &Facts, findings: &mut Findings) {
    let v6 = facts.place.as_ref().is_ok_and(|place| place.me.block(Family::V6).is_some());
    let mut keys = vec!["ipv4/ip_forward"];
    if v6 {
        keys.push("ipv6/conf/all/forwarding");
    }
    for key in keys {
        if value(facts, key) == Some("0") {
            let name = format!("net.{}", key.replace('/', "."));
            findings.error(
                "forwarding",
                format!("{name} is 0: pods reach nothing but this node"),
                format!("sysctl -w {name}=1; find what resets it: grep -r {} /etc/sysctl.conf /etc/sysctl.d /usr/lib/sysctl.d", name.rsplit('.').next().unwrap_or_default()),
            );
        }
    }
    findings.otherwise_ok("forwarding", "packets are forwarded");
}

fn rp_filter(facts: &Facts, findings: &mut Findings) {
    let (Ok(place), Ok(config)) = (&facts.place, &facts.config) else {
        findings.skipped("rp-filter", "this node's own address is not known");
        return;
    };
    // The higher of `all` and the interface counts (ip-sysctl.rst, rp_filter); 1 is strict.
    let of =
        |name: &str| value(facts, &format!("ipv4/conf/{name}/rp_filter")).and_then(|v| v.parse::<u8>().ok());
    let all = of("all").unwrap_or(0);
    if config.encapsulation != Encapsulation::Always {
        for name in [place.identity.interface.as_str(), DEVICE] {
            if of(name).is_some_and(|own| own.max(all) == 1) {
                findings.warning(
                    "rp-filter",
                    format!("the filter of sources is strict on {name}, and peers may send by either way without a tunnel or with it"),
                    format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2; minionetd does it when it runs"),
                );
            }
        }
    }
    findings.otherwise_ok("rp-filter", "it lets pods' packets pass");
}

fn bridge(facts: &Facts, findings: &mut Findings) {
    let Ok(place) = &facts.place else {
        findings.skipped("bridge-netfilter", "this node's own address is not known");
        return;
    };
    let on = value(facts, "bridge/bridge-nf-call-iptables") == Some("1");
    let drops = facts.forward.as_ref().is_ok_and(|chains| chains.iter().any(|chain| !chain.open));
    if !place.bridged || !on {
        findings.ok("bridge-netfilter", "pods are routed, and the underlay is not bridged through iptables");
    } else if drops {
        findings.warning(
            "bridge-netfilter",
            format!("{} is bridged, its frames go through iptables, and a chain there drops what is forwarded", place.identity.interface),
            "sysctl -w net.bridge.bridge-nf-call-iptables=0, or accept UDP to the port of VXLAN in that chain",
        );
    } else {
        findings
            .note("bridge-netfilter", format!("frames of {} go through iptables", place.identity.interface));
    }
}
