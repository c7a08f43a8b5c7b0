//! Everything at once, at random: applications that do whatever the interface allows, over bad links and failing
//! sockets, and what must hold all the same.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use peerwork::{
    Census, ConnId, Dial, DialId, Event, Input, Multiaddr, ProtocolId, Read, RequestId, Rng, StreamId,
    config::RequestConfig,
    io::{IoError, IoErrorKind},
};
use peerwork_sim::{Handling, HostId, Link, World, config, millis, secs};

/// What an application knows, and what it may be told.
#[derive(Default)]
struct App {
    seen: usize,
    dials: BTreeSet<DialId>,
    conns: BTreeSet<ConnId>,
    /// Streams that the application holds, and whether they have failed.
    streams: BTreeMap<StreamId, Fate>,
    /// Those it has closed. What was told before may reach it after, if it does not drain its node at once.
    gone: BTreeSet<StreamId>,
    drains_late: bool,
    asked: BTreeSet<RequestId>,
    owed: BTreeSet<RequestId>,
}

struct Fate {
    conn: ConnId,
    known: bool,
    failed: bool,
}

const HOSTS: usize = 3;

fn protocols() -> [ProtocolId; 3] {
    ["/a/1", "/b/1", "/nobody/1"].map(|name| name.parse().unwrap())
}

fn ask() -> ProtocolId {
    ProtocolId::from_static("/ask/1")
}

impl App {
    /// Takes in new events, each of which must make sense after those before.
    fn listen(&mut self, world: &World, host: HostId) {
        for (at, event) in &world.events(host)[self.seen..] {
            let context = || format!("{host:?} at {at}: {event:?}");
            let about = match event {
                Event::StreamOpened { stream, .. } | Event::StreamFailed { stream, .. } => Some(stream),
                Event::StreamReadable { stream } | Event::StreamWritable { stream } => Some(stream),
                _ => None,
            };
            if self.drains_late && about.is_some_and(|stream| self.gone.contains(stream)) {
                continue;
            }
            match event {
                Event::Connected { conn, .. } => assert!(self.conns.insert(*conn), "{}", context()),
                Event::Disconnected { conn, .. } => {
                    assert!(self.conns.remove(conn), "{}", context());
                    for (id, fate) in &self.streams {
                        assert!(fate.conn != *conn || fate.known, "{id}: no end before {}", context());
                    }
                }
                Event::Dialed { dial, conn, .. } => {
                    assert!(self.dials.remove(dial), "{}", context());
                    assert!(self.conns.contains(conn), "{}", context());
                }
                Event::DialFailed { dial, .. } => assert!(self.dials.remove(dial), "{}", context()),
                Event::StreamInbound { stream, conn, .. } => {
                    assert!(self.conns.contains(conn), "{}", context());
                    let fate = Fate { conn: *conn, known: true, failed: false };
                    assert!(self.streams.insert(*stream, fate).is_none(), "{}", context());
                }
                Event::StreamOpened { stream, .. } => {
                    let fate = self.streams.get_mut(stream).unwrap_or_else(|| panic!("{}", context()));
                    assert!(!fate.known && !fate.failed, "{}", context());
                    fate.known = true;
                }
                Event::StreamFailed { stream, .. } => {
                    let fate = self.streams.get_mut(stream).unwrap_or_else(|| panic!("{}", context()));
                    assert!(!fate.failed, "twice: {}", context());
                    assert!(self.conns.contains(&fate.conn), "{}", context());
                    (fate.failed, fate.known) = (true, true);
                }
                Event::StreamReadable { stream } | Event::StreamWritable { stream } => {
                    let fate = self.streams.get(stream).unwrap_or_else(|| panic!("{}", context()));
                    assert!(!fate.failed, "{}", context());
                }
                Event::Response { request, .. } => assert!(self.asked.remove(request), "{}", context()),
                Event::Request { request, .. } => assert!(self.owed.insert(*request), "{}", context()),
                Event::RequestDropped { request } => {
                    assert!(self.owed.remove(request) || self.drains_late, "{}", context());
                }
                _ => {}
            }
        }
        self.seen = world.events(host).len();
    }
}

fn mayhem(seed: u64, handling: Handling) {
    let mut world = World::new(seed);
    let mut rng = Rng::from_seed(seed ^ 0x5eed);
    world.set_handling(handling);
    if rng.below(2) == 0 {
        world.set_link(Link::rough());
    }
    let mut config = config();
    config.ping.interval = (rng.below(2) == 0).then(|| secs(1));
    if rng.below(2) == 0 {
        (config.quic.stream_window, config.quic.connection_window) = (16_384, 32_768);
        config.quic.send_window = 20_000;
        (config.quic.initial_streams, config.quic.max_streams) = (4, 8);
    }
    let hosts: Vec<HostId> = (0..HOSTS).map(|_| world.add_with(config.clone())).collect();
    let mut apps: Vec<App> =
        hosts.iter().map(|_| App { drains_late: handling.random_drains, ..App::default() }).collect();
    let mut addresses: Vec<Multiaddr> = Vec::new();
    for (n, host) in hosts.iter().enumerate() {
        world.listen(*host);
        addresses.push(format!("/ip4/10.0.0.{}/udp/4001/quic-v1", n + 1).parse().unwrap());
        for protocol in &protocols()[..2] {
            world.call(*host, |node, now| node.register(now, protocol.clone())).unwrap();
        }
        let config = RequestConfig { timeout: secs(3), ..Default::default() };
        world.call(*host, |node, now| node.requests(now).register(ask(), config)).unwrap();
    }
    for _ in 0..1500 {
        let at = rng.below(HOSTS as u64) as usize;
        let (host, app) = (hosts[at], &mut apps[at]);
        app.listen(&world, host);
        let pick = |rng: &mut Rng, len: usize| (len > 0).then(|| rng.below(len as u64) as usize);
        let stream = pick(&mut rng, app.streams.len()).and_then(|n| app.streams.keys().nth(n).copied());
        let conn = pick(&mut rng, app.conns.len()).and_then(|n| app.conns.iter().nth(n).copied());
        match rng.below(40) {
            0..4 => {
                let to = addresses[rng.below(HOSTS as u64) as usize].clone();
                if let Ok(dial) = world.call(host, |node, now| node.dial(now, Dial::address(to))) {
                    app.dials.insert(dial);
                }
            }
            4 => {
                if let Some(dial) = app.dials.first().copied() {
                    world.call(host, |node, now| node.cancel_dial(now, dial)).ok();
                }
            }
            5..12 => {
                let Some(conn) = conn else { continue };
                let all = protocols();
                let offer: Vec<ProtocolId> = match rng.below(4) {
                    0 => vec![all[2].clone(), all[0].clone()],
                    1 => vec![all[2].clone()],
                    n => vec![all[n as usize - 2].clone()],
                };
                let opened = world.call(host, |node, now| {
                    let id = node.open_stream(now, conn, &offer).ok()?;
                    let conn = node.stream(now, id).ok()?.conn()?;
                    Some((id, conn))
                });
                if let Some((id, conn)) = opened {
                    app.streams.insert(id, Fate { conn, known: false, failed: false });
                }
            }
            12..18 => {
                let Some(id) = stream else { continue };
                let data = vec![1; rng.below(40_000) as usize];
                world.call(host, |node, now| node.stream(now, id).map(|mut stream| stream.write(&data).ok()).ok());
            }
            18..24 => {
                let Some(id) = stream else { continue };
                world.call(host, |node, now| {
                    while let Ok(mut stream) = node.stream(now, id) {
                        if !matches!(stream.read(5000), Ok(Read::Data(_))) {
                            break;
                        }
                    }
                });
            }
            24..26 => {
                let Some(id) = stream else { continue };
                world.call(host, |node, now| node.stream(now, id).map(|mut stream| stream.finish().ok()).ok());
            }
            26 => {
                let Some(id) = stream else { continue };
                world.call(host, |node, now| node.stream(now, id).map(|mut stream| stream.reset(7)).ok());
            }
            27 => {
                let Some(id) = stream else { continue };
                world.call(host, |node, now| node.stream(now, id).map(|mut stream| stream.stop(8)).ok());
            }
            28..31 => {
                let Some(id) = stream else { continue };
                // What was told before belongs to before.
                app.listen(&world, host);
                world.call(host, |node, now| node.stream(now, id).map(|stream| stream.close()).ok());
                if app.streams.remove(&id).is_some() {
                    app.gone.insert(id);
                }
            }
            31 => {
                let Some(conn) = conn else { continue };
                world.call(host, |node, now| node.disconnect(now, conn, 1, "mayhem")).ok();
            }
            32 => {
                let Some(socket) = world.sockets(host).first().copied() else { continue };
                let input = match rng.below(2) {
                    0 => Input::SocketBlocked { socket },
                    _ => Input::SocketReady { socket },
                };
                world.input(host, input);
            }
            33 if rng.below(4) == 0 => {
                let Some(socket) = world.sockets(host).first().copied() else { continue };
                world.lose_socket(host, socket);
                let error = IoError::new(IoErrorKind::Other, "gone");
                world.input(host, Input::SocketFailed { socket, error });
                let address = addresses[at].clone();
                world.call(host, |node, now| node.listen(now, address)).unwrap();
            }
            34..36 => {
                let Some(conn) = conn else { continue };
                let data = Bytes::from(vec![2; rng.below(60_000) as usize]);
                let sent = world.call(host, |node, now| node.requests(now).send(conn, &ask(), data));
                app.asked.extend(sent.ok());
            }
            36 => {
                let Some(request) = app.owed.pop_first() else { continue };
                let data = Bytes::from(vec![3; rng.below(60_000) as usize]);
                world.call(host, |node, now| node.requests(now).respond(request, data)).ok();
            }
            37 => {
                let Some(conn) = conn else { continue };
                world.call(host, |node, now| node.ping(now, conn)).ok();
            }
            _ => world.run_for(millis(rng.below(300))),
        }
        if rng.below(3) == 0 {
            world.run_for(millis(rng.below(30)));
        }
    }
    // Let everything come to its end.
    world.set_handling(Handling::default());
    for (host, app) in hosts.iter().zip(&mut apps) {
        for socket in world.sockets(*host) {
            world.input(*host, Input::SocketReady { socket });
        }
        app.listen(&world, *host);
    }
    world.run_for(secs(40));
    for (host, app) in hosts.iter().zip(&mut apps) {
        app.listen(&world, *host);
        assert_eq!(app.dials, BTreeSet::new(), "{host:?}");
        assert_eq!(app.asked, BTreeSet::new(), "{host:?}");
        assert_eq!(world.node(*host).connections().count(), app.conns.len());
        for conn in app.conns.clone() {
            world.call(*host, |node, now| node.disconnect(now, conn, 0, "")).ok();
        }
    }
    world.run_for(secs(60));
    for (host, app) in hosts.iter().zip(&mut apps) {
        app.listen(&world, *host);
        for (id, fate) in &app.streams {
            assert!(fate.known, "{host:?} {id}");
            world.call(*host, |node, now| node.stream(now, *id).map(|stream| stream.close()).ok());
        }
        let taken: Vec<RequestId> = world
            .events(*host)
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Response { request, .. } => Some(*request),
                _ => None,
            })
            .collect();
        for request in taken {
            world.call(*host, |node, now| node.requests(now).take(request));
        }
        assert_eq!(world.node(*host).census(), Census::default(), "{host:?}");
        assert_eq!(world.node(*host).poll_timeout(), None, "{host:?}");
    }
}

#[test]
fn whatever_applications_do_events_make_sense_and_everything_is_given_back() {
    let from: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let count: u64 = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(12);
    for seed in from..from + count {
        eprintln!("seed {seed}");
        mayhem(seed, Handling { random_drains: seed % 3 == 1, spurious_wakes: seed % 3 == 2 });
    }
}
