//! The table of addresses: who gets in, and as what.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::entry::Entry;
use super::{Event, MAX_REFUSED, Membership, Now, Outcome, Refusal, Round};

impl Membership {
    /// Whether an address is among [`Membership::addresses`].
    pub fn knows(&self, addr: IpAddr) -> bool {
        self.entries.contains_key(&addr) || self.listed(addr)
    }

    /// The addresses that a round lists for the first time and that will be peers once it is applied:
    /// nothing keeps a peer out that is seen for the first time, so they may be programmed before
    /// anything else is thought about. Costs no more than comparing the round with the last one.
    pub fn newcomers(&self, round: &Round) -> BTreeSet<IpAddr> {
        let mut newcomers = BTreeSet::new();
        for reply in &round.replies {
            let name = self.names.iter().find(|state| state.name == reply.name);
            let (Some(name), Outcome::Answer { addresses, .. }) = (name, &reply.outcome) else { continue };
            if Arc::ptr_eq(addresses, &name.last) {
                continue;
            }
            let come = addresses.difference(&name.last);
            newcomers.extend(come.filter(|a| !self.entries.contains_key(a) && self.refusal(*a).is_none()));
        }
        // Who is left out when there is no room for all, the rules decide.
        if newcomers.len() > self.limits.max_peers.saturating_sub(self.peers) {
            BTreeSet::new()
        } else {
            newcomers
        }
    }

    /// Decides whether a known or new address is a peer.
    pub(super) fn judge(&mut self, addr: IpAddr, now: Now, events: &mut Vec<Event>) {
        let refusal = self.refusal(addr);
        let before = self.entries.get(&addr).map(|e| e.refusal);
        if before == Some(refusal) {
            return;
        }
        events.push(match refusal {
            None => Event::Added { peer: addr },
            Some(reason) => Event::Refused { address: addr, reason, was_peer: before == Some(None) },
        });
        let old = self.remove(addr);
        if refusal.is_some_and(Refusal::is_dispensable) && self.refused >= MAX_REFUSED {
            return;
        }
        let entry = match old {
            Some(old) => Entry { refusal, since: now.unix, ..old },
            None => Entry { refusal, ..self.newcomer(addr, now) },
        };
        self.insert(addr, entry);
        if !self.listed(addr) {
            self.unlisted.insert(addr);
        }
    }

    pub(super) fn newcomer(&mut self, addr: IpAddr, now: Now) -> Entry {
        let mut entry = Entry::new(now, None);
        if !self.inherited && self.last_complete.is_none() {
            // There is nobody yet in whose place it could have come.
            entry.joined = None;
        }
        if let Some(departed) = self.departed.remove(&addr) {
            entry.first_seen = departed.first_seen;
            entry.flaps = departed.flaps;
            entry.flaps.add(now.monotonic, self.limits.flap_window);
        }
        entry
    }

    pub(super) fn refusal(&self, addr: IpAddr) -> Option<Refusal> {
        let refusal = self.scope.refusal(addr);
        let counted = self.entries.get(&addr).is_some_and(|e| is_peer(e.refusal));
        let full = is_peer(refusal) && !counted && self.peers >= self.limits.max_peers;
        if full { Some(Refusal::TooMany) } else { refusal }
    }

    pub(super) fn insert(&mut self, addr: IpAddr, entry: Entry) {
        self.peers += usize::from(is_peer(entry.refusal));
        self.refused += usize::from(entry.refusal.is_some_and(Refusal::is_dispensable));
        self.entries.insert(addr, entry);
    }

    pub(super) fn remove(&mut self, addr: IpAddr) -> Option<Entry> {
        self.unlisted.remove(&addr);
        let entry = self.entries.remove(&addr)?;
        self.peers -= usize::from(is_peer(entry.refusal));
        self.refused -= usize::from(entry.refusal.is_some_and(Refusal::is_dispensable));
        Some(entry)
    }

    /// When an address was last listed: the last answer of a name that lists it still.
    pub(super) fn last_seen(&self, addr: IpAddr, entry: &Entry) -> u64 {
        let listing = self.names.iter().filter(|n| n.last.contains(&addr));
        listing.filter_map(|n| n.last_at).map(|at| at.unix).max().unwrap_or(0).max(entry.last_seen)
    }
}

/// Whether an address is a peer, or becomes one as soon as there is a plan.
pub(super) fn is_peer(refusal: Option<Refusal>) -> bool {
    matches!(refusal, None | Some(Refusal::NoPlan))
}
