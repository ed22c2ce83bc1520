//! Whether this node keeps its own record in DNS, where it is to.

use super::Findings;
use super::facts::Facts;

const CHECK: &str = "registration";

/// Judges it by what the daemon tells.
pub fn examine(facts: &Facts, findings: &mut Findings) {
    let daemon = &facts.daemon;
    let Some(registration) = &daemon.registration else {
        findings.skipped(CHECK, "this node does not register itself");
        return;
    };
    if !daemon.lives {
        findings.skipped(CHECK, "minionetd does not run");
        return;
    }
    let name = &registration.name;
    if let Some(trouble) = &registration.trouble {
        findings.warning(
            CHECK,
            format!("this node cannot register itself: {trouble}"),
            "do what it says; it is tried again by itself (docs/dns.md, \"What can go wrong\")",
        );
    } else if registration.left {
        findings
            .note(CHECK, format!("this node was taken out of {name}: minionetd register takes it in again"));
    } else if let Some(address) = registration.address {
        findings.ok(CHECK, format!("{address} is in {name}"));
    } else {
        findings.skipped(CHECK, format!("nothing has been sent to the server of {name} yet"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;
    use crate::doctor::tests::healthy;
    use crate::register::Registration;

    fn verdict(lives: bool, change: impl FnOnce(&mut Registration)) -> (Verdict, String) {
        let mut registration = Registration { name: "minions.x.k8s.".into(), ..Registration::default() };
        change(&mut registration);
        let mut facts = healthy();
        (facts.daemon.lives, facts.daemon.registration) = (lives, Some(registration));
        let report = crate::doctor::examine(&facts);
        let found: Vec<_> = report.findings.into_iter().filter(|found| found.check == CHECK).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        (found[0].verdict, found[0].finding.clone())
    }

    #[test]
    fn it_is_judged_by_what_the_daemon_tells() {
        let own = [172, 20, 0, 1].into();
        let well = verdict(true, |r| r.address = Some(own));
        assert_eq!(well, (Verdict::Ok, "172.20.0.1 is in minions.x.k8s.".into()));
        assert_eq!(verdict(true, |_| ()).0, Verdict::Skipped);
        assert_eq!(verdict(true, |r| r.left = true).0, Verdict::Note);
        let failing = |r: &mut Registration| (r.address, r.trouble) = (Some(own), Some("(BADKEY)".into()));
        assert_eq!(
            verdict(true, failing),
            (Verdict::Warning, "this node cannot register itself: (BADKEY)".into())
        );
        // What a daemon that has ended told is no news.
        assert_eq!(verdict(false, failing).0, Verdict::Skipped);
    }
}
