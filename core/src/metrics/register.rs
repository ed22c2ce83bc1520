//! Metrics about self-registration; none where this node does not register itself.

use super::family::{Family, counter, gauge};
use crate::state::State;

pub(super) fn families(state: &State) -> Vec<Family> {
    let Some(registration) = &state.registration else { return Vec::new() };
    let last = gauge(
        "minionet_registration_last_success_timestamp_seconds",
        "When the server of the zone last acknowledged this node's record; absent before the first time.",
    );
    vec![
        gauge(
            "minionet_registered",
            "1 if the server of the zone has acknowledged this node's record since the start.",
        )
        .value(f64::from(u8::from(registration.address.is_some()))),
        match registration.renewed {
            Some(at) => last.value(at as f64),
            None => last,
        },
        gauge("minionet_registration_failures", "Attempts in a row to register this node that failed.")
            .value(registration.failures as f64),
        counter(
            "minionet_registration_attempts_total",
            "Attempts to register this node, or to renew its lease, by whether they succeeded.",
        )
        .sample(&[("result", "ok")], registration.acknowledged as f64)
        .sample(&[("result", "failed")], registration.failed as f64),
        gauge("minionet_registration_suspects", "Dead nodes whose leases this node watches.")
            .value(registration.suspects.len() as f64),
        counter(
            "minionet_registration_removals_total",
            "Records of dead nodes that this node has removed from DNS.",
        )
        .value(registration.removed as f64),
    ]
}
