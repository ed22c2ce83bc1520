//! What a runtime may ask for beyond an interface: ports of the node, limits, and the reference
//! plugins that do the same when they are chained behind ours.

mod bandwidth;
mod chain;
mod hostports;
mod records;
mod replacement;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use netns_testbed::{Namespace, Node, Pod, PodSpec};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// Long enough for anything, also on a machine that stands still for seconds; what comes, comes in a
/// millisecond.
const PATIENT: Duration = Duration::from_secs(60);
/// How long silence must last to count as such.
const SILENCE: Duration = Duration::from_millis(200);
/// Pods of both families on an underlay of both.
const DUAL: &str = "pod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]";
/// The underlay of both families.
const UNDERLAY: &str = "172.20.0.0/24, fd00:20::/64";

pub fn trials() -> Vec<Trial> {
    [bandwidth::trials(), chain::trials(), hostports::trials(), records::trials(), replacement::trials()]
        .into_iter()
        .flatten()
        .collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A pod with capabilities.
fn pod_with(node: &Node, name: &str, capabilities: Value) -> Result<Pod> {
    let capabilities = capabilities.as_object().cloned().context("capabilities are an object")?;
    Ok(node.add_pod_with(name, PodSpec { capabilities, ..PodSpec::default() })?)
}

/// Mappings as containerd sends them.
fn ports(mappings: &[(u16, u16, &str, &str)]) -> Value {
    let one = |(host, container, protocol, ip): &(u16, u16, &str, &str)| json!({"HostPort": host, "ContainerPort": container, "Protocol": protocol, "HostIP": ip});
    json!({"portMappings": mappings.iter().map(one).collect::<Vec<_>>()})
}

/// Servers for UDP and TCP that answer with a name, and the address that they see of the client.
struct Teller {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Teller {
    /// Listens on a port of all addresses of a namespace.
    fn start(namespace: &Namespace, port: u16, name: &str) -> Result<Self> {
        let any = SocketAddr::from(([0u16; 8], port));
        let (tcp, udp) = namespace.run(|| anyhow::Ok((TcpListener::bind(any)?, UdpSocket::bind(any)?)))??;
        tcp.set_nonblocking(true)?;
        udp.set_read_timeout(Some(Duration::from_millis(20)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let tell = |name: &str, client: SocketAddr| format!("{name} {}", client.ip().to_canonical());
        let (seen, called) = (Arc::clone(&stop), name.to_owned());
        let of_udp = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !seen.load(Ordering::Relaxed) {
                // An error is the end of the wait.
                if let Ok((_, client)) = udp.recv_from(&mut buffer) {
                    let _ = udp.send_to(tell(&called, client).as_bytes(), client);
                }
            }
        });
        let (seen, called) = (Arc::clone(&stop), name.to_owned());
        let of_tcp = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                match tcp.accept() {
                    Ok((mut stream, client)) => drop(stream.write_all(tell(&called, client).as_bytes())),
                    Err(_) => pause(),
                }
            }
        });
        Ok(Self { stop, threads: vec![of_udp, of_tcp] })
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic there was printed already.
            let _ = thread.join();
        }
    }
}

/// Between two looks at a listener.
#[allow(clippy::disallowed_methods)]
fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}

/// What a server says to a client over TCP.
fn ask_tcp(client: &Namespace, server: SocketAddr, patience: Duration) -> Result<String> {
    let socket = client.run(|| Socket::new(Domain::for_address(server), Type::STREAM, None))??;
    socket.connect_timeout(&server.into(), patience).with_context(|| format!("connect to {server}"))?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(patience))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// A client that goes on using one UDP port.
struct UdpClient(UdpSocket);

impl UdpClient {
    fn open(client: &Namespace, server: SocketAddr) -> Result<Self> {
        let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = client.run(|| UdpSocket::bind((any, 0)))??;
        socket.connect(server)?;
        Ok(Self(socket))
    }

    /// Sends once and waits; an answer to an earlier question counts as well.
    fn ask(&self, patience: Duration) -> Result<String> {
        self.0.set_read_timeout(Some(patience))?;
        let mut buffer = [0; 256];
        // A refusal of an earlier datagram is reported here once (ICMP).
        let sent = self.0.send(b"?").or_else(|_| self.0.send(b"?"));
        sent.context("send")?;
        let length = self.0.recv(&mut buffer).context("receive")?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }
}

fn ask_udp(client: &Namespace, server: SocketAddr, patience: Duration) -> Result<String> {
    UdpClient::open(client, server)?.ask(patience)
}

/// Expects that nobody answers at a port, neither over TCP nor over UDP.
fn nobody_answers(client: &Namespace, server: SocketAddr) -> Result<()> {
    for answer in [ask_tcp(client, server, SILENCE), ask_udp(client, server, SILENCE)] {
        match answer {
            Ok(text) => ensure!(false, "{server} answers {} with \"{text}\"", client.name()),
            Err(error) => {
                let silent = error.downcast_ref::<std::io::Error>().is_some_and(|error| {
                    matches!(
                        error.kind(),
                        ErrorKind::ConnectionRefused
                            | ErrorKind::TimedOut
                            | ErrorKind::WouldBlock
                            | ErrorKind::HostUnreachable
                            | ErrorKind::NetworkUnreachable
                            | ErrorKind::AddrNotAvailable
                    )
                });
                ensure!(silent, "{server} from {}: {error:#}", client.name());
            }
        }
    }
    Ok(())
}
