//! What peerwork's interoperability tests share. The tests themselves are in `tests/`.

#[cfg(unix)]
pub mod peers;
