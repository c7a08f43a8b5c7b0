use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Set(u64),
    Reset(usize, u64),
    Cancel(usize),
    Pop(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => (0..50u64).prop_map(Op::Set),
        2 => (any::<usize>(), 0..50u64).prop_map(|(i, at)| Op::Reset(i, at)),
        1 => any::<usize>().prop_map(Op::Cancel),
        1 => (0..50u64).prop_map(Op::Pop),
    ];
    prop::collection::vec(op, 0..200)
}

proptest! {
    /// Against the plainest model there is: a list searched for the least `(time, order)`.
    #[test]
    fn behaves_like_a_sorted_list(ops in ops()) {
        let mut timers = Timers::default();
        let mut model: Vec<(Time, u64, u32, TimerId)> = Vec::new();
        let (mut order, mut name) = (0, 0);
        for op in ops {
            order += 1;
            match op {
                Op::Set(at) => {
                    let at = Time::from_secs(at);
                    name += 1;
                    model.push((at, order, name, timers.set(at, name)));
                }
                Op::Reset(i, at) if !model.is_empty() => {
                    let i = i % model.len();
                    let at = Time::from_secs(at);
                    timers.reset(model[i].3, at);
                    if model[i].0 != at {
                        (model[i].0, model[i].1) = (at, order);
                    }
                }
                Op::Cancel(i) if !model.is_empty() => {
                    let gone = model.swap_remove(i % model.len());
                    prop_assert_eq!(timers.cancel(gone.3), gone.2);
                }
                Op::Pop(now) => {
                    let now = Time::from_secs(now);
                    model.sort();
                    let expected = model.first().filter(|first| first.0 <= now).copied();
                    if expected.is_some() {
                        model.remove(0);
                    }
                    prop_assert_eq!(timers.pop_due(now), expected.map(|(at, _, name, _)| (at, name)));
                }
                Op::Reset(..) | Op::Cancel(_) => {}
            }
            prop_assert_eq!(timers.len(), model.len());
            prop_assert_eq!(timers.peek().map(|(at, _)| at), model.iter().map(|m| m.0).min());
        }
    }
}

impl PartialOrd for TimerId {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TimerId {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

#[test]
fn equal_deadlines_fire_in_the_order_they_were_set() {
    let mut timers = Timers::default();
    for name in 0..100 {
        timers.set(Time::from_secs(1), name);
    }
    let fired: Vec<_> = core::iter::from_fn(|| timers.pop_due(Time::MAX)).map(|(_, name)| name).collect();
    assert_eq!(fired, (0..100).collect::<Vec<_>>());
    assert!(timers.is_empty());
}

#[test]
fn slots_are_reused_so_memory_follows_the_timers_set() {
    let mut timers = Timers::default();
    for round in 0..1000 {
        let id = timers.set(Time::from_secs(round), round);
        timers.cancel(id);
    }
    assert_eq!(timers.slots.len(), 1);
}
