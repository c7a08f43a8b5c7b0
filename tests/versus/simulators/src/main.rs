//! Idle hosts in peerwork-sim beside as many in turmoil: wall-clock seconds for a second of virtual time.
//!
//! ```text
//! cargo run --release --manifest-path tests/versus/Cargo.toml -p peerwork-versus-simulators -- [HOSTS...] [--only NAME]
//! ```
//!
//! - turmoil: each host is a task that has bound a UDP socket and sleeps, in ticks of a millisecond, which is its default.
//! - peerwork-sim: each host is a whole production node on the null tier that listens; and the same with three connections dialled by
//!   each, kept alive and pinged with default settings.
//!
//! The time in which hosts start and connect is not measured. Then virtual time passes, twice as much each time, until that takes half
//! a second of wall-clock time or a virtual day has passed: nodes without connections have nothing to do, ever, so their day is free.

use std::{
    env,
    error::Error,
    time::{Duration, Instant},
};

use peerwork::Dial;
use peerwork_sim::{Tier, World};

/// Virtual time to begin with: some hundred ticks of turmoil.
const LEAST: Duration = Duration::from_millis(250);

const DAY: Duration = Duration::from_secs(86_400);

/// Wall-clock time that a measurement should take at least.
const ENOUGH: Duration = Duration::from_millis(500);

const CONNECTIONS: usize = 3;

#[derive(Clone, Copy, PartialEq)]
enum Contender {
    Turmoil,
    Listening,
    Connected,
}

impl Contender {
    const ALL: [Self; 3] = [Self::Turmoil, Self::Listening, Self::Connected];

    fn name(self) -> &'static str {
        match self {
            Self::Turmoil => "turmoil",
            Self::Listening => "peerwork-sim",
            Self::Connected => "peerwork-sim, 3 connections each",
        }
    }

    /// Wall-clock seconds for a virtual one.
    fn measure(self, hosts: usize) -> Result<f64, Box<dyn Error>> {
        match self {
            Self::Turmoil => turmoil(hosts),
            Self::Listening => Ok(peerwork(hosts, 0)),
            Self::Connected => Ok(peerwork(hosts, CONNECTIONS)),
        }
    }
}

/// Lets virtual time pass until it can be measured; wall-clock seconds for a virtual one, next to none if nothing is due in a whole day.
fn per_second<E>(mut pass: impl FnMut(Duration) -> Result<(), E>) -> Result<f64, E> {
    let mut time = LEAST;
    loop {
        let start = Instant::now();
        pass(time)?;
        let took = start.elapsed();
        if took >= ENOUGH || time >= DAY {
            return Ok(took.as_secs_f64() / time.as_secs_f64());
        }
        time *= 2;
    }
}

fn turmoil(hosts: usize) -> Result<f64, Box<dyn Error>> {
    let mut sim = turmoil::Builder::new().simulation_duration(2 * DAY).build();
    for host in 0..hosts {
        sim.host(format!("host{host}"), || async {
            let _socket = turmoil::net::UdpSocket::bind("0.0.0.0:4001").await?;
            loop {
                tokio::time::sleep(DAY).await;
            }
        });
    }
    // They start in the first step.
    sim.step()?;
    per_second(|time| {
        let end = sim.elapsed() + time;
        while sim.elapsed() < end {
            sim.step()?;
        }
        Ok(())
    })
}

fn peerwork(hosts: usize, connections: usize) -> f64 {
    let mut world = World::new(1);
    world.pass_events_on();
    let config = Tier::Null.config();
    let hosts: Vec<_> = (0..hosts).map(|_| world.add_with(config.clone())).collect();
    let addresses: Vec<_> = hosts.iter().map(|host| world.listen(*host)).collect();
    for (n, host) in hosts.iter().enumerate() {
        for ahead in 1..=connections {
            let to = addresses[(n + ahead) % addresses.len()].clone();
            world.call(*host, |node, now| node.dial(now, Dial::address(to))).expect("there are few dials");
        }
    }
    world.run_for(Duration::from_secs(20));
    let alive: usize = hosts.iter().map(|host| world.node(*host).census().established).sum();
    assert_eq!(alive, hosts.len() * connections * 2, "all are connected");
    let mut news = Vec::new();
    let Ok(seconds) = per_second(|time| {
        world.run_for(time);
        world.take_news(&mut news);
        news.clear();
        Ok::<(), std::convert::Infallible>(())
    });
    seconds
}

/// Three digits.
fn seconds(value: f64) -> String {
    match value {
        ..1e-9 => "0".into(),
        ..0.01 => format!("{value:.5}"),
        ..1.0 => format!("{value:.3}"),
        _ => format!("{value:.1}"),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut hosts = Vec::new();
    let mut only = None;
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--only" => only = args.next(),
            number => {
                hosts.push(number.parse().map_err(|_| format!("{number} is neither a number of hosts nor --only"))?)
            }
        }
    }
    if hosts.is_empty() {
        hosts = vec![50, 100, 200, 400];
    }
    let contenders: Vec<Contender> = Contender::ALL
        .into_iter()
        .filter(|contender| only.as_deref().is_none_or(|name| contender.name().starts_with(name)))
        .collect();
    let names: Vec<&str> = contenders.iter().map(|contender| contender.name()).collect();
    println!("Wall-clock seconds for a virtual one.\n");
    println!("| idle hosts | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for hosts in hosts {
        let mut row = format!("| {hosts} |");
        for contender in &contenders {
            row += &format!(" {} |", seconds(contender.measure(hosts)?));
        }
        println!("{row}");
    }
    Ok(())
}
