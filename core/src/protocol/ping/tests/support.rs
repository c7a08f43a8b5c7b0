//! What the tests of all machines share: short names, and a network that does what it likes.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use crate::{
    event::{ConnId, Direction, Event, StreamError, StreamId},
    fault::Consequence,
    identity::{Keypair, PeerId},
    node::{Cx, Effects, Harness, Machine, Signal},
    protocol_id::ProtocolId,
    time::Time,
    transport::net::{Action, NetEvent},
};

/// Inbound streams are numbered from here, out of the way of those that the machine opens.
pub(crate) const INBOUND: u64 = 1000;

const CONNS: u64 = 3;
const STREAMS: u64 = 12;

pub(crate) fn keypair(n: u8) -> Keypair {
    Keypair::from_seed([n; 32])
}

pub(crate) fn peer(n: u8) -> PeerId {
    keypair(n).peer_id()
}

/// Connection `n`, to peer `n`.
pub(crate) fn connected(n: u8, address: &str) -> NetEvent {
    NetEvent::Connected {
        conn: ConnId(n.into()),
        peer: peer(n),
        direction: Direction::Outbound,
        address: address.parse().unwrap(),
    }
}

pub(crate) fn disconnected(n: u8) -> NetEvent {
    NetEvent::Disconnected { conn: ConnId(n.into()), peer: peer(n) }
}

/// Stream `stream`, opened by peer `n` on connection `n`.
pub(crate) fn inbound(stream: u64, n: u8, protocol: &ProtocolId) -> NetEvent {
    let (stream, conn) = (StreamId(stream), ConnId(n.into()));
    NetEvent::Inbound { stream, conn, peer: peer(n), protocol: protocol.clone() }
}

pub(crate) fn failed(stream: StreamId, error: StreamError) -> NetEvent {
    NetEvent::Failed { stream, error }
}

pub(crate) fn stopped(stream: StreamId, code: u64) -> NetEvent {
    NetEvent::Stopped { stream, code }
}

pub(crate) fn data(stream: StreamId, data: impl Into<Bytes>) -> NetEvent {
    NetEvent::Data { stream, data: data.into() }
}

pub(crate) fn frame(stream: StreamId, data: impl Into<Bytes>) -> NetEvent {
    NetEvent::Frame { stream, data: data.into() }
}

pub(crate) fn end(stream: StreamId) -> NetEvent {
    NetEvent::End { stream }
}

/// Effects of actions alone.
pub(crate) fn actions(actions: impl Into<Vec<Action>>) -> Effects {
    Effects { actions: actions.into(), ..Effects::default() }
}

pub(crate) fn reset(stream: StreamId, code: u32) -> Action {
    Action::Reset { stream, code }
}

pub(crate) fn close(stream: StreamId) -> Action {
    Action::Close { stream }
}

/// Nothing for a moment longer than any timeout, and no timer that could do more.
pub(crate) fn assert_silent<M: Machine>(harness: &mut Harness<M>) {
    assert_eq!(harness.deadline(), None);
    let fired = harness.advance(harness.now() + Duration::from_secs(86_400));
    assert_eq!(fired, []);
}

/// One step of a random run.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Net(NetEvent),
    Pass(Duration),
    LocalChanged,
    /// What the application does, by number, to the connection or request of this number.
    Call(u8, u64),
}

/// Any error that the stream layer can have.
pub(crate) fn any_error() -> impl Strategy<Value = StreamError> {
    prop_oneof![
        Just(StreamError::Unsupported),
        Just(StreamError::Negotiation("no".into())),
        Just(StreamError::TimedOut),
        any::<u64>().prop_map(StreamError::Reset),
        any::<u64>().prop_map(StreamError::Stopped),
        Just(StreamError::ConnectionClosed),
        Just(StreamError::EndedEarly),
    ]
}

/// Steps in no sensible order, of few connections and streams, so that they often meet.
pub(crate) fn steps(
    protocols: Vec<ProtocolId>,
    bytes: impl Strategy<Value = Bytes> + 'static,
) -> impl Strategy<Value = Vec<Step>> {
    let stream = || prop_oneof![1..=STREAMS, INBOUND..INBOUND + STREAMS].prop_map(StreamId);
    let number = || 1..=u8::try_from(CONNS).unwrap();
    let protocol = || proptest::sample::select(protocols.clone());
    let address = || proptest::sample::select(vec!["127.0.0.1:1", "10.0.0.1:2", "[2606:4700::1]:3"]);
    let bytes = bytes.boxed();
    let net = prop_oneof![
        3 => (number(), address()).prop_map(|(n, address)| connected(n, address)),
        1 => number().prop_map(disconnected),
        1 => (number(), address()).prop_map(|(n, address)| {
            NetEvent::Moved { conn: ConnId(n.into()), address: address.parse().unwrap() }
        }),
        1 => (stream(), protocol()).prop_map(|(stream, protocol)| NetEvent::Opened { stream, protocol }),
        6 => (INBOUND..INBOUND + STREAMS, number(), protocol())
            .prop_map(|(stream, n, protocol)| inbound(stream, n, &protocol)),
        4 => (stream(), bytes.clone()).prop_map(|(stream, bytes)| frame(stream, bytes)),
        4 => (stream(), bytes).prop_map(|(stream, bytes)| data(stream, bytes)),
        4 => stream().prop_map(end),
        3 => stream().prop_map(|stream| NetEvent::Writable { stream }),
        1 => stream().prop_map(|stream| NetEvent::Delivered { stream }),
        1 => (stream(), any::<u64>()).prop_map(|(stream, code)| stopped(stream, code)),
        2 => (stream(), any_error()).prop_map(|(stream, error)| failed(stream, error)),
    ];
    let step = prop_oneof![
        12 => net.prop_map(Step::Net),
        2 => (0u64..6_000).prop_map(|millis| Step::Pass(Duration::from_millis(millis))),
        1 => Just(Step::LocalChanged),
        4 => (any::<u8>(), 0..8u64).prop_map(|(what, which)| Step::Call(what, which)),
    ];
    vec(step, 0..120)
}

/// What is known of a run: which ids were used, which streams live.
#[derive(Default)]
struct Ledger {
    conns: BTreeSet<ConnId>,
    streams: BTreeSet<StreamId>,
    over: BTreeSet<StreamId>,
    /// Streams that the machine has finished.
    finished: BTreeSet<StreamId>,
}

impl Ledger {
    /// Whether an event keeps the one rule that machines count on: no id is used twice.
    fn allows(&mut self, event: &NetEvent) -> bool {
        match event {
            NetEvent::Connected { conn, .. } => self.conns.insert(*conn),
            NetEvent::Inbound { stream, .. } => !self.over.contains(stream) && self.streams.insert(*stream),
            NetEvent::Failed { stream, .. } => {
                self.over.insert(*stream);
                true
            }
            _ => true,
        }
    }

    /// A machine acts on streams that exist and that it has not let go of.
    fn check(&mut self, effects: &Effects) {
        for action in &effects.actions {
            let lives = |stream| self.streams.contains(stream) && !self.over.contains(stream);
            match action {
                Action::Open { stream, .. } => {
                    assert!(self.streams.insert(*stream), "{action:?} again");
                    // The network of this run may have failed it beforehand.
                    self.over.remove(stream);
                }
                Action::Write { stream, .. } | Action::WantWritable { stream } => {
                    assert!(lives(stream) && !self.finished.contains(stream), "{action:?}");
                }
                Action::Finish { stream } => assert!(lives(stream) && self.finished.insert(*stream), "{action:?}"),
                Action::Close { stream } | Action::Reset { stream, .. } => {
                    assert!(lives(stream), "{action:?}");
                    self.over.insert(*stream);
                }
                Action::GiveUp { .. } => {}
                Action::Fault { stream, fault, .. } => {
                    if let (Some(stream), Consequence::ResetStream(_)) = (stream, fault.rule().consequence) {
                        assert!(lives(stream), "{action:?}");
                        self.over.insert(*stream);
                    }
                }
            }
        }
    }
}

/// Runs the steps, then ends all streams and connections in either order. Returns what the application was told.
///
/// On the way no action may concern a stream that does not exist, or exists no more for the machine; at the end no
/// timer may be left.
pub(crate) fn run<M: Machine>(
    harness: &mut Harness<M>,
    steps: Vec<Step>,
    streams_first: bool,
    mut call: impl FnMut(&mut M, &mut Cx<'_>, u8, u64),
    mut look: impl FnMut(&Effects),
) -> Vec<Event> {
    let mut ledger = Ledger::default();
    let mut events = Vec::new();
    let disconnect = (1..=CONNS).map(|n| disconnected(u8::try_from(n).unwrap()));
    let fail = |last: u64| {
        let ids = (1..=last).chain(INBOUND..INBOUND + STREAMS);
        ids.map(|id| Step::Net(failed(StreamId(id), StreamError::ConnectionClosed)))
    };
    // Longer than what a run can open.
    let ends: Vec<Step> = if streams_first {
        fail(INBOUND - 1).chain(disconnect.map(Step::Net)).collect()
    } else {
        disconnect.map(Step::Net).chain(fail(INBOUND - 1)).collect()
    };
    for step in steps.into_iter().chain(ends) {
        let effects = match step {
            Step::Net(event) if ledger.allows(&event) => vec![harness.net(event)],
            Step::Net(_) => continue,
            Step::Pass(time) => {
                let to: Time = harness.now() + time;
                harness.advance(to).into_iter().map(|(_, effects)| effects).collect()
            }
            Step::LocalChanged => vec![harness.signal(&Signal::LocalChanged)],
            Step::Call(what, which) => vec![harness.call(|machine, cx| call(machine, cx, what, which)).1],
        };
        for effects in effects {
            ledger.check(&effects);
            look(&effects);
            events.extend(effects.events);
        }
    }
    assert_silent(harness);
    events
}
