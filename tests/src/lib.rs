//! peerwork-tests
