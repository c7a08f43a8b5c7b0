use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

use peerwork::Time;

use super::*;
use crate::dice::Dice;

/// A NAT at 203.0.113.1 (and further addresses), dice, and a clock in seconds.
struct Rig {
    nat: Nat,
    dice: Dice,
    now: Time,
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn rig(model: NatModel) -> Rig {
    rig_with(model, &["203.0.113.1"])
}

fn rig_with(model: NatModel, external: &[&str]) -> Rig {
    let external: Vec<IpAddr> = external.iter().map(|ip| ip.parse().unwrap()).collect();
    Rig { nat: Nat::new(model, external, 7).unwrap(), dice: Dice::from_seed(1), now: Time::from_secs(100) }
}

impl Rig {
    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn try_out(&mut self, src: SocketAddr, dst: SocketAddr) -> Outbound {
        self.nat.outbound(self.now, &mut self.dice, src, dst)
    }

    /// Sends and returns the source seen outside.
    fn out(&mut self, src: SocketAddr, dst: SocketAddr) -> SocketAddr {
        match self.try_out(src, dst) {
            Outbound::Forward { src, .. } => src,
            other => panic!("{src} to {dst}: {other:?}"),
        }
    }

    fn inward(&mut self, src: SocketAddr, dst: SocketAddr) -> Result<SocketAddr, Cause> {
        match self.nat.inbound(self.now, src, dst) {
            Inbound::Deliver { to, .. } => Ok(to),
            Inbound::Drop(cause) | Inbound::Unreachable(cause) => Err(cause),
        }
    }

    fn map(&mut self, internal: SocketAddr, wanted: u16, seconds: u64) -> Option<SocketAddr> {
        self.nat.map_port(self.now, &mut self.dice, internal, wanted, Duration::from_secs(seconds))
    }
}

fn host() -> SocketAddr {
    at("10.0.0.2:4001")
}

fn neighbour() -> SocketAddr {
    at("10.0.0.3:4001")
}

fn peer() -> SocketAddr {
    at("198.51.100.1:9")
}

/// The `n`-th of many remote endpoints at different addresses.
fn remote(n: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4((0x2000_0000 + n).into()), 9)
}

#[test]
fn a_mapping_lives_for_its_timeout_to_the_nanosecond_and_longer_once_answered() {
    for (answered, lifetime) in [(false, 30), (true, 120)] {
        for (late, delivered) in [(false, true), (true, false)] {
            let mut rig = rig(NatModel { inbound_refresh: false, ..NatModel::port_restricted() });
            let seen = rig.out(host(), peer());
            if answered {
                assert_eq!(rig.inward(peer(), seen), Ok(host()));
            }
            rig.now += Duration::from_secs(lifetime) - Duration::from_nanos(u64::from(!late));
            let expected = if delivered { Ok(host()) } else { Err(Cause::Expired) };
            assert_eq!(rig.inward(peer(), seen), expected, "answered: {answered}");
            assert_eq!(rig.nat.len(), usize::from(delivered));
        }
    }
}

#[test]
fn packets_out_refresh_always_and_packets_in_only_where_the_model_says_so() {
    for inbound_refresh in [true, false] {
        let mut rig = rig(NatModel { inbound_refresh, ..NatModel::port_restricted() });
        let seen = rig.out(host(), peer());
        assert_eq!(rig.inward(peer(), seen), Ok(host()));
        rig.wait(100);
        assert_eq!(rig.inward(peer(), seen), Ok(host()));
        rig.wait(100);
        let still = rig.inward(peer(), seen);
        assert_eq!(still, if inbound_refresh { Ok(host()) } else { Err(Cause::Expired) });

        let seen = rig.out(host(), peer());
        assert_eq!(rig.inward(peer(), seen), Ok(host()));
        for _ in 0..10 {
            rig.wait(119);
            assert_eq!(rig.out(host(), peer()), seen);
        }
        assert_eq!(rig.inward(peer(), seen), Ok(host()));
    }
}

#[test]
fn a_hole_in_the_filter_ends_before_a_mapping_that_others_keep_alive() {
    let mut rig = rig(NatModel::port_restricted());
    let seen = rig.out(host(), peer());
    rig.wait(29);
    assert_eq!(rig.out(host(), remote(1)), seen);
    rig.wait(1);
    assert_eq!(rig.inward(peer(), seen), Err(Cause::Expired));
    assert_eq!(rig.inward(remote(1), seen), Ok(host()));
    assert_eq!(rig.inward(remote(2), seen), Err(Cause::Filter));
    assert_eq!(rig.inward(peer(), at("203.0.113.1:5")), Err(Cause::NoMapping));
    assert_eq!(rig.inward(peer(), at("203.0.113.2:5")), Err(Cause::NoRoute));
}

#[test]
fn scope_decides_whether_one_mapping_opens_the_others() {
    for (scope, opened) in [(Scope::Endpoint, true), (Scope::Mapping, false)] {
        let mut rig = rig(NatModel { scope, mapping: Mapping::Apdm, ..NatModel::port_restricted() });
        let first = rig.out(host(), peer());
        let second = rig.out(host(), remote(1));
        assert_ne!(first, second);
        assert_eq!(rig.inward(remote(1), first).is_ok(), opened);
        assert_eq!(rig.inward(remote(1), second), Ok(host()));
    }
}

#[test]
fn address_dependent_boxes_look_at_addresses_only() {
    let mut rig = rig(NatModel { mapping: Mapping::Adm, filtering: Filtering::Adf, ..NatModel::default() });
    let other_port = at("198.51.100.1:10");
    let seen = rig.out(host(), peer());
    assert_eq!(rig.out(host(), other_port), seen);
    assert_eq!(rig.inward(at("198.51.100.1:77"), seen), Ok(host()));
    assert_ne!(rig.out(host(), remote(1)), seen);
}

#[test]
fn a_reboot_keeps_endpoints_or_not_as_the_model_says_and_always_loses_mappings() {
    let allocs =
        [Alloc::Preserve, Alloc::Random, Alloc::Sequential { stride: 3 }, Alloc::Block { base: 1024, len: 64 }];
    for alloc in allocs {
        for rebind in [Rebind::Keep, Rebind::New] {
            let mut rig = rig(NatModel { alloc, rebind, ..NatModel::port_restricted() });
            let (first, second) = (rig.out(host(), peer()), rig.out(neighbour(), peer()));
            rig.nat.reboot(rig.now, None);
            assert!(rig.nat.is_empty());
            assert!(rig.inward(peer(), first).is_err());
            rig.wait(1);
            // In the other order, so that nothing is the same by chance.
            let (second_again, first_again) = (rig.out(neighbour(), peer()), rig.out(host(), peer()));
            let kept = rebind == Rebind::Keep;
            assert_eq!((first_again == first, second_again == second), (kept, kept), "{alloc:?} {rebind:?}");
        }
    }
}

#[test]
fn a_reboot_with_a_new_address_moves_everybody() {
    let mut rig = rig(NatModel::port_restricted());
    let before = rig.out(host(), peer());
    rig.nat.reboot(rig.now, Some(vec!["203.0.113.77".parse().unwrap()]));
    assert!(!rig.nat.owns(before.ip()));
    let after = rig.out(host(), peer());
    assert_eq!(after, at("203.0.113.77:4001"));
    assert_eq!(rig.inward(peer(), after), Ok(host()));
}

#[test]
fn forgetting_rebinds_even_where_ports_are_preserved() {
    let mut rig = rig(NatModel::port_restricted());
    let before = rig.out(host(), peer());
    assert_eq!(before.port(), 4001);
    rig.nat.forget(rig.now);
    let after = rig.out(host(), peer());
    assert_ne!(before, after);
    assert!(rig.inward(peer(), before).is_err());
    assert_eq!(rig.inward(peer(), after), Ok(host()));
}

#[test]
fn hairpins_show_the_source_that_the_model_says_and_pass_the_filter() {
    for hairpin in [Hairpin::Off, Hairpin::ExternalSource, Hairpin::InternalSource] {
        let mut rig = rig(NatModel { hairpin, ..NatModel::port_restricted() });
        let (a, b) = (rig.out(host(), peer()), rig.out(neighbour(), peer()));
        let cause = if hairpin == Hairpin::Off { Cause::Hairpin } else { Cause::Filter };
        assert_eq!(rig.try_out(host(), b), Outbound::Drop(cause));
        let expected = match hairpin {
            Hairpin::Off => Outbound::Drop(Cause::Hairpin),
            Hairpin::ExternalSource => Outbound::Hairpin { src: b, to: host() },
            Hairpin::InternalSource => Outbound::Hairpin { src: neighbour(), to: host() },
        };
        assert_eq!(rig.try_out(neighbour(), a), expected);
    }
    let mut rig = rig(NatModel::full_cone());
    let seen = rig.out(host(), peer());
    assert_eq!(rig.try_out(host(), seen), Outbound::Hairpin { src: seen, to: host() }, "to itself");
    let nobody = SocketAddr::new(seen.ip(), 1);
    assert_eq!(rig.try_out(host(), nobody), Outbound::Drop(Cause::NoMapping));
}

#[test]
fn a_conflict_over_a_port_is_settled_as_the_model_says() {
    let mut next = rig(NatModel { on_conflict: Conflict::Next, ..NatModel::port_restricted() });
    assert_eq!((next.out(host(), peer()).port(), next.out(neighbour(), peer()).port()), (4001, 4002));

    let mut random = rig(NatModel { on_conflict: Conflict::Random, ..NatModel::port_restricted() });
    random.out(host(), peer());
    let port = random.out(neighbour(), peer()).port();
    assert!(port != 4001 && port >= 1024);
    assert_eq!(random.out(neighbour(), remote(1)).port(), port, "and stays endpoint-independent");

    let mut symmetric = rig(NatModel { on_conflict: Conflict::Symmetric, ..NatModel::port_restricted() });
    assert_eq!(symmetric.out(host(), peer()), symmetric.out(host(), remote(1)));
    let (one, two) = (symmetric.out(neighbour(), peer()), symmetric.out(neighbour(), remote(1)));
    assert_ne!(one, two);
    assert_eq!(symmetric.out(neighbour(), peer()), one);
    assert_eq!(symmetric.inward(peer(), one), Ok(neighbour()));
    // When the first is gone, the second becomes endpoint-independent.
    symmetric.wait(200);
    let seen = symmetric.out(neighbour(), peer());
    assert_eq!((seen.port(), symmetric.out(neighbour(), remote(1))), (4001, seen));
}

#[test]
fn overloaded_ports_are_told_apart_by_the_remote_endpoint() {
    for mapping in [Mapping::Eim, Mapping::Apdm] {
        let mut rig = rig(NatModel { mapping, alloc: Alloc::Overload, ..NatModel::port_restricted() });
        let shared = rig.out(host(), peer());
        assert_eq!(rig.out(neighbour(), remote(1)), shared, "another destination, so the same port");
        let other = rig.out(neighbour(), peer());
        assert_ne!(other, shared, "the same destination, so another port");
        assert_eq!(rig.inward(peer(), shared), Ok(host()));
        assert_eq!(rig.inward(remote(1), shared), Ok(neighbour()));
        assert_eq!(rig.inward(peer(), other), Ok(neighbour()));
        assert_eq!(rig.inward(remote(2), shared), Err(Cause::Filter));
        assert_eq!(rig.out(neighbour(), peer()), other);
        assert_eq!(rig.out(neighbour(), remote(1)), shared);
    }
}

#[test]
fn a_full_table_drops_or_evicts_who_was_idle_for_longest() {
    let sources: Vec<_> = (0..5).map(|n| SocketAddr::new(host().ip(), 5000 + n)).collect();
    let mut rig_drop = rig(NatModel { max_mappings: 3, ..NatModel::port_restricted() });
    for (n, src) in sources.iter().enumerate() {
        let expected = if n < 3 { None } else { Some(Outbound::Drop(Cause::Full)) };
        let result = rig_drop.try_out(*src, peer());
        assert_eq!(expected.unwrap_or(result), result);
    }
    rig_drop.wait(30);
    rig_drop.out(sources[4], peer());
    assert_eq!(rig_drop.nat.len(), 1, "room again once mappings have ended");

    let mut rig = rig(NatModel { max_mappings: 3, on_full: OnFull::EvictLru, ..NatModel::port_restricted() });
    let seen: Vec<_> = sources[..3].iter().map(|src| rig.out(*src, peer())).collect();
    assert_eq!(rig.inward(peer(), seen[0]), Ok(sources[0]), "no longer the idlest");
    let fourth = rig.out(sources[3], peer());
    assert_eq!(rig.nat.len(), 3);
    let reached = [seen[0], seen[1], seen[2], fourth].map(|seen| rig.inward(peer(), seen));
    assert_eq!(reached, [Ok(sources[0]), Err(Cause::Expired), Ok(sources[2]), Ok(sources[3])]);
}

#[test]
fn every_port_of_an_address_can_be_used_and_then_it_is_full_or_evicts() {
    for (alloc, on_full) in [
        (Alloc::Random, OnFull::Drop),
        (Alloc::Sequential { stride: 4 }, OnFull::Drop),
        (Alloc::Preserve, OnFull::EvictLru),
    ] {
        let model = NatModel { alloc, on_full, max_mappings: 100_000, ..NatModel::symmetric() };
        let mut rig = rig(model);
        let first = rig.out(host(), remote(0));
        for n in 1..64_512 {
            rig.out(host(), remote(n));
        }
        assert_eq!(rig.nat.len(), 64_512);
        let more = rig.try_out(host(), remote(100_000));
        match on_full {
            OnFull::Drop => assert_eq!(more, Outbound::Drop(Cause::Full)),
            OnFull::EvictLru => assert_eq!(more, Outbound::Forward { src: first, dst: remote(100_000) }),
        }
        assert_eq!(rig.nat.len(), 64_512);
    }
}

#[test]
fn subscribers_of_a_carrier_have_blocks_of_their_own_and_no_more() {
    for on_full in [OnFull::Drop, OnFull::EvictLru] {
        let alloc = Alloc::Block { base: 2000, len: 8 };
        let mut rig = rig(NatModel { alloc, on_full, ..NatModel::carrier_grade() });
        let mut blocks = std::collections::BTreeSet::new();
        for subscriber in 1..=50_u8 {
            let src = |port| SocketAddr::new(IpAddr::V4([100, 64, 0, subscriber].into()), port);
            let ports: Vec<_> = (0..8).map(|n| rig.out(src(1000 + n), peer()).port()).collect();
            let block = (ports[0] - 2000) / 8;
            assert!(blocks.insert(block), "a block of its own");
            assert_eq!(ports, (0..8).map(|n| 2000 + block * 8 + n).collect::<Vec<_>>(), "in order");
            match on_full {
                OnFull::Drop => assert_eq!(rig.try_out(src(999), peer()), Outbound::Drop(Cause::Full)),
                OnFull::EvictLru => {
                    assert_eq!(rig.out(src(999), peer()).port(), ports[0]);
                    assert_eq!(rig.out(src(1007), peer()).port(), ports[7], "the others stay");
                }
            }
        }
        // Blocks come back when their subscribers fall silent.
        rig.wait(1000);
        rig.out(host(), peer());
        assert_eq!(rig.nat.len(), 1);
    }
    let mut few = rig(NatModel { alloc: Alloc::Block { base: 60_000, len: 2500 }, ..NatModel::carrier_grade() });
    few.out(at("100.64.0.1:1"), peer());
    few.out(at("100.64.0.2:1"), peer());
    assert_eq!(few.try_out(at("100.64.0.3:1"), peer()), Outbound::Drop(Cause::Full), "two blocks fit");
}

#[test]
fn sequential_ports_can_be_predicted() {
    let model = NatModel { alloc: Alloc::Sequential { stride: 2 }, ..NatModel::symmetric() };
    let mut rig = rig(model);
    let ports: Vec<_> = (0..5).map(|n| u32::from(rig.out(host(), remote(n)).port())).collect();
    assert!(ports.windows(2).all(|pair| pair[1] == pair[0] + 2), "{ports:?}");
}

#[test]
fn paired_pooling_keeps_a_host_on_one_address_and_arbitrary_pooling_does_not() {
    let external = ["203.0.113.1", "203.0.113.2", "203.0.113.3"];
    for (pooling, paired) in [(Pooling::Paired, true), (Pooling::Arbitrary, false)] {
        let mut rig = rig_with(NatModel { pooling, ..NatModel::symmetric() }, &external);
        let ips: std::collections::BTreeSet<_> = (0..50).map(|n| rig.out(host(), remote(n)).ip()).collect();
        assert_eq!(ips.len() == 1, paired);
        let hosts = (1..=50_u8).map(|n| SocketAddr::new(IpAddr::V4([10, 0, 1, n].into()), 1));
        let ips: std::collections::BTreeSet<_> = hosts.map(|host| rig.out(host, peer()).ip()).collect();
        assert_eq!(ips.len(), 3, "hosts spread over all");
    }
}

#[test]
fn an_unsolicited_packet_poisons_the_port_towards_its_sender_for_a_while() {
    let mut rig = rig(NatModel::port_restricted_poisoning());
    let seen = rig.out(host(), remote(1));
    assert_eq!(rig.inward(peer(), seen), Err(Cause::Filter));
    let other = rig.out(host(), peer());
    assert_ne!(other, seen, "the router thinks that it talks with the peer itself on that port");
    assert_eq!(rig.inward(peer(), other), Ok(host()));
    assert_eq!(rig.inward(peer(), seen), Err(Cause::Filter));
    assert_eq!(rig.out(host(), remote(2)), seen, "other destinations are as before");
    assert_eq!(rig.out(host(), peer()), other);
    // Poison that is not renewed ends.
    rig.wait(500);
    assert_eq!(rig.out(host(), peer()).port(), 4001);
    // Who was asked first is not poisoned.
    assert_eq!(rig.out(host(), remote(3)).port(), 4001);
    assert_eq!(rig.inward(remote(3), seen), Ok(host()));
    assert_eq!(rig.out(host(), remote(3)).port(), 4001);
    // Poison before there is any mapping.
    assert_eq!(rig.inward(remote(4), at("203.0.113.1:6000")), Err(Cause::NoMapping));
    assert_ne!(rig.out(SocketAddr::new(host().ip(), 6000), remote(4)).port(), 6000);
}

#[test]
fn only_models_that_say_so_tell_the_sender() {
    for (unsolicited, told) in [(Unsolicited::Drop, false), (Unsolicited::IcmpUnreachable, true)] {
        for model in [NatModel::port_restricted(), NatModel::firewall()] {
            let mut rig = rig(NatModel { unsolicited, ..model });
            let result = rig.nat.inbound(rig.now, peer(), at("203.0.113.1:5"));
            assert_eq!(matches!(result, Inbound::Unreachable(_)), told);
        }
    }
}

#[test]
fn a_firewall_changes_nothing_and_lets_answers_in() {
    let public = at("203.0.113.1:4001");
    let mut rig = rig(NatModel::firewall());
    assert_eq!(rig.inward(peer(), public), Err(Cause::Filter));
    assert_eq!(rig.out(public, peer()), public);
    assert_eq!(rig.inward(peer(), public), Ok(public));
    assert_eq!(rig.inward(remote(1), public), Err(Cause::Filter));
    assert_eq!(rig.inward(peer(), at("203.0.113.1:4002")), Err(Cause::Filter), "another port of the host");
    rig.wait(119);
    assert_eq!(rig.inward(peer(), public), Ok(public));
    rig.wait(120);
    assert_eq!(rig.inward(peer(), public), Err(Cause::Expired));
    assert_eq!(rig.map(public, 0, 10), Some(public));
    assert_eq!(rig.inward(remote(1), public), Ok(public));
    rig.wait(10);
    assert!(rig.inward(remote(1), public).is_err());
    rig.out(public, peer());
    rig.nat.reboot(rig.now, None);
    assert_eq!(rig.inward(peer(), public), Err(Cause::Filter));
    assert_eq!(rig.nat.len(), 0);

    let mut open = self::rig(NatModel::open());
    assert_eq!(open.inward(peer(), public), Ok(public));
    let mut blocked = self::rig(NatModel::blocked());
    assert_eq!(blocked.try_out(public, peer()), Outbound::Drop(Cause::Blocked));
    assert_eq!(blocked.inward(peer(), public), Err(Cause::Blocked));
    assert_eq!(blocked.map(public, 0, 10), None);
}

#[test]
fn a_static_mapping_lets_everybody_in_until_its_lifetime_ends() {
    for model in [NatModel::port_restricted(), NatModel::symmetric(), NatModel::carrier_grade()] {
        let mut rig = rig(model);
        let open = rig.map(host(), 7777, 60).unwrap();
        assert_eq!(open, at("203.0.113.1:7777"));
        assert_eq!(rig.inward(peer(), open), Ok(host()));
        assert_eq!(rig.out(host(), remote(1)), open, "what it sends comes from there");
        assert_eq!(rig.map(neighbour(), 7777, 60).map(|seen| seen.port()), Some(7778), "taken, so the next");
        rig.wait(59);
        assert_eq!(rig.inward(remote(5), open), Ok(host()));
        assert_eq!(rig.map(host(), 7777, 60), Some(open), "renewed");
        rig.wait(59);
        assert_eq!(rig.inward(remote(5), open), Ok(host()));
        assert_eq!(rig.nat.len(), 1, "the neighbour's has ended");
        rig.wait(1);
        assert_eq!(rig.inward(remote(5), open), Err(Cause::Expired));
        assert_eq!(rig.nat.len(), 0);

        let open = rig.map(host(), 0, 60).unwrap();
        assert_eq!(open.port(), host().port());
        assert_eq!(rig.map(host(), 0, 0), None);
        assert!(rig.inward(peer(), open).is_err(), "ended by its owner");
    }
    let mut rig = rig(NatModel { max_mappings: 1, on_full: OnFull::EvictLru, ..NatModel::port_restricted() });
    let seen = rig.out(host(), peer());
    assert_eq!(rig.map(host(), 1, 60), Some(seen), "who has a mapping keeps its endpoint");
    assert_eq!(rig.try_out(neighbour(), peer()), Outbound::Drop(Cause::Full), "and static mappings are not evicted");
    assert_eq!(rig.map(neighbour(), 1, 60), None);
}

#[test]
fn nat64_translates_between_families_and_shows_the_outside_under_its_prefix() {
    let mut rig = rig(NatModel::nat64());
    let (inside, server) = (at("[fd00::2]:4001"), at("[64:ff9b::c633:6401]:9"));
    let Outbound::Forward { src, dst } = rig.try_out(inside, server) else { panic!("not sent") };
    assert_eq!((src.ip().to_string(), dst), ("203.0.113.1".to_owned(), peer()));
    let back = rig.nat.inbound(rig.now, at("198.51.100.1:77"), src);
    assert_eq!(back, Inbound::Deliver { src: at("[64:ff9b::c633:6401]:77"), to: inside });
    assert_eq!(rig.inward(remote(1), src), Err(Cause::Filter));
    // Hairpin: another host behind the same box, by its external address.
    let (other, seen) = (at("[fd00::3]:4001"), to_nat64(src));
    let outside = rig.out(other, server);
    assert_eq!(rig.try_out(other, seen), Outbound::Drop(Cause::Filter));
    rig.try_out(inside, to_nat64(outside));
    assert_eq!(rig.try_out(other, seen), Outbound::Hairpin { src: to_nat64(outside), to: inside });
    // Other IPv6 passes.
    let native = at("[2001:db8::1]:9");
    assert_eq!(rig.try_out(inside, native), Outbound::Forward { src: inside, dst: native });
    assert_eq!(rig.nat.inbound(rig.now, native, inside), Inbound::Deliver { src: native, to: inside });
    assert_eq!(rig.try_out(inside, peer()), Outbound::Drop(Cause::NoRoute));
    assert_eq!(from_nat64(to_nat64(peer())), Some(peer()));
    assert_eq!(from_nat64(native), None);
    let mut v4 = self::rig(NatModel::port_restricted());
    assert_eq!(v4.try_out(inside, native), Outbound::Drop(Cause::NoRoute));
}

#[test]
fn memory_is_bounded_under_a_flood_of_a_million_destinations() {
    let models = [
        NatModel { max_mappings: 512, ..NatModel::port_restricted() },
        NatModel { max_mappings: 512, on_full: OnFull::EvictLru, ..NatModel::symmetric() },
        NatModel { max_mappings: 512, alloc: Alloc::Overload, ..NatModel::address_restricted() },
        NatModel { max_mappings: 512, ..NatModel::port_restricted_poisoning() },
        NatModel::firewall(),
    ];
    for (model, count) in models.into_iter().zip([1_000_000, 200_000, 100_000, 100_000, 100_000]) {
        let mut rig = rig(model);
        let src = if rig.nat.model().kind == Kind::Firewall { at("203.0.113.1:4001") } else { host() };
        for n in 0..count {
            rig.now += Duration::from_micros(10);
            rig.try_out(src, remote(n));
            if n % 4 == 0 {
                let _ = rig.inward(remote(n + 2_000_000), at("203.0.113.1:4001"));
            }
        }
        assert!(rig.nat.len() <= 512);
        assert!(rig.nat.table.looks() <= 64 + 2 * 512 + 1, "{}", rig.nat.table.looks());
        let cap = (512 * FLOWS_PER_MAPPING).max(LEAST_FLOWS);
        let cap = if rig.nat.model().kind == Kind::Firewall { 16_384 * FLOWS_PER_MAPPING } else { cap };
        assert!(rig.nat.flows.len() <= 2 * cap && rig.nat.taken.len() <= 2 * cap && rig.nat.ended.len() <= 2 * ENDED);
        // It still works: the last one contacted gets through.
        let seen = rig.out(src, peer());
        assert_eq!(rig.inward(peer(), seen), Ok(src));
    }
}

#[test]
fn other_hosts_packets_do_not_move_a_host_s_random_port() {
    let mut alone = rig(NatModel::symmetric());
    let mut busy = rig(NatModel::symmetric());
    for n in 0..100 {
        busy.out(neighbour(), remote(n));
    }
    assert_eq!(alone.out(host(), peer()), busy.out(host(), peer()));
}

#[test]
fn models_are_read_from_files_with_defaults_and_without_guessing() {
    let model: NatModel =
        serde_json::from_str(r#"{"mapping": "apdm", "alloc": {"block": {"base": 1024, "len": 256}}}"#).unwrap();
    let expected =
        NatModel { mapping: Mapping::Apdm, alloc: Alloc::Block { base: 1024, len: 256 }, ..NatModel::default() };
    assert_eq!(model, expected);
    for name in NAMES {
        let model = NatModel::named(name).unwrap();
        model.validate().unwrap();
        assert_eq!(serde_json::from_str::<NatModel>(&serde_json::to_string(&model).unwrap()).unwrap(), model);
    }
    assert!(serde_json::from_str::<NatModel>(r#"{"maping": "eim"}"#).unwrap_err().to_string().contains("maping"));
    assert!(NatModel::named("cone").unwrap_err().to_string().contains("full-cone"));
    assert_eq!(serde_json::from_str::<NatModel>("{\"t-stream\": \"5m\"}").unwrap().t_stream, Duration::from_secs(300));
    let json = serde_json::to_string(&NatMix::wild()).unwrap();
    assert_eq!(serde_json::from_str::<NatMix>(&json).unwrap(), NatMix::wild());
}

#[test]
fn models_that_make_no_sense_are_refused_with_a_hint() {
    let base = NatModel::default;
    let bad = [
        (NatModel { t_unreplied: Duration::ZERO, ..base() }, "t_unreplied > 0"),
        (NatModel { t_stream: Duration::from_secs(1), ..base() }, "raise t_stream"),
        (NatModel { max_mappings: 0, ..base() }, "max_mappings is 0"),
        (NatModel { alloc: Alloc::Sequential { stride: 0 }, ..base() }, "stride"),
        (NatModel { alloc: Alloc::Block { base: 65_000, len: 1000 }, ..base() }, "lower base or len"),
    ];
    for (model, hint) in bad {
        let error = Nat::new(model, vec![peer().ip()], 1).unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
    }
    assert_eq!(Nat::new(base(), Vec::new(), 1).unwrap_err(), NatError::NoAddress);
    assert_eq!(Nat::new(NatModel::nat64(), vec!["::1".parse().unwrap()], 1).unwrap_err(), NatError::NoAddress);
    assert_eq!(NatMix::new([(base(), 999_999)]), Err(NatError::Weights(999_999)));
}

#[test]
fn classes_have_their_names_and_causes_too() {
    let names = NAMES.map(|name| NatModel::named(name).unwrap().class());
    let expected =
        ["OPEN", "FW", "EIM/EIF", "EIM/ADF", "EIM/APDF", "EIM/APDF", "APDM/APDF", "EIM/APDF", "BLOCKED", "EIM/ADF"];
    assert_eq!(names, expected);
    assert_eq!(Cause::Filter.to_string(), "nat.filter");
}

#[test]
fn a_mix_picks_as_often_as_its_weights_say_and_by_name() {
    let (mix, mut dice) = (NatMix::wild(), Dice::from_seed(3));
    let picks: Vec<_> = (0..20_000).map(|n| mix.pick(&mut dice, n, 0)).collect();
    for share in mix.shares() {
        let count = picks.iter().filter(|model| **model == share.model).count();
        let expected = share.weight_ppm as usize / 50;
        assert!(count.abs_diff(expected) < 250, "{}: {count} of {expected}", share.model.class());
    }
    assert_eq!(mix.pick(&mut dice, 77, 0), picks[77]);
    assert_eq!(mix.pick(&mut Dice::from_bytes(Vec::new()), 5, 5), NatModel::full_cone());
}
