//! Packets of a virtual network in a file that Wireshark and tshark open: pcapng (draft-ietf-opsawg-pcapng).
//!
//! The file has one interface of link type raw IP. Each UDP datagram gets an IP and a UDP header with right checksums, a
//! time in nanoseconds and, unless it was simply delivered, its fate as a comment. The secrets of connections are in
//! the file itself (Decryption Secrets Blocks), so that QUIC is shown decrypted without any setting.
//!
//! Four kinds of blocks do, which are written here: of the crates for this format, `pcap-file` 2 has no secrets blocks,
//! its version 3 is a release candidate for newer compilers than this project asks for, and others are not kept up.

#[cfg(test)]
pub(super) mod tests;

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv6Addr},
};

use peerwork::{UnixTime, io::Ecn};

use super::{DELIVERED, TracedPacket};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const SECRETS: u32 = 10;

/// Tells the order of bytes.
const MAGIC: u32 = 0x1a2b_3c4d;
/// Packets begin with an IPv4 or IPv6 header.
const LINKTYPE_RAW: u32 = 101;
/// `TLSK`: lines of a key log.
const TLS_KEY_LOG: u32 = 0x544c_534b;

const OPT_COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;

const UDP: u8 = 17;
const HOP_LIMIT: u8 = 64;

/// Writes a pcapng file.
///
/// Times must not decrease, and secrets must come before the first packet that needs them: readers go through the file
/// once.
pub struct Pcapng<W> {
    out: W,
    epoch: UnixTime,
}

impl<W: Write> Pcapng<W> {
    /// Begins a file. `epoch` is the date of time zero.
    pub fn new(mut out: W, epoch: UnixTime) -> io::Result<Self> {
        let mut section = Vec::new();
        section.extend(MAGIC.to_le_bytes());
        section.extend(1_u16.to_le_bytes());
        section.extend(0_u16.to_le_bytes());
        // The section's length is not known.
        section.extend(u64::MAX.to_le_bytes());
        option(&mut section, SHB_USERAPPL, b"peerwork-sim");
        end_of_options(&mut section);
        block(&mut out, SECTION, &section)?;

        // The upper two bytes are reserved; then packets of any length.
        let mut interface = Vec::from(LINKTYPE_RAW.to_le_bytes());
        interface.extend(0_u32.to_le_bytes());
        option(&mut interface, IF_NAME, b"virtual");
        // Ten to the minus ninth of a second.
        option(&mut interface, IF_TSRESOL, &[9]);
        end_of_options(&mut interface);
        block(&mut out, INTERFACE, &interface)?;
        Ok(Self { out, epoch })
    }

    /// Adds lines of a key log.
    pub fn secrets(&mut self, lines: &str) -> io::Result<()> {
        let end = if lines.ends_with('\n') { "" } else { "\n" };
        let mut body = Vec::from(TLS_KEY_LOG.to_le_bytes());
        body.extend(length(lines.len() + end.len())?.to_le_bytes());
        body.extend(lines.as_bytes());
        body.extend(end.as_bytes());
        pad(&mut body);
        block(&mut self.out, SECRETS, &body)
    }

    /// Adds a packet. Fails for more bytes than a UDP datagram can have.
    pub fn packet(&mut self, packet: &TracedPacket<'_>) -> io::Result<()> {
        let headers = headers(packet)?;
        let nanos = (self.epoch + packet.at.since(peerwork::Time::ZERO)).as_nanos();
        let len = length(headers.len() + packet.data.len())?;
        let mut body = Vec::with_capacity(headers.len() + packet.data.len() + 64);
        body.extend(0_u32.to_le_bytes());
        body.extend(((nanos >> 32) as u32).to_le_bytes());
        body.extend((nanos as u32).to_le_bytes());
        body.extend(len.to_le_bytes());
        body.extend(len.to_le_bytes());
        body.extend(headers);
        body.extend(packet.data);
        pad(&mut body);
        if packet.fate != DELIVERED && !packet.fate.is_empty() {
            option(&mut body, OPT_COMMENT, packet.fate.as_bytes());
            end_of_options(&mut body);
        }
        block(&mut self.out, PACKET, &body)
    }

    /// What was written to. Nothing is left to be written.
    pub fn into_inner(self) -> W {
        self.out
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "more bytes than a UDP datagram or a block of pcapng can have")
}

fn length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(|_| too_long())
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Values longer than an option can be are cut, which only comments could come to.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let len = value.len().min(usize::from(u16::MAX));
    body.extend(code.to_le_bytes());
    body.extend((len as u16).to_le_bytes());
    body.extend(&value[..len]);
    pad(body);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let len = length(body.len() + 12)?.to_le_bytes();
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&len)?;
    out.write_all(body)?;
    out.write_all(&len)
}

/// The sum of RFC 1071, not yet inverted.
fn sum(mut total: u32, bytes: &[u8]) -> u32 {
    for pair in bytes.chunks(2) {
        total += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        total = (total & 0xffff) + (total >> 16);
    }
    total
}

fn inverted(total: u32) -> u16 {
    !(total as u16)
}

/// The IP and UDP headers of a packet.
fn headers(packet: &TracedPacket<'_>) -> io::Result<Vec<u8>> {
    let udp_len = u16::try_from(packet.data.len() + 8).map_err(|_| too_long())?;
    let ecn = match packet.ecn {
        None => 0,
        Some(Ecn::Ect1) => 1,
        Some(Ecn::Ect0) => 2,
        Some(Ecn::Ce) => 3,
    };
    let mut ip = Vec::with_capacity(48);
    // Over which the checksum of UDP goes besides UDP itself.
    let addresses = match (packet.from.ip(), packet.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = udp_len.checked_add(20).ok_or_else(too_long)?;
            ip.extend([0x45, ecn]);
            ip.extend(total.to_be_bytes());
            // No identification, not to be fragmented (RFC 9000 §14).
            ip.extend([0, 0, 0x40, 0, HOP_LIMIT, UDP, 0, 0]);
            ip.extend(from.octets());
            ip.extend(to.octets());
            let checksum = inverted(sum(0, &ip));
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            ip[12..].to_vec()
        }
        (from, to) => {
            // Where one side is translated, both are shown as IPv6.
            ip.extend([0x60, ecn << 4, 0, 0]);
            ip.extend(udp_len.to_be_bytes());
            ip.extend([UDP, HOP_LIMIT]);
            ip.extend(as_v6(from).octets());
            ip.extend(as_v6(to).octets());
            ip[8..].to_vec()
        }
    };
    let mut udp = Vec::with_capacity(8);
    udp.extend(packet.from.port().to_be_bytes());
    udp.extend(packet.to.port().to_be_bytes());
    udp.extend(udp_len.to_be_bytes());
    let pseudo = sum(sum(u32::from(UDP) + u32::from(udp_len), &addresses), &udp);
    let checksum = match inverted(sum(pseudo, packet.data)) {
        // Zero would say that there is none.
        0 => 0xffff,
        checksum => checksum,
    };
    udp.extend(checksum.to_be_bytes());
    ip.extend(udp);
    Ok(ip)
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}
