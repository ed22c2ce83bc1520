//! The network configuration on standard input.
//!
//! Read in two steps: [`NetConf`] holds what every verb needs, so that a DEL works from its
//! record whatever became of the rest; [`NetConf::settings`] checks our own keys, for the verbs
//! that act on them. Keys match in any case, as runtimes expect of Go's decoder, and unknown
//! ones on the top level are left to others.

use serde_json::{Map, Value};
use thiserror::Error;

use super::args::is_identifier;
use super::error::{Code, Coded};
use super::json::{brief, get, is_any, kind};
use super::result::Dns;
use super::version::{Version, VersionError};

/// Most octets of a configuration that are read; the largest seen in the wild are a few
/// kilobytes.
pub const STDIN_MAX: usize = 16 << 20;

/// The value of the configuration's `type` and of `ipam.type`.
pub const TYPE: &str = "minionet";

/// A configuration whose name and version are in order.
#[derive(Clone, Debug, PartialEq)]
pub struct NetConf {
    /// The version in which the caller speaks.
    pub version: Version,
    /// Name of the network.
    pub name: String,
    pub(super) keys: Map<String, Value>,
}

/// Our own keys, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `mtu`: a smaller MTU than the overlay's, in octets.
    pub mtu: Option<u32>,
    /// `dns`, to be passed to the container.
    pub dns: Option<Dns>,
}

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfError {
    /// Not JSON, or more than one document.
    #[error("the network configuration on stdin is not one JSON object: {problem}")]
    Malformed {
        /// What the decoder said.
        problem: String,
    },
    /// Larger than [`STDIN_MAX`].
    #[error("the network configuration on stdin is larger than {STDIN_MAX} octets")]
    TooLarge,
    /// No `name`.
    #[error("missing network name: add \"name\" to the configuration")]
    NoName,
    /// A `name` with characters that the specification does not allow.
    #[error("invalid characters found in network name {name:?}: use letters, digits, '_', '.', '-'")]
    Name {
        /// The value found.
        name: String,
    },
    /// A version that is not spoken.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A key has a value of the wrong kind.
    #[error("{key} must be {expected}, not {found}")]
    Kind {
        /// Path of the key.
        key: String,
        /// What is expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// A key that our own section does not have, or a value that is not supported.
    #[error("unsupported field: {key} with the value {value}: {remedy}")]
    Unsupported {
        /// Path of the key.
        key: String,
        /// The value found.
        value: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A value that makes no sense.
    #[error("invalid network config: {problem}")]
    Invalid {
        /// What is wrong.
        problem: String,
    },
}

impl Coded for ConfError {
    fn code(&self) -> Code {
        match self {
            ConfError::Malformed { .. } | ConfError::TooLarge => Code::Decode,
            ConfError::NoName | ConfError::Name { .. } => Code::InvalidConfig,
            ConfError::Version(error) => error.code(),
            ConfError::Kind { .. } => Code::Decode,
            ConfError::Unsupported { .. } => Code::UnsupportedField,
            ConfError::Invalid { .. } => Code::InvalidConfig,
        }
    }

    fn details(&self) -> Option<String> {
        match self {
            ConfError::Version(error) => error.details(),
            _ => None,
        }
    }
}

impl ConfError {
    pub(super) fn kind(key: &str, expected: &'static str, found: &Value) -> Self {
        ConfError::Kind { key: key.to_owned(), expected, found: kind(found).to_owned() }
    }
}

impl NetConf {
    /// Reads what stands on standard input: JSON, then name, then version.
    ///
    /// # Errors
    /// [`ConfError`] for the first of them that is not in order.
    pub fn parse(stdin: &[u8]) -> Result<Self, ConfError> {
        if stdin.len() > STDIN_MAX {
            return Err(ConfError::TooLarge);
        }
        let malformed = |problem: String| ConfError::Malformed { problem };
        let keys = match serde_json::from_slice(stdin).map_err(|e| malformed(e.to_string()))? {
            Value::Object(keys) => keys,
            Value::Null => Map::new(),
            other => return Err(malformed(format!("found {}", kind(&other)))),
        };
        let name = match get(&keys, "name") {
            None => return Err(ConfError::NoName),
            Some(Value::String(name)) if name.is_empty() => return Err(ConfError::NoName),
            Some(Value::String(name)) => name.clone(),
            Some(other) => return Err(ConfError::kind("name", "a string", other)),
        };
        if !is_identifier(&name) {
            return Err(ConfError::Name { name });
        }
        let version = Version::from_key(get(&keys, "cniVersion"))?;
        Ok(NetConf { version, name, keys })
    }

    /// The version in which to answer a caller whose configuration may be broken.
    pub fn answer_version(stdin: &[u8]) -> Version {
        let value = serde_json::from_slice::<Value>(stdin).ok();
        let keys = value.as_ref().and_then(Value::as_object);
        let version = keys.and_then(|keys| Version::from_key(get(keys, "cniVersion")).ok());
        version.unwrap_or(Version::LATEST)
    }

    /// The result of the plugins before, or of the whole chain; not yet read.
    pub fn prev_result(&self) -> Option<&Value> {
        get(&self.keys, "prevResult")
    }

    /// Our own keys.
    ///
    /// # Errors
    /// [`ConfError`] naming key and value.
    pub fn settings(&self) -> Result<Settings, ConfError> {
        self.check_ipam()?;
        let mtu = match get(&self.keys, "mtu") {
            None => None,
            Some(value) => match integer(value) {
                Some(0) => None,
                Some(mtu) => Some(u32::try_from(mtu).map_err(|_| ConfError::Invalid {
                    problem: format!("mtu {mtu} is too large: leave it out to get that of the overlay"),
                })?),
                None => return Err(ConfError::kind("mtu", "a whole number of octets", value)),
            },
        };
        let dns = get(&self.keys, "dns").map(|value| Dns::from_json("dns", value)).transpose()?;
        Ok(Settings { mtu, dns })
    }

    /// An object that the runtime adds (`runtimeConfig`), or a path of two (`args`, `cni`).
    ///
    /// # Errors
    /// [`ConfError::Kind`] when something else than an object stands there.
    pub(super) fn object(&self, path: &[&str]) -> Result<Option<&Map<String, Value>>, ConfError> {
        let mut keys = &self.keys;
        for key in path {
            keys = match get(keys, key) {
                None => return Ok(None),
                Some(Value::Object(inner)) => inner,
                Some(other) => return Err(ConfError::kind(&path.join("."), "an object", other)),
            };
        }
        Ok(Some(keys))
    }

    fn check_ipam(&self) -> Result<(), ConfError> {
        let Some(ipam) = self.object(&["ipam"])? else { return Ok(()) };
        for (key, value) in ipam {
            let supported = match value {
                Value::String(text) if is_any(key, &["type"]) => text.is_empty() || text == TYPE,
                Value::Null => true,
                _ => false,
            };
            if !supported {
                return Err(ConfError::Unsupported {
                    key: format!("ipam.{key}"),
                    value: brief(value),
                    remedy: "leave ipam out; addresses come from the node's pod CIDR, which minionetd knows",
                });
            }
        }
        Ok(())
    }
}

/// A whole number that is not negative; Go writes numbers that it passes on as floating point, and
/// so has rounded the large ones already.
pub(super) fn integer(value: &Value) -> Option<u64> {
    let number = value.as_number()?;
    let exact = |f: f64| (f >= 0.0 && f < 2f64.powi(64) && f.fract() == 0.0).then_some(f as u64);
    number.as_u64().or_else(|| number.as_f64().and_then(exact))
}

#[cfg(test)]
mod tests;
