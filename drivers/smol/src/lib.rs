//! peerwork-smol
