//! The event loop of the README: the very text, compiled and run, on both sides of a connection.

use std::{
    net::UdpSocket,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

use peerwork::{BoundSocket, Command, Config, Datagram, Dial, Event, Input, Node, Output, Platform, Time, TransmitBuf};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Turns the crank until `on_event` has seen enough.
fn run(
    start: impl FnOnce(&mut Node, Time) -> Result<(), Failure>,
    mut on_event: impl FnMut(&Node, &Event) -> bool,
) -> Result<(), Failure> {
    let origin = Instant::now();
    let now = || Time::ZERO + origin.elapsed();
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let config = Config::new(Platform::new(crypto, origin));
    let entropy = |bytes: &mut [u8]| getrandom::fill(bytes).expect("the system's random generator");
    let mut node = Node::new(config, Box::new(entropy), now(), SystemTime::now().into())?;
    start(&mut node, now())?;

    let (mut bound, mut packet, mut inbox) = (None, Vec::new(), [0; 65_535]);
    loop {
        while let Some(output) = node.poll_output() {
            match output {
                Output::Command(Command::UdpBind { socket, address }) => {
                    let (_, udp) = bound.insert((socket, UdpSocket::bind(address)?));
                    let result = Ok(BoundSocket::new(udp.local_addr()?));
                    node.handle(now(), Input::Bound { socket, result });
                }
                Output::Event(event) if on_event(&node, &event) => return Ok(()),
                _ => {}
            }
        }
        let Some((socket, udp)) = &bound else { continue };
        while let Some(transmit) = node.poll_transmit(now(), &mut TransmitBuf::single(&mut packet)) {
            udp.send_to(&packet, transmit.to)?;
            packet.clear();
        }
        let wait = node.poll_timeout().map_or(Duration::from_secs(60), |wake| wake.at - now());
        udp.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        match udp.recv_from(&mut inbox) {
            Ok((len, from)) => node.handle(now(), Input::Datagram(Datagram::new(*socket, from, &inbox[..len]))),
            Err(_) => node.handle(now(), Input::Wake),
        }
    }
}

#[test]
fn the_loop_of_the_readme_is_this_one_and_at_most_25_lines() {
    let this = include_str!("embedding.rs");
    let start = this.find("    loop {").expect("the loop");
    let end = start + this[start..].find("\n    }\n").expect("its end") + "\n    }\n".len();
    let text: String =
        this[start..end].lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect();
    assert!(text.lines().count() <= 25, "{} lines", text.lines().count());
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&text), "the README shows another loop than this:\n{text}");
}

#[test]
fn two_bare_loops_meet_identify_and_ping() {
    let (told, address) = mpsc::channel();
    let server = thread::spawn(move || {
        run(
            |node, now| {
                node.listen(now, "/ip4/127.0.0.1/udp/0/quic-v1".parse()?)?;
                Ok(())
            },
            |_, event| {
                if let Event::Listening { address, .. } = event {
                    told.send(address.clone()).expect("somebody waits");
                }
                matches!(event, Event::Disconnected { .. })
            },
        )
    });
    let address = address.recv_timeout(Duration::from_secs(10)).expect("an address");
    let (mut identified, mut pinged) = (false, false);
    run(
        |node, now| {
            node.dial(now, Dial::address(address))?;
            Ok(())
        },
        |_, event| {
            identified |=
                matches!(event, Event::Identified { info, .. } if info.agent_version.starts_with("peerwork/"));
            pinged |= matches!(event, Event::Ping { result: Ok(_), .. });
            identified && pinged
        },
    )
    .expect("the client's loop");
    // The client is gone without a word, so the server finds out by itself, after the idle timeout.
    server.join().expect("the server's thread").expect("the server's loop");
}
