//! Membership as an operator sees it.
//!
//! Times are in seconds since 1970-01-01T00:00:00Z.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::name::{Failed, NameState};
use super::{FailureKind, HoldReason, Liveness, Membership, Refusal, Thresholds};

/// Everything that there is to see.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// Name of the cluster.
    pub cluster: String,
    /// This node's own address.
    pub own: OwnView,
    /// Every address that is known, refused ones included, in order.
    pub peers: Vec<PeerView>,
    /// Further refused addresses, of which only the number is known.
    pub refused_uncounted: usize,
    /// Every configured name.
    pub names: Vec<NameView>,
    /// The names whose failure keeps removals waiting: all, or for a name that was never answered,
    /// those of peers that only the kernel told of.
    pub removals_wait_for: Vec<String>,
    /// Whether a resolver answers with random samples.
    pub sampling: bool,
    /// Set while peers are held because too many went missing at once.
    pub mass_hold: Option<MassView>,
    /// Peers that were removed lately.
    pub departed: Vec<DepartedView>,
    /// The numbers that all this depends on.
    pub thresholds: Thresholds,
}

/// This node among the answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnView {
    /// Its address, when known.
    pub address: Option<IpAddr>,
    /// Since when complete answers do not list it, if so.
    pub missing_since: Option<u64>,
}

/// Peers held because too many went missing at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MassView {
    /// How many were missing when the guard last struck.
    pub missing: usize,
    /// Of how many.
    pub of: usize,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerView {
    /// The address.
    pub address: IpAddr,
    /// What it is.
    #[serde(flatten)]
    pub state: PeerState,
    /// Since when; for one that is missing or held, since it was first missed.
    pub since: u64,
    /// When it was first seen, before a restart included.
    pub first_seen: u64,
    /// When it was last seen.
    pub last_seen: u64,
    /// Whether DNS has listed it since the start; otherwise it is known from the saved peers.
    pub confirmed: bool,
    /// The names that list it.
    pub names: Vec<String>,
    /// How often it came back.
    pub flaps: u32,
    /// What the probe says.
    pub liveness: Liveness,
    /// Since when it says so.
    pub liveness_since: u64,
}

/// What an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PeerState {
    /// A peer.
    Active,
    /// A peer that is missing from complete answers.
    Missing {
        /// Complete answers without it.
        answers: u32,
    },
    /// A peer that is missing and kept for a reason.
    Held {
        /// The reason.
        hold: HoldReason,
        /// Complete answers without it.
        answers: u32,
    },
    /// No peer.
    Refused {
        /// Why.
        #[serde(flatten)]
        refusal: Refusal,
    },
}

impl PeerState {
    /// Whether it is programmed.
    pub fn is_peer(self) -> bool {
        !matches!(self, PeerState::Refused { .. })
    }
}

/// A failed lookup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureView {
    /// What kind.
    pub kind: FailureKind,
    /// In words.
    pub text: String,
    /// When.
    pub at: u64,
}

/// One name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameView {
    /// The name.
    pub name: String,
    /// When it was last answered with addresses.
    pub last_success: Option<u64>,
    /// The last failure, of whichever resolver.
    pub last_failure: Option<FailureView>,
    /// Rounds in a row in which nobody answered.
    pub failures: u32,
    /// Whether the last round had all of its records.
    pub complete: bool,
    /// How many addresses it lists, all resolvers together.
    pub records: usize,
    /// The lowest TTL of the last answer, in seconds.
    pub ttl: u64,
    /// What each resolver says.
    pub resolvers: Vec<ResolverView>,
}

/// One resolver's replies to one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverView {
    /// The resolver.
    pub resolver: String,
    /// When it last answered with addresses.
    pub last_success: Option<u64>,
    /// Its last failure.
    pub last_failure: Option<FailureView>,
    /// How many addresses it gave last.
    pub records: usize,
    /// How many addresses others gave in the last round and it did not.
    pub lacking: usize,
    /// Whether it answers with random samples.
    pub sampling: bool,
}

/// A removed peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepartedView {
    /// Its address.
    pub address: IpAddr,
    /// When it was removed.
    pub at: u64,
    /// What the probe said when it was removed.
    pub liveness: Liveness,
}

impl Membership {
    /// Membership as an operator sees it.
    pub fn view(&self) -> View {
        let adopted = self.unlisted.iter().any(|a| self.entries.get(a).is_some_and(|e| e.adopted));
        let waits = self.names.iter().filter(|n| n.blocks() || (adopted && n.is_unknown()));
        let departed = self.departed.iter();
        View {
            cluster: self.cluster.clone(),
            own: OwnView { address: self.scope.own, missing_since: self.own_missing_since },
            peers: self.entries.iter().map(|(addr, entry)| self.peer_view(*addr, entry)).collect(),
            refused_uncounted: self.addresses().len() - self.entries.len(),
            names: self.names.iter().map(name_view).collect(),
            removals_wait_for: waits.map(|n| n.name.clone()).collect(),
            sampling: self.sampling.is_some(),
            mass_hold: self.mass.map(|(missing, of)| MassView { missing, of }),
            departed: departed
                .map(|(a, d)| DepartedView { address: *a, at: d.at.unix, liveness: d.liveness })
                .collect(),
            thresholds: self.limits.clone(),
        }
    }

    fn peer_view(&self, address: IpAddr, entry: &Entry) -> PeerView {
        let names = self.names.iter().filter(|n| n.last.contains(&address));
        let now = self.last_complete.unwrap_or_default();
        PeerView {
            address,
            state: self.state(entry),
            since: entry.since,
            first_seen: entry.first_seen,
            last_seen: self.last_seen(address, entry),
            confirmed: entry.confirmed,
            names: names.map(|n| n.name.clone()).collect(),
            flaps: entry.flaps.count(now, self.limits.flap_window),
            liveness: entry.liveness.0,
            liveness_since: entry.liveness.1,
        }
    }

    fn state(&self, entry: &Entry) -> PeerState {
        match (entry.refusal, entry.missing) {
            (Some(refusal), _) => PeerState::Refused { refusal },
            (None, None) => PeerState::Active,
            (None, Some(missing)) => match entry.held(self.reading(), &self.limits) {
                Some(hold) => PeerState::Held { hold, answers: missing.answers },
                None => PeerState::Missing { answers: missing.answers },
            },
        }
    }
}

fn name_view(state: &NameState) -> NameView {
    let resolvers = state.resolvers.iter().map(|(name, resolver)| ResolverView {
        resolver: name.clone(),
        last_success: resolver.last_success,
        last_failure: resolver.last_failure.as_ref().map(failure_view),
        records: resolver.records,
        lacking: resolver.lacking,
        sampling: resolver.is_sampling(),
    });
    NameView {
        name: state.name.clone(),
        last_success: state.last_success,
        last_failure: state.last_failure.as_ref().map(failure_view),
        failures: state.failures,
        complete: state.complete,
        records: state.last.len(),
        ttl: state.ttl.as_secs(),
        resolvers: resolvers.collect(),
    }
}

fn failure_view(failed: &Failed) -> FailureView {
    FailureView { kind: failed.kind, text: failed.text.clone(), at: failed.at }
}
