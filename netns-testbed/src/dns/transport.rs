//! Sockets of the DNS server: UDP and TCP on port 53, in a thread inside the host.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::Shared;
use super::answer::{Reply, Transport, reply};

/// RFC 1035, section 4.2.
const PORT: u16 = 53;
/// Connections that wait to be accepted; a cluster's nodes may all come at once.
const BACKLOG: i32 = 1024;

/// Serves until `stopped`; reports over `ready` whether the sockets could be opened.
pub(super) fn serve(shared: &Arc<Shared>, stopped: oneshot::Receiver<()>, ready: &Sender<io::Result<()>>) {
    let opened = Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        let guard = runtime.enter();
        let sockets = open()?;
        drop(guard);
        Ok((runtime, sockets))
    });
    match opened {
        // The owner waits for the report.
        Err(error) => drop(ready.send(Err(error))),
        Ok((runtime, (udp, tcp))) => {
            let _ = ready.send(Ok(()));
            runtime.block_on(async {
                tokio::select! {
                    () = serve_udp(Arc::clone(shared), Arc::new(udp)) => {}
                    () = serve_tcp(Arc::clone(shared), tcp) => {}
                    _ = stopped => {}
                }
            });
        }
    }
}

/// One socket of each kind for both families.
fn open() -> io::Result<(UdpSocket, TcpListener)> {
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)).into();
    let bound = |kind| {
        let socket = Socket::new(Domain::IPV6, kind, None)?;
        socket.set_only_v6(false)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address)?;
        io::Result::Ok(socket)
    };
    let tcp = bound(Type::STREAM)?;
    tcp.listen(BACKLOG)?;
    Ok((UdpSocket::from_std(bound(Type::DGRAM)?.into())?, TcpListener::from_std(tcp.into())?))
}

async fn serve_udp(shared: Arc<Shared>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        // An error here is an ICMP answer to an earlier reply; the next query is unaffected.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        shared.udp.fetch_add(1, Ordering::Relaxed);
        let reply = reply(&mut shared.zone(), buffer[..length].to_vec(), client, Transport::Udp);
        if let Reply::Send { bytes, after } = reply {
            let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
            tokio::spawn(async move {
                sleep(after).await;
                shared.answers();
                // A client that is gone needs no answer.
                let _ = socket.send_to(&bytes, client).await;
            });
        }
    }
}

async fn serve_tcp(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        // Errors of accept(2) concern the one connection that was to be accepted.
        if let Ok((stream, client)) = listener.accept().await {
            let shared = Arc::clone(&shared);
            // The end of a connection, orderly or not, concerns the client alone.
            tokio::spawn(async move { drop(serve_connection(&shared, stream, client).await) });
        }
    }
}

async fn serve_connection(shared: &Shared, mut stream: TcpStream, client: SocketAddr) -> io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await?;
        shared.tcp.fetch_add(1, Ordering::Relaxed);
        let reply = reply(&mut shared.zone(), query, client, Transport::Tcp);
        match reply {
            Reply::Close => return Ok(()),
            Reply::Silence => {}
            Reply::Send { bytes, after } => {
                sleep(after).await;
                let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
                let mut message = length.to_be_bytes().to_vec();
                message.extend(bytes);
                shared.answers();
                stream.write_all(&message).await?;
            }
        }
    }
}
