//! What peerwork's tests across crates share: the three drivers under one roof, and real peers of other makers. The
//! tests themselves are in `tests/`.

pub mod drivers;
#[cfg(unix)]
pub mod peers;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
