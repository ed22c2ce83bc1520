//! The kernel settings that a router of pods needs.

use minionet_core::constants::DEVICE;
use minionet_netlink::{Error, sysctl};
use tracing::info;

/// Lets the node forward, for the families that pods have.
///
/// # Errors
/// When the kernel refuses.
pub fn forwarding(ipv6_pods: bool) -> Result<(), Error> {
    set("ipv4/ip_forward", "1")?;
    if ipv6_pods {
        keep_router_advertisements()?;
        set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
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
pub fn device() -> Result<(), Error> {
    for key in silent() {
        // Without IPv6 there are none of its settings, and the device is gone when somebody
        // deletes it under our hands.
        if sysctl::read(&key)?.is_some() {
            set(&key, "0")?;
        }
    }
    Ok(())
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
pub fn both_ways(interface: &str) -> Result<(), Error> {
    for name in [interface, DEVICE] {
        let own = format!("ipv4/conf/{name}/rp_filter");
        let strict = |value: Option<String>| value.as_deref() == Some("1");
        let all = sysctl::read("ipv4/conf/all/rp_filter")?;
        let found = sysctl::read(&own)?;
        if found.is_some() && found.as_deref() != Some("2") && (strict(found) || strict(all)) {
            set(&own, "2")?;
        }
    }
    Ok(())
}

/// A router ignores router advertisements, and with them the host would lose its own default
/// route where it has it from one; 2 means "accept them all the same"
/// (Documentation/networking/ip-sysctl.rst, accept_ra).
fn keep_router_advertisements() -> Result<(), Error> {
    if sysctl::read("ipv6/conf/all/forwarding")?.as_deref() != Some("0") {
        return Ok(());
    }
    for interface in sysctl::interfaces("ipv6/conf")? {
        let key = format!("ipv6/conf/{interface}/accept_ra");
        let forwarding = format!("ipv6/conf/{interface}/forwarding");
        let host = sysctl::read(&forwarding)?.as_deref() == Some("0");
        if interface != "lo" && host && sysctl::read(&key)?.as_deref() == Some("1") {
            set(&key, "2")?;
        }
    }
    Ok(())
}

fn set(key: &str, value: &str) -> Result<(), Error> {
    if sysctl::set(key, value)? {
        info!("kernel setting net/{key} set to {value}");
    }
    Ok(())
}
