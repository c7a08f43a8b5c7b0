//! The packet network: regions, access links, paths, NATs. It knows nothing of peers; a world puts nodes on it.

pub mod lab;
pub mod link;
pub mod nat;
pub mod network;
pub mod region;
pub mod weather;
