//! What is said on the socket: one JSON document each way, with descriptors beside the answer.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, getsockopt, recvmsg, sendmsg, sockopt,
};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

/// How long one side waits for the other.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The namespaces of one place: user, pid, mount and network.
pub(super) const DESCRIPTORS: usize = 4;

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// What there is.
    Overview,
    /// The way into a host or pod.
    Enter(String),
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// A text for a person.
    Overview(String),
    /// [`DESCRIPTORS`] come with this, and variables for the environment.
    Enter(BTreeMap<String, String>),
    /// Why not.
    Refused(String),
}

/// Makes sure that the other side is this user, and that nobody waits for ever.
pub(super) fn greet(stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let peer = getsockopt(stream, sockopt::PeerCredentials)?;
    if peer.uid() == geteuid().as_raw() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "the socket is another user's"))
}

/// Writes a request, to its end.
pub(super) fn ask(mut stream: &UnixStream, request: &Request) -> io::Result<()> {
    stream.write_all(&serde_json::to_vec(request)?)?;
    stream.shutdown(Shutdown::Write)
}

/// Reads a request.
pub(super) fn hear(stream: &UnixStream) -> io::Result<Request> {
    let mut text = Vec::new();
    // A request is short; more is not read.
    stream.take(4096).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Writes an answer with descriptors.
pub(super) fn answer(mut stream: &UnixStream, answer: &Answer, descriptors: &[RawFd]) -> io::Result<()> {
    let text = serde_json::to_vec(answer)?;
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control: &[ControlMessage<'_>] = if descriptors.is_empty() { &[] } else { &rights };
    let slice = [IoSlice::new(&text)];
    let sent = sendmsg::<UnixAddr>(stream.as_raw_fd(), &slice, control, MsgFlags::MSG_NOSIGNAL, None)?;
    stream.write_all(&text[sent..])
}

/// Reads an answer with its descriptors.
pub(super) fn listen(mut stream: &UnixStream) -> io::Result<(Answer, Vec<OwnedFd>)> {
    let mut text = vec![0; 65536];
    let mut control = cmsg_space!([RawFd; DESCRIPTORS]);
    let (length, descriptors) = {
        let mut slice = [IoSliceMut::new(&mut text)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut slice, Some(&mut control), flags)?;
        let mut descriptors = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(received) = part {
                descriptors.extend(received.into_iter().map(owned));
            }
        }
        (message.bytes, descriptors)
    };
    text.truncate(length);
    stream.read_to_end(&mut text)?;
    Ok((serde_json::from_slice(&text)?, descriptors))
}

/// Takes over a descriptor that came in a message.
#[allow(unsafe_code)]
fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the kernel made it for this process just now, and nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_request_and_its_answer_arrive_with_their_descriptors() {
        let (client, server) = UnixStream::pair().unwrap();
        greet(&client).unwrap();
        ask(&client, &Request::Enter("node1".into())).unwrap();
        assert!(matches!(hear(&server).unwrap(), Request::Enter(name) if name == "node1"));
        let file = File::open("/proc/self/ns/net").unwrap();
        let variables = BTreeMap::from([("CLUSTER_NAME".to_owned(), "x".repeat(100_000))]);
        let descriptors = [file.as_raw_fd(); DESCRIPTORS];
        let writer = std::thread::spawn({
            let variables = variables.clone();
            move || answer(&server, &Answer::Enter(variables), &descriptors).unwrap()
        });
        let (heard, received) = listen(&client).unwrap();
        writer.join().unwrap();
        assert!(matches!(heard, Answer::Enter(heard) if heard == variables));
        let inode = |file: &File| file.metadata().unwrap().ino();
        let received: Vec<u64> = received.into_iter().map(|fd| inode(&File::from(fd))).collect();
        assert_eq!(received, [inode(&file); DESCRIPTORS]);
    }
}
