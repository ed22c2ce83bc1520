//! Delay: a thread that carries frames between two interfaces and holds each for a while.
//!
//! (The kernel's own netem is not everywhere.)

use std::collections::VecDeque;
use std::io::{PipeWriter, pipe};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::error::{During, Result};
use crate::namespace::Namespace;
use crate::packet_socket::{PacketSocket, Purpose};

/// The largest frame of an interface that cuts nothing: 64 KiB and headers.
const LARGEST: usize = 70_000;

/// A running relay; dropping it stops the thread.
pub(super) struct Relay {
    nanoseconds: Arc<AtomicU64>,
    bridge_port: String,
    /// Closed to stop the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Takes `port` out of the bridge and carries its frames to a new port of the bridge.
    pub(super) fn insert(namespace: &Namespace, port: &str, bridge: &str, delay: Duration) -> Result<Self> {
        let (inner, bridge_port) = (format!("{port}r"), format!("{port}b"));
        // Large enough for every frame that the port lets through.
        namespace.ip(&format!(
            "link set {port} nomaster\n\
             link add {inner} mtu 65535 type veth peer name {bridge_port} mtu 65535\n\
             link set {bridge_port} master {bridge}\nlink set {bridge_port} up\nlink set {inner} up"
        ))?;
        let ends = [
            PacketSocket::open(namespace, port, Purpose::Relay)?,
            PacketSocket::open(namespace, &inner, Purpose::Relay)?,
        ];
        let (stopped, stop) = pipe().during(|| "create a pipe")?;
        let nanoseconds = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&nanoseconds);
        let thread = namespace.spawn_thread(move || run(&ends, &stopped, &shared))?;
        let relay = Self { nanoseconds, bridge_port, stop: Some(stop), thread: Some(thread) };
        relay.set_delay(delay);
        Ok(relay)
    }

    /// Changes the delay of the frames that arrive from now on.
    pub(super) fn set_delay(&self, delay: Duration) {
        let nanoseconds = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.store(nanoseconds, Ordering::Relaxed);
    }

    /// The interface that stands for the port in the bridge.
    pub(super) fn bridge_port(&self) -> &str {
        &self.bridge_port
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed already.
            let _ = thread.join();
        }
    }
}

/// A frame and when it may go on; `to` is the end through which it leaves.
struct Held {
    due: Instant,
    to: usize,
    frame: Vec<u8>,
}

/// Carries frames until the pipe is closed or an interface is gone.
fn run(ends: &[PacketSocket; 2], stopped: &impl AsFd, nanoseconds: &AtomicU64) {
    // In order of arrival, so frames never overtake each other, also when the delay is shortened.
    let mut held: VecDeque<Held> = VecDeque::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        let wait = held.front().map(|next| next.due.saturating_duration_since(Instant::now()));
        let mut events = [
            PollFd::new(ends[0].as_fd(), PollFlags::POLLIN),
            PollFd::new(ends[1].as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        if ppoll(&mut events, wait.map(TimeSpec::from_duration), None).is_err() {
            continue;
        }
        if events[2].any().unwrap_or(true) {
            return;
        }
        let delay = Duration::from_nanos(nanoseconds.load(Ordering::Relaxed));
        for (from, end) in ends.iter().enumerate() {
            loop {
                match end.receive(&mut buffer) {
                    Ok(Some(frame)) => {
                        let due = Instant::now() + delay;
                        held.push_back(Held { due, to: 1 - from, frame: frame.to_vec() });
                    }
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
        }
        while let Some(next) = held.pop_front_if(|next| next.due <= Instant::now()) {
            if ends[next.to].send(&next.frame).is_err() {
                return;
            }
        }
    }
}
