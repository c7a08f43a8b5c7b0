use std::collections::BTreeMap;

use peerwork::{Rng, Time};
use proptest::{collection::vec, prelude::*};

use super::{CHUNK, CROWD, EventKey, Wheel};

fn key(at: u64, seq: u64) -> EventKey {
    EventKey { at: Time::from_nanos(at), to: (seq % 3) as u32, kind: (seq % 5) as u8, from: (seq % 7) as u32, seq }
}

/// A wheel and what it should be equal to.
#[derive(Default)]
struct Pair {
    wheel: Wheel<u64>,
    model: BTreeMap<EventKey, u64>,
    now: u64,
    seq: u64,
}

impl Pair {
    fn push(&mut self, at: u64) {
        self.seq += 1;
        self.wheel.push(key(at, self.seq), self.seq);
        self.model.insert(key(at.max(self.now), self.seq), self.seq);
        assert_eq!(self.wheel.len(), self.model.len());
    }

    fn pop_until(&mut self, end: u64) -> bool {
        let popped = self.wheel.pop_until(Time::from_nanos(end));
        let expected = self.model.first_entry().filter(|first| first.key().at.as_nanos() <= end);
        assert_eq!(popped, expected.map(|first| first.remove_entry()));
        assert_eq!(self.wheel.is_empty(), self.model.is_empty());
        if let Some((key, _)) = popped {
            self.now = key.at.as_nanos();
        }
        popped.is_some()
    }

    fn peek(&mut self) {
        assert_eq!(self.wheel.next_at(), self.model.first_key_value().map(|(key, _)| key.at));
    }

    fn drain(&mut self) {
        while self.pop_until(u64::MAX) {}
        assert!(self.wheel.is_empty() && self.model.is_empty());
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// This much after now.
    Push(u64),
    /// At this time, which may be past.
    PushAt(u64),
    Burst(u64, u16),
    /// Many times near each other.
    Cloud(u64, u16, u8),
    Pop(u16),
    PopUntil(u64),
    Peek,
}

/// Any magnitude is as likely as any other.
fn span() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => Just(0_u64),
        8 => (0_u32..64, any::<u64>()).prop_map(|(shift, value)| value >> shift),
        8 => (10_u32..36, any::<u64>()).prop_map(|(bits, value)| value >> (64 - bits)),
        1 => Just(u64::MAX),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => span().prop_map(Step::Push),
        2 => span().prop_map(Step::PushAt),
        1 => (span(), 1..200_u16).prop_map(|(after, count)| Step::Burst(after, count)),
        2 => (span(), 1..300_u16, 0..40_u8).prop_map(|(after, count, bits)| Step::Cloud(after, count, bits)),
        6 => (1..100_u16).prop_map(Step::Pop),
        2 => span().prop_map(Step::PopUntil),
        2 => Just(Step::Peek),
    ]
}

fn play(steps: &[Step]) {
    let mut pair = Pair::default();
    let mut rng = Rng::from_seed(1);
    for step in steps {
        match *step {
            Step::Push(after) => pair.push(pair.now.saturating_add(after)),
            Step::PushAt(at) => pair.push(at),
            Step::Burst(after, count) => {
                let at = pair.now.saturating_add(after);
                (0..count).for_each(|_| pair.push(at));
            }
            Step::Cloud(after, count, bits) => {
                for _ in 0..count {
                    let near = u64::from_le_bytes(rng.array()) & ((1 << bits) - 1);
                    pair.push(pair.now.saturating_add(after).saturating_add(near));
                }
            }
            Step::Pop(count) => (0..count).for_each(|_| {
                pair.pop_until(u64::MAX);
            }),
            Step::PopUntil(after) => {
                let end = pair.now.saturating_add(after);
                while pair.pop_until(end) {}
            }
            Step::Peek => pair.peek(),
        }
    }
    pair.peek();
    pair.drain();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn events_come_in_the_order_of_their_keys(steps in vec(step(), 1..60)) {
        play(&steps);
    }

    #[test]
    fn the_order_does_not_depend_on_the_order_of_pushes(times in vec(span(), 1..300), turn in any::<prop::sample::Index>()) {
        let mut there = Wheel::new();
        let mut back = Wheel::new();
        let keys: Vec<_> = times.iter().zip(0..).map(|(at, seq)| key(*at, seq)).collect();
        keys.iter().for_each(|key| there.push(*key, ()));
        let (first, rest) = keys.split_at(turn.index(keys.len()));
        rest.iter().chain(first).rev().for_each(|key| back.push(*key, ()));
        for _ in 0..=keys.len() {
            prop_assert_eq!(there.pop(), back.pop());
        }
    }
}

#[test]
fn pushes_into_now_come_at_their_place() {
    let mut pair = Pair::default();
    for at in [0, 5_000, 5_000, 1_000_000, u64::MAX, u64::MAX - 1] {
        pair.push(at);
    }
    for _ in 0..4 {
        pair.pop_until(u64::MAX);
        (0..200).for_each(|_| pair.push(pair.now));
        (0..150).for_each(|_| assert!(pair.pop_until(u64::MAX)));
    }
    pair.drain();
}

#[test]
fn the_past_is_put_off_to_now_and_counted() {
    let mut wheel = Wheel::new();
    wheel.push(key(1_000, 1), 1);
    assert_eq!(wheel.pop(), Some((key(1_000, 1), 1)));
    wheel.push(key(999, 2), 2);
    wheel.push(key(1_000, 3), 3);
    assert_eq!(wheel.clamped(), 1);
    let mut popped = [wheel.pop().unwrap(), wheel.pop().unwrap()];
    popped.sort();
    assert_eq!(popped, [(key(1_000, 3), 3), (key(1_000, 2), 2)]);
    assert_eq!(wheel.pop(), None);
}

#[test]
fn a_queue_that_was_asked_for_events_too_early_takes_earlier_ones() {
    let mut pair = Pair::default();
    let hour = 3_600_000_000_000;
    pair.push(hour);
    pair.peek();
    assert!(!pair.pop_until(hour - 1), "nothing before the hour");
    for n in (1..10_000).rev() {
        pair.push(n * 1_000_000);
        pair.peek();
    }
    pair.drain();
    assert_eq!(pair.wheel.clamped(), 0);
}

#[test]
fn the_end_of_time_is_a_time_like_any_other() {
    let mut pair = Pair::default();
    for bits in 0..64 {
        pair.push(u64::MAX - (1 << bits));
        pair.push(u64::MAX);
        pair.push(1 << bits);
    }
    assert!(!pair.pop_until(0));
    pair.drain();
    pair.push(u64::MAX);
    pair.push(0);
    assert_eq!(pair.wheel.clamped(), 1);
    pair.drain();
}

#[test]
fn a_wide_run_that_is_crowded_becomes_narrow() {
    let mut wheel = Wheel::new();
    // Alone in a slot minutes wide.
    wheel.push(key(1 << 40, 0), 0);
    wheel.push(key((1 << 40) + (1 << 36) + 1, 0), 0);
    assert!(wheel.pop().is_some());
    let mut seq = 0;
    for _ in 0..100_000 {
        seq += 1;
        let at = wheel.now + 1 + (seq * 7_919) % 50_000_000;
        wheel.push(key(at, seq), seq);
        assert!(wheel.beside.len() <= 2 * CROWD, "{} beside the run", wheel.beside.len());
        if seq > 1_000 {
            wheel.pop().unwrap();
        }
    }
}

#[test]
fn memory_follows_what_is_pending() {
    let mut wheel = Wheel::new();
    let mut rng = Rng::from_seed(7);
    let mut random = |below: u64| u64::from_le_bytes(rng.array()) % below;
    let entry = size_of::<(EventKey, u64)>();
    let empty = wheel.footprint();
    for seq in 0..200_000 {
        wheel.push(key(random(10_000_000_000), seq), seq);
    }
    for seq in 200_000..600_000 {
        let (next, _) = wheel.pop().unwrap();
        wheel.push(key(next.at.as_nanos() + random(10_000_000_000), seq), seq);
    }
    let (bytes, ideal) = (wheel.footprint() - empty, 200_000 * entry);
    assert!(bytes < ideal * 2, "{bytes} bytes for {ideal}");
    while wheel.len() > 10 {
        wheel.pop();
    }
    let few = wheel.footprint() - empty;
    // The list of chunks itself stays: 32 bytes for each 32 events that were pending at the worst time.
    assert!(few < 200_000 * 4 + 600 * CHUNK * entry, "{few} bytes for ten events");
}
