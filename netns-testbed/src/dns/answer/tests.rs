use hickory_proto::op::{Message, MessageType, OpCode, Query};

use super::*;

const MINIONS: &str = "minions.cncfdemo.k8s";

fn query(name: &str, kind: RecordType, edns: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(size) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        message.edns = Some(edns);
    }
    message.to_vec().unwrap()
}

fn zone(count: u16) -> Zone {
    let mut zone = Zone::default();
    let addresses: Vec<IpAddr> =
        (0..count).map(|index| IpAddr::from([172, 20, (index >> 8) as u8, index as u8])).collect();
    zone.set(MINIONS, &addresses, 7);
    zone
}

fn ask(zone: &mut Zone, raw: Vec<u8>, transport: Transport) -> Reply {
    reply(zone, raw, "192.0.2.1:5300".parse().unwrap(), transport)
}

fn message(reply: Reply) -> Message {
    match reply {
        Reply::Send { bytes, .. } => Message::from_vec(&bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_are_found_in_any_case_with_their_ttl() {
    let raw = query("MINIONS.cncfdemo.k8s.", RecordType::A, None);
    let answer = message(ask(&mut zone(3), raw, Transport::Udp));
    assert_eq!(answer.metadata.id, 77);
    assert!(answer.metadata.authoritative);
    assert_eq!(answer.answers.len(), 3);
    assert!(answer.answers.iter().all(|record| record.ttl == 7));
}

#[test]
fn absent_data_absent_names_and_foreign_names_differ() {
    let mut zone = zone(3);
    let mut code = |name, kind| {
        let answer = message(ask(&mut zone, query(name, kind, None), Transport::Udp));
        assert!(answer.answers.is_empty(), "{name}");
        answer.metadata.response_code
    };
    assert_eq!(code("minions.cncfdemo.k8s.", RecordType::AAAA), ResponseCode::NoError);
    assert_eq!(code("cncfdemo.k8s.", RecordType::A), ResponseCode::NoError);
    assert_eq!(code("minions.other.k8s.", RecordType::A), ResponseCode::NXDomain);
    assert_eq!(code("minions.other.notk8s.", RecordType::A), ResponseCode::Refused);
}

#[test]
fn udp_answers_are_cut_to_what_the_client_takes_and_tcp_answers_are_whole() {
    let mut zone = zone(500);
    for size in [None, Some(1232)] {
        let raw = query(MINIONS, RecordType::A, size);
        let Reply::Send { bytes, .. } = ask(&mut zone, raw.clone(), Transport::Udp) else { panic!() };
        assert!(bytes.len() <= usize::from(size.unwrap_or(512)), "{} bytes", bytes.len());
        assert!(Message::from_vec(&bytes).unwrap().metadata.truncation);

        let whole = message(ask(&mut zone, raw, Transport::Tcp));
        assert!(!whole.metadata.truncation);
        assert_eq!(whole.answers.len(), 500);
    }
}

#[test]
fn as_many_records_fit_as_compression_allows() {
    let mut zone = zone(5000);
    let count = |zone: &mut Zone, edns, transport| {
        let answer = message(ask(zone, query(MINIONS, RecordType::A, edns), transport));
        assert!(answer.metadata.truncation);
        answer.answers.len()
    };
    // Of 1232 bytes, 12 are the header, 26 the question and 11 the EDNS record; a record takes 16.
    assert_eq!(count(&mut zone, Some(1232), Transport::Udp), (1232 - 12 - 26 - 11) / 16);
    assert_eq!(count(&mut zone, None, Transport::Tcp), (65_535 - 12 - 26) / 16);
}

#[test]
fn random_subsets_differ_and_cover_everything_in_time() {
    let mut zone = zone(20);
    zone.set_fault(None, Some(Fault::RandomSubset(8)));
    let mut seen = std::collections::HashSet::new();
    let mut answers = std::collections::HashSet::new();
    for _ in 0..40 {
        let answer = message(ask(&mut zone, query(MINIONS, RecordType::A, None), Transport::Udp));
        assert_eq!(answer.answers.len(), 8);
        let addresses: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
        seen.extend(addresses.clone());
        answers.insert(addresses);
    }
    assert_eq!(seen.len(), 20);
    assert!(answers.len() > 1);
}

#[test]
fn a_fault_of_a_name_spares_the_others() {
    let mut zone = zone(1);
    zone.set("masters.cncfdemo.k8s", &["172.20.0.9".parse().unwrap()], 1);
    zone.set_fault(Some(MINIONS), Some(Fault::Timeout));
    assert_eq!(ask(&mut zone, query(MINIONS, RecordType::A, None), Transport::Udp), Reply::Silence);
    let raw = query("masters.cncfdemo.k8s", RecordType::A, None);
    assert_eq!(message(ask(&mut zone, raw, Transport::Udp)).answers.len(), 1);
}

#[test]
fn garbage_is_not_an_answer_to_the_query() {
    let mut zone = zone(3);
    let mut spoiled = |garbage| {
        zone.set_fault(None, Some(Fault::Garbage(garbage)));
        match ask(&mut zone, query(MINIONS, RecordType::A, None), Transport::Udp) {
            Reply::Send { bytes, .. } => Message::from_vec(&bytes),
            other => panic!("{other:?}"),
        }
    };
    assert!(spoiled(Garbage::Noise).is_err());
    assert!(spoiled(Garbage::Cut).is_err());
    assert_ne!(spoiled(Garbage::WrongId).unwrap().metadata.id, 77);
}

#[test]
fn noise_from_a_client_is_ignored() {
    assert_eq!(ask(&mut zone(1), b"\x00\x01".to_vec(), Transport::Udp), Reply::Silence);
}
