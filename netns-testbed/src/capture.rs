//! Captures: every frame of an interface, in both directions, parsed.

use std::io::{PipeWriter, pipe};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{During, Error, Result};
use crate::eventually::patience;
use crate::frame::Frame;
use crate::namespace::Namespace;
use crate::packet_socket::{PacketSocket, Purpose};

/// The largest frame that an interface hands over before the stack cuts it.
const LARGEST: usize = 70_000;

/// A running capture; dropping it ends it.
pub struct Capture {
    place: String,
    socket: Arc<PacketSocket>,
    seen: Arc<Seen>,
    /// Closed to stop the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    frames: Mutex<Vec<Frame>>,
    more: Condvar,
}

impl Capture {
    /// Starts to capture; every frame from the return of this function on is seen.
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Self> {
        let socket = Arc::new(PacketSocket::open(namespace, interface, Purpose::Capture)?);
        let (stopped, stop) = pipe().during(|| "create a pipe")?;
        let seen = Arc::new(Seen::default());
        let thread = std::thread::spawn({
            let (socket, seen) = (Arc::clone(&socket), Arc::clone(&seen));
            move || run(&socket, &stopped, &seen)
        });
        let place = format!("{interface} of {}", namespace.name());
        Ok(Self { place, socket, seen, stop: Some(stop), thread: Some(thread) })
    }

    /// What was captured so far: everything that passed before this call.
    pub fn frames(&self) -> Vec<Frame> {
        // Not left to the thread, which a busy machine may let wait.
        self.seen.take_in(&self.socket, &mut vec![0; LARGEST]);
        self.seen.lock().clone()
    }

    /// The first frame that fulfils `wanted`, waiting up to `timeout` (scaled by [`patience`]) for it.
    ///
    /// # Errors
    /// [`Error::Timeout`] that names `what` and counts the frames that were seen instead.
    pub fn wait_for(&self, what: &str, timeout: Duration, wanted: impl Fn(&Frame) -> bool) -> Result<Frame> {
        let timeout = timeout.mul_f64(patience());
        let deadline = Instant::now() + timeout;
        let mut looked_at = 0;
        let mut frames = self.seen.lock();
        loop {
            if let Some(frame) = frames[looked_at..].iter().find(|frame| wanted(frame)) {
                return Ok(frame.clone());
            }
            looked_at = frames.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Timeout {
                    what: format!("{what} on {}", self.place),
                    seconds: timeout.as_secs_f64(),
                    last: format!("{looked_at} other frames were seen"),
                });
            }
            frames = self.seen.more.wait_timeout(frames, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed already.
            let _ = thread.join();
        }
    }
}

fn run(socket: &PacketSocket, stopped: &impl AsFd, seen: &Seen) {
    let mut buffer = vec![0; LARGEST];
    loop {
        let mut events =
            [PollFd::new(socket.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
        if poll(&mut events, PollTimeout::NONE).is_err() {
            continue;
        }
        if events[1].any().unwrap_or(true) {
            return;
        }
        seen.take_in(socket, &mut buffer);
    }
}

impl Seen {
    /// Takes in what is queued.
    fn take_in(&self, socket: &PacketSocket, buffer: &mut [u8]) {
        // Held from the queue to the list, so that no frame is in neither when somebody looks.
        let mut frames = self.lock();
        while let Ok(Some(bytes)) = socket.receive(buffer) {
            frames.extend(Frame::parse(bytes));
        }
        self.more.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Frame>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
