//! A stream of numbered datagrams, and which of them arrived.
//!
//! Unlike a ping it needs no way back, so that a loss is known to be on the way there.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use crate::error::{During, Error, Result};
use crate::eventually::{eventually, patience, pause};
use crate::namespace::Namespace;

/// How long after the last datagram others still count, on a machine that may stand still for seconds.
const GRACE: Duration = Duration::from_secs(5);
/// How often the receiver looks whether it is to stop.
const TICK: Duration = Duration::from_millis(20);

/// Octets of queued datagrams: several seconds of a fast stream, at 768 octets each in the kernel.
const BUFFER: usize = 8 << 20;

/// A running stream; [`UdpStream::stop`] tells the outcome.
pub struct UdpStream {
    what: String,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    sent: AtomicU32,
    arrivals: Mutex<Vec<u32>>,
    refused: Mutex<Vec<(u32, String)>>,
    sender_stop: AtomicBool,
    receiver_stop: AtomicBool,
}

/// What became of the datagrams. Numbers count from 0.
#[derive(Clone, Debug, Default)]
pub struct StreamReport {
    /// How many were sent.
    pub sent: u32,
    /// How often each arrived, by its number.
    pub arrivals: Vec<u32>,
    /// Those that the kernel refused to send, with its reason.
    pub refused: Vec<(u32, String)>,
}

impl StreamReport {
    /// How many arrived.
    pub fn received(&self) -> usize {
        self.arrivals.iter().filter(|count| **count > 0).count()
    }

    /// The numbers of those that did not arrive.
    pub fn lost(&self) -> Vec<u32> {
        let arrived = |number: u32| self.arrivals.get(number as usize).is_some_and(|count| *count > 0);
        (0..self.sent).filter(|number| !arrived(*number)).collect()
    }
}

impl UdpStream {
    /// Starts to send `rate` datagrams a second, as evenly as the machine can, to an address of `to`.
    pub fn start(from: &Namespace, to: &Namespace, address: IpAddr, rate: u32) -> Result<Self> {
        let what = format!("the stream from {} to {address} of {}", from.name(), to.name());
        let receiver = to.run(|| UdpSocket::bind((address, 0)))?.during(|| format!("receive {what}"))?;
        // Beyond net.core.rmem_max only for real root; an ordinary user gets what the limit allows.
        // A receiver that has to wait for its turn must not count as a loss of the network's.
        if setsockopt(&receiver, sockopt::RcvBufForce, &BUFFER).is_err() {
            setsockopt(&receiver, sockopt::RcvBuf, &BUFFER).during(|| format!("receive {what}"))?;
        }
        receiver.set_read_timeout(Some(TICK)).during(|| format!("receive {what}"))?;
        let target = receiver.local_addr().during(|| format!("receive {what}"))?;
        let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let sender = from.run(|| UdpSocket::bind((any, 0)))?.during(|| format!("send {what}"))?;

        let shared = Arc::new(Shared::default());
        let receiving = Arc::clone(&shared);
        let sending = Arc::clone(&shared);
        let interval = Duration::from_secs(1) / rate.max(1);
        let threads = vec![
            thread::spawn(move || sending.send(&sender, target, interval)),
            thread::spawn(move || receiving.receive(&receiver)),
        ];
        Ok(Self { what, shared, threads })
    }

    /// How it stands now; datagrams on their way count as lost.
    pub fn report(&self) -> StreamReport {
        self.shared.report()
    }

    /// Waits until `count` more datagrams arrived.
    pub fn wait_for_arrivals(&self, count: usize, timeout: Duration) -> Result<()> {
        let before = self.report().received();
        eventually(&format!("{count} datagrams of {}", self.what), timeout, || {
            let report = self.report();
            if report.received() >= before + count {
                return Ok(());
            }
            Err(format!("{} of {} arrived; {:?}", report.received(), report.sent, report.refused.last()))
        })
    }

    /// Stops sending, waits for the last datagrams and tells the outcome.
    pub fn stop(mut self) -> StreamReport {
        self.finish();
        self.report()
    }

    /// Stops and expects that every datagram arrived once, at least one.
    pub fn stop_without_loss(self) -> Result<StreamReport> {
        let what = self.what.clone();
        let report = self.stop();
        let (lost, twice) = (report.lost(), report.arrivals.iter().filter(|count| **count > 1).count());
        if report.sent > 0 && lost.is_empty() && twice == 0 {
            return Ok(report);
        }
        Err(Error::Invalid {
            what: "the outcome of",
            value: what,
            reason: format!(
                "of {} datagrams these were lost: {lost:?}; {twice} came more than once; refused: {:?}",
                report.sent, report.refused
            ),
        })
    }

    fn finish(&mut self) {
        self.shared.sender_stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic there was printed already.
            let _ = thread.join();
        }
    }
}

impl Drop for UdpStream {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shared {
    fn report(&self) -> StreamReport {
        // Read first: whatever is counted as sent may be in the list by then, not the reverse.
        let sent = self.sent.load(Ordering::SeqCst);
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        StreamReport { sent, arrivals, refused }
    }

    fn send(&self, socket: &UdpSocket, target: SocketAddr, interval: Duration) {
        let start = Instant::now();
        for number in 0u32.. {
            if self.sender_stop.load(Ordering::Relaxed) {
                break;
            }
            if let Err(error) = socket.send_to(&number.to_be_bytes(), target) {
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                refused.push((number, error.to_string()));
            }
            self.sent.store(number + 1, Ordering::SeqCst);
            // A late datagram is followed sooner by the next.
            let next = interval.saturating_mul(number + 1);
            pause(next.saturating_sub(start.elapsed()));
        }
        self.await_stragglers();
        self.receiver_stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the datagrams that are still on their way.
    fn await_stragglers(&self) {
        let deadline = Instant::now() + GRACE.mul_f64(patience());
        while Instant::now() < deadline {
            let report = self.report();
            if report.received() + report.refused.len() >= report.sent as usize {
                return;
            }
            pause(Duration::from_millis(2));
        }
    }

    fn receive(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4];
        loop {
            // Asked before the look: what was there by then is counted, however late this comes.
            let ending = self.receiver_stop.load(Ordering::Relaxed);
            match socket.recv(&mut buffer) {
                Ok(4) => {}
                // Not one of ours.
                Ok(_) => continue,
                // The end of the tick.
                Err(_) if ending => return,
                Err(_) => continue,
            }
            let number = u32::from_be_bytes(buffer) as usize;
            let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            if arrivals.len() <= number {
                arrivals.resize(number + 1, 0);
            }
            arrivals[number] += 1;
        }
    }
}
