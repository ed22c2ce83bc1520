//! GC: which attachments the runtime still wants.

use std::collections::BTreeSet;

use serde_json::Value;

use super::conf::{ConfError, NetConf};
use super::json::get;

/// The key of the specification, and the one that libcni sent before it had a name (it sends
/// both since 1.2.3).
const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// Attachments by container and interface.
pub type Attachments = BTreeSet<(String, String)>;

impl NetConf {
    /// The attachments of this network that are valid. Nothing comes back when the runtime does
    /// not say; `null` is what Go writes for an empty list.
    ///
    /// # Errors
    /// [`ConfError::Kind`] when it cannot be understood: then nothing may be removed.
    pub fn valid_attachments(&self) -> Result<Option<Attachments>, ConfError> {
        let Some((key, value)) = KEYS.iter().find_map(|key| Some((*key, self.keys.get(*key)?))) else {
            return Ok(None);
        };
        let items = match value {
            Value::Null => return Ok(Some(Attachments::new())),
            Value::Array(items) => items,
            other => return Err(ConfError::kind(key, "a list of attachments", other)),
        };
        let attachment = |item: &Value| {
            let text = |name| get(item.as_object()?, name)?.as_str();
            let both = text("containerID").zip(text("ifname"));
            // One that names nobody is a mistake of its writer's, which others would pay for.
            let both = both.filter(|(container, ifname)| !container.is_empty() && !ifname.is_empty());
            let expected = "a list of objects with containerID and ifname";
            both.map(|(container, ifname)| (container.to_owned(), ifname.to_owned()))
                .ok_or_else(|| ConfError::kind(key, expected, item))
        };
        items.iter().map(attachment).collect::<Result<_, _>>().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid(extra: &str) -> Result<Option<Attachments>, ConfError> {
        let text = format!(r#"{{"name": "n", "cniVersion": "1.1.0"{extra}}}"#);
        NetConf::parse(text.as_bytes()).unwrap().valid_attachments()
    }

    #[test]
    fn absent_null_and_empty_are_told_apart() {
        assert_eq!(valid("").unwrap(), None);
        for nothing in ["null", "[]"] {
            let text = format!(r#", "cni.dev/valid-attachments": {nothing}"#);
            assert_eq!(valid(&text).unwrap(), Some(Attachments::new()));
        }
    }

    #[test]
    fn both_names_of_the_key_are_known() {
        let list = r#"[{"containerID": "c1", "ifname": "eth0"}]"#;
        let expected = Attachments::from([("c1".into(), "eth0".into())]);
        for key in KEYS {
            assert_eq!(valid(&format!(r#", "{key}": {list}"#)).unwrap(), Some(expected.clone()));
        }
        let both = format!(r#", "{}": [], "{}": {list}"#, KEYS[0], KEYS[1]);
        assert_eq!(valid(&both).unwrap(), Some(Attachments::new()), "the specification's comes first");
    }

    #[test]
    fn what_is_not_understood_removes_nothing() {
        for bad in [
            "{}",
            "\"c1\"",
            "[1]",
            r#"[{"containerID": "c1"}]"#,
            r#"[{"ifname": 1, "containerID": "c"}]"#,
            r#"[{"ifname": "", "containerID": ""}]"#,
        ] {
            assert!(valid(&format!(r#", "cni.dev/valid-attachments": {bad}"#)).is_err(), "{bad}");
        }
    }
}
