//! The rows of the table, as data.

mod add;
mod answers;
mod daemon;
mod del;
mod dual;
mod first;
mod join;
mod leases;
mod parallel;
mod path;
mod peers;

use anyhow::Result;

use crate::finding::Findings;
use crate::programs::Programs;

/// What the rows need beside the project's own programs, and the Debian packages that have it.
pub const NEEDS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("iperf3", "iperf3"),
];

/// What a row has to work with.
pub struct Bench {
    /// The programs that are measured.
    pub programs: Programs,
    /// By how much fewer samples are taken than for a result.
    pub quick: bool,
}

impl Bench {
    /// How many samples to take: so many, or a few while trying things out.
    pub fn rounds(&self, rounds: usize) -> usize {
        if self.quick { (rounds / 5).max(2) } else { rounds }
    }
}

/// A row of the table.
pub struct Row {
    /// For `--only`.
    pub name: &'static str,
    /// What it measures.
    pub what: &'static str,
    /// Measures it.
    pub run: fn(&Bench) -> Result<Findings>,
}

/// The table.
pub const ROWS: &[Row] = &[
    Row { name: "add", what: "ADD, whole process, one at a time", run: add::run },
    Row { name: "leases", what: "ADD with more and more leases held", run: leases::run },
    Row { name: "parallel", what: "100 and 500 ADDs in parallel", run: parallel::run },
    Row { name: "dual", what: "ADD of both families", run: dual::run },
    Row { name: "del", what: "DEL, whole process, one at a time", run: del::run },
    Row { name: "drain", what: "draining 110 pods, 8 at a time", run: del::drain },
    Row { name: "answers", what: "VERSION and STATUS", run: answers::run },
    Row { name: "first", what: "the first packet after ADD", run: first::run },
    Row { name: "program", what: "programming peers from nothing", run: peers::program },
    Row { name: "audit", what: "an audit with nothing to do", run: peers::audit },
    Row { name: "change", what: "one peer that changes", run: daemon::change },
    Row { name: "memory", what: "memory of the daemon", run: daemon::memory },
    Row { name: "idle", what: "processor time of an idle daemon", run: daemon::idle },
    Row { name: "join", what: "joining 50 minions", run: join::run },
    Row { name: "tcp", what: "pod to pod across nodes, one TCP stream", run: path::one },
    Row { name: "tcp8", what: "pod to pod across nodes, eight TCP streams", run: path::eight },
    Row { name: "latency", what: "request and response across nodes", run: path::requests },
    Row { name: "plain", what: "without encapsulation, one TCP stream", run: path::plain_one },
    Row { name: "plain8", what: "without encapsulation, eight TCP streams", run: path::plain_eight },
    Row { name: "pps", what: "64-byte UDP across nodes", run: path::small },
    Row { name: "size", what: "sizes of the binaries", run: daemon::size },
    Row { name: "start", what: "start-up with cached answers", run: daemon::start },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rows_have_the_same_name() {
        let mut names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
    }
}
