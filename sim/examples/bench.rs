//! Measures simulated networks on this machine, one JSON object a line.
//!
//! ```text
//! cargo run --release -p peerwork-sim --example bench -- network null 1000 60
//! cargo run --release -p peerwork-sim --example bench -- idle wire 200 60
//! cargo run --release -p peerwork-sim --example bench -- memory null 400
//! ```
//!
//! What, tier, nodes, and virtual seconds after joining. Each in a process of its own, or memory that one has freed is not seen in
//! the next.

use std::{env, error::Error, time::Duration};

use peerwork_sim::{Tier, bench};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let arg = |n: usize, default: &'static str| args.get(n).map_or(default, String::as_str);
    let tier: Tier = serde_json::from_str(&format!("\"{}\"", arg(1, "null")))?;
    let nodes = arg(2, "200").parse()?;
    let time = Duration::from_secs(arg(3, "60").parse()?);
    let line = match arg(0, "network") {
        "network" => serde_json::to_string(&bench::network(tier, nodes, time)),
        "idle" => serde_json::to_string(&bench::idle_network(tier, nodes, time)),
        "memory" => serde_json::to_string(&bench::memory(tier, nodes)),
        other => return Err(format!("`{other}` is none of network, idle, memory").into()),
    };
    println!("{}", line?);
    Ok(())
}
