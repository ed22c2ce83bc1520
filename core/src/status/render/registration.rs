//! How this node's own record in DNS is, for a node that keeps it itself.

use crate::register::Registration;
use crate::words::{ago, count, few};

/// Each on a line of its own: how it is, and what is done about dead nodes.
pub(super) fn lines(registration: &Registration, now: u64) -> Vec<String> {
    let Registration { name, server, address, renewed, failures, .. } = registration;
    let by = server.as_ref().map(|server| format!(" by {server}")).unwrap_or_default();
    let last = renewed.map(|at| format!("acknowledged {}{by}", ago(now, at)));
    let attempts = match failures {
        0 => String::new(),
        1 => "; the last attempt failed".to_owned(),
        several => format!("; the last {several} attempts failed"),
    };
    let own = match (address, last) {
        _ if registration.left => {
            format!("this node was taken out of {name}: minionetd register takes it in again")
        }
        (Some(address), Some(last)) => format!("{address} in {name}, {last}{attempts}"),
        (_, Some(last)) => format!("not in {name} now, {last}{attempts}"),
        (_, None) => format!("not in {name} yet{attempts}"),
    };
    let mut lines = vec![own];
    if !registration.suspects.is_empty() {
        lines.push(format!(
            "watches {} of dead nodes: {}",
            count(registration.suspects.len(), "lease"),
            few(registration.suspects.iter())
        ));
    }
    if registration.removed > 0 {
        lines.push(format!(
            "has removed {} of dead nodes since the start",
            count(usize::try_from(registration.removed).unwrap_or(usize::MAX), "record")
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered() -> Registration {
        Registration {
            name: "minions.cncfdemo.k8s.".into(),
            server: Some("198.51.100.1:53".into()),
            address: Some([172, 20, 0, 1].into()),
            renewed: Some(900),
            acknowledged: 1,
            ..Registration::default()
        }
    }

    #[test]
    fn it_is_told_in_a_line() {
        let now = 1000;
        let well = registered();
        assert_eq!(
            lines(&well, now),
            ["172.20.0.1 in minions.cncfdemo.k8s., acknowledged 100 s ago by 198.51.100.1:53"]
        );
        let failing = Registration { failures: 3, failed: 3, ..well.clone() };
        assert!(lines(&failing, now)[0].ends_with("198.51.100.1:53; the last 3 attempts failed"));
        let moved = Registration { address: None, ..well.clone() };
        assert!(lines(&moved, now)[0].starts_with("not in minions.cncfdemo.k8s. now, acknowledged 100 s"));
        let fresh = Registration { renewed: None, failures: 1, ..moved };
        assert_eq!(lines(&fresh, now), ["not in minions.cncfdemo.k8s. yet; the last attempt failed"]);
        let left = Registration { left: true, ..well };
        assert!(lines(&left, now)[0].contains("taken out of minions.cncfdemo.k8s."));
    }

    #[test]
    fn what_is_done_about_the_dead_is_told() {
        let suspects = vec![[172, 20, 0, 9].into()];
        let told = lines(&Registration { suspects, removed: 2, ..registered() }, 1000);
        assert_eq!(
            told[1..],
            [
                "watches 1 lease of dead nodes: 172.20.0.9",
                "has removed 2 records of dead nodes since the start"
            ]
        );
    }
}
