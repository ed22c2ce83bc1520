//! The node as a document, for those who ask.

use minionet_core::constants::DEVICE;
use minionet_core::forward::ForwardPolicy;
use minionet_core::membership::Event;
use minionet_core::overlay;
use minionet_core::probe::Times;
use minionet_core::state::{self, Facts, Journal, Readiness, State};

use super::{Node, log};

impl Node {
    /// What there is to know.
    pub fn describe(&self) -> State {
        let now = self.clock.now();
        let started = now.unix.saturating_sub(now.monotonic.as_secs());
        let facts = Facts {
            daemon: state::Daemon {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                started,
            },
            membership: self.membership.view(),
            node: self.describe_own(),
            plan: self.own.as_ref().map(|own| &own.plan),
            device: self.describe_device(),
            probe: self.probe.view(),
            registration: self.register.registration(),
            troubles: self.troubles(),
            journal: &self.journal,
        };
        state::describe(facts, now)
    }

    /// Whether the overlay is formed.
    pub fn readiness(&self) -> Readiness {
        let restored = self.membership.peers().next().is_some();
        Readiness::judge(self.own.is_some(), restored, &self.journal)
    }

    /// What was done.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Times that the probe measured.
    pub fn times(&self) -> &Times {
        self.probe.times()
    }

    /// Says and remembers what changed among the peers.
    pub(super) fn note(&mut self, events: &[Event]) {
        log(events);
        if !events.is_empty() {
            self.journal.touch();
        }
    }

    /// What is wrong, other programs' rules that drop pods' packets included.
    fn troubles(&self) -> Vec<String> {
        let mut troubles = self.state().troubles;
        let registration = self.register.registration().and_then(|registration| registration.trouble);
        troubles.extend(registration.map(|text| format!("this node cannot register itself: {text}")));
        troubles.extend(self.forwarding.policies().iter().filter_map(ForwardPolicy::warning));
        troubles
    }

    fn describe_own(&self) -> Option<state::Node> {
        let own = self.own.as_ref()?;
        let mode = self.config.encapsulation;
        let mtu = overlay::pod_mtu(mode, &own.me.blocks, own.plan.underlay(), self.underlay_mtu);
        Some(state::Node {
            place: own.me.clone(),
            interface: own.identity.interface.clone(),
            subnet: own.subnet,
            basis: own.identity.basis,
            listed: own.identity.listed,
            also_listed: own.identity.also_listed.clone(),
            underlay_mtu: self.underlay_mtu,
            pod_mtu: mtu,
        })
    }

    fn describe_device(&self) -> Option<state::Device> {
        let own = self.own.as_ref()?;
        let vtep = overlay::Device {
            name: DEVICE.to_owned(),
            vni: self.config.vni,
            port: self.config.port,
            local: own.identity.address,
            mac: own.me.mac,
            mtu: overlay::overlay_mtu(own.plan.underlay(), self.underlay_mtu),
        };
        Some(state::Device { vtep, encapsulation: self.config.encapsulation, peer_routes: 0, refused: 0 })
    }
}
