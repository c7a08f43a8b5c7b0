//! peerwork-tokio
