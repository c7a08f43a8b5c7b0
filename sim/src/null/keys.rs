//! Keys that hide nothing and notice everything.

use core::hash::Hasher as _;

use bytes::BytesMut;
use noq_proto::{
    ConnectionId, PathId, Side,
    coding::Encodable as _,
    crypto::{CryptoError, HeaderKey, KeyPair, Keys, PacketKey},
};
use siphasher::{
    sip::SipHasher13,
    sip128::{Hasher128 as _, SipHasher13 as WideHasher},
};

/// Bytes that a packet grows by, and bytes of ciphertext that header protection would sample: those of AES-GCM and AES in
/// TLS, so that a packet is as long as its counterpart on the wire.
const TAG_LEN: usize = 16;
/// How many of the tag's bytes are a checksum. The others are 0.
const SUM_LEN: usize = 8;

/// What keys are derived from. Not secret in any sense but that a packet from elsewhere does not know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Secret([u8; 16]);

impl Secret {
    /// The first of a chain of secrets, unrelated to that of any other label or value.
    pub(super) fn root(label: &str, value: &[u8]) -> Self {
        Self(*b"peerwork null\0\0\0").derive(label, &[value])
    }

    /// A keyed hash. Where one part ends and the next begins makes a difference.
    pub(super) fn mac(&self, label: &str, parts: &[&[u8]]) -> [u8; 16] {
        let mut hash = WideHasher::new_with_key(&self.0);
        for part in [label.as_bytes()].iter().chain(parts) {
            hash.write(&(part.len() as u64).to_le_bytes());
            hash.write(part);
        }
        u128::from(hash.finish128()).to_le_bytes()
    }

    /// A secret that follows from this one.
    pub(super) fn derive(&self, label: &str, parts: &[&[u8]]) -> Self {
        Self(self.mac(label, parts))
    }

    /// The secrets of both directions, as this side sees them.
    pub(super) fn directions(&self, side: Side) -> KeyPair<Self> {
        let [client, server] = ["from the client", "from the server"].map(|label| self.derive(label, &[]));
        match side {
            Side::Client => KeyPair { local: client, remote: server },
            Side::Server => KeyPair { local: server, remote: client },
        }
    }

    fn key(self) -> Box<dyn PacketKey> {
        let (front, back) = self.0.split_at(8);
        let word = |half: &[u8]| u64::from_le_bytes(half.try_into().unwrap_or_default());
        Box::new(Checksum(word(front), word(back)))
    }
}

/// The packet keys of both directions.
pub(super) fn packet_keys(secrets: &KeyPair<Secret>) -> KeyPair<Box<dyn PacketKey>> {
    KeyPair { local: secrets.local.key(), remote: secrets.remote.key() }
}

/// All keys of one packet space.
pub(super) fn keys(secrets: &KeyPair<Secret>) -> Keys {
    Keys { header: KeyPair { local: Box::new(Plain), remote: Box::new(Plain) }, packet: packet_keys(secrets) }
}

/// The keys of a connection's first packets, which follow from the connection id that the client made up (as in RFC 9001
/// §5.2).
pub(super) fn initial(dst_cid: ConnectionId, side: Side) -> Keys {
    keys(&Secret::root("initial", &dst_cid).directions(side))
}

/// The integrity tag of a Retry packet, given in pieces (RFC 9001 §5.8).
pub(super) fn retry_tag(orig_dst_cid: ConnectionId, packet: &[&[u8]]) -> [u8; 16] {
    Secret::root("retry", &orig_dst_cid).mac("packet", &[&packet.concat()])
}

/// No header protection.
struct Plain;

impl HeaderKey for Plain {
    fn decrypt(&self, _pn_offset: usize, _packet: &mut [u8]) {}

    fn encrypt(&self, _pn_offset: usize, _packet: &mut [u8]) {}

    fn sample_size(&self) -> usize {
        TAG_LEN
    }
}

/// A keyed checksum in the place of an AEAD.
struct Checksum(u64, u64);

impl Checksum {
    fn sum(&self, path: PathId, packet: u64, header: &[u8], payload: &[u8]) -> [u8; SUM_LEN] {
        let mut nonce = [0; 24];
        nonce[..8].copy_from_slice(&packet.to_le_bytes());
        path.encode(&mut &mut nonce[8..16]);
        nonce[16..].copy_from_slice(&(header.len() as u64).to_le_bytes());
        let mut hash = SipHasher13::new_with_keys(self.0, self.1);
        hash.write(&nonce);
        hash.write(header);
        hash.write(payload);
        hash.finish().to_le_bytes()
    }
}

impl PacketKey for Checksum {
    fn encrypt(&self, path_id: PathId, packet: u64, buf: &mut [u8], header_len: usize) {
        let (header, rest) = buf.split_at_mut(header_len);
        let (payload, tag) = rest.split_at_mut(rest.len() - TAG_LEN);
        let (sum, zeros) = tag.split_at_mut(SUM_LEN);
        sum.copy_from_slice(&self.sum(path_id, packet, header, payload));
        zeros.fill(0);
    }

    fn decrypt(&self, path_id: PathId, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        let len = payload.len().checked_sub(TAG_LEN).ok_or(CryptoError)?;
        let (data, tag) = payload.split_at(len);
        let (sum, zeros) = tag.split_at(SUM_LEN);
        if sum != self.sum(path_id, packet, header, data) || zeros.iter().any(|byte| *byte != 0) {
            return Err(CryptoError);
        }
        payload.truncate(len);
        Ok(())
    }

    fn tag_len(&self) -> usize {
        TAG_LEN
    }

    fn confidentiality_limit(&self) -> u64 {
        u64::MAX
    }

    fn integrity_limit(&self) -> u64 {
        u64::MAX
    }
}
