//! peerwork-driver
