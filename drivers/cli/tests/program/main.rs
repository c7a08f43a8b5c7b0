//! The built program, run as its users run it.

mod alone;
mod harness;
mod peers;
mod replay;
mod sim;
