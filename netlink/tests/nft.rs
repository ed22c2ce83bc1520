//! nftables over netlink, against the kernel, each test in a network namespace of its own.

mod nft_support;

use ipnetwork::IpNetwork;
use minionet_core::nft::{Masquerade, KUBE_PROXY_MARK, TABLE, masquerade};
use minionet_netlink::nft::Nft;
use nft_support::{in_namespace, run};

fn networks(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn masquerade_is_what_nft_lists() {
    in_namespace(|| {
        let ruleset = masquerade(&Masquerade {
            pods: networks(&["10.32.0.0/12", "fd00:32::/48"]),
            exempt: networks(&["192.168.0.0/16", "192.168.7.0/24"]),
            foreign_mark: KUBE_PROXY_MARK,
        });
        let mut nft = Nft::open().unwrap();
        nft.apply(&ruleset).unwrap();
        println!("{}", run("nft list ruleset"));
        println!("{ruleset}");
        println!("{:#?}", nft.dump(TABLE).unwrap());
        assert_eq!(nft.drift(&ruleset).unwrap(), vec![]);
    });
}
