use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const ENOBUFS: i32 = 105;

fn address(n: u8) -> Change {
    Change::AddAddress(IpAddr::from([10, 32, n, 1]))
}

fn device() -> Change {
    Change::UpdateDevice { index: 7, local: None, mac: None, mtu: Some(1450), up: false }
}

fn refusal(change: Change, errno: i32) -> Refusal {
    let text = format!("cannot {change}: {errno}");
    Refusal { change, errno: Some(errno), temporary: errno == ENOBUFS, text }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Looks at the tables at a moment, where each of these changes is wanted and refused; says how
/// many were tried.
fn look(patience: &mut Patience, wanted: &[Change], errno: i32, now: Duration) -> usize {
    let due = patience.due(wanted.to_vec(), Ground::default(), now);
    let refusals = due.iter().map(|change| refusal(change.clone(), errno)).collect();
    patience.tried(&due, refusals, now);
    due.len()
}

#[test]
fn the_waits_double_up_to_a_limit() {
    let mut patience = Patience::default();
    let mut waits = Vec::new();
    let mut now = seconds(1000);
    for _ in 0..11 {
        assert_eq!(look(&mut patience, &[address(1)], EEXIST, now), 1);
        let next = patience.next().unwrap();
        waits.push((next - now).as_secs());
        // No look before that tries it.
        assert_eq!(look(&mut patience, &[address(1)], EEXIST, next - Duration::from_nanos(1)), 0);
        now = next;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
}

#[test]
fn another_reason_another_wish_and_a_success_begin_anew() {
    let after = |step: fn(&mut Patience)| {
        let mut patience = Patience::default();
        for now in [0, 1, 3] {
            assert_eq!(look(&mut patience, &[address(1)], EEXIST, seconds(now)), 1);
        }
        step(&mut patience);
        look(&mut patience, &[address(1)], EEXIST, seconds(100));
        patience.next().unwrap() - seconds(100)
    };
    assert_eq!(after(|_| ()), seconds(8));
    assert_eq!(after(|p| assert_eq!(look(p, &[address(1)], EINVAL, seconds(7)), 1)), seconds(1));
    assert_eq!(after(|p| assert_eq!(look(p, &[], EEXIST, seconds(4)), 0)), seconds(1));
    assert_eq!(after(|p| p.tried(&[address(1)], vec![], seconds(7))), seconds(1));
}

#[test]
fn an_obstacle_that_may_be_gone_ends_the_wait() {
    let mut patience = Patience::default();
    look(&mut patience, &[address(1), address(2)], EEXIST, seconds(0));
    assert_eq!(look(&mut patience, &[address(1), address(2)], EEXIST, seconds(0)), 0);
    patience.hurry();
    assert_eq!(look(&mut patience, &[address(1), address(2)], EEXIST, seconds(0)), 2);
    assert_eq!(patience.next(), Some(seconds(2)), "it was not gone: that was one more refusal");
    // Another interface below the device, or the same that is up now.
    for (count, ground) in [(1, Some((6, false))), (1, Some((6, true))), (0, Some((6, true))), (1, None)] {
        let ground = Ground { underlay: ground, device: None };
        let due = patience.due(vec![address(1)], ground, seconds(0));
        patience.tried(&due, due.iter().map(|c| refusal(c.clone(), EEXIST)).collect(), seconds(0));
        assert_eq!(due.len(), count);
    }
}

#[test]
fn passing_troubles_are_tried_again_at_once_for_a_while() {
    let mut patience = Patience::default();
    for wait in [0, 0, 1, 2] {
        let now = patience.next().unwrap_or(seconds(5));
        assert_eq!(look(&mut patience, &[address(1)], ENOBUFS, now), 1);
        assert_eq!(patience.next(), Some(now + seconds(wait)));
    }
}

#[test]
fn everything_waits_for_the_device_and_it_for_nothing() {
    let mut patience = Patience::default();
    let all = [device(), address(1)];
    // The device is refused, so the address is not tried: that says nothing about it.
    patience.tried(&[address(1)], vec![refusal(address(1), EEXIST)], seconds(0));
    patience.tried(&all, vec![refusal(device(), EINVAL)], seconds(0));
    assert_eq!(patience.refused().count(), 2);
    assert_eq!(look(&mut patience, &all, EINVAL, Duration::from_millis(500)), 0);
    // It is tried when its own time has come, whoever else waits.
    assert_eq!(look(&mut patience, &all, EINVAL, seconds(1)), 2);
    // And what waits keeps nothing else from being tried.
    let mut patience = Patience::default();
    look(&mut patience, &[address(1)], EEXIST, seconds(0));
    assert_eq!(patience.due(vec![address(1), address(2)], Ground::default(), seconds(0)), [address(2)]);
}

/// What happens between two looks.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Time passes, in milliseconds.
    Wait(u64),
    /// It becomes wanted, or not.
    Toggle(u8),
    /// The kernel's answer to it changes.
    Answer(u8, Option<i32>),
    /// Something was heard.
    Hurry,
}

fn any_step() -> impl Strategy<Value = Step> {
    let any_answer = prop_oneof![Just(None), Just(Some(EEXIST)), Just(Some(EINVAL)), Just(Some(ENOBUFS))];
    prop_oneof![
        4 => (0u64..400_000).prop_map(Step::Wait),
        4 => (0u64..100).prop_map(Step::Wait),
        2 => (0u8..4).prop_map(Step::Toggle),
        2 => (0u8..4, any_answer).prop_map(|(n, answer)| Step::Answer(n, answer)),
        1 => Just(Step::Hurry),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_is_shown_bounded_and_tried_in_time(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut patience = Patience::default();
        let (mut wanted, mut answers) = (BTreeSet::from([0u8, 1, 2, 3]), [Some(EEXIST); 4]);
        let (mut now, mut last) = (Duration::ZERO, BTreeMap::<u8, Duration>::new());
        for step in steps {
            match step {
                Step::Wait(ms) => now += Duration::from_millis(ms),
                Step::Toggle(n) => {
                    if !wanted.remove(&n) {
                        wanted.insert(n);
                    }
                }
                Step::Answer(n, answer) => answers[usize::from(n)] = answer,
                Step::Hurry => patience.hurry(),
            }
            let changes: Vec<Change> = wanted.iter().copied().map(address).collect();
            let due = patience.due(changes, Ground::default(), now);
            for n in wanted.clone() {
                let tried = due.contains(&address(n));
                // Nobody waits longer than the longest delay.
                prop_assert!(tried || last.get(&n).is_some_and(|at| now - *at < LONGEST));
                if tried {
                    last.insert(n, now);
                }
            }
            let answer = |n: u8| answers[usize::from(n)].filter(|_| due.contains(&address(n)));
            let refusals = wanted.iter().filter_map(|n| Some(refusal(address(*n), answer(*n)?))).collect();
            patience.tried(&due, refusals, now);
            // What the kernel took is not wanted any more: the next difference is without it.
            wanted.retain(|n| !due.contains(&address(*n)) || answers[usize::from(*n)].is_some());
            let shown: BTreeSet<Change> = patience.refused().map(|(change, _)| change.clone()).collect();
            prop_assert_eq!(shown, wanted.iter().copied().map(address).collect::<BTreeSet<_>>());
        }
    }

    #[test]
    fn looks_cost_no_attempts(looks in prop::collection::vec(0u64..2_000, 1..400)) {
        let mut patience = Patience::default();
        let (mut now, mut attempts) = (Duration::ZERO, 0);
        for ms in looks {
            now += Duration::from_millis(ms);
            attempts += look(&mut patience, &[address(1)], EEXIST, now);
        }
        // The n-th attempt is 2^(n-1) - 1 seconds after the first, until the longest delay.
        let most = 1 + now.as_secs().checked_add(1).unwrap().ilog2() as u64 + now.as_secs() / LONGEST.as_secs();
        prop_assert!(attempts as u64 <= most, "{} attempts in {:?}", attempts, now);
    }
}
