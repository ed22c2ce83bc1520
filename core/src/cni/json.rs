//! Looking into JSON the way Go's decoder does, for which every runtime was written: keys match
//! in any case, and `null` is the same as absent.

use serde_json::{Map, Value};

/// The value of a key: the exact spelling first, else any spelling that differs in case only.
/// `null` counts as absent.
pub(super) fn get<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let any_case = || map.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v);
    map.get(key).or_else(any_case).filter(|v| !v.is_null())
}

/// Whether a key is one of these, in any case.
pub(super) fn is_any(key: &str, known: &[&str]) -> bool {
    known.iter().any(|k| k.eq_ignore_ascii_case(key))
}

/// A short rendering of a value for messages: at most 80 characters.
pub(super) fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What a JSON value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_match_in_any_case_and_exactly_first() {
        let value = json!({"HostPort": 1, "hostport": 2, "nothing": null});
        let map = value.as_object().unwrap();
        assert_eq!(get(map, "hostport"), Some(&json!(2)));
        assert_eq!(get(map, "HOSTPORT"), Some(&json!(1)));
        assert_eq!(get(map, "nothing"), None);
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let text = brief(&json!("ä".repeat(200)));
        assert_eq!(text.chars().count(), 81);
    }
}
