//! The kernel settings that a router of pods needs.

use std::fs;
use std::path::Path;

use minionet_core::constants::{DEVICE, RUN_DIR};
use minionet_core::tuning::{FILE, Tuning, is_switch};
use minionet_netlink::{Error, sysctl};
use tracing::{info, warn};

use crate::causes::chain;
use crate::files;

/// Lets the node forward, for the families that pods have. Says what was set, as do the others.
///
/// # Errors
/// When the kernel refuses.
pub fn forwarding(ipv6_pods: bool) -> Result<Vec<String>, Error> {
    let mut done = Vec::from_iter(set("ipv4/ip_forward", "1")?);
    if ipv6_pods {
        done.extend(keep_router_advertisements()?);
        done.extend(set("ipv6/conf/all/forwarding", "1")?);
    }
    Ok(done)
}

/// What makes the overlay's device believe what the network says about routes. On a router, one of
/// `all` and the device's own setting is enough to refuse redirects (ip-sysctl.rst,
/// accept_redirects).
const BELIEFS: [&str; 3] =
    ["ipv4/conf/{}/accept_redirects", "ipv6/conf/{}/accept_ra", "ipv6/conf/{}/accept_redirects"];

/// Makes the overlay's device believe nothing that the network says about routes, also of IPv6
/// where pods have none.
///
/// # Errors
/// When the kernel refuses.
pub fn device() -> Result<Vec<String>, Error> {
    let mut done = Vec::new();
    for key in silent() {
        // Without IPv6 there are none of its settings, and the device is gone when somebody
        // deletes it under our hands.
        if sysctl::read(&key)?.is_some() {
            done.extend(set(&key, "0")?);
        }
    }
    Ok(done)
}

/// The settings that matter, and of whose changes netlink does not tell.
pub fn silent() -> Vec<String> {
    BELIEFS.map(|key| key.replace("{}", DEVICE)).into()
}

/// Lets packets of pods come in by the underlay's interface and by the overlay's device, whichever
/// a peer sends them by. The two ways differ while the mode of a cluster is being changed, and a
/// node cannot know that another one was changed before it: so in every mode. A filter that is off
/// stays off (ip-sysctl.rst, rp_filter: 1 is strict, 2 is loose, and the higher of `all` and the
/// interface counts).
///
/// # Errors
/// When the kernel refuses.
pub fn both_ways(interface: &str) -> Result<Vec<String>, Error> {
    let mut done = Vec::new();
    for name in [interface, DEVICE] {
        let own = format!("ipv4/conf/{name}/rp_filter");
        let strict = |value: Option<String>| value.as_deref() == Some("1");
        let all = sysctl::read("ipv4/conf/all/rp_filter")?;
        let found = sysctl::read(&own)?;
        if found.is_some() && found.as_deref() != Some("2") && (strict(found) || strict(all)) {
            done.extend(set(&own, "2")?);
        }
    }
    Ok(done)
}

/// A router ignores router advertisements, and with them the host would lose its own default
/// route where it has it from one; 2 means "accept them all the same"
/// (Documentation/networking/ip-sysctl.rst, accept_ra).
fn keep_router_advertisements() -> Result<Vec<String>, Error> {
    let mut done = Vec::new();
    if sysctl::read("ipv6/conf/all/forwarding")?.as_deref() != Some("0") {
        return Ok(done);
    }
    for interface in sysctl::interfaces("ipv6/conf")? {
        let key = format!("ipv6/conf/{interface}/accept_ra");
        let forwarding = format!("ipv6/conf/{interface}/forwarding");
        let host = sysctl::read(&forwarding)?.as_deref() == Some("0");
        if interface != "lo" && host && sysctl::read(&key)?.as_deref() == Some("1") {
            done.extend(set(&key, "2")?);
        }
    }
    Ok(done)
}

/// Sets a setting, and remembers what it was and what the kernel changed along with it, before it
/// is set: whatever kills the daemon, it can be given back.
fn set(key: &str, value: &str) -> Result<Option<String>, Error> {
    let text = format!("kernel setting net/{key} set to {value}");
    let Some(before) = sysctl::read(key)? else { return Ok(sysctl::set(key, value)?.then_some(text)) };
    if before == value {
        return Ok(None);
    }
    let path = Path::new(RUN_DIR).join(FILE);
    let mut tuning = Tuning::parse(&fs::read_to_string(&path).unwrap_or_default());
    tuning.note(key, &before, value);
    let dependents = if is_switch(key) { dependents(key)? } else { Vec::new() };
    remember(&path, &tuning);
    sysctl::set(key, value)?;
    info!("{text}");
    for (key, before) in dependents {
        if let Some(now) = sysctl::read(&key)? {
            tuning.note_dependent(&key, &before, &now);
        }
    }
    remember(&path, &tuning);
    Ok(Some(text))
}

/// What the kernel may change along with a switch of forwarding, and what it is.
fn dependents(switch: &str) -> Result<Vec<(String, String)>, Error> {
    let (kind, redirects) = match switch {
        "ipv4/ip_forward" => ("ipv4/conf", Some("ipv4/conf/all/accept_redirects".to_owned())),
        _ => ("ipv6/conf", None),
    };
    let interfaces = sysctl::interfaces(kind)?.into_iter().chain(["default".to_owned()]);
    let forwarding = interfaces.map(|name| format!("{kind}/{name}/forwarding"));
    let mut found = Vec::new();
    for key in forwarding.chain(redirects) {
        found.extend(sysctl::read(&key)?.map(|value| (key, value)));
    }
    Ok(found)
}

fn remember(path: &Path, tuning: &Tuning) {
    // The setting is needed more than the memory of it.
    if let Err(error) = files::replace(path, &tuning.to_text(), 0o644) {
        warn!("what the kernel settings were is not remembered: {}", chain(&error));
    }
}
