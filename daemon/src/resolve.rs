//! Lookups: the only module that names the DNS libraries.
//!
//! Each server is asked by itself, so that their answers can be compared, and nothing is cached. What
//! comes back is plain data for the membership; an answer that was truncated has been asked for again
//! over TCP (`Truncated` is what remains when TCP does not work either).
//!
//! Who answers a question directly is heard by [`plain`], which is fast. Signatures are proved, and
//! names that lead to other servers' names are followed, by the resolver library.

mod plain;
mod survey;

use std::collections::BTreeMap;
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
use minionet_core::addr::Family;
use minionet_core::config::Config;
use minionet_core::membership::{AddressSet, Complete, FailureKind, Outcome, Reply, Round};

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
    /// What each server said last of each name. An answer that says the same again is the same object,
    /// so that nobody has to compare them a second time.
    last: BTreeMap<(String, String), Arc<AddressSet>>,
    spare: plain::Spare,
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
            last: BTreeMap::new(),
            spare: plain::Spare::default(),
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
                let (server, resolver, name, spare) =
                    (*server, resolver.clone(), name.clone(), self.spare.clone());
                tasks.spawn(async move {
                    // Where the trust anchor fits none of the zone's keys the library goes on for
                    // ever in search of a chain.
                    let limit = resolver.options().timeout * LIMIT;
                    let asked = ask_quickly(server, &resolver, &name, &spare);
                    let outcome = tokio::time::timeout(limit, asked).await;
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
            round.replies.extend(reply.ok().map(|reply| self.recognise(reply)));
        }
        // What is not asked any more is forgotten.
        let said = |(resolver, name): &(String, String)| {
            round.replies.iter().any(|reply| (&reply.resolver, &reply.name) == (resolver, name))
        };
        self.last.retain(|key, _| said(key));
        round
    }

    fn recognise(&mut self, mut reply: Reply) -> Reply {
        if let Outcome::Answer { addresses, .. } = &mut reply.outcome {
            let last = self.last.entry((reply.resolver.clone(), reply.name.clone())).or_default();
            if *last == *addresses {
                *addresses = Arc::clone(last);
            } else {
                *last = Arc::clone(addresses);
            }
        }
        reply
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

/// A and AAAA of one name from one server, as one outcome. Only what the library alone can do is left
/// to it.
async fn ask_quickly(
    server: SocketAddr,
    resolver: &TokioResolver,
    name: &str,
    spare: &plain::Spare,
) -> Outcome {
    if resolver.options().validate {
        return ask(resolver, name).await;
    }
    let limit = resolver.options().timeout;
    let family = async |family, kind| match plain::ask(server, name, family, limit, spare).await {
        plain::Answer::Said(said) => said,
        plain::Answer::Elsewhere => look_up(resolver, name, kind).await,
    };
    let (v4, v6) = tokio::join!(family(Family::V4, RecordType::A), family(Family::V6, RecordType::AAAA));
    outcome(v4, v6)
}

/// The same by the library.
async fn ask(resolver: &TokioResolver, name: &str) -> Outcome {
    let (v4, v6) =
        tokio::join!(look_up(resolver, name, RecordType::A), look_up(resolver, name, RecordType::AAAA));
    outcome(v4, v6)
}

async fn look_up(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Records, Lacking> {
    records(resolver, name, kind).await.map_err(|error| Lacking::of(&error))
}

/// What two lookups come to together.
fn outcome(v4: Result<Records, Lacking>, v6: Result<Records, Lacking>) -> Outcome {
    let is_complete =
        |result: &Result<Records, Lacking>| result.as_ref().map_or_else(|e| e.complete, |_| true);
    let complete = Complete { v4: is_complete(&v4), v6: is_complete(&v6) };
    let mut all = Records::default();
    let mut found = |result: Result<Records, Lacking>| result.map(|records| all.append(records)).err();
    let lacking = [found(v4), found(v6)];
    let Records { v4, v6, ttl } = all;
    let addresses = AddressSet::of(v4, v6);
    if addresses.is_empty() {
        // An empty answer is told apart from none only by a success of both.
        let empty = || (FailureKind::Empty, "the answer has no address".to_owned());
        let first = lacking.into_iter().flatten().next();
        let (kind, text) = first.map_or_else(empty, |e| (e.kind, e.text));
        return Outcome::Failure { kind, text };
    }
    Outcome::Answer { addresses: Arc::new(addresses), ttl: Duration::from_secs(u64::from(ttl)), complete }
}

/// What a lookup found: addresses as numbers, in the order of the answer.
struct Records {
    v4: Vec<u32>,
    v6: Vec<u128>,
    /// The lowest, in seconds; where there is no record, the largest that can be.
    ttl: u32,
}

impl Default for Records {
    fn default() -> Self {
        Records { v4: Vec::new(), v6: Vec::new(), ttl: u32::MAX }
    }
}

impl Records {
    /// Makes room for so many of a family.
    fn expect(&mut self, family: Family, count: usize) {
        match family {
            Family::V4 => self.v4.reserve_exact(count),
            Family::V6 => self.v6.reserve_exact(count),
        }
    }

    fn add(&mut self, address: IpAddr, ttl: u32) {
        match address {
            IpAddr::V4(address) => self.v4.push(address.to_bits()),
            IpAddr::V6(address) => self.v6.push(address.to_bits()),
        }
        self.ttl = self.ttl.min(ttl);
    }

    /// Takes in what another lookup found: as a rule of the other family.
    fn append(&mut self, more: Records) {
        fn join<T>(all: &mut Vec<T>, mut more: Vec<T>) {
            if all.is_empty() { *all = more } else { all.append(&mut more) }
        }
        join(&mut self.v4, more.v4);
        join(&mut self.v6, more.v6);
        self.ttl = self.ttl.min(more.ttl);
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// Why a lookup found nothing.
struct Lacking {
    kind: FailureKind,
    text: String,
    /// Whether this tells all there is: "the name exists, but has no such records".
    complete: bool,
}

impl Lacking {
    fn failed(kind: FailureKind, text: String) -> Self {
        Lacking { kind, text, complete: false }
    }

    fn of(error: &NetError) -> Self {
        Lacking { kind: kind(error), text: error.to_string(), complete: is_complete(error) }
    }
}

async fn records(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Records, NetError> {
    let lookup = resolver.lookup(name, kind).await?;
    let mut records = Records::default();
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
        records.add(addr, record.ttl);
    }
    Ok(records)
}

/// Whether a failed lookup tells all there is: "the name exists, but has no such records".
fn is_complete(error: &NetError) -> bool {
    match error {
        // A signed denial of these records, of a name that exists.
        NetError::Dns(DnsError::Nsec { response, proof, .. }) => {
            proof.is_secure() && response.response_code == ResponseCode::NoError
        }
        error => error.is_no_records_found() && !error.is_nx_domain(),
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
