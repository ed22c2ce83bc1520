//! What the daemon costs: in memory, in time while nothing happens, and until it has followed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use minionet_core::constants::{DEVICE, RUN_DIR};
use minionet_core::membership::Liveness;
use minionet_core::probe::view::{self, ProbeView};
use netns_testbed::{Fault, Host};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};

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
/// How long a daemon is left alone after its start.
const SETTLED: Duration = Duration::from_secs(4);
/// How long an idle daemon is then watched at a time, and how often: DNS answers once in each, and the
/// tables are audited once in all, ten seconds after the start, and then every minute.
const WINDOW: Duration = Duration::from_secs(5);
const WINDOWS: u32 = 10;
/// How often it writes down its results, for the first time at its start.
const WRITTEN: Duration = Duration::from_secs(120);
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
pub fn idle(bench: &Bench) -> Result<Findings> {
    let crowd = Crowd::lively(&bench.programs, MANY, 5, "refresh_min = \"5s\"")?;
    rest(SETTLED);
    let pid = crowd.pid()?;
    let heard = || -> Result<[usize; 3]> {
        let heard = crowd.neighbours()?.peers.heard()?;
        Ok([heard.small, heard.large, heard.replies])
    };
    let (before, begin) = (heard()?, Instant::now());
    let mut looks = vec![(begin, used(pid)?)];
    for _ in 0..bench.rounds(WINDOWS as usize) {
        rest(WINDOW);
        looks.push((Instant::now(), used(pid)?));
    }
    let (after, watched) = (heard()?, begin.elapsed());
    let rates: [f64; 3] = std::array::from_fn(|i| (after[i] - before[i]) as f64 / watched.as_secs_f64());
    let usual = crowd.neighbours()?.rates;
    // What follows is no steady state if it is not what went on before.
    for ((what, rate), usual) in ["small", "large", "replies"].iter().zip(rates).zip(usual) {
        ensure!((rate / usual - 1.0).abs() < 0.3, "{what}: {rate:.1} a second, and {usual:.1} before");
    }
    let writing = acquainted(&crowd)?;
    let share = |[(start, before), (end, after)]: [(Instant, Duration); 2]| {
        after.saturating_sub(before).as_secs_f64() / (end - start).as_secs_f64()
    };
    let windows: Vec<f64> = looks.windows(2).map(|looks| share([looks[0], looks[1]])).collect();
    // What comes rarely, as an audit, belongs to all: the median is then that of the whole time.
    let mean = share([looks[0], looks[looks.len() - 1]]);
    let rarely = mean - Summary::of(&windows).median + writing.as_secs_f64() / WRITTEN.as_secs_f64();
    let shares: Vec<f64> = windows.iter().map(|window| (window + rarely) * 100.0).collect();
    let [small, large, replies] = rates;
    let idle = Finding::value(
        "of one core, 5000 peers that answer, TTL 5 s, probes on",
        Target::AtMost(0.5),
        "%",
        &shares,
    )
    .beside("requests sent", "a second", &[small + large])
    .beside("of the full size", "a second", &[large])
    .beside("replies sent", "a second", &[replies]);
    Ok(vec![idle].into())
}

/// Stops the daemon, and sees that all peers answer, nearly all of them for longer than it has run. How
/// long it takes to put the results of all into words, which it did not in the time that was watched.
fn acquainted(crowd: &Crowd) -> Result<Duration> {
    crowd.node().kill_daemon(Signal::SIGTERM)?;
    let results = ProbeView::parse(&crowd.node().read(format!("{RUN_DIR}/{}", view::FILE))?)?;
    let answer = || results.peers.iter().filter(|peer| peer.state == Liveness::Alive);
    ensure!(answer().count() == MANY, "of {MANY} peers {} answer", answer().count());
    let run = SETTLED + WINDOW * WINDOWS + PATIENT;
    let old = answer().filter(|peer| results.written.saturating_sub(peer.since) > run.as_secs()).count();
    ensure!(old > MANY * 9 / 10, "{} of {MANY} peers were met anew", MANY - old);
    let before = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    std::hint::black_box(results.to_text());
    Ok((clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)? - before).into())
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
