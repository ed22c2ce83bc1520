use netlink_packet_core::{DoneMessage, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::link::LinkMessage;

use super::*;

const SEQUENCE: u32 = 7;

/// A message as the kernel would send it.
fn message(sequence: u32, flags: u16, payload: NetlinkPayload<RouteNetlinkMessage>) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.sequence_number = sequence;
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, payload);
    message.finalize();
    let mut octets = vec![0; message.buffer_len().next_multiple_of(4)];
    message.serialize(&mut octets);
    octets
}

fn link(flags: u16, index: u32) -> Vec<u8> {
    let mut link = LinkMessage::default();
    link.header.index = index;
    message(SEQUENCE, flags, NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)))
}

fn done(flags: u16, code: i32) -> Vec<u8> {
    let mut end = DoneMessage::default();
    end.code = code;
    message(SEQUENCE, flags, NetlinkPayload::Done(end))
}

fn index(object: &Message<'_>) -> Result<Option<u32>, String> {
    Ok(match parsed(object)? {
        RouteNetlinkMessage::NewLink(link) => Some(link.header.index),
        _ => None,
    })
}

/// What datagrams come to, of which the last one has to be the end.
fn dumped(datagrams: &[Vec<u8>]) -> Result<Dumped<u32>, Error> {
    let mut dump = Dump::new(SEQUENCE);
    for (position, datagram) in datagrams.iter().enumerate() {
        if let Some(dumped) = dump.take(datagram, "read links", &mut index)? {
            assert_eq!(position + 1, datagrams.len(), "it ended too early");
            return Ok(dumped);
        }
    }
    panic!("it did not end");
}

#[test]
fn a_dump_is_all_its_datagrams() {
    let datagrams = [[link(0, 1), link(0, 2)].concat(), link(0, 3), done(0, 0)];
    assert_eq!(dumped(&datagrams).unwrap(), Dumped::Table(vec![1, 2, 3]));
    let foreign = message(SEQUENCE - 1, INTERRUPTED, NetlinkPayload::Done(DoneMessage::default()));
    let datagrams = [[link(0, 1), foreign].concat(), done(0, 0)];
    assert_eq!(dumped(&datagrams).unwrap(), Dumped::Table(vec![1]), "the end of an earlier one is none");
}

#[test]
fn one_message_that_says_so_makes_it_interrupted() {
    for marked in 0..4 {
        let flag = |position| if position == marked { INTERRUPTED } else { 0 };
        let datagrams = [[link(flag(0), 1), link(flag(1), 2)].concat(), link(flag(2), 3), done(flag(3), 0)];
        assert_eq!(dumped(&datagrams).unwrap(), Dumped::Interrupted, "message {marked}");
    }
}

#[test]
fn a_dump_that_fails_half_way_is_refused() {
    let error = dumped(&[link(0, 1), done(0, -12)]).unwrap_err();
    assert_eq!(error.errno(), Some(12));
    assert!(matches!(dumped(&[link(0, 1)[..20].to_vec()]), Err(Error::Decode { .. })));
}

#[test]
fn an_interrupted_dump_is_tried_again_but_not_for_ever() {
    let tries = |interrupted: u32| {
        let mut count = 0;
        let result = uninterrupted("read links", || {
            count += 1;
            let flag = if count <= interrupted { INTERRUPTED } else { 0 };
            dumped(&[link(flag, count), done(0, 0)])
        });
        (result, count)
    };
    for interrupted in [0, 1, TRIES - 1] {
        let (result, count) = tries(interrupted);
        assert_eq!((result.unwrap(), count), (vec![interrupted + 1], interrupted + 1));
    }
    let (result, count) = tries(TRIES);
    assert!(matches!(result, Err(Error::Interrupted { tries: TRIES, .. })));
    assert_eq!(count, TRIES);
}
