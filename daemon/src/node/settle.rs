//! The overlay's tables: made what they should be, as far as the kernel agrees.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use minionet_core::addr::Cidr;
use minionet_core::overlay::object::{self, Objects};
use minionet_core::overlay::patience::{Ground, LONGEST, Patience, Refusal, SHORTEST};
use minionet_core::overlay::{self, Change, Device, Local, Overlay};
use minionet_core::plan::NodePlan;
use minionet_core::state::Journal;
use minionet_netlink::Socket;
use minionet_netlink::overlay::{self as kernel, Failure};

use super::report::report;
use crate::clock::Clock;

/// How often a difference is computed, applied and verified before the next event is awaited.
const ROUNDS: usize = 3;

/// Makes the kernel hold what it should, and remembers what it refused.
pub struct Settler {
    clock: Clock,
    patience: Patience,
    /// When to try again, by the clock.
    again: Option<Duration>,
    /// What the kernel held when it was last found to be right.
    settled: Option<Arc<Overlay>>,
    /// Which numbers of next hop objects strangers had when it was last looked at, and whether the
    /// kernel has such objects.
    taken: Objects,
    /// Whether the kernel refuses next hop objects although it knows them (an SELinux policy may).
    objectless: bool,
}

/// What the kernel should hold, and what that depends on.
pub struct Wanted<'a> {
    /// The overlay.
    pub overlay: &'a Arc<Overlay>,
    /// The number of the interface below it, and whether it is up.
    pub underlay: Option<(u32, bool)>,
    /// Whether DNS has spoken: before that nothing is removed that leads to a peer.
    pub trusted: bool,
}

impl Settler {
    /// One to whom nothing was refused yet.
    pub fn new(clock: Clock) -> Self {
        let (patience, taken) = (Patience::default(), Objects::default());
        Settler { clock, patience, again: None, settled: None, taken, objectless: false }
    }

    /// Makes the kernel hold what it should; says which devices' changes matter from now on. What
    /// the kernel refuses is no error here, see [`Settler::trouble`].
    ///
    /// # Errors
    /// When the tables cannot be read, a stranger's device has our name, or the conversation with
    /// the kernel breaks down.
    pub fn settle(
        &mut self,
        socket: &mut Socket,
        wanted: &Wanted<'_>,
        journal: &mut Journal,
    ) -> Result<Vec<u32>> {
        let device = &wanted.overlay.device;
        let mut links = Vec::new();
        self.add_early(socket, wanted.overlay, journal)?;
        for _ in 0..ROUNDS {
            let mut observed = kernel::read(socket, &device.name)?;
            observed.objects.possible &= !self.objectless;
            self.taken = observed.objects.taken();
            observed.objects = observed.objects.if_they(object::pay([&**wanted.overlay]));
            links = observed.device.iter().map(|d| d.index).chain(wanted.overlay.underlay).collect();
            let mut changes = overlay::diff(wanted.overlay, &observed)?;
            if !wanted.trusted {
                overlay::keep_peers(&mut changes, wanted.overlay);
            }
            if changes.is_empty() {
                journal.unchanged();
                self.settled = Some(Arc::clone(wanted.overlay));
            }
            let ground = Ground { device: observed.device, underlay: wanted.underlay };
            let due = self.patience.due(changes, ground, self.clock.now().monotonic);
            if due.is_empty() {
                break;
            }
            report(&due);
            let failures = kernel::apply(socket, device, &due)?;
            journal.changed(&due, failures.iter().map(|f| &f.change), self.clock.now());
            self.objectless |= failures.iter().any(refuses_objects);
            let refusals = failures.into_iter().map(|failure| refusal(socket, device, failure));
            let refusals = refusals.collect::<Result<_>>()?;
            self.patience.tried(&due, refusals, self.clock.now().monotonic);
        }
        Ok(links)
    }

    /// Adds peers that nothing is known of but their places, as long as the kernel is as it was last
    /// found to be right: computing and comparing what thousands of peers need takes longer than all
    /// the rest. The look at the tables that follows finds whatever is wrong with this.
    ///
    /// # Errors
    /// When the conversation with the kernel breaks down.
    pub fn welcome(
        &mut self,
        socket: &mut Socket,
        local: &Local<'_>,
        peers: &[NodePlan],
        journal: &mut Journal,
    ) -> Result<()> {
        let Some(settled) = &mut self.settled else { return Ok(()) };
        let local = Local { underlay: settled.underlay, ..*local };
        let more = overlay::desired(settled.device.clone(), &local, peers);
        let taken = self.taken.clone().if_they(object::pay([&**settled, &more]));
        let changes = overlay::additions(&more, settled, &taken);
        let failures = kernel::apply(socket, &settled.device, &changes)?;
        report(&changes);
        journal.made(&changes, failures.iter().map(|f| &f.change), self.clock.now());
        Arc::make_mut(settled).extend(more);
        Ok(())
    }

    /// Adds what is new since the kernel was last found to be right, before its tables are read:
    /// with thousands of peers, reading them takes longer than all the rest. Whatever is wrong with
    /// this, also what the kernel refuses, is found by the reading that follows.
    fn add_early(&mut self, socket: &mut Socket, wanted: &Overlay, journal: &mut Journal) -> Result<()> {
        let Some(settled) = self.settled.take() else { return Ok(()) };
        let taken = self.taken.clone().if_they(object::pay([wanted]));
        let changes = overlay::additions(wanted, &settled, &taken);
        if !changes.is_empty() {
            report(&changes);
            let failures = kernel::apply(socket, &wanted.device, &changes)?;
            journal.made(&changes, failures.iter().map(|f| &f.change), self.clock.now());
        }
        Ok(())
    }

    /// Whether the kernel was found to be right when it was last looked at.
    pub fn is_settled(&self) -> bool {
        self.settled.is_some()
    }

    /// Sets when to try again what is refused: after every look at the tables, also one that
    /// failed, and never at once after it.
    pub fn rest(&mut self) {
        let soonest = self.clock.now().monotonic + SHORTEST;
        self.again = self.patience.next().map(|next| next.max(soonest));
    }

    /// How long to wait before what is refused is tried again.
    pub fn again(&self) -> Option<Duration> {
        self.again.map(|again| again.saturating_sub(self.clock.now().monotonic))
    }

    /// When what is refused is tried again, for people; nothing where nothing is.
    pub fn prospect(&self) -> String {
        let seconds = self.again().map(|again| again.as_secs_f64().ceil());
        seconds.map_or(String::new(), |seconds| {
            let most = LONGEST.as_secs();
            format!("; it is tried again in {seconds} s, later and later up to every {most} s, and when what is in its way goes")
        })
    }

    /// Lets everything that is refused be tried at the next look at the tables.
    pub fn hurry(&mut self) {
        self.patience.hurry();
    }

    /// What the kernel refuses: the first refusal in full, and how many more there are.
    pub fn trouble(&self) -> Option<String> {
        let texts: BTreeSet<&str> = self.patience.refused().map(|(_, text)| text).collect();
        let first = texts.first()?;
        Some(match texts.len() {
            1 => (*first).to_owned(),
            n => format!("{first}, and {} more", n - 1),
        })
    }

    /// Whether the device itself is as it should be: single peers may be missing then.
    pub fn device_works(&self) -> bool {
        !self.patience.refused().any(|(change, _)| change.object() == "device")
    }

    /// Where the routes lead that are missing because they are refused.
    pub fn refused_routes(&self) -> impl Iterator<Item = Cidr> {
        self.patience.refused().filter_map(|(change, _)| match change {
            Change::AddRoute { dst, .. } | Change::AddRefusal(dst) => Some(*dst),
            _ => None,
        })
    }
}

/// Whether no next hop object can be had at all; routes do without then.
fn refuses_objects(failure: &Failure) -> bool {
    matches!(failure.change, Change::AddObject(_)) && failure.error.is_unsupported()
}

/// What the kernel said, with what helps.
fn refusal(socket: &mut Socket, device: &Device, failure: Failure) -> Result<Refusal> {
    let Failure { change, error } = failure;
    let taken = matches!(change, Change::CreateDevice(_)) && error.is_exists();
    let hint = if taken { rival(socket, device)? } else { String::new() };
    let (errno, temporary) = (error.errno(), error.is_temporary());
    Ok(Refusal { change, errno, temporary, text: format!("{error}{hint}") })
}

/// Names the device that has our VNI and port, if one does.
fn rival(socket: &mut Socket, device: &Device) -> Result<String> {
    let links = socket.links()?;
    let mut vxlans = links.iter().filter_map(|link| Some((&link.name, link.vxlan.as_ref()?)));
    let same = vxlans.find(|(_, vxlan)| vxlan.vni == device.vni && vxlan.port == device.port);
    Ok(same.map_or(String::new(), |(name, _)| {
        format!(": the device {name} has them already; remove it, or set vni or port on every node")
    }))
}
