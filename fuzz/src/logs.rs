//! Logs of recorded nodes that nobody has written.

use std::{
    ops::ControlFlow,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use bytes::Bytes;
use peerwork::{
    BoundSocket, Command, Dial, Input, Node, Output, Seed, Time, TransmitBuf, UnixTime,
    config::RequestConfig,
    record::{Replay, ReplayError},
};
use peerwork_sim::{config, millis, platform};

use crate::Source;

/// The log of a node that dials itself, and of some calls that come to nothing.
pub fn sound_log() -> &'static [u8] {
    static LOG: LazyLock<Vec<u8>> = LazyLock::new(record);
    &LOG
}

fn record() -> Vec<u8> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&log);
    let sink = move |piece: &[u8]| {
        written.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(piece);
        ControlFlow::Continue(())
    };
    let (wall, local) = (UnixTime::from_secs(1_800_000_000), ([127, 0, 0, 1], 4001).into());
    let node = Node::recorded(config(), Box::new(Seed(1)), Time::ZERO, wall, Box::new(sink));
    let mut node = node.expect("a valid configuration");
    let address = || "/ip4/127.0.0.1/udp/4001/quic-v1".parse().expect("an address");
    let protocol = || "/a/1".parse().expect("a protocol");
    let (mut now, mut back) = (Time::ZERO, Vec::new());
    node.listen(now, address()).expect("a listener");
    node.dial(now, Dial::address(address())).expect("a dial");
    for step in 0..24_u64 {
        now += millis(step * 30);
        while let Some(output) = node.poll_output() {
            if let Output::Command(Command::UdpBind { socket, .. }) = output {
                node.handle(now, Input::Bound { socket, result: Ok(BoundSocket::new(local)) });
            }
        }
        let mut data = Vec::new();
        while let Some(transmit) = node.poll_transmit(now, &mut TransmitBuf::single(&mut data)) {
            back.push(peerwork::Datagram::new(transmit.socket, local, &data));
            data.clear();
        }
        // Not while polling: two ends that have closed answer each other for ever, if no time passes.
        back.drain(..).for_each(|datagram| node.handle(now, Input::Datagram(datagram)));
        node.handle(now, Input::Wake);
        match step {
            3 => drop(node.register(now, protocol())),
            4 => drop(node.requests(now).register("/r/1".parse().expect("a protocol"), RequestConfig::default())),
            5 => {
                use peerwork::fuzzing::Invented;
                drop(node.requests(now).respond(Invented::invented(1), Bytes::from_static(b"nobody asked")));
                let _ = node.open_stream(now, Invented::invented(1), &[protocol()]);
            }
            6 => drop(node.unregister(now, &protocol())),
            20 => node.shutdown(now),
            _ => {}
        }
    }
    drop(node);
    std::mem::take(&mut *log.lock().unwrap_or_else(PoisonError::into_inner))
}

fn run(log: &[u8]) -> Result<(), ReplayError> {
    let mut replay = Replay::new(log, platform())?;
    while let Some(step) = replay.step()? {
        assert!(!step.call.to_string().is_empty());
    }
    assert!(replay.ending().is_some());
    Ok(())
}

/// [`Replay`]: a log from anywhere, or a sound one that was changed, ends somewhere or in an error with words.
pub fn replay_log(data: &[u8]) {
    let mut source = Source::new(data);
    let result = if source.byte().is_multiple_of(2) {
        run(source.rest())
    } else {
        let mut log = sound_log().to_vec();
        let at = usize::from(source.short()) % log.len();
        let changes = source.rest();
        for (byte, change) in log[at..].iter_mut().zip(changes) {
            *byte ^= change;
        }
        let result = run(&log);
        assert!(result.is_ok() || log != sound_log(), "a sound log was refused: {result:?}");
        result
    };
    if let Err(error) = result {
        assert!(!error.to_string().is_empty());
    }
}
