//! At most three times the bytes received go to an address before it is validated (RFC 9000 §8.1), but for the rest of the datagram that
//! reaches the limit, which noq-proto does not cut.
//!
//! An address counts as validated for a host when a packet from it proves that its owner receives: a Handshake packet, an Initial with
//! a token, one with a short header, which only the two ends of a handshake can make, or one to a connection id of at least 64 bits that
//! the host has named in an answer to that address; or when the host itself reaches out to it,
//! which shows in an Initial towards a connection id that did not come from there.

use std::net::SocketAddr;

use hashbrown::HashMap;

type Hasher = core::hash::BuildHasherDefault<siphasher::sip::SipHasher13>;

/// Addresses that a host may owe nothing more. More are not watched.
const WATCHED: usize = 65_536;

/// Connection ids of one address that are remembered.
const IDS: usize = 16;

#[derive(Clone, Debug)]
enum Account {
    /// Bytes received and sent, the connection ids that the other end has named as its own, and those that the host has.
    Unproven {
        received: u64,
        sent: u64,
        ids: Vec<Vec<u8>>,
        own: Vec<Vec<u8>>,
    },
    Validated,
}

/// What a host has had from, and given to, each address.
#[derive(Clone, Default, Debug)]
pub(super) struct Ledger(HashMap<(SocketAddr, SocketAddr), Account, Hasher>);

impl Ledger {
    pub(super) fn received(&mut self, local: SocketAddr, from: SocketAddr, packet: &[u8]) {
        if self.0.len() >= WATCHED {
            self.0.clear();
        }
        let account = self.0.entry((local, from)).or_insert(Account::Unproven {
            received: 0,
            sent: 0,
            ids: Vec::new(),
            own: Vec::new(),
        });
        if let Account::Unproven { received, ids, own, .. } = account {
            *received += packet.len() as u64;
            let mut knows_ours = false;
            if let Some((target, source)) = connection_ids(packet) {
                knows_ours = target.len() >= 8 && own.iter().any(|id| id == target);
                remember(ids, source);
            }
            if knows_ours || proves_receipt(packet) {
                *account = Account::Validated;
            }
        }
    }

    /// Says how much was received and would have been sent, if that is too much.
    pub(super) fn sends(&mut self, local: SocketAddr, to: SocketAddr, packet: &[u8]) -> Option<(u64, u64)> {
        let account = self.0.entry((local, to)).or_insert(Account::Validated);
        let Account::Unproven { received, sent, ids, own } = account else { return None };
        let is_initial = packet.first().is_some_and(|first| first & 0xb0 == 0x80);
        if is_initial && connection_ids(packet).is_some_and(|(id, _)| !ids.iter().any(|known| known == id)) {
            *account = Account::Validated;
            return None;
        }
        if let Some((_, source)) = connection_ids(packet) {
            remember(own, source);
        }
        *sent += packet.len() as u64;
        // The last datagram may go over, as it does in the QUIC library: the limit must not have been reached before.
        let before = *sent - packet.len() as u64;
        (before >= *received * 3).then_some((*received, *sent))
    }

    pub(super) fn validated(&mut self, to: SocketAddr) {
        for ((_, remote), account) in &mut self.0 {
            if *remote == to {
                *account = Account::Validated;
            }
        }
    }
}

fn remember(ids: &mut Vec<Vec<u8>>, id: &[u8]) {
    if ids.len() < IDS && !ids.iter().any(|known| known == id) {
        ids.push(id.to_vec());
    }
}

/// Whether some QUIC packet in a datagram can only have been made by somebody who received what was sent to this address.
fn proves_receipt(mut datagram: &[u8]) -> bool {
    loop {
        let Some(&first) = datagram.first() else { return false };
        if first & 0x80 == 0 {
            return first & 0x40 != 0;
        }
        match long_header(datagram) {
            Some((true, _)) => return true,
            Some((false, len)) if len > 0 && len < datagram.len() => datagram = &datagram[len..],
            _ => return false,
        }
    }
}

/// The destination's and the source's connection id in a long header.
fn connection_ids(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    if packet.first()? & 0x80 == 0 {
        return None;
    }
    let (len, rest) = packet.get(5..)?.split_first()?;
    let (to, rest) = rest.split_at_checked(usize::from(*len))?;
    let (len, rest) = rest.split_first()?;
    Some((to, rest.get(..usize::from(*len))?))
}

/// Of a packet with a long header (RFC 9000 §17.2): whether it proves receipt, and its length.
fn long_header(packet: &[u8]) -> Option<(bool, usize)> {
    let kind = packet.first()? >> 4 & 3;
    let mut at = 5;
    for _ in 0..2 {
        at += 1 + usize::from(*packet.get(at)?);
    }
    let mut token = 0;
    match kind {
        // Initial.
        0 => {
            let (len, size) = varint(packet.get(at..)?)?;
            token = len;
            at += size + len;
        }
        // Handshake.
        2 => return Some((true, 0)),
        3 => return Some((false, 0)),
        _ => {}
    }
    let (len, size) = varint(packet.get(at..)?)?;
    Some((token > 0, at + size + len))
}

fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let size = 1 << (bytes.first()? >> 6);
    let mut value = u64::from(bytes.first()? & 0x3f);
    for byte in bytes.get(1..size)? {
        value = value << 8 | u64::from(*byte);
    }
    Some((usize::try_from(value.min(1 << 30)).unwrap_or(0), size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn initial(token: &[u8], rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0xc0, 0, 0, 0, 1, 2, 9, 9, 1, 7];
        packet.push(u8::try_from(token.len()).unwrap());
        packet.extend(token);
        packet.extend([4, 1, 2, 3, 4]);
        packet.extend(rest);
        packet
    }

    #[test]
    fn handshakes_tokens_and_short_headers_prove_receipt() {
        let handshake = [0xe0, 0, 0, 0, 1, 0, 0, 2, 1, 2];
        assert!(!proves_receipt(&initial(&[], &[])));
        assert!(proves_receipt(&initial(&[], &handshake)));
        assert!(proves_receipt(&initial(b"token", &[])));
        assert!(proves_receipt(&[0x40, 1, 2, 3]));
        assert!(!proves_receipt(&[0, 1, 2, 3]));
        for len in 0..12 {
            assert!(!proves_receipt(&initial(&[], &[])[..len]));
        }
    }

    #[test]
    fn three_times_is_allowed_and_a_byte_more_is_not() {
        let (a, b) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        let mut ledger = Ledger::default();
        let packet = initial(&[], &[]);
        ledger.received(a, b, &packet);
        // The answer names the id that the other end gave itself.
        let mut answer = vec![0xc0, 0, 0, 0, 1, 1, 7, 1, 5];
        answer.resize(packet.len() * 3, 0);
        assert_eq!(ledger.sends(a, b, &answer), None);
        assert!(ledger.sends(a, b, &answer[..20]).is_some(), "the limit is reached");
        ledger.received(a, b, &[0x40]);
        assert_eq!(ledger.sends(a, b, &[0; 60_000]), None);
        // Who is reached out to is not limited, whoever came first.
        assert_eq!(ledger.sends(b, a, &[0; 60_000]), None);
        ledger.received(b, a, &packet);
        let c = "10.0.0.3:3".parse().unwrap();
        ledger.received(a, c, &packet);
        assert_eq!(ledger.sends(a, c, &[&[0xc0, 0, 0, 0, 1, 1, 99, 1, 5], &[0; 1200][..]].concat()), None);
        assert_eq!(ledger.sends(a, c, &answer), None);
    }
}
