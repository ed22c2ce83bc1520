//! Versions of the CNI specification.

use std::fmt;

use serde_json::{Value, json};
use thiserror::Error;

use super::error::{Code, Coded};

/// A version of the specification that this plugin speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.1.0, also meant by a configuration that names no version.
    V0_1_0,
    /// 0.2.0: adds VERSION.
    V0_2_0,
    /// 0.3.0: results list interfaces.
    V0_3_0,
    /// 0.3.1: a correction of the text.
    V0_3_1,
    /// 0.4.0: adds CHECK, and `prevResult` for DEL.
    V0_4_0,
    /// 1.0.0: `ips` lose their `version`.
    V1_0_0,
    /// 1.1.0: adds GC, STATUS and more fields in results.
    V1_1_0,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Version; 7] = [
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];

    /// The version in which a caller is answered whose own is not known.
    pub const LATEST: Version = Version::V1_1_0;

    /// The text of the version.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// Reads the value of the key `cniVersion`; absent, null and empty mean 0.1.0
    /// (specification 0.1.0 did not have the key).
    ///
    /// # Errors
    /// [`VersionError`] when it is no text, or no version that is spoken here.
    pub fn from_key(value: Option<&Value>) -> Result<Self, VersionError> {
        match value {
            None | Some(Value::Null) => Ok(Version::V0_1_0),
            Some(Value::String(text)) if text.is_empty() => Ok(Version::V0_1_0),
            Some(Value::String(text)) => Version::ALL
                .into_iter()
                .find(|v| v.as_str() == text)
                .ok_or_else(|| VersionError::Unsupported { found: text.clone() }),
            Some(other) => Err(VersionError::NotText { found: other.to_string() }),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a `cniVersion` is refused.
#[derive(Debug, Error)]
pub enum VersionError {
    /// Not a string.
    #[error("cniVersion must be a string such as \"1.1.0\", not {found}")]
    NotText {
        /// The JSON value found.
        found: String,
    },
    /// A version that is not spoken here.
    #[error("incompatible CNI versions")]
    Unsupported {
        /// The version asked for.
        found: String,
    },
}

impl Coded for VersionError {
    fn code(&self) -> Code {
        match self {
            VersionError::NotText { .. } => Code::Decode,
            VersionError::Unsupported { .. } => Code::IncompatibleVersion,
        }
    }

    fn details(&self) -> Option<String> {
        match self {
            VersionError::NotText { .. } => None,
            VersionError::Unsupported { found } => {
                let known: Vec<_> = Version::ALL.iter().map(|v| format!("{:?}", v.as_str())).collect();
                Some(format!("config is {found:?}, plugin supports [{}]", known.join(" ")))
            }
        }
    }
}

/// The answer to VERSION: the caller's version is repeated where it can be read.
pub fn report(stdin: &[u8]) -> Value {
    let asked = serde_json::from_slice::<Value>(stdin).ok();
    let asked = asked.as_ref().and_then(|v| super::json::get(v.as_object()?, "cniVersion")?.as_str());
    let asked = asked.filter(|text| !text.is_empty()).unwrap_or(Version::LATEST.as_str());
    json!({ "cniVersion": asked, "supportedVersions": Version::ALL.map(Version::as_str) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_empty_mean_the_oldest() {
        assert_eq!(Version::from_key(None).unwrap(), Version::V0_1_0);
        assert_eq!(Version::from_key(Some(&json!(null))).unwrap(), Version::V0_1_0);
        assert_eq!(Version::from_key(Some(&json!(""))).unwrap(), Version::V0_1_0);
    }

    #[test]
    fn every_version_reads_back() {
        for version in Version::ALL {
            assert_eq!(Version::from_key(Some(&json!(version.as_str()))).unwrap(), version);
        }
        assert!(Version::ALL.is_sorted());
    }

    #[test]
    fn unknown_versions_are_named_with_those_known() {
        let error = Version::from_key(Some(&json!("2.0.0"))).unwrap_err();
        assert_eq!(error.code(), Code::IncompatibleVersion);
        let details = error.details().unwrap();
        assert!(details.contains("\"2.0.0\"") && details.contains("\"1.1.0\""), "{details}");
        assert_eq!(Version::from_key(Some(&json!(1))).unwrap_err().code(), Code::Decode);
    }

    #[test]
    fn the_report_never_fails() {
        for (stdin, expected) in
            [(r#"{"cniVersion":"0.4.0"}"#, "0.4.0"), ("", "1.1.0"), ("garbage", "1.1.0"), ("[]", "1.1.0")]
        {
            let report = report(stdin.as_bytes());
            assert_eq!(report["cniVersion"], expected);
            assert_eq!(report["supportedVersions"].as_array().unwrap().len(), 7);
        }
    }
}
