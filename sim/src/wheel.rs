//! The engine's queue: events in the one order that their [keys](EventKey) give, however they were pushed.
//!
//! A hierarchical timing wheel over nanoseconds. Time is read as a number in base 64 above slots of 2¹⁰ ns; an event lies at the
//! level of the highest digit in which its time differs from the wheel's position, in the slot of that digit. So
//! all of a level comes before all of the level above, a bitmap per level finds the first slot, and an empty gap of any length is
//! skipped in as many steps as there are levels: nothing ever ticks. [`Time::MAX`] is a time like any other.
//!
//! The slot that comes first is *opened*: the position moves to it, and its events move to the levels below, or, when they
//! are few or the level is the lowest, into the sorted run that [`Wheel::pop`] takes from. So buckets are as wide as there
//! is little to do. What is pushed into the time of the run goes to a small heap beside it. Should a wide run attract many
//! pushes, it is *narrowed*: what lies late in it goes back to the wheel.
//!
//! Slots are chains of chunks of [`CHUNK`] events from one pool, and emptied chunks are used again, or given back when most are
//! idle. Memory follows what is pending: for each event its key and its value, 40 bytes for a value of eight, and in a queue with
//! few events in each slot up to one chunk per occupied slot; measured, 41 bytes an event at a million pending, 44 at 100 000, 65
//! at 10 000. What an operation costs is measured by [`crate::bench::queue_costs`].

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    mem,
};

use peerwork::Time;

#[cfg(test)]
mod tests;

/// The name and the place in the order of an event. No two pending events should have the same; if they do, their order is
/// not specified.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EventKey {
    /// When.
    pub at: Time,
    /// The node it happens to.
    pub to: u32,
    /// What kind of event it is; kinds of one time and node happen in this order.
    pub kind: u8,
    /// The node it comes from.
    pub from: u32,
    /// Counts the events of `from`, or of `from` to `to`.
    pub seq: u64,
}

/// The width of the lowest level's slots is two to this power, in nanoseconds.
const BASE: u32 = 10;
/// Bits in a digit of time: 64 slots a level.
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = (u64::BITS - BASE).div_ceil(BITS) as usize;
/// Events in a chunk. A slot that has no more than one chunk is sorted whatever its level.
pub const CHUNK: usize = 64;
/// A run wider than a slot of the lowest level is narrowed when more than this many events were pushed into it.
const CROWD: usize = 64;
/// Idle chunks that are kept in any case.
const SPARE: usize = 64;
/// No chunk.
const NONE: u32 = u32::MAX;

/// See the [module](self).
pub struct Wheel<T> {
    /// Time of the last event popped.
    now: u64,
    /// Every slot's digits are relative to this.
    position: u64,
    /// The run covers all times up to this one. Shares with `position` all digits of `level` and above.
    last: u64,
    /// Level of the slot that the run covers.
    level: usize,
    /// Latest first.
    run: Vec<Entry<T>>,
    /// Pushed into the time of the run.
    beside: BinaryHeap<Reverse<Entry<T>>>,
    /// By level, a bit for each slot that is not empty.
    occupied: [u64; LEVELS],
    /// By level and slot, the newest chunk.
    heads: Box<[[u32; SLOTS]; LEVELS]>,
    chunks: Vec<Chunk<T>>,
    /// First of the chunks that are not in use, which have no memory.
    idle: u32,
    used: usize,
    /// Memory for chunks.
    spare: Vec<Vec<Entry<T>>>,
    /// The earliest time in the slots, if known. Asked for by [`Wheel::next_at`] alone.
    earliest: Option<u64>,
    len: usize,
    clamped: u64,
}

struct Chunk<T> {
    entries: Vec<Entry<T>>,
    /// The next chunk of the slot, or the next idle one.
    next: u32,
}

struct Entry<T> {
    key: EventKey,
    value: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

/// How far a slot's digit of this level is from the right.
const fn shift(level: usize) -> u32 {
    BASE + BITS * level as u32
}

/// The last time of the slot of this level in which `time` lies.
const fn slot_end(time: u64, level: usize) -> u64 {
    time | ((1 << shift(level)) - 1)
}

/// The first time of this slot of this level, for a wheel at `position`.
const fn slot_start(position: u64, level: usize, slot: usize) -> u64 {
    let below = slot_end(0, level) | (SLOTS as u64 - 1) << shift(level);
    position & !below | (slot as u64) << shift(level)
}

const fn digit(time: u64, level: usize) -> usize {
    (time >> shift(level)) as usize & (SLOTS - 1)
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Wheel<T> {
    /// An empty queue at time zero.
    pub fn new() -> Self {
        Self {
            now: 0,
            position: 0,
            last: slot_end(0, 0),
            level: 0,
            run: Vec::new(),
            beside: BinaryHeap::new(),
            occupied: [0; LEVELS],
            heads: Box::new([[NONE; SLOTS]; LEVELS]),
            chunks: Vec::new(),
            idle: NONE,
            used: 0,
            spare: Vec::new(),
            earliest: None,
            len: 0,
            clamped: 0,
        }
    }

    /// Events pending.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many events were pushed into the past, and put off to the time of the last one popped. Should be 0: the engine
    /// has a mistake otherwise.
    pub fn clamped(&self) -> u64 {
        self.clamped
    }

    /// Bytes that the queue holds on the heap, used or kept for use; without what the values themselves own.
    pub fn footprint(&self) -> usize {
        let entries = CHUNK * (self.used + self.spare.len()) + self.run.capacity() + self.beside.capacity();
        entries * size_of::<Entry<T>>()
            + self.chunks.capacity() * size_of::<Chunk<T>>()
            + size_of::<[[u32; SLOTS]; LEVELS]>()
    }

    /// Adds an event. One from before the last popped event is put off to that event's time, and [counted](Self::clamped).
    pub fn push(&mut self, mut key: EventKey, value: T) {
        let mut at = key.at.as_nanos();
        if at < self.now {
            self.clamped += 1;
            at = self.now;
            key.at = Time::from_nanos(at);
        }
        self.len += 1;
        let entry = Entry { key, value };
        if at <= self.last {
            self.beside.push(Reverse(entry));
            if self.level > 0 && self.beside.len() > CROWD {
                self.narrow();
            }
        } else {
            self.earliest = self.earliest.map(|earliest| earliest.min(at));
            self.put(at, entry);
        }
    }

    /// When the next event is.
    pub fn next_at(&mut self) -> Option<Time> {
        if let Some(key) = self.front() {
            return Some(key.at);
        }
        if self.earliest.is_none() {
            let (level, slot) = self.first_slot()?;
            let mut chunk = self.heads[level][slot];
            while chunk != NONE {
                let Chunk { entries, next } = &self.chunks[chunk as usize];
                let least = entries.iter().map(|entry| entry.key.at.as_nanos()).min();
                self.earliest = [self.earliest, least].into_iter().flatten().min();
                chunk = *next;
            }
        }
        self.earliest.map(Time::from_nanos)
    }

    /// Takes the next event.
    pub fn pop(&mut self) -> Option<(EventKey, T)> {
        self.pop_until(Time::MAX)
    }

    /// Takes the next event, if it is not later than `end`.
    ///
    /// Events earlier than `end` may still be pushed afterwards, but a queue is at its best when nobody does.
    pub fn pop_until(&mut self, end: Time) -> Option<(EventKey, T)> {
        while self.run.is_empty() && self.beside.is_empty() {
            let (level, slot) = self.first_slot()?;
            let start = slot_start(self.position, level, slot);
            if start > end.as_nanos() {
                return None;
            }
            self.open(level, slot, start);
        }
        let beside = self.beside.peek().map(|Reverse(entry)| &entry.key);
        let run = self.run.last().map(|entry| &entry.key);
        let from_run = match (run, beside) {
            (Some(run), Some(beside)) => run <= beside,
            (run, _) => run.is_some(),
        };
        let next = if from_run { run } else { beside };
        if next.is_none_or(|key| key.at > end) {
            return None;
        }
        let entry = if from_run { self.run.pop() } else { self.beside.pop().map(|Reverse(entry)| entry) }?;
        self.now = entry.key.at.as_nanos();
        self.len -= 1;
        Some((entry.key, entry.value))
    }

    /// The first event of the run and what is beside it.
    fn front(&self) -> Option<&EventKey> {
        let beside = self.beside.peek().map(|Reverse(entry)| &entry.key);
        let run = self.run.last().map(|entry| &entry.key);
        [run, beside].into_iter().flatten().min()
    }

    /// The first slot that is not empty.
    fn first_slot(&self) -> Option<(usize, usize)> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        Some((level, self.occupied[level].trailing_zeros() as usize))
    }

    /// Puts an event later than the run into its slot.
    fn put(&mut self, at: u64, entry: Entry<T>) {
        debug_assert!(at > self.last, "times up to {} belong to the run", self.last);
        let level = ((at ^ self.position).ilog2().saturating_sub(BASE) / BITS) as usize;
        let slot = digit(at, level);
        let head = self.heads[level][slot];
        if head != NONE {
            let entries = &mut self.chunks[head as usize].entries;
            if entries.len() < CHUNK {
                entries.push(entry);
                return;
            }
        }
        let new = self.chunk(head);
        self.chunks[new as usize].entries.push(entry);
        self.heads[level][slot] = new;
        self.occupied[level] |= 1 << slot;
    }

    /// Makes the first slot that is not empty the run, or spreads it over the levels below.
    fn open(&mut self, level: usize, slot: usize, start: u64) {
        self.occupied[level] &= !(1 << slot);
        let mut head = mem::replace(&mut self.heads[level][slot], NONE);
        self.earliest = None;
        self.position = start;
        let few = self.chunks[head as usize].next == NONE;
        self.level = if few { level } else { 0 };
        self.last = slot_end(start, self.level);
        let enough = 4 * CROWD + 2 * self.len;
        if self.run.capacity() > enough {
            self.run = Vec::new();
        }
        if self.beside.capacity() > enough {
            self.beside = BinaryHeap::new();
        }
        while head != NONE {
            let chunk = &mut self.chunks[head as usize];
            let (mut entries, next) = (mem::take(&mut chunk.entries), chunk.next);
            if level == self.level {
                self.run.append(&mut entries);
            } else {
                for entry in entries.drain(..) {
                    let at = entry.key.at.as_nanos();
                    if at <= self.last { self.run.push(entry) } else { self.put(at, entry) }
                }
            }
            self.release(head, entries);
            head = next;
        }
        self.run.sort_unstable_by_key(|entry| Reverse(entry.key));
    }

    /// Has the run end with the slot, one level below, in which its first event lies.
    #[cold]
    fn narrow(&mut self) {
        let Some(first) = self.front().map(|key| key.at.as_nanos()) else { return };
        self.level -= 1;
        self.position = self.position.max(first);
        self.last = slot_end(self.position, self.level);
        let last = self.last;
        let is_later = |entry: &Entry<T>| entry.key.at.as_nanos() > last;
        let mut run = mem::take(&mut self.run);
        let later = run.partition_point(is_later);
        for entry in run.drain(..later) {
            self.put(entry.key.at.as_nanos(), entry);
        }
        self.run = run;
        let mut beside = mem::take(&mut self.beside).into_vec();
        for Reverse(entry) in beside.extract_if(.., |Reverse(entry)| is_later(entry)) {
            self.put(entry.key.at.as_nanos(), entry);
        }
        self.beside = beside.into();
        self.earliest = None;
    }

    /// An empty chunk before `next`.
    fn chunk(&mut self, next: u32) -> u32 {
        self.used += 1;
        let entries = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK));
        if self.idle == NONE {
            let new = u32::try_from(self.chunks.len()).expect("fewer than 2^32 chunks");
            self.chunks.push(Chunk { entries, next });
            return new;
        }
        let new = self.idle;
        self.idle = mem::replace(&mut self.chunks[new as usize], Chunk { entries, next }).next;
        new
    }

    /// Takes back a chunk and its memory, which is empty.
    fn release(&mut self, index: u32, entries: Vec<Entry<T>>) {
        self.used -= 1;
        if self.spare.len() < SPARE + self.used {
            self.spare.push(entries);
        }
        self.chunks[index as usize].next = mem::replace(&mut self.idle, index);
    }
}
