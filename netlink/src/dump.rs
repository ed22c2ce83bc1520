//! What the datagrams of a dump say: the objects of a table, unless it changed meanwhile.

#[cfg(test)]
mod tests;

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;

use crate::error::{Error, Refusal};
use crate::socket::{Messages, refusal};

/// How often a dump is tried that is overtaken by changes.
pub(crate) const TRIES: u32 = 20;

/// `NLM_F_DUMP_INTR` of linux/netlink.h.
const INTERRUPTED: u16 = 0x10;

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

    /// Takes in a datagram; `pick` takes from each object what is wanted. Something comes back when
    /// this was the last one.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses, also half way; [`Error::Decode`] when it cannot
    /// be understood.
    pub(crate) fn take(
        &mut self,
        datagram: &[u8],
        operation: &str,
        pick: &mut impl FnMut(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Option<Dumped<T>>, Error> {
        let refused = |refusal| Error::Refused { operation: operation.to_owned(), refusal };
        let mut done = false;
        for message in Messages::new(datagram, operation) {
            let message = message?;
            if message.header.sequence_number != self.sequence {
                continue;
            }
            self.interrupted |= message.header.flags & INTERRUPTED != 0;
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => self.objects.extend(pick(inner)),
                // A dump that fails half way says so in its last message.
                NetlinkPayload::Done(end) if end.code < 0 => {
                    return Err(refused(Refusal { errno: -end.code, explanation: None }));
                }
                NetlinkPayload::Done(_) => done = true,
                NetlinkPayload::Error(error) => return Err(refused(refusal(message.header, &error))),
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
