//! The table of settings as a document: a reference for people, and a file to start from.

use std::fmt::Write;

use super::settings::{SETTINGS, Setting, Shape};
use crate::constants::CONFIG_FILE;

/// How long a line of a comment in the sample is at most.
const WIDTH: usize = 100;

/// The reference of all settings, in markdown.
pub fn reference() -> String {
    let mut text = format!(
        "# Configuration\n\n\
         This page is printed by `minionetd settings --markdown`.\n\n\
         Every setting is a flag of `minionetd run`, a variable in the environment and a key in `{CONFIG_FILE}`.\n\
         Flags win over variables, and those over the file.\n\
         A setting that is not understood is an error that names its place, and so is a name that no setting has.\n\
         `systemctl reload minionetd` (SIGHUP) takes a changed file over; a file that is wrong changes nothing.\n\
         Variables come from the environment of the process, and so only with a restart, which costs no packet.\n\n\
         Durations are a number with `ms`, `s`, `m`, `h` or `d`.\n\
         Lists are arrays in the file, and separated by commas in flags and variables.\n\n\
         The settings that decide on addresses and on the wire must be the same on every node: \
         `cluster_name`, `domain`, `roles`, `node_networks`, `pod_network`, `node_prefix`, `node_prefix6`, `vni`, \
         `port`, `encapsulation`, `probe_port`.\n"
    );
    for setting in SETTINGS {
        let (kind, default) = (kind(setting), default(setting));
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n## `{}`\n\n{}.\n\n| flag | variable | value | default |\n|---|---|---|---|\n| `--{}` | `{}` | {kind} | {default} |\n",
            setting.key,
            sentence(setting),
            setting.flag(),
            setting.env,
        );
    }
    text
}

/// A configuration file in which every setting is described and commented out.
pub fn sample() -> String {
    let mut text = format!(
        "# {CONFIG_FILE}\n\
         # Every line that begins with #name shows a default or an example; nothing here is needed where\n\
         # CLUSTER_NAME is in the environment, as in /etc/sysconfig/kubernetes-minions.\n\
         # Take changes over with: systemctl reload minionetd\n"
    );
    for setting in SETTINGS {
        text.push('\n');
        wrap(&format!("{}.", setting.help), &mut text);
        let _ = writeln!(text, "#{} = {}", setting.key, toml(setting));
    }
    text
}

/// What the setting does, without the default that the table shows.
fn sentence(setting: &Setting) -> &str {
    setting.help.split(" [default:").next().unwrap_or(setting.help)
}

fn kind(setting: &Setting) -> String {
    // A bar ends a cell of a table, also inside of code.
    let value = setting.value.replace('|', r"\|");
    match setting.shape {
        Shape::Many => format!("list of `{value}`"),
        Shape::One | Shape::Switch => format!("`{value}`"),
    }
}

fn default(setting: &Setting) -> String {
    let described = setting.help.split_once("[default: ").map(|(_, rest)| rest.trim_end_matches(']'));
    match (setting.default, described) {
        ("", Some(words)) => words.to_owned(),
        ("", None) => "none".to_owned(),
        (value, _) => format!("`{value}`"),
    }
}

/// The default as TOML, or a placeholder.
fn toml(setting: &Setting) -> String {
    let value = if setting.default.is_empty() { setting.value } else { setting.default };
    let number = value.bytes().all(|b| b.is_ascii_digit());
    match setting.shape {
        Shape::Switch => value.to_owned(),
        Shape::One if number => value.to_owned(),
        Shape::One => format!("\"{value}\""),
        Shape::Many => {
            let items: Vec<String> = value.split(',').map(|item| format!("\"{item}\"")).collect();
            format!("[{}]", items.join(", "))
        }
    }
}

fn wrap(words: &str, text: &mut String) {
    let mut line = "#".to_owned();
    for word in words.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = "#".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Layer};

    #[test]
    fn the_sample_changes_nothing() {
        let sample = Layer::from_toml("sample", &sample());
        assert_eq!(sample, Layer::default());
    }

    #[test]
    fn the_defaults_in_the_sample_are_those_of_the_program() {
        let with_default = |line: &&str| {
            let key = line.trim_start_matches('#').split(' ').next();
            SETTINGS.iter().any(|s| Some(s.key) == key && !s.default.is_empty())
        };
        let sample = sample();
        let lines = sample.lines().filter(|line| line.starts_with('#') && !line.starts_with("# "));
        let active: Vec<&str> = lines.filter(with_default).map(|line| &line[1..]).collect();
        assert_eq!(active.len(), SETTINGS.iter().filter(|s| !s.default.is_empty()).count());
        let name = || Layer::from_flags([("cluster_name", vec!["demo".to_owned()])]);
        let file = Layer::from_toml("sample", &active.join("\n"));
        assert_eq!(Config::from_layers(&[name(), file]), Config::from_layers(&[name()]));
    }

    #[test]
    fn the_reference_has_every_setting() {
        let text = reference();
        for setting in SETTINGS {
            let row = format!("| `--{}` | `{}` |", setting.flag(), setting.env);
            assert!(text.contains(&format!("\n## `{}`\n", setting.key)) && text.contains(&row), "{row}");
        }
        assert!(text.contains("| the local address that appears in the DNS answer |"));
        for row in text.lines().filter(|line| line.starts_with('|')) {
            assert_eq!(row.replace(r"\|", "").matches('|').count(), 5, "four cells: {row}");
        }
    }
}
