//! peerwork-cli
