//! kubelet and kube-proxy, as far as their arguments and files can be seen.

use std::fs;
use std::path::Path;

use minionet_core::doctor::facts::KubeFacts;

use crate::processes::Process;

/// Where kubelet's configuration usually is.
const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";

/// Where kube-proxy's configuration usually is.
const PROXY_CONFIG: &str = "/var/lib/kube-proxy/config.conf";

/// Gathers them.
pub fn facts(processes: &[Process]) -> KubeFacts {
    // One program for all of them is started with the name of the one that is meant.
    let is = |p: &Process, name: &str| {
        p.program() == name || (p.program() == "hyperkube" && p.arguments.get(1).is_some_and(|a| a == name))
    };
    let find = |name: &str| processes.iter().find(|p| is(p, name));
    let (proxy, kubelet) = (find("kube-proxy"), find("kubelet"));
    KubeFacts {
        proxy: setting(proxy, "cluster-cidr", "clusterCIDR", PROXY_CONFIG),
        kubelet: setting(kubelet, "pod-cidr", "podCIDR", KUBELET_CONFIG),
        node_ip: kubelet.and_then(|process| process.flag("node-ip")).map(str::to_owned),
    }
}

/// A setting from a program's flag, or from its file: the value, and where it is written. Nothing
/// where neither the program nor its file is there; a value that is empty where they do not set it.
fn setting(process: Option<&Process>, flag: &str, key: &str, file: &str) -> Option<(String, String)> {
    if let Some(value) = process.and_then(|process| process.flag(flag)) {
        return Some((value.to_owned(), format!("--{flag}")));
    }
    let named = process.and_then(|process| process.flag("config")).unwrap_or(file);
    match fs::read_to_string(Path::new(named)) {
        Ok(text) => Some((top_level(&text, key).unwrap_or_default(), named.to_owned())),
        Err(_) => process.map(|process| (String::new(), process.program().to_owned())),
    }
}

/// The value of a key that is not indented, of a file in YAML: the only form in which these
/// programs' files have these keys.
fn top_level(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let value = value.split(" #").next().unwrap_or_default().trim();
    Some(value.trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read() {
        let text = "apiVersion: x\nclusterCIDR: \"10.32.0.0/12\" # pods\nconntrack:\n  podCIDR: 1.2.3.0/24\n";
        assert_eq!(top_level(text, "clusterCIDR").as_deref(), Some("10.32.0.0/12"));
        assert_eq!(top_level(text, "podCIDR"), None);
        assert_eq!(top_level("podCIDR: ''", "podCIDR").as_deref(), Some(""));
    }
}
