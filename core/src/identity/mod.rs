//! Who a peer is: key pairs, peer ids, signed envelopes and peer records.
