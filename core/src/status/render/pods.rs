//! The table of pods.

use super::table::{Cell, Table};
use super::{Colour, Style};
use crate::cni::bandwidth::Bucket;
use crate::cni::portmap::PortMapping;
use crate::status::{Pod, Report};

const HEAD: [&str; 5] = ["POD", "ADDRESS", "INTERFACE", "HOST'S END", "RULES"];

pub(super) fn text(report: &Report, style: Style) -> String {
    let mut table = Table::new(&HEAD);
    for pod in &report.pods {
        rows(pod, &mut table);
    }
    table.text(style)
}

/// One row for a pod, and further ones for further addresses and rules.
fn rows(pod: &Pod, table: &mut Table) {
    // A container id is long, and its beginning is what other tools show.
    let short: String = pod.container.chars().take(13).collect();
    let name = pod.name.clone().unwrap_or(short);
    let host = match pod.linked {
        Some(false) => Cell::coloured(format!("{} (gone)", pod.host_interface), Colour::Red),
        _ => Cell::new(&pod.host_interface),
    };
    let rules = rules(pod);
    let lines = pod.addresses.len().max(rules.len()).max(1);
    for line in 0..lines {
        let address = pod.addresses.get(line).map_or_else(Cell::default, Cell::new);
        let rule = rules.get(line).map_or_else(Cell::default, Cell::new);
        table.row(match line {
            0 => vec![Cell::new(&name), address, Cell::new(&pod.interface), host.clone(), rule],
            _ => vec![Cell::default(), address, Cell::default(), Cell::default(), rule],
        });
    }
}

fn rules(pod: &Pod) -> Vec<String> {
    let mut rules: Vec<String> = Vec::new();
    if !pod.ready {
        rules.push("being attached".to_owned());
    }
    rules.extend(pod.ports.iter().map(port));
    let limit = |what: &str, bucket: &Bucket| format!("{what} at most {}", rate(bucket.rate));
    rules.extend(pod.limits.ingress.as_ref().map(|bucket| limit("receives", bucket)));
    rules.extend(pod.limits.egress.as_ref().map(|bucket| limit("sends", bucket)));
    rules
}

/// As in `tcp 8080 -> 80`.
fn port(mapping: &PortMapping) -> String {
    let PortMapping { protocol, host_ip, host_port, container_port } = mapping;
    match host_ip {
        Some(ip) if ip.is_ipv6() => format!("{protocol} [{ip}]:{host_port} -> {container_port}"),
        Some(ip) => format!("{protocol} {ip}:{host_port} -> {container_port}"),
        None => format!("{protocol} {host_port} -> {container_port}"),
    }
}

/// Octets per second as bits per second, in the unit that makes it short.
fn rate(octets: u64) -> String {
    let bits = octets.saturating_mul(8);
    let units = [(1_000_000_000, "Gbit/s"), (1_000_000, "Mbit/s"), (1000, "kbit/s")];
    match units.into_iter().find(|(size, _)| bits >= *size) {
        Some((size, unit)) if bits.is_multiple_of(size) => format!("{} {unit}", bits / size),
        Some((size, unit)) => format!("{:.1} {unit}", bits as f64 / size as f64),
        None => format!("{bits} bit/s"),
    }
}
