//! Network managers and firewalls: whether they run, and what their files say.

use std::fs;
use std::path::{Path, PathBuf};

use minionet_core::cni::attachment::HOST_IFNAME_PREFIX;
use minionet_core::config::Config;
use minionet_core::constants::{DEFAULT_PORT, DEVICE};
use minionet_core::doctor::facts::{HostFacts, NetworkdFacts};
use minionet_netlink::nft::Nft;

use crate::processes::Process;

/// Where systemd-networkd keeps what it knows of links, while it runs.
const NETWORKD: &str = "/run/systemd/netif/links";

/// Where NetworkManager keeps what it knows of devices, while it runs.
const NETWORK_MANAGER: &str = "/run/NetworkManager/devices";

/// Where firewalld has its zones, by precedence.
const ZONES: [&str; 2] = ["/etc/firewalld/zones", "/usr/lib/firewalld/zones"];

/// Gathers them.
pub fn facts(config: Option<&Config>, processes: &[Process]) -> HostFacts {
    let runs = |name: &str| processes.iter().any(|p| p.program() == name);
    let port = config.map_or(DEFAULT_PORT, |config| config.port);
    HostFacts {
        networkd: (Path::new(NETWORKD).is_dir() || runs("systemd-networkd")).then(networkd),
        network_manager: (Path::new(NETWORK_MANAGER).is_dir() || runs("NetworkManager"))
            .then(network_manager),
        firewalld: (has_table("firewalld") || runs("firewalld")).then(|| firewalld(port)),
    }
}

/// Whether there is an nft table of a name.
fn has_table(name: &str) -> bool {
    Nft::open().and_then(|mut nft| nft.tables()).is_ok_and(|tables| tables.iter().any(|t| t.name == name))
}

fn networkd() -> NetworkdFacts {
    let mut manages = true;
    // Later files win, and of files of one name that in /etc (systemd.syntax(7)).
    let directories = ["/usr/lib", "/run", "/etc"].map(|root| PathBuf::from(root).join("systemd"));
    let main = directories.iter().map(|d| d.join("networkd.conf"));
    let parts = directories.iter().flat_map(|d| files(&d.join("networkd.conf.d"), "conf"));
    let text = main.chain(parts).map(|file| fs::read_to_string(file).unwrap_or_default());
    for value in text.flat_map(|text| values(&text, "ManageForeignRoutes")) {
        manages = !matches!(value.to_lowercase().as_str(), "no" | "false" | "0" | "off");
    }
    let networks = directories.iter().flat_map(|d| files(&d.join("network"), "network"));
    let unmanaged = networks.map(|file| fs::read_to_string(file).unwrap_or_default()).any(|text| {
        let matches = values(&text, "Name").join(" ");
        values(&text, "Unmanaged")
            .iter()
            .any(|v| matches!(v.to_lowercase().as_str(), "yes" | "true" | "1" | "on"))
            && names(&matches) == [true, true]
    });
    NetworkdFacts { manages_foreign_routes: manages, unmanaged }
}

fn network_manager() -> [bool; 2] {
    let directories = ["/usr/lib", "/run", "/etc"].map(|root| PathBuf::from(root).join("NetworkManager"));
    let main = directories.iter().map(|d| d.join("NetworkManager.conf"));
    let parts = directories.iter().flat_map(|d| files(&d.join("conf.d"), "conf"));
    let text = main.chain(parts).map(|file| fs::read_to_string(file).unwrap_or_default());
    let lists: Vec<String> = text.flat_map(|text| values(&text, "unmanaged-devices")).collect();
    names(&lists.join(";").replace("interface-name:", " ").replace([';', ','], " "))
}

fn firewalld(port: u16) -> [bool; 2] {
    let zones = ZONES.iter().flat_map(|directory| files(Path::new(directory), "xml"));
    let text: String = zones.map(|zone| fs::read_to_string(zone).unwrap_or_default()).collect();
    let quoted = |value: &str| text.contains(&format!("\"{value}\"")) || text.contains(&format!("'{value}'"));
    [quoted(DEVICE), quoted(&port.to_string())]
}

/// Whether patterns match the device, and the links of pods.
fn names(patterns: &str) -> [bool; 2] {
    let pod = format!("{HOST_IFNAME_PREFIX}0123456789");
    [DEVICE, &pod].map(|name| {
        patterns.split_whitespace().any(|pattern| match pattern.split_once('*') {
            Some((start, "")) => name.starts_with(start),
            _ => name == pattern,
        })
    })
}

/// The files of a directory with an ending, in the order of their names.
fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == ending));
    files.sort();
    files
}

/// The values of a key in a file of lines `key=value`.
fn values(text: &str, key: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.filter(|(k, _)| k.trim_end_matches('+').trim() == key).map(|(_, v)| v.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_matched() {
        assert_eq!(names("minionet mnet*"), [true, true]);
        assert_eq!(names("m*"), [true, true]);
        assert_eq!(names("eth0 mnet*"), [false, true]);
        assert_eq!(names(""), [false, false]);
    }

    #[test]
    fn values_are_read() {
        let text = "[Network]\n# ManageForeignRoutes=yes\nManageForeignRoutes = no\n[Other]\nX=1\n";
        assert_eq!(values(text, "ManageForeignRoutes"), ["no"]);
    }
}
