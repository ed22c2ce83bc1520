//! Lookups that prove nothing: one question, one answer, over UDP and where that is truncated over
//! TCP (RFC 1035 section 4.2, RFC 7766).
//!
//! An answer is read where it lies, record by record, and nothing is made of it but the list of its
//! addresses: one of a large cluster has thousands, and each takes a few nanoseconds instead of some
//! allocations.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::rdata::{A, Aaaa};
use minionet_core::addr::Family;
use minionet_core::membership::FailureKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::{ATTEMPTS, EDNS_PAYLOAD, Lacking, Records};

/// The largest datagram that is taken, in octets: no server has a reason to send more than it was
/// told to.
const DATAGRAM: usize = 4096;

type Octets = Vec<u8>;

/// What came of a question.
pub enum Answer {
    /// What it says of the addresses.
    Said(Result<Records, Lacking>),
    /// The server leads on to another name, and leaves it to us to ask for that.
    Elsewhere,
}

/// Asks a server for the addresses of one family that a name has.
pub async fn ask(server: SocketAddr, name: &str, family: Family, limit: Duration) -> Answer {
    match question(name, family) {
        Ok(question) => match exchange(server, &question, limit).await {
            Ok(answer) => read(&answer, family),
            Err(lacking) => Answer::Said(Err(lacking)),
        },
        Err(text) => Answer::Said(Err(Lacking::failed(FailureKind::Malformed, text))),
    }
}

/// The question, with a number that others cannot guess.
fn question(name: &str, family: Family) -> Result<Message<Octets>, String> {
    let malformed = |error: &dyn std::fmt::Display| format!("{name} cannot be asked for: {error}");
    let owner: Name<Octets> = Name::vec_from_str(name).map_err(|e| malformed(&e))?;
    let kind = match family {
        Family::V4 => Rtype::A,
        Family::V6 => Rtype::AAAA,
    };
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_random_id();
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((owner, kind)).map_err(|e| malformed(&e))?;
    let mut builder = builder.additional();
    builder
        .opt(|opt| {
            opt.set_udp_payload_size(EDNS_PAYLOAD);
            Ok(())
        })
        .map_err(|e| malformed(&e))?;
    Ok(builder.into_message())
}

async fn exchange(
    server: SocketAddr,
    question: &Message<Octets>,
    limit: Duration,
) -> Result<Message<Octets>, Lacking> {
    let answer = over_udp(server, question, limit).await?;
    if !answer.header().tc() {
        return Ok(answer);
    }
    match timeout(limit, over_tcp(server, question)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(truncated(&error)),
        Err(_) => Err(truncated(&format!("no answer within {limit:?}"))),
    }
}

fn truncated(why: &dyn std::fmt::Display) -> Lacking {
    Lacking::failed(FailureKind::Truncated, format!("the answer over UDP is truncated, and over TCP: {why}"))
}

/// What does not belong to the question is passed over: it may come from anybody.
async fn over_udp(
    server: SocketAddr,
    question: &Message<Octets>,
    limit: Duration,
) -> Result<Message<Octets>, Lacking> {
    let unreachable =
        |error: std::io::Error| Lacking::failed(FailureKind::Unreachable, format!("{server}: {error}"));
    let mut buffer = vec![0; DATAGRAM];
    for _ in 0..ATTEMPTS {
        // Another port each time: it is the second half of what others have to guess (RFC 5452).
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await.map_err(unreachable)?;
        socket.connect(server).await.map_err(unreachable)?;
        socket.send(question.as_slice()).await.map_err(unreachable)?;
        let answer = async {
            loop {
                let length = socket.recv(&mut buffer).await?;
                let message = Message::from_octets(buffer[..length].to_vec()).ok();
                if let Some(answer) = message.filter(|answer| belongs(answer, question)) {
                    return std::io::Result::Ok(answer);
                }
            }
        };
        if let Ok(answer) = timeout(limit, answer).await {
            return answer.map_err(unreachable);
        }
    }
    Err(Lacking::failed(
        FailureKind::Timeout,
        format!("no answer from {server} within {limit:?}, {ATTEMPTS} times"),
    ))
}

async fn over_tcp(server: SocketAddr, question: &Message<Octets>) -> std::io::Result<Message<Octets>> {
    let mut stream = TcpStream::connect(server).await?;
    // A question has a few dozen octets.
    let mut framed = (question.as_slice().len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(question.as_slice());
    stream.write_all(&framed).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    let message = Message::from_octets(answer).ok().filter(|answer| belongs(answer, question));
    message.ok_or_else(|| std::io::Error::other("what came is no answer to the question"))
}

/// Whether it is an answer, and one to this question. One that refuses need not repeat it.
fn belongs(answer: &Message<Octets>, question: &Message<Octets>) -> bool {
    let header = answer.header();
    let bare = header.rcode() != Rcode::NOERROR && answer.header_counts().qdcount() == 0;
    let same = header.qr() && header.id() == question.header().id();
    same && (bare || answer.is_answer(question))
}

fn read(answer: &Message<Octets>, family: Family) -> Answer {
    Answer::Said(match answer.header().rcode() {
        Rcode::NOERROR => match records(answer, family) {
            Ok(records) if records.addresses.is_empty() && answer.header_counts().ancount() > 0 => {
                return Answer::Elsewhere;
            }
            Ok(records) => Ok(records),
            Err(error) => {
                Err(Lacking::failed(FailureKind::Malformed, format!("the answer is mangled: {error}")))
            }
        },
        code => Err(Lacking::failed(kind(code), format!("the server answers {code}"))),
    })
}

/// All records of the family, whoever owns them: a name may lead to another one.
fn records(answer: &Message<Octets>, family: Family) -> Result<Records, domain::base::wire::ParseError> {
    let mut records = Records { addresses: Vec::new(), ttl: u32::MAX };
    // An address of IPv4 takes 16 octets in a message, one of IPv6 takes 28.
    records
        .addresses
        .reserve(usize::from(answer.header_counts().ancount()).min(answer.as_slice().len() / 16));
    let section = answer.answer()?;
    match family {
        Family::V4 => {
            for record in section.limit_to_in::<A>() {
                let record = record?;
                records.add(IpAddr::V4(record.data().addr()), record.ttl().as_secs());
            }
        }
        Family::V6 => {
            for record in section.limit_to_in::<Aaaa>() {
                let record = record?;
                records.add(IpAddr::V6(record.data().addr()), record.ttl().as_secs());
            }
        }
    }
    Ok(records)
}

fn kind(code: Rcode) -> FailureKind {
    match code {
        Rcode::SERVFAIL => FailureKind::ServFail,
        Rcode::NXDOMAIN => FailureKind::NxDomain,
        Rcode::REFUSED => FailureKind::Refused,
        _ => FailureKind::OtherCode,
    }
}

#[cfg(test)]
mod tests {
    use domain::base::iana::Class;
    use domain::base::{Record, Ttl};
    use domain::rdata::Cname;

    use super::*;

    const NAME: &str = "minions.cncfdemo.k8s";

    fn name(text: &str) -> Name<Octets> {
        Name::vec_from_str(text).unwrap()
    }

    /// An answer with these addresses, after a record that leads to another name.
    fn answer(to: &Message<Octets>, code: Rcode, addresses: &[[u8; 4]], alias: bool) -> Message<Octets> {
        let mut builder = MessageBuilder::new_vec().start_answer(to, code).unwrap();
        let ttl = |seconds| Ttl::from_secs(seconds);
        if alias {
            let data = Cname::new(name("other.k8s"));
            builder.push(Record::new(name(NAME), Class::IN, ttl(9), data)).unwrap();
        }
        for (n, address) in addresses.iter().enumerate() {
            let data = A::from_octets(address[0], address[1], address[2], address[3]);
            builder.push(Record::new(name("other.k8s"), Class::IN, ttl(7 + n as u32), data)).unwrap();
        }
        builder.into_message()
    }

    #[test]
    fn an_answer_is_its_addresses_and_the_lowest_of_their_ttls() {
        let asked = question(NAME, Family::V4).unwrap();
        let said = answer(&asked, Rcode::NOERROR, &[[10, 0, 0, 2], [10, 0, 0, 1]], true);
        assert!(belongs(&said, &asked));
        let Answer::Said(Ok(records)) = read(&said, Family::V4) else { panic!("it has addresses") };
        assert_eq!(records.addresses, [IpAddr::from([10, 0, 0, 2]), IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(records.ttl, 7);
        // A name that leads to another one, of which nothing is said.
        assert!(matches!(read(&answer(&asked, Rcode::NOERROR, &[], true), Family::V4), Answer::Elsewhere));
    }

    #[test]
    fn nothing_is_an_answer_that_does_not_belong_to_the_question() {
        let (asked, other) = (question(NAME, Family::V4).unwrap(), question(NAME, Family::V6).unwrap());
        let said = answer(&asked, Rcode::NOERROR, &[[10, 0, 0, 1]], false);
        assert!(!belongs(&said, &other) && !belongs(&asked, &asked));
        let mut forged = said.clone().into_octets();
        forged[0] ^= 1;
        assert!(!belongs(&Message::from_octets(forged).unwrap(), &asked), "another number");
        // One that refuses may be nothing but a header.
        let mut bare = answer(&asked, Rcode::REFUSED, &[], false).into_octets()[..12].to_vec();
        bare[4..6].fill(0);
        assert!(belongs(&Message::from_octets(bare).unwrap(), &asked));
    }

    #[test]
    fn refusals_and_mangled_answers_are_told_apart() {
        let asked = question(NAME, Family::V4).unwrap();
        for (code, expected) in [
            (Rcode::SERVFAIL, FailureKind::ServFail),
            (Rcode::NXDOMAIN, FailureKind::NxDomain),
            (Rcode::REFUSED, FailureKind::Refused),
            (Rcode::NOTIMP, FailureKind::OtherCode),
        ] {
            let Answer::Said(Err(lacking)) = read(&answer(&asked, code, &[], false), Family::V4) else {
                panic!("{code} is a failure")
            };
            assert_eq!((lacking.kind, lacking.complete), (expected, false), "{}", lacking.text);
        }
        let whole = answer(&asked, Rcode::NOERROR, &[[10, 0, 0, 1], [10, 0, 0, 2]], false).into_octets();
        for length in 12..whole.len() {
            let cut = Message::from_octets(whole[..length].to_vec()).unwrap();
            let Answer::Said(Err(lacking)) = read(&cut, Family::V4) else { panic!("{length} octets") };
            assert_eq!(lacking.kind, FailureKind::Malformed);
        }
    }
}
