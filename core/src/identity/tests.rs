use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An address as `ADDRESS/LENGTH%INTERFACE`, with flags behind: `t`, `d` and `s`.
fn local(text: &str) -> LocalAddress {
    let (rest, flags) = text.split_once(' ').unwrap_or((text, ""));
    let (rest, interface) = rest.split_once('%').unwrap();
    let (address, prefix_len) = rest.split_once('/').unwrap();
    LocalAddress {
        address: ip(address),
        prefix_len: prefix_len.parse().unwrap(),
        interface: interface.into(),
        tentative: flags.contains('t'),
        deprecated: flags.contains('d'),
        secondary: flags.contains('s'),
    }
}

#[derive(Default)]
struct Case {
    local: Vec<LocalAddress>,
    answered: BTreeSet<IpAddr>,
    networks: Vec<Cidr>,
    overrides: Overrides,
    current: Option<IpAddr>,
}

impl Case {
    fn new(locals: &[&str], answered: &[&str]) -> Self {
        let local = locals.iter().map(|l| local(l)).collect();
        Case { local, answered: answered.iter().map(|a| ip(a)).collect(), ..Case::default() }
    }

    fn current(self, current: &str) -> Self {
        Case { current: Some(ip(current)), ..self }
    }

    fn node_ip(mut self, node_ip: &str) -> Self {
        self.overrides.node_ip = Some(ip(node_ip));
        self
    }

    fn interface(mut self, interface: &str) -> Self {
        self.overrides.interface = Some(interface.into());
        self
    }

    fn networks(self, networks: &[&str]) -> Self {
        Case { networks: networks.iter().map(|n| n.parse().unwrap()).collect(), ..self }
    }

    fn choose(&self) -> Result<Identity, IdentityError> {
        choose(&Evidence {
            local: &self.local,
            answered: &self.answered,
            node_networks: &self.networks,
            overrides: &self.overrides,
            current: self.current,
        })
    }
}

const HOST: [&str; 5] = [
    "127.0.0.1/8%lo",
    "10.0.2.15/24%eth0",
    "172.20.0.12/24%eth1",
    "172.20.0.99/24%eth1 s",
    "fe80::1/64%eth1",
];

#[test]
fn the_local_address_that_dns_lists_is_chosen() {
    // The first interface has the same address on every machine, as under Vagrant.
    let identity = Case::new(&HOST, &["172.20.0.11", "172.20.0.12", "172.20.0.13"]).choose().unwrap();
    let expected = Identity {
        address: ip("172.20.0.12"),
        prefix_len: 24,
        interface: "eth1".into(),
        basis: Basis::Listed,
        listed: true,
        also_listed: vec![],
    };
    assert_eq!(identity, expected);
    assert_eq!(identity.default_node_network().unwrap().to_string(), "172.20.0.0/24");
}

#[test]
fn of_several_the_best_is_chosen_and_the_others_are_told() {
    let all = ["10.0.2.15", "172.20.0.12", "172.20.0.99", "127.0.0.1", "fe80::1"];
    let identity = Case::new(&HOST, &all).choose().unwrap();
    assert_eq!(identity.address, ip("10.0.2.15"), "the lowest");
    assert_eq!(identity.also_listed.len(), 4);
    for (locals, best, networks) in [
        (["10.0.0.9/24%a s", "10.0.1.9/24%a"], "10.0.1.9", &[][..]),
        (["10.0.0.9/24%a d", "10.0.1.9/24%a s"], "10.0.1.9", &[]),
        (["10.0.0.9/24%a t", "10.0.1.9/24%a d"], "10.0.1.9", &[]),
        (["fd00::9/64%a", "10.0.1.9/24%b"], "10.0.1.9", &[]),
        (["10.0.0.9/24%a", "10.0.1.9/24%a"], "10.0.1.9", &["10.0.1.0/24"]),
        (["10.0.0.9/24%a", "10.0.1.9/24%a d"], "10.0.1.9", &["10.0.1.0/24"]),
        (["10.0.0.9/24%a", "10.0.1.9/24%a"], "10.0.1.9", &["10.0.1.0/24", "10.0.0.0/24"]),
        (["10.0.0.9/24%a", "fd00::9/64%a"], "fd00::9", &["fd00::/64"]),
    ] {
        let answered: Vec<_> = locals.iter().map(|l| l.split('/').next().unwrap()).collect();
        let identity = Case::new(&locals, &answered).networks(networks).choose().unwrap();
        assert_eq!(identity.address, ip(best), "{locals:?} {networks:?}");
    }
}

#[test]
fn the_current_one_stays_while_it_is_valid() {
    let both = ["10.0.2.15", "172.20.0.12"];
    let case = || Case::new(&HOST, &both).current("172.20.0.12");
    assert_eq!(case().choose().unwrap().address, ip("172.20.0.12"));
    // Not listed any more, while another one is: the node was renumbered.
    let renumbered = Case::new(&HOST, &["10.0.2.15"]).current("172.20.0.12").choose().unwrap();
    assert_eq!((renumbered.address, renumbered.basis), (ip("10.0.2.15"), Basis::Listed));
    // None is listed: DNS is wrong or down.
    for answered in [&[][..], &["172.20.0.11"]] {
        let kept = Case::new(&HOST, answered).current("172.20.0.12").choose().unwrap();
        assert_eq!((kept.address, kept.basis, kept.listed), (ip("172.20.0.12"), Basis::LastKnown, false));
    }
    // Not local any more.
    let gone = Case::new(&HOST, &both).current("172.20.0.13").choose().unwrap();
    assert_eq!(gone.address, ip("10.0.2.15"));
}

#[test]
fn the_operator_decides() {
    let identity = Case::new(&HOST, &["10.0.2.15"]).node_ip("172.20.0.99").choose().unwrap();
    assert_eq!(
        (identity.address, identity.basis, identity.listed),
        (ip("172.20.0.99"), Basis::NodeIp, false)
    );
    let case = Case::new(&HOST, &["10.0.2.15", "172.20.0.12"]).interface("eth1");
    assert_eq!(case.choose().unwrap().address, ip("172.20.0.12"));
    let identity = Case::new(&HOST, &["10.0.2.15"]).interface("eth1").choose().unwrap();
    assert_eq!((identity.address, identity.basis), (ip("172.20.0.12"), Basis::Interface));
    let error = Case::new(&HOST, &[]).node_ip("172.20.0.98").choose().unwrap_err().to_string();
    assert!(error.contains("172.20.0.98") && error.contains("172.20.0.12 on eth1"), "{error}");
    let error = Case::new(&HOST, &[]).node_ip("10.0.2.15").interface("eth1").choose().unwrap_err();
    assert!(matches!(&error, IdentityError::NotLocal { interface: Some(i), .. } if i == "eth1"), "{error}");
}

#[test]
fn what_is_missing_is_said() {
    assert_eq!(Case::new(&HOST, &[]).choose().unwrap_err(), IdentityError::NoAnswer);
    let error = Case::new(&HOST, &["172.20.0.1", "172.20.0.2"]).choose().unwrap_err().to_string();
    assert!(error.contains("among the 2 that DNS lists") && error.contains("10.0.2.15 on eth0"), "{error}");
    let error = Case::new(&["127.0.0.1/8%lo", "fd00::1/64%eth0 t"], &["fd00::1"]).choose().unwrap_err();
    assert_eq!(error, IdentityError::NothingLocal { interface: None });
    let error = Case::new(&HOST, &["10.0.2.15"]).interface("eth9").choose().unwrap_err().to_string();
    assert!(error.contains("no interface eth9 has"), "{error}");
    for text in ["172.20.0.12/32%eth0", "fd00::12/128%eth0"] {
        let addr = text.split('/').next().unwrap();
        let identity = Case::new(&[text], &[addr]).choose().unwrap();
        let error = identity.default_node_network().unwrap_err().to_string();
        assert!(error.contains("set node_networks"), "{error}");
    }
}

fn any_local() -> impl Strategy<Value = LocalAddress> {
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (0u8..8, 0u8..3, flags).prop_map(|(n, i, (tentative, deprecated, secondary))| LocalAddress {
        address: IpAddr::from([172, 20, 0, n]),
        prefix_len: 24,
        interface: format!("eth{i}"),
        tentative,
        deprecated,
        secondary,
    })
}

proptest! {
    #[test]
    fn the_order_is_irrelevant_and_the_choice_stable(
        locals in prop::collection::vec(any_local(), 0..6),
        answered in prop::collection::btree_set((0u8..8).prop_map(|n| IpAddr::from([172, 20, 0, n])), 0..5),
        more in prop::collection::btree_set((0u8..8).prop_map(|n| IpAddr::from([172, 20, 0, n])), 0..5),
    ) {
        let case = Case { local: locals.clone(), answered: answered.clone(), ..Case::default() };
        let chosen = case.choose();
        let reversed = Case { local: locals.iter().rev().cloned().collect(), ..case };
        prop_assert_eq!(&reversed.choose(), &chosen);
        if let Ok(chosen) = chosen {
            prop_assert!(answered.contains(&chosen.address));
            prop_assert!(locals.iter().any(|l| l.address == chosen.address && !l.tentative));
            // Whatever DNS lists besides, and when it lists nothing, the choice stays.
            let current = Some(chosen.address);
            let union = answered.union(&more).copied().collect();
            for answered in [union, BTreeSet::new()] {
                let later = Case { local: locals.clone(), answered, current, ..Case::default() };
                prop_assert_eq!(later.choose().map(|i| i.address), Ok(chosen.address));
            }
        }
    }
}
