//! The command line, made from the table of settings.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use minionet_core::config::{Layer, SETTINGS};
use minionet_core::constants::{CONFIG_FILE, MINIONS_FILE};

mod service;

/// The whole command line.
pub fn command() -> Command {
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
                     the VTEP. Without an address, this node's own, if the daemon knows it.",
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
        .subcommands(service::commands())
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
        Arg::new(setting.key)
            .long(setting.flag())
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
