//! The kernel settings that a router of pods needs.

use minionet_core::constants::DEVICE;
use minionet_netlink::{Error, sysctl};
use tracing::info;

/// Sets what is not set yet: forwarding for both families in use, and nothing from the network
/// believed on the overlay's device.
///
/// # Errors
/// When the kernel refuses one.
pub fn apply(ipv6_pods: bool) -> Result<(), Error> {
    set("ipv4/ip_forward", "1")?;
    if ipv6_pods {
        keep_router_advertisements()?;
        set("ipv6/conf/all/forwarding", "1")?;
        // The device is there only after the first reconciliation.
        for key in ["accept_ra", "accept_redirects"] {
            let key = format!("ipv6/conf/{DEVICE}/{key}");
            if sysctl::read(&key)?.is_some() {
                set(&key, "0")?;
            }
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
        if host && sysctl::read(&key)?.as_deref() == Some("1") {
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
