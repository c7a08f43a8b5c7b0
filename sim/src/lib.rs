//! peerwork-sim
