//! What the kernel holds.

use std::collections::BTreeMap;
use std::fs;

use minionet_core::config::Config;
use minionet_core::constants::DEVICE;
use minionet_core::doctor::facts::{Gathered, KernelFacts};
use minionet_core::plan::NodePlan;
use minionet_netlink::{Socket, overlay, sysctl};

use crate::local::Place;
use crate::processes::Process;

/// The tables, as far as they concern these peers.
pub fn facts(
    socket: &mut Socket,
    config: &Config,
    place: &Place,
    peers: &[NodePlan],
    processes: &[Process],
) -> Gathered<KernelFacts> {
    let failed = |e: minionet_netlink::Error| e.to_string();
    let observed = overlay::read(socket, DEVICE).map_err(failed)?;
    let links = socket.links().map_err(failed)?;
    let others = links.iter().filter(|link| link.name != DEVICE);
    let tunnels = others.filter_map(|l| l.vxlan.as_ref().map(|v| (l.name.clone(), v.vni, v.port))).collect();
    let mut leads = Vec::new();
    for block in peers.iter().flat_map(|peer| &peer.blocks) {
        // A pod's address: the first is the gateway's.
        let Some(pod) = block.cidr.nth(2).or(block.cidr.nth(1)) else { continue };
        leads.push((block.cidr, socket.leads(pod).map_err(failed)?.and_then(|lead| lead.device)));
    }
    Ok(KernelFacts {
        observed,
        tunnels,
        port_owners: owners(config.port, place.identity.address.is_ipv4(), processes),
        leads,
        names: links.into_iter().map(|link| (link.index, link.name)).collect(),
    })
}

/// The programs that have a UDP socket on a port (proc(5), `/proc/net/udp`). The kernel's own
/// sockets belong to no program.
fn owners(port: u16, v4: bool, processes: &[Process]) -> Vec<String> {
    // A socket for IPv6 may take IPv4 as well.
    let files: &[&str] = if v4 { &["/proc/net/udp", "/proc/net/udp6"] } else { &["/proc/net/udp6"] };
    let tables = files.iter().map(|file| fs::read_to_string(file).unwrap_or_default());
    let inodes: Vec<u64> = tables.flat_map(|table| sockets(&table, port)).collect();
    if inodes.is_empty() {
        return Vec::new();
    }
    let has = |p: &&Process| p.sockets().iter().any(|inode| inodes.contains(inode));
    processes.iter().filter(has).map(|p| format!("{} (process {})", p.program(), p.id)).collect()
}

/// The inodes of the sockets on a port.
fn sockets(table: &str, port: u16) -> Vec<u64> {
    let ending = format!(":{port:04X}");
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1)?.ends_with(&ending).then(|| fields.get(9)?.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(socket).filter(|inode| *inode != 0).collect()
}

/// The settings that matter; those that the kernel does not have are not there.
pub fn settings(interface: &str) -> BTreeMap<String, String> {
    let filter = |name: &str| format!("ipv4/conf/{name}/rp_filter");
    let keys = [
        "ipv4/ip_forward".to_owned(),
        "ipv6/conf/all/forwarding".to_owned(),
        "bridge/bridge-nf-call-iptables".to_owned(),
        filter("all"),
        filter(interface),
        filter(DEVICE),
    ];
    keys.into_iter().filter_map(|key| Some((key.clone(), sysctl::read(&key).ok()??))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_by_their_port() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            \x20 10: 00000000:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0\n\
            \x20 11: 00000000:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 0 2 0 0\n\
            \x20 12: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12 2 0 0\n";
        assert_eq!(sockets(table, 4789), [4711]);
        assert_eq!(sockets(table, 53), [12]);
        assert!(sockets("", 53).is_empty());
    }
}
