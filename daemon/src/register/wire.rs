//! Messages to the server of the zone: beside the lookups, the only module that names the DNS
//! library.
//!
//! Everything goes over TCP, as the sender of an update may choose (RFC 2136 section 2.1): nothing
//! is truncated or sent twice, and nobody can answer in the server's place who does not sit on the
//! way. All messages to the primary server are signed, and so must its answers be.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use hickory_resolver::proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::tsig::{TSIG, TsigAlgorithm};
use hickory_resolver::proto::rr::rdata::{A, AAAA, TXT};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigner};
use minionet_core::register::{Algorithm, Change, Failure, Key, Server, Settings, Update, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How far the clocks may differ, in seconds (RFC 8945 section 10 recommends 300).
const FUDGE: u16 = 300;

/// The server that takes the updates of a zone.
#[derive(Clone, Debug)]
pub struct Primary {
    /// The zone, fully qualified.
    pub zone: String,
    /// Its addresses, to be tried in turn.
    pub servers: Vec<SocketAddr>,
    timeout: Duration,
}

/// Finds the zone of a name and its primary server, as far as the settings do not tell.
///
/// # Errors
/// [`Failure`] says what is not to be found.
pub async fn find(
    settings: &Settings,
    name: &str,
    resolvers: &[SocketAddr],
    timeout: Duration,
) -> Result<Primary, Failure> {
    let (zone, server) = match (&settings.zone, &settings.server) {
        (Some(zone), Some(server)) => (zone.clone(), server.clone()),
        (zone, server) => {
            let asked = zone.as_deref().unwrap_or(name);
            let (found, primary) = ask_each(resolvers, |resolver| authority(resolver, asked, timeout))
                .await
                .map_err(|cause| Failure::NoZone { name: name.to_owned(), cause })?;
            let primary = Server::Name(primary, minionet_core::register::DNS_PORT);
            (zone.clone().unwrap_or(found), server.clone().unwrap_or(primary))
        }
    };
    let servers = match server {
        Server::Address(address) => vec![address],
        Server::Name(host, port) => {
            let found = ask_each(resolvers, |resolver| addresses(resolver, &host, timeout)).await;
            let found = found.map_err(|cause| Failure::NoAddress { host: host.clone(), cause })?;
            found.into_iter().map(|address| SocketAddr::new(address, port)).collect()
        }
    };
    Ok(Primary { zone, servers, timeout })
}

impl Primary {
    /// The addresses as text.
    pub fn label(&self) -> String {
        self.servers.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Sends an update; it has been done when this succeeds.
    ///
    /// # Errors
    /// [`Failure::Changed`] when its prerequisite is not met, others when it was refused or cannot
    /// be sent.
    pub async fn update(&self, key: &Key, update: &Update) -> Result<(), Failure> {
        let message = message(&self.zone, update).map_err(|e| Failure::Local(format!("{e:#}")))?;
        self.ask(key, message).await.map(drop)
    }

    /// What a TXT record says on the primary server; nothing where there is none.
    ///
    /// # Errors
    /// When the server does not tell.
    pub async fn text(&self, key: &Key, owner: &str) -> Result<Option<String>, Failure> {
        let message = query(owner, RecordType::TXT, false).map_err(|e| Failure::Local(format!("{e:#}")))?;
        let answer = match self.ask(key, message).await {
            // NXDOMAIN
            Err(Failure::Changed) => return Ok(None),
            other => other?,
        };
        Ok(answer.answers.iter().find_map(|record| match &record.data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        }))
    }

    /// Signs and sends a message, and proves the answer.
    async fn ask(&self, key: &Key, mut message: Message) -> Result<Message, Failure> {
        let local = |e: &dyn std::fmt::Display| Failure::Local(format!("an update cannot be signed: {e}"));
        let signer = signer(key).map_err(|e| local(&e))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        message.finalize(&signer, now).map_err(|e| local(&e))?;
        let mac = message.signature().map(|record| record.data.mac.clone()).unwrap_or_default();
        let mut unreachable =
            Failure::Unreachable { server: self.label(), cause: "it has no address".into() };
        for server in &self.servers {
            match exchange(*server, &message, self.timeout).await {
                Ok((answer, bytes)) => return self.judge(*server, key, &signer, (answer, &bytes), &mac, now),
                Err(cause) => {
                    unreachable =
                        Failure::Unreachable { server: server.to_string(), cause: format!("{cause:#}") };
                }
            }
        }
        Err(unreachable)
    }

    fn judge(
        &self,
        server: SocketAddr,
        key: &Key,
        signer: &TSigner,
        (answer, bytes): (Message, &[u8]),
        mac: &[u8],
        now: u64,
    ) -> Result<Message, Failure> {
        let server = server.to_string();
        let unsigned = || Failure::Unsigned { server: server.clone(), key: key.name.clone() };
        let tsig = answer.signature().map(|record| &record.data);
        let error = tsig.and_then(|tsig| tsig.error).map(u16::from);
        let verdict = Verdict {
            rcode: u16::from(answer.metadata.response_code),
            tsig: error,
            ahead: tsig.and_then(|tsig| ahead(tsig, now)),
        };
        let failure = Failure::of(verdict, &server, &self.zone, &key.name);
        let is_proved = tsig.is_some() && signer.verify_message_byte(bytes, Some(mac), true).is_ok();
        match failure {
            // Only words that can be believed may move anything; what is refused is refused. BADSIG and
            // BADKEY come unsigned, since there is no common secret (RFC 8945 section 5.2).
            None | Some(Failure::Changed) if !is_proved => Err(unsigned()),
            Some(Failure::BadTime { .. }) if !is_proved => Err(unsigned()),
            Some(failure) => Err(failure),
            None => Ok(answer),
        }
    }
}

/// How many seconds the server's clock is ahead, as an answer about a bad time tells (RFC 8945
/// section 5.2.3: 48 bits of seconds).
fn ahead(tsig: &TSIG, now: u64) -> Option<i64> {
    let octets: [u8; 6] = tsig.other.as_slice().try_into().ok()?;
    let theirs = octets.iter().fold(0u64, |sum, octet| sum << 8 | u64::from(*octet));
    i64::try_from(theirs).ok()?.checked_sub(i64::try_from(now).ok()?)
}

fn signer(key: &Key) -> Result<TSigner> {
    let algorithm = match key.algorithm {
        Algorithm::Sha256 => TsigAlgorithm::HmacSha256,
        Algorithm::Sha384 => TsigAlgorithm::HmacSha384,
        Algorithm::Sha512 => TsigAlgorithm::HmacSha512,
    };
    Ok(TSigner::new(key.secret.clone(), algorithm, parse(&key.name)?, FUDGE)?)
}

/// An update as a message: RFC 2136 sections 2.3 to 2.5.
fn message(zone: &str, update: &Update) -> Result<Message> {
    let mut message = query(zone, RecordType::SOA, false)?;
    message.metadata.op_code = OpCode::Update;
    if let Some(lease) = &update.requires {
        message.add_answer(text_record(&lease.name, &lease.text, 0)?);
    }
    for change in &update.changes {
        match change {
            Change::Add { name, address, ttl } => {
                message.add_authority(address_record(name, *address, seconds(*ttl))?);
            }
            Change::Remove { name, address } => {
                let mut record = address_record(name, *address, 0)?;
                record.dns_class = DNSClass::NONE;
                message.add_authority(record);
            }
            Change::SetLease(lease, ttl) => {
                message.add_authority(no_text(&lease.name)?);
                message.add_authority(text_record(&lease.name, &lease.text, seconds(*ttl))?);
            }
            Change::DropLease(name) => {
                message.add_authority(no_text(name)?);
            }
        }
    }
    Ok(message)
}

fn seconds(ttl: Duration) -> u32 {
    u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX)
}

fn address_record(name: &str, address: IpAddr, ttl: u32) -> Result<Record> {
    let data = match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    };
    Ok(Record::from_rdata(parse(name)?, ttl, data))
}

fn text_record(name: &str, text: &str, ttl: u32) -> Result<Record> {
    Ok(Record::from_rdata(parse(name)?, ttl, RData::TXT(TXT::new(vec![text.to_owned()]))))
}

/// "No TXT record": RFC 2136 section 2.5.2.
fn no_text(name: &str) -> Result<Record> {
    let mut record = Record::update0(parse(name)?, 0, RecordType::TXT).into_record_of_rdata();
    record.dns_class = DNSClass::ANY;
    Ok(record)
}

fn query(name: &str, kind: RecordType, recursive: bool) -> Result<Message> {
    let mut message = Message::query();
    message.metadata.recursion_desired = recursive;
    let mut query = Query::query(parse(name)?, kind);
    query.set_query_class(DNSClass::IN);
    message.add_query(query);
    Ok(message)
}

fn parse(name: &str) -> Result<Name> {
    Name::from_ascii(name).with_context(|| format!("{name} is not a domain name"))
}

/// Sends a message over TCP, two octets of length before it (RFC 1035 section 4.2.2), and reads
/// the answer to it.
async fn exchange(server: SocketAddr, message: &Message, limit: Duration) -> Result<(Message, Vec<u8>)> {
    let talk = async {
        let bytes = message.to_vec()?;
        let mut stream = TcpStream::connect(server).await?;
        let mut framed =
            u16::try_from(bytes.len()).context("the message is too long")?.to_be_bytes().to_vec();
        framed.extend(bytes);
        stream.write_all(&framed).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        let parsed = Message::from_vec(&answer).context("the answer is malformed")?;
        ensure!(parsed.metadata.id == message.metadata.id, "the answer is to another question");
        anyhow::Ok((parsed, answer))
    };
    timeout(limit, talk).await.with_context(|| format!("no answer within {limit:?}"))?
}

/// Asks one resolver after the other, until one knows.
async fn ask_each<T, F>(resolvers: &[SocketAddr], ask: impl Fn(SocketAddr) -> F) -> Result<T, String>
where
    F: Future<Output = Result<T>>,
{
    let mut causes = Vec::new();
    for resolver in resolvers {
        match ask(*resolver).await {
            Ok(found) => return Ok(found),
            Err(cause) => causes.push(format!("{resolver}: {cause:#}")),
        }
    }
    Err(if causes.is_empty() { "no resolver is known".to_owned() } else { causes.join("; ") })
}

/// The zone of a name and its primary server. Where the name has no SOA record, the answer names
/// that of its zone, to say for how long there is none (RFC 2308 section 3).
async fn authority(resolver: SocketAddr, name: &str, limit: Duration) -> Result<(String, String)> {
    let (answer, _) = exchange(resolver, &query(name, RecordType::SOA, true)?, limit).await?;
    let records = answer.answers.iter().chain(&answer.authorities);
    let soa = records.filter_map(|record| match &record.data {
        RData::SOA(soa) => Some((record.name.to_ascii(), soa.mname.to_ascii())),
        _ => None,
    });
    let code = answer.metadata.response_code;
    soa.into_iter().next().with_context(|| format!("its answer has no SOA record ({code})"))
}

async fn addresses(resolver: SocketAddr, host: &str, limit: Duration) -> Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    let mut code = ResponseCode::NoError;
    for kind in [RecordType::A, RecordType::AAAA] {
        let (answer, _) = exchange(resolver, &query(host, kind, true)?, limit).await?;
        code = answer.metadata.response_code;
        found.extend(answer.answers.iter().filter_map(|record| match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        }));
    }
    ensure!(!found.is_empty(), "its answer has no address ({code})");
    Ok(found)
}
