use nix::libc;

use super::*;
use crate::decode::u32_at;
use crate::received::HEADER;

const SEQUENCE: u32 = 7;

/// A message as the kernel would send it.
fn message(kind: i32, sequence: u32, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut octets = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    octets.extend((kind as u16).to_ne_bytes());
    octets.extend(flags.to_ne_bytes());
    octets.extend(sequence.to_ne_bytes());
    octets.extend([0; 4]);
    octets.extend(body);
    octets
}

/// A link whose `struct ifinfomsg` says nothing but its number.
fn link(flags: u16, index: u32) -> Vec<u8> {
    let body = [0, index, 0, 0].map(u32::to_ne_bytes).concat();
    message(libc::RTM_NEWLINK.into(), SEQUENCE, flags, &body)
}

fn done(flags: u16, code: i32) -> Vec<u8> {
    message(libc::NLMSG_DONE, SEQUENCE, flags, &code.to_ne_bytes())
}

fn index(message: &Received<'_>) -> Result<Option<u32>, Error> {
    Ok(u32_at(message.body(), 4))
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
    let foreign = message(libc::NLMSG_DONE, SEQUENCE - 1, INTERRUPTED, &[0; 4]);
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
