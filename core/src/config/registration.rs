//! The settings of self-registration.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::parse::{absolute, domain, duration, label, switch};
use crate::register::{DNS_PORT, Server, Settings};

/// Twice the time in which the probe finds a peer dead: five requests, of a second each where the
/// round-trip time is less than that ([`crate::probe::Limits`]).
const DETECTION: Duration = Duration::from_secs(10);

/// Values as far as they are known.
#[derive(Default)]
pub(super) struct Registration {
    enabled: bool,
    role: Option<String>,
    server: Option<Server>,
    zone: Option<String>,
    key_file: String,
    ttl: Duration,
    lease: Option<Duration>,
}

impl Registration {
    /// Takes one value over.
    pub(super) fn assign(&mut self, key: &str, text: &str) -> Result<(), String> {
        match key {
            "register" => self.enabled = switch(text)?,
            "register_role" => self.role = Some(label(text)?),
            "register_server" => self.server = Some(server(text)?),
            "register_zone" => self.zone = Some(domain(text)? + "."),
            "register_key" => self.key_file = absolute(text)?,
            "register_ttl" => self.ttl = ttl(text)?,
            "register_lease" => self.lease = lease(text)?,
            other => return Err(format!("\"{other}\" has no meaning here; this is a mistake in minionetd")),
        }
        Ok(())
    }

    /// Checks what concerns several settings.
    pub(super) fn finish(self, roles: &[String], probe_interval: Duration) -> Result<Settings, String> {
        let least = DETECTION + probe_interval * 2;
        if self.lease.is_some_and(|lease| lease < least) {
            return Err(format!(
                "register_lease is shorter than {least:?}: the probe would not have found all that are dead before some \
                 are judged; raise it, or lower probe_interval"
            ));
        }
        let role = self.role.or_else(|| roles.first().cloned()).unwrap_or_default();
        if !roles.is_empty() && !roles.contains(&role) {
            return Err(format!(
                "register_role is {role}, which is not one of the roles ({}): the node would not see its own record; \
                 add it to roles",
                roles.join(", ")
            ));
        }
        Ok(Settings {
            enabled: self.enabled,
            role,
            server: self.server,
            zone: self.zone,
            key_file: self.key_file,
            ttl: self.ttl,
            lease: self.lease,
        })
    }
}

/// An address or a name, with port 53 unless another is given.
fn server(text: &str) -> Result<Server, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Server::Address(address));
    }
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(Server::Address(SocketAddr::new(ip, DNS_PORT)));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)),
        None => (text, Some(DNS_PORT)),
    };
    match (domain(host), port) {
        (Ok(host), Some(port)) => Ok(Server::Name(host + ".", port)),
        _ => Err(format!(
            "\"{text}\" is not a server: write 10.0.0.2, 10.0.0.2:53, fd00::2, [fd00::2]:53, or a name with or without \
             a port"
        )),
    }
}

/// A time to live: whole seconds (RFC 1035 section 4.1.3).
fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text, "1s", "1d")?;
    if ttl.subsec_nanos() == 0 {
        Ok(ttl)
    } else {
        Err(format!("\"{text}\" is not a whole number of seconds"))
    }
}

fn lease(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "off" => Ok(None),
        _ => duration(text, "1s", "30d").map(Some).map_err(|e| format!("{e}, and not off")),
    }
}
