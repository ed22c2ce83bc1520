//! The command line, made from the table of settings.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use minionet_core::config::{Layer, SETTINGS, Shape};
use minionet_core::constants::{CONFIG_FILE, MINIONS_FILE};

use crate::status;

mod service;

/// The whole command line.
pub fn command() -> Command {
    diagnosis(base())
}

fn base() -> Command {
    Command::new("minionetd")
        .version(env!("CARGO_PKG_VERSION"))
        .about("The overlay daemon of minionet: a pod network whose only control plane is DNS")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(
            Command::new("run")
                .about("Discover the minions of the cluster and keep the overlay right")
                .long_about(format!(
                    "Discover the minions of the cluster by DNS and keep the kernel's tables right.\n\n\
                     Every setting can be given as a flag, as a variable in the environment, or as a key in \
                     {CONFIG_FILE}; flags win over variables, and those over the file. With CLUSTER_NAME alone, as in \
                     {MINIONS_FILE}, everything else has a default."
                )),
        ))
        .subcommand(with_settings(
            Command::new("plan")
                .about("Print what a node gets: pod CIDR, gateway, MAC")
                .long_about(
                    "Print what nodes get, computed from their addresses alone: index, pod CIDRs, gateways and the MAC of \
                     the VTEP. Without an address, this node's own, if the daemon knows it.\n\n\
                     Exit status: 0 printed, 1 not possible, as for an address outside of the plan, 2 called wrongly.",
                )
                .arg(
                    Arg::new("address")
                        .value_name("ADDRESS")
                        .num_args(0..)
                        .value_parser(value_parser!(std::net::IpAddr))
                        .help("Addresses of nodes, or of pods (then the node that owns them)"),
                )
                .arg(
                    Arg::new("all")
                        .long("all")
                        .action(ArgAction::SetTrue)
                        .conflicts_with("address")
                        .help("Every node that the plan has room for"),
                )
                .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON")),
        ))
        .subcommand(status::with_options(
            Command::new("status")
                .about("Show how this node's overlay is: warnings, node, DNS, peers, pods, repairs")
                .long_about(
                    "Show how this node's overlay is: warnings, node, DNS, peers, pods, repairs. What the kernel holds is \
                     read back from it. Where the daemon is down, what it left is shown.\n\n\
                     The exit status is 0 if all is well, 3 if something needs attention, 4 if the overlay does not work \
                     or nobody looks after it, 1 if that could not be found out, and 2 if the command was called wrongly.",
                ),
        ))
        .subcommand(status::with_options(
            Command::new("peers").about("Show all peers of this node, those with a problem first").long_about(
                "Show all peers of this node, those with a problem first. Nothing is judged: the exit status is 0, 1 if \
                 they could not be found out, and 2 if the command was called wrongly.",
            ),
        ))
        .subcommand(status::with_options(
            Command::new("pods")
                .about("Show the pods of this node with their addresses, host ports and limits")
                .long_about(
                    "Show the pods of this node with their addresses, host ports and limits. Nothing is judged: the exit \
                     status is 0, 1 if they could not be found out, and 2 if the command was called wrongly.",
                ),
        ))
        .subcommand(with_settings(
            Command::new("deregister")
                .about("Take this node, or a dead one, out of DNS")
                .long_about(
                    "Remove this node's record from DNS by a dynamic update, as it leaves the cluster: the others forget \
                     it after their hold-down. The daemon does not register it again until the machine is started \
                     anew, or `minionetd register` was called. With addresses, remove the records of other nodes.",
                )
                .arg(
                    Arg::new("address")
                        .value_name("ADDRESS")
                        .num_args(0..)
                        .value_parser(value_parser!(std::net::IpAddr))
                        .help("Addresses of nodes that are gone [default: this node]"),
                ),
        ))
        .subcommand(with_settings(
            Command::new("register")
                .about("Let this node register itself again after `minionetd deregister`"),
        ))
        .subcommands(service::commands())
}

/// What is wrong, and where packets get lost.
fn diagnosis(command: Command) -> Command {
    let json = || Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON");
    command
        .subcommand(with_settings(
            Command::new("doctor")
                .about("Examine this node, and say what is wrong and what to do")
                .long_about(
                    "Examine this node and its way to the others: one line for each check, with what was found and \
                     what to do. Works with the daemon up, down, or never started.\n\n\
                     Exit status: 0 nothing is wrong, 3 there are warnings, 4 there are errors; 1 and 2 when the \
                     examination itself fails.",
                )
                .arg(
                    Arg::new("cni-bin-dir")
                        .long("cni-bin-dir")
                        .value_name("DIR")
                        .value_parser(value_parser!(PathBuf))
                        .default_value("/opt/cni/bin")
                        .help("Where the container runtime has its CNI plugins"),
                )
                .arg(
                    Arg::new("all")
                        .long("all")
                        .action(ArgAction::SetTrue)
                        .help("Print also what is well, and what does not apply here"),
                )
                .arg(json()),
        ))
        .subcommand(with_settings(
            Command::new("trace")
                .about("Follow a packet to a pod or a node, and say where it is lost")
                .long_about(
                    "Follow marked packets to a pod, or to the VTEP of a node, by the way of the pods' packets: which \
                     interfaces they come by on both nodes, and which hop loses them. Needs root.\n\n\
                     Exit status: 0 all answers came, 4 some or all were lost; 1 and 2 when there is no trace.",
                )
                .arg(
                    Arg::new("address")
                        .value_name("ADDRESS")
                        .required(true)
                        .value_parser(value_parser!(std::net::IpAddr))
                        .help("Address of a pod, or of a node"),
                )
                .arg(json()),
        ))
}

fn with_settings(command: Command) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help(format!("Configuration file [default: {CONFIG_FILE}, if it is there]"));
    let flags = SETTINGS.iter().map(|setting| {
        let default = match setting.default {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        let arg = Arg::new(setting.key);
        let arg = match setting.shape {
            // `--register` alone means yes; what follows is another word.
            Shape::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
            Shape::One | Shape::Many => arg,
        };
        arg.long(setting.flag())
            .value_name(setting.value)
            .help_heading("Settings")
            .action(ArgAction::Append)
            .help(format!("{}{default} [env: {}]", setting.help, setting.env))
    });
    command.arg(config).args(flags)
}

/// The settings given as flags.
pub fn flags(matches: &ArgMatches) -> Layer {
    let given = SETTINGS.iter().filter_map(|setting| {
        let values = matches.get_many::<String>(setting.key)?;
        Some((setting.key, values.cloned().collect()))
    });
    Layer::from_flags(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_setting_is_a_flag() {
        for setting in SETTINGS {
            let flag = format!("--{}=x", setting.flag());
            assert!(command().try_get_matches_from(["minionetd", "run", &flag]).is_ok(), "{flag}");
        }
    }
}
