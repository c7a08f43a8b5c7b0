//! What holds for every NAT model under any traffic.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use peerwork::Time;
use peerwork_sim::{
    dice::Dice,
    net::nat::{
        Alloc, Conflict, Filtering, Hairpin, Inbound, Mapping, Nat, NatModel, OnFull, Outbound, Pooling, Scope,
        Unsolicited,
    },
};
use proptest::{collection::vec, prelude::*, sample::select};

fn model() -> impl Strategy<Value = NatModel> {
    let kinds = (
        select(vec![Mapping::Eim, Mapping::Adm, Mapping::Apdm]),
        select(vec![Filtering::Eif, Filtering::Adf, Filtering::Apdf]),
        select(vec![Scope::Endpoint, Scope::Mapping]),
        select(vec![Conflict::Next, Conflict::Random, Conflict::Symmetric]),
        select(vec![
            Alloc::Preserve,
            Alloc::Overload,
            Alloc::Sequential { stride: 1 },
            Alloc::Sequential { stride: 40_000 },
            Alloc::Random,
            Alloc::Block { base: 65_000, len: 100 },
        ]),
    );
    let rest = (
        select(vec![Hairpin::Off, Hairpin::ExternalSource, Hairpin::InternalSource]),
        select(vec![OnFull::Drop, OnFull::EvictLru]),
        select(vec![Unsolicited::Drop, Unsolicited::IcmpUnreachable, Unsolicited::PoisonPort]),
        select(vec![Pooling::Paired, Pooling::Arbitrary]),
        any::<bool>(),
        1_u32..12,
    );
    (kinds, rest).prop_map(|((mapping, filtering, scope, on_conflict, alloc), rest)| {
        let (hairpin, on_full, unsolicited, pooling, inbound_refresh, max_mappings) = rest;
        let base = NatModel { mapping, filtering, scope, alloc, on_conflict, hairpin, ..NatModel::default() };
        NatModel { on_full, unsolicited, pooling, inbound_refresh, max_mappings, ..base }
    })
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Out { host: u8, port: u16, remote: u8, remote_port: u16 },
    In { address: u8, remote: u8, remote_port: u16, port: usize },
    Wait(u64),
    Map { host: u8, port: u16, wanted: u16, seconds: u64 },
    Reboot,
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..5_u8, 5000..5003_u16, 1..4_u8, 1..3_u16)
            .prop_map(|(host, port, remote, remote_port)| Step::Out { host, port, remote, remote_port }),
        6 => (0..2_u8, 1..6_u8, 1..4_u16, any::<usize>())
            .prop_map(|(address, remote, remote_port, port)| Step::In { address, remote, remote_port, port }),
        3 => (1..50_u64).prop_map(Step::Wait),
        1 => (1..5_u8, 5000..5003_u16, 5000..5003_u16, 0..100_u64)
            .prop_map(|(host, port, wanted, seconds)| Step::Map { host, port, wanted, seconds }),
        1 => Just(Step::Reboot),
        1 => Just(Step::Forget),
    ]
}

fn external(n: u8) -> IpAddr {
    Ipv4Addr::new(203, 0, 113, n).into()
}

fn remote(n: u8, port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(198, 51, 100, n).into(), port)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn endpoints_are_not_shared_answers_come_in_and_strangers_stay_out(model in model(), steps in vec(step(), 1..60)) {
        let overload = model.alloc == Alloc::Overload;
        let mut nat = Nat::new(model.clone(), vec![external(0), external(1)], 3).unwrap();
        let (mut dice, mut now) = (Dice::from_seed(9), Time::from_secs(1));
        // External endpoints seen so far; who was seen to use each, and when last; static ones; destinations ever sent to.
        let mut seen = BTreeSet::new();
        let mut users: BTreeMap<SocketAddr, (SocketAddr, Time)> = BTreeMap::new();
        let mut fixed: BTreeMap<SocketAddr, (SocketAddr, Time)> = BTreeMap::new();
        let mut sent: BTreeSet<SocketAddr> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
                Step::Reboot => { nat.reboot(now, None); users.clear(); fixed.clear(); }
                Step::Forget => { nat.forget(now); users.clear(); fixed.clear(); }
                Step::Map { host, port, wanted, seconds } => {
                    let internal = SocketAddr::new(Ipv4Addr::new(10, 0, 0, host).into(), port);
                    if let Some(at) = nat.map_port(now, &mut dice, internal, wanted, Duration::from_secs(seconds)) {
                        fixed.insert(at, (internal, now + Duration::from_secs(seconds)));
                        users.remove(&at);
                        seen.insert(at);
                        prop_assert_eq!(nat.inbound(now, remote(99, 99), at), Inbound::Deliver { src: remote(99, 99), to: internal });
                    } else if seconds == 0 {
                        fixed.retain(|_, (owner, _)| *owner != internal);
                    }
                }
                Step::Out { host, port, remote: to, remote_port } => {
                    let src = SocketAddr::new(Ipv4Addr::new(10, 0, 0, host).into(), port);
                    let dst = remote(to, remote_port);
                    match nat.outbound(now, &mut dice, src, dst) {
                        Outbound::Forward { src: at, dst: on } => {
                            prop_assert_eq!(on, dst);
                            prop_assert!(nat.owns(at.ip()));
                            seen.insert(at);
                            sent.insert(dst);
                            // A mapping that was used less than its shortest life ago is still there, if there is room.
                            if let Some((owner, _)) = fixed.get(&at).filter(|(_, until)| *until > now) {
                                prop_assert!(overload || *owner == src);
                            } else if let Some((user, last)) = users.insert(at, (src, now)) {
                                let alive = now.since(last) < model.t_unreplied && model.on_full == OnFull::Drop;
                                prop_assert!(overload || user == src || !alive, "{at} has two users");
                            }
                            let answer = nat.inbound(now, dst, at);
                            prop_assert_eq!(answer, Inbound::Deliver { src: dst, to: src }, "an answer");
                        }
                        Outbound::Drop(_) => {}
                        Outbound::Hairpin { .. } => prop_assert!(false, "no such destination"),
                    }
                }
                Step::In { address, remote: from, remote_port, port } => {
                    let src = remote(from, remote_port);
                    let known: Vec<_> = seen.iter().filter(|at| at.ip() == external(address)).collect();
                    let Some(dst) = (!known.is_empty()).then(|| *known[port % known.len()]) else { continue };
                    let asked = match model.filtering {
                        Filtering::Eif => true,
                        Filtering::Adf => sent.iter().any(|at| at.ip() == src.ip()),
                        Filtering::Apdf => sent.contains(&src),
                    };
                    let delivered = matches!(nat.inbound(now, src, dst), Inbound::Deliver { .. });
                    prop_assert!(!delivered || asked || fixed.get(&dst).is_some_and(|(_, until)| *until > now), "{src} got in unasked at {dst}");
                }
            }
            prop_assert!(nat.len() <= model.max_mappings as usize);
        }
    }

    #[test]
    fn the_same_traffic_gives_the_same_ports(model in model(), steps in vec(step(), 1..40)) {
        let run = || {
            let mut nat = Nat::new(model.clone(), vec![external(0), external(1)], 3).unwrap();
            let (mut dice, mut now, mut log) = (Dice::from_seed(9), Time::from_secs(1), Vec::new());
            for step in &steps {
                match *step {
                    Step::Out { host, port, remote: to, remote_port } => {
                        let src = SocketAddr::new(Ipv4Addr::new(10, 0, 0, host).into(), port);
                        log.push(nat.outbound(now, &mut dice, src, remote(to, remote_port)));
                    }
                    Step::Wait(seconds) => now += Duration::from_secs(seconds),
                    Step::Forget => nat.forget(now),
                    _ => {}
                }
            }
            log
        };
        prop_assert_eq!(run(), run());
    }
}
