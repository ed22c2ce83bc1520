//! The DNS server over real sockets, honest and faulty.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::{DnsServer, Fault, Garbage, Host, TcpAfterTruncation};

use super::{PATIENT, SILENCE, hosts, ip};

const NAME: &str = "minions.cncfdemo.k8s";

pub fn trials() -> Vec<Trial> {
    trials![
        records_change_while_the_server_runs,
        five_hundred_records_need_tcp,
        four_thousand_records_fit_into_tcp,
        response_codes_can_be_forced,
        silence_and_delay_can_be_forced,
        truncation_without_tcp_can_be_forced,
        garbage_can_be_forced,
        answers_can_be_partial_or_false,
    ]
}

/// A client on one host, a server on another.
struct World {
    client: Host,
    server: DnsServer,
    addresses: [SocketAddr; 2],
    _host: Host,
}

fn world(count: u16) -> Result<World> {
    let (_, hosts) = hosts(2)?;
    let [client, host] = <[Host; 2]>::try_from(hosts).ok().context("two hosts")?;
    let server = DnsServer::start(&host)?;
    let addresses: Vec<IpAddr> = (0..count).map(|n| [172, 20, (n >> 8) as u8, n as u8].into()).collect();
    server.set(NAME, &addresses, 7)?;
    let addresses = ["192.0.2.2", "2001:db8::2"].map(|address| (ip(address), 53).into());
    Ok(World { client, server, addresses, _host: host })
}

fn query(kind: RecordType, edns: Option<u16>) -> Result<Vec<u8>> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(NAME)?, kind));
    if let Some(size) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        message.edns = Some(edns);
    }
    Ok(message.to_vec()?)
}

impl World {
    fn udp_bytes(&self, server: SocketAddr, edns: Option<u16>, timeout: Duration) -> Result<Vec<u8>> {
        let any: IpAddr = if server.is_ipv4() { ip("0.0.0.0") } else { ip("::") };
        let socket = self.client.run(|| UdpSocket::bind((any, 0)))??;
        socket.set_read_timeout(Some(timeout))?;
        socket.send_to(&query(RecordType::A, edns)?, server)?;
        let mut buffer = vec![0; 65_535];
        let (length, from) = socket.recv_from(&mut buffer)?;
        ensure!(from == server, "the answer came from {from}");
        buffer.truncate(length);
        Ok(buffer)
    }

    fn udp(&self) -> Result<Message> {
        Ok(Message::from_vec(&self.udp_bytes(self.addresses[0], None, PATIENT)?)?)
    }

    fn tcp(&self, timeout: Duration) -> Result<Message> {
        let server = self.addresses[0];
        let mut stream = self.client.run(|| TcpStream::connect_timeout(&server, PATIENT))??;
        stream.set_read_timeout(Some(timeout))?;
        let query = query(RecordType::A, None)?;
        stream.write_all(&u16::try_from(query.len())?.to_be_bytes())?;
        stream.write_all(&query)?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer)?;
        Ok(Message::from_vec(&answer)?)
    }
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    message.answers.iter().filter_map(|record| address(&record.data)).collect()
}

fn records_change_while_the_server_runs() -> Result<()> {
    let world = world(2)?;
    for server in world.addresses {
        let answer = Message::from_vec(&world.udp_bytes(server, Some(1232), PATIENT)?)?;
        ensure!(addresses(&answer).len() == 2 && answer.answers[0].ttl == 7, "{answer:?}");
    }
    world.server.add(NAME, &[ip("172.20.9.9"), ip("fd00::9")])?;
    ensure!(addresses(&world.udp()?).len() == 3, "the AAAA record is no answer to A");
    world.server.remove(NAME, &[ip("172.20.0.0")])?;
    ensure!(addresses(&world.udp()?) == [ip("172.20.0.1"), ip("172.20.9.9")]);
    world.server.remove_name(NAME);
    ensure!(world.udp()?.metadata.response_code == ResponseCode::NXDomain);
    ensure!(world.server.add(NAME, &[]).is_err() && world.server.set("example.org", &[], 1).is_err());
    Ok(())
}

fn five_hundred_records_need_tcp() -> Result<()> {
    let world = world(500)?;
    for edns in [None, Some(1232)] {
        let bytes = world.udp_bytes(world.addresses[0], edns, PATIENT)?;
        ensure!(bytes.len() <= usize::from(edns.unwrap_or(512)), "{} bytes", bytes.len());
        ensure!(Message::from_vec(&bytes)?.metadata.truncation);
    }
    let before = world.server.queries();
    let whole = world.tcp(PATIENT)?;
    ensure!(!whole.metadata.truncation && addresses(&whole).len() == 500);
    ensure!(world.server.queries().tcp == before.tcp + 1 && world.server.queries().udp == before.udp);
    Ok(())
}

fn four_thousand_records_fit_into_tcp() -> Result<()> {
    let whole = world(4000)?.tcp(PATIENT)?;
    let count = addresses(&whole).len();
    ensure!(!whole.metadata.truncation && count == 4000, "{count} records, {:?}", whole.metadata);
    Ok(())
}

fn response_codes_can_be_forced() -> Result<()> {
    let world = world(3)?;
    for (fault, code) in [
        (Fault::ServFail, ResponseCode::ServFail),
        (Fault::NxDomain, ResponseCode::NXDomain),
        (Fault::Refused, ResponseCode::Refused),
        (Fault::Empty, ResponseCode::NoError),
    ] {
        world.server.set_fault(fault);
        for answer in [world.udp()?, world.tcp(PATIENT)?] {
            ensure!(answer.metadata.response_code == code && answer.answers.is_empty(), "{answer:?}");
        }
    }
    world.server.set_fault(None);
    ensure!(addresses(&world.udp()?).len() == 3);
    Ok(())
}

fn silence_and_delay_can_be_forced() -> Result<()> {
    let world = world(3)?;
    world.server.set_fault(Fault::Timeout);
    ensure!(world.udp_bytes(world.addresses[0], None, SILENCE).is_err() && world.tcp(SILENCE).is_err());
    world.server.set_fault(Fault::Slow(SILENCE));
    let start = Instant::now();
    ensure!(addresses(&world.udp()?).len() == 3 && start.elapsed() >= SILENCE);
    Ok(())
}

fn truncation_without_tcp_can_be_forced() -> Result<()> {
    let world = world(3)?;
    for (tcp, timeout, expected) in [
        (TcpAfterTruncation::Closed, PATIENT, [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset]),
        (TcpAfterTruncation::Hung, SILENCE, [ErrorKind::WouldBlock, ErrorKind::TimedOut]),
    ] {
        world.server.set_fault(Fault::Truncated(tcp));
        let answer = world.udp()?;
        ensure!(answer.metadata.truncation && answer.answers.is_empty(), "{answer:?}");
        let error = world.tcp(timeout).err().context("an answer over TCP")?;
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        ensure!(kind.is_some_and(|kind| expected.contains(&kind)), "{tcp:?}: {error:#}");
    }
    Ok(())
}

fn garbage_can_be_forced() -> Result<()> {
    let world = world(3)?;
    for garbage in [Garbage::Noise, Garbage::Cut] {
        world.server.set_fault(Fault::Garbage(garbage));
        ensure!(world.udp().is_err() && world.tcp(PATIENT).is_err(), "{garbage:?}");
    }
    world.server.set_fault(Fault::Garbage(Garbage::WrongId));
    ensure!(world.udp()?.metadata.id != 4711);
    Ok(())
}

fn answers_can_be_partial_or_false() -> Result<()> {
    let world = world(10)?;
    world.server.set_fault_for(NAME, Fault::Partial(vec![ip("172.20.0.3")]));
    ensure!(addresses(&world.udp()?) == [ip("172.20.0.3")]);
    world.server.set_fault_for(NAME, Fault::Lie(vec![ip("198.18.0.1"), ip("fd00::1")]));
    ensure!(addresses(&world.udp()?) == [ip("198.18.0.1")]);
    world.server.set_fault_for(NAME, Fault::RandomSubset(4));
    ensure!(addresses(&world.udp()?).len() == 4);
    world.server.set_fault_for(NAME, None);
    ensure!(addresses(&world.udp()?).len() == 10);
    Ok(())
}
