//! From a query to the bytes of the reply. Pure.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Metadata, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;
use hickory_server::zone_handler::MessageResponseBuilder;

use super::zone::{Zone, in_domain, key};
use super::{DOMAIN, Fault, Garbage, TcpAfterTruncation};

/// The UDP payload that a client without EDNS takes: RFC 1035, section 4.2.1.
const PLAIN_UDP: u16 = 512;
/// How long a client may remember that a name is absent, in seconds.
const NEGATIVE_TTL: u32 = 1;
/// What noise looks like: too short for a header (RFC 1035, section 4.1.1, has 12 bytes).
const NOISE: &[u8] = b"\xde\xad\xbe\xef";

/// How the query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What to do with a query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Send these bytes after a while.
    Send { bytes: Vec<u8>, after: Duration },
    /// Say nothing.
    Silence,
    /// Close the connection; over UDP the same as saying nothing.
    Close,
}

/// What the records section will say.
struct Answer {
    code: ResponseCode,
    addresses: Vec<IpAddr>,
    ttl: u32,
}

/// Answers a query. Bytes that are no query get no reply.
pub(super) fn reply(zone: &mut Zone, raw: Vec<u8>, client: SocketAddr, transport: Transport) -> Reply {
    let protocol = match transport {
        Transport::Udp => Protocol::Udp,
        Transport::Tcp => Protocol::Tcp,
    };
    let Ok(request) = Request::from_bytes(raw, client, protocol) else { return Reply::Silence };
    let Ok((name, kind)) = request.request_info().map(|info| {
        let query = info.query.original();
        (query.name().to_ascii(), query.query_type())
    }) else {
        return Reply::Silence;
    };

    let fault = zone.fault(&name).cloned();
    let mut answer = truth(zone, &name, kind);
    let family = |address: &IpAddr| is_of(address, kind);
    let code = |code| Answer { code, addresses: Vec::new(), ttl: NEGATIVE_TTL };
    let mut truncated = false;
    let mut after = Duration::ZERO;
    match &fault {
        None | Some(Fault::Garbage(_)) => {}
        Some(Fault::ServFail) => answer = code(ResponseCode::ServFail),
        Some(Fault::NxDomain) => answer = code(ResponseCode::NXDomain),
        Some(Fault::Refused) => answer = code(ResponseCode::Refused),
        Some(Fault::Empty) => answer = code(ResponseCode::NoError),
        Some(Fault::Timeout) => return Reply::Silence,
        Some(Fault::Truncated(after)) => match (transport, after) {
            (Transport::Udp, _) => {
                truncated = true;
                answer.addresses.clear();
            }
            (Transport::Tcp, TcpAfterTruncation::Closed) => return Reply::Close,
            (Transport::Tcp, TcpAfterTruncation::Hung) => return Reply::Silence,
        },
        Some(Fault::Slow(delay)) => after = *delay,
        Some(Fault::RandomSubset(size)) => {
            shuffle(zone, &mut answer.addresses);
            answer.addresses.truncate(*size);
        }
        Some(Fault::Partial(kept)) => answer.addresses.retain(|address| kept.contains(address)),
        Some(Fault::Lie(lies)) => {
            let addresses = lies.iter().copied().filter(family).collect();
            answer = Answer { code: ResponseCode::NoError, addresses, ttl: answer.ttl };
        }
    }
    let Some(mut bytes) = encode(&request, &name, &answer, transport, truncated) else {
        return Reply::Silence;
    };
    match fault {
        Some(Fault::Garbage(Garbage::Noise)) => bytes = NOISE.to_vec(),
        Some(Fault::Garbage(Garbage::WrongId)) => bytes[0] ^= 0xff,
        Some(Fault::Garbage(Garbage::Cut)) => bytes.truncate(bytes.len() / 2),
        _ => {}
    }
    Reply::Send { bytes, after }
}

/// What an honest server says.
fn truth(zone: &Zone, name: &str, kind: RecordType) -> Answer {
    let code = |code| Answer { code, addresses: Vec::new(), ttl: NEGATIVE_TTL };
    if !in_domain(&key(name)) {
        return code(ResponseCode::Refused);
    }
    match zone.get(name) {
        Some(records) => Answer {
            code: ResponseCode::NoError,
            addresses: records.addresses.iter().copied().filter(|address| is_of(address, kind)).collect(),
            ttl: records.ttl,
        },
        None if zone.is_parent(name) => code(ResponseCode::NoError),
        None => code(ResponseCode::NXDomain),
    }
}

fn is_of(address: &IpAddr, kind: RecordType) -> bool {
    match kind {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        _ => false,
    }
}

/// Draws an order: Fisher and Yates.
fn shuffle(zone: &mut Zone, addresses: &mut [IpAddr]) {
    for last in (1..addresses.len()).rev() {
        let draw = zone.draw() % (last as u64 + 1);
        // At most `last`, which is a usize.
        addresses.swap(last, draw as usize);
    }
}

/// The message; over UDP it is cut to what the client takes and then has the truncation bit set.
fn encode(
    request: &Request,
    name: &str,
    answer: &Answer,
    transport: Transport,
    truncated: bool,
) -> Option<Vec<u8>> {
    let owner = Name::from_ascii(name).ok()?;
    let record = |address: &IpAddr| {
        let data = match *address {
            IpAddr::V4(address) => RData::A(address.into()),
            IpAddr::V6(address) => RData::AAAA(address.into()),
        };
        Record::from_rdata(owner.clone(), answer.ttl, data)
    };
    let records: Vec<Record> = answer.addresses.iter().map(record).collect();
    let negative =
        records.is_empty() && matches!(answer.code, ResponseCode::NoError | ResponseCode::NXDomain);
    let soa = if negative && !truncated { Some(start_of_authority()?) } else { None };

    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.authoritative = answer.code != ResponseCode::Refused;
    metadata.response_code = answer.code;
    metadata.truncation = truncated;
    let mut edns = Edns::new();
    edns.set_max_payload(request.max_payload()).set_version(0);
    let mut builder = MessageResponseBuilder::from_message_request(request);
    if request.edns.is_some() {
        builder.edns(&edns);
    }
    let response = builder.build(metadata, &records, [], soa.as_ref(), []);

    let mut bytes = Vec::with_capacity(usize::from(PLAIN_UDP));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(match transport {
        Transport::Udp if request.edns.is_some() => request.max_payload(),
        Transport::Udp => PLAIN_UDP,
        Transport::Tcp => u16::MAX,
    });
    response.destructive_emit(&mut encoder).ok()?;
    Some(bytes)
}

fn start_of_authority() -> Option<Record> {
    let domain = Name::from_ascii(format!("{DOMAIN}.")).ok()?;
    let server = Name::from_ascii(format!("ns.{DOMAIN}.")).ok()?;
    let data = SOA::new(server.clone(), server, 1, 3600, 600, 86_400, NEGATIVE_TTL);
    Some(Record::from_rdata(domain, NEGATIVE_TTL, RData::SOA(data)))
}

#[cfg(test)]
mod tests;
