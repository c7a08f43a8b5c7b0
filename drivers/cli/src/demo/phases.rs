//! What should happen, phase by phase.
//!
//! A phase starts something, then watches the board until every item of its list is there, or cannot come any more, or
//! the phase's time is over. The next one goes on with what there is. What depends on something missing is missing, too,
//! and is counted, but only the first cause is named.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use peerwork::{CloseReason, ConnId, Dial, Direction, Multiaddr, fault::code};
use tokio::time::{Instant, timeout_at};

use super::{
    peers::{Board, IDLE_TIMEOUT, Index, REVERSE, World, agent},
    report::Progress,
};
use crate::{echo, failure::Failure};

/// Bytes of the payload that every peer sends to every other.
pub(super) const PAYLOAD: usize = 64 * 1024;

/// How a phase went.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    /// What is counted, such as `connections`.
    pub(super) things: &'static str,
    pub(super) done: usize,
    pub(super) of: usize,
    pub(super) time: Duration,
    /// What did not happen, in words.
    pub(super) missing: Vec<String>,
}

impl Phase {
    pub(super) fn ok(&self) -> bool {
        self.done == self.of && self.missing.is_empty()
    }
}

/// One thing that should be on the board.
struct Item {
    from: Index,
    to: Index,
    /// Whether it is there.
    there: Check,
    /// Whether it can still come; otherwise nobody waits for it.
    possible: Check,
    /// Whether it is named if it is missing; otherwise the cause has been named before.
    named: Check,
    /// What it means that it is not there.
    words: &'static str,
}

type Check = fn(&Board, Index, Index) -> bool;

fn always(_: &Board, _: Index, _: Index) -> bool {
    true
}

fn never(_: &Board, _: Index, _: Index) -> bool {
    false
}

/// Whether two peers have a connection that holds, as far as they know.
fn connected(board: &Board, from: Index, to: Index) -> bool {
    let held = |a, b| {
        let seen = board.seen(a, b);
        seen.conn.is_some() && seen.end.is_none()
    };
    held(from, to) && held(to, from)
}

/// All phases in order.
pub(super) async fn all(world: &mut World, progress: &Progress) -> Result<Vec<Phase>, Failure> {
    let mut phases = vec![start(world, progress).await?];
    phases.push(meet(world, progress).await?);
    phases.push(identify(world, progress).await?);
    phases.push(ping(world, progress).await?);
    phases.push(streams(world, progress).await?);
    phases.push(requests(world, progress).await?);
    phases.push(keep(world, progress).await?);
    phases.push(lose(world, progress).await?);
    phases.push(goodbye(world, progress).await?);
    Ok(phases)
}

/// The part of a phase that is the same for all: watch the board until everything is there.
struct Watch {
    name: &'static str,
    things: &'static str,
    began: Instant,
    deadline: Instant,
}

impl Watch {
    fn new(world: &World, name: &'static str, things: &'static str, time: Duration) -> Self {
        let began = Instant::now();
        Self { name, things, began, deadline: (began + time).min(world.deadline) }
    }

    /// Watches for `items`, while `work` is done that leads to them.
    async fn items(
        self,
        world: &World,
        progress: &Progress,
        items: &[Item],
        work: impl Future<Output = ()>,
    ) -> Result<Phase, Failure> {
        progress.begin(self.name, self.things, items.len());
        // Each look at the board is one lock.
        let count = |check: fn(&Board, &Item) -> bool| {
            let board = world.shared.board();
            items.iter().filter(|item| check(&board, item)).count()
        };
        let there = |board: &Board, item: &Item| (item.there)(board, item.from, item.to);
        let open = |board: &Board, item: &Item| {
            !(item.there)(board, item.from, item.to) && (item.possible)(board, item.from, item.to)
        };
        let watch = async {
            loop {
                progress.at(count(there));
                if count(open) == 0 {
                    break;
                }
                world.shared.changed().await;
            }
        };
        // The work may have ended in vain; the board tells.
        let _ = timeout_at(self.deadline, async { tokio::join!(watch, work) }).await;
        let named: Vec<&Item> = {
            let board = world.shared.board();
            items.iter().filter(|item| !there(&board, item) && (item.named)(&board, item.from, item.to)).collect()
        };
        let missing: Vec<String> = named.into_iter().map(|item| describe(world, item)).collect();
        self.end(progress, count(there), items.len(), missing)
    }

    fn end(self, progress: &Progress, done: usize, of: usize, missing: Vec<String>) -> Result<Phase, Failure> {
        let Self { name, things, began, .. } = self;
        let phase = Phase { name, things, done, of, time: began.elapsed(), missing };
        progress.end(&phase)?;
        Ok(phase)
    }
}

fn describe(world: &World, item: &Item) -> String {
    let seen = world.shared.board().seen(item.from, item.to);
    let mut text = format!("{} {} {}", world.name(item.from), item.words, world.name(item.to));
    match (seen.end, seen.trouble) {
        (Some(end), _) => text += &format!(" (connection ended: {end})"),
        (None, Some(trouble)) => text += &format!(" ({trouble})"),
        (None, None) if seen.conn.is_none() => text += " (never connected)",
        (None, None) => {}
    }
    text
}

/// One item for every pair, both ways.
fn each(world: &World, words: &'static str, there: Check) -> Vec<Item> {
    let item = |(from, to)| Item { from, to, there, possible: connected, named: connected, words };
    world.pairs().into_iter().map(item).collect()
}

/// Every peer starts and listens.
async fn start(world: &mut World, progress: &Progress) -> Result<Phase, Failure> {
    let watch = Watch::new(world, "start", "peers listening", Duration::from_secs(3));
    let count = world.members.len();
    progress.begin(watch.name, watch.things, count);
    let mut missing = Vec::new();
    let mut listening = Vec::new();
    let anywhere: Multiaddr = "/ip4/127.0.0.1/udp/0/quic-v1".parse().map_err(|_| Failure::new("no such address"))?;
    for index in 0..count {
        match world.start(index) {
            Ok(()) => listening.extend(world.node(index).map(|node| (index, node.handle.listen(anywhere.clone())))),
            Err(error) => missing.push(format!("{} did not start: {error}", world.name(index))),
        }
    }
    let mut done = 0;
    for (index, listening) in listening {
        match timeout_at(watch.deadline, listening).await {
            Ok(Ok(address)) => {
                done += 1;
                progress.at(done);
                if let Some(node) = world.members[index].node.as_mut() {
                    node.address = Some(address);
                }
            }
            Ok(Err(error)) => missing.push(format!("{} does not listen: {error}", world.name(index))),
            Err(_) => missing.push(format!("{} does not listen: nothing happens", world.name(index))),
        }
    }
    watch.end(progress, done, count, missing)
}

/// Every peer is connected with every other. Each dials those that come after it.
async fn meet(world: &mut World, progress: &Progress) -> Result<Phase, Failure> {
    let watch = Watch::new(world, "meet", "connections", Duration::from_secs(4));
    let mut items = each(world, "is not connected with", |board, from, to| {
        let (ours, theirs) = (board.seen(from, to), board.seen(to, from));
        // One connection, as seen from both of its ends.
        let is = |conn: Option<(_, Direction)>, wanted| conn.is_some_and(|(_, direction)| direction == wanted);
        is(ours.conn, Direction::Outbound) && is(theirs.conn, Direction::Inbound)
    });
    items.retain(|item| item.from < item.to);
    for item in &mut items {
        item.possible = |board, from, to| board.seen(from, to).trouble.is_none();
        item.named = always;
    }
    for item in &items {
        let (Some(from), Some(to)) = (world.node(item.from), world.node(item.to)) else { continue };
        let Some(address) = to.address.clone() else { continue };
        let dial = from.handle.dial(Dial::peer_at(to.peer, vec![address]));
        let (shared, from, to) = (world.shared.clone(), item.from, item.to);
        tokio::spawn(async move {
            if let Err(error) = dial.await {
                // The address is the one that was told, and says nothing to anybody.
                let reason =
                    error.attempts().first().map_or_else(|| error.to_string(), |(_, reason)| reason.to_string());
                shared.change(|board| board.note(from, to).trouble(reason));
            }
        });
    }
    watch.items(world, progress, &items, async {}).await
}

/// Every peer knows what every other says about itself.
async fn identify(world: &mut World, progress: &Progress) -> Result<Phase, Failure> {
    let watch = Watch::new(world, "identify", "introductions", Duration::from_secs(2));
    let items = each(world, "did not identify", |board, from, to| board.seen(from, to).agent.is_some());
    let mut phase = watch.items(world, progress, &items, async {}).await?;
    for (from, to) in world.pairs() {
        let claimed = world.shared.board().seen(from, to).agent;
        if let Some(claimed) = claimed.filter(|claimed| *claimed != agent(world.name(to))) {
            phase.missing.push(format!("{} took {} for {claimed:?}", world.name(from), world.name(to)));
        }
    }
    Ok(phase)
}

/// Every peer has a ping of every other's back.
async fn ping(world: &mut World, progress: &Progress) -> Result<Phase, Failure> {
    let watch = Watch::new(world, "ping", "round trips", Duration::from_secs(4));
    let items = each(world, "has no ping back from", |board, from, to| board.seen(from, to).rtt.is_some());
    for from in 0..world.members.len() {
        let Some(handle) = world.node(from).map(|node| node.handle.clone()) else { continue };
        // Each begins with its neighbour, so that not all ask the same one at once.
        let others = (1..world.members.len()).map(|step| (from + step) % world.members.len());
        let conns: Vec<ConnId> = {
            let board = world.shared.board();
            others.filter_map(|to| Some(board.seen(from, to).conn?.0)).collect()
        };
        tokio::spawn(async move {
            // One after the other: the time is that of the way, not of a queue.
            for conn in conns {
                // The result comes to the board as an event.
                let _ = handle.ping(conn).await;
            }
        });
    }
    watch.items(world, progress, &items, async {}).await
}

/// What one peer sends to another: different for every pair, and nowhere the same over a packet's length.
fn payload(from: Index, to: Index, len: usize) -> Bytes {
    let mut state = (from * 31 + to + 1) as u64;
    let byte = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(byte).collect::<Vec<u8>>().into()
}

/// Every peer sends a payload to every other on a stream, and has it back.
async fn streams(world: &mut World, progress: &Progress) -> Result<Phase, Failure> {
    let watch = Watch::new(world, "streams", "payloads echoed", Duration::from_secs(4));
    let items = each(world, "has no echo from", |board, from, to| board.seen(from, to).echoed == PAYLOAD as u64);
    for item in &items {
        let (shared, from, to) = (world.shared.clone(), item.from, item.to);
        let Some((conn, _)) = shared.board().seen(from, to).conn else { continue };
        let Some(handle) = world.node(from).map(|node| node.handle.clone()) else { continue };
        tokio::spawn(async move {
            let sent = payload(from, to, PAYLOAD);
            let answer = echo::ask(&handle, conn, &echo::ECHO, sent.clone()).await;
            shared.change(|board| {
                let seen = board.note(from, to);
                match answer {
                    Ok(answer) if answer.data == sent => seen.echoed = sent.len() as u64,
                    Ok(_) => seen.trouble("other bytes came back"),
                    Err(error) => seen.trouble(error),
                }
            });
        });
    }
    watch.items(world, progress, &items, async {}).await
}

/// Every peer asks every other for something.
async fn requests(world: &mut World, progress: &Progress) -> Result<Phase, Failure> {
    let watch = Watch::new(world, "requests", "requests answered", Duration::from_secs(2));
    let items = each(world, "has no answer from", |board, from, to| board.seen(from, to).answered);
    for item in &items {
        let (shared, from, to) = (world.shared.clone(), item.from, item.to);
        let Some((conn, _)) = shared.board().seen(from, to).conn else { continue };
        let Some(node) = world.node(from) else { continue };
        let question = payload(from, to, 1000);
        let request = node.handle.request(conn, &REVERSE, question.clone());
        tokio::spawn(async move {
            let answer = request.await;
            shared.change(|board| {
                let seen = board.note(from, to);
                match answer {
                    Ok(answer) if answer.iter().eq(question.iter().rev()) => seen.answered = true,
                    Ok(_) => seen.trouble("another answer than expected"),
                    Err(error) => seen.trouble(error),
                }
            });
        });
    }
    watch.items(world, progress, &items, async {}).await
}

/// Nobody has lost anybody so far.
async fn keep(world: &mut World, progress: &Progress) -> Result<Phase, Failure> {
    let watch = Watch::new(world, "keep", "connections held", Duration::ZERO);
    let mut items = each(world, "did not keep its connection with", connected);
    items.retain(|item| item.from < item.to);
    // Those that never were have been named.
    items.iter_mut().for_each(|item| item.named = |board, from, to| board.seen(from, to).conn.is_some());
    watch.items(world, progress, &items, async {}).await
}

/// Items about the end of connections. Connections that are not there cannot end, which has been named.
fn ends(world: &World, mut items: Vec<Item>) -> Vec<Item> {
    let board = world.shared.board();
    for item in &mut items {
        if connected(&board, item.from, item.to) {
            item.possible = |board, from, to| board.seen(from, to).end.is_none();
            item.named = always;
        } else {
            (item.possible, item.named) = (never, never);
        }
    }
    items
}

/// One peer is killed, and the others notice its silence.
async fn lose(world: &mut World, progress: &Progress) -> Result<Phase, Failure> {
    let watch = Watch::new(world, "lose", "losses noticed", IDLE_TIMEOUT + Duration::from_secs(4));
    let lost = somebody(world, None);
    world.lost = Some(lost);
    let mut items = each(world, "did not notice by its silence that it lost", |board, from, to| {
        board.seen(from, to).end == Some(CloseReason::IdleTimeout)
    });
    items.retain(|item| item.to == lost);
    let items = ends(world, items);
    if let Some(running) = world.members[lost].node.as_mut().and_then(|node| node.running.take()) {
        running.kill();
    }
    watch.items(world, progress, &items, async {}).await
}

/// Another one says goodbye, and the others hear it.
async fn goodbye(world: &mut World, progress: &Progress) -> Result<Phase, Failure> {
    let watch = Watch::new(world, "goodbye", "goodbyes heard", Duration::from_secs(2));
    let gone = somebody(world, world.lost);
    world.gone = Some(gone);
    let mut items = each(world, "did not hear the goodbye of", |board, from, to| {
        let heard = |end| matches!(end, Some(CloseReason::Remote { code, .. }) if code == u64::from(code::SHUTDOWN));
        heard(board.seen(from, to).end)
    });
    items.retain(|item| item.to == gone && Some(item.from) != world.lost);
    let items = ends(world, items);
    let shutdown = world.node(gone).map(|node| node.handle.shutdown());
    let work = async {
        if let Some(shutdown) = shutdown {
            shutdown.await;
        }
    };
    watch.items(world, progress, &items, work).await
}

/// One of the peers, another one in each run. If one is taken already, one on another driver.
fn somebody(world: &World, taken: Option<Index>) -> Index {
    // Peer ids are random, and so is the lowest one's place.
    let driver = |index: Index| world.members.get(index).map(|member| member.driver);
    let free = (0..world.members.len()).filter(|&index| taken.is_none_or(|taken| driver(taken) != driver(index)));
    free.min_by_key(|&index| world.node(index).map(|node| node.peer)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_a_payload_of_its_own() {
        let mut payloads: Vec<Bytes> = (0..9).flat_map(|from| (0..9).map(move |to| payload(from, to, 64))).collect();
        payloads.sort();
        payloads.dedup();
        assert_eq!(payloads.len(), 81);
    }
}
