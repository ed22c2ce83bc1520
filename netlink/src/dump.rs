//! What the datagrams of a dump say: the objects of a table, unless it changed meanwhile.

#[cfg(test)]
mod tests;

use nix::libc;

use crate::error::{Error, Refusal};
use crate::received::{Messages, Received};

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
        pick: &mut impl FnMut(&Received<'_>) -> Result<Option<T>, Error>,
    ) -> Result<Option<Dumped<T>>, Error> {
        let refused = |refusal| Error::Refused { operation: operation.to_owned(), refusal };
        let mut done = false;
        for message in Messages::new(datagram, operation) {
            let message = message?;
            if message.sequence != self.sequence {
                continue;
            }
            self.interrupted |= message.flags & INTERRUPTED != 0;
            if message.is_object() {
                self.objects.extend(pick(&message)?);
            } else if i32::from(message.kind) == libc::NLMSG_DONE {
                // A dump that fails half way says so in its last message.
                if let Some(errno) = failure(message.body()) {
                    return Err(refused(Refusal { errno, explanation: None }));
                }
                done = true;
            } else if let Some(refusal) = message.verdict(operation)? {
                return Err(refused(refusal));
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

/// The error number, positive, in the last message of a dump: an integer, negative if it failed.
fn failure(end: &[u8]) -> Option<i32> {
    let code = i32::from_ne_bytes(end.get(..4)?.try_into().ok()?);
    (code < 0).then(|| code.saturating_neg())
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
