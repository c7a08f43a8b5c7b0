//! Two nodes, a network that loses and mangles, drivers that lie, applications that do not care.

use std::net::{IpAddr, SocketAddr};

use bytes::{Bytes, BytesMut};
use peerwork::{
    ConnId, Datagram, Dial, Input, Multiaddr, PeerId, ProtocolId, RequestId, SocketId, StreamId, Time, UnixTime,
    fuzzing::Invented,
    io::{Answer, BoundSocket, Ecn, IoError, IoErrorKind},
};

use crate::{
    Source,
    net::{Net, Packet, REQUEST, SERVED},
};

/// See the [crate's table](crate).
pub fn node_pair(data: &[u8]) {
    let mut source = Source::new(data);
    let plan = source.byte();
    let mut config = peerwork_sim::config();
    config.serve_perf = plan & 1 != 0;
    config.limits.per_peer = if plan & 2 != 0 { 2 } else { 8 };
    if plan & 4 != 0 {
        config.quic.retry_above = 0;
    }
    if plan & 8 != 0 {
        config.quic.stream_window = 16 * 1024;
        config.quic.send_window = 16 * 1024;
        config.quic.initial_streams = 1;
        config.quic.max_streams = 2;
    }
    let mut pair = Pair { net: Net::new(vec![config.clone(), config]) };
    if plan & 16 != 0 {
        // Most inputs are better spent on what follows a handshake.
        pair.dial(0, 1);
        pair.net.flow(std::time::Duration::from_secs(1), 60);
    }
    while !source.is_empty() && pair.net.budget > 0 {
        pair.net.budget -= 1;
        pair.step(&mut source);
    }
    pair.end(plan >> 5);
}

struct Pair {
    net: Net,
}

/// One of these, or one that was never given out.
fn some<T: Invented + Copy>(source: &mut Source<'_>, known: impl Iterator<Item = T>) -> T {
    let known: Vec<T> = known.collect();
    let invented = T::invented(source.byte().into());
    if known.is_empty() || source.byte() % 16 == 15 {
        invented
    } else {
        known[usize::from(source.byte()) % known.len()]
    }
}

impl Pair {
    fn dial(&mut self, from: usize, to: usize) {
        let address = self.net.full_address(to);
        self.start_dial(from, Dial::address(address));
    }

    fn start_dial(&mut self, from: usize, dial: Dial) {
        if let Ok(dial) = self.net.call(from, |node, now| node.dial(now, dial)) {
            self.net.hosts[from].dials.insert(dial);
        }
    }

    fn conn(&self, source: &mut Source<'_>, host: usize) -> ConnId {
        some(source, self.net.hosts[host].conns.keys().copied())
    }

    fn socket(&self, source: &mut Source<'_>, host: usize) -> SocketId {
        some(source, self.net.hosts[host].sockets.keys().copied())
    }

    fn step(&mut self, source: &mut Source<'_>) {
        let op = source.byte();
        let host = usize::from(op >> 7);
        match op % 32 {
            0..=5 => {
                let steps = source.byte();
                self.net.flow(source.span(), steps.into());
            }
            6..=10 => self.mangle(source),
            11 => {
                self.net.wire.remove(usize::from(source.byte()));
            }
            12 => self.net.now = (self.net.now + source.span()).min(Time::from_secs(400 * 365 * 86_400)),
            13 => {
                let end = self.net.now + source.span();
                self.net.next_timer(end);
            }
            14 => {
                let limit = source.byte();
                self.net.drain(host, limit.into());
            }
            15 => {
                let earlier = self.net.now - source.span();
                self.net.call_at(host, earlier, |node, now| node.handle(now, Input::Wake));
            }
            16..=19 => self.spurious(source, host),
            20..=25 => self.api(source, host),
            _ => self.stream(source, host),
        }
    }

    /// Delivers one packet, not necessarily the next, nor as it was sent.
    fn mangle(&mut self, source: &mut Source<'_>) {
        let len = self.net.wire.len();
        let at = source.below(len.min(8));
        let Some(packet) = self.net.wire.get(at).cloned() else { return };
        let (how, place) = (source.byte(), usize::from(source.short()));
        let mut copy = packet.clone();
        let place = place % copy.data.len().max(1);
        let mut keep = how & 128 != 0;
        match how % 8 {
            0 => {}
            1 => keep = true,
            2 => copy.data[place] ^= 1 << source.below(8),
            3 => copy.data.truncate(place),
            4 => {
                copy.from.set_port(source.short());
                self.net.forged = true;
            }
            5 => {
                copy.from.set_ip(IpAddr::from([10, 0, 0, source.byte()]));
                self.net.forged = true;
            }
            6 => copy.data.extend_from_slice(source.chunk()),
            _ => {
                // Several in one go, as a kernel that coalesces gives them.
                return self.coalesce(source, packet);
            }
        }
        if !keep {
            self.net.wire.remove(at);
        }
        self.net.deliver(copy);
        if how & 64 != 0 {
            self.net.settle_all();
        }
    }

    fn coalesce(&mut self, source: &mut Source<'_>, first: Packet) {
        let Some((host, socket)) = self.net.route(first.to) else { return };
        let same = |packet: &Packet| packet.to == first.to && packet.from == first.from;
        let mut data = BytesMut::new();
        let mut left = 1 + source.below(16);
        self.net.wire.retain(|packet| {
            let take = left > 0 && same(packet) && packet.data.len() <= first.data.len();
            if take {
                left -= 1;
                data.extend_from_slice(&packet.data);
                if packet.data.len() < first.data.len() {
                    left = 0;
                }
            }
            !take
        });
        let segment = std::num::NonZeroUsize::new(first.data.len());
        let ecn = source.pick(&[None, Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce)]).copied().flatten();
        let to_ip = source.coin().then_some(first.to.ip());
        self.net.input(host, Input::Datagram(Datagram { socket, from: first.from, to_ip, ecn, segment, data }));
    }

    fn error(source: &mut Source<'_>) -> IoError {
        let kinds = [
            IoErrorKind::Unreachable,
            IoErrorKind::PermissionDenied,
            IoErrorKind::AddressInUse,
            IoErrorKind::TimedOut,
            IoErrorKind::Other,
        ];
        IoError::new(source.pick(&kinds).copied().unwrap_or(IoErrorKind::Other), "so it goes")
    }

    /// What a driver may say at any time, true or not.
    fn spurious(&mut self, source: &mut Source<'_>, host: usize) {
        let net = &mut self.net;
        match source.below(14) {
            0 => {
                let (from, socket) = (net.address(1 - host), some(source, net.hosts[host].sockets.keys().copied()));
                let data = BytesMut::from(source.chunk());
                let segment = std::num::NonZeroUsize::new(source.below(64));
                net.input(host, Input::Datagram(Datagram { socket, from, to_ip: None, ecn: None, segment, data }));
            }
            // A long header of a version that does not exist: answered without a connection.
            1 => {
                let (from, socket) = (net.address(1 - host), some(source, net.hosts[host].sockets.keys().copied()));
                let mut data = BytesMut::zeroed(1200);
                data[..7].copy_from_slice(&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 1, source.byte()]);
                net.input(
                    host,
                    Input::Datagram(Datagram { socket, from, to_ip: None, ecn: None, segment: None, data }),
                );
            }
            2 | 3 => {
                let socket = self.socket(source, host);
                if self.net.hosts[host].sockets.contains_key(&socket) {
                    self.net.hosts[host].blocked.insert(socket);
                }
                self.net.input(host, Input::SocketBlocked { socket });
            }
            4 | 5 => {
                let blocked = net.hosts[host].blocked.iter().copied().collect::<Vec<_>>();
                let socket = some(source, blocked.into_iter());
                net.hosts[host].blocked.remove(&socket);
                net.input(host, Input::SocketReady { socket });
            }
            6 => {
                let (socket, to) = (self.socket(source, host), self.net.address(1 - host));
                let error = Self::error(source);
                self.net.input(host, Input::SendFailed { socket, to, error });
            }
            7 => {
                let socket = self.socket(source, host);
                let bound = BoundSocket {
                    local: SocketAddr::new([10, 0, 0, source.byte()].into(), source.short()),
                    max_segments: std::num::NonZeroUsize::MIN,
                };
                let result = if source.coin() { Ok(bound) } else { Err(Self::error(source)) };
                // An answer to a bind that is under way would be the true one.
                if !self.net.hosts[host].binds.iter().any(|(waiting, _)| *waiting == socket) {
                    self.net.input(host, Input::Bound { socket, result });
                }
            }
            8 => {
                let id = match net.hosts[host].lookups.pop_front() {
                    Some((id, _)) if !source.byte().is_multiple_of(8) => id,
                    _ => Invented::invented(source.byte().into()),
                };
                let other = net.address(1 - host).ip();
                let result = match source.below(4) {
                    0 => Err(Self::error(source)),
                    1 => Ok(Answer::Ips(source.chunk().iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect())),
                    2 => Ok(Answer::Ips(vec![other])),
                    _ => {
                        let text = |name: &str| format!("dnsaddr={name}");
                        let known = net.full_address(1 - host).to_string();
                        let names =
                            [text(&known), text("/dnsaddr/again"), text("/dns4/name/udp/1/quic-v1"), "x".into()];
                        let chosen =
                            source.chunk().iter().map(|which| names[usize::from(*which) % names.len()].clone());
                        Ok(Answer::Txt(chosen.collect()))
                    }
                };
                net.input(host, Input::Resolved { id, result });
            }
            9 => {
                let ips = source.chunk().iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect();
                net.input(host, Input::Interfaces(ips));
            }
            10 => {
                let wall = if source.coin() { UnixTime::from_secs(source.long()) } else { UnixTime::default() };
                net.input(host, Input::WallClock(wall));
            }
            11 => {
                let socket = self.socket(source, host);
                let error = Self::error(source);
                let host_state = &self.net.hosts[host];
                // The application cannot tell a listener without a socket from one that waits, so leave one.
                if host_state.sockets.len() > 1 {
                    self.net.lose(host, socket, error);
                }
            }
            12 => net.hosts[host].slow = source.coin(),
            _ => {
                let work = source.coin();
                net.bind(host, work);
            }
        }
    }

    fn some_request(&self, source: &mut Source<'_>, host: usize) -> RequestId {
        let host = &self.net.hosts[host];
        some(source, host.asked.iter().chain(&host.received).chain(&host.answers).copied())
    }

    fn api(&mut self, source: &mut Source<'_>, host: usize) {
        let other = 1 - host;
        match source.below(20) {
            0..=2 => self.dial(host, other),
            3 => {
                let texts = [
                    "/dns4/other/udp/4001/quic-v1",
                    "/dnsaddr/other",
                    "/ip4/10.0.0.9/udp/1/quic-v1",
                    "/ip4/1.2.3.4/tcp/1",
                ];
                let count = source.below(8);
                let mut addresses: Vec<Multiaddr> = Vec::new();
                for _ in 0..count {
                    addresses.extend(source.pick(&texts).and_then(|text| text.parse::<Multiaddr>().ok()));
                }
                addresses.extend(source.coin().then(|| self.net.full_address(other)));
                addresses.extend(source.one_in(8).then(|| self.net.full_address(host)));
                let peers: [Option<PeerId>; 3] = [None, Some(self.net.hosts[other].id), Some(self.net.hosts[host].id)];
                let peer = source.pick(&peers).copied().flatten();
                self.start_dial(host, Dial { peer, addresses });
            }
            4 => {
                let port = source.short();
                self.net.listen(host, port);
            }
            5 => {
                let listener = some(source, self.net.hosts[host].listeners.iter().copied());
                let _ = self.net.call(host, |node, now| node.unlisten(now, listener));
            }
            6 => {
                let dial = some(source, self.net.hosts[host].dials.iter().copied());
                let known = self.net.call(host, |node, now| node.cancel_dial(now, dial)).is_ok();
                assert!(!known || self.net.hosts[host].dials.contains(&dial));
            }
            7 => {
                let conn = self.conn(source, host);
                let words = String::from_utf8_lossy(source.chunk()).repeat(1 + source.below(4));
                let code = source.short();
                let _ = self.net.call(host, |node, now| node.disconnect(now, conn, code.into(), &words));
            }
            8 => {
                let conn = self.conn(source, host);
                let _ = self.net.call(host, |node, now| node.ping(now, conn));
            }
            9 => {
                let conn = self.conn(source, host);
                let (up, down) = (u64::from(source.short()), u64::from(source.short()));
                if let Ok(perf) = self.net.call(host, |node, now| node.perf(now, conn, up, down)) {
                    self.net.hosts[host].perfs.insert(perf);
                }
            }
            10..=12 => {
                let conn = self.conn(source, host);
                let names = [
                    SERVED[0].clone(),
                    SERVED[1].clone(),
                    ProtocolId::from_static("/nobody"),
                    ProtocolId::from_static("/ipfs/id/1.0.0"),
                ];
                let count = 1 + source.below(4);
                let protocols: Vec<ProtocolId> = (0..count).filter_map(|_| source.pick(&names).cloned()).collect();
                if let Some(stream) = self.net.open(host, conn, &protocols) {
                    self.net.write(host, stream, source.byte().into());
                }
            }
            13 => {
                let protocol = SERVED[source.below(2)].clone();
                self.net.call(host, |node, now| node.unregister(now, &protocol));
            }
            14 => {
                let protocol = SERVED[source.below(2)].clone();
                let _ = self.net.call(host, |node, now| node.register(now, protocol));
            }
            15 => {
                let conn = self.conn(source, host);
                let data = Bytes::copy_from_slice(source.chunk());
                if let Ok(request) = self.net.call(host, |node, now| node.requests(now).send(conn, &REQUEST, data)) {
                    self.net.hosts[host].asked.insert(request);
                }
            }
            16 | 17 => {
                let request = self.some_request(source, host);
                let data = Bytes::copy_from_slice(source.chunk());
                let how = source.below(4);
                let answered = self.net.call(host, |node, now| {
                    let mut requests = node.requests(now);
                    match how {
                        0 => requests.respond(request, data).is_ok(),
                        1 => requests.refuse(request).is_ok(),
                        2 => {
                            let _ = requests.cancel(request);
                            false
                        }
                        _ => {
                            let _ = requests.take(request);
                            false
                        }
                    }
                });
                let known = &mut self.net.hosts[host];
                if how == 3 {
                    known.answers.remove(&request);
                }
                assert!(!answered || known.received.remove(&request), "an answer to nothing");
            }
            18 => {
                let (peer, address) = (self.net.hosts[other].id, self.net.full_address(other));
                self.net.hosts[host].node.add_address(peer, address);
                let node = &self.net.hosts[host].node;
                assert_eq!(node.connections().count(), node.census().established);
                let _ = (node.peer_info(peer), node.connection_to(peer), node.stats(), node.known_peers());
            }
            _ => {
                if source.byte().is_multiple_of(16) {
                    self.net.call(host, peerwork::Node::shutdown);
                }
            }
        }
    }

    fn stream(&mut self, source: &mut Source<'_>, host: usize) {
        let stream: StreamId = some(source, self.net.streams(host));
        let net = &mut self.net;
        match source.below(12) {
            0..=2 => net.write(host, stream, source.byte().into()),
            3 => net.write(host, stream, 16 * usize::from(source.short())),
            4..=6 => {
                let max = usize::from(source.byte());
                net.read(host, stream, max * max);
            }
            7 => {
                net.complete(host, stream);
                net.call(host, |node, now| node.stream(now, stream).map(|mut stream| drop(stream.finish())).is_ok());
            }
            8 => {
                let code = source.short();
                net.call(host, |node, now| {
                    node.stream(now, stream).map(|mut stream| stream.reset(code.into())).is_ok()
                });
            }
            9 => {
                let code = source.short();
                net.call(host, |node, now| node.stream(now, stream).map(|mut stream| stream.stop(code.into())).is_ok());
            }
            10 => {
                net.complete(host, stream);
                net.call(host, |node, now| node.stream(now, stream).map(|stream| stream.close()).is_ok());
            }
            _ => {
                net.call(host, |node, now| {
                    if let Ok(stream) = node.stream(now, stream) {
                        let _ = (
                            stream.conn(),
                            stream.peer(),
                            stream.direction(),
                            stream.protocol(),
                            stream.is_delivered(),
                        );
                    }
                });
            }
        }
    }

    /// Everything ends, in one of several ways, and leaves nothing behind.
    fn end(mut self, how: u8) {
        let net = &mut self.net;
        if how & 1 == 0 {
            for at in 0..2 {
                for socket in core::mem::take(&mut net.hosts[at].blocked) {
                    net.input(at, Input::SocketReady { socket });
                }
            }
        }
        if how & 2 == 0 {
            net.budget = 500;
            net.flow(std::time::Duration::from_secs(1), 500);
        }
        if how & 4 == 0 {
            for at in 0..2 {
                for conn in net.hosts[at].conns.keys().copied().collect::<Vec<_>>() {
                    let _ = net.call(at, |node, now| node.disconnect(now, conn, 1, "the end"));
                }
            }
            net.budget = 500;
            net.flow(std::time::Duration::from_secs(1), 500);
            net.silence();
            net.shut_down();
        } else {
            net.shut_down();
            net.silence();
        }
    }
}
