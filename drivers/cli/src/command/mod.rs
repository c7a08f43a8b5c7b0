//! The commands, one file each.

pub(crate) mod echo;
pub(crate) mod id;
pub(crate) mod perf;
pub(crate) mod ping;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod sim;
