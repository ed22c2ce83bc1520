use std::net::IpAddr;

use domain::base::iana::Class;
use domain::base::wire::ParseError;
use domain::base::{ParsedName, Record, Ttl};
use domain::rdata::{A, Aaaa, Cname, Txt};
use proptest::prelude::*;

use super::*;

const NAME: &str = "minions.cncfdemo.k8s";

fn name(text: &str) -> Name<Octets> {
    Name::vec_from_str(text).unwrap()
}

/// An answer with these addresses, after a record that leads to another name.
fn answer(to: &Message<Octets>, code: Rcode, addresses: &[[u8; 4]], alias: bool) -> Octets {
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
    builder.into_message().into_octets()
}

fn message(octets: &[u8]) -> &Message<[u8]> {
    Message::from_slice(octets).unwrap()
}

fn read_at_once(octets: &[u8], family: Family) -> Answer {
    read(message(octets), Reading::new(family, octets.len()))
}

#[test]
fn an_answer_is_its_addresses_and_the_lowest_of_their_ttls() {
    let asked = question(NAME, Family::V4).unwrap();
    let said = answer(&asked, Rcode::NOERROR, &[[10, 0, 0, 2], [10, 0, 0, 1]], true);
    assert!(belongs(message(&said), &asked));
    let Answer::Said(Ok(records)) = read_at_once(&said, Family::V4) else { panic!("it has addresses") };
    assert_eq!((records.v4, records.v6), (vec![0x0a00_0002, 0x0a00_0001], vec![]));
    assert_eq!(records.ttl, 7);
    // A name that leads to another one, of which nothing is said.
    let nowhere = answer(&asked, Rcode::NOERROR, &[], true);
    assert!(matches!(read_at_once(&nowhere, Family::V4), Answer::Elsewhere));
}

#[test]
fn nothing_is_an_answer_that_does_not_belong_to_the_question() {
    let (asked, other) = (question(NAME, Family::V4).unwrap(), question(NAME, Family::V6).unwrap());
    let said = answer(&asked, Rcode::NOERROR, &[[10, 0, 0, 1]], false);
    assert!(!belongs(message(&said), &other) && !belongs(message(asked.as_slice()), &asked));
    let mut forged = said.clone();
    forged[0] ^= 1;
    assert!(!belongs(message(&forged), &asked), "another number");
    // One that refuses may be nothing but a header.
    let mut bare = answer(&asked, Rcode::REFUSED, &[], false)[..12].to_vec();
    bare[4..6].fill(0);
    assert!(belongs(message(&bare), &asked));
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
        let said = answer(&asked, code, &[], false);
        let Answer::Said(Err(lacking)) = read_at_once(&said, Family::V4) else {
            panic!("{code} is a failure")
        };
        assert_eq!((lacking.kind, lacking.complete), (expected, false), "{}", lacking.text);
    }
    let whole = answer(&asked, Rcode::NOERROR, &[[10, 0, 0, 1], [10, 0, 0, 2]], false);
    for length in 12..whole.len() {
        let Answer::Said(Err(lacking)) = read_at_once(&whole[..length], Family::V4) else {
            panic!("{length} octets")
        };
        assert_eq!(lacking.kind, FailureKind::Malformed);
    }
}

/// What a server sends is received in pieces of this size, and then it closes the connection.
fn received(sent: &[u8], piece: usize, asked: &Message<Octets>, into: &mut Octets) -> io::Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut server, mut client) = tokio::io::duplex(piece);
        let send = async {
            // Whoever has read all that matters goes away.
            let _gone = server.write_all(sent).await;
            drop(server);
        };
        let receive = async {
            let answer = receive(&mut client, into, asked, Family::V4).await;
            drop(client);
            answer
        };
        tokio::join!(send, receive).1
    })
}

#[test]
fn an_answer_over_tcp_is_the_same_in_whatever_pieces_it_comes() {
    let asked = question(NAME, Family::V4).unwrap();
    let said = answer(&asked, Rcode::NOERROR, &[[10, 0, 0, 2], [10, 0, 0, 1]], true);
    let framed = |octets: &[u8]| [&(octets.len() as u16).to_be_bytes(), octets].concat();
    let spare = Spare::default();
    for piece in [1, 2, 3, 40, 1000] {
        // Behind it comes what nobody asked for.
        let sent = [framed(&said), vec![0; 9]].concat();
        // Memory of a former answer, with what that has left there.
        let mut octets = spare.take();
        let answer = received(&sent, piece, &asked, &mut octets);
        spare.give_back(octets);
        let Ok(Answer::Said(Ok(records))) = answer else { panic!("pieces of {piece}") };
        assert_eq!((records.v4, records.ttl), (vec![0x0a00_0002, 0x0a00_0001], 7));
        assert_eq!(spare.all().len(), 1, "the memory is kept, and not more of it");
        assert_eq!(spare.all()[0].capacity(), STREAM, "it is large enough for all");

        let broken = received(&framed(&said)[..said.len()], piece, &asked, &mut Vec::new());
        assert!(broken.is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof));
        let other = question(NAME, Family::V4).unwrap();
        assert!(received(&sent, piece, &other, &mut Vec::new()).is_err(), "it has another number");
        assert!(received(&framed(&[0; 4]), piece, &asked, &mut Vec::new()).is_err(), "it is no message");
    }
}

/// What the library itself makes of a message: addresses and TTLs.
fn by_the_library(octets: &[u8], family: Family) -> Result<Vec<(IpAddr, u32)>, ParseError> {
    let section = message(octets).answer()?;
    match family {
        Family::V4 => section
            .limit_to_in::<A>()
            .map(|record| {
                record.map(|r: Record<ParsedName<_>, _>| (r.data().addr().into(), r.ttl().as_secs()))
            })
            .collect(),
        Family::V6 => section
            .limit_to_in::<Aaaa>()
            .map(|record| {
                record.map(|r: Record<ParsedName<_>, _>| (r.data().addr().into(), r.ttl().as_secs()))
            })
            .collect(),
    }
}

/// A record as one might be in an answer, of either family, of another kind or class.
fn push(builder: &mut domain::base::message_builder::AnswerBuilder<Octets>, kind: u8, number: u8) {
    let owner = name(if number.is_multiple_of(3) { NAME } else { "other.k8s" });
    let class = if kind == 4 { Class::CH } else { Class::IN };
    let ttl = Ttl::from_secs(u32::from(number) * 7);
    let v4 = A::from_octets(10, 0, kind, number);
    let v6 = Aaaa::new([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, kind, number].into());
    match kind {
        0 | 4 => builder.push(Record::new(owner, class, ttl, v4)),
        1 => builder.push(Record::new(owner, class, ttl, v6)),
        2 => builder.push(Record::new(owner, class, ttl, Cname::new(name("other.k8s")))),
        _ => {
            let text: Txt<Octets> = Txt::build_from_slice(&vec![kind; usize::from(number)]).unwrap();
            builder.push(Record::new(owner, class, ttl, text))
        }
    }
    .unwrap();
}

proptest! {
    /// Read in whatever pieces, and however mangled, an answer says what the library says that it does.
    #[test]
    fn reading_in_pieces_is_reading_at_once(
        kinds in proptest::collection::vec((0..5u8, any::<u8>()), 0..12),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        pieces in proptest::collection::vec(1..50usize, 1..40),
        v6 in any::<bool>(),
    ) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let asked = question(NAME, family).unwrap();
        let compressed = domain::base::StaticCompressor::new(Vec::new());
        // Every other answer has pointers for names.
        let mut octets = if kinds.len().is_multiple_of(2) {
            let builder = MessageBuilder::from_target(compressed).unwrap();
            let mut builder = builder.start_answer(&asked, Rcode::NOERROR).unwrap();
            for (_, number) in &kinds {
                let owner = name(if number.is_multiple_of(3) { NAME } else { "other.k8s" });
                let address = A::from_octets(10, 0, 0, *number);
                builder.push(Record::new(owner, Class::IN, Ttl::from_secs(5), address)).unwrap();
            }
            builder.finish().into_target()
        } else {
            let mut builder = MessageBuilder::new_vec().start_answer(&asked, Rcode::NOERROR).unwrap();
            kinds.iter().for_each(|(kind, number)| push(&mut builder, *kind, *number));
            builder.into_message().into_octets()
        };
        if let Some(cut) = cut {
            octets.truncate(12 + cut.index(octets.len() - 11));
        }
        for (at, value) in flips {
            // The beginning of a mangled message is as likely as what lies in it.
            let at = at.index(octets.len());
            octets[at] = value;
        }

        let mut reading = Reading::new(family, octets.len());
        let mut arrived = 0;
        for piece in pieces {
            arrived = (arrived + piece).min(octets.len());
            reading.go_on(&octets[..arrived]);
        }
        let read = reading.finish(&octets);
        let expected = by_the_library(&octets, family);
        prop_assert_eq!(read.is_ok(), expected.is_ok());
        if let (Ok(read), Ok(expected)) = (read, expected) {
            let v4 = read.v4.iter().map(|bits| IpAddr::from(Ipv4Addr::from_bits(*bits)));
            let v6 = read.v6.iter().map(|bits| IpAddr::from(Ipv6Addr::from_bits(*bits)));
            let addresses: Vec<IpAddr> = v4.chain(v6).collect();
            prop_assert_eq!(addresses, expected.iter().map(|(addr, _)| *addr).collect::<Vec<_>>());
            prop_assert_eq!(read.ttl, expected.iter().map(|(_, ttl)| *ttl).min().unwrap_or(u32::MAX));
        }
    }
}
