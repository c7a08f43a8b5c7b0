//! [`SignedEnvelope`]: bytes, the key that signed them and the signature (libp2p RFC 0002).

use prost::Message as _;

use super::{KeyError, Keypair, PeerId, PublicKey};

/// Longest encoded envelope that is read. The largest content with a use of its own, a peer record, has 8 KiB; an RSA key
/// and its signature add at most 2.1 KiB.
pub const MAX_ENVELOPE_BYTES: usize = 16 * 1024;

/// Content with the key of its author and a signature over both and over a domain.
///
/// Decoding checks the shape only. Nothing in an envelope is to be believed before [`verify`](Self::verify) has said who
/// signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedEnvelope {
    /// The key that is said to have signed.
    pub public_key: PublicKey,
    /// What the payload is, usually a multicodec. May be empty.
    pub payload_type: Vec<u8>,
    /// The content, exactly as it was signed.
    pub payload: Vec<u8>,
    /// The signature over domain, payload type and payload.
    pub signature: Vec<u8>,
}

/// Why an envelope is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The bytes are longer than [`MAX_ENVELOPE_BYTES`].
    #[error("an envelope of {0} bytes is longer than the {MAX_ENVELOPE_BYTES} that are accepted")]
    TooLong(usize),
    /// The bytes are not an envelope message.
    #[error("not a signed envelope")]
    Malformed,
    /// The key in the envelope cannot be used.
    #[error("the envelope's key: {0}")]
    Key(#[from] KeyError),
    /// The signature is not that of the key in the envelope, or was made in another domain.
    #[error("the envelope's signature does not match its key, content and domain")]
    Signature,
}

/// The wire form. The key stays bytes here, because its message must be read canonically and written with explicit zeros.
#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(bytes = "vec", tag = "1")]
    public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    payload_type: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    payload: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    signature: Vec<u8>,
}

impl SignedEnvelope {
    /// Signs a payload. `domain` separates this use of the key from all others and is not part of the envelope.
    pub fn seal(keypair: &Keypair, domain: &str, payload_type: &[u8], payload: Vec<u8>) -> Self {
        let signature = keypair.sign(&signed_bytes(domain, payload_type, &payload)).to_vec();
        Self { public_key: keypair.public(), payload_type: payload_type.to_vec(), payload, signature }
    }

    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        Wire {
            public_key: self.public_key.encode_protobuf(),
            payload_type: self.payload_type.clone(),
            payload: self.payload.clone(),
            signature: self.signature.clone(),
        }
        .encode_to_vec()
    }

    /// Reads the wire form, at most [`MAX_ENVELOPE_BYTES`] long. The signature is not checked yet.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > MAX_ENVELOPE_BYTES {
            return Err(EnvelopeError::TooLong(bytes.len()));
        }
        let wire = Wire::decode(bytes).map_err(|_| EnvelopeError::Malformed)?;
        Ok(Self {
            public_key: PublicKey::decode_protobuf(&wire.public_key)?,
            payload_type: wire.payload_type,
            payload: wire.payload,
            signature: wire.signature,
        })
    }

    /// Checks the signature in a domain and returns who made it.
    pub fn verify(&self, domain: &str) -> Result<PeerId, EnvelopeError> {
        let signed = signed_bytes(domain, &self.payload_type, &self.payload);
        if self.public_key.verify(&signed, &self.signature) {
            Ok(self.public_key.peer_id())
        } else {
            Err(EnvelopeError::Signature)
        }
    }
}

/// What is signed: each part behind its length as a varint.
fn signed_bytes(domain: &str, payload_type: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in [domain.as_bytes(), payload_type, payload] {
        prost::encoding::encode_varint(part.len() as u64, &mut out);
        out.extend_from_slice(part);
    }
    out
}
