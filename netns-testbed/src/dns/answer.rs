//! From a query to the bytes of the reply. Pure.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Metadata, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
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

/// Bytes of a message's header: RFC 1035, section 4.1.1.
const HEADER: usize = 12;
/// The truncation bit in the third byte of the header.
const TRUNCATED: u8 = 0x02;
/// A pointer to the question's name, which follows the header: RFC 1035, section 4.1.4.
const NAME_OF_QUESTION: u16 = 0xc000 | HEADER as u16;
/// Bytes of a record before its data, its name being a pointer: RFC 1035, section 4.1.3.
const RECORD: usize = 12;

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
    let Some(mut bytes) = encode(&request, &answer, transport, truncated) else {
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

/// The message; it is cut to what the client takes and then has the truncation bit set.
fn encode(request: &Request, answer: &Answer, transport: Transport, truncated: bool) -> Option<Vec<u8>> {
    let negative = answer.addresses.is_empty()
        && !truncated
        && matches!(answer.code, ResponseCode::NoError | ResponseCode::NXDomain);
    let soa = if negative { Some(start_of_authority()?) } else { None };

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
    let response = builder.build(metadata, [], [], soa.as_ref(), []);
    let mut bytes = Vec::with_capacity(usize::from(PLAIN_UDP));
    response.destructive_emit(&mut BinEncoder::new(&mut bytes)).ok()?;

    let largest = match transport {
        Transport::Udp if request.edns.is_some() => request.max_payload(),
        Transport::Udp => PLAIN_UDP,
        Transport::Tcp => u16::MAX,
    };
    let question_end = HEADER + request.queries.as_bytes().len();
    insert_answers(&mut bytes, question_end, answer, usize::from(largest));
    Some(bytes)
}

/// Puts the address records behind the question of a message without answers: RFC 1035, section 4.1.
///
/// By hand, as the encoder compresses the names of the first few hundred records only, where a DNS
/// server in production compresses them all and so gets more than twice as many into a message.
fn insert_answers(bytes: &mut Vec<u8>, at: usize, answer: &Answer, largest: usize) {
    let mut records = Vec::new();
    let mut count: u16 = 0;
    for address in &answer.addresses {
        let (kind, data) = match address {
            IpAddr::V4(address) => (RecordType::A, address.octets().to_vec()),
            IpAddr::V6(address) => (RecordType::AAAA, address.octets().to_vec()),
        };
        if bytes.len() + records.len() + RECORD + data.len() > largest {
            bytes[2] |= TRUNCATED;
            break;
        }
        records.extend(NAME_OF_QUESTION.to_be_bytes());
        records.extend(u16::from(kind).to_be_bytes());
        records.extend(u16::from(DNSClass::IN).to_be_bytes());
        records.extend(answer.ttl.to_be_bytes());
        // 4 or 16.
        records.extend((data.len() as u16).to_be_bytes());
        records.extend(data);
        // Each takes 16 bytes or more of 65535.
        count += 1;
    }
    bytes[6..8].copy_from_slice(&count.to_be_bytes());
    bytes.splice(at..at, records);
}

fn start_of_authority() -> Option<Record> {
    let domain = Name::from_ascii(format!("{DOMAIN}.")).ok()?;
    let server = Name::from_ascii(format!("ns.{DOMAIN}.")).ok()?;
    let data = SOA::new(server.clone(), server, 1, 3600, 600, 86_400, NEGATIVE_TTL);
    Some(Record::from_rdata(domain, NEGATIVE_TTL, RData::SOA(data)))
}

#[cfg(test)]
mod tests;
