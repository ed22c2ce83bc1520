//! Restarts in the middle of a fault: what one run knew must not be lost for the next.

use super::*;

impl World {
    /// The daemon ends and starts anew, with its snapshot, or with what the kernel holds.
    fn restart(&mut self, snapshot: bool) {
        let text = self.members.snapshot(self.now).to_text();
        let kernel = self.peers();
        // The monotonic clock may count from the start of the process.
        let now = Now { monotonic: Duration::ZERO, ..self.now };
        let mut next = World { now, ..World::new() };
        if snapshot {
            next.members.restore(&Snapshot::parse(&text).unwrap(), now).unwrap();
        }
        next.members.adopt(kernel, now);
        *self = next;
    }
}

#[test]
fn what_only_the_kernel_knows_is_kept_until_dns_says_otherwise() {
    let adopted = || {
        let mut world = World::with(&[NAME, MASTERS], Thresholds::default());
        // 172.21.0.1 is outside of the plan, 1 is this node itself.
        let outside = [IpAddr::from([172, 21, 0, 1]), ip(1)];
        assert_eq!(world.members.adopt(ips(2..=50).into_iter().chain(outside), world.now), 50);
        assert_eq!(world.peers(), ips(2..=50));
        world
    };
    let both =
        |minions: Vec<IpAddr>, masters| vec![reply(NAME, "r", answer(minions)), reply(MASTERS, "r", masters)];
    let refused = || failure(FailureKind::ServFail);
    // The first answer lacks half of them: what the kernel knew is not forgotten for it.
    let mut world = adopted();
    for _ in 0..100 {
        world.round(both(ips(1..=25), answer(ips([50]))));
    }
    assert_eq!(world.peers(), ips(2..=50));
    // One that only the other name may have listed waits for that name.
    let mut world = adopted();
    for _ in 0..1000 {
        world.round(both(ips(1..=48), refused()));
    }
    assert_eq!(world.peers(), ips(2..=50));
    // The others do not wait with it.
    for _ in 0..8 {
        world.round(both(ips(1..=47), refused()));
    }
    assert_eq!(world.peers(), ips((2..=47).chain([49, 50])));
    assert_eq!(world.members.view().removals_wait_for, [MASTERS]);
    for _ in 0..8 {
        world.round(both(ips(1..=47), answer(ips([50]))));
    }
    assert_eq!(world.peers(), ips((2..=47).chain([50])));
    // A name that was never answered holds nobody up once all of them have been listed.
    let mut world = adopted();
    world.round(both(ips(1..=50), refused()));
    for _ in 0..8 {
        world.round(both(ips(1..=49), refused()));
    }
    assert_eq!(world.peers(), ips(2..=49));
}

#[test]
fn what_replaced_the_others_has_no_say_about_them_after_a_restart() {
    for snapshot in [true, false] {
        let mut world = World::new();
        world.say_for(100, &ips(1..=20));
        // All are replaced, by more than there were.
        let lies: Vec<_> = ips(100..=250);
        world.say_for(100, &lies);
        world.restart(snapshot);
        world.say_for(300, &lies);
        world.restart(snapshot);
        world.say_for(550, &lies);
        assert!(world.peers().starts_with(&ips(2..=20)), "snapshot: {snapshot}");
        world.say_for(1500, &ips(1..=20));
        assert_eq!(world.peers(), ips(2..=20));
        assert!(world.members.snapshot(world.now).peers.iter().all(|p| !p.newcomer && !p.held));
    }
}

#[test]
fn who_is_held_stays_so_after_a_restart() {
    let mut world = World::new();
    world.say_for(100, &ips(1..=50));
    world.say_for(100, &ips(1..=25));
    // Healed by halves: the rest would be few enough to go.
    world.say_for(10, &ips(1..=40));
    world.restart(true);
    world.say_for(550, &ips(1..=40));
    assert_eq!(world.peers(), ips(2..=50));
    world.say_for(100, &ips(1..=40));
    assert_eq!(world.peers(), ips(2..=40), "but not for ever");
}

#[test]
fn resolvers_that_do_not_begin_to_lie_at_the_same_time_do_no_more_harm() {
    let mut world = World::new();
    let (truth, lies) = (ips(1..=20), ips(100..=250));
    world.say_for(100, &truth);
    for _ in 0..5 {
        let both = [answer(truth.iter().copied()), answer(lies.iter().copied())];
        world.round(both.into_iter().zip(["a", "b"]).map(|(o, r)| reply(NAME, r, o)).collect());
    }
    world.say_for(550, &lies);
    assert!(world.peers().starts_with(&ips(2..=20)));
}

#[test]
fn doubts_are_saved_when_they_arise_and_when_they_are_over() {
    let mut world = World::new();
    world.say_for(100, &ips(1..=20));
    let before = world.members.snapshot(world.now);
    world.say(&ips(1..=10));
    let during = world.members.snapshot(world.now);
    assert!(!during.same_peers(&before));
    assert!(during.peers.iter().all(|p| p.held == (p.address > ip(10)) && !p.newcomer));
    world.say(&ips(1..=20));
    assert!(world.members.snapshot(world.now).same_peers(&before));
    assert!(!before.to_text().contains("held"), "an earlier version reads the file as well");
}
