use core::time::Duration;

use super::*;
use crate::net::nat::{Alloc, Behaviour, Conflict, Filtering, Hairpin, Mapping, NatMix, Rebind, Scope, Unsolicited};

fn all_behaviours() -> impl Iterator<Item = (Mapping, Filtering)> {
    [Mapping::Eim, Mapping::Adm, Mapping::Apdm]
        .into_iter()
        .flat_map(|mapping| [Filtering::Eif, Filtering::Adf, Filtering::Apdf].map(|filtering| (mapping, filtering)))
}

#[test]
fn every_cell_of_the_matrix_is_as_measured_and_as_predicted_in_all_3630_trials() {
    let blocks = nat_matrix();
    for block in &blocks {
        assert_eq!(block.mixed, 0, "{:?} {}: outcomes that depend on more than the class", block.scope, block.mode);
        for (i, row) in block.cells.iter().enumerate() {
            for (j, ok) in row.iter().enumerate() {
                let [a, b] = [i, j].map(|class| class_model(class, block.scope, 0).behaviour().unwrap());
                let cell = format!("{:?} {} {a} {b}", block.scope, block.mode);
                assert_eq!(predicate(block.mode, block.scope, a, b), *ok, "{cell}");
            }
        }
    }
    let cells: usize = blocks.iter().flat_map(|block| &block.cells).map(Vec::len).sum();
    assert_eq!(cells * usize::from(TRIALS), 3630);
    assert_eq!(render(&blocks), RECORDED);
}

#[test]
fn two_poisoning_routers_connect_only_if_both_send_before_either_hears() {
    let model = [NatModel::port_restricted_poisoning()];
    for mode in [Mode::Ice, Mode::Fixed] {
        let together = Trial::new(mode, 1);
        assert!(punch(&model, &model, &together).unwrap(), "{mode}");
        let late = Trial { skew: (Duration::ZERO, Duration::from_millis(100)), ..together };
        assert!(!punch(&model, &model, &late).unwrap(), "{mode}");
        assert!(punch(&[NatModel::port_restricted()], &[NatModel::port_restricted()], &late).unwrap());
    }
}

#[test]
fn nobody_gets_through_where_udp_is_blocked() {
    for model in [NatModel::open(), NatModel::full_cone(), NatModel::blocked()] {
        for mode in [Mode::Ice, Mode::Alternating] {
            assert!(!punch(core::slice::from_ref(&model), &[NatModel::blocked()], &Trial::new(mode, 1)).unwrap());
        }
    }
}

#[test]
fn punching_through_two_boxes_is_punching_through_their_combination() {
    let models = [
        NatModel::full_cone(),
        NatModel::address_restricted(),
        NatModel::port_restricted(),
        NatModel::symmetric(),
        NatModel::carrier_grade(),
        NatModel::firewall(),
    ];
    for inner in &models {
        for outer in &models {
            let path = [inner.clone(), outer.clone()];
            let a = Behaviour::of(&path).unwrap();
            for other in &models {
                let b = other.behaviour().unwrap();
                for mode in [Mode::Fixed, Mode::Alternating] {
                    let trial = Trial::new(mode, 7);
                    let ok = punch(&path, core::slice::from_ref(other), &trial).unwrap();
                    assert_eq!(ok, predicate(mode, Scope::Endpoint, a, b), "{mode}: {inner:?} in {outer:?} with {b}");
                    let ok = punch(core::slice::from_ref(other), &path, &trial).unwrap();
                    assert_eq!(ok, predicate(mode, Scope::Endpoint, b, a), "{mode}: {b} with {inner:?} in {outer:?}");
                }
            }
        }
    }
}

#[test]
fn the_default_population_connects_as_often_as_predicted_and_as_measured_in_the_wild() {
    let mix = NatMix::wild();
    mix.validate().unwrap();
    let weight = |which: fn(&NatModel) -> bool| -> u32 {
        mix.shares().iter().filter(|share| which(&share.model)).map(|share| share.weight_ppm).sum()
    };
    let symmetric = weight(|model| !model.behaviour().unwrap().eim());
    let lax = weight(|model| model.behaviour().unwrap().eim() && model.behaviour().unwrap().lax());
    assert_eq!((symmetric, lax), (200_000, 800_000 * 3 / 10));

    assert_eq!(rates(&mix).unwrap(), Rates { fixed_ppm: 688_000, alternating_ppm: 736_000 });
    for (mode, ppm) in [(Mode::Fixed, 688_000), (Mode::Alternating, 736_000)] {
        let ok = sample(&mix, mode, 10_000, 1).unwrap();
        assert!((6_290..=7_710).contains(&ok), "{mode}: {ok} of 10,000; measured 70 ± 7.1 %");
        // Three standard deviations.
        assert!((ok * 100).abs_diff(ppm) < 14_000, "{mode}: {ok} of 10,000 where {ppm} ppm are expected");
    }
}

#[test]
fn spraying_hits_as_often_as_the_birthday_paradox_says() {
    let runs = 500_u64;
    let hits: Vec<_> = (0..runs).filter_map(|seed| spray(256, 2048, seed).unwrap()).collect();
    for (probes, expected_ppm) in [(256, 640_000_u64), (512, 870_000), (1024, 983_000), (2048, 999_700)] {
        let ppm = hits.iter().filter(|first| **first <= probes).count() as u64 * 1_000_000 / runs;
        // Three standard deviations at five hundred runs, and a run more or less.
        let tolerance = match probes {
            256 => 64_000,
            512 => 45_000,
            1024 => 17_500,
            _ => 5_000,
        };
        assert!(ppm.abs_diff(expected_ppm) <= tolerance, "{probes} probes: {ppm} ppm, expected {expected_ppm}");
    }
}

/// What must be found out about a single box.
fn check(model: &NatModel, scope: Scope) {
    let path = core::slice::from_ref(model);
    let found = discover(path, 3).unwrap().expect("UDP gets through");
    let behaviour = model.behaviour().unwrap();
    assert_eq!(found.behaviour, behaviour, "{model:?}");
    let usable = predicate(Mode::Ice, scope, behaviour, behaviour);
    let hairpin = model.hairpin != Hairpin::Off && behaviour.translates && usable;
    assert_eq!(found.hairpin, hairpin, "{model:?}");
    let lifetime = (behaviour.class() != "OPEN").then_some(model.t_stream);
    assert_eq!(found.lifetime, lifetime, "{model:?}");
    let preserves = !behaviour.translates || matches!(model.alloc, Alloc::Preserve | Alloc::Overload);
    assert_eq!(found.preserves_port, preserves, "{model:?}");
}

#[test]
fn discovery_finds_what_was_configured_for_every_model() {
    let allocs = [
        Alloc::Preserve,
        Alloc::Overload,
        Alloc::Sequential { stride: 2 },
        Alloc::Random,
        Alloc::Block { base: 2048, len: 64 },
    ];
    for (n, (mapping, filtering)) in all_behaviours().enumerate() {
        for scope in [Scope::Endpoint, Scope::Mapping] {
            for (m, alloc) in allocs.into_iter().enumerate() {
                let hairpin = [Hairpin::Off, Hairpin::ExternalSource, Hairpin::InternalSource][(n + m) % 3];
                let on_conflict = [Conflict::Next, Conflict::Random, Conflict::Symmetric][(n + m / 2) % 3];
                let unsolicited = [Unsolicited::Drop, Unsolicited::IcmpUnreachable][m % 2];
                let t_stream = Duration::from_secs([20, 60, 120, 180, 300][m]);
                let base = NatModel { mapping, filtering, scope, alloc, hairpin, on_conflict, ..NatModel::default() };
                let t_unreplied = Duration::from_secs(20);
                let inbound_refresh = n % 2 == 0;
                let model = NatModel { unsolicited, t_unreplied, t_stream, inbound_refresh, ..base };
                check(&model, scope);
            }
        }
    }
}

#[test]
fn discovery_knows_public_hosts_firewalls_and_named_models() {
    for filtering in [Filtering::Adf, Filtering::Apdf, Filtering::Eif] {
        check(&NatModel { filtering, ..NatModel::firewall() }, Scope::Endpoint);
    }
    for name in crate::net::nat::NAMES.into_iter().filter(|name| *name != "blocked") {
        let model = NatModel::named(name).unwrap();
        check(&model, model.scope);
    }
    assert_eq!(discover(&[NatModel::blocked()], 1).unwrap(), None);
    assert_eq!(discover(&[NatModel::port_restricted(), NatModel::blocked()], 1).unwrap(), None);
}

#[test]
fn discovery_sees_two_boxes_as_their_combination() {
    for (mapping, filtering) in all_behaviours() {
        for (outer_mapping, outer_filtering) in all_behaviours() {
            for scope in [Scope::Endpoint, Scope::Mapping] {
                let inner = NatModel { mapping, filtering, scope, ..NatModel::port_restricted() };
                let alloc = Alloc::Block { base: 1024, len: 512 };
                let (t_stream, t_unreplied) = (Duration::from_secs(60), Duration::from_secs(60));
                let outer = NatModel { alloc, t_stream, t_unreplied, ..NatModel::default() };
                let outer = NatModel { mapping: outer_mapping, filtering: outer_filtering, scope, ..outer };
                let path = [inner, outer];
                let found = discover(&path, 5).unwrap().unwrap();
                assert_eq!(Some(found.behaviour), Behaviour::of(&path), "{path:?}");
                assert_eq!(found.lifetime, Some(Duration::from_secs(60)), "{path:?}");
            }
        }
    }
}

/// Two homes behind one carrier's NAT, with a host each, and a server outside.
fn carrier(hairpin: Hairpin) -> (Lab<u8>, BoxId, [BoxId; 2], [SiteId; 2], SiteId) {
    let mut lab = Lab::new(1, Duration::from_millis(5));
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let model = NatModel { hairpin, ..NatModel::carrier_grade() };
    let cgn = lab.net.add_box(Nat::new(model, vec![ip("203.0.113.9")], 0).unwrap(), None);
    let homes = [1_u8, 2].map(|n| {
        let wan = ip(&format!("100.64.0.{n}"));
        lab.net.add_box(Nat::new(NatModel::full_cone(), vec![wan], u64::from(n)).unwrap(), Some(cgn))
    });
    // The same private address in both homes, as it often is.
    let hosts = homes.map(|home| lab.net.add_host(ip("192.168.1.2"), Some(home)));
    let server = lab.net.add_host(ip("198.51.100.1"), None);
    (lab, cgn, homes, hosts, server)
}

fn arrival(lab: &mut Lab<u8>) -> Option<(SiteId, u16, SocketAddr, u8)> {
    let end = lab.now() + Duration::from_secs(1);
    match lab.next(end)? {
        Happening::Packet { host, port, from, payload } => Some((host, port, from, payload)),
        Happening::Timer { .. } => None,
    }
}

#[test]
fn neighbours_behind_a_carrier_meet_at_its_hairpin() {
    let (mut lab, cgn, homes, hosts, server) = carrier(Hairpin::ExternalSource);
    let to = lab.endpoint(server, 80);
    let known = hosts.map(|host| {
        lab.send(host, 4001, to, 0);
        arrival(&mut lab).expect("at the server").2
    });
    assert_eq!(known[0].ip(), known[1].ip());
    assert_ne!(known[0].port() / 512, known[1].port() / 512, "each home has a block of its own");
    // The carrier filters by port, so the first packet opens and the second comes through.
    lab.send(hosts[0], 4001, known[1], 1);
    assert_eq!(arrival(&mut lab), None);
    lab.send(hosts[1], 4001, known[0], 2);
    assert_eq!(arrival(&mut lab), Some((hosts[0], 4001, known[1], 2)));
    lab.send(hosts[0], 4001, known[1], 3);
    assert_eq!(arrival(&mut lab), Some((hosts[1], 4001, known[0], 3)));
    assert_eq!((lab.net.nat(cgn).len(), lab.net.nat(homes[0]).len()), (2, 1));
    assert_eq!(lab.net.box_of(hosts[1]), Some(homes[1]));

    let (mut lab, .., hosts, server) = carrier(Hairpin::Off);
    let to = lab.endpoint(server, 80);
    let known = hosts.map(|host| {
        lab.send(host, 4001, to, 0);
        arrival(&mut lab).expect("at the server").2
    });
    for n in [0, 1, 0, 1] {
        lab.send(hosts[n], 4001, known[1 - n], 1);
        assert_eq!(arrival(&mut lab), None);
    }
}

#[test]
fn neighbours_in_one_network_need_no_box() {
    let mut lab = Lab::new(1, Duration::from_millis(5));
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let home = lab.net.add_box(Nat::new(NatModel::symmetric(), vec![ip("203.0.113.9")], 0).unwrap(), None);
    let hosts = ["10.0.0.1", "10.0.0.2"].map(|text| lab.net.add_host(ip(text), Some(home)));
    let to = lab.endpoint(hosts[1], 9);
    lab.send(hosts[0], 7, to, 1);
    assert_eq!(arrival(&mut lab), Some((hosts[1], 9, SocketAddr::new(ip("10.0.0.1"), 7), 1)));
    assert_eq!(lab.net.nat(home).len(), 0);
}

#[test]
fn an_outer_reboot_moves_a_host_without_its_own_router_noticing() {
    let (mut lab, cgn, homes, hosts, server) = carrier(Hairpin::Off);
    let to = lab.endpoint(server, 80);
    lab.send(hosts[0], 4001, to, 0);
    let before = arrival(&mut lab).unwrap().2;
    let now = lab.now();
    lab.net.nat(cgn).reboot(now, Some(vec!["203.0.113.10".parse().unwrap()]));
    lab.send(server, 80, before, 1);
    assert_eq!(arrival(&mut lab), None, "nobody has the old address any more");
    lab.send(hosts[0], 4001, to, 2);
    let after = arrival(&mut lab).unwrap().2;
    assert_eq!(after.ip().to_string(), "203.0.113.10");
    lab.send(server, 80, after, 3);
    assert_eq!(arrival(&mut lab), Some((hosts[0], 4001, to, 3)));
    assert_eq!(lab.net.nat(homes[0]).len(), 1);
    assert_eq!(NatModel::carrier_grade().rebind, Rebind::Keep);
}
