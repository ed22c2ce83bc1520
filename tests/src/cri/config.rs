//! containerd's configuration file, as a pure function of where things are.

use std::path::Path;

/// Reference of the image that holds a sandbox open. The name can never be resolved
/// (RFC 2606), so that a missing image is an error and never a download.
pub const PAUSE_IMAGE: &str = "minionet.invalid/pause:1";

/// Reference of the image for the containers of a test.
pub const BUSYBOX_IMAGE: &str = "minionet.invalid/busybox:1";

/// Where an instance of containerd finds and keeps its things.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    /// Directory of our own: `root`, `state` and the sockets lie in it.
    pub directory: &'a Path,
    /// The one directory of CNI plugins.
    pub cni_bin: &'a Path,
    /// The directory of CNI configuration lists.
    pub cni_conf: &'a Path,
    /// The OCI runtime.
    pub crun: &'a Path,
}

/// The text of `config.toml`, format version 2 (containerd 1.3 to 2.x).
pub fn render(layout: &Layout<'_>) -> String {
    let below = |name: &str| quote(&layout.directory.join(name));
    format!(
        r#"version = 2
root = {root}
state = {state}

# `opt` writes to /opt/containerd; the others need what a test machine lacks, and NRI would
# listen on a fixed socket.
disabled_plugins = [
    "io.containerd.internal.v1.opt",
    "io.containerd.nri.v1.nri",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.overlayfs",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
]

# The defaults are 2 to 5 seconds, after which a shim that was not given a processor in time is
# taken for dead.
[timeouts]
"io.containerd.timeout.shim.cleanup" = "60s"
"io.containerd.timeout.shim.load" = "60s"
"io.containerd.timeout.shim.shutdown" = "60s"
"io.containerd.timeout.task.state" = "60s"

[grpc]
address = {grpc}

[ttrpc]
address = {ttrpc}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
# Lowering the score needs CAP_SYS_RESOURCE.
restrict_oom_score_adj = true
disable_apparmor = true
disable_tcp_service = true
disable_hugetlb_controller = true
tolerate_missing_hugetlb_controller = true
# The names of network namespaces stay within the state directory instead of /run/netns.
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {cni_bin}
conf_dir = {cni_conf}
max_conf_num = 1

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
default_runtime_name = "crun"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
BinaryName = {crun}
"#,
        root = below("root"),
        state = below("state"),
        grpc = below("containerd.sock"),
        ttrpc = below("containerd.ttrpc"),
        cni_bin = quote(layout.cni_bin),
        cni_conf = quote(layout.cni_conf),
        crun = quote(layout.crun),
    )
}

/// A path as a TOML basic string; every JSON string is one.
fn quote(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_and_placed() {
        let text = render(&Layout {
            directory: Path::new("/tmp/a \"b\""),
            cni_bin: Path::new("/opt/cni/bin"),
            cni_conf: Path::new("/etc/cni/net.d"),
            crun: Path::new("/usr/bin/crun"),
        });
        assert!(text.contains(r#"root = "/tmp/a \"b\"/root""#), "{text}");
        assert!(text.contains(r#"bin_dir = "/opt/cni/bin""#), "{text}");
        assert!(text.contains(r#"conf_dir = "/etc/cni/net.d""#), "{text}");
        assert!(text.contains(r#"BinaryName = "/usr/bin/crun""#), "{text}");
    }
}
