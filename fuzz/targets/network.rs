//! See `peerwork_fuzz::TARGETS`.
#![no_main]

peerwork_fuzz::fuzz!("network");
