//! Hole punching with nothing but packets.

use core::{fmt, time::Duration};
use std::net::SocketAddr;

use super::{Happening, Lab, SiteId};
use crate::{
    dice::Domain,
    net::nat::{Behaviour, Filtering, NatError, NatModel, Scope},
};

/// How two hosts that know each other's addresses, as a rendezvous server saw them, try to connect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mode {
    /// Both send every 100 ms, and answer to wherever packets really came from, as ICE does with peer-reflexive candidates.
    Ice,
    /// DCUtR over QUIC, once: A dials B's known address and takes answers from there only; B sends punches to A's known address
    /// and accepts dials from anywhere.
    Fixed,
    /// The same, and if that fails once more with roles exchanged.
    Alternating,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ice => "ice",
            Self::Fixed => "A",
            Self::Alternating => "alt",
        })
    }
}

/// Whether A and B can connect, in closed form. `scope` matters for [`Mode::Ice`] only.
///
/// Roles are fixed: `eim(B) && (eim(A) || lax(B))`, with A the client. Alternating: that, in either direction. ICE: the same
/// if either is endpoint-independent; if neither is, both must be lax, and if memory belongs to mappings, one must
/// filter nothing at all.
pub fn predicate(mode: Mode, scope: Scope, a: Behaviour, b: Behaviour) -> bool {
    let fixed = |client: Behaviour, server: Behaviour| server.eim() && (client.eim() || server.lax());
    match mode {
        Mode::Fixed => fixed(a, b),
        Mode::Ice if !a.eim() && !b.eim() => {
            let unfiltered = a.filtering == Filtering::Eif || b.filtering == Filtering::Eif;
            a.lax() && b.lax() && (scope == Scope::Endpoint || unfiltered)
        }
        Mode::Alternating | Mode::Ice => fixed(a, b) || fixed(b, a),
    }
}

/// Circumstances of a punch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trial {
    /// How they try.
    pub mode: Mode,
    /// How much later than agreed A and B start.
    pub skew: (Duration, Duration),
    /// One way, between any two hosts.
    pub latency: Duration,
    /// Of all random choices.
    pub seed: u64,
}

impl Trial {
    /// Both start on time, 20 ms apart.
    pub fn new(mode: Mode, seed: u64) -> Self {
        Self { mode, skew: (Duration::ZERO, Duration::ZERO), latency: Duration::from_millis(20), seed }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Packet {
    Hello,
    Seen(SocketAddr),
    Syn,
    Ack,
    Dial,
    Accept,
    Done,
    Punch,
}

const PORT: u16 = 4001;
const SERVER_PORT: u16 = 3478;
/// How long an attempt lasts.
const PATIENCE: Duration = Duration::from_secs(5);
const ICE_PERIOD: Duration = Duration::from_millis(100);
/// When a dial sends its first packet again; each wait is twice the one before.
const DIAL_RETRY: Duration = Duration::from_millis(300);

/// The rendezvous server's address in the laboratory: a site of its own.
const SERVER: u8 = 199;

/// Lets A and B, each behind boxes given from the host outwards, find each other. Says whether both know that they did.
pub fn punch(a: &[NatModel], b: &[NatModel], trial: &Trial) -> Result<bool, NatError> {
    let mut lab = Lab::new(trial.seed, trial.latency);
    let server = lab.site(SERVER, &[])?;
    let hosts = [lab.site(1, a)?, lab.site(2, b)?];
    let Some(known) = register(&mut lab, server, hosts) else { return Ok(false) };
    let skew = [trial.skew.0, trial.skew.1];
    Ok(match trial.mode {
        Mode::Ice => ice(&mut lab, hosts, known, skew),
        Mode::Fixed => dial(&mut lab, hosts, known, skew),
        Mode::Alternating => {
            let flip = |[a, b]: [SiteId; 2]| [b, a];
            dial(&mut lab, hosts, known, skew) || dial(&mut lab, flip(hosts), [known[1], known[0]], [skew[1], skew[0]])
        }
    })
}

/// Both ask the server how it sees them.
fn register(lab: &mut Lab<Packet>, server: SiteId, hosts: [SiteId; 2]) -> Option<[SocketAddr; 2]> {
    let to = lab.endpoint(server, SERVER_PORT);
    for host in hosts {
        lab.send(host, PORT, to, Packet::Hello);
    }
    let mut known = [None, None];
    let end = lab.now() + Duration::from_secs(1);
    while let Some(happening) = lab.next(end) {
        match happening {
            Happening::Packet { host, from, payload: Packet::Hello, .. } if host == server => {
                lab.send(server, SERVER_PORT, from, Packet::Seen(from));
            }
            Happening::Packet { host, payload: Packet::Seen(address), .. } => {
                known[usize::from(host != hosts[0])] = Some(address);
            }
            _ => {}
        }
    }
    Some([known[0]?, known[1]?])
}

fn ice(lab: &mut Lab<Packet>, hosts: [SiteId; 2], known: [SocketAddr; 2], skew: [Duration; 2]) -> bool {
    let mut target = [known[1], known[0]];
    let (mut heard, mut got) = ([false; 2], [false; 2]);
    for (host, skew) in hosts.into_iter().zip(skew) {
        lab.set_timer(host, skew, 0);
    }
    let end = lab.now() + PATIENCE;
    while let Some(happening) = lab.next(end) {
        match happening {
            Happening::Timer { host, .. } => {
                let i = usize::from(host != hosts[0]);
                lab.send(host, PORT, target[i], if heard[i] { Packet::Ack } else { Packet::Syn });
                lab.set_timer(host, ICE_PERIOD, 0);
            }
            Happening::Packet { host, from, payload, .. } => {
                let i = usize::from(host != hosts[0]);
                (heard[i], target[i]) = (true, from);
                if payload == Packet::Ack && !got[i] {
                    got[i] = true;
                    lab.send(host, PORT, from, Packet::Ack);
                }
            }
        }
        if got == [true; 2] {
            break;
        }
    }
    lab.clear();
    got == [true; 2]
}

/// One attempt, with the first host as the client.
fn dial(lab: &mut Lab<Packet>, hosts: [SiteId; 2], known: [SocketAddr; 2], skew: [Duration; 2]) -> bool {
    let [client, server] = hosts;
    lab.set_timer(client, skew[0], 0);
    lab.set_timer(server, skew[1], 0);
    let end = lab.now() + PATIENCE;
    let mut connected = false;
    while let Some(happening) = lab.next(end) {
        match happening {
            Happening::Timer { host, token } if host == client => {
                lab.send(client, PORT, known[1], Packet::Dial);
                let wait = DIAL_RETRY * (1 << token.min(10));
                lab.set_timer(client, wait, token + 1);
            }
            Happening::Timer { token, .. } => {
                lab.send(server, PORT, known[0], Packet::Punch);
                let at = lab.now().as_nanos();
                let pause = 10 + lab.dice.below(Domain::Content, 0, at, token, 191);
                lab.set_timer(server, Duration::from_millis(pause), token + 1);
            }
            Happening::Packet { host, from, payload: Packet::Dial, .. } if host == server => {
                lab.send(server, PORT, from, Packet::Accept);
            }
            Happening::Packet { host, from, payload: Packet::Accept, .. } if host == client && from == known[1] => {
                lab.send(client, PORT, from, Packet::Done);
            }
            Happening::Packet { host, payload: Packet::Done, .. } if host == server => {
                connected = true;
                break;
            }
            Happening::Packet { .. } => {}
        }
    }
    lab.clear();
    connected
}

/// An easy host (EIM, APDF) against a hard one (symmetric, random ports): the hard one sends from `sockets` ports to the easy
/// one's known address, the easy one sends up to `probes` packets, one a millisecond, to random ports of the hard one's
/// address. Returns how many probes there were until one led to an answer.
pub fn spray(sockets: u16, probes: u32, seed: u64) -> Result<Option<u32>, NatError> {
    let mut lab = Lab::new(seed, Duration::from_millis(20));
    let server = lab.site(SERVER, &[])?;
    let (easy, hard) = (lab.site(1, &[NatModel::port_restricted()])?, lab.site(2, &[NatModel::symmetric()])?);
    let Some([to_easy, to_hard]) = register(&mut lab, server, [easy, hard]) else { return Ok(None) };
    for socket in 0..sockets {
        lab.send(hard, 10_000 + socket, to_easy, Packet::Syn);
    }
    lab.set_timer(easy, Duration::ZERO, 0);
    let end = lab.now() + Duration::from_millis(u64::from(probes)) + Duration::from_secs(1);
    let mut by_port = std::collections::BTreeMap::new();
    while let Some(happening) = lab.next(end) {
        match happening {
            Happening::Timer { token, .. } => {
                let probe = u32::try_from(token).unwrap_or(u32::MAX);
                if probe == probes {
                    continue;
                }
                let port = 1024 + lab.dice.below(Domain::Content, 1, token, 0, 64_512);
                let port = u16::try_from(port).expect("a port");
                by_port.entry(port).or_insert(probe + 1);
                lab.send(easy, PORT, SocketAddr::new(to_hard.ip(), port), Packet::Dial);
                lab.set_timer(easy, Duration::from_millis(1), token + 1);
            }
            Happening::Packet { host, port, from, payload: Packet::Dial } if host == hard => {
                lab.send(hard, port, from, Packet::Accept);
            }
            Happening::Packet { host, from, payload: Packet::Accept, .. } if host == easy => {
                return Ok(by_port.get(&from.port()).copied());
            }
            Happening::Packet { .. } => {}
        }
    }
    Ok(None)
}
