//! Lookups that prove nothing: one question, one answer, over UDP and where that is truncated over
//! TCP (RFC 1035 section 4.2, RFC 7766).
//!
//! An answer is read where it lies, record by record, and nothing is made of it but the list of its
//! addresses: one of a large cluster has thousands, and each takes a few nanoseconds instead of some
//! allocations. Over TCP it is read while it arrives, into memory that is kept for the next.

mod reading;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Name, Rtype};
use minionet_core::addr::Family;
use minionet_core::membership::FailureKind;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use self::reading::Reading;
use super::{ATTEMPTS, EDNS_PAYLOAD, Lacking, Records};

/// The largest datagram that is taken, in octets: no server has a reason to send more than it was
/// told to.
const DATAGRAM: usize = 4096;

/// The largest message over TCP, and its length before it (RFC 1035 section 4.2.2), in octets.
const STREAM: usize = PREFIX + u16::MAX as usize;
const PREFIX: usize = 2;

type Octets = Vec<u8>;

/// What came of a question.
pub enum Answer {
    /// What it says of the addresses.
    Said(Result<Records, Lacking>),
    /// The server leads on to another name, and leaves it to us to ask for that.
    Elsewhere,
}

/// Memory for answers over TCP, one piece for each that is on its way: it costs more to get than to
/// read an answer into, and little to keep.
#[derive(Clone, Default)]
pub struct Spare(Arc<Mutex<Vec<Octets>>>);

impl Spare {
    fn take(&self) -> Octets {
        let mut octets = self.all().pop().unwrap_or_else(|| Vec::with_capacity(STREAM));
        octets.clear();
        octets
    }

    fn give_back(&self, octets: Octets) {
        self.all().push(octets);
    }

    fn all(&self) -> MutexGuard<'_, Vec<Octets>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks a server for the addresses of one family that a name has.
pub async fn ask(server: SocketAddr, name: &str, family: Family, limit: Duration, spare: &Spare) -> Answer {
    match question(name, family) {
        Ok(question) => exchange(server, &question, family, limit, spare)
            .await
            .unwrap_or_else(|lacking| Answer::Said(Err(lacking))),
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
    family: Family,
    limit: Duration,
    spare: &Spare,
) -> Result<Answer, Lacking> {
    if let Some(answer) = over_udp(server, question, family, limit).await? {
        return Ok(answer);
    }
    match timeout(limit, over_tcp(server, question, family, spare)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(truncated(&error)),
        Err(_) => Err(truncated(&format!("no answer within {limit:?}"))),
    }
}

fn truncated(why: &dyn std::fmt::Display) -> Lacking {
    Lacking::failed(FailureKind::Truncated, format!("the answer over UDP is truncated, and over TCP: {why}"))
}

/// What does not belong to the question is passed over: it may come from anybody. Nothing where the
/// answer is truncated.
async fn over_udp(
    server: SocketAddr,
    question: &Message<Octets>,
    family: Family,
    limit: Duration,
) -> Result<Option<Answer>, Lacking> {
    let unreachable =
        |error: io::Error| Lacking::failed(FailureKind::Unreachable, format!("{server}: {error}"));
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
                let message = Message::from_slice(&buffer[..length]).ok();
                if let Some(answer) = message.filter(|answer| belongs(answer, question)) {
                    let whole = !answer.header().tc();
                    return io::Result::Ok(whole.then(|| read(answer, Reading::new(family, length))));
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

async fn over_tcp(
    server: SocketAddr,
    question: &Message<Octets>,
    family: Family,
    spare: &Spare,
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    // A question has a few dozen octets.
    let mut framed = (question.as_slice().len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(question.as_slice());
    stream.write_all(&framed).await?;
    let mut octets = spare.take();
    let answer = receive(&mut stream, &mut octets, question, family).await;
    spare.give_back(octets);
    answer
}

/// Receives one message, with its length before it. What comes behind is nobody's.
async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    octets: &mut Octets,
    question: &Message<Octets>,
    family: Family,
) -> io::Result<Answer> {
    let mut reading = None;
    while stream.read_buf(octets).await? > 0 {
        let Some((length, arrived)) = octets.split_first_chunk::<PREFIX>() else { continue };
        let length = usize::from(u16::from_be_bytes(*length));
        let mut so_far = reading.take().unwrap_or_else(|| Reading::new(family, length));
        let Some(whole) = arrived.get(..length) else {
            so_far.go_on(arrived);
            reading = Some(so_far);
            continue;
        };
        let message = Message::from_slice(whole).ok().filter(|answer| belongs(answer, question));
        let no_answer = || io::Error::other("what came is no answer to the question");
        return Ok(read(message.ok_or_else(no_answer)?, so_far));
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Whether it is an answer, and one to this question. One that refuses need not repeat it.
fn belongs(answer: &Message<[u8]>, question: &Message<Octets>) -> bool {
    let header = answer.header();
    let bare = header.rcode() != Rcode::NOERROR && answer.header_counts().qdcount() == 0;
    let same = header.qr() && header.id() == question.header().id();
    same && (bare || answer.is_answer(question))
}

/// What a whole answer says, of which some may have been read.
fn read(answer: &Message<[u8]>, so_far: Reading) -> Answer {
    Answer::Said(match answer.header().rcode() {
        Rcode::NOERROR => match so_far.finish(answer.as_slice()) {
            Ok(records) if records.is_empty() && answer.header_counts().ancount() > 0 => {
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

fn kind(code: Rcode) -> FailureKind {
    match code {
        Rcode::SERVFAIL => FailureKind::ServFail,
        Rcode::NXDOMAIN => FailureKind::NxDomain,
        Rcode::REFUSED => FailureKind::Refused,
        _ => FailureKind::OtherCode,
    }
}

#[cfg(test)]
mod tests;
