//! Failures as the runtime sees them: a code of the specification, a message, details.

use serde_json::{Value, json};

use super::version::Version;

/// An error code: those of the specification 1.1.0 ("Error", and "STATUS"), and from 100 our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Code {
    /// The configuration's version is not spoken, or lacks the verb.
    IncompatibleVersion = 1,
    /// A key or value of the configuration that is not supported.
    UnsupportedField = 2,
    /// The container does not exist; the runtime need not clean up.
    UnknownContainer = 3,
    /// A variable of the environment is missing or wrong.
    InvalidEnvironment = 4,
    /// Reading or writing failed.
    Io = 5,
    /// Something could not be decoded.
    Decode = 6,
    /// The network configuration is wrong.
    InvalidConfig = 7,
    /// The namespace is the plugin's own; not in the specification, but in its reference library
    /// (`ErrInvalidNetNS`).
    InvalidNetns = 8,
    /// A passing condition: the caller should try again later.
    TryAgainLater = 11,
    /// STATUS: an ADD would fail.
    Unavailable = 50,
    /// STATUS: an ADD would fail, and existing pods may have limited connectivity.
    LimitedConnectivity = 51,
    /// A defect of the plugin.
    Internal = 100,
    /// The kernel refused something.
    Kernel = 101,
    /// The state directory holds something that this version does not understand.
    State = 102,
    /// CHECK found a difference.
    Difference = 103,
    /// The interface exists already in the container.
    InterfaceExists = 110,
    /// The requested address is in use.
    AddressInUse = 111,
    /// The attachment exists already.
    AlreadyAttached = 112,
    /// A port of the node that is asked for leads to another pod.
    HostPortInUse = 113,
}

impl Code {
    /// The number on the wire.
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// An error that knows what the runtime is to be told.
pub trait Coded: std::error::Error {
    /// The code for the runtime.
    fn code(&self) -> Code;

    /// Further text for the runtime; by default the chain of causes.
    fn details(&self) -> Option<String> {
        let causes = std::iter::successors(self.source(), |e| e.source());
        let chain: Vec<_> = causes.map(ToString::to_string).collect();
        (!chain.is_empty()).then(|| chain.join(": "))
    }
}

/// What the runtime is told when a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The error code.
    pub code: Code,
    /// What failed, and what to do.
    pub message: String,
    /// The causes, or other details.
    pub details: Option<String>,
}

impl Failure {
    /// The one JSON document that goes to standard output, in the caller's version.
    pub fn to_json(&self, version: Version) -> Value {
        let mut document = json!({
            "cniVersion": version.as_str(),
            "code": self.code.number(),
            "msg": self.message,
        });
        if let Some(details) = &self.details {
            document["details"] = json!(details);
        }
        document
    }
}

impl<E: Coded> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure { code: error.code(), message: error.to_string(), details: error.details() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_keys_of_the_specification() {
        let mut failure = Failure { code: Code::Decode, message: "no".into(), details: None };
        assert_eq!(failure.to_json(Version::V0_4_0), json!({"cniVersion": "0.4.0", "code": 6, "msg": "no"}));
        failure.details = Some("why".into());
        assert_eq!(failure.to_json(Version::V1_1_0)["details"], "why");
    }
}
