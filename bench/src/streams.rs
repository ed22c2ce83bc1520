//! Streams: TCP as fast as it goes, with both ends of a stream on one processor.
//!
//! On two nodes each end has processors of its own; here they share them, and what a stream carries
//! is bounded by the sum of what both nodes do for it. Where its ends run on different processors,
//! both of them send: that of the sender when it writes, and that of the receiver when an
//! acknowledgement opens the window. Packets then overtake each other, TCP takes them for lost, and
//! it is chance whether a stream carries so much or twice as much.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netns_testbed::Namespace;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;

use crate::measure::rest;

/// Octets of a call.
const CHUNK: usize = 128 << 10;
/// Octets of a socket's buffer: what anybody may ask for (`net.core.wmem_max`). What grows by itself
/// grows beyond the processor's cache, in one stream sooner than in another.
const BUFFER: usize = 212_992;
/// How long streams run before they are measured, and for how long they are.
const START: Duration = Duration::from_millis(50);
const MEASURED: Duration = Duration::from_millis(150);
/// How long to wait for a connection before that is an error.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often who waits for a socket looks whether it is over. Milliseconds.
const LOOK: u8 = 20;

/// Gigabits a second that arrive at an address of the second end in so many new streams from the
/// first, which are spread over all processors, beginning with the last.
pub fn carry(ends: &[Namespace; 2], target: IpAddr, streams: usize) -> Result<f64> {
    let processors = processors()?;
    let mut lanes: Vec<Lane> = processors.into_iter().rev().take(streams).map(Lane::new).collect();
    let count = lanes.len();
    for (position, (near, far)) in connections(ends, target, streams)?.into_iter().enumerate() {
        let lane = &mut lanes[position % count];
        lane.near.push(near);
        lane.far.push(far);
    }
    let (over, arrived) = (AtomicBool::new(false), AtomicU64::new(0));
    let (over, arrived) = (&over, &arrived);
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for Lane { processor, near, far } in &mut lanes {
            threads.push(scope.spawn(|| send(*processor, near, over)));
            threads.push(scope.spawn(|| receive(*processor, far, over, arrived)));
        }
        let so_far = || (arrived.load(Ordering::Relaxed), Instant::now());
        rest(START);
        let (before, start) = so_far();
        rest(MEASURED);
        let (after, end) = so_far();
        over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        ensure!(after > before, "nothing arrives at {target}");
        Ok((after - before) as f64 * 8.0 / 1e9 / (end - start).as_secs_f64())
    })
}

/// The streams of one processor.
struct Lane {
    processor: usize,
    near: Vec<TcpStream>,
    far: Vec<TcpStream>,
}

impl Lane {
    fn new(processor: usize) -> Self {
        Lane { processor, near: Vec::new(), far: Vec::new() }
    }
}

/// Those that this program may use.
fn processors() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("ask for the processors")?;
    Ok((0..CpuSet::count()).filter(|processor| set.is_set(*processor).unwrap_or(false)).collect())
}

/// Has the calling thread run there only.
fn stay(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("stay on processor {processor}"))
}

/// Both ends of each. Sockets stay where they were made, so the threads that use them need not.
fn connections(ends: &[Namespace; 2], target: IpAddr, count: usize) -> Result<Vec<(TcpStream, TcpStream)>> {
    let listener = ends[1].run(|| TcpListener::bind((target, 0)))?.context("listen for streams")?;
    setsockopt(&listener, sockopt::RcvBuf, &BUFFER)?;
    let to = listener.local_addr()?;
    let connect = || -> Result<_> {
        let near = TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("connect {to}"))?;
        setsockopt(&near, sockopt::SndBuf, &BUFFER)?;
        let (far, _) = listener.accept()?;
        for end in [&near, &far] {
            end.set_nonblocking(true)?;
        }
        Ok((near, far))
    };
    ends[0].run(|| (0..count).map(|_| connect()).collect())?
}

/// Fills all sockets until it is over.
fn send(processor: usize, sockets: &mut [TcpStream], over: &AtomicBool) -> Result<()> {
    let chunk = vec![0; CHUNK];
    whenever(processor, sockets, PollFlags::POLLOUT, over, |socket| socket.write(&chunk).map(drop))
}

/// Empties all sockets until it is over, and counts the octets.
fn receive(
    processor: usize,
    sockets: &mut [TcpStream],
    over: &AtomicBool,
    arrived: &AtomicU64,
) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    whenever(processor, sockets, PollFlags::POLLIN, over, |socket| {
        let octets = socket.read(&mut chunk)?;
        arrived.fetch_add(octets as u64, Ordering::Relaxed);
        Ok(())
    })
}

/// Does something with each socket that is ready for it, on one processor, until it is over.
fn whenever(
    processor: usize,
    sockets: &mut [TcpStream],
    ready: PollFlags,
    over: &AtomicBool,
    mut work: impl FnMut(&mut TcpStream) -> std::io::Result<()>,
) -> Result<()> {
    stay(processor)?;
    while !over.load(Ordering::Relaxed) {
        let mut waiting: Vec<PollFd<'_>> =
            sockets.iter().map(|socket| PollFd::new(socket.as_fd(), ready)).collect();
        poll(&mut waiting, PollTimeout::from(LOOK))?;
        let is_ready: Vec<bool> = waiting.iter().map(|it| it.any().unwrap_or(false)).collect();
        for (socket, _) in sockets.iter_mut().zip(is_ready).filter(|(_, ready)| *ready) {
            match work(socket) {
                // Others may have taken the room meanwhile.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                worked => worked?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_counted_until_it_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        for end in [&near, &far] {
            end.set_nonblocking(true).unwrap();
        }
        let processor = *processors().unwrap().last().unwrap();
        let (over, arrived) = (AtomicBool::new(false), AtomicU64::new(0));
        let (mut near, mut far) = ([near], [far]);
        thread::scope(|scope| {
            let sender = scope.spawn(|| send(processor, &mut near, &over));
            let receiver = scope.spawn(|| receive(processor, &mut far, &over, &arrived));
            let counted = || Ok(arrived.load(Ordering::Relaxed) > 10 * CHUNK as u64);
            let counted = crate::measure::until("octets to arrive", PATIENCE, counted);
            over.store(true, Ordering::Relaxed);
            sender.join().unwrap().unwrap();
            receiver.join().unwrap().unwrap();
            counted.unwrap();
        });
    }
}
