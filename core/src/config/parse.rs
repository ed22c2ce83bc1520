//! From what was written to checked values, one setting at a time and then all together.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::registration::Registration;
use super::source::{Place, Value};
use super::{Config, Endpoint, LogFormat, Problem};
use crate::addr::{Cidr, Family};
use crate::membership::Thresholds;
use crate::overlay::Encapsulation;
use crate::plan::PodNetwork;

/// Values as far as they are known.
#[derive(Default)]
pub(super) struct Draft {
    cluster_name: String,
    domain: String,
    roles: Vec<String>,
    node_networks: Vec<Cidr>,
    pod_network: Vec<Cidr>,
    node_prefix: u8,
    node_prefix6: u8,
    node_ip: Option<IpAddr>,
    interface: Option<String>,
    vni: u32,
    port: u16,
    underlay_mtu: Option<u32>,
    encapsulation: Encapsulation,
    resolvers: Vec<SocketAddr>,
    trust_anchor: Option<String>,
    thresholds: Thresholds,
    dns_timeout: Duration,
    audit_interval: Duration,
    dns_silence: Duration,
    collect_interval: Duration,
    collect_grace: Duration,
    probe_port: Option<u16>,
    probe_interval: Duration,
    metrics_address: Option<Endpoint>,
    metrics_every_peer: bool,
    trace_port: Option<u16>,
    masquerade: bool,
    masquerade_exempt: Vec<Cidr>,
    registration: Registration,
    cni_conf_dir: String,
    log_level: String,
    log_format: Option<LogFormat>,
}

/// Takes one value over.
pub(super) fn assign(draft: &mut Draft, key: &str, value: &Value) -> Result<(), String> {
    let items = &value.items;
    // A setting of one value has exactly one item.
    let text = items.first().map_or("", String::as_str);
    match key {
        "cluster_name" => draft.cluster_name = label(text)?,
        "domain" => draft.domain = domain(text)?,
        "roles" => draft.roles = each(items, label)?,
        "node_networks" => draft.node_networks = each(items, cidr)?,
        "pod_network" => draft.pod_network = each(items, cidr)?,
        "node_prefix" => draft.node_prefix = number(text, 1, 30)?,
        "node_prefix6" => draft.node_prefix6 = number(text, 1, 126)?,
        "node_ip" => draft.node_ip = Some(address(text)?),
        "interface" => draft.interface = Some(interface(text)?),
        // Zero is valid on the wire, but stands for "any" in too many tools.
        "vni" => draft.vni = number(text, 1, (1 << 24) - 1)?,
        "port" => draft.port = number(text, 1, u16::MAX)?,
        // 1280 is the least that IPv6 works with (RFC 8200 section 5), and the pods' packets
        // need room for the encapsulation.
        "underlay_mtu" => draft.underlay_mtu = Some(number(text, 576, 65535)?),
        "encapsulation" => draft.encapsulation = encapsulation(text)?,
        "resolvers" => draft.resolvers = each(items, resolver)?,
        "trust_anchor" => draft.trust_anchor = Some(absolute(text)?),
        "dns_timeout" => draft.dns_timeout = duration(text, "100ms", "1m")?,
        "audit_interval" => draft.audit_interval = duration(text, "1s", "1h")?,
        "dns_silence" => draft.dns_silence = duration(text, "1s", "7d")?,
        "collect_interval" => draft.collect_interval = duration(text, "100ms", "1h")?,
        "collect_grace" => draft.collect_grace = duration(text, "0s", "7d")?,
        "probe_port" => draft.probe_port = optional_port(text)?,
        "probe_interval" => draft.probe_interval = duration(text, "100ms", "1h")?,
        "metrics_address" => draft.metrics_address = endpoint(text)?,
        "metrics_every_peer" => draft.metrics_every_peer = switch(text)?,
        "trace_port" => draft.trace_port = optional_port(text)?,
        "masquerade" => draft.masquerade = switch(text)?,
        "masquerade_exempt" => draft.masquerade_exempt = each(items, cidr)?,
        _ if key.starts_with("register") => draft.registration.assign(key, text)?,
        "cni_conf_dir" => draft.cni_conf_dir = absolute(text)?,
        "log_level" => draft.log_level = text.to_owned(),
        "log_format" => draft.log_format = Some(log_format(text)?),
        _ if threshold(&mut draft.thresholds, key, text)? => {}
        other => return Err(format!("\"{other}\" has no meaning here; this is a mistake in minionetd")),
    }
    Ok(())
}

/// Takes over one of the thresholds of the membership; says whether it is one.
fn threshold(limits: &mut Thresholds, key: &str, text: &str) -> Result<bool, String> {
    match key {
        "refresh_min" => limits.refresh_min = duration(text, "100ms", "1h")?,
        "refresh_max" => limits.refresh_max = duration(text, "100ms", "1h")?,
        "jitter_percent" => limits.jitter_percent = number(text, 0, 50)?,
        "missing_answers" => limits.missing_answers = number(text, 1, 1000)?,
        "hold_down" => limits.hold_down = duration(text, "0s", "7d")?,
        "mass_percent" => limits.mass_percent = number(text, 1, 100)?,
        "mass_floor" => limits.mass_floor = number(text, 0, u32::MAX)?,
        "mass_hold" => limits.mass_hold = duration(text, "0s", "7d")?,
        "flap_window" => limits.flap_window = duration(text, "0s", "7d")?,
        "flap_hold_max" => limits.flap_hold_max = duration(text, "0s", "7d")?,
        "sampling_answers" => limits.sampling_answers = number(text, 3, 1000)?,
        "sampling_exit" => limits.sampling_exit = number(text, 3, 1_000_000)?,
        "sampling_absence" => limits.sampling_absence = duration(text, "0s", "7d")?,
        "forget_after" => limits.forget_after = duration(text, "0s", "7d")?,
        "max_peers" => limits.max_peers = number(text, 1, u32::MAX)? as usize,
        _ => return Ok(false),
    }
    Ok(true)
}

impl Draft {
    /// Checks what concerns several settings.
    pub(super) fn finish(self) -> Result<Config, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut problem =
            |text: &str| problems.push(Problem { place: Place::Whole, problem: text.to_owned() });
        if self.cluster_name.is_empty() {
            problem(
                "no cluster is named: set CLUSTER_NAME in /etc/sysconfig/kubernetes-minions, cluster_name in \
                 /etc/minionet/minionet.toml, or --cluster-name",
            );
        }
        if let Err(error) = self.thresholds.check() {
            problem(&error.to_string());
        }
        if self.probe_port == Some(self.port) {
            problem("probe_port is the port of VXLAN, which the kernel keeps for itself: set another");
        }
        if self.trace_port == Some(self.port) {
            problem("trace_port is the port of VXLAN, which the kernel keeps for itself: set another");
        }
        if self.trace_port.is_some() && self.trace_port == self.probe_port {
            problem("trace_port and probe_port are the same: set another for one of them");
        }
        let register =
            self.registration.finish(&self.roles, self.probe_interval).map_err(|text| problem(&text)).ok();
        let prefix = |n: &Cidr| if n.family() == Family::V4 { self.node_prefix } else { self.node_prefix6 };
        let pods = self.pod_network.iter().map(|n| PodNetwork { network: *n, node_prefix: prefix(n) });
        let pod_networks: Vec<PodNetwork> = pods.collect();
        let Some(register) = register.filter(|_| problems.is_empty()) else { return Err(problems) };
        Ok(Config {
            cluster_name: self.cluster_name,
            domain: self.domain,
            roles: self.roles,
            node_networks: self.node_networks,
            pod_networks,
            node_ip: self.node_ip,
            interface: self.interface,
            vni: self.vni,
            port: self.port,
            underlay_mtu: self.underlay_mtu,
            encapsulation: self.encapsulation,
            resolvers: self.resolvers,
            trust_anchor: self.trust_anchor,
            thresholds: self.thresholds,
            dns_timeout: self.dns_timeout,
            audit_interval: self.audit_interval,
            dns_silence: self.dns_silence,
            collect_interval: self.collect_interval,
            collect_grace: self.collect_grace,
            probe_port: self.probe_port,
            probe_interval: self.probe_interval,
            metrics_address: self.metrics_address,
            metrics_every_peer: self.metrics_every_peer,
            trace_port: self.trace_port,
            masquerade: self.masquerade,
            masquerade_exempt: self.masquerade_exempt,
            register,
            cni_conf_dir: self.cni_conf_dir,
            log_level: self.log_level,
            log_format: self.log_format.unwrap_or(LogFormat::Text),
        })
    }
}

fn each<T>(items: &[String], parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    items.iter().map(|item| parse(item)).collect()
}

fn cidr(text: &str) -> Result<Cidr, String> {
    text.parse().map_err(|e: crate::addr::CidrError| e.to_string())
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("\"{text}\" is not an IP address"))
}

/// A resolver's address, with port 53 unless another is given.
fn resolver(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse::<SocketAddr>();
    let alone = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    with_port.or_else(|_| alone.map(|ip| SocketAddr::new(ip, 53))).map_err(|_| {
        format!("\"{text}\" is not the address of a resolver: write 10.0.0.2, 10.0.0.2:53, fd00::2 or [fd00::2]:53")
    })
}

/// One label of a domain name (RFC 1035 section 2.3.1; digits may lead, RFC 1123 section 2.1).
pub(super) fn label(text: &str) -> Result<String, String> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let valid = (1..=63).contains(&text.len())
        && text.bytes().all(ok)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if valid {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!("\"{text}\" is not a label of a domain name: use 1 to 63 letters, digits and dashes"))
}

pub(super) fn domain(text: &str) -> Result<String, String> {
    let labels: Vec<String> =
        each(&text.trim_end_matches('.').split('.').map(str::to_owned).collect::<Vec<_>>(), label)?;
    Ok(labels.join("."))
}

/// The name of an interface (`dev_valid_name` in net/core/dev.c).
fn interface(text: &str) -> Result<String, String> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace();
    if text.is_empty() || text.len() > 15 || text == "." || text == ".." || text.contains(bad) {
        return Err(format!("\"{text}\" cannot be the name of an interface"));
    }
    Ok(text.to_owned())
}

pub(super) fn absolute(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err(format!("\"{text}\" is not an absolute path"))
    }
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("\"{text}\" is neither true nor false")),
    }
}

fn encapsulation(text: &str) -> Result<Encapsulation, String> {
    match text {
        "always" => Ok(Encapsulation::Always),
        "cross-subnet" => Ok(Encapsulation::CrossSubnet),
        "never" => Ok(Encapsulation::Never),
        _ => Err(format!("\"{text}\" is none of always, cross-subnet and never")),
    }
}

fn optional_port(text: &str) -> Result<Option<u16>, String> {
    match text {
        "0" | "off" => Ok(None),
        _ => number(text, 1, u16::MAX).map(Some).map_err(|e| format!("{e}, and not off")),
    }
}

/// `sun_path` of unix(7) has 108 octets, of which one is a NUL.
const SOCKET_PATH_MAX: usize = 107;

fn endpoint(text: &str) -> Result<Option<Endpoint>, String> {
    if text == "off" {
        return Ok(None);
    }
    if text.starts_with('/') {
        return match text.len() {
            ..=SOCKET_PATH_MAX => Ok(Some(Endpoint::Unix(text.to_owned()))),
            _ => Err(format!(
                "\"{text}\" is longer than the {SOCKET_PATH_MAX} octets that a socket's path can have"
            )),
        };
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(Some(Endpoint::Tcp(address))),
        _ => Err(format!(
            "\"{text}\" is neither an address with a port (127.0.0.1:4799, [::1]:4799), nor the absolute path of a \
             socket, nor off"
        )),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("\"{text}\" is neither text nor json")),
    }
}

fn number<T>(text: &str, least: T, most: T) -> Result<T, String>
where
    T: TryFrom<u64> + PartialOrd + std::fmt::Display + Copy,
{
    let parsed = text.parse::<u64>().ok().and_then(|n| T::try_from(n).ok());
    match parsed {
        Some(n) if (least..=most).contains(&n) => Ok(n),
        _ => Err(format!("\"{text}\" is not a number from {least} to {most}")),
    }
}

/// A duration with its unit: `500ms`, `30s`, `10m`, `2h`, `1d`. A number alone means seconds.
pub(super) fn duration(text: &str, least: &str, most: &str) -> Result<Duration, String> {
    let of = |text: &str| -> Option<Duration> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let n: u64 = text[..digits].parse().ok()?;
        match text[digits..].trim() {
            "ms" => Some(Duration::from_millis(n)),
            "" | "s" => Some(Duration::from_secs(n)),
            "m" | "min" => Some(Duration::from_secs(n.checked_mul(60)?)),
            "h" => Some(Duration::from_secs(n.checked_mul(3600)?)),
            "d" => Some(Duration::from_secs(n.checked_mul(86400)?)),
            _ => None,
        }
    };
    let range = of(least).unwrap_or_default()..=of(most).unwrap_or(Duration::MAX);
    match of(text) {
        Some(duration) if range.contains(&duration) => Ok(duration),
        Some(_) => Err(format!("\"{text}\" is not between {least} and {most}")),
        None => {
            Err(format!("\"{text}\" is not a duration: write a number and ms, s, m, h or d, for example 30s"))
        }
    }
}
