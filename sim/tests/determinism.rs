//! The same seed gives the same run, to the last byte of TLS; and how a node is drained changes nothing that matters.

use std::{collections::BTreeSet, process::Command};

use peerwork::{Dial, Event, ProtocolId, Read};
use peerwork_sim::{Handling, HostId, Link, World, millis, secs};

/// A busy little world: eight nodes over rough links that meet, identify, ping, echo, measure, part and shut down.
fn run(seed: u64, handling: Handling) -> World {
    let echo = ProtocolId::from_static("/echo/1.0.0");
    let mut world = World::new(seed);
    world.set_link(Link::rough());
    world.set_handling(handling);
    let mut config = peerwork_sim::config();
    config.serve_perf = true;
    let hosts: Vec<HostId> = (0..8).map(|_| world.add_with(config.clone())).collect();
    for host in &hosts {
        world.listen(*host);
        world.call(*host, |node, now| node.register(now, echo.clone())).unwrap();
    }
    world.run_for(millis(100));
    for (i, host) in hosts.iter().enumerate() {
        for to in [(i + 1) % 8, (i + 3) % 8] {
            let address = world.address(hosts[to]);
            world.call(*host, |node, now| node.dial(now, Dial::address(address))).unwrap();
        }
    }
    for round in 0..100 {
        world.run_for(millis(100));
        for host in &hosts {
            for event in world.take_events(*host) {
                match event {
                    Event::Identified { conn, .. } if round < 50 => {
                        world.call(*host, |node, now| {
                            if let Ok(stream) = node.open_stream(now, conn, std::slice::from_ref(&echo))
                                && let Ok(mut stream) = node.stream(now, stream)
                            {
                                let _ = stream.write(&[round as u8; 3000]);
                                let _ = stream.finish();
                            }
                            let _ = node.perf(now, conn, 10_000, 20_000);
                        });
                    }
                    Event::StreamReadable { stream } | Event::StreamInbound { stream, .. } => {
                        world.call(*host, |node, now| {
                            while let Ok(mut handle) = node.stream(now, stream) {
                                match handle.read(10_000) {
                                    Ok(Read::Data(data)) => drop(handle.write(&data)),
                                    Ok(Read::End) => {
                                        let _ = handle.finish();
                                        break;
                                    }
                                    Ok(Read::Blocked) | Err(_) => break,
                                }
                            }
                        });
                    }
                    _ => {}
                }
            }
        }
    }
    world.call(hosts[0], |node, now| node.shutdown(now));
    world.kill(hosts[1]);
    world.run_for(secs(40));
    world
}

#[test]
fn one_seed_gives_one_digest() {
    let first = run(1, Handling::default());
    assert_eq!(first.digest(), run(1, Handling::default()).digest());
    assert_ne!(first.digest(), run(2, Handling::default()).digest());
    assert!(first.packets().delivered > 1000, "{:?}", first.packets());
}

/// Runs the same test binary again, as another process with other hash seeds, addresses and threads.
#[test]
fn another_process_gives_the_same_digest() {
    const CHILD: &str = "PEERWORK_SIM_DIGEST";
    let own = run(7, Handling::default()).digest();
    if std::env::var_os(CHILD).is_some() {
        println!("\ndigest {own}");
        return;
    }
    let test = "another_process_gives_the_same_digest";
    let exe = std::env::current_exe().unwrap();
    let child = Command::new(exe).args([test, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
    let out = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(out.contains(&format!("digest {own}")), "{own}\n{out}");
}

/// The digest of seed 7, from a debug and from a release build alike, on any machine.
#[test]
fn debug_and_release_builds_give_the_recorded_digest() {
    let recorded = include_str!("digest-of-seed-7.txt").trim();
    assert_eq!(
        run(7, Handling::default()).digest(),
        recorded,
        "if you changed what nodes put out, write the left value to sim/tests/digest-of-seed-7.txt"
    );
}

/// What was agreed between whom: the part of a run that must not depend on how nodes are drained.
fn outcome(world: &World) -> BTreeSet<String> {
    (0..8)
        .flat_map(|i| {
            let node = world.node(world.host(i));
            node.connections()
                .map(move |conn| format!("{i} {} {}", conn.peer, conn.identified.is_some()))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn random_drains_and_spurious_wakes_change_no_outcome() {
    let plain = outcome(&run(3, Handling::default()));
    assert!(plain.len() >= 20, "{plain:?}");
    for handling in [
        Handling { random_drains: true, spurious_wakes: false },
        Handling { random_drains: false, spurious_wakes: true },
        Handling { random_drains: true, spurious_wakes: true },
    ] {
        assert_eq!(outcome(&run(3, handling)), plain, "{handling:?}");
    }
}
