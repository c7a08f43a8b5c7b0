//! Timers: an indexed 4-ary heap with true cancel.
//!
//! Keyed `(Time, seq)`, so equal deadlines fire in the order in which they were set. Each timer knows its place in the
//! heap; cancelling or moving one costs O(log n) and leaves nothing behind. A heap of 4 children a node is shallower
//! than a binary one and keeps siblings in one cache line.

use crate::time::Time;

/// A timer in a [`Timers`]. Reused after the timer fired or was cancelled, so holders must forget it then.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TimerId(u32);

const ARITY: usize = 4;
const FREE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Entry {
    at: Time,
    seq: u64,
    slot: u32,
}

impl Entry {
    fn before(&self, other: &Self) -> bool {
        (self.at, self.seq) < (other.at, other.seq)
    }
}

struct Slot<T> {
    place: u32,
    what: Option<T>,
}

/// A set of timers, each carrying a `T`.
pub struct Timers<T> {
    heap: Vec<Entry>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    seq: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { heap: Vec::new(), slots: Vec::new(), free: Vec::new(), seq: 0 }
    }
}

#[expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "places and slots are the heap's own; tests hold it to a model"
)]
impl<T> Timers<T> {
    /// Sets a new timer.
    pub fn set(&mut self, at: Time, what: T) -> TimerId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { place: FREE, what: None });
            (self.slots.len() - 1) as u32
        });
        let place = self.heap.len();
        self.slots[slot as usize] = Slot { place: place as u32, what: Some(what) };
        let seq = self.next_seq();
        self.heap.push(Entry { at, seq, slot });
        self.sift_up(place);
        TimerId(slot)
    }

    /// Moves a timer to another time, as if it had been set anew.
    pub fn reset(&mut self, id: TimerId, at: Time) {
        let place = self.place(id);
        let seq = self.next_seq();
        let entry = &mut self.heap[place];
        if entry.at == at {
            return;
        }
        (entry.at, entry.seq) = (at, seq);
        self.restore_order(place);
    }

    /// Removes a timer and gives back what it carried.
    pub fn cancel(&mut self, id: TimerId) -> T {
        let place = self.place(id);
        self.remove_at(place)
    }

    /// The earliest timer.
    pub fn peek(&self) -> Option<(Time, &T)> {
        let entry = self.heap.first()?;
        Some((entry.at, self.slots[entry.slot as usize].what.as_ref()?))
    }

    /// Takes out the earliest timer if its time has come.
    pub fn pop_due(&mut self, now: Time) -> Option<(Time, T)> {
        let at = self.heap.first()?.at;
        (at <= now).then(|| (at, self.remove_at(0)))
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    fn place(&self, id: TimerId) -> usize {
        let place = self.slots[id.0 as usize].place;
        debug_assert!(place != FREE, "timer {id:?} is not set");
        place as usize
    }

    fn remove_at(&mut self, place: usize) -> T {
        let entry = self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.slots[self.heap[place].slot as usize].place = place as u32;
            self.restore_order(place);
        }
        let slot = &mut self.slots[entry.slot as usize];
        slot.place = FREE;
        self.free.push(entry.slot);
        slot.what.take().expect("a timer in the heap carries something")
    }

    fn restore_order(&mut self, place: usize) {
        if place > 0 && self.heap[place].before(&self.heap[(place - 1) / ARITY]) {
            self.sift_up(place);
        } else {
            self.sift_down(place);
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.slots[self.heap[a].slot as usize].place = a as u32;
        self.slots[self.heap[b].slot as usize].place = b as u32;
    }

    fn sift_up(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if !self.heap[place].before(&self.heap[parent]) {
                break;
            }
            self.swap(place, parent);
            place = parent;
        }
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let first = place * ARITY + 1;
            let children = first..(first + ARITY).min(self.heap.len());
            let Some(least) = children.reduce(|a, b| if self.heap[b].before(&self.heap[a]) { b } else { a }) else {
                break;
            };
            if !self.heap[least].before(&self.heap[place]) {
                break;
            }
            self.swap(place, least);
            place = least;
        }
    }
}

impl<T> core::fmt::Debug for Timers<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Timers").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
