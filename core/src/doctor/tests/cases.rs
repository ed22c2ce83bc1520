//! One change of a healthy node, one finding.

use super::*;

#[test]
fn each_change_of_a_healthy_node_is_found_and_nothing_else() {
    use Verdict::{Error, Note, Warning};
    type Change = fn(&mut Facts);
    let cases: &[(&str, Verdict, Change)] = &[
        ("capacity", Error, |f| f.pods.as_mut().unwrap().room = (253, 0)),
        ("capacity", Warning, |f| f.pods.as_mut().unwrap().room = (250, 25)),
        ("overlap", Warning, |f| place_of(f).local.push((ip("10.33.0.1"), 16, "docker0".into()))),
        ("daemon", Error, |f| f.daemon.lives = false),
        ("daemon", Error, |f| f.daemon.health.as_mut().unwrap().troubles.push("no device".into())),
        ("daemon", Error, |f| f.daemon.uptime = 1000),
        ("daemon", Warning, |f| f.daemon.version = Some("0.9.0".into())),
        ("clock", Warning, |f| f.daemon.written[0].1 = NOW + 3600),
        ("dns-udp", Error, |f| first_resolver(f).udp = vec![Err((FailureKind::Timeout, "x".into()))]),
        ("dns-tcp", Warning, |f| first_resolver(f).tcp = Err((FailureKind::Unreachable, "x".into()))),
        ("dns-ttl", Note, |f| first_resolver(f).tcp.as_mut().unwrap().1 = 0),
        ("dns-ttl", Warning, |f| first_resolver(f).tcp.as_mut().unwrap().1 = 301),
        ("members", Warning, |f| {
            for resolver in f.resolvers.as_mut().unwrap() {
                resolver.tcp.as_mut().unwrap().0.insert(ip("172.21.0.9"));
                resolver.udp = vec![resolver.tcp.clone()];
            }
        }),
        ("address", Error, |f| place_of(f).running = false),
        ("address", Warning, |f| place_of(f).identity.also_listed = vec![ip("172.20.0.9")]),
        ("underlay-mtu", Error, |f| f.config.as_mut().unwrap().underlay_mtu = Some(9000)),
        ("vxlan-port", Error, |f| kernel_of(f).port_owners.push("other (process 7)".into())),
        ("vxlan-port", Error, |f| kernel_of(f).tunnels.push(("rival".into(), 4097, 4789))),
        ("device", Error, |f| kernel_of(f).observed.device.as_mut().unwrap().up = false),
        ("device", Error, |f| kernel_of(f).observed.device.as_mut().unwrap().vni = 5),
        ("device", Error, |f| kernel_of(f).observed.device.as_mut().unwrap().foreign_features = true),
        ("device-mtu", Error, |f| kernel_of(f).observed.device.as_mut().unwrap().mtu = 1400),
        ("peer-tables", Error, |f| assert!(kernel_of(f).observed.neighbours.pop_first().is_some())),
        ("peer-tables", Error, |f| assert!(kernel_of(f).observed.fdb.pop_first().is_some())),
        ("peer-tables", Warning, |f| {
            let mac = crate::addr::MacAddr::vtep(99);
            kernel_of(f).observed.fdb.insert((mac, ip("172.20.0.99")));
        }),
        ("peer-routes", Error, |f| kernel_of(f).leads[0].1 = Some(2)),
        ("nft-table", Error, |f| f.rules = Ok(vec!["a rule is missing".into()])),
        ("underlay", Warning, |f| {
            first_peer(f).underlay = Some(false);
        }),
        ("path-mtu", Error, |f| first_peer(f).full_size = Some(false)),
        ("plans", Error, |f| f.daemon.probe.as_mut().unwrap().peers[0].plan = Agreement::Different),
        ("plans", Note, |f| f.daemon.probe.as_mut().unwrap().peers[0].version = Some("2.0.0".into())),
        ("forwarding", Error, |f| drop(f.settings.insert("ipv4/ip_forward".into(), "0".into()))),
        ("networkd", Warning, |f| {
            f.host.networkd = Some(NetworkdFacts { manages_foreign_routes: true, unmanaged: true });
        }),
        ("networkd", Warning, |f| {
            f.host.networkd = Some(NetworkdFacts { manages_foreign_routes: false, unmanaged: false });
        }),
        ("network-manager", Warning, |f| f.host.network_manager = Some([true, false])),
        ("firewalld", Warning, |f| f.host.firewalld = Some([true, false])),
        ("cni-config", Error, |f| f.cni.files = Ok(vec![])),
        ("cni-config", Error, |f| f.cni.files.as_mut().unwrap().insert(0, file("05-x.conf", &["bridge"]))),
        ("cni-config", Note, |f| f.cni.files.as_mut().unwrap().push(file("20-x.conf", &["bridge"]))),
        ("cni-config", Warning, |f| {
            f.cni.files.as_mut().unwrap().push(CniFile { name: "x.conf".into(), types: Err("no".into()) });
        }),
        ("cni-plugin", Error, |f| f.cni.plugin.present = false),
        ("cni-plugin", Error, |f| f.cni.plugin.executable = false),
        ("cni-plugin", Error, |f| f.cni.plugin.interpreter = Err("not ELF".into())),
        ("cni-plugin", Warning, |f| f.cni.plugin.interpreter = Ok(Some("/lib/ld.so".into()))),
        ("cni-plugin", Warning, |f| f.cni.plugin.version = Ok("0.9.0".into())),
        ("leases", Warning, |f| f.pods.as_mut().unwrap().attachments[0].1 = false),
        ("leases", Warning, |f| f.pods.as_mut().unwrap().orphans.push(ip("10.32.1.9"))),
        ("leases", Warning, |f| f.pods.as_mut().unwrap().strays.push("mnet1".into())),
        ("leases", Error, |f| f.pods.as_mut().unwrap().unrouted.push(ip("10.32.1.9"))),
        ("kube-proxy", Warning, |f| f.kube.proxy = Some(("10.244.0.0/16".into(), "--cluster-cidr".into()))),
        ("kubelet", Warning, |f| f.kube.kubelet = Some(("10.32.2.0/24".into(), "--pod-cidr".into()))),
        ("kubelet", Warning, |f| f.kube.node_ip = Some("10.0.0.1".into())),
    ];
    for (number, (check, verdict, change)) in cases.iter().enumerate() {
        assert_eq!(found(change), [(*check, *verdict)], "case {number}");
    }
}
