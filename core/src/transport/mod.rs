//! How bytes move: QUIC, TLS, addresses, framing and protocol negotiation.
