//! [`PeerRecord`]: the addresses that a peer vouches for itself (libp2p RFC 0003).
//!
//! Two spellings of domain and payload type are about. Go and JavaScript deploy one that differs from the RFC's text;
//! Rust deploys the RFC's. Records are sealed in the deployed spelling of the majority, since the other breaks a
//! JavaScript peer's whole identify exchange, and read in both.

use multiaddr::Multiaddr;
use prost::Message as _;

use super::{EnvelopeError, Keypair, PeerId, SignedEnvelope};

/// Longest encoded record. Sixty-four of the longest addresses seen in the wild take about half.
pub const MAX_RECORD_BYTES: usize = 8 * 1024;
/// Most addresses kept of one record; a peer that lists more is not easier to reach.
pub const MAX_RECORD_ADDRESSES: usize = 64;

const DOMAIN: &str = "libp2p-peer-record";
/// The multicodec `libp2p-peer-record`, 0x0301, written as two plain bytes.
const PAYLOAD_TYPE: &[u8] = &[0x03, 0x01];
const LEGACY_DOMAIN: &str = "libp2p-routing-state";
const LEGACY_PAYLOAD_TYPE: &[u8] = b"/libp2p/routing-state-record";

/// A peer's own addresses at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRecord {
    /// Whose addresses these are.
    pub peer_id: PeerId,
    /// Orders the records of one peer: the higher one is newer. Nanoseconds of Unix time by custom.
    pub seq: u64,
    /// At most [`MAX_RECORD_ADDRESSES`].
    pub addresses: Vec<Multiaddr>,
}

/// Why a record is not accepted, or cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The envelope that holds the record is not accepted.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The envelope holds something other than a peer record.
    #[error("the envelope does not hold a peer record")]
    WrongType,
    /// The record is longer than [`MAX_RECORD_BYTES`].
    #[error("a peer record of {0} bytes is longer than the {MAX_RECORD_BYTES} that are accepted; list fewer addresses")]
    TooLong(usize),
    /// The payload is not a record message with a peer id.
    #[error("not a peer record")]
    Malformed,
    /// The record is about another peer than the one that signed it.
    #[error("the record of {record} is signed by {signer}")]
    WrongSigner {
        /// Whom the record is about.
        record: PeerId,
        /// Who signed it.
        signer: PeerId,
    },
}

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(bytes = "vec", tag = "1")]
    peer_id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(message, repeated, tag = "3")]
    addresses: Vec<WireAddress>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireAddress {
    #[prost(bytes = "vec", tag = "1")]
    multiaddr: Vec<u8>,
}

impl PeerRecord {
    /// Signs the record, in the spelling that Go and JavaScript deploy. Addresses beyond [`MAX_RECORD_ADDRESSES`] are
    /// left out.
    ///
    /// # Errors
    ///
    /// [`RecordError::WrongSigner`] if the record is about another peer than the key's, [`RecordError::TooLong`] if the
    /// addresses do not fit.
    pub fn seal(&self, keypair: &Keypair) -> Result<SignedEnvelope, RecordError> {
        self.check_signer(keypair.peer_id())?;
        let wire = Wire {
            peer_id: self.peer_id.as_bytes().to_vec(),
            seq: self.seq,
            addresses: self
                .addresses
                .iter()
                .take(MAX_RECORD_ADDRESSES)
                .map(|address| WireAddress { multiaddr: address.to_vec() })
                .collect(),
        };
        let len = wire.encoded_len();
        if len > MAX_RECORD_BYTES {
            return Err(RecordError::TooLong(len));
        }
        Ok(SignedEnvelope::seal(keypair, DOMAIN, PAYLOAD_TYPE, wire.encode_to_vec()))
    }

    /// Checks an envelope's signature and takes the record out, in either spelling.
    ///
    /// The record is then what `peer_id` signed. That `peer_id` is the peer it was expected from, and that `seq` is not
    /// older than the last one seen, is the caller's to check. Addresses that cannot be read are left out one by one.
    pub fn open(envelope: &SignedEnvelope) -> Result<Self, RecordError> {
        let domain = match envelope.payload_type.as_slice() {
            PAYLOAD_TYPE => DOMAIN,
            LEGACY_PAYLOAD_TYPE => LEGACY_DOMAIN,
            _ => return Err(RecordError::WrongType),
        };
        if envelope.payload.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLong(envelope.payload.len()));
        }
        let signer = envelope.verify(domain)?;
        let wire = Wire::decode(envelope.payload.as_slice()).map_err(|_| RecordError::Malformed)?;
        let record = Self {
            peer_id: PeerId::from_bytes(&wire.peer_id).map_err(|_| RecordError::Malformed)?,
            seq: wire.seq,
            addresses: wire
                .addresses
                .into_iter()
                .filter_map(|address| Multiaddr::try_from(address.multiaddr).ok())
                .filter(|address| !address.is_empty())
                .take(MAX_RECORD_ADDRESSES)
                .collect(),
        };
        record.check_signer(signer)?;
        Ok(record)
    }

    fn check_signer(&self, signer: PeerId) -> Result<(), RecordError> {
        if self.peer_id == signer { Ok(()) } else { Err(RecordError::WrongSigner { record: self.peer_id, signer }) }
    }
}
