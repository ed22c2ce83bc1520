//! The daemon, and the clock.

use super::Findings;
use super::facts::Facts;

/// How far a file may be ahead of the clock, in seconds: that of a clock being set.
const AHEAD: u64 = 60;

/// 2025-01-01T00:00:00Z: no program of this kind is older, so no clock that is right is.
const EPOCH: u64 = 1_735_689_600;

/// Judges the daemon and the clock.
pub fn examine(facts: &Facts, findings: &mut Findings) {
    daemon(facts, findings);
    clock(facts, findings);
}

fn daemon(facts: &Facts, findings: &mut Findings) {
    let daemon = &facts.daemon;
    if !daemon.lives {
        let (text, remedy) = match daemon.ever {
            true => (
                "minionetd does not run, or hangs: the overlay stays as it is, and changes among peers are not followed",
                "systemctl restart minionetd; journalctl -u minionetd says why it ended",
            ),
            false => (
                "minionetd has never run here: there is no overlay",
                "systemctl enable --now minionetd; journalctl -u minionetd",
            ),
        };
        findings.error("daemon", text, remedy);
        return;
    }
    if let Some(health) = &daemon.health {
        for trouble in health.troubles_at(daemon.uptime) {
            findings.error(
                "daemon",
                format!("minionetd says: {trouble}"),
                "do what it says; it goes on by itself (journalctl -u minionetd)",
            );
        }
    }
    if let Some(version) = daemon.version.as_ref().filter(|version| **version != facts.version) {
        findings.warning(
            "daemon",
            format!("minionetd {version} runs, and {} is installed", facts.version),
            "systemctl restart minionetd; no packet is lost",
        );
    }
    findings.otherwise_ok("daemon", format!("minionetd {} runs", facts.version));
}

fn clock(facts: &Facts, findings: &mut Findings) {
    let remedy = "set the clock and keep it with an NTP client (timedatectl, chronyc tracking); signatures of DNSSEC and \
                  certificates depend on it";
    if facts.now < EPOCH {
        findings.error("clock", "the clock has not been set since the start of the machine", remedy);
    }
    let ahead =
        |(name, at): &&(String, u64)| (*at > facts.now + AHEAD).then(|| (name.clone(), at - facts.now));
    let files = facts.daemon.written.iter();
    if let Some((name, seconds)) = files.filter_map(|file| ahead(&file)).max_by_key(|(_, by)| *by) {
        findings.warning(
            "clock",
            format!("the clock is behind: {name} was written {seconds} seconds in the future"),
            remedy,
        );
    }
    findings.otherwise_ok("clock", "nothing was written in the future");
}
