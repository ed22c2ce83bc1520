//! The messages of a datagram from the kernel, found by their headers; what is in them is looked at
//! only where somebody wants it.

use nix::libc;

use crate::decode::{attributes, u16_at, u32_at};
use crate::error::{Error, Refusal};

/// `sizeof(struct nlmsghdr)` of linux/netlink.h, in octets.
pub(crate) const HEADER: usize = 16;

/// One message, as the kernel sent it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    /// What it is: an object, or one of the `NLMSG_*` of linux/netlink.h.
    pub(crate) kind: u16,
    /// `NLM_F_*`.
    pub(crate) flags: u16,
    /// That of the request which it answers.
    pub(crate) sequence: u32,
    octets: &'a [u8],
}

impl<'a> Received<'a> {
    /// What stands behind the header.
    pub(crate) fn body(&self) -> &'a [u8] {
        &self.octets[HEADER..]
    }

    /// Whether it is an object, and not a message about the conversation.
    pub(crate) fn is_object(&self) -> bool {
        i32::from(self.kind) >= libc::NLMSG_MIN_TYPE
    }

    /// The kernel's refusal or acknowledgement, the latter with the number 0; nothing comes back
    /// where it is neither.
    ///
    /// # Errors
    /// [`Error::Decode`].
    pub(crate) fn verdict(&self, operation: &str) -> Result<Option<Refusal>, Error> {
        if i32::from(self.kind) != libc::NLMSG_ERROR {
            return Ok(None);
        }
        // `struct nlmsgerr`: the number, negative if it is a refusal, and the header that it is about.
        let body = self.body();
        let code = u32_at(body, 0)
            .ok_or_else(|| failed(operation, format!("a verdict of {} octets", body.len())))?;
        let errno = (code as i32).saturating_neg();
        Ok(Some(Refusal { errno, explanation: explanation(self.flags, &body[4..]) }))
    }
}

/// The messages of one datagram.
pub(crate) struct Messages<'a> {
    rest: &'a [u8],
    operation: &'a str,
}

impl<'a> Messages<'a> {
    pub(crate) fn new(datagram: &'a [u8], operation: &'a str) -> Self {
        Messages { rest: datagram, operation }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Received<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest;
        if rest.is_empty() {
            return None;
        }
        let found = first(rest);
        let length = found.map_or(rest.len(), |message| message.octets.len());
        self.rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let problem = || failed(self.operation, format!("no whole message in {} octets", rest.len()));
        Some(found.ok_or_else(problem))
    }
}

/// The message at the beginning: `struct nlmsghdr` has length, kind, flags, sequence and port.
fn first(rest: &[u8]) -> Option<Received<'_>> {
    let octets = rest.get(..u32_at(rest, 0)? as usize)?;
    octets.get(HEADER..)?;
    Some(Received { kind: u16_at(rest, 4)?, flags: u16_at(rest, 6)?, sequence: u32_at(rest, 8)?, octets })
}

fn failed(operation: &str, problem: String) -> Error {
    Error::Decode { operation: operation.to_owned(), problem }
}

/// `NLM_F_ACK_TLVS` of linux/netlink.h: attributes follow the echoed header.
const ACK_TLVS: u16 = 0x200;

/// `NLMSGERR_ATTR_MSG` of linux/netlink.h.
const ATTR_MSG: u16 = 1;

/// The kernel's explanation. With `NETLINK_CAP_ACK` the echo is cut to the 16 octets of the
/// message's header, so the attributes start there.
fn explanation(flags: u16, echo: &[u8]) -> Option<String> {
    if flags & ACK_TLVS == 0 {
        return None;
    }
    let (_, value) = attributes(echo, HEADER).find(|(number, _)| *number == ATTR_MSG)?;
    let text = value.split(|b| *b == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_explanation_is_found_behind_other_attributes() {
        let mut echo = vec![0u8; 16];
        // NLMSGERR_ATTR_OFFS (2) with a u32, then NLMSGERR_ATTR_MSG (1) "bad VNI".
        echo.extend([8, 0, 2, 0, 40, 0, 0, 0]);
        echo.extend([12, 0, 1, 0]);
        echo.extend(b"bad VNI\0");
        assert_eq!(explanation(ACK_TLVS, &echo).as_deref(), Some("bad VNI"));
        assert_eq!(explanation(0, &echo), None);
    }

    #[test]
    fn a_mangled_explanation_is_no_explanation() {
        for rest in [&[][..], &[1, 0, 1, 0], &[200, 0, 1, 0, 65], &[4, 0]] {
            let mut echo = vec![0u8; 16];
            echo.extend(rest);
            assert_eq!(explanation(ACK_TLVS, &echo), None, "{rest:?}");
        }
        assert_eq!(explanation(ACK_TLVS, &[0; 3]), None);
    }
}
