//! Two nodes on a wire of their own, traced.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::Path,
    process::Command as Process,
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use peerwork::{
    BoundSocket, Command, Config, Datagram, Dial, Event, Input, Node, Output, Seed, SocketId, Time, TransmitBuf,
    UnixTime, io::Ecn, multiaddr::Protocol,
};

use super::{DELIVERED, Folder, KeyLines, Tap, TracedPacket, What, pcapng::tests::read};

const EPOCH: UnixTime = UnixTime::from_secs(1_800_000_000);
const LATENCY: Duration = Duration::from_millis(10);

struct Peer {
    node: Node,
    name: &'static str,
    address: SocketAddr,
    socket: Option<SocketId>,
    keys: KeyLines,
    events: Vec<Event>,
}

struct OnTheWay {
    from: SocketAddr,
    to: SocketAddr,
    ecn: Option<Ecn>,
    data: Vec<u8>,
}

/// A world in small, which calls a tap as the real one is to.
struct Pair<'a> {
    now: Time,
    peers: [Peer; 2],
    wire: BTreeMap<(Time, u64), OnTheWay>,
    sent: u64,
    lost: &'a [u64],
    tap: Option<&'a mut dyn Tap>,
}

impl<'a> Pair<'a> {
    fn new(set: Set, lost: &'a [u64], folder: Option<&'a mut Folder>) -> Self {
        let Set { ips, discovery } = set;
        let peers = [("dialler", ips[0], 1), ("listener", ips[1], 2)].map(|(name, ip, seed)| {
            let ip: IpAddr = ip.parse().unwrap();
            let keys = KeyLines::default();
            let mut platform = crate::platform();
            if let Some(_folder) = &folder {
                platform.key_log = Some(Arc::new(keys.clone()));
                #[cfg(feature = "qlog")]
                {
                    platform.qlog = Some(_folder.qlog(name));
                }
            }
            let mut config = Config::new(platform);
            config.quic.address_discovery = discovery;
            let mut node = Node::new(config, Box::new(Seed(seed)), Time::ZERO, EPOCH).unwrap();
            node.handle(Time::ZERO, Input::Interfaces(vec![ip]));
            Peer { node, name, address: SocketAddr::new(ip, 4001), socket: None, keys, events: Vec::new() }
        });
        let tap = folder.map(|folder| folder as &mut dyn Tap);
        Self { now: Time::ZERO, peers, wire: BTreeMap::new(), sent: 0, lost, tap }
    }

    fn call<R>(&mut self, at: usize, name: &str, run: impl FnOnce(&mut Node, Time) -> R) -> R {
        if let Some(tap) = &mut self.tap {
            tap.event(self.now, self.peers[at].name, &What::Call { name, detail: "" });
        }
        let result = run(&mut self.peers[at].node, self.now);
        self.settle(at);
        result
    }

    fn settle(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        loop {
            let mut data = Vec::new();
            let mut buf = TransmitBuf::new(&mut data, NonZeroUsize::new(10).unwrap());
            let output = peer.node.poll_output();
            let transmit = if output.is_none() { peer.node.poll_transmit(self.now, &mut buf) } else { None };
            // Before anything that may be encrypted with them.
            for line in peer.keys.take() {
                self.tap.as_mut().unwrap().key_line(self.now, peer.name, &line);
            }
            match (output, transmit) {
                (Some(Output::Event(event)), _) => {
                    if let Some(tap) = &mut self.tap {
                        tap.event(self.now, peer.name, &What::Event(&event));
                    }
                    peer.events.push(event);
                }
                (Some(Output::Command(command)), _) => {
                    if let Some(tap) = &mut self.tap {
                        tap.event(self.now, peer.name, &What::Command(&command));
                    }
                    if let Command::UdpBind { socket, address } = command {
                        peer.socket = Some(socket);
                        let bound = SocketAddr::new(address.ip(), peer.address.port());
                        peer.node.handle(self.now, Input::Bound { socket, result: Ok(BoundSocket::new(bound)) });
                    }
                }
                (None, Some(transmit)) => {
                    let segment = transmit.segment.map_or(data.len(), NonZeroUsize::get);
                    for data in data.chunks(segment) {
                        self.sent += 1;
                        let (from, to, ecn) = (peer.address, transmit.to, transmit.ecn);
                        if self.lost.contains(&self.sent) {
                            if let Some(tap) = &mut self.tap {
                                tap.packet(&TracedPacket { at: self.now, from, to, ecn, data, fate: "lost" });
                            }
                            continue;
                        }
                        let packet = OnTheWay { from, to, ecn, data: data.to_vec() };
                        self.wire.insert((self.now + LATENCY, self.sent), packet);
                    }
                }
                (None, None) => return,
            }
        }
    }

    fn run(&mut self, until: Time) {
        loop {
            let wakes = [0, 1].map(|at| self.peers[at].node.poll_timeout().map_or(Time::MAX, |wake| wake.at));
            let arrival = self.wire.keys().next().map_or(Time::MAX, |(at, _)| *at);
            self.now = wakes[0].min(wakes[1]).min(arrival);
            if self.now > until {
                self.now = until;
                return;
            }
            if arrival == self.now {
                let (_, OnTheWay { from, to, ecn, data }) = self.wire.pop_first().unwrap();
                if let Some(tap) = &mut self.tap {
                    tap.packet(&TracedPacket { at: self.now, from, to, ecn, data: &data, fate: DELIVERED });
                }
                let at = self.peers.iter().position(|peer| peer.address == to).unwrap();
                let (socket, data) = (self.peers[at].socket.unwrap(), BytesMut::from(&data[..]));
                let datagram = Datagram { socket, from, to_ip: Some(to.ip()), ecn, segment: None, data };
                self.peers[at].node.handle(self.now, Input::Datagram(datagram));
                self.settle(at);
            } else {
                let at = usize::from(wakes[1] == self.now);
                self.peers[at].node.handle(self.now, Input::Wake);
                self.settle(at);
            }
        }
    }

    /// A dial, identify, pings, and 50 KB on a stream. Returns all events, as text.
    fn play(&mut self) -> String {
        let ip = self.peers[1].address.ip();
        let family = if ip.is_ipv4() { "ip4" } else { "ip6" };
        let address: peerwork::Multiaddr = format!("/{family}/{ip}/udp/4001/quic-v1").parse().unwrap();
        let protocol: peerwork::ProtocolId = "/trace/1".parse().unwrap();
        self.call(1, "listen", |node, now| node.listen(now, address.clone())).unwrap();
        self.call(1, "register", |node, now| node.register(now, protocol.clone())).unwrap();
        let peer = self.peers[1].node.peer_id();
        let dial = Dial::address(address.with(Protocol::P2p(peer.into())));
        self.call(0, "dial", |node, now| node.dial(now, dial)).unwrap();
        self.run(Time::from_secs(5));
        let conn = self.peers[0].node.connection_to(peer).expect("connected");
        let stream = self.call(0, "open_stream", |node, now| node.open_stream(now, conn, &[protocol])).unwrap();
        self.run(Time::from_millis(5_100));
        self.call(0, "write", |node, now| {
            let mut stream = node.stream(now, stream).unwrap();
            assert!(stream.write(&[0x5a; 50_000]).unwrap() > 10_000);
            stream.finish().unwrap();
        });
        self.run(Time::from_secs(7));
        self.call(0, "shutdown", Node::shutdown);
        self.run(Time::from_secs(8));
        format!("{} {:?} {:?}", self.sent, self.peers[0].events, self.peers[1].events)
    }
}

/// A setting.
#[derive(Clone, Copy)]
pub(super) struct Set {
    ips: [&'static str; 2],
    /// Whether peers tell each other's addresses in QUIC frames that tshark does not know.
    discovery: bool,
}

const V4: Set = Set { ips: ["10.0.0.1", "10.0.0.2"], discovery: false };
const V6: Set = Set { ips: ["2001:db8::1", "2001:db8::2"], discovery: false };
pub(super) const DISCOVERY: Set = Set { discovery: true, ..V4 };

/// Losses where they hurt: in the handshake and in the bulk.
pub(super) const LOST: [u64; 4] = [2, 9, 25, 26];

pub(super) fn trace(dir: &Path, set: Set, lost: &[u64]) -> String {
    let mut folder = Folder::create(dir, EPOCH).unwrap();
    let story = Pair::new(set, lost, Some(&mut folder)).play();
    folder.finish().unwrap();
    story
}

#[test]
fn a_trace_has_every_packet_in_order_with_its_fate_and_its_secrets_before_it() {
    for set in [V4, V6, DISCOVERY] {
        let dir = tempfile::tempdir().unwrap();
        let story = trace(dir.path(), set, &LOST);
        let file = read(&std::fs::read(dir.path().join("packets.pcapng")).unwrap());
        let sent: usize = story.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(file.packets.len(), sent);
        assert!(file.packets.iter().all(|packet| packet.at >= EPOCH.as_nanos()));
        assert!(file.packets.windows(2).all(|pair| pair[0].at <= pair[1].at));
        let comments: Vec<_> = file.packets.iter().filter_map(|packet| packet.comment.as_deref()).collect();
        assert_eq!(comments, ["lost"; LOST.len()]);
        assert!(file.packets.iter().any(|packet| packet.ecn == 2), "QUIC marks its packets with ECT(0)");

        // Version 1 everywhere, the fixed bit everywhere, and nothing but Initial packets before the first secrets.
        for (n, packet) in file.packets.iter().enumerate() {
            assert!(packet.data[0] & 0x40 != 0, "{n}");
            let long = packet.data[0] & 0x80 != 0;
            assert!(!long || packet.data[1..5] == [0, 0, 0, 1], "{n}");
            assert!((long && packet.data[0] & 0x30 == 0) || packet.secrets_before > 0, "{n}");
        }
        // Both handshake secrets and both traffic secrets of the one connection, once each.
        let mut labels: Vec<_> = file.secrets.iter().map(|line| line.split(' ').next().unwrap()).collect();
        labels.sort_unstable();
        let all = ["CLIENT_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0"];
        let all = [&all[..], &["EXPORTER_SECRET"], &["SERVER_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0"]];
        assert_eq!(labels, all.concat());
        let keys = std::fs::read_to_string(dir.path().join("keys.log")).unwrap();
        assert_eq!(keys.lines().collect::<Vec<_>>(), file.secrets);
        for line in &file.secrets {
            let hex = |field: &&str| field.len() >= 64 && field.chars().all(|c| c.is_ascii_hexdigit());
            assert_eq!(line.split(' ').skip(1).filter(hex).count(), 2, "{line}");
        }
    }
}

#[test]
fn listening_changes_nothing_and_two_traces_of_one_run_are_equal() {
    let silent = Pair::new(V4, &LOST, None).play();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(trace(one.path(), V4, &LOST), silent);
    assert_eq!(trace(two.path(), V4, &LOST), silent);
    let mut names = Vec::new();
    for dir in ["", "qlog"] {
        let Ok(files) = std::fs::read_dir(one.path().join(dir)) else { continue };
        names.extend(files.map(|file| Path::new(dir).join(file.unwrap().file_name())));
    }
    names.retain(|name| one.path().join(name).is_file());
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        let bytes = |dir: &tempfile::TempDir| std::fs::read(dir.path().join(&name)).unwrap();
        assert!(bytes(&one) == bytes(&two), "{}", name.display());
        assert!(!bytes(&one).is_empty(), "{}", name.display());
    }
}

/// Fields of every packet as tshark sees them, tab-separated.
fn tshark(file: &Path, fields: &[&str]) -> Option<Vec<String>> {
    let mut process = Process::new("tshark");
    process.args(["-r".as_ref(), file.as_os_str()]).args(["-T", "fields"]);
    process.args(["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]);
    for field in fields {
        process.args(["-e", field]);
    }
    let output = match process.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("{error}"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

/// The format itself is checked by the tests above, also where there is no tshark.
#[test]
fn tshark_decrypts_every_packet_and_finds_nothing_wrong() {
    for set in [V4, V6, DISCOVERY] {
        let dir = tempfile::tempdir().unwrap();
        let story = trace(dir.path(), set, &LOST);
        let file = dir.path().join("packets.pcapng");
        let fields = [
            "frame.protocols",
            "udp.checksum.status",
            "_ws.malformed",
            "quic.decryption_failed",
            "frame.comment",
            "tls.handshake.type",
            "quic.stream.stream_id",
            "_ws.expert.message",
        ];
        let Some(lines) = tshark(&file, &fields) else {
            let words = "there is no tshark: install it to have traces checked (apt-get install tshark)";
            let in_ci = std::env::var("CI").is_ok_and(|value| !["", "0", "false"].contains(&value.as_str()));
            assert!(!in_ci, "{words}");
            eprintln!("SKIPPED: {words}");
            return;
        };
        let sent: usize = story.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(lines.len(), sent);
        let mut handshake = std::collections::BTreeSet::new();
        let (mut comments, mut streams) = (0, 0);
        for (n, line) in lines.iter().enumerate() {
            let [protocols, checksum, malformed, undecrypted, comment, types, ids, messages] =
                line.split('\t').collect::<Vec<_>>()[..]
            else {
                panic!("{line}")
            };
            assert!(protocols.contains(":udp:quic"), "packet {}: {line}", n + 1);
            assert_eq!(checksum, "1", "packet {}: {line}", n + 1);
            assert_eq!(undecrypted, "", "packet {}: {line}", n + 1);
            // OBSERVED_ADDRESS, from a draft: tshark sees that it does not know it, so the packet was decrypted.
            let unknown = set.discovery && messages.contains("Unknown Frame Type 0x9f81a6");
            assert!(malformed.is_empty() || unknown, "packet {}: {line}", n + 1);
            handshake.extend(types.split(',').filter(|kind| !kind.is_empty()).map(str::to_owned));
            comments += usize::from(comment == "lost");
            streams += usize::from(!ids.is_empty());
        }
        assert_eq!(comments, LOST.len());
        assert!(streams > 20, "{streams}");
        // Hello and hello, extensions, request for a certificate, certificate, proof, finished: all but the first two
        // are seen only by who has the secrets.
        let wanted = ["1", "2", "8", "13", "11", "15", "20"];
        assert!(wanted.iter().all(|kind| handshake.contains(*kind)), "{handshake:?}");
    }
}
