//! What the daemon costs: in memory, in time while nothing happens, and until it has followed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use minionet_core::constants::DEVICE;
use netns_testbed::{Fault, Host};
use nix::sys::signal::Signal;

use super::{Bench, peers};
use crate::arrivals::Arrivals;
use crate::crowd::{self, Crowd};
use crate::finding::{Finding, Findings, Plot, Series, Target};
use crate::measure::{ms, rest, until};
use crate::raw::{self, Raw, Routes};
use crate::stats::{Summary, ratios};

/// Few peers and many.
const FEW: usize = 100;
const MANY: usize = 5000;
/// How often a peer is added.
const CHANGES: usize = 15;
/// How often the daemon is started.
const STARTS: usize = 10;
/// How long an idle daemon is watched at a time: the tables are audited once within it.
const WATCHED: Duration = Duration::from_secs(60);
/// How long it may take until all peers are known.
const ACQUAINTED: Duration = Duration::from_secs(300);
/// How long anything may take.
const PATIENT: Duration = Duration::from_secs(20);

/// The row of one peer that changes. The time begins when the last octet of the last answer has reached
/// the minion; what lies between that and the first octet that is sent stands beside it.
pub fn change(bench: &Bench) -> Result<Findings> {
    let (mut samples, mut under_way) = (Vec::new(), Vec::new());
    let counts = [FEW, 1000, MANY];
    for peers in counts {
        let crowd = Crowd::start(&bench.programs, peers, 1, "")?;
        let mut routes = Routes::listen(crowd.node())?;
        let mut arrivals = Arrivals::watch(crowd.node())?;
        let (mut taken, mut on_the_way) = (Vec::new(), Vec::new());
        for round in 0..=bench.rounds(CHANGES) {
            crowd.publish(peers + round + 1)?;
            let appeared = routes.appears(Some(crowd::pods(peers + round)), PATIENT)?;
            let sent = crowd.cluster().dns().last_answer().context("DNS never answered")?;
            let received = arrivals.last_before(appeared)?;
            if round > 0 {
                taken.push(ms(appeared.saturating_duration_since(received)));
                on_the_way.push(ms(received.saturating_duration_since(sent)));
            }
        }
        samples.push(taken);
        under_way.push(on_the_way);
    }
    let last = samples.len() - 1;
    let value = Finding::value(
        "among 5000: from the answer to the kernel",
        Target::AtMost(10.0),
        "ms",
        &samples[last],
    )
    .beside("before that, the way of the answer", "ms", &under_way[last])
    .beside("among 100", "ms", &under_way[0]);
    let (few, many) = (bare_changes(bench, FEW)?, bare_changes(bench, MANY)?);
    let ratio = Finding::ratio(
        "among 5000 against among 100",
        Target::AtMost(2.0),
        "ms",
        ("5000", &samples[last]),
        ("100", &samples[0]),
    )
    .with_floor("the same messages alone, sent to the kernel", &ratios(&many, &few));
    let points = counts.iter().zip(&samples).map(|(n, s)| (*n as f64, Summary::of(s))).collect();
    let plot = Plot {
        name: "change",
        title: "One peer more: from the DNS answer to the kernel".into(),
        x: "peers",
        y: "ms",
        series: vec![Series { name: "minionetd".into(), points }],
    };
    Ok(Findings { findings: vec![value, ratio], plots: vec![plot] })
}

/// The least that it can take: the messages that lead to one peer more, in one datagram, sent to a
/// kernel that holds so many.
fn bare_changes(bench: &Bench, peers: usize) -> Result<Vec<f64>> {
    let host = Host::new("changed")?;
    let device = peers::hold(&host, peers)?;
    let mut raw = Raw::open(&host)?;
    let mut taken = Vec::new();
    for number in peers..=peers + bench.rounds(CHANGES) {
        let datagrams = raw::datagrams(device, &[peers::place(number)?]);
        let start = Instant::now();
        datagrams.iter().try_for_each(|datagram| raw.send(datagram))?;
        taken.push(ms(start.elapsed()));
    }
    // The first one finds nothing in the caches.
    Ok(taken.split_off(1))
}

/// The row of memory.
pub fn memory(bench: &Bench) -> Result<Findings> {
    let mut findings = Vec::new();
    let mut points = Vec::new();
    for (peers, most) in [(FEW, Some(10.0)), (1000, None), (MANY, Some(20.0))] {
        let crowd = Crowd::start(&bench.programs, peers, 1, "")?;
        // A few rounds of lookups and audits: what is needed once more is counted then.
        let before = crowd.cluster().dns().queries();
        until("more lookups", PATIENT, || {
            let now = crowd.cluster().dns().queries();
            Ok(now.udp + now.tcp > before.udp + before.tcp + 12)
        })?;
        let resident = resident(crowd.pid()?)?;
        points.push((peers as f64, Summary::of(&[resident])));
        let target = most.map_or(Target::None, Target::AtMost);
        findings.push(Finding::value(&format!("RSS with {peers} peers"), target, "MiB", &[resident]));
    }
    let plot = Plot {
        name: "memory",
        title: "Memory of the daemon".into(),
        x: "peers",
        y: "MiB",
        series: vec![Series { name: "minionetd".into(), points }],
    };
    Ok(Findings { findings, plots: vec![plot] })
}

/// MiB of a process in memory.
fn resident(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the daemon's memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line.and_then(|line| line.trim().strip_suffix(" kB")).context("VmRSS")?.trim().parse()?;
    Ok(kib / 1024.0)
}

/// The row of the daemon that has nothing to do: all its peers are known, answer, and ask as it does.
///
/// What comes before is measured beside it: every peer is new, and asked three times.
pub fn idle(bench: &Bench) -> Result<Findings> {
    let crowd = Crowd::lively(&bench.programs, MANY, 5, "refresh_min = \"5s\"")?;
    let neighbours = crowd.neighbours()?;
    let pid = crowd.pid()?;
    let share = |wait: &dyn Fn() -> Result<()>| -> Result<f64> {
        let (start, before) = (Instant::now(), used(pid)?);
        wait()?;
        let spent = used(pid)?.saturating_sub(before);
        Ok(spent.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0)
    };
    let met = share(&|| {
        let all = || Ok(neighbours.heard()?.large >= MANY);
        until("every peer to get packets of the full size", ACQUAINTED, all)
    })?;
    let mut shares = Vec::new();
    let before = neighbours.heard()?;
    let watch = || {
        rest(WATCHED);
        Ok(())
    };
    for _ in 0..if bench.quick { 1 } else { 2 } {
        shares.push(share(&watch)?);
    }
    let after = neighbours.heard()?;
    let watched = WATCHED.as_secs_f64() * shares.len() as f64;
    let rate = |before: usize, after: usize| (after - before) as f64 / watched;
    let asked = rate(before.small + before.large, after.small + after.large);
    ensure!(asked > 0.0, "nobody was asked");
    let replies = rate(before.replies, after.replies);
    let idle = Finding::value(
        "of one core, 5000 peers that answer, TTL 5 s, probes on",
        Target::AtMost(0.5),
        "%",
        &shares,
    )
    .beside("requests sent", "a second", &[asked])
    .beside("replies sent", "a second", &[replies]);
    let met = Finding::value("while all 5000 are new", Target::None, "%", &[met]);
    Ok(vec![idle, met].into())
}

/// The processor time of all threads of a process (proc_pid_schedstat(5)).
fn used(pid: u32) -> Result<Duration> {
    let mut all = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let nanoseconds = text.split(' ').next().unwrap_or_default().parse()?;
        all += Duration::from_nanos(nanoseconds);
    }
    Ok(all)
}

/// The row of starting.
pub fn start(bench: &Bench) -> Result<Findings> {
    let mut findings = Vec::new();
    for (peers, target) in [(FEW, Target::AtMost(100.0)), (MANY, Target::None)] {
        let crowd = Crowd::start(&bench.programs, peers, 1, "")?;
        until("the peers to be saved", PATIENT, || {
            Ok(crowd.node().exists("/var/lib/minionet/peers.json")?)
        })?;
        crowd.cluster().dns().set_fault(Fault::Timeout);
        let mut taken = Vec::new();
        for _ in 0..bench.rounds(STARTS) {
            crowd.node().kill_daemon(Signal::SIGKILL)?;
            // As after a reboot: the kernel knows nothing, and DNS does not answer.
            crowd.node().ip(&format!("link del {DEVICE}"))?;
            let mut routes = Routes::listen(crowd.node())?;
            let start = Instant::now();
            crowd.node().start_daemon()?;
            taken.push(ms(routes.appears(None, PATIENT)?.saturating_duration_since(start)));
        }
        let what = format!("from the start to the first of {peers} cached peers, DNS silent");
        findings.push(Finding::value(&what, target, "ms", &taken));
    }
    Ok(findings.into())
}

/// The row of the binaries' sizes.
pub fn size(bench: &Bench) -> Result<Findings> {
    let size = |name: &str| -> Result<f64> { megabytes(&bench.programs.path(name)) };
    let plugin = size("minionet")?;
    ensure!(plugin > 0.0, "the plugin is empty");
    let plugin = Finding::value("the plugin", Target::AtMost(2.5), "MB", &[plugin]).beside(
        "empty static program",
        "MB",
        &[size("minionet-empty")?],
    );
    let daemon = Finding::value("the daemon", Target::None, "MB", &[size("minionetd")?]);
    Ok(vec![plugin, daemon].into())
}

fn megabytes(path: &Path) -> Result<f64> {
    Ok(fs::metadata(path).with_context(|| format!("look at {}", path.display()))?.len() as f64 / 1e6)
}
