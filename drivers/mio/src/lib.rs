//! peerwork-mio
