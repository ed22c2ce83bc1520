//! The processes of this host, as proc(5) tells of them.

use std::fs;
use std::path::{Path, PathBuf};

/// A process of this network namespace.
pub struct Process {
    directory: PathBuf,
    /// Its number.
    pub id: u32,
    /// Its command line.
    pub arguments: Vec<String>,
}

impl Process {
    /// The name of its program, without directories.
    pub fn program(&self) -> &str {
        self.arguments.first().and_then(|path| path.rsplit('/').next()).unwrap_or_default()
    }

    /// Its environment at its start; nothing where it may not be read.
    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = words(&self.directory.join("environ"));
        pairs.into_iter().filter_map(|w| w.split_once('=').map(|(k, v)| (k.into(), v.into()))).collect()
    }

    /// The value of a flag, written as `--flag value` or `--flag=value`.
    pub fn flag(&self, flag: &str) -> Option<&str> {
        let mut arguments = self.arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.trim_start_matches('-').split_once('=') {
                Some((name, value)) if name == flag => return Some(value),
                None if argument.trim_start_matches('-') == flag => {
                    return arguments.next().map(String::as_str);
                }
                _ => {}
            }
        }
        None
    }

    /// The inode numbers of the sockets that it has open (`socket:[…]`, proc(5)).
    pub fn sockets(&self) -> Vec<u64> {
        let entries = fs::read_dir(self.directory.join("fd")).into_iter().flatten().flatten();
        let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
        let number = |t: PathBuf| t.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
        targets.filter_map(number).collect()
    }
}

/// The processes of this network namespace, as far as they may be looked at: those of other pods
/// and containers are other machines to us.
pub fn here() -> Vec<Process> {
    let Ok(own) = fs::read_link("/proc/self/ns/net") else { return Vec::new() };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let process = |entry: fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let directory = entry.path();
        if fs::read_link(directory.join("ns/net")).ok()? != own {
            return None;
        }
        let arguments = words(&directory.join("cmdline"));
        (!arguments.is_empty()).then_some(Process { directory, id, arguments })
    };
    entries.filter_map(process).collect()
}

/// The texts of a file that ends each with a zero.
fn words(path: &Path) -> Vec<String> {
    let text = fs::read(path).unwrap_or_default();
    let words = text.split(|octet| *octet == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_found_in_both_forms() {
        let arguments = ["/usr/bin/kubelet", "--v=2", "--pod-cidr", "10.32.1.0/24", "--config=/etc/k"];
        let process =
            Process { directory: PathBuf::new(), id: 1, arguments: arguments.map(str::to_owned).into() };
        assert_eq!(process.program(), "kubelet");
        assert_eq!(process.flag("pod-cidr"), Some("10.32.1.0/24"));
        assert_eq!(process.flag("config"), Some("/etc/k"));
        assert_eq!(process.flag("pod"), None);
    }

    #[test]
    fn this_test_is_among_them() {
        let own = std::process::id();
        assert!(here().iter().any(|process| process.id == own));
    }
}
