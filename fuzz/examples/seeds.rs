//! Writes the seed corpora: `cargo run -p peerwork-fuzz --example seeds`. Files named `golden-*`, which hold test vectors
//! of `core`, and files that a fuzzer found worth keeping (named by their hash) are left alone.

use std::{fs, io, path::Path};

use peerwork::{Keypair, Multiaddr, Rng, fuzzing, identity::PeerRecord};

fn main() -> io::Result<()> {
    codecs()?;
    logs()?;
    machines()?;
    nodes()
}

fn seed(target: &str, name: &str, data: &[u8]) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("seed-{name}")), data)
}

/// Noise from a fixed seed; values stay below `bound`.
fn noise(target: &str, count: u64, len: usize, head: &[u8]) -> io::Result<()> {
    for number in 0..count {
        let mut data = vec![0; len];
        Rng::from_seed(number).fill(&mut data);
        data.splice(..head.len().min(len), head.iter().copied());
        seed(target, &format!("noise-{number}"), &data)?;
    }
    Ok(())
}

fn line(text: &str) -> Vec<u8> {
    let mut line = vec![u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    line.extend(text.as_bytes());
    line.push(b'\n');
    line
}

fn logs() -> io::Result<()> {
    let sound = peerwork_fuzz::sound_log();
    seed("replay_log", "sound", &[&[0], sound].concat())?;
    seed("replay_log", "torn", &[&[0], &sound[..sound.len() * 2 / 3]].concat())?;
    seed("replay_log", "changed", &[1, 1, 4, 0xff, 0xff])?;
    seed("replay_log", "untouched", &[1, 0, 0])?;
    noise("replay_log", 4, 100, &[0])
}

fn codecs() -> io::Result<()> {
    for (name, data) in [
        ("zero", &[0][..]),
        ("long", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("too-long", &[0x80; 10]),
        ("not-minimal", &[0x81, 0]),
    ] {
        seed("varint", name, data)?;
    }
    seed("frame", "three", b"\x06\x02\x01\x05\x00\x05hello\x03abc")?;
    seed("frame", "limit", b"\x02\x03\x01\x02\x03\x7faaaaaaa")?;
    seed("frame", "above-the-limit", b"\x02\x00\x80\x01aaaa")?;

    let header = line("/multistream/1.0.0");
    let talk = |head: &[u8], lines: &[&str], rest: &[u8]| {
        let mut data = head.to_vec();
        data.extend(&header);
        lines.iter().for_each(|text| data.extend(line(text)));
        data.extend(rest);
        data
    };
    let offer = ["/a", "/ipfs/id/1.0.0", "ls", "/ipfs/ping/1.0.0"];
    seed("negotiate_listener", "many", &talk(&[8, 3, 1, 5, 9], &offer, b""))?;
    seed("negotiate_listener", "data-behind", &talk(&[15, 0], &["/a"], b"hello"))?;
    seed("negotiate_listener", "lazy-data-refused", &talk(&[0, 1, 7], &["/a"], b"\x02hi"))?;
    seed(
        "negotiate_listener",
        "simultaneous-open",
        &talk(&[4, 0], &["/libp2p/simultaneous-connect", "select:123"], b""),
    )?;
    seed("negotiate_dialer", "third", &talk(&[15, 4, 2, 3, 4], &["na", "na", "/ipfs/ping/1.0.0"], b"data"))?;
    seed("negotiate_dialer", "nothing", &talk(&[7, 8, 0], &["na", "na", "na"], b""))?;
    seed("negotiate_dialer", "wrong", &talk(&[1, 1, 0], &["/x/y"], b""))?;

    let key = Keypair::from_seed([5; 32]);
    let addr: Multiaddr = "/ip4/198.51.100.7/udp/4001/quic-v1".parse().expect("a multiaddr");
    let record = PeerRecord { peer_id: key.peer_id(), seq: 3, addresses: vec![addr.clone(), addr.clone()] };
    let sealed = record.seal(&key).expect("sealed").encode();
    seed("envelope", "raw", &[&[0, 0][..], &sealed].concat())?;
    seed("envelope", "signed-nonsense", b"\x01\x05\x00\x0a\x02\x00\x00\x10\x01\x1a\x04\x0a\x02\x04\x01")?;
    seed("envelope", "record", &[2, 5, 9, 0, 0, 0, 0, 0, 0, 0, 3, 0xa1, 0x0f, 2, 7, 1, 0, 1, 4])?;

    let message = peerwork::protocol::identify::message::IdentifyMessage {
        public_key: Some(key.public().encode_protobuf().into()),
        listen_addrs: vec![addr.clone(); 3],
        protocols: vec![peerwork::protocol::ping::PING, peerwork::protocol::identify::PUSH],
        observed_addr: Some(addr.clone()),
        protocol_version: Some("ipfs/0.1.0".into()),
        agent_version: Some("go-libp2p/0.48.0".into()),
        signed_peer_record: Some(sealed.into()),
    };
    let mut read = vec![1];
    for part in message.encode() {
        read.extend(u16::try_from(part.len()).unwrap_or(0).to_le_bytes());
        read.extend(&part);
    }
    seed("identify_message", "read", &read)?;
    seed(
        "identify_message",
        "write",
        b"\x00\x05ipfs/\x03abc\x01\xa1\x0f\x01\x07\x01\x04keys\x01\x05\x00recor\x19\x01\x00\x01\x09\x05/ping",
    )?;

    seed("multiaddr", "quic", &[&[1][..], addr.as_ref()].concat())?;
    for (name, text) in [
        ("quic-text", "/ip6/2001:db8::1/udp/443/quic-v1/p2p/12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"),
        ("mapped", "/ip6/::ffff:1.2.3.4/udp/1/quic-v1"),
        ("dns", "/dns4/example.org/udp/4001/quic-v1"),
        ("dnsaddr", "/dnsaddr/bootstrap.libp2p.io/p2p/QmaeANgBs1DTSxWSrPPtobgQuxW8XTfsS4ydbK4rCHzqxG"),
        ("circuit", "/ip4/1.2.3.4/udp/1/quic-v1/p2p/12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq/p2p-circuit"),
        ("webtransport", "/ip4/1.2.3.4/udp/1/quic-v1/webtransport"),
        ("tcp", "/ip4/1.2.3.4/tcp/1"),
    ] {
        seed("multiaddr", name, &[&[0][..], text.as_bytes()].concat())?;
    }
    seed("peer_id", "bytes", &[&[1][..], key.peer_id().as_bytes()].concat())?;
    seed("peer_id", "text", format!("\0{}", key.peer_id()).as_bytes())?;
    seed("public_key", "ed25519", &[&[0][..], &key.public().encode_protobuf()].concat())?;
    let signed = [&[64][..], &key.sign(b"one"), &key.public().encode_protobuf()].concat();
    seed("public_key", "signed", &signed)?;
    let private = key.encode_protobuf();
    seed("private_key", "ed25519", &private)?;
    seed("private_key", "old", &[&[8, 1, 0x12, 0x60][..], &private[4..], &private[36..]].concat())?;

    let certificate = fuzzing::certificate_generate(&key, [9; 32], [1; 8]);
    seed("certificate", "good", &[&[0, 1][..], &certificate].concat())?;
    seed(
        "certificate",
        "expired",
        &[&[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f][..], &certificate].concat(),
    )?;
    seed("certificate", "changed", &[1, 9, 1, 2, 3, 4, 5, 6, 7, 8, 40, 0, 0, 1])?;
    seed("certificate", "signed-again", &[2, 9, 1, 2, 3, 4, 5, 6, 7, 8, 90, 0, 1, 3, 60, 0, 2, 4])
}

fn machines() -> io::Result<()> {
    // Connect, then: a polite bench (the first byte), every operation in turn.
    let turns: Vec<u8> = (0..120u8).flat_map(|turn| [turn % 20, turn / 20, turn, 2, 7, turn]).collect();
    for target in ["machine_identify", "machine_ping", "machine_perf", "machine_request"] {
        seed(target, "turns", &[&[1, 1, 0, 0, 0][..], &turns].concat())?;
        seed(target, "rude", &[&[0, 0, 0, 0][..], &turns].concat())?;
        noise(target, 3, 200, &[1, 1, 0])?;
    }
    Ok(())
}

/// Time and steps for an honest network.
const FLOW: [u8; 4] = [0, 60, 0, 100];

fn nodes() -> io::Result<()> {
    // The plan: bit 4 starts with a connection; the top bits choose the end.
    for plan in 0..8u8 {
        let open = [20, 10, 0, 0, 0, 0, 0, 200];
        let write = [26, 0, 0, 0, 0, 100];
        let read = [128 | 26, 0, 0, 0, 4, 255];
        let finish = [26, 0, 0, 0, 7];
        let program =
            [&[plan << 5 | 16 | plan][..], &open, &FLOW, &write, &FLOW, &read, &finish, &FLOW, &read].concat();
        seed("node_pair", &format!("stream-{plan}"), &program)?;
    }
    let ask = [20, 15, 0, 0, 0, 3, 1, 2, 3];
    let answer = [128 | 20, 16, 0, 0, 0, 4, 1, 2, 3, 4, 0];
    seed("node_pair", "request", &[&[17][..], &ask, &FLOW, &answer, &FLOW].concat())?;
    let perf = [20, 9, 0, 0, 0, 0, 40, 0, 40];
    seed("node_pair", "perf", &[&[17][..], &perf, &FLOW, &FLOW].concat())?;
    let both = [20, 0, 128 | 20, 0];
    seed("node_pair", "both-dial", &[&[0][..], &both, &FLOW, &FLOW, &[20, 7, 0, 0, 0, 0, 0, 1, 0]].concat())?;
    let mangled: Vec<u8> = (0..60u8).flat_map(|turn| [6, turn, turn, turn, 1, turn, 0, 1, 0, 30]).collect();
    seed("node_pair", "mangled", &[&[0, 20, 0][..], &mangled].concat())?;
    let blocked = [16, 2, 0, 0, 0, 16, 1, 0, 0, 0, 9];
    seed("node_pair", "blocked", &[&[16][..], &blocked, &FLOW].concat())?;
    noise("node_pair", 8, 300, &[16])?;

    let (open, say) = (|protocol: u8| [6, protocol, 1], [11, 4, 1, 2, 3, 4]);
    for protocol in 0..7u8 {
        let program = [
            &[1][..],
            &open(protocol),
            &[6, 5, 0, 0, 0, 0, 9],
            &FLOW,
            &say,
            &say,
            &[20],
            &FLOW,
            &[27, protocol, 0, 1, 0, 1],
            &FLOW,
            &say,
            &[20],
            &FLOW,
        ]
        .concat();
        seed("node_hostile", &format!("protocol-{protocol}"), &program)?;
    }
    // A stream that is stopped before it has said what it speaks.
    seed("node_hostile", "stopped-early", &[&[1][..], &[6, 0, 1, 0, 23, 1, 0], &FLOW].concat())?;
    // A ping flood, and a frame that never ends.
    seed("node_hostile", "flood", &[&[1, 6, 2, 1, 0][..], &[19, 1, 255, 255, 19, 1, 255, 255], &FLOW].concat())?;
    noise("node_hostile", 6, 300, &[1])?;
    seed("network", "all-is-well", &[])?;
    noise("network", 6, 2_000, &[])
}
