//! Lookups: the only module that names the resolver library.
//!
//! Its cache is off and so is its choice among servers: each server is asked by itself, so that
//! their answers can be compared. What comes back is plain data for the membership; an answer
//! that was truncated has been asked for again over TCP by the library (`Truncated` is what
//! remains when TCP does not work either).

mod survey;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use minionet_core::config::Config;
use minionet_core::membership::{Complete, FailureKind, Outcome, Reply, Round};

pub use self::survey::survey;

/// Where the system's resolvers are named, resolv.conf(5).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The largest answer over UDP that is asked for, in octets (the value agreed upon at DNS flag
/// day 2020: it fits every path without fragments).
const EDNS_PAYLOAD: u16 = 1232;

/// How often a server is asked before its silence counts.
const ATTEMPTS: usize = 2;

/// How much longer than a single query a lookup may take: its tries, the one over TCP that follows
/// a truncated answer, and the keys that prove the answer.
const LIMIT: u32 = 5;

/// Asks the servers.
pub struct Lookups {
    configured: Vec<SocketAddr>,
    trust_anchor: Option<String>,
    timeout: Duration,
    servers: Vec<(SocketAddr, TokioResolver)>,
}

impl Lookups {
    /// Uses the servers configured, or, if there are none, those of the system. With a trust
    /// anchor, only answers that it signs are taken.
    pub fn new(config: &Config) -> Self {
        Lookups {
            configured: config.resolvers.clone(),
            trust_anchor: config.trust_anchor.clone(),
            timeout: config.dns_timeout,
            servers: Vec::new(),
        }
    }

    /// Asks every server for every name. The system's list of servers is read anew each time,
    /// so a change of it takes effect with the next round.
    pub async fn round(&mut self, names: &[String]) -> Round {
        if let Err(text) = self.refresh_servers() {
            let outcome = || Outcome::Failure { kind: FailureKind::NoResolver, text: text.clone() };
            let none =
                |name: &String| Reply { name: name.clone(), resolver: String::new(), outcome: outcome() };
            return Round { replies: names.iter().map(none).collect() };
        }
        let mut tasks = tokio::task::JoinSet::new();
        for (server, resolver) in &self.servers {
            for name in names {
                let (server, resolver, name) = (*server, resolver.clone(), name.clone());
                tasks.spawn(async move {
                    // Where the trust anchor fits none of the zone's keys the library goes on for
                    // ever in search of a chain.
                    let limit = resolver.options().timeout * LIMIT;
                    let outcome = tokio::time::timeout(limit, ask(&resolver, &name)).await;
                    let outcome = outcome.unwrap_or_else(|_| Outcome::Failure {
                        kind: FailureKind::Timeout,
                        text: format!("no answer, or no proof of its signatures, within {limit:?}"),
                    });
                    Reply { name, resolver: server.to_string(), outcome }
                });
            }
        }
        let mut round = Round::default();
        while let Some(reply) = tasks.join_next().await {
            // A lookup that panics has no reply, which counts as a failure.
            round.replies.extend(reply.ok());
        }
        round
    }

    fn refresh_servers(&mut self) -> Result<(), String> {
        let wanted = servers(&self.configured)?;
        let present: Vec<SocketAddr> = self.servers.iter().map(|(server, _)| *server).collect();
        if present != wanted {
            let anchors = self.trust_anchor.as_deref().map(anchors).transpose()?;
            let resolvers = wanted.into_iter().map(|s| resolver(s, self.timeout, &anchors).map(|r| (s, r)));
            self.servers = resolvers.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// The servers that are configured, or, if there are none, those that the system names.
///
/// # Errors
/// When none is configured, and the system names none.
pub fn servers(configured: &[SocketAddr]) -> Result<Vec<SocketAddr>, String> {
    if configured.is_empty() { system_servers() } else { Ok(configured.to_vec()) }
}

fn system_servers() -> Result<Vec<SocketAddr>, String> {
    let text = fs::read(RESOLV_CONF).map_err(|e| format!("cannot read {RESOLV_CONF}: {e}"))?;
    let (config, _) = hickory_resolver::system_conf::parse_resolv_conf(&text)
        .map_err(|e| format!("{RESOLV_CONF} names no server: {e}"))?;
    Ok(config.name_servers().iter().map(|s| SocketAddr::new(s.ip, 53)).collect())
}

/// The keys of a file of DNSKEY records.
fn anchors(file: &str) -> Result<Arc<TrustAnchors>, String> {
    let anchors = TrustAnchors::from_file(Path::new(file));
    anchors.map(Arc::new).map_err(|e| format!("cannot read the trust anchor {file}: {e}"))
}

/// Asks over UDP, and where that is truncated, over TCP.
fn resolver(
    server: SocketAddr,
    timeout: Duration,
    anchors: &Option<Arc<TrustAnchors>>,
) -> Result<TokioResolver, NetError> {
    over(server, vec![ConnectionConfig::udp(), ConnectionConfig::tcp()], timeout, anchors)
}

fn over(
    server: SocketAddr,
    mut transports: Vec<ConnectionConfig>,
    timeout: Duration,
    anchors: &Option<Arc<TrustAnchors>>,
) -> Result<TokioResolver, NetError> {
    transports.iter_mut().for_each(|transport| transport.port = server.port());
    let name_server = NameServerConfig::new(server.ip(), false, transports);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![name_server]);
    let mut options = ResolverOpts::default();
    options.cache_size = 0;
    options.timeout = timeout;
    options.attempts = ATTEMPTS;
    options.edns0 = true;
    options.edns_payload_len = EDNS_PAYLOAD;
    options.use_hosts_file = ResolveHosts::Never;
    options.validate = anchors.is_some();
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    if let Some(anchors) = anchors {
        builder = builder.with_trust_anchor(anchors.clone());
    }
    builder.with_options(options).build()
}

/// A and AAAA of one name from one server, as one outcome.
async fn ask(resolver: &TokioResolver, name: &str) -> Outcome {
    let (v4, v6) =
        tokio::join!(records(resolver, name, RecordType::A), records(resolver, name, RecordType::AAAA),);
    let complete = Complete { v4: is_complete(&v4), v6: is_complete(&v6) };
    let mut addresses = BTreeSet::new();
    let mut ttl = u32::MAX;
    for records in [&v4, &v6].into_iter().flatten() {
        addresses.extend(records.addresses.iter().copied());
        ttl = ttl.min(records.ttl);
    }
    if addresses.is_empty() {
        // An empty answer is told apart from none only by a success of both.
        let error = v4.err().or(v6.err());
        let empty = || (FailureKind::Empty, "the answer has no address".to_owned());
        let (kind, text) = error.map_or_else(empty, |e| (kind(&e), e.to_string()));
        return Outcome::Failure { kind, text };
    }
    Outcome::Answer { addresses: Arc::new(addresses), ttl: Duration::from_secs(u64::from(ttl)), complete }
}

struct Records {
    addresses: Vec<IpAddr>,
    ttl: u32,
}

async fn records(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Records, NetError> {
    let lookup = resolver.lookup(name, kind).await?;
    let mut records = Records { addresses: Vec::new(), ttl: u32::MAX };
    for record in lookup.answers() {
        // Without validation every proof is indeterminate; with it, what is not signed is an error
        // already, and this is the second lock on that door.
        if resolver.options().validate && !record.proof.is_secure() {
            return Err(NetError::Dns(DnsError::DnssecBogus));
        }
        let addr = match &record.data {
            RData::A(a) => IpAddr::V4(a.0),
            RData::AAAA(a) => IpAddr::V6(a.0),
            _ => continue,
        };
        records.addresses.push(addr);
        records.ttl = records.ttl.min(record.ttl);
    }
    Ok(records)
}

/// Whether a lookup tells all there is: an answer does, and so does "the name exists, but has no
/// such records".
fn is_complete(result: &Result<Records, NetError>) -> bool {
    match result {
        Ok(_) => true,
        // A signed denial of these records, of a name that exists.
        Err(NetError::Dns(DnsError::Nsec { response, proof, .. })) => {
            proof.is_secure() && response.response_code == ResponseCode::NoError
        }
        Err(error) => error.is_no_records_found() && !error.is_nx_domain(),
    }
}

fn kind(error: &NetError) -> FailureKind {
    match error {
        NetError::Timeout => FailureKind::Timeout,
        NetError::Truncated => FailureKind::Truncated,
        NetError::Dns(DnsError::DnssecBogus) => FailureKind::Bogus,
        NetError::Dns(DnsError::Nsec { proof, .. }) if !proof.is_secure() => FailureKind::Bogus,
        NetError::Dns(DnsError::Nsec { response, .. })
            if response.response_code == ResponseCode::NXDomain =>
        {
            FailureKind::NxDomain
        }
        NetError::Dns(DnsError::Nsec { .. }) => FailureKind::Empty,
        NetError::Dns(DnsError::NoRecordsFound(_)) if error.is_nx_domain() => FailureKind::NxDomain,
        NetError::Dns(DnsError::NoRecordsFound(_)) => FailureKind::Empty,
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => FailureKind::ServFail,
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => FailureKind::Refused,
        NetError::Dns(DnsError::ResponseCode(ResponseCode::NXDomain)) => FailureKind::NxDomain,
        NetError::Dns(DnsError::ResponseCode(_)) => FailureKind::OtherCode,
        NetError::Proto(_) => FailureKind::Malformed,
        NetError::NoConnections | NetError::Io(_) | NetError::Busy => FailureKind::Unreachable,
        _ => FailureKind::OtherCode,
    }
}
