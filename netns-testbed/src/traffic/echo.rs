//! Echo servers for UDP and TCP, and the clients that check what comes back.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::error::{During, Error, Result};
use crate::namespace::Namespace;

/// How often a server looks whether it is to stop.
const TICK: Duration = Duration::from_millis(50);
/// The largest UDP payload over IPv4: 65535 less 20 and 8 bytes of headers.
const LARGEST_UDP: usize = 65_507;

/// A UDP server that returns each datagram to its sender.
pub struct UdpEcho {
    address: SocketAddr,
    /// Held for its end.
    _server: Server,
}

/// A TCP server that returns what it receives on each connection.
pub struct TcpEcho {
    address: SocketAddr,
    /// Held for its end.
    _server: Server,
}

/// A thread that ends when this is dropped.
struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(work: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        Self { stop, thread: Some(thread::spawn(move || work(&seen))) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there was printed already.
            let _ = thread.join();
        }
    }
}

impl UdpEcho {
    /// Starts a server on an address of the namespace; port 0 lets the kernel choose.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let what = || format!("listen on UDP {address} of {}", namespace.name());
        let socket = namespace.run(|| UdpSocket::bind(address))?.during(what)?;
        socket.set_read_timeout(Some(TICK)).during(what)?;
        let address = socket.local_addr().during(what)?;
        let server = Server::start(move |stop| {
            let mut buffer = vec![0; usize::from(u16::MAX)];
            while !stop.load(Ordering::Relaxed) {
                // An error is the end of the tick, or an ICMP answer to an earlier datagram.
                if let Ok((length, client)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], client);
                }
            }
        });
        Ok(Self { address, _server: server })
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl TcpEcho {
    /// Starts a server on an address of the namespace; port 0 lets the kernel choose.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let what = || format!("listen on TCP {address} of {}", namespace.name());
        let listener = namespace.run(|| TcpListener::bind(address))?.during(what)?;
        listener.set_nonblocking(true).during(what)?;
        let address = listener.local_addr().during(what)?;
        let server = Server::start(move |stop| {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    // Ends with its client, which has time limits.
                    Ok((stream, _)) => drop(thread::spawn(move || echo(stream))),
                    Err(_) => crate::eventually::pause(Duration::from_millis(1)),
                }
            }
        });
        Ok(Self { address, _server: server })
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn echo(mut stream: TcpStream) -> io::Result<u64> {
    stream.set_nonblocking(false)?;
    let mut back = stream.try_clone()?;
    let copied = io::copy(&mut stream, &mut back)?;
    back.shutdown(std::net::Shutdown::Write)?;
    Ok(copied)
}

/// Sends one datagram of `length` bytes from a namespace and waits for its echo: the time it took.
///
/// # Errors
/// [`Error::Timeout`] when no echo came; [`Error::Invalid`] when another payload came back or the
/// length does not fit into a datagram (65507 bytes).
pub fn udp_round_trip(
    namespace: &Namespace,
    server: SocketAddr,
    length: usize,
    timeout: Duration,
) -> Result<Duration> {
    let what = || format!("exchange {length} bytes of UDP with {server} from {}", namespace.name());
    if length > LARGEST_UDP {
        return Err(Error::Invalid {
            what: "the length",
            value: length.to_string(),
            reason: format!("a datagram carries up to {LARGEST_UDP} bytes"),
        });
    }
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = namespace.run(|| UdpSocket::bind((any, 0)))?.during(what)?;
    socket.connect(server).during(what)?;
    socket.set_read_timeout(Some(timeout)).during(what)?;
    let sent = pattern(length);
    let start = Instant::now();
    socket.send(&sent).during(what)?;
    let mut received = vec![0; usize::from(u16::MAX)];
    match socket.recv(&mut received) {
        Ok(count) if received[..count] == sent => Ok(start.elapsed()),
        Ok(count) => Err(altered(&what(), count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(silence(&what(), timeout)),
        Err(error) => Err(error).during(what),
    }
}

/// Sends `length` bytes over a new connection from a namespace and waits until they all came back.
///
/// Returns the time it took. `timeout` is for the connection and for each pause in the stream.
///
/// # Errors
/// [`Error::Timeout`] when the stream stood still; [`Error::Invalid`] when it came back altered.
pub fn tcp_round_trip(
    namespace: &Namespace,
    server: SocketAddr,
    length: usize,
    timeout: Duration,
) -> Result<Duration> {
    let what = || format!("exchange {length} bytes of TCP with {server} from {}", namespace.name());
    let slow = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => silence(&what(), timeout),
        _ => Error::Io { operation: what(), source: error },
    };
    let start = Instant::now();
    let socket =
        namespace.run(|| Socket::new(Domain::for_address(server), Type::STREAM, None))?.during(what)?;
    socket.connect_timeout(&server.into(), timeout).map_err(slow)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(timeout)).during(what)?;
    stream.set_write_timeout(Some(timeout)).during(what)?;
    let sent = pattern(length);
    let mut received = Vec::with_capacity(length);
    let mut out = stream.try_clone().during(what)?;
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            out.write_all(&sent)?;
            out.shutdown(std::net::Shutdown::Write)
        });
        let read = stream.read_to_end(&mut received);
        let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread panicked")));
        written.and(read).map_err(slow)
    })?;
    if received == sent { Ok(start.elapsed()) } else { Err(altered(&what(), received.len())) }
}

/// Bytes that differ from their neighbours and from those a period of 256 away.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index ^ (index >> 8) ^ (index >> 16)) as u8).collect()
}

fn silence(what: &str, timeout: Duration) -> Error {
    Error::Timeout {
        what: format!("{what}: an answer"),
        seconds: timeout.as_secs_f64(),
        last: "silence".into(),
    }
}

fn altered(what: &str, count: usize) -> Error {
    Error::Invalid {
        what: "the answer",
        value: format!("{count} bytes"),
        reason: format!("it is not what was sent ({what})"),
    }
}
