//! The commands that bring minionet onto a host, keep its service company, and take it away.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, value_parser};
use clap_complete::Shell;
use minionet_core::constants::{CNI_BIN_DIR, CNI_CONF_DIR};

/// All of them.
pub fn commands() -> [Command; 7] {
    [install(), uninstall(), cleanup(), wait(), settings(), completions(), man()]
}

fn install() -> Command {
    Command::new("install")
        .about("Put the plugin, this program, its service and its configuration where they belong")
        .long_about(
            "Put the CNI plugin, this program, the units and drop-ins of the service, a commented configuration, \
             completions and man pages where they belong, and enable the service. The plugin is looked for beside this \
             program.\n\n\
             Each file is replaced as a whole, so that a running program can be upgraded; what is as it should be is \
             left alone, and so is a file that somebody changed.",
        )
        .args([root(), dry_run(), force()])
        .args([
            Arg::new("plugin")
                .long("plugin")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The CNI plugin [default: minionet beside this program]"),
            directory("bin-dir", "/usr/local/bin", "Where this program goes"),
            directory("cni-bin-dir", CNI_BIN_DIR, "Where the container runtime looks for plugins"),
            directory("cni-conf-dir", CNI_CONF_DIR, "Where the container runtime looks for networks"),
            Arg::new("no-enable")
                .long("no-enable")
                .action(ArgAction::SetTrue)
                .help("Do not have the service started at boot"),
            Arg::new("now")
                .long("now")
                .action(ArgAction::SetTrue)
                .conflicts_with("root")
                .help("Start the service, or restart it after an upgrade; no packet is lost"),
            flag("only-plugin", "Install nothing but the plugin, as where the daemon runs in a container"),
            Arg::new("package")
                .long("package")
                .action(ArgAction::SetTrue)
                .requires("root")
                .conflicts_with_all(["bin-dir", "cni-bin-dir", "cni-conf-dir", "no-enable", "only-plugin"])
                .help("Fill the root as a package of a distribution has it: below /usr, not enabled, not remembered"),
        ])
}

fn uninstall() -> Command {
    Command::new("uninstall")
        .about("Remove what install put onto the disk")
        .long_about(
            "Remove the files that install wrote, the directories that it made, if nothing else is in them, and the \
             service. A file that somebody changed is kept and named. The overlay itself stays: see cleanup.",
        )
        .args([root(), dry_run(), force()])
}

fn cleanup() -> Command {
    Command::new("cleanup")
        .about("Remove what minionet made in the kernel, and its state")
        .long_about(
            "Remove exactly what is minionet's: the list by which the container runtime finds it, what is left of pods, \
             routes, the device with all that lies on it, the nft table, and the state in /run/minionet and \
             /var/lib/minionet. Kernel settings get the values back that they had, unless somebody changed them since. \
             Refuses while the daemon or pods run.",
        )
        .arg(dry_run())
        .args([
            flag("pods", "Cut off the pods that run"),
            flag("keep-sysctls", "Leave the kernel settings as they are, as where others rely on forwarding"),
            directory("cni-conf-dir", CNI_CONF_DIR, "Where the container runtime looks for networks"),
        ])
}

fn wait() -> Command {
    Command::new("wait")
        .about("Wait until the overlay is formed; for services that need it")
        .long_about(
            "Wait until the overlay is formed and pods can be attached. Returns at once on a host that is no minion. \
             Fails when it takes longer than the timeout, and says why.",
        )
        .arg(flag("always", "Wait also where no file says that the host is a minion, as in a container"))
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("SECONDS")
                .default_value("60")
                .value_parser(value_parser!(u64).range(0..=86400))
                .help("How long to wait at most"),
        )
}

fn settings() -> Command {
    Command::new("settings")
        .about("Print every setting with its default, as a configuration file to start from")
        .arg(flag("markdown", "Print the reference as a document"))
}

fn completions() -> Command {
    Command::new("completions").about("Print the completions for a shell").arg(
        Arg::new("shell")
            .value_name("SHELL")
            .required(true)
            .value_parser(value_parser!(Shell))
            .help("The shell"),
    )
}

fn man() -> Command {
    Command::new("man").about("Write the manual pages into a directory").arg(
        Arg::new("dir")
            .value_name("DIR")
            .required(true)
            .value_parser(value_parser!(PathBuf))
            .help("The directory; made if it is not there"),
    )
}

fn root() -> Arg {
    Arg::new("root")
        .long("root")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .help("The root of an image that is not running [default: this host]")
}

fn dry_run() -> Arg {
    flag("dry-run", "Show what would be done, and do nothing")
}

fn force() -> Arg {
    flag("force", "Replace or remove also what somebody changed")
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn directory(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("DIR").default_value(default).value_parser(absolute).help(help)
}

/// An absolute path without anything that would have to be resolved first.
fn absolute(text: &str) -> Result<String, String> {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    match text.strip_prefix('/') {
        Some(rest) if rest.split('/').all(plain) => Ok(text.to_owned()),
        _ => Err("write an absolute path, as in /opt/cni/bin".to_owned()),
    }
}
