//! A strict reader of what the writer writes, and tests of blocks and headers.

use std::net::SocketAddr;

use peerwork::{Time, UnixTime, io::Ecn};

use super::{super::TracedPacket, Pcapng};

/// A packet as read.
pub(crate) struct Packet {
    /// Nanoseconds since 1970.
    pub(crate) at: u64,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) ecn: u8,
    pub(crate) data: Vec<u8>,
    pub(crate) comment: Option<String>,
    /// Lines of secrets that came before it.
    pub(crate) secrets_before: usize,
}

/// A file as read.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) packets: Vec<Packet>,
    pub(crate) secrets: Vec<String>,
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap())
}

/// Options up to their end; nothing may follow.
fn options(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut options = Vec::new();
    while !bytes.is_empty() {
        let (code, len) = (le32(bytes, 0) as u16, (le32(bytes, 0) >> 16) as usize);
        if code == 0 {
            assert_eq!((len, bytes.len()), (0, 4));
            return options;
        }
        options.push((code, bytes[4..4 + len].to_vec()));
        let padded = len.next_multiple_of(4);
        assert!(bytes[4 + len..4 + padded].iter().all(|byte| *byte == 0));
        bytes = &bytes[4 + padded..];
    }
    assert!(options.is_empty(), "options without an end");
    options
}

/// The one's complement sum over 16-bit words, written another way than in the writer.
fn folded(bytes: &[u8]) -> u64 {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(2), 0);
    let mut total: u64 = (0..padded.len()).step_by(2).map(|at| u64::from(be16(&padded, at))).sum();
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    total
}

fn packet(bytes: &[u8]) -> (SocketAddr, SocketAddr, u8, Vec<u8>) {
    let (from, to, ecn, addresses, udp) = match bytes[0] >> 4 {
        4 => {
            assert_eq!(bytes[0], 0x45);
            assert_eq!(usize::from(be16(bytes, 2)), bytes.len());
            assert_eq!(folded(&bytes[..20]), 0xffff, "checksum of the IP header");
            assert_eq!(bytes[9], 17);
            let ip = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap();
            (ip(12).into(), ip(16).into(), bytes[1] & 3, &bytes[12..20], &bytes[20..])
        }
        6 => {
            assert_eq!(usize::from(be16(bytes, 4)) + 40, bytes.len());
            assert_eq!(bytes[6], 17);
            let ip = |at: usize| <[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap();
            (std::net::IpAddr::from(ip(8)), ip(24).into(), bytes[1] >> 4 & 3, &bytes[8..40], &bytes[40..])
        }
        other => panic!("IP version {other}"),
    };
    assert_eq!(usize::from(be16(udp, 4)), udp.len());
    assert_ne!(be16(udp, 6), 0, "no checksum");
    let pseudo = [addresses, &[0, 17], &be16(udp, 4).to_be_bytes(), udp].concat();
    assert_eq!(folded(&pseudo), 0xffff, "checksum of UDP");
    (SocketAddr::new(from, be16(udp, 0)), SocketAddr::new(to, be16(udp, 2)), ecn, udp[8..].to_vec())
}

/// Reads a whole file and panics at anything that is not as it must be.
pub(crate) fn read(mut bytes: &[u8]) -> Contents {
    let mut contents = Contents::default();
    for n in 0.. {
        if bytes.is_empty() {
            break;
        }
        let (kind, len) = (le32(bytes, 0), le32(bytes, 4) as usize);
        assert!(len % 4 == 0 && len >= 12, "block {n}");
        assert_eq!(le32(bytes, len - 4) as usize, len, "block {n}");
        let body = &bytes[8..len - 4];
        match (n, kind) {
            (0, 0x0a0d_0d0a) => {
                assert_eq!(body[..8], [0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0]);
                assert_eq!(body[8..16], [0xff; 8]);
                assert_eq!(options(&body[16..]), [(4, b"peerwork-sim".to_vec())]);
            }
            (1, 1) => {
                assert_eq!((le32(body, 0), le32(body, 4)), (101, 0));
                assert_eq!(options(&body[8..]), [(2, b"virtual".to_vec()), (9, vec![9])]);
            }
            (2.., 10) => {
                assert_eq!(&body[..4], b"KSLT");
                let text = std::str::from_utf8(&body[8..8 + le32(body, 4) as usize]).unwrap();
                assert!(text.ends_with('\n'));
                contents.secrets.extend(text.lines().map(str::to_owned));
            }
            (2.., 6) => {
                assert_eq!(le32(body, 0), 0, "the only interface");
                let len = le32(body, 12) as usize;
                assert_eq!(le32(body, 16) as usize, len);
                let (from, to, ecn, data) = packet(&body[20..20 + len]);
                let comment = match &options(&body[20 + len.next_multiple_of(4)..])[..] {
                    [] => None,
                    [(1, text)] => Some(String::from_utf8(text.clone()).unwrap()),
                    other => panic!("{other:?}"),
                };
                contents.packets.push(Packet {
                    at: u64::from(le32(body, 4)) << 32 | u64::from(le32(body, 8)),
                    from,
                    to,
                    ecn,
                    data,
                    comment,
                    secrets_before: contents.secrets.len(),
                });
            }
            other => panic!("block {other:?}"),
        }
        bytes = &bytes[len..];
    }
    contents
}

#[test]
fn what_is_written_is_read_back() {
    let mut file = Pcapng::new(Vec::new(), UnixTime::from_secs(1_800_000_000)).unwrap();
    let ends =
        [("10.0.0.1:1", "192.0.2.7:65535"), ("[2001:db8::1]:4001", "[fe80::2]:5"), ("10.0.0.1:1", "[64:ff9b::1]:7")];
    let marks = [None, Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce)];
    let mut wanted = Vec::new();
    for (n, (from, to)) in ends.into_iter().enumerate() {
        for len in [0, 1, 2, 3, 1200, 65_000] {
            let data: Vec<u8> = (0..len).map(|at| (at * 7 + n) as u8).collect();
            let ecn = marks[(n + len) % 4];
            let fate = ["delivered", "", "lost", "nat.filter, symmetric → \"port\""][(n + len) % 4];
            let at = Time::from_nanos(wanted.len() as u64 * 1_000_000_007);
            file.packet(&TracedPacket {
                at,
                from: from.parse().unwrap(),
                to: to.parse().unwrap(),
                ecn,
                data: &data,
                fate,
            })
            .unwrap();
            wanted.push((at, from, to, ecn, data, fate));
        }
        file.secrets(&format!("LABEL {n}")).unwrap();
    }
    let contents = read(&file.into_inner());
    assert_eq!(contents.secrets, ["LABEL 0", "LABEL 1", "LABEL 2"]);
    assert_eq!(contents.packets.len(), wanted.len());
    for (n, (packet, (at, from, to, ecn, data, fate))) in contents.packets.iter().zip(wanted).enumerate() {
        assert_eq!(packet.at, 1_800_000_000_000_000_000 + at.as_nanos());
        let from = if n / 6 == 2 { "[::ffff:10.0.0.1]:1" } else { from };
        assert_eq!((packet.from, packet.to), (from.parse().unwrap(), to.parse().unwrap()));
        let bits = match ecn {
            None => 0,
            Some(Ecn::Ect1) => 1,
            Some(Ecn::Ect0) => 2,
            Some(Ecn::Ce) => 3,
        };
        assert_eq!((packet.ecn, &packet.data), (bits, &data));
        let comment = (!fate.is_empty() && fate != "delivered").then_some(fate);
        assert_eq!(packet.comment.as_deref(), comment);
        assert_eq!(packet.secrets_before, n / 6);
    }
}

#[test]
fn a_datagram_that_cannot_be_is_an_error_and_leaves_the_file_whole() {
    let mut file = Pcapng::new(Vec::new(), UnixTime::from_secs(0)).unwrap();
    let end = "10.0.0.1:1".parse().unwrap();
    for len in [65_508, 65_528, 70_000] {
        let data = vec![0; len];
        let packet = TracedPacket { at: Time::ZERO, from: end, to: end, ecn: None, data: &data, fate: "" };
        assert!(file.packet(&packet).is_err());
    }
    assert!(read(&file.into_inner()).packets.is_empty());
}

#[test]
fn a_checksum_of_zero_is_sent_as_its_other_form() {
    // Two bytes of payload that make the sum come out at all ones.
    let mut file = Pcapng::new(Vec::new(), UnixTime::from_secs(0)).unwrap();
    let (from, to) = ("0.0.0.0:0".parse().unwrap(), "0.0.0.0:0".parse().unwrap());
    let rest = 0xffff - (17 + 10 + 10);
    let data = u16::to_be_bytes(rest);
    file.packet(&TracedPacket { at: Time::ZERO, from, to, ecn: None, data: &data, fate: "" }).unwrap();
    assert_eq!(read(&file.into_inner()).packets[0].data, data);
}
