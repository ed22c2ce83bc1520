//! What the datagrams of a dump say: the objects of a table, unless it changed meanwhile.

#[cfg(test)]
mod tests;

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader};
use netlink_packet_route::RouteNetlinkMessage;

use crate::decode::{self, Message};
use crate::error::{Error, Refusal};
use crate::socket::refused;

/// How often a dump is tried that is overtaken by changes.
pub(crate) const TRIES: u32 = 20;

/// `NLM_F_DUMP_INTR` of linux/netlink.h.
const INTERRUPTED: u16 = 0x10;

/// `NLMSG_ERROR` and `NLMSG_DONE` of linux/netlink.h; below `NLMSG_MIN_TYPE` no message is an object.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const MIN_TYPE: u16 = 0x10;

/// An object in the library's types, which take some allocations for each.
///
/// # Errors
/// Says what the library does not understand.
pub(crate) fn parsed(object: &Message<'_>) -> Result<RouteNetlinkMessage, String> {
    let mut header = NetlinkHeader::default();
    header.message_type = object.kind;
    RouteNetlinkMessage::deserialize(&header, object.body).map_err(|e| e.to_string())
}

/// A dump that is being received.
pub(crate) struct Dump<T> {
    sequence: u32,
    objects: Vec<T>,
    interrupted: bool,
}

/// What a dump came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Dumped<T> {
    /// The table, as it was at one moment.
    Table(Vec<T>),
    /// It changed while it was read: objects may be missing, or there twice.
    Interrupted,
}

impl<T> Dump<T> {
    /// The answer to the request with this sequence number.
    pub(crate) fn new(sequence: u32) -> Self {
        Dump { sequence, objects: Vec::new(), interrupted: false }
    }

    /// Takes in a datagram; `pick` takes from each object what is wanted, or says why it cannot be
    /// understood. Something comes back when this was the last one.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses, also half way; [`Error::Decode`] when it cannot
    /// be understood.
    pub(crate) fn take(
        &mut self,
        datagram: &[u8],
        operation: &str,
        pick: &mut impl FnMut(&Message<'_>) -> Result<Option<T>, String>,
    ) -> Result<Option<Dumped<T>>, Error> {
        let failed = |refusal| Error::Refused { operation: operation.to_owned(), refusal };
        let mangled = |problem| Error::Decode { operation: operation.to_owned(), problem };
        let mut done = false;
        let mut rest = datagram;
        while !rest.is_empty() {
            let (header, message) = decode::message(rest).map_err(mangled)?;
            rest = rest.get(message.len().next_multiple_of(4)..).unwrap_or_default();
            if header.sequence != self.sequence {
                continue;
            }
            self.interrupted |= header.flags & INTERRUPTED != 0;
            let body = &message[decode::HEADER..];
            match header.kind {
                // A dump that fails half way says so in its last message.
                DONE => match decode::i32_at(body, 0).unwrap_or(0) {
                    errno if errno < 0 => {
                        return Err(failed(Refusal { errno: -errno, explanation: None }));
                    }
                    _ => done = true,
                },
                ERROR => return Err(failed(refused(message).map_err(mangled)?)),
                kind if kind >= MIN_TYPE => {
                    self.objects.extend(pick(&Message { kind, body }).map_err(mangled)?)
                }
                _ => {}
            }
        }
        let objects = std::mem::take(&mut self.objects);
        if !done {
            self.objects = objects;
            return Ok(None);
        }
        Ok(Some(if self.interrupted { Dumped::Interrupted } else { Dumped::Table(objects) }))
    }
}

/// Tries a dump until it was not interrupted, at most [`TRIES`] times.
///
/// # Errors
/// [`Error::Interrupted`] after that, and whatever a dump fails with at once.
pub(crate) fn uninterrupted<T>(
    operation: &str,
    mut dump: impl FnMut() -> Result<Dumped<T>, Error>,
) -> Result<Vec<T>, Error> {
    for _ in 0..TRIES {
        if let Dumped::Table(objects) = dump()? {
            return Ok(objects);
        }
    }
    Err(Error::Interrupted { operation: operation.to_owned(), tries: TRIES })
}
