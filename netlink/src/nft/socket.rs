//! The netfilter netlink socket: requests, dumps and transactions, with every answer accounted for.

use std::io;
use std::os::fd::AsFd;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::errno::Errno;
use nix::libc::{MSG_DONTWAIT, MSG_TRUNC};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::batch::{Batch, MESSAGE_HEADER, message};
use super::error::{NftError, Refusal, Subject};
use super::uapi::*;
use super::wire::{Attrs, Malformed, Parsed};

/// Room for the acknowledgements of some thousand messages (each costs the kernel about 1 KiB).
const RECEIVE_BUFFER: usize = 8 << 20;
/// The kernel answers at once; this only keeps a lost answer from hanging us for ever.
const TIMEOUT_SECONDS: i64 = 10;
/// The kernel builds dumps in pieces of at most 32 KiB (netlink_recvmsg, net/netlink/af_netlink.c),
/// and single answers in less.
const DATAGRAM: usize = 64 << 10;
/// `sizeof(struct nlmsghdr)`.
const NLMSG_HEADER: usize = 16;

/// A message from the kernel: its type after the subsystem, and its attributes.
#[derive(Debug)]
pub struct Reply {
    /// Flags of the `nlmsghdr`.
    flags: u16,
    /// The family of the `nfgenmsg`.
    pub family: u8,
    /// The attributes, to be split.
    pub attrs: Vec<u8>,
}

/// What one message from the kernel says.
enum Answer {
    Data(Reply),
    Done { errno: i32 },
    Status { errno: i32, message: Option<String>, offset: Option<usize> },
}

/// A socket and the number of its last request.
#[derive(Debug)]
pub struct NftSocket {
    socket: Socket,
    seq: u32,
    send_buffer: usize,
}

impl NftSocket {
    /// Opens a socket in the network namespace of the calling thread, where it stays.
    pub fn open() -> Result<Self, NftError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            let fd = socket.as_fd();
            // Beyond the limit of the system where that is allowed.
            if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
                setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
            }
            let timeout = TimeVal::new(TIMEOUT_SECONDS, 0);
            setsockopt(&fd, sockopt::ReceiveTimeout, &timeout)?;
            Ok(socket)
        };
        let socket = open().map_err(|source| NftError::Open { source })?;
        Ok(Self { socket, seq: 0, send_buffer: 0 })
    }

    /// Asks for one object; none if there is no such object.
    pub fn get(&mut self, kind: u16, attrs: Attrs, action: &str) -> Result<Option<Reply>, NftError> {
        match self.request(of_nftables(kind), NLM_F_ACK, NFPROTO_INET, attrs, action) {
            Ok(mut replies) => Ok(if replies.is_empty() { None } else { Some(replies.remove(0)) }),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for all objects. Fails with EINTR if they changed meanwhile.
    pub fn dump(
        &mut self,
        kind: u16,
        family: u8,
        attrs: Attrs,
        action: &str,
    ) -> Result<Vec<Reply>, NftError> {
        let replies = self.request(of_nftables(kind), NLM_F_DUMP, family, attrs, action)?;
        if replies.iter().any(|reply| reply.flags & NLM_F_DUMP_INTR != 0) {
            return Err(refused(action, Errno::EINTR as i32, None));
        }
        Ok(replies)
    }

    /// Sends a request and collects the answers to its end: an acknowledgement, or that of a dump.
    /// The kind includes the subsystem.
    pub(crate) fn request(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        attrs: Attrs,
        action: &str,
    ) -> Result<Vec<Reply>, NftError> {
        let mut replies = Vec::new();
        let keep = |reply| {
            replies.push(reply);
            Ok(())
        };
        self.request_each(kind, flags, family, attrs, action, keep)?;
        Ok(replies)
    }

    /// As [`NftSocket::request`], for answers that are too many to be kept. All are received, also
    /// after the first error of `visit`, which is returned.
    pub(crate) fn request_each(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        attrs: Attrs,
        action: &str,
        mut visit: impl FnMut(Reply) -> Result<(), NftError>,
    ) -> Result<(), NftError> {
        let too_long = || NftError::TooLong { action: action.to_owned() };
        let attrs = attrs.finish().ok_or_else(too_long)?;
        self.seq = self.seq.wrapping_add(1);
        let seq = self.seq;
        let mut bytes = Vec::new();
        message(&mut bytes, kind, NLM_F_REQUEST | flags, seq, family, &attrs);
        self.send(&bytes, action)?;
        let mut visited = Ok(());
        loop {
            let datagram = self.receive(0, action)?;
            for answer in answers(&datagram) {
                let (number, answer) = answer.map_err(malformed(action))?;
                if number != seq {
                    // The late answer to a request that was given up.
                    continue;
                }
                match answer {
                    Answer::Data(reply) => visited = visited.and_then(|()| visit(reply)),
                    Answer::Done { errno: 0 } | Answer::Status { errno: 0, .. } => return visited,
                    Answer::Done { errno } => return Err(refused(action, errno, None)),
                    Answer::Status { errno, message, .. } => {
                        return Err(refused(action, errno, message));
                    }
                }
            }
        }
    }

    /// Sends a transaction. The first error of the kernel is returned, with the message of the
    /// batch that it is about; then nothing was changed.
    pub fn commit(&mut self, batch: &Batch, generation: Option<u32>) -> Result<(), NftError> {
        if let Some(action) = batch.too_long() {
            return Err(NftError::TooLong { action: action.to_owned() });
        }
        let steps = batch.steps();
        let begin = self.seq.wrapping_add(1);
        // Begin, every step, end.
        self.seq = begin.wrapping_add(steps.len() as u32 + 1);
        let bytes = batch.bytes(begin, generation);
        self.send(&bytes, &batch.action)?;
        let mut acknowledged = 0;
        let mut failure: Option<NftError> = None;
        while acknowledged < steps.len() {
            // The kernel has done all of the work, and queued all of its answers, by the time
            // that sending returned: what is not there now will not come.
            let datagram = match self.receive(MSG_DONTWAIT, &batch.action) {
                Ok(datagram) => datagram,
                Err(NftError::Receive { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                    break;
                }
                Err(error) => return Err(failure.unwrap_or(error)),
            };
            for answer in answers(&datagram) {
                let (number, answer) = answer.map_err(malformed(&batch.action))?;
                let place = number.wrapping_sub(begin) as usize;
                let Answer::Status { errno, message, offset } = answer else {
                    continue;
                };
                let step = place.checked_sub(1).and_then(|place| steps.get(place));
                match (step, errno) {
                    (Some(_), 0) => acknowledged += 1,
                    (Some(step), errno) => {
                        acknowledged += 1;
                        let mut refusal = refusal(&step.action, errno, message);
                        refusal.subject = step.subject;
                        let offset = offset.and_then(|offset| offset.checked_sub(MESSAGE_HEADER));
                        let at = |part: &&super::batch::Part| {
                            offset.is_some_and(|offset| part.range.contains(&offset))
                        };
                        refusal.expr = step.parts.iter().find(at).map(|part| part.expr.clone());
                        failure = failure.or(Some(NftError::Refused(refusal)));
                    }
                    // The batch as a whole, or an old request.
                    (None, errno) if place == 0 && errno != 0 => {
                        failure = failure.or(Some(refused(&batch.action, errno, message)));
                    }
                    (None, _) => {}
                }
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None if acknowledged < steps.len() => Err(NftError::Unconfirmed {
                action: batch.action.clone(),
                missing: steps.len() - acknowledged,
            }),
            None => Ok(()),
        }
    }

    fn send(&mut self, bytes: &[u8], action: &str) -> Result<(), NftError> {
        let failed = |source| NftError::Send { action: action.to_owned(), bytes: bytes.len(), source };
        // A message must fit into the send buffer as a whole (netlink_sendmsg, EMSGSIZE).
        let needed = bytes.len() + 1024;
        if needed > self.send_buffer {
            let fd = self.socket.as_fd();
            if setsockopt(&fd, sockopt::SndBufForce, &needed).is_err() {
                setsockopt(&fd, sockopt::SndBuf, &needed).map_err(|errno| failed(errno.into()))?;
            }
            self.send_buffer = needed;
        }
        let kernel = SocketAddr::new(0, 0);
        let sent = self.socket.send_to(bytes, &kernel, 0).map_err(failed)?;
        if sent != bytes.len() {
            return Err(failed(io::Error::from(io::ErrorKind::WriteZero)));
        }
        Ok(())
    }

    /// One datagram from the kernel.
    fn receive(&mut self, flags: i32, action: &str) -> Result<Vec<u8>, NftError> {
        loop {
            let mut datagram: Vec<u8> = Vec::with_capacity(DATAGRAM);
            match self.socket.recv_from(&mut datagram, MSG_TRUNC | flags) {
                // Anything but the kernel has a port.
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((len, _)) if len > datagram.len() => {
                    let source = Malformed("it is longer than any answer should be");
                    return Err(NftError::Malformed { action: action.to_owned(), source });
                }
                Ok(_) => return Ok(datagram),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(NftError::Receive { action: action.to_owned(), source });
                }
            }
        }
    }
}

/// The kind of a message to nf_tables among those to all of netfilter.
fn of_nftables(kind: u16) -> u16 {
    SUBSYS_NFTABLES << 8 | kind
}

fn malformed(action: &str) -> impl FnOnce(Malformed) -> NftError {
    let action = action.to_owned();
    |source| NftError::Malformed { action, source }
}

fn refusal(action: &str, errno: i32, message: Option<String>) -> Refusal {
    let errno = Errno::from_raw(errno);
    Refusal { subject: Subject::Table, action: action.to_owned(), expr: None, errno, message }
}

fn refused(action: &str, errno: i32, message: Option<String>) -> NftError {
    NftError::Refused(refusal(action, errno, message))
}

/// Splits a datagram into messages, each with its sequence number.
fn answers(datagram: &[u8]) -> impl Iterator<Item = Result<(u32, Answer), Malformed>> + '_ {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let answer = answer(rest);
        rest = match &answer {
            Ok((len, ..)) => rest.get(len.next_multiple_of(4)..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(answer.map(|(_, seq, answer)| (seq, answer)))
    })
}

/// The first message of these bytes: its length, its sequence number and what it says.
fn answer(bytes: &[u8]) -> Result<(usize, u32, Answer), Malformed> {
    const CUT: Malformed = Malformed("a message is cut off");
    let word = |at: usize| -> Result<u32, Malformed> {
        let word = bytes.get(at..at + 4).ok_or(CUT)?;
        Ok(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
    };
    let len = word(0)? as usize;
    let payload = bytes.get(NLMSG_HEADER..len).ok_or(CUT)?;
    let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
    let flags = u16::from_ne_bytes([bytes[6], bytes[7]]);
    let seq = word(8)?;
    let errno = |payload: &[u8]| -> Result<i32, Malformed> {
        let errno = payload.get(..4).ok_or(CUT)?;
        // The kernel's sign: zero, or a negative error.
        Ok(-i32::from_ne_bytes([errno[0], errno[1], errno[2], errno[3]]))
    };
    let answer = match kind {
        NLMSG_DONE => Answer::Done { errno: errno(payload)? },
        NLMSG_ERROR => {
            // The error, the header of the request, and, the request itself being left out
            // (NETLINK_CAP_ACK), attributes.
            let tlvs = payload.get(4 + NLMSG_HEADER..).unwrap_or_default();
            let tlvs = if flags & NLM_F_ACK_TLVS != 0 { tlvs } else { &[] };
            let tlvs = Parsed::new(tlvs)?;
            let offset = tlvs.get(NLMSGERR_ATTR_OFFS).and_then(|bytes| bytes.try_into().ok());
            Answer::Status {
                errno: errno(payload)?,
                message: tlvs.text(NLMSGERR_ATTR_MSG),
                offset: offset.map(|bytes| u32::from_ne_bytes(bytes) as usize),
            }
        }
        _ => {
            let (header, attrs) = payload.split_at_checked(4).ok_or(CUT)?;
            Answer::Data(Reply { flags, family: header[0], attrs: attrs.to_vec() })
        }
    };
    Ok((len, seq, answer))
}
