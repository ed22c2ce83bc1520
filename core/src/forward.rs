//! What other tools' rules make of forwarded packets.
//!
//! Pods' packets are forwarded by their node, and a tool that drops whatever is forwarded and not
//! its own (Docker sets such a policy) cuts pods off. Another tool's rules are not ours to change,
//! so this is told, with the rules that help. [`judge`] decides by the rules as they are written:
//! a chain is no obstacle where its rules surely accept all packets from and to pods. What it
//! cannot follow (sets, connection states, marks) it takes for no help, so it may warn where
//! nothing is wrong; it is silent only where it can tell.

mod expr;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::expr::{network, prefix, rule};
use crate::addr::{Cidr, Family};
use crate::cni::attachment::HOST_IFNAME_PREFIX;

/// Longest sequence of jumps that is followed, as in the kernel (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;

/// Most rules that are followed for one chain; what lies beyond counts as unknown.
const BUDGET: usize = 10_000;

/// The chain that Docker leaves to the operator: it comes before all of Docker's own rules.
const DOCKER_USER: &str = "DOCKER-USER";

/// Whose rules they are, as far as it matters for the commands that change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// nftables, `iptables-nft` included.
    Nft,
    /// The kernel's older tables, `iptables-legacy`.
    Legacy,
}

/// The family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableFamily {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Both.
    Inet,
}

impl TableFamily {
    /// nft's name of it.
    pub fn name(self) -> &'static str {
        match self {
            TableFamily::Ip => "ip",
            TableFamily::Ip6 => "ip6",
            TableFamily::Inet => "inet",
        }
    }

    /// Whether packets of an address family go through it.
    pub fn has(self, family: Family) -> bool {
        match self {
            TableFamily::Ip => family == Family::V4,
            TableFamily::Ip6 => family == Family::V6,
            TableFamily::Inet => true,
        }
    }
}

/// A condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// The source lies in this network.
    From(Cidr),
    /// The destination does.
    To(Cidr),
    /// The name of the interface that the packet came in by is this, or, with `true`, begins so.
    In(String, bool),
    /// The same of the interface that it leaves by.
    Out(String, bool),
    /// It is a packet of this family.
    Family(Family),
    /// Anything else.
    Unknown,
}

/// What a rule does with a packet that fulfils its conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Lets it pass.
    Accept,
    /// Drops or rejects it.
    Drop,
    /// Goes back to the calling chain, or to the policy.
    Return,
    /// Goes on in another chain of the table, and comes back.
    Jump(String),
    /// Goes on in another chain of the table for good.
    Goto(String),
    /// Counts, marks, logs: the next rule goes on.
    Nothing,
    /// Something that this module does not know.
    Unknown,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its conditions; all must hold.
    pub tests: Vec<Test>,
    /// What it does.
    pub action: Action,
}

/// A table of another tool, as far as forwarded packets go through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Whose it is.
    pub backend: Backend,
    /// Its family.
    pub family: TableFamily,
    /// Its name.
    pub name: String,
    /// The chains at the forward hook, and whether their policy is to drop.
    pub hooked: BTreeMap<String, bool>,
    /// The rules of those chains, and of those that they lead to.
    pub chains: BTreeMap<String, Vec<Rule>>,
}

/// A chain of another tool that drops what is forwarded, unless a rule of its accepts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardPolicy {
    /// Whose rules they are.
    pub backend: Backend,
    /// The family of the table.
    pub family: TableFamily,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Whether its rules surely accept all packets from and to pods, so that nothing is wrong.
    pub open: bool,
    /// The commands that make it so.
    pub remedy: Vec<String>,
}

impl ForwardPolicy {
    /// The chain by name, such as `table ip filter, chain FORWARD`.
    pub fn place(&self) -> String {
        let tool = match self.backend {
            Backend::Nft => "",
            Backend::Legacy => " (iptables-legacy)",
        };
        format!("table {} {}, chain {}{tool}", self.family.name(), self.table, self.chain)
    }

    /// What is wrong and what to do, in one line; nothing where nothing is wrong.
    pub fn warning(&self) -> Option<String> {
        (!self.open).then(|| {
            format!(
                "{} of another program drops what is forwarded, so pods may not reach each other or the \
                 outside; to accept pods' packets there: {}",
                self.place(),
                self.remedy.join("; ")
            )
        })
    }
}

/// The chains of these tables that drop what is forwarded, by policy or by a last rule for
/// everything; `pods` are the pod networks.
pub fn judge(tables: &[Table], pods: &[Cidr]) -> Vec<ForwardPolicy> {
    let mut found = Vec::new();
    for table in tables {
        let concerned: Vec<&Cidr> = pods.iter().filter(|p| table.family.has(p.family())).collect();
        if concerned.is_empty() {
            continue;
        }
        for (chain, drops) in &table.hooked {
            let passes: Vec<Passage> =
                concerned.iter().map(|pods| Passage::through(table, chain, pods)).collect();
            if !drops && passes.iter().all(|passage| !passage.dropped) {
                continue;
            }
            found.push(ForwardPolicy {
                backend: table.backend,
                family: table.family,
                table: table.name.clone(),
                chain: chain.clone(),
                open: passes.iter().all(|passage| passage.from && passage.to),
                remedy: concerned.iter().flat_map(|pods| remedy(table, chain, pods)).collect(),
            });
        }
    }
    found
}

/// The commands that let packets from and to pods pass a chain.
fn remedy(table: &Table, chain: &str, pods: &Cidr) -> [String; 2] {
    // What iptables-nft makes is in the table "filter" of the families ip and ip6, and is changed
    // by iptables: by nft it would be gone with the next change of that program.
    let iptables = table.name == "filter" && chain == "FORWARD" && table.family != TableFamily::Inet;
    if !iptables {
        let family = table.family.name();
        let protocol = if pods.family() == Family::V4 { "ip" } else { "ip6" };
        return ["saddr", "daddr"].map(|side| {
            format!("nft insert rule {family} {} {chain} {protocol} {side} {pods} accept", table.name)
        });
    }
    let program = if pods.family() == Family::V4 { "iptables" } else { "ip6tables" };
    // By its full name: which of the two "iptables" is, differs from host to host.
    let variant = if table.backend == Backend::Legacy { "legacy" } else { "nft" };
    let place = if table.chains.contains_key(DOCKER_USER) { DOCKER_USER } else { chain };
    ["-s", "-d"].map(|side| format!("{program}-{variant} -I {place} {side} {pods} -j ACCEPT"))
}

/// Which packets are surely accepted by the rules of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Passage {
    /// All packets from pods.
    from: bool,
    /// All packets to pods.
    to: bool,
    /// Whether a rule drops everything that comes as far, some of the above among it.
    dropped: bool,
    /// How many more rules are looked at.
    budget: usize,
}

/// What becomes of the packets that came into a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The calling chain goes on with all that were not decided about.
    Back,
    /// All were decided about.
    Decided,
    /// Not all of those that were not decided about are seen by the rules that follow.
    Unclear,
}

impl Passage {
    fn through(table: &Table, chain: &str, pods: &Cidr) -> Self {
        let mut passage = Passage { from: false, to: false, dropped: false, budget: BUDGET };
        passage.walk(table, chain, pods, &[], DEPTH);
        passage
    }

    /// Follows the rules of a chain that all packets with these properties come to.
    fn walk(&mut self, table: &Table, chain: &str, pods: &Cidr, known: &[Test], depth: usize) -> End {
        let Some(depth) = depth.checked_sub(1) else { return End::Unclear };
        for rule in table.chains.get(chain).into_iter().flatten() {
            let Some(budget) = self.budget.checked_sub(1) else { return End::Unclear };
            self.budget = budget;
            if rule.tests.contains(&Test::Family(other(pods.family()))) {
                continue;
            }
            let mut tests: Vec<Test> = known.to_vec();
            tests.extend(rule.tests.iter().filter(|test| !is_everything(test, pods)).cloned());
            let all = tests.len() == known.len();
            let end = match &rule.action {
                Action::Accept => {
                    self.from |= tests.iter().all(|test| holds_from(test, pods));
                    self.to |= tests.iter().all(|test| holds_to(test, pods));
                    End::Decided
                }
                Action::Drop => {
                    // A drop under conditions is somebody's decision about those packets.
                    self.dropped |= tests.is_empty() && !(self.from && self.to);
                    End::Decided
                }
                Action::Jump(to) => match self.walk(table, to, pods, &tests, depth) {
                    End::Back => continue,
                    end => end,
                },
                Action::Goto(to) if all => return self.walk(table, to, pods, &tests, depth),
                Action::Return if all => return End::Back,
                Action::Goto(_) | Action::Return | Action::Unknown => End::Unclear,
                Action::Nothing => continue,
            };
            if all || end == End::Unclear {
                return end;
            }
        }
        End::Back
    }
}

fn other(family: Family) -> Family {
    match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    }
}

fn covers(network: &Cidr, pods: &Cidr) -> bool {
    network.prefix_len() <= pods.prefix_len() && network.contains(pods.network())
}

/// Whether a condition holds for all packets of the family.
fn is_everything(test: &Test, pods: &Cidr) -> bool {
    match test {
        Test::From(network) | Test::To(network) => network.is_default() && network.family() == pods.family(),
        Test::In(name, prefix) | Test::Out(name, prefix) => *prefix && name.is_empty(),
        Test::Family(family) => *family == pods.family(),
        Test::Unknown => false,
    }
}

/// Whether a condition holds for all packets from pods of this node.
fn holds_from(test: &Test, pods: &Cidr) -> bool {
    match test {
        Test::From(network) => covers(network, pods),
        Test::In(name, prefix) => *prefix && HOST_IFNAME_PREFIX.starts_with(name),
        _ => false,
    }
}

/// Whether a condition holds for all packets to pods of this node.
fn holds_to(test: &Test, pods: &Cidr) -> bool {
    match test {
        Test::To(network) => covers(network, pods),
        Test::Out(name, prefix) => *prefix && HOST_IFNAME_PREFIX.starts_with(name),
        _ => false,
    }
}
