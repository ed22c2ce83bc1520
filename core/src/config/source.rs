//! Where values come from, and how the layers become one configuration.

use std::collections::BTreeMap;
use std::fmt;

use super::parse::{self, Draft};
use super::settings::{SETTINGS, Setting, Shape};
use super::{Config, ConfigError, Problem};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A flag on the command line.
    Flag(String),
    /// A variable in the environment.
    Variable(String),
    /// A line of a file, counted from one.
    Line {
        /// The file.
        file: String,
        /// The line.
        line: usize,
    },
    /// Nowhere: it is missing, or comes from several places together.
    Whole,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Flag(flag) => write!(f, "--{flag}"),
            Place::Variable(name) => write!(f, "environment variable {name}"),
            Place::Line { file, line } => write!(f, "{file}:{line}"),
            Place::Whole => f.write_str("configuration"),
        }
    }
}

/// A value as it was written: a list with one element unless the setting takes many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Where it was written.
    pub place: Place,
    /// What was written.
    pub items: Vec<String>,
}

/// What one source says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    values: BTreeMap<&'static str, Value>,
    problems: Vec<Problem>,
}

impl Layer {
    /// Flags, as pairs of a setting's key and what was given.
    pub fn from_flags<'a>(flags: impl IntoIterator<Item = (&'a str, Vec<String>)>) -> Self {
        let mut layer = Layer::default();
        for (key, items) in flags {
            if let Some(setting) = find(key) {
                layer.insert(
                    setting,
                    Place::Flag(setting.flag()),
                    items.iter().flat_map(|i| split(setting, i)),
                );
            }
        }
        layer
    }

    /// The environment. Variables that begin with `MINIONET_` and mean nothing are problems; an
    /// empty variable is one that is not set, as in systemd's `EnvironmentFile=`.
    pub fn from_env(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut layer = Layer::default();
        for (name, text) in variables {
            match SETTINGS.iter().find(|s| s.env == name) {
                Some(_) if text.is_empty() => {}
                Some(setting) => {
                    let items: Vec<String> = split(setting, &text).collect();
                    layer.insert(setting, Place::Variable(name), items);
                }
                None if name.starts_with("MINIONET_") => {
                    let key = name.trim_start_matches("MINIONET_").to_lowercase();
                    let problem = format!("no such setting{}", did_you_mean(&key, |s| s.env.to_owned()));
                    layer.problems.push(Problem { place: Place::Variable(name), problem });
                }
                None => {}
            }
        }
        layer
    }

    /// A file in TOML.
    pub fn from_toml(file: &str, text: &str) -> Self {
        let mut layer = Layer::default();
        let line = |offset: usize| Place::Line {
            file: file.to_owned(),
            line: 1 + text.get(..offset).unwrap_or(text).matches('\n').count(),
        };
        let table = match toml::de::DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let place = line(error.span().map_or(0, |s| s.start));
                let problem = format!("this is not TOML: {}", error.message());
                layer.problems.push(Problem { place, problem });
                return layer;
            }
        };
        for (key, value) in table {
            let place = line(key.span().start);
            let Some(setting) = find(key.get_ref()) else {
                let problem = format!(
                    "no setting is named \"{}\"{}",
                    key.get_ref(),
                    did_you_mean(key.get_ref(), |s| s.key.to_owned())
                );
                layer.problems.push(Problem { place, problem });
                continue;
            };
            match items(setting, value.get_ref()) {
                Ok(items) => layer.insert(setting, place, items),
                Err(problem) => layer.problems.push(Problem { place, problem }),
            }
        }
        layer
    }

    fn insert(&mut self, setting: &Setting, place: Place, items: impl IntoIterator<Item = String>) {
        self.values.insert(setting.key, Value { place, items: items.into_iter().collect() });
    }
}

/// Merges the layers, the first being the strongest, and checks everything.
pub(super) fn merge(layers: &[Layer]) -> Result<Config, ConfigError> {
    let mut problems: Vec<Problem> = layers.iter().flat_map(|l| l.problems.clone()).collect();
    let mut draft = Draft::default();
    for setting in SETTINGS {
        let given = layers.iter().find_map(|l| l.values.get(setting.key)).cloned();
        let value = given.or_else(|| default(setting));
        if let Some(value) = value
            && let Err(problem) = parse::assign(&mut draft, setting.key, &value)
        {
            problems.push(Problem { place: value.place, problem: format!("{}: {problem}", setting.key) });
        }
    }
    match draft.finish() {
        Ok(config) if problems.is_empty() => Ok(config),
        Ok(_) => Err(ConfigError { problems }),
        Err(more) => {
            problems.extend(more);
            Err(ConfigError { problems })
        }
    }
}

fn default(setting: &Setting) -> Option<Value> {
    let items = || split(setting, setting.default).collect();
    (!setting.default.is_empty()).then(|| Value { place: Place::Whole, items: items() })
}

fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.key == key)
}

/// The elements of a flag's or a variable's text.
fn split<'a>(setting: &Setting, text: &'a str) -> impl Iterator<Item = String> + use<'a> {
    let many = setting.shape == Shape::Many;
    let parts: Vec<&str> = if many { text.split(',').collect() } else { vec![text] };
    parts.into_iter().map(|p| p.trim().to_owned()).filter(move |p| !(many && p.is_empty()))
}

/// The elements of a value in a file.
fn items(setting: &Setting, value: &toml::de::DeValue<'_>) -> Result<Vec<String>, String> {
    use toml::de::DeValue;
    match (setting.shape, value) {
        (Shape::Many, DeValue::Array(array)) => array.iter().map(|v| scalar(setting, v.get_ref())).collect(),
        (_, other) => Ok(vec![scalar(setting, other)?]),
    }
}

fn scalar(setting: &Setting, value: &toml::de::DeValue<'_>) -> Result<String, String> {
    use toml::de::DeValue;
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Boolean(yes) => Ok(yes.to_string()),
        DeValue::Array(_) if setting.shape != Shape::Many => {
            Err(format!("{} takes one value, not a list", setting.key))
        }
        other => Err(format!("{} takes a string or a number, not {}", setting.key, other.type_str())),
    }
}

/// The nearest setting, if one is near.
fn did_you_mean(key: &str, name: impl Fn(&Setting) -> String) -> String {
    let near = SETTINGS.iter().map(|s| (distance(key, s.key), s)).min_by_key(|(d, _)| *d);
    match near {
        Some((distance, setting)) if distance <= 3 => format!("; did you mean {}?", name(setting)),
        _ => "; `minionetd run --help` lists all settings".to_owned(),
    }
}

/// Levenshtein's distance of two short words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
