//! Asks the daemon on its socket.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long the daemon may take to answer; with many peers it has to write much.
const LIMIT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("nobody listens")]
    Nobody,
    /// Only root may ask.
    #[error("permission denied")]
    Forbidden,
    /// Somebody listens and does not answer as it should.
    #[error("{0}")]
    NoAnswer(String),
}

/// The daemon's state, as text.
///
/// # Errors
/// [`AskError`].
pub async fn state(socket: &Path) -> Result<String, AskError> {
    let asked = timeout(LIMIT, get(socket, "/state")).await;
    asked.unwrap_or_else(|_| Err(AskError::NoAnswer(format!("no answer within {LIMIT:?}"))))
}

async fn get(socket: &Path, path: &str) -> Result<String, AskError> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        NotFound | ConnectionRefused => AskError::Nobody,
        PermissionDenied => AskError::Forbidden,
        _ => AskError::NoAnswer(error.to_string()),
    })?;
    let broken = |error: hyper::Error| AskError::NoAnswer(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends with the answer; what goes wrong in it, the request below says as well.
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, "minionetd")
        .body(Empty::<Bytes>::new())
        .map_err(|error| AskError::NoAnswer(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    if status == StatusCode::OK { Ok(text) } else { Err(AskError::NoAnswer(text.trim().to_owned())) }
}
