//! Everything that reads bytes of strangers.

use std::net::{IpAddr, SocketAddr};

use bytes::{Bytes, BytesMut};
use peerwork::{
    Keypair, Multiaddr, PeerId, ProtocolId, PublicKey, fuzzing,
    identity::{MAX_PUBLIC_KEY_BYTES, MAX_RECORD_ADDRESSES, PeerRecord, SignedEnvelope},
    multiaddr::Protocol,
    protocol::identify::message::{
        IdentifyMessage, MAX_ADDRS, MAX_PROTOCOLS, MAX_RECEIVED, MAX_SENT, MAX_VERSION, Merger, escape,
    },
    transport::{
        addr::{Host, QuicAddr, Target, scope, strip_peer, to_multiaddr, with_peer},
        frame::{FrameDecoder, FrameError, append_frame},
        negotiate::{Dialer, DialerStep, Listener, ListenerStep, MAX_LINE, NegotiateError},
        varint as unsigned,
    },
};

use crate::Source;

/// [`unsigned`]: the encoding is unique, and cutting it short asks for more.
pub fn varint(data: &[u8]) {
    match unsigned::decode(data) {
        Ok(Some((value, len))) => {
            assert!(len <= unsigned::MAX_LEN && value <= unsigned::MAX);
            assert_eq!(unsigned::encode(value).as_slice(), &data[..len]);
            assert_eq!(unsigned::encoded_len(value), len);
            for cut in 0..len {
                assert_eq!(unsigned::decode(&data[..cut]), Ok(None));
            }
        }
        Ok(None) => assert!(data.len() < unsigned::MAX_LEN && data.iter().all(|byte| byte & 0x80 != 0)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let value = Source::new(data).long();
    let encoded = unsigned::encode(value);
    assert_eq!(encoded.as_slice().len(), unsigned::encoded_len(value));
    if value <= unsigned::MAX {
        assert_eq!(unsigned::decode(encoded.as_slice()), Ok(Some((value, encoded.as_slice().len()))));
    }
}

/// Cuts bytes into the pieces that the input asks for.
fn split<'a>(source: &mut Source<'a>) -> (Vec<usize>, &'a [u8]) {
    let sizes = source.chunk().iter().map(|size| usize::from(*size)).collect();
    (sizes, source.rest())
}

/// Pieces of these sizes, over and over; zero stands for all that is left.
fn pieces(sizes: &[usize], data: &[u8]) -> Vec<Bytes> {
    let (mut data, mut pieces) = (data, Vec::new());
    for size in sizes.iter().cycle() {
        if data.is_empty() {
            break;
        }
        let size = if *size == 0 { data.len() } else { (*size).min(data.len()) };
        let (piece, rest) = data.split_at(size);
        pieces.push(Bytes::copy_from_slice(piece));
        data = rest;
    }
    if !data.is_empty() {
        pieces.push(Bytes::copy_from_slice(data));
    }
    pieces
}

/// All frames in one go, written as simply as can be; what is left over; whether it ended in an error.
fn frames_of(mut data: &[u8], max: usize) -> (Vec<&[u8]>, Result<usize, ()>) {
    let mut frames = Vec::new();
    // As long as the limit's own prefix and still not over: more than the limit.
    let longest = unsigned::encoded_len(max as u64).min(unsigned::MAX_LEN);
    loop {
        let (mut len, mut used, mut ended) = (0u64, 0, false);
        for (index, byte) in data.iter().enumerate() {
            if index >= longest {
                return (frames, Err(()));
            }
            len |= u64::from(byte & 0x7f) << (7 * index);
            used = index + 1;
            if byte & 0x80 == 0 {
                if *byte == 0 && index > 0 {
                    return (frames, Err(()));
                }
                ended = true;
                break;
            }
        }
        if !ended {
            return (frames, if used >= longest { Err(()) } else { Ok(used) });
        }
        if len > max as u64 {
            return (frames, Err(()));
        }
        let body = &data[used..];
        let Some((frame, rest)) = body.split_at_checked(len as usize) else { return (frames, Ok(data.len())) };
        frames.push(frame);
        data = rest;
    }
}

/// [`FrameDecoder`] finds what a one-shot parser finds, however the stream is cut, within its bound.
pub fn frame(data: &[u8]) {
    let mut source = Source::new(data);
    let max = match source.below(8) {
        0 => 0,
        1 => 1,
        2 => 127,
        3 => 128,
        4 => 16_383,
        5 => 16_384,
        6 => usize::MAX,
        _ => source.short().into(),
    };
    let (sizes, data) = split(&mut source);
    let (expected, end) = frames_of(data, max);
    let mut decoder = FrameDecoder::new(max);
    let mut found: Vec<Bytes> = Vec::new();
    let mut failed = None;
    'stream: for piece in pieces(&sizes, data) {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(error) => {
                    failed = Some(error);
                    break 'stream;
                }
            }
        }
        assert!(decoder.buffered() <= decoder.bound());
    }
    assert_eq!(found, expected);
    match (end, failed) {
        (Err(()), Some(error)) => {
            assert!(!matches!(error, FrameError::Truncated));
            decoder.push(Bytes::from_static(b"\x01a"));
            assert_eq!((decoder.next(), decoder.finish()), (Err(error), Err(error)));
            assert_eq!(decoder.buffered(), 0);
        }
        (Ok(left), None) => {
            assert_eq!(decoder.buffered() > 0 || !decoder.is_empty(), left > 0);
            assert_eq!(decoder.finish().is_err(), left > 0);
        }
        (end, failed) => panic!("expected {end:?}, got {failed:?}"),
    }
    let mut again = BytesMut::new();
    for frame in &found {
        append_frame(frame, &mut again);
    }
    assert!(data.starts_with(&again));
}

const NAMES: [&str; 4] = ["/a", "/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/x/y"];

fn names(mask: u8) -> Vec<ProtocolId> {
    let chosen = NAMES.iter().enumerate().filter(|(at, _)| mask & (1 << at) != 0);
    chosen.map(|(_, name)| ProtocolId::from_static(name)).collect()
}

type Outcome<T> = Option<Result<(T, Vec<u8>), NegotiateError>>;

fn listen(supported: &[ProtocolId], pieces: &[Bytes]) -> (Vec<u8>, Outcome<ProtocolId>, NegotiateError) {
    let mut listener = Listener::new();
    let mut said = Vec::new();
    let mut outcome: Outcome<ProtocolId> = None;
    for piece in pieces {
        let mut input = piece.clone();
        if let Some(Ok((_, rest))) = &mut outcome {
            rest.extend_from_slice(&input);
            continue;
        }
        let supports = |name: &str| supported.iter().position(|known| known.as_str() == name);
        match listener.receive(&mut input, supports) {
            Ok(ListenerStep::NeedMore { reply }) => {
                said.extend(reply.unwrap_or_default());
                assert!(input.is_empty() && listener.buffered() <= MAX_LINE + 2);
            }
            Ok(ListenerStep::Selected { value, name, reply }) => {
                assert_eq!(supported[value], name);
                said.extend(reply);
                outcome = Some(Ok((name, input.to_vec())));
                let step = listener.receive(&mut Bytes::from_static(b"more"), supports);
                assert_eq!(step, Ok(ListenerStep::NeedMore { reply: None }));
            }
            Err(error) => {
                said.extend(listener.take_reply().unwrap_or_default());
                let mut more = Bytes::from_static(b"more");
                assert_eq!(listener.receive(&mut more, supports), Err(error));
                assert_eq!((&more[..], listener.take_reply()), (&b"more"[..], None));
                outcome = Some(Err(error));
                break;
            }
        }
    }
    (said, outcome, listener.eof())
}

/// [`Listener`]: how the stream is cut makes no difference; the peer cannot make it hold or say much.
pub fn negotiate_listener(data: &[u8]) {
    let mut source = Source::new(data);
    let supported = names(source.byte());
    let (sizes, data) = split(&mut source);
    let cut = listen(&supported, &pieces(&sizes, data));
    let whole = listen(&supported, &[Bytes::copy_from_slice(data)]);
    if data.is_empty() {
        return;
    }
    assert_eq!(cut, whole);
    assert!(cut.0.len() <= data.len() + 32, "{} bytes made it say {}", data.len(), cut.0.len());
}

fn dial(candidates: &[ProtocolId], pieces: &[Bytes]) -> (Vec<u8>, Outcome<ProtocolId>, NegotiateError) {
    let (mut dialer, first) = Dialer::new(candidates);
    assert_eq!(dialer.is_lazy(), candidates.len() == 1);
    let mut said = first.to_vec();
    let mut outcome: Outcome<ProtocolId> = None;
    'stream: for piece in pieces {
        let mut input = piece.clone();
        if let Some(Ok((_, rest))) = &mut outcome {
            rest.extend_from_slice(&input);
            continue;
        }
        loop {
            match dialer.receive(&mut input) {
                Ok(DialerStep::NeedMore) => {
                    assert!(input.is_empty() && dialer.buffered() <= MAX_LINE + 2);
                    break;
                }
                Ok(DialerStep::Send(proposal)) => said.extend(proposal),
                Ok(DialerStep::Done(name)) => {
                    assert!(candidates.contains(&name));
                    outcome = Some(Ok((name.clone(), input.to_vec())));
                    assert_eq!(dialer.receive(&mut Bytes::from_static(b"more")), Ok(DialerStep::Done(name)));
                    break;
                }
                Err(error) => {
                    let mut more = Bytes::from_static(b"more");
                    assert_eq!((dialer.receive(&mut more), &more[..]), (Err(error), &b"more"[..]));
                    outcome = Some(Err(error));
                    break 'stream;
                }
            }
        }
    }
    (said, outcome, dialer.eof())
}

/// [`Dialer`]: the same, and against a [`Listener`] it gets the first name that both know.
pub fn negotiate_dialer(data: &[u8]) {
    let mut source = Source::new(data);
    let (candidates, supported) = (names(source.byte()), names(source.byte()));
    let (sizes, data) = split(&mut source);
    let cut = dial(&candidates, &pieces(&sizes, data));
    if !data.is_empty() {
        assert_eq!(cut, dial(&candidates, &[Bytes::copy_from_slice(data)]));
    }

    let (mut dialer, first) = Dialer::new(&candidates);
    let mut listener = Listener::new();
    let (mut there, mut back) = (first.to_vec(), Vec::new());
    let mut chosen = None;
    let mut result = None;
    for _ in 0..16 {
        for mut piece in pieces(&sizes, &core::mem::take(&mut there)) {
            let supports = |name: &str| supported.iter().any(|known| known.as_str() == name).then_some(());
            match listener.receive(&mut piece, supports) {
                Ok(ListenerStep::NeedMore { reply }) => back.extend(reply.unwrap_or_default()),
                Ok(ListenerStep::Selected { name, reply, .. }) => {
                    chosen = Some(name);
                    back.extend(reply);
                }
                Err(error) => panic!("an honest dialer met {error}"),
            }
        }
        for mut piece in pieces(&sizes, &core::mem::take(&mut back)) {
            loop {
                match dialer.receive(&mut piece) {
                    Ok(DialerStep::NeedMore) => break,
                    Ok(DialerStep::Send(proposal)) => there.extend(proposal),
                    Ok(DialerStep::Done(name)) => {
                        result = Some(Ok(name));
                        break;
                    }
                    Err(error) => {
                        result = Some(Err(error));
                        break;
                    }
                }
            }
        }
    }
    let expected = candidates.iter().find(|name| supported.contains(name)).cloned();
    assert_eq!(chosen, expected);
    assert_eq!(result, Some(expected.ok_or(NegotiateError::Unsupported)));
}

fn some_addr(source: &mut Source<'_>) -> Multiaddr {
    let port = source.short();
    let ip: IpAddr = match source.below(4) {
        0 => source.long().to_le_bytes()[..4].try_into().map(|ip: [u8; 4]| ip.into()).expect("four bytes"),
        1 => [10, 0, 0, source.byte()].into(),
        2 => [198, 51, 100, source.byte()].into(),
        _ => IpAddr::V6((u128::from(source.long()) << 64 | u128::from(source.long())).into()),
    };
    to_multiaddr(SocketAddr::new(ip, port))
}

/// The identify message: what was merged is bounded, and what was written is read again, trimmed at most.
pub fn identify_message(data: &[u8]) {
    let mut source = Source::new(data);
    let message = if source.coin() {
        let mut merger = Merger::new();
        let mut taken = 0;
        while !source.is_empty() {
            let len = source.short();
            let frame = source.bytes(usize::from(len) % (MAX_RECEIVED + 2));
            taken += frame.len();
            if let Err(error) = merger.push(Bytes::copy_from_slice(frame)) {
                assert!(!error.to_string().is_empty());
                return;
            }
        }
        let Ok(message) = merger.finish() else { return };
        let addrs: usize = message.listen_addrs.iter().map(|addr| addr.len()).sum();
        let names: usize = message.protocols.iter().map(|name| name.as_str().len()).sum();
        assert!(message.listen_addrs.len() <= MAX_ADDRS && message.protocols.len() <= MAX_PROTOCOLS);
        assert!(addrs + names <= taken);
        assert!(message.listen_addrs.iter().all(|addr| !addr.is_empty()));
        message
    } else {
        let mut text = || String::from_utf8_lossy(source.chunk()).into_owned();
        let versions = [text(), text()];
        let [protocol_version, agent_version] = versions.map(Some);
        let observed_addr = source.coin().then(|| some_addr(&mut source));
        let public_key = source.coin().then(|| Bytes::copy_from_slice(source.chunk()));
        let signed_peer_record = source.coin().then(|| {
            let len = source.short() % 6000;
            Bytes::from(source.bytes(len.into()).to_vec())
        });
        let repeat = source.byte();
        let listen_addrs = (0..repeat % 100).map(|_| some_addr(&mut source)).collect();
        let mut name = || ProtocolId::new(format!("/{}", String::from_utf8_lossy(source.chunk()))).ok();
        let protocols = (0..repeat / 8).filter_map(|_| name()).collect();
        let record = signed_peer_record;
        IdentifyMessage {
            public_key,
            listen_addrs,
            protocols,
            observed_addr,
            protocol_version,
            agent_version,
            signed_peer_record: record,
        }
    };
    for text in [&message.agent_version, &message.protocol_version].into_iter().flatten() {
        assert!(!escape(text).chars().any(char::is_control));
    }

    let small = message.public_key.as_ref().map_or(0, Bytes::len)
        + message.observed_addr.as_ref().map_or(0, Multiaddr::len)
        < 3000;
    let encoded = message.encode();
    assert!((1..=2).contains(&encoded.len()));
    assert!(!small || encoded.iter().all(|part| part.len() <= MAX_SENT));
    let mut merger = Merger::new();
    for part in encoded {
        if part.len() > MAX_RECEIVED {
            return;
        }
        merger.push(part).expect("what was written can be read");
    }
    let read = merger.finish().expect("there was a message");
    assert!(message.listen_addrs.starts_with(&read.listen_addrs));
    assert!(message.protocols.starts_with(&read.protocols));
    assert_eq!((&read.public_key, &read.observed_addr), (&message.public_key, &message.observed_addr));
    assert!(read.signed_peer_record.is_none() || read.signed_peer_record == message.signed_peer_record);
    let cut = |read: &Option<String>, sent: &Option<String>| {
        let (read, sent) = (read.as_deref().unwrap_or_default(), sent.as_deref().unwrap_or_default());
        assert!(sent.starts_with(read) && (read.len() == sent.len() || read.len() + 4 > MAX_VERSION));
    };
    cut(&read.agent_version, &message.agent_version);
    cut(&read.protocol_version, &message.protocol_version);
}

/// Multiaddrs, and what QUIC makes of them: the mapping goes there and back.
pub fn multiaddr(data: &[u8]) {
    let mut source = Source::new(data);
    let binary = source.coin();
    let data = source.rest();
    let parsed = match (binary, str::from_utf8(data)) {
        (true, _) => Multiaddr::try_from(data.to_vec()).ok(),
        (false, Ok(text)) => text.parse().ok(),
        (false, Err(_)) => None,
    };
    let Some(addr) = parsed else { return };
    let (bare, peer) = strip_peer(addr.clone());
    // Where peers follow each other, putting the last one back changes nothing.
    let once = strip_peer(bare.clone()).1.is_none();
    if let Some(peer) = peer.filter(|_| once).and_then(|peer| PeerId::try_from(peer).ok()) {
        assert_eq!(with_peer(bare, peer.into()).as_ref(), Ok(&addr));
    }
    let quic = match Target::parse(&addr) {
        Ok(Target::Quic(quic)) => quic,
        Ok(Target::DnsAddr { name, .. }) => {
            assert!(!name.is_empty() && name.is_ascii());
            return;
        }
        Err(error) => {
            assert!(!error.to_string().is_empty() && QuicAddr::parse(&addr).is_err());
            return;
        }
    };
    let again = quic.to_multiaddr();
    assert_eq!(QuicAddr::parse(&again), Ok(quic.clone()));
    assert_eq!(again.to_string().parse().ok().as_ref(), Some(&again));
    match (&quic.host, quic.socket_addr()) {
        (Host::Ip(ip), Some(socket)) => {
            assert_eq!(ip.to_canonical(), *ip);
            let _ = scope(*ip);
            assert_eq!(strip_peer(again.clone()).0, to_multiaddr(socket));
            let canonical =
                matches!(addr.iter().next(), Some(Protocol::Ip6(ip)) if IpAddr::V6(ip).to_canonical() != ip);
            assert!(canonical || again == addr);
        }
        (Host::Dns { name, .. }, None) => assert!(name.is_ascii() && again == addr),
        other => panic!("{other:?}"),
    }
}

/// Peer ids in bytes and text: one spelling in bytes, many in text, all of the same id.
pub fn peer_id(data: &[u8]) {
    let mut source = Source::new(data);
    let binary = source.coin();
    let data = source.rest();
    let id = match (binary, str::from_utf8(data)) {
        (true, _) => PeerId::from_bytes(data),
        (false, Ok(text)) => text.parse(),
        (false, Err(_)) => return,
    };
    let id = match id {
        Ok(id) => id,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(!binary || id.as_bytes() == data);
    assert_eq!(PeerId::from_bytes(id.as_bytes()), Ok(id));
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!(PeerId::try_from(id.to_multiaddr_peer()), Ok(id));
    assert!(!format!("{id:?}").is_empty());
    if let Some(key) = id.public_key() {
        assert_eq!(key.peer_id(), id);
    }
}

/// Public keys: one spelling each, and signatures that do not blow up.
pub fn public_key(data: &[u8]) {
    let mut source = Source::new(data);
    let signature = source.chunk();
    let data = source.rest();
    let key = match PublicKey::decode_protobuf(data) {
        Ok(key) => key,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(data.len() <= MAX_PUBLIC_KEY_BYTES);
    assert_eq!(key.encode_protobuf(), data);
    let id = key.peer_id();
    assert_eq!(id.public_key().is_some(), data.len() <= 42);
    assert!(id.public_key().is_none_or(|again| again == key));
    // Whatever verifies, verifies for one message only.
    if key.verify(b"one", signature) {
        assert!(!key.verify(b"another", signature));
    }
}

/// Private keys: what is read is written canonically, and signs.
pub fn private_key(data: &[u8]) {
    let key = match Keypair::decode_protobuf(data) {
        Ok(key) => key,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let encoded = key.encode_protobuf();
    assert_eq!(data[4..36], encoded[4..36]);
    let again = Keypair::decode_protobuf(&encoded).expect("what was written can be read");
    assert_eq!(again.peer_id(), key.peer_id());
    assert!(key.public().verify(b"message", &again.sign(b"message")));
    assert!(!format!("{key:?}").is_empty());
}

/// Envelopes and peer records: raw ones, well-signed nonsense, and honest ones.
pub fn envelope(data: &[u8]) {
    let mut source = Source::new(data);
    let mode = source.below(3);
    let keypair = Keypair::from_seed([source.byte(); 32]);
    let envelope = match mode {
        0 => match SignedEnvelope::decode(source.rest()) {
            Ok(envelope) => envelope,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        },
        1 => {
            let (domain, kind): (_, &[u8]) = match source.below(3) {
                0 => ("libp2p-peer-record", &[3, 1]),
                1 => ("libp2p-routing-state", b"/libp2p/routing-state-record"),
                _ => ("libp2p-routing-state", &[3, 1]),
            };
            SignedEnvelope::seal(&keypair, domain, kind, source.rest().to_vec())
        }
        _ => {
            let seq = source.long();
            let addresses: Vec<Multiaddr> = (0..source.byte()).map(|_| some_addr(&mut source)).collect();
            let record = PeerRecord { peer_id: keypair.peer_id(), seq, addresses };
            let Ok(sealed) = record.seal(&keypair) else { return };
            let opened = PeerRecord::open(&sealed).expect("what was sealed opens");
            let kept = record.addresses.len().min(MAX_RECORD_ADDRESSES);
            assert_eq!((opened.peer_id, opened.seq), (record.peer_id, record.seq));
            assert_eq!(opened.addresses, record.addresses[..kept]);
            sealed
        }
    };
    let encoded = envelope.encode();
    if let Ok(again) = SignedEnvelope::decode(&encoded) {
        assert_eq!(again, envelope);
    } else {
        assert!(encoded.len() > peerwork::identity::MAX_ENVELOPE_BYTES);
    }
    match PeerRecord::open(&envelope) {
        Ok(record) => {
            assert_eq!(record.peer_id, envelope.public_key.peer_id());
            assert!(record.addresses.len() <= MAX_RECORD_ADDRESSES);
            assert!(record.addresses.iter().all(|address| !address.is_empty()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A moment within the validity of all certificates.
const NOW: u64 = 1_800_000_000;

/// Certificates: raw ones, changed ones, and changed ones that their own key has signed again.
pub fn certificate(data: &[u8]) {
    let mut source = Source::new(data);
    let platform = peerwork_sim::platform();
    let mode = source.below(3);
    if mode == 0 {
        let now = if source.coin() { NOW } else { source.long() };
        if let Some(key) = fuzzing::certificate_verify(&platform, source.rest(), now) {
            assert_eq!(PublicKey::decode_protobuf(&key.encode_protobuf()).as_ref(), Ok(&key));
        }
        return;
    }
    let host = Keypair::from_seed([7; 32]);
    let (seed, serial) = ([source.byte(); 32], source.long().to_le_bytes());
    let good = fuzzing::certificate_generate(&host, seed, serial);
    assert_eq!(fuzzing::certificate_verify(&platform, &good, NOW), Some(host.public()));
    if mode == 1 {
        let changed = change(&mut source, good.clone());
        let verified = fuzzing::certificate_verify(&platform, &changed, NOW);
        assert!(verified.is_none() || changed == good, "a changed certificate passes");
        return;
    }
    let body = inner(&good).expect("a certificate holds a body").to_vec();
    let body = change(&mut source, body);
    // The certificate's key signs whatever we like; only the host key cannot be had.
    let forged = sign(&Keypair::from_seed(seed), &body);
    if let Some(key) = fuzzing::certificate_verify(&platform, &forged, NOW) {
        assert_eq!(key, host.public(), "a host key that never signed");
    }
}

fn change(source: &mut Source<'_>, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..8 {
        if source.is_empty() || bytes.is_empty() {
            break;
        }
        let at = usize::from(source.short()) % bytes.len();
        match source.below(5) {
            0 => bytes[at] = source.byte(),
            1 => bytes[at] ^= 1 << source.below(8),
            2 => drop(bytes.drain(at..(at + source.below(16)).min(bytes.len()))),
            3 => drop(bytes.splice(at..at, source.chunk().iter().copied())),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// Length of a DER element's head and content, for lengths below 64 KiB.
fn measure(der: &[u8]) -> Option<(usize, usize)> {
    match *der.get(1..)? {
        [len @ 0..=0x7f, ..] => Some((2, len.into())),
        [0x81, len, ..] => Some((3, len.into())),
        [0x82, high, low, ..] => Some((4, usize::from(high) << 8 | usize::from(low))),
        _ => None,
    }
}

/// The first element inside a sequence.
fn inner(der: &[u8]) -> Option<&[u8]> {
    let content = der.get(measure(der)?.0..)?;
    let (head, len) = measure(content)?;
    content.get(..head + len)
}

fn sign(key: &Keypair, body: &[u8]) -> Vec<u8> {
    let mut content = body.to_vec();
    // ed25519, then a bit string without unused bits.
    content.extend([0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 65, 0]);
    content.extend(key.sign(body));
    let len = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut out = match len {
        [0, low @ 0..=0x7f] => vec![0x30, low],
        [0, low] => vec![0x30, 0x81, low],
        [high, low] => vec![0x30, 0x82, high, low],
    };
    out.extend(content);
    out
}
