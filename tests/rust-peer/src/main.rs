//! A rust-libp2p peer for peerwork's interoperability tests: QUIC only, one command per line on stdin, one JSON object per
//! line on stdout. It ends with `quit` or with the end of stdin, so that it never outlives the test which started it.
//!
//! Flags: `--seed N` (a fixed identity; a random one without it), `--listen MULTIADDR` (may be repeated).
//!
//! | command | answers |
//! |---|---|
//! | `dial MULTIADDR` | `connected`, or `dial_failed`; dials even what is connected already |
//! | `ping PEER` | `ping` with `rtt_us`, or `ping_failed` |
//! | `echo PEER TEXT` | `echo` with `text`, or `echo_failed`; closes its write side before it reads |
//! | `echo-open PEER TEXT` | the same, but keeps its write side open until the whole text is back |
//! | `request PEER TEXT` | `response` with `text`, or `request_failed` |
//! | `disconnect PEER` | `disconnected` |
//! | `quit` | closes all connections and ends the process |
//!
//! Events without a command: `started` with the own `peer` before all others, `listening`, `connected`, `disconnected`, `identified`, `identify_failed`, `kept_alive` and
//! `keep_alive_failed` (rust-libp2p pings each connection by itself), `incoming_failed`, `listen_failed`.
//! A line which is no command is answered with `bad_command`.

mod framed;
mod services;

use framed::Framed;
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, SwarmBuilder,
    core::ConnectedPoint,
    identify,
    identity::Keypair,
    multiaddr::Protocol,
    ping, request_response,
    swarm::{
        NetworkBehaviour, Swarm, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use serde_json::{Value, json};
use services::WriteSide;
use std::{error::Error, time::Duration};
use tokio::sync::mpsc;

const REQUEST_RESPONSE: StreamProtocol = StreamProtocol::new("/peerwork-test/rr/1.0.0");

/// A test decides when a connection ends, never the idleness between two of its steps.
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// For closing all connections before the end.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    request_response: request_response::Behaviour<Framed>,
    stream: libp2p_stream::Behaviour,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse(std::env::args().skip(1))?;
    let mut swarm = SwarmBuilder::with_existing_identity(flags.keypair()?)
        .with_tokio()
        .with_quic()
        .with_behaviour(|keypair| Behaviour {
            identify: identify::Behaviour::new(identify::Config::new(
                "peerwork-test/1.0.0".into(),
                keypair.public(),
            )),
            ping: ping::Behaviour::default(),
            request_response: request_response::Behaviour::new(
                [(REQUEST_RESPONSE, request_response::ProtocolSupport::Full)],
                request_response::Config::default(),
            ),
            stream: libp2p_stream::Behaviour::new(),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE_CONNECTION_TIMEOUT))
        .build();
    tokio::spawn(services::serve_echo(
        swarm.behaviour().stream.new_control(),
    )?);
    report(json!({"event": "started", "peer": swarm.local_peer_id().to_string()}));
    for addr in flags.listen {
        swarm.listen_on(addr)?;
    }

    let mut commands = read_commands();
    loop {
        tokio::select! {
            line = commands.recv() => match line.as_deref() {
                None => return Ok(()),
                Some("quit") => {
                    say_goodbye(&mut swarm).await;
                    return Ok(());
                }
                Some(line) => {
                    if let Err(error) = obey(&mut swarm, line) {
                        report(json!({"event": "bad_command", "line": line, "error": error.to_string()}));
                    }
                }
            },
            event = swarm.select_next_some() => handle(&mut swarm, event),
        }
    }
}

/// Closes all connections. The end of the process alone would leave the peers to their idle timeouts.
async fn say_goodbye(swarm: &mut Swarm<Behaviour>) {
    let peers: Vec<PeerId> = swarm.connected_peers().copied().collect();
    for peer in peers {
        let _ = swarm.disconnect_peer_id(peer);
    }
    let closing = async {
        while swarm.connected_peers().next().is_some() {
            let event = swarm.select_next_some().await;
            handle(swarm, event);
        }
    };
    let _ = tokio::time::timeout(GOODBYE_LIMIT, closing).await;
}

struct Flags {
    seed: Option<u64>,
    listen: Vec<Multiaddr>,
}

impl Flags {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut flags = Self {
            seed: None,
            listen: Vec::new(),
        };
        while let Some(flag) = args.next() {
            let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--seed" => flags.seed = Some(value.parse()?),
                "--listen" => flags.listen.push(value.parse()?),
                _ => return Err(format!("there is no flag {flag}").into()),
            }
        }
        Ok(flags)
    }

    /// The same seed gives the same peer id on every machine. The first byte keeps these identities apart from those the
    /// harness derives for peers of other makers.
    fn keypair(&self) -> Result<Keypair, Box<dyn Error>> {
        let Some(seed) = self.seed else {
            return Ok(Keypair::generate_ed25519());
        };
        let mut secret = [0; 32];
        secret[0] = b'r';
        secret[24..].copy_from_slice(&seed.to_be_bytes());
        Ok(Keypair::ed25519_from_bytes(secret)?)
    }
}

/// Lines of stdin. A thread reads them: a blocking read inside the runtime would hold up its end.
fn read_commands() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// One line for the test. Stdout flushes at each line end.
pub(crate) fn report(event: Value) {
    println!("{event}");
}

fn obey(swarm: &mut Swarm<Behaviour>, line: &str) -> Result<(), Box<dyn Error>> {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (peer, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let peer = || peer.parse::<PeerId>();
    let control = swarm.behaviour().stream.new_control();
    match command {
        "dial" => {
            if let Err(error) = swarm.dial(dial_opts(rest.parse()?)) {
                report(json!({"event": "dial_failed", "peer": null, "error": chain(&error)}));
            }
        }
        "ping" => drop(tokio::spawn(services::ping(control, peer()?))),
        "echo" => drop(tokio::spawn(services::echo(
            control,
            peer()?,
            text.into(),
            WriteSide::CloseFirst,
        ))),
        "echo-open" => drop(tokio::spawn(services::echo(
            control,
            peer()?,
            text.into(),
            WriteSide::KeepOpen,
        ))),
        "request" => drop(
            swarm
                .behaviour_mut()
                .request_response
                .send_request(&peer()?, text.into()),
        ),
        "disconnect" => swarm
            .disconnect_peer_id(peer()?)
            .map_err(|()| "not connected")?,
        _ => return Err("unknown command".into()),
    }
    Ok(())
}

/// Dials even when there is a connection, or an attempt at one: two connections with one peer are worth a test.
fn dial_opts(addr: Multiaddr) -> DialOpts {
    match addr.iter().last() {
        Some(Protocol::P2p(peer)) => DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(vec![addr])
            .build(),
        _ => addr.into(),
    }
}

fn handle(swarm: &mut Swarm<Behaviour>, event: SwarmEvent<BehaviourEvent>) {
    match event {
        SwarmEvent::NewListenAddr { address, .. } => {
            report(
                json!({"event": "listening", "addr": address, "peer": swarm.local_peer_id().to_string()}),
            );
        }
        SwarmEvent::ListenerClosed {
            reason: Err(error), ..
        }
        | SwarmEvent::ListenerError { error, .. } => {
            report(json!({"event": "listen_failed", "error": chain(&error)}));
        }
        SwarmEvent::ConnectionEstablished {
            peer_id,
            endpoint,
            num_established,
            ..
        } => {
            let (dialled, addr) = match &endpoint {
                ConnectedPoint::Dialer { address, .. } => (true, address),
                ConnectedPoint::Listener { send_back_addr, .. } => (false, send_back_addr),
            };
            report(json!({
                "event": "connected", "peer": peer_id.to_string(), "addr": addr, "dialled": dialled,
                "connections": num_established,
            }));
        }
        SwarmEvent::ConnectionClosed {
            peer_id,
            num_established,
            cause,
            ..
        } => {
            // No cause means that this side closed it.
            report(json!({
                "event": "disconnected", "peer": peer_id.to_string(), "cause": cause.map(|cause| cause.to_string()),
                "connections": num_established,
            }));
        }
        SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
            let peer = peer_id.map(|peer| peer.to_string());
            report(json!({"event": "dial_failed", "peer": peer, "error": chain(&error)}));
        }
        SwarmEvent::IncomingConnectionError {
            send_back_addr,
            error,
            ..
        } => {
            report(
                json!({"event": "incoming_failed", "addr": send_back_addr, "error": chain(&error)}),
            );
        }
        SwarmEvent::Behaviour(event) => handle_behaviour(swarm, event),
        _ => {}
    }
}

fn handle_behaviour(swarm: &mut Swarm<Behaviour>, event: BehaviourEvent) {
    match event {
        BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
            report(json!({
                "event": "identified", "peer": peer_id.to_string(), "agent": info.agent_version,
                "protocol_version": info.protocol_version,
                "protocols": info.protocols.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
                "listen_addrs": info.listen_addrs, "observed": info.observed_addr,
                "signed_record": info.signed_peer_record.is_some(),
            }))
        }
        BehaviourEvent::Identify(identify::Event::Error { peer_id, error, .. }) => {
            report(
                json!({"event": "identify_failed", "peer": peer_id.to_string(), "error": chain(&error)}),
            );
        }
        BehaviourEvent::Ping(ping::Event { peer, result, .. }) => match result {
            Ok(rtt) => report(
                json!({"event": "kept_alive", "peer": peer.to_string(), "rtt_us": rtt.as_micros() as u64}),
            ),
            Err(error) => {
                report(
                    json!({"event": "keep_alive_failed", "peer": peer.to_string(), "error": chain(&error)}),
                );
            }
        },
        BehaviourEvent::RequestResponse(request_response::Event::Message {
            peer, message, ..
        }) => match message {
            request_response::Message::Request {
                mut request,
                channel,
                ..
            } => {
                request.reverse();
                // The asker may be gone by now, which is its own affair.
                let _ = swarm
                    .behaviour_mut()
                    .request_response
                    .send_response(channel, request);
            }
            request_response::Message::Response { response, .. } => report(json!({
                "event": "response", "peer": peer.to_string(), "text": String::from_utf8_lossy(&response),
            })),
        },
        BehaviourEvent::RequestResponse(request_response::Event::OutboundFailure {
            peer,
            error,
            ..
        }) => {
            report(
                json!({"event": "request_failed", "peer": peer.to_string(), "error": chain(&error)}),
            );
        }
        _ => {}
    }
}

/// An error with its causes: libp2p's outer errors often say no more than that something failed.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
        cause = error.source();
    }
    text
}
