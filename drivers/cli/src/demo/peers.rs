//! The peers of the demo, and what they have seen of each other.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use peerwork::{CloseReason, Config, ConnId, Direction, Event, Multiaddr, PeerId, ProtocolId, config::RequestConfig};
use peerwork_driver::{Handle, InboundRequests, Lagged, Subscription};
use tokio::{sync::Notify, time::Instant};

use crate::{
    driver::{DriverKind, Running},
    echo,
};

/// Peers on each driver.
const PER_DRIVER: usize = 3;

/// Silence after which a peer counts as lost. Short, to be waited for.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// A request of so many bytes is answered with the same in reverse.
pub(super) const REVERSE: ProtocolId = ProtocolId::from_static("/demo/reverse/1.0.0");

/// Events that may wait for the board; there are never so many.
const EVENTS: usize = 65_536;

/// A peer, by its place in the world.
pub(super) type Index = usize;

/// One of the peers.
pub(super) struct Member {
    /// Such as `tokio-1`.
    pub(super) name: String,
    pub(super) driver: DriverKind,
    pub(super) node: Option<Node>,
}

/// A peer that has started.
pub(super) struct Node {
    pub(super) running: Option<Running>,
    pub(super) handle: Handle,
    pub(super) peer: PeerId,
    pub(super) address: Option<Multiaddr>,
}

/// What one peer has seen of another.
#[derive(Clone, Default)]
pub(super) struct Seen {
    /// The connection that was reported, the last one if there were several.
    pub(super) conn: Option<(ConnId, Direction)>,
    /// Its software, as it said itself.
    pub(super) agent: Option<String>,
    /// Round-trip time of the ping that came back.
    pub(super) rtt: Option<Duration>,
    /// Bytes that it sent back unchanged.
    pub(super) echoed: u64,
    /// It answered a request as it should.
    pub(super) answered: bool,
    /// Why the last connection ended.
    pub(super) end: Option<CloseReason>,
    /// Why something did not work, the first such reason.
    pub(super) trouble: Option<String>,
}

impl Seen {
    /// Notes why something did not work.
    pub(super) fn trouble(&mut self, reason: impl ToString) {
        self.trouble.get_or_insert_with(|| reason.to_string());
    }
}

/// Who has seen what of whom.
#[derive(Default)]
pub(super) struct Board {
    members: BTreeMap<PeerId, Index>,
    seen: BTreeMap<(Index, Index), Seen>,
    /// Events that a peer's observer missed. There should be none.
    pub(super) missed: u64,
}

impl Board {
    /// What `from` has seen of `to`.
    pub(super) fn seen(&self, from: Index, to: Index) -> Seen {
        self.seen.get(&(from, to)).cloned().unwrap_or_default()
    }

    pub(super) fn note(&mut self, from: Index, to: Index) -> &mut Seen {
        self.seen.entry((from, to)).or_default()
    }

    fn event(&mut self, me: Index, event: Event) {
        let (Event::Connected { peer, .. }
        | Event::Identified { peer, .. }
        | Event::IdentifyFailed { peer, .. }
        | Event::Ping { peer, .. }
        | Event::Disconnected { peer, .. }
        | Event::Fault { peer, .. }) = &event
        else {
            return;
        };
        let Some(&other) = self.members.get(peer) else { return };
        let seen = self.note(me, other);
        match event {
            Event::Connected { conn, direction, .. } => (seen.conn, seen.end) = (Some((conn, direction)), None),
            Event::Identified { info, .. } => seen.agent = Some(info.agent_version.clone()),
            Event::IdentifyFailed { error, .. } => seen.trouble(error),
            Event::Ping { result: Ok(rtt), .. } => seen.rtt = Some(rtt),
            Event::Ping { result: Err(error), .. } => seen.trouble(error),
            Event::Disconnected { reason, remaining: 0, .. } => seen.end = Some(reason),
            Event::Fault { fault, .. } => seen.trouble(fault),
            _ => {}
        }
    }
}

/// The board, and a bell that rings when something was written on it.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<(Mutex<Board>, Notify)>);

impl Shared {
    /// To read.
    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To write.
    pub(super) fn change(&self, change: impl FnOnce(&mut Board)) {
        change(&mut self.board());
        self.0.1.notify_one();
    }

    /// Waits for something to be written.
    pub(super) async fn changed(&self) {
        self.0.1.notified().await;
    }
}

/// Everybody.
pub(super) struct World {
    pub(super) members: Vec<Member>,
    pub(super) shared: Shared,
    pub(super) began: Instant,
    pub(super) deadline: Instant,
    /// The one that is killed.
    pub(super) lost: Option<Index>,
    /// The one that says goodbye.
    pub(super) gone: Option<Index>,
}

impl World {
    /// Peers that are yet to start, drivers in turn, so that each dials each of the others.
    pub(super) fn new(time: Duration) -> Self {
        let member = |n: usize| {
            let driver = DriverKind::ALL[n % DriverKind::ALL.len()];
            Member { name: format!("{driver}-{}", n / DriverKind::ALL.len() + 1), driver, node: None }
        };
        let began = Instant::now();
        Self {
            members: (0..PER_DRIVER * DriverKind::ALL.len()).map(member).collect(),
            shared: Shared::default(),
            began,
            deadline: began + time,
            lost: None,
            gone: None,
        }
    }

    /// Starts one, which then serves what the demo is about. An error is for people.
    pub(super) fn start(&mut self, index: Index) -> Result<(), String> {
        let member = self.members.get_mut(index).ok_or("there is no such peer")?;
        let mut config = Config { agent_version: agent(&member.name), ..Config::default() };
        config.quic.idle_timeout = IDLE_TIMEOUT;
        config.quic.keep_alive = Some(IDLE_TIMEOUT / 4);
        // Only when asked, so that each ping is one of the demo's.
        config.ping.interval = None;
        config.ping.timeout = Duration::from_secs(1);
        config.ping.max_unanswered = 0;
        let running = member.driver.start(config).map_err(|error| error.to_string())?;
        let handle = running.handle.clone();
        let peer = handle.peer_id();
        tokio::spawn(observe(handle.events_with_capacity(EVENTS), index, self.shared.clone()));
        echo::serve(&handle).map_err(|error| error.to_string())?;
        let requests = handle.serve_requests(&REVERSE, RequestConfig::default()).map_err(|error| error.to_string())?;
        tokio::spawn(answer(requests));
        self.shared.change(|board| {
            board.members.insert(peer, index);
        });
        member.node = Some(Node { running: Some(running), handle, peer, address: None });
        Ok(())
    }

    pub(super) fn name(&self, index: Index) -> &str {
        self.members.get(index).map_or("nobody", |member| &member.name)
    }

    pub(super) fn node(&self, index: Index) -> Option<&Node> {
        self.members.get(index)?.node.as_ref()
    }

    /// Every peer with every other, both ways.
    pub(super) fn pairs(&self) -> Vec<(Index, Index)> {
        let all = 0..self.members.len();
        all.clone().flat_map(|from| all.clone().map(move |to| (from, to))).filter(|(from, to)| from != to).collect()
    }

    /// Ends all that are left.
    pub(super) async fn shut_down(&self) {
        let nodes = self.members.iter().filter_map(|member| member.node.as_ref());
        let ending: Vec<_> = nodes.map(|node| node.handle.shutdown()).collect();
        for shutdown in ending {
            // A broken driver must not hold up the report.
            let _ = tokio::time::timeout(Duration::from_secs(1), shutdown).await;
        }
    }
}

/// What a peer tells the others that it is.
pub(super) fn agent(name: &str) -> String {
    format!("peerwork-demo/{name}")
}

async fn observe(mut events: Subscription, me: Index, shared: Shared) {
    while let Some(event) = events.recv().await {
        shared.change(|board| match event {
            Ok(event) => board.event(me, event),
            Err(Lagged(missed)) => board.missed += missed,
        });
    }
}

async fn answer(mut requests: InboundRequests) {
    while let Some(request) = requests.recv().await {
        let reversed: Vec<u8> = request.data.iter().rev().copied().collect();
        // The one who asked notices if this fails.
        let _ = request.respond(reversed.into());
    }
}
