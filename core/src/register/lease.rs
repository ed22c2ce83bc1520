//! Names and texts of leases.

use std::net::IpAddr;

/// The owner of an address's lease: `172-20-0-1._lease.minions.cncfdemo.k8s.`
///
/// All groups of an IPv6 address are written out, so that no label begins or ends with a dash.
pub fn lease_name(name: &str, address: IpAddr) -> String {
    let label = match address {
        IpAddr::V4(v4) => v4.octets().map(|octet| octet.to_string()).join("-"),
        IpAddr::V6(v6) => v6.segments().map(|group| format!("{group:x}")).join("-"),
    };
    format!("{label}._lease.{name}")
}

/// The text of a lease: never the same twice, as `id` is drawn at each start and `count` grows.
/// The time is for people.
pub(super) fn lease_text(id: &str, count: u64, unix: u64) -> String {
    format!("minionet id={id} n={count} at={unix}")
}
