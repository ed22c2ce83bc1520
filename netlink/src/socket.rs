//! One blocking `NETLINK_ROUTE` socket.
//!
//! Invariants: a request is done when its acknowledgement was read, or that of a later one of the
//! same datagram, never earlier; an answer belongs to a request by its sequence number; a dump that was overtaken by changes
//! (`NLM_F_DUMP_INTR`) is taken again. Filters of dumps are obeyed by the kernel or refused
//! (`NETLINK_GET_STRICT_CHK`), never ignored.

use std::borrow::Borrow;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::dump::{Dump, Dumped, uninterrupted};
use crate::error::{Error, Refusal};
use crate::received::{HEADER, Messages, Received};
pub use crate::request::Request;

/// `NLM_F_REQUEST`, `NLM_F_ACK` and `NLM_F_DUMP` of linux/netlink.h.
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;

/// Most requests in one datagram; their acknowledgements must fit the receive buffer together.
const BATCH: usize = 128;

/// Size of the receive buffer for dumps, in octets: twice the 16 KiB that a dump fills at once by
/// default lets the kernel use bigger pieces (`netlink_dump` in net/netlink/af_netlink.c).
const BUFFER: usize = 64 * 1024;

/// Size of the receive buffer for everything else, in octets: a device with all its names takes a few
/// KiB, and two of them fit what the C library gets from the kernel at its start.
const ANSWER: usize = 32 * 1024;

/// Size that is asked of the kernel for its own buffers, in octets.
const KERNEL_BUFFER: usize = 4 * 1024 * 1024;

/// How long an answer may take. The kernel answers at once, except while another process holds
/// the lock of all network configuration.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A blocking netlink socket in the namespace that its maker was in.
pub struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
    send: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Socket`] when the kernel refuses the socket or one of its options.
    pub fn open() -> Result<Self, Error> {
        let open = || -> io::Result<netlink_sys::Socket> {
            // The kernel gives it an address with the first request.
            let inner = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE)?;
            inner.set_netlink_get_strict_chk(true)?;
            inner.set_ext_ack(true)?;
            inner.set_cap_ack(true)?;
            Ok(inner)
        };
        let failed = |source| Error::Socket { operation: "open a netlink socket".into(), source };
        let inner = open().map_err(failed)?;
        let timeout = TimeVal::new(TIMEOUT.as_secs() as i64, 0);
        setsockopt(&inner, sockopt::ReceiveTimeout, &timeout).map_err(|e| failed(e.into()))?;
        Ok(Socket { inner, sequence: 0, buffer: Vec::new(), send: Vec::new() })
    }

    /// Asks for kernel buffers that hold the answers to big batches.
    ///
    /// Needs `CAP_NET_ADMIN` in the initial user namespace; without it the limit of the system
    /// stays, for which batches are small enough all the same.
    pub fn enlarge_buffers(&self) {
        // A refusal leaves the default, see above.
        let _refused = setsockopt(&self.inner, sockopt::RcvBufForce, &KERNEL_BUFFER);
    }

    /// Sends requests and waits until all were carried out; the results are in the order of the
    /// requests. A request that is refused does not keep the others from being carried out.
    ///
    /// The kernel carries out the requests of a datagram in order and reports every refusal, so the
    /// acknowledgement of the last says that there is no other (`netlink_rcv_skb` in
    /// net/netlink/af_netlink.c): only this one is asked for.
    ///
    /// # Errors
    /// [`Error::Socket`] or [`Error::Decode`] when the conversation itself breaks down, so that
    /// it is unknown which of the remaining requests were carried out.
    pub fn batch(&mut self, requests: &[Request]) -> Result<Vec<Result<(), Refusal>>, Error> {
        let mut results = vec![Ok(()); requests.len()];
        for (position, refusal) in self.carry_out(requests)? {
            results[position] = Err(refusal);
        }
        Ok(results)
    }

    /// As [`Socket::batch`], but each request is made when it is its turn, as thousands of them take
    /// megabytes. Tells which were refused, by their places.
    ///
    /// # Errors
    /// As [`Socket::batch`].
    pub fn carry_out(
        &mut self,
        requests: impl IntoIterator<Item: Borrow<Request>>,
    ) -> Result<Vec<(usize, Refusal)>, Error> {
        let mut requests = requests.into_iter().peekable();
        let (mut refusals, mut done) = (Vec::new(), 0);
        while requests.peek().is_some() {
            let first = self.sequence.wrapping_add(1);
            self.send.clear();
            let mut count = 0;
            while let Some(request) = requests.next() {
                count += 1;
                let last = count == BATCH || requests.peek().is_none();
                self.append(request.borrow(), if last { ACKNOWLEDGE } else { 0 });
                if last {
                    break;
                }
            }
            self.flush("change network objects")?;
            let refused = self.acknowledgements(first, count)?;
            refusals.extend(refused.into_iter().map(|(position, refusal)| (done + position, refusal)));
            done += count;
        }
        Ok(refusals)
    }

    /// Sends one request and reads its acknowledgement.
    ///
    /// # Errors
    /// [`Error::Refused`] with the operation as `describe` words it, or as [`Socket::batch`].
    pub fn execute(&mut self, request: Request, describe: impl FnOnce() -> String) -> Result<(), Error> {
        let mut results = self.batch(std::slice::from_ref(&request))?;
        match results.pop() {
            Some(Err(refusal)) => Err(Error::Refused { operation: describe(), refusal }),
            _ => Ok(()),
        }
    }

    /// Reads one object, as `read` makes it of the kernel's answer. Nothing comes back when the
    /// kernel knows no such object.
    ///
    /// # Errors
    /// [`Error`] when the kernel refuses for another reason, or the conversation breaks down.
    pub(crate) fn get<T>(
        &mut self,
        request: &Request,
        operation: &str,
        mut read: impl FnMut(&Received<'_>) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        self.send.clear();
        let sequence = self.append(request, 0);
        self.flush(operation)?;
        loop {
            let received = self.receive(operation)?;
            for message in Messages::new(&received, operation) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                let answer = match message.verdict(operation)? {
                    None if message.is_object() => read(&message),
                    None => continue,
                    Some(refusal) => {
                        let error = Error::Refused { operation: operation.to_owned(), refusal };
                        if error.is_absent() { Ok(None) } else { Err(error) }
                    }
                };
                self.buffer = received;
                return answer;
            }
            self.buffer = received;
        }
    }

    /// Reads a table; `pick` takes from each object what is wanted, or says why it cannot be
    /// understood.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when the table changed during every attempt, else as [`Socket::get`],
    /// and whatever `pick` fails with.
    pub(crate) fn dump<T>(
        &mut self,
        request: &Request,
        operation: &str,
        mut pick: impl FnMut(&Received<'_>) -> Result<Option<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        uninterrupted(operation, || self.dump_once(request, operation, &mut pick))
    }

    fn dump_once<T>(
        &mut self,
        request: &Request,
        operation: &str,
        pick: &mut impl FnMut(&Received<'_>) -> Result<Option<T>, Error>,
    ) -> Result<Dumped<T>, Error> {
        self.send.clear();
        self.buffer.clear();
        self.buffer.reserve(BUFFER);
        let mut dump = Dump::new(self.append(request, DUMP));
        self.flush(operation)?;
        loop {
            let received = self.receive(operation)?;
            let dumped = dump.take(&received, operation, pick);
            self.buffer = received;
            if let Some(dumped) = dumped? {
                return Ok(dumped);
            }
        }
    }

    /// Waits until so many requests of a datagram were carried out; which of them were refused.
    fn acknowledgements(&mut self, first: u32, count: usize) -> Result<Vec<(usize, Refusal)>, Error> {
        let operation = "change network objects";
        let mut pending = true;
        let mut refusals = Vec::new();
        while pending {
            let received = self.receive(operation)?;
            for message in Messages::new(&received, operation) {
                let message = message?;
                let position = message.sequence.wrapping_sub(first) as usize;
                if position >= count {
                    continue;
                }
                if let Some(refusal) = message.verdict(operation)? {
                    pending &= position + 1 != count;
                    if refusal.errno != 0 {
                        refusals.push((position, refusal));
                    }
                }
            }
            self.buffer = received;
        }
        Ok(refusals)
    }

    /// Appends a request to what will be sent; returns its sequence number.
    fn append(&mut self, request: &Request, flags: u16) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        // `struct nlmsghdr`: length, kind, flags, sequence, and the port of the kernel. Messages lie at
        // multiples of four octets, as bodies are so long.
        let length = (HEADER + request.body.len()) as u32;
        self.send.extend_from_slice(&length.to_ne_bytes());
        self.send.extend_from_slice(&request.kind.to_ne_bytes());
        self.send.extend_from_slice(&(REQUEST | request.flags | flags).to_ne_bytes());
        self.send.extend_from_slice(&self.sequence.to_ne_bytes());
        self.send.extend_from_slice(&[0; 4]);
        self.send.extend_from_slice(&request.body);
        self.sequence
    }

    fn flush(&mut self, operation: &str) -> Result<(), Error> {
        let failed = |source| Error::Socket { operation: operation.to_owned(), source };
        let kernel = netlink_sys::SocketAddr::new(0, 0);
        let sent = self.inner.send_to(&self.send, &kernel, 0).map_err(failed)?;
        if sent != self.send.len() {
            return Err(failed(io::Error::new(io::ErrorKind::WriteZero, "a request was sent in part")));
        }
        Ok(())
    }

    /// Receives one datagram into the buffer, which is handed out so that it can be read while
    /// the socket goes on being used; put it back afterwards.
    fn receive(&mut self, operation: &str) -> Result<Vec<u8>, Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            buffer.clear();
            buffer.reserve(ANSWER);
            match self.inner.recv(&mut buffer, nix::libc::MSG_TRUNC) {
                // With MSG_TRUNC the length is that of the whole datagram.
                Ok(length) if length > buffer.capacity() => {
                    let problem = format!("a datagram of {length} octets is longer than the buffer");
                    return Err(Error::Decode { operation: operation.to_owned(), problem });
                }
                Ok(_) => return Ok(buffer),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Socket { operation: operation.to_owned(), source }),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}
