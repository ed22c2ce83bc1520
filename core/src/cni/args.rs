//! The environment of a call: which verb, for which container and interface, and `CNI_ARGS`.

use std::ffi::OsString;

use thiserror::Error;

use super::error::{Code, Coded};

/// Most octets of an interface name: `IFNAMSIZ` of the kernel (`linux/if.h`) without the NUL.
pub const IFNAME_MAX: usize = 15;

/// What the runtime wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Attach a container.
    Add,
    /// Detach a container.
    Del,
    /// Compare an attachment with what ADD made.
    Check,
    /// Remove attachments that are no longer wanted.
    Gc,
    /// Tell whether an ADD would work.
    Status,
    /// Tell the versions spoken.
    Version,
}

impl Verb {
    /// The value of `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
            Verb::Check => "CHECK",
            Verb::Gc => "GC",
            Verb::Status => "STATUS",
            Verb::Version => "VERSION",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all = [Verb::Add, Verb::Del, Verb::Check, Verb::Gc, Verb::Status, Verb::Version];
        all.into_iter().find(|v| v.as_str() == text)
    }

    /// Whether the verb is about one attachment, named by container and interface.
    pub fn names_attachment(self) -> bool {
        matches!(self, Verb::Add | Verb::Del | Verb::Check)
    }

    fn needs_netns(self) -> bool {
        matches!(self, Verb::Add | Verb::Check)
    }
}

/// The checked environment of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// `CNI_COMMAND`.
    pub verb: Verb,
    /// `CNI_CONTAINERID`; checked, and empty only for verbs that name no attachment.
    pub container: String,
    /// `CNI_IFNAME`; checked, and empty only for verbs that name no attachment.
    pub ifname: String,
    /// `CNI_NETNS` verbatim; empty when there is none.
    pub netns: String,
    /// `CNI_ARGS`, not yet read; see [`CniArgs::parse`].
    pub args: String,
}

/// Why an environment is refused.
#[derive(Debug, Error)]
pub enum ArgsError {
    /// `CNI_COMMAND` is missing: somebody started the plugin by hand.
    #[error("required env variables [CNI_COMMAND] missing")]
    NoCommand,
    /// A verb that the specification does not have.
    #[error("unknown CNI_COMMAND: {found}")]
    UnknownCommand {
        /// The value found.
        found: String,
    },
    /// Variables are missing or empty.
    #[error("required env variables [{}] missing", .names.join(","))]
    Missing {
        /// Their names.
        names: Vec<&'static str>,
    },
    /// A value that is not UTF-8.
    #[error("{name} is not valid UTF-8")]
    NotText {
        /// The variable.
        name: &'static str,
    },
    /// A container id with other characters than the specification allows.
    #[error(
        "invalid characters in CNI_CONTAINERID: it must begin with a letter or digit and go on with letters, digits, '_', '.', '-'"
    )]
    ContainerId {
        /// The value found.
        found: String,
    },
    /// A name that the kernel would not take for an interface.
    #[error("invalid CNI_IFNAME {found:?}: {problem}")]
    Ifname {
        /// The value found.
        found: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// `CNI_ARGS` is not a list of `KEY=VALUE`.
    #[error("CNI_ARGS: invalid pair {pair:?}: write KEY=VALUE;KEY=VALUE")]
    Pair {
        /// The piece found.
        pair: String,
    },
    /// `CNI_ARGS` has a key that is not known, and not `IgnoreUnknown=1`.
    #[error("CNI_ARGS: unknown args [{}]: add IgnoreUnknown=1 to have them ignored", .pairs.join(" "))]
    UnknownArgs {
        /// The pairs found.
        pairs: Vec<String>,
    },
}

impl Coded for ArgsError {
    fn code(&self) -> Code {
        Code::InvalidEnvironment
    }

    fn details(&self) -> Option<String> {
        match self {
            ArgsError::ContainerId { found } => Some(format!("CNI_CONTAINERID={found}")),
            _ => None,
        }
    }
}

impl Invocation {
    /// Reads and checks the environment; `var` looks a variable up. Empty means absent.
    ///
    /// # Errors
    /// [`ArgsError`]; every missing variable is named at once.
    pub fn from_env(var: impl Fn(&str) -> Option<OsString>) -> Result<Self, ArgsError> {
        let text = |name: &'static str| {
            let value = var(name).unwrap_or_default();
            value.into_string().map_err(|_| ArgsError::NotText { name })
        };
        let command = text("CNI_COMMAND")?;
        if command.is_empty() {
            return Err(ArgsError::NoCommand);
        }
        let Some(verb) = Verb::parse(&command) else {
            return Err(ArgsError::UnknownCommand { found: command });
        };
        if verb == Verb::Version {
            // Runtimes fill the rest with anything ("dummy").
            return Ok(Invocation {
                verb,
                container: String::new(),
                ifname: String::new(),
                netns: String::new(),
                args: String::new(),
            });
        }
        // What a verb has no use for is not judged: above all, it cannot keep a container from being
        // removed.
        let where_used = |used: bool, name: &'static str| match used {
            true => text(name),
            false => Ok(var(name).unwrap_or_default().to_string_lossy().into_owned()),
        };
        let named = verb.names_attachment();
        let invocation = Invocation {
            verb,
            container: where_used(named, "CNI_CONTAINERID")?,
            ifname: where_used(named, "CNI_IFNAME")?,
            netns: where_used(verb.needs_netns(), "CNI_NETNS")?,
            args: where_used(verb == Verb::Add, "CNI_ARGS")?,
        };
        invocation.check()?;
        Ok(invocation)
    }

    fn check(&self) -> Result<(), ArgsError> {
        let mut names = Vec::new();
        if self.verb.names_attachment() && self.container.is_empty() {
            names.push("CNI_CONTAINERID");
        }
        if self.verb.needs_netns() && self.netns.is_empty() {
            names.push("CNI_NETNS");
        }
        if self.verb.names_attachment() && self.ifname.is_empty() {
            names.push("CNI_IFNAME");
        }
        if !names.is_empty() {
            return Err(ArgsError::Missing { names });
        }
        if self.verb.names_attachment() {
            if !is_identifier(&self.container) {
                return Err(ArgsError::ContainerId { found: self.container.clone() });
            }
            if let Some(problem) = ifname_problem(&self.ifname) {
                return Err(ArgsError::Ifname { found: self.ifname.clone(), problem });
            }
        }
        Ok(())
    }
}

/// Whether a text is `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`, as container ids and network names must be.
pub fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// What is wrong with an interface name, after `dev_valid_name` in the kernel's
/// `net/core/dev.c`, and after `__dev_alloc_name` there, which makes `eth0` of `eth%d`.
pub fn ifname_problem(name: &str) -> Option<&'static str> {
    if name.len() > IFNAME_MAX {
        Some("interface name is too long: at most 15 octets")
    } else if name == "." || name == ".." {
        Some("interface name is . or ..")
    } else if name.contains(['/', ':']) || name.contains(char::is_whitespace) {
        Some("interface name contains / or : or whitespace characters")
    } else if name.contains('%') {
        Some("interface name contains %, which the kernel replaces by a number")
    } else {
        None
    }
}

/// What `CNI_ARGS` may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniArgs {
    /// `IP`: requested addresses, as written.
    pub ip: Option<String>,
    /// `MAC`: requested MAC, as written.
    pub mac: Option<String>,
    /// `K8S_POD_NAMESPACE` and `K8S_POD_NAME`, joined by a slash.
    pub pod: Option<String>,
}

impl CniArgs {
    /// Reads `KEY=VALUE;KEY=VALUE`. Only ADD does: a bad value must not keep a pod from being
    /// removed.
    ///
    /// # Errors
    /// [`ArgsError`] for a piece that is no pair, or a key that is unknown when the caller did
    /// not ask for unknown keys to be ignored.
    pub fn parse(text: &str) -> Result<Self, ArgsError> {
        let mut args = CniArgs::default();
        if text.is_empty() {
            return Ok(args);
        }
        let (mut namespace, mut name) = (None, None);
        let (mut ignore, mut unknown) = (false, Vec::new());
        for pair in text.split(';') {
            let parts: Vec<_> = pair.split('=').collect();
            let [key, value] = parts[..] else {
                return Err(ArgsError::Pair { pair: pair.to_owned() });
            };
            match key {
                "IP" => args.ip = Some(value.to_owned()),
                "MAC" => args.mac = Some(value.to_owned()),
                "K8S_POD_NAMESPACE" => namespace = Some(value),
                "K8S_POD_NAME" => name = Some(value),
                "K8S_POD_INFRA_CONTAINER_ID" | "K8S_POD_UID" => {}
                "IgnoreUnknown" => ignore = value == "1" || value.eq_ignore_ascii_case("true"),
                _ => unknown.push(pair.to_owned()),
            }
        }
        if !unknown.is_empty() && !ignore {
            return Err(ArgsError::UnknownArgs { pairs: unknown });
        }
        args.pod = namespace.zip(name).map(|(namespace, name)| format!("{namespace}/{name}"));
        Ok(args)
    }
}

#[cfg(test)]
mod tests;
