//! The files that are installed, and where each belongs.

use clap_complete::Shell;
use minionet_core::config::document;
use minionet_core::constants::{CNI_BIN_DIR, CNI_CONF_DIR, CNI_CONF_FILE, CONFIG_FILE, STATE_DIR};
use minionet_core::install::{Content, Item, Policy};
use sha2::{Digest, Sha256};

use crate::generate;

/// Name of the service.
pub const SERVICE: &str = "minionetd.service";

/// Name of the unit that registers the machine; it is installed, and enabled by who wants it.
pub const REGISTRATION: &str = "minionet-registration.service";

const UNIT: &str = include_str!("../../../packaging/systemd/minionetd.service");
const REGISTRATION_UNIT: &str = include_str!("../../../packaging/systemd/minionet-registration.service");
const KUBELET: &str = include_str!("../../../packaging/systemd/10-minionet.conf");
const SYSCTL: &str = include_str!("../../../packaging/sysctl/90-minionet.conf");
const NETWORK: &str = include_str!("../../../packaging/networkd/10-minionet.network");
const LINK: &str = include_str!("../../../packaging/networkd/10-minionet.link");
const NETWORKD: &str = include_str!("../../../packaging/networkd/90-minionet.conf");
const NETWORK_MANAGER: &str = include_str!("../../../packaging/NetworkManager/90-minionet.conf");

/// Where the units in `packaging/` expect the program.
const PACKAGED: &str = "/usr/bin/minionetd";

/// Where things go.
pub struct Layout {
    /// This program.
    pub bin_dir: String,
    /// The CNI plugin.
    pub cni_bin_dir: String,
    /// The lists of networks.
    pub cni_conf_dir: String,
    /// Whether the service is enabled.
    pub enable: bool,
    /// Whether it is a package that is filled, which others remember and remove.
    pub package: bool,
}

impl Layout {
    /// Where an operator installs who says nothing else.
    pub fn local() -> Self {
        Layout {
            bin_dir: "/usr/local/bin".to_owned(),
            cni_bin_dir: CNI_BIN_DIR.to_owned(),
            cni_conf_dir: CNI_CONF_DIR.to_owned(),
            enable: true,
            package: false,
        }
    }

    /// Where a package of a distribution installs.
    pub fn package() -> Self {
        Layout { bin_dir: "/usr/bin".to_owned(), enable: false, package: true, ..Self::local() }
    }

    /// The directory below which systemd, networkd, NetworkManager and sysctl read.
    fn etc(&self) -> &'static str {
        if self.package { "/usr/lib" } else { "/etc" }
    }
}

/// A file, a link or a directory with all that it needs to be made.
pub struct Payload {
    /// What should be there.
    pub item: Item,
    /// The content of a file.
    pub bytes: Vec<u8>,
}

impl Payload {
    /// A directory, whatever is in it.
    fn directory(path: &str) -> Self {
        Payload { item: Item { path: path.to_owned(), content: Content::Directory }, bytes: Vec::new() }
    }

    /// A file that the daemon will write.
    fn later(path: String) -> Self {
        Payload { item: Item { path, content: Content::Later }, bytes: Vec::new() }
    }

    /// The permissions of a file.
    pub fn mode(&self) -> u32 {
        match self.item.content {
            Content::File { mode, .. } => mode,
            Content::Directory | Content::Link { .. } | Content::Later => 0o755,
        }
    }
}

/// Everything, in the order in which it is put onto the disk: the plugin first, and what the unit
/// starts before the unit.
pub fn payloads(layout: &Layout, daemon: Vec<u8>, plugin: Vec<u8>) -> Vec<Payload> {
    let etc = layout.etc();
    let systemd = format!("{etc}/systemd");
    let unit = format!("{systemd}/system/{SERVICE}");
    let share = match layout.bin_dir.rsplit_once('/') {
        Some((prefix, _)) => format!("{prefix}/share"),
        None => "/usr/local/share".to_owned(),
    };
    let mut all = vec![
        program(format!("{}/minionet", layout.cni_bin_dir), plugin),
        program(format!("{}/minionetd", layout.bin_dir), daemon),
        Payload::directory(&layout.cni_conf_dir),
    ];
    for (path, text) in [
        (format!("{etc}/sysctl.d/90-minionet.conf"), SYSCTL),
        (format!("{systemd}/network/10-minionet.network"), NETWORK),
        (format!("{systemd}/network/10-minionet.link"), LINK),
        (format!("{systemd}/networkd.conf.d/90-minionet.conf"), NETWORKD),
        (format!("{etc}/NetworkManager/conf.d/90-minionet.conf"), NETWORK_MANAGER),
        (unit.clone(), UNIT),
        (format!("{systemd}/system/{REGISTRATION}"), REGISTRATION_UNIT),
        (format!("{systemd}/system/kubelet.service.d/10-minionet.conf"), KUBELET),
    ] {
        let text = placed(text, &path, &layout.bin_dir);
        all.push(text_file(path, text, Policy::Respect));
    }
    if layout.cni_conf_dir != CNI_CONF_DIR {
        let path = format!("{systemd}/system/{SERVICE}.d/10-cni-conf-dir.conf");
        all.push(text_file(path.clone(), other_conf_dir(&path, &layout.cni_conf_dir), Policy::Respect));
    }
    all.push(text_file(CONFIG_FILE.to_owned(), document::sample(), Policy::Respect));
    // Debian keeps the second directory for the operator.
    let zsh = if layout.package { "vendor-completions" } else { "site-functions" };
    for (shell, path) in [
        (Shell::Bash, "bash-completion/completions/minionetd"),
        (Shell::Zsh, &format!("zsh/{zsh}/_minionetd")),
        (Shell::Fish, "fish/vendor_completions.d/minionetd.fish"),
    ] {
        all.push(file(format!("{share}/{path}"), generate::completion(shell), 0o644, Policy::Replace));
    }
    for (name, page) in generate::pages() {
        all.push(file(format!("{share}/man/man8/{name}"), page, 0o644, Policy::Replace));
    }
    if !layout.package {
        all.push(Payload::directory(STATE_DIR));
        // Without the plugin, the list would make the runtime fail where it could use another.
        all.push(Payload::later(format!("{}/{CNI_CONF_FILE}", layout.cni_conf_dir)));
    }
    if layout.enable {
        let path = format!("{systemd}/system/multi-user.target.wants/{SERVICE}");
        all.push(Payload { item: Item { path, content: Content::Link { target: unit } }, bytes: Vec::new() });
    }
    all
}

/// A file of `packaging/`, whose first line names the place where it lies and which may start the
/// program.
fn placed(text: &str, path: &str, bin_dir: &str) -> String {
    let body = text.split_once('\n').map_or("", |(_, body)| body);
    format!("# {path}\n{}", body.replace(PACKAGED, &format!("{bin_dir}/minionetd")))
}

/// The service writes the list of its network elsewhere.
fn other_conf_dir(path: &str, dir: &str) -> String {
    format!(
        "# {path}\n# Where the container runtime looks for networks on this host.\n[Service]\n\
         Environment=MINIONET_CNI_CONF_DIR={dir}\nReadWritePaths={dir}\n"
    )
}

fn program(path: String, bytes: Vec<u8>) -> Payload {
    file(path, bytes, 0o755, Policy::Replace)
}

fn text_file(path: String, text: String, policy: Policy) -> Payload {
    file(path, text.into_bytes(), 0o644, policy)
}

fn file(path: String, bytes: Vec<u8>, mode: u32, policy: Policy) -> Payload {
    let content = Content::File { digest: digest(&bytes), mode, policy };
    Payload { item: Item { path, content }, bytes }
}

/// What tells a content from every other.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
