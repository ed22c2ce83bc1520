//! A ping that goes on while something is done to the cluster, and tells what was lost.

use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::ping::{Ping, PingSocket};
use crate::error::{During, Error, Result};
use crate::eventually::{eventually, patience, pause};
use crate::namespace::Namespace;

/// How long after the last request replies still count, on a machine that may stand still for seconds.
const GRACE: Duration = Duration::from_secs(5);
/// How often the receiver looks whether it is to stop.
const TICK: Duration = Duration::from_millis(20);

/// A running ping; [`ContinuousPing::stop`] tells the outcome.
pub struct ContinuousPing {
    what: String,
    shared: Arc<Mutex<PingReport>>,
    /// Closed to stop the sender.
    stop: Option<PipeWriter>,
    /// Set where nobody will look at the outcome.
    dropped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What became of the requests. Numbers count from 0.
#[derive(Clone, Debug, Default)]
pub struct PingReport {
    /// How many requests were sent.
    pub sent: u16,
    /// The round-trip time of each request that was answered.
    round_trips: Vec<Option<Duration>>,
    /// Requests that the kernel refused to send, with its reason.
    pub refused: Vec<(u16, String)>,
    /// Replies beyond the first to one request.
    pub duplicates: u16,
    /// When the first reply arrived.
    pub first_reply: Option<Instant>,
}

impl PingReport {
    /// How many requests were answered.
    pub fn received(&self) -> usize {
        self.round_trips.iter().flatten().count()
    }

    /// The numbers of the requests that were not answered.
    pub fn lost(&self) -> Vec<u16> {
        (0..self.sent).filter(|&number| self.round_trip(number).is_none()).collect()
    }

    /// The round-trip time of one request, if it was answered.
    pub fn round_trip(&self, number: u16) -> Option<Duration> {
        self.round_trips.get(usize::from(number)).copied().flatten()
    }

    /// The round-trip times of the answered requests, in the order of sending.
    pub fn round_trips(&self) -> impl Iterator<Item = Duration> {
        self.round_trips.iter().flatten().copied()
    }
}

impl ContinuousPing {
    /// Starts to send a request every `interval`; up to 65535 are sent.
    pub fn start(namespace: &Namespace, target: IpAddr, interval: Duration) -> Result<Self> {
        let socket = Arc::new(Ping::to(target).open(namespace)?);
        let shared = Arc::new(Mutex::new(PingReport::default()));
        let (stopped, stop) = pipe().during(|| "create a pipe")?;
        let (receiver_stopped, receiver_stop) = pipe().during(|| "create a pipe")?;
        let receiver = thread::spawn({
            let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
            move || receive(&socket, &shared, receiver_stopped)
        });
        let dropped = Arc::new(AtomicBool::new(false));
        let sender = thread::spawn({
            let (shared, dropped) = (Arc::clone(&shared), Arc::clone(&dropped));
            move || {
                send(&socket, &shared, stopped, interval);
                await_stragglers(&shared, &dropped);
                drop(receiver_stop);
            }
        });
        let what = format!("the ping of {target} from {}", namespace.name());
        Ok(Self { what, shared, stop: Some(stop), dropped, threads: vec![sender, receiver] })
    }

    /// How it stands now; requests on their way count as lost.
    pub fn report(&self) -> PingReport {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `count` more requests were answered.
    pub fn wait_for_replies(&self, count: usize, timeout: Duration) -> Result<()> {
        let before = self.report().received();
        eventually(&format!("{count} replies to {}", self.what), timeout, || {
            let report = self.report();
            if report.received() >= before + count {
                return Ok(());
            }
            Err(format!(
                "{} of {} requests were answered; {:?}",
                report.received(),
                report.sent,
                report.refused.last()
            ))
        })
    }

    /// Stops sending, waits for the last replies and tells the outcome.
    pub fn stop(mut self) -> PingReport {
        self.finish();
        self.report()
    }

    /// Stops and expects that every request was answered, at least one.
    pub fn stop_without_loss(self) -> Result<PingReport> {
        let what = self.what.clone();
        let report = self.stop();
        let lost = report.lost();
        if report.sent > 0 && lost.is_empty() {
            return Ok(report);
        }
        Err(Error::Invalid {
            what: "the outcome of",
            value: what,
            reason: format!(
                "of {} requests these were lost: {lost:?}; refused: {:?}",
                report.sent, report.refused
            ),
        })
    }

    fn finish(&mut self) {
        drop(self.stop.take());
        for thread in self.threads.drain(..) {
            // A panic there was printed already.
            let _ = thread.join();
        }
    }
}

impl Drop for ContinuousPing {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
        self.finish();
    }
}

fn send(socket: &PingSocket, shared: &Mutex<PingReport>, mut stopped: PipeReader, interval: Duration) {
    let (ended, end) = std::sync::mpsc::channel::<()>();
    let waiter = thread::spawn(move || {
        // Returns when the other end is closed, which is the signal.
        let _ = stopped.read(&mut [0]);
        drop(ended);
    });
    for number in 0..u16::MAX {
        // Counted first: a reply may be here before `send` returns.
        {
            let mut report = shared.lock().unwrap_or_else(PoisonError::into_inner);
            report.sent = number + 1;
            report.round_trips.push(None);
        }
        if let Err(error) = socket.send(number) {
            let mut report = shared.lock().unwrap_or_else(PoisonError::into_inner);
            report.refused.push((number, error.to_string()));
        }
        if end.recv_timeout(interval) != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            break;
        }
    }
    let _ = waiter.join();
}

/// Waits for the replies that are still on their way.
fn await_stragglers(shared: &Mutex<PingReport>, dropped: &AtomicBool) {
    let deadline = Instant::now() + GRACE.mul_f64(patience());
    while Instant::now() < deadline && !dropped.load(Ordering::Relaxed) {
        let report = shared.lock().unwrap_or_else(PoisonError::into_inner);
        // Refused ones get no reply.
        if report.received() + report.refused.len() >= usize::from(report.sent) {
            return;
        }
        drop(report);
        pause(Duration::from_millis(2));
    }
}

fn receive(socket: &PingSocket, shared: &Mutex<PingReport>, stopped: PipeReader) {
    let ended = thread::spawn(move || {
        let mut stopped = stopped;
        let _ = stopped.read(&mut [0]);
    });
    loop {
        // Asked before the look: what was there by then is counted, however late this comes.
        let ending = ended.is_finished();
        let Ok(Some(reply)) = socket.receive(Instant::now() + TICK) else {
            if ending {
                return;
            }
            continue;
        };
        let arrived = Instant::now();
        let mut report = shared.lock().unwrap_or_else(PoisonError::into_inner);
        match report.round_trips.get_mut(usize::from(reply.sequence)) {
            Some(known @ None) => {
                *known = Some(reply.round_trip);
                report.first_reply.get_or_insert(arrived);
            }
            Some(Some(_)) => report.duplicates += 1,
            // Not one of ours: nothing was sent under that number yet.
            None => {}
        }
    }
}
