//! One unary gRPC call over a Unix socket: HTTP/2 by `h2`, the five bytes of framing by hand.
//!
//! Every call opens a connection of its own. It costs a fraction of a millisecond on a local
//! socket, makes the client free of state (any number of threads may call at once), and a
//! runtime that was killed and restarted needs no reconnection.
//! The protocol is "gRPC over HTTP2" (`doc/PROTOCOL-HTTP2.md` of grpc/grpc).

use std::path::Path;
use std::time::Duration;

use h2::{RecvStream, client};
use http::{HeaderMap, Request, Version};
use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use tokio::net::UnixStream;

/// Bytes before a message: one for the compression flag, four for the length.
const PREFIX: usize = 5;

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The runtime answered with an error of its own.
    #[error("{method} failed with gRPC status {code}: {message}")]
    Status {
        /// The method.
        method: String,
        /// The status code, such as 2 (unknown) or 5 (not found).
        code: i32,
        /// What the runtime says.
        message: String,
    },
    /// No answer came in time.
    #[error("{method} was not answered within {limit:?}; see the runtime's log")]
    Timeout {
        /// The method.
        method: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The socket could not be used; the runtime does not run (any more).
    #[error("cannot reach the runtime for {method}; does it run?")]
    Connect {
        /// The method.
        method: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke during the call.
    #[error("the connection broke during {method}; was the runtime stopped?")]
    Transport {
        /// The method.
        method: String,
        /// What HTTP/2 says.
        #[source]
        source: h2::Error,
    },
    /// The answer is no gRPC or not the expected message.
    #[error("the answer to {method} is unreadable: {problem}")]
    Malformed {
        /// The method.
        method: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Calls `method` (`/package.Service/Method`) on the server at `socket`.
///
/// # Errors
/// [`CallError`]; the server's own refusal is [`CallError::Status`].
pub fn unary<Answer: Message + Default>(
    socket: &Path,
    method: &str,
    request: &impl Message,
    limit: Duration,
) -> Result<Answer, CallError> {
    let connect = |source| CallError::Connect { method: method.to_owned(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(connect)?;
    runtime.block_on(async {
        let exchange = exchange(socket, method, frame(request));
        let reply = tokio::time::timeout(limit, exchange)
            .await
            .map_err(|_| CallError::Timeout { method: method.to_owned(), limit })??;
        reply.decode(method)
    })
}

/// What came back: the body and the headers that carry the status.
struct Reply {
    body: BytesMut,
    status: HeaderMap,
}

impl Reply {
    fn decode<Answer: Message + Default>(self, method: &str) -> Result<Answer, CallError> {
        let malformed = |problem: String| CallError::Malformed { method: method.to_owned(), problem };
        let header = |name| self.status.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let code = header("grpc-status")
            .parse::<i32>()
            .map_err(|_| malformed("it has no grpc-status".to_owned()))?;
        if code != 0 {
            let message = percent_decode(header("grpc-message"));
            return Err(CallError::Status { method: method.to_owned(), code, message });
        }
        let message = unframe(&self.body).map_err(malformed)?;
        Answer::decode(message).map_err(|error| malformed(error.to_string()))
    }
}

async fn exchange(socket: &Path, method: &str, body: Bytes) -> Result<Reply, CallError> {
    let broken = |source| CallError::Transport { method: method.to_owned(), source };
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| CallError::Connect { method: method.to_owned(), source })?;
    let (sender, connection) = client::handshake(stream).await.map_err(broken)?;
    // The connection makes progress beside the call and ends with the runtime of this call;
    // its error is seen by the call as well.
    tokio::spawn(connection);
    let request = Request::post(format!("http://localhost{method}"))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(|error| CallError::Malformed { method: method.to_owned(), problem: error.to_string() })?;
    let mut sender = sender.ready().await.map_err(broken)?;
    let (response, mut upload) = sender.send_request(request, false).map_err(broken)?;
    upload.send_data(body, true).map_err(broken)?;
    let (head, mut download) = response.await.map_err(broken)?.into_parts();
    let body = read_all(&mut download).await.map_err(broken)?;
    // An error without a body carries its status in the first headers ("Trailers-Only").
    let status = download.trailers().await.map_err(broken)?.unwrap_or(head.headers);
    Ok(Reply { body, status })
}

async fn read_all(download: &mut RecvStream) -> Result<BytesMut, h2::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = download.data().await {
        let chunk = chunk?;
        body.extend_from_slice(&chunk);
        download.flow_control().release_capacity(chunk.len())?;
    }
    Ok(body)
}

/// A message behind its prefix, uncompressed.
fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(PREFIX + length);
    buffer.put_u8(0);
    // A message of 4 GiB and more cannot come up: the requests here hold a few names.
    buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    buffer.extend_from_slice(&message.encode_to_vec());
    buffer.freeze()
}

/// The one message of a unary answer.
fn unframe(body: &[u8]) -> Result<&[u8], String> {
    let Some((prefix, message)) = body.split_first_chunk::<PREFIX>() else {
        return Err(format!("it has {} bytes, less than a message prefix", body.len()));
    };
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 {
        return Err("it is compressed although nothing was offered".to_owned());
    }
    let announced = u32::from_be_bytes(length);
    if u32::try_from(message.len()) != Ok(announced) {
        return Err(format!("it announces {announced} bytes and has {}", message.len()));
    }
    Ok(message)
}

/// Undoes the percent-encoding of `grpc-message`; what is not an escape stays as it is.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escape = (first == b'%')
            .then(|| tail.first_chunk::<2>())
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escape.unwrap_or(first));
        rest = if escape.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::proto::{PodSandboxId, VersionRequest};

    #[test]
    fn a_message_survives_its_frame() {
        let id = PodSandboxId { pod_sandbox_id: "a".repeat(300) };
        let framed = frame(&id);
        assert_eq!(PodSandboxId::decode(unframe(&framed).unwrap()).unwrap(), id);
    }

    #[test]
    fn broken_frames_are_refused() {
        let framed = frame(&VersionRequest { version: "v1".to_owned() });
        assert!(unframe(&framed[..3]).unwrap_err().contains("3 bytes"));
        assert!(unframe(&framed[..framed.len() - 1]).unwrap_err().contains("announces 4"));
        let mut compressed = framed.to_vec();
        compressed[0] = 1;
        assert!(unframe(&compressed).unwrap_err().contains("compressed"));
    }

    #[test]
    fn escapes_are_undone_and_other_text_is_kept() {
        assert_eq!(percent_decode("no%20such%20pod: 100%"), "no such pod: 100%");
        assert_eq!(percent_decode("%zz%C3%BC"), "%zzü");
    }

    #[test]
    fn a_missing_socket_is_a_connect_error() {
        let error = unary::<crate::cri::proto::Empty>(
            Path::new("/nonexistent/cri.sock"),
            "/a.B/C",
            &VersionRequest::default(),
            Duration::from_secs(5),
        )
        .unwrap_err();
        assert!(matches!(error, CallError::Connect { .. }), "{error}");
    }
}
