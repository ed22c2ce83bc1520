//! Listening on an address or a socket, and letting so many in at a time.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream as Probe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Context, Result, bail};
use minionet_core::config::Endpoint;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::http;
use super::question::{Question, Request};

/// Most connections at a time; others wait in the kernel's queue.
const CONNECTIONS: usize = 16;

/// How long a connection may last.
const LIFETIME: Duration = Duration::from_secs(15);

/// How long to wait when no connection can be taken, for want of descriptors for example.
const BREATH: Duration = Duration::from_millis(200);

/// An open door; closed when it is dropped.
pub struct Listening {
    task: JoinHandle<()>,
    /// The socket's path, removed at the end.
    path: Option<PathBuf>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(path) = &self.path {
            // If it stays, the next one takes its place.
            let _stays = fs::remove_file(path);
        }
    }
}

/// Opens a door for these questions.
///
/// # Errors
/// With the place and what to do, when somebody else has it or it does not exist.
pub fn open(at: &Endpoint, asked: &'static [Question], asking: &mpsc::Sender<Request>) -> Result<Listening> {
    let asking = asking.clone();
    match at {
        Endpoint::Tcp(address) => {
            let listener = bind_tcp(*address)
                .with_context(|| format!("cannot listen on {address}; set metrics_address to another"))?;
            let accept = async move || listener.accept().await.map(|(stream, _)| stream);
            Ok(Listening { task: tokio::spawn(serve(accept, asked, asking)), path: None })
        }
        Endpoint::Unix(path) => {
            let path = PathBuf::from(path);
            let listener =
                bind_unix(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
            let accept = async move || listener.accept().await.map(|(stream, _)| stream);
            Ok(Listening { task: tokio::spawn(serve(accept, asked, asking)), path: Some(path) })
        }
    }
}

fn bind_tcp(address: std::net::SocketAddr) -> Result<TcpListener> {
    // With SO_REUSEADDR, so that connections of a daemon that has just ended do not matter.
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}

/// Makes a socket that only root can use, in the place of one that nobody listens on.
fn bind_unix(path: &Path) -> Result<UnixListener> {
    match Probe::connect(path) {
        Ok(_) => bail!("another program listens there: is another minionetd running?"),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {}
        Err(error) => return Err(error.into()),
    }
    if fs::symlink_metadata(path).is_ok_and(|found| !is_socket(&found)) {
        bail!("there is something else than a socket: move it away");
    }
    let Some((dir, name)) = path.parent().zip(path.file_name().and_then(|name| name.to_str())) else {
        bail!("not the path of a file");
    };
    fs::create_dir_all(dir)?;
    // Made beside it and renamed: there is no moment at which others could connect to it.
    let temporary = dir.join(format!(".{name}.new"));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
    fs::rename(&temporary, path)?;
    Ok(listener)
}

fn is_socket(found: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    found.file_type().is_socket()
}

/// Lets in who comes, for ever.
async fn serve<S, A>(accept: A, asked: &'static [Question], asking: mpsc::Sender<Request>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: AsyncFn() -> io::Result<S>,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match accept().await {
            Ok(stream) => {
                let asking = asking.clone();
                tokio::spawn(async move {
                    let conversation = http::converse(stream, asked, asking);
                    if timeout(LIFETIME, conversation).await.is_err() {
                        debug!("a connection lasted too long");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                debug!("a connection is not taken: {error}");
                sleep(BREATH).await;
            }
        }
    }
}
