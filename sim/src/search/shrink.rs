//! Shrinking: a failing run cut down to what it takes to fail in the same way.
//!
//! 1. Everything after the failure goes.
//! 2. Operations go, in large blocks first, then smaller ones, until none can go alone (delta debugging, Zeller 2002).
//! 3. Nodes go, with all that names them.
//! 4. Models are made simple: no NAT, ideal access, no regions, tidy drains, small sizes.
//! 5. Random loss is replaced by a list of lost packets, and the list is cut.
//! 6. Time is shortened: pauses between operations, then the end.
//!
//! Each candidate must fail with the same [`Fingerprint`]. It all works because draws are named, not numbered: what is left behaves
//! as it did before.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{CLAIM, Fingerprint, repro::Repro};
use crate::{
    net::{
        link::{AccessMix, Drops, PacketKey},
        nat::NatMix,
    },
    outcome::Outcome,
    plan::{Act, Op, Plan},
    run::{RunOptions, Scripts, plan, run},
    scenario::{Scenario, Spread},
};

/// How much to try.
pub struct ShrinkOptions<'a> {
    /// Runs at most.
    pub runs: u32,
    /// Wall-clock time at most.
    pub time: Duration,
    /// Application scripts of nodes.
    pub scripts: Option<Scripts<'a>>,
    /// Is told runs so far and operations left.
    pub progress: &'a dyn Fn(u32, usize),
}

impl Default for ShrinkOptions<'_> {
    fn default() -> Self {
        Self { runs: 5_000, time: Duration::from_secs(300), scripts: None, progress: &|_, _| {} }
    }
}

/// What is left.
pub struct Shrunk {
    /// The failure, small.
    pub repro: Repro,
    /// Operations before.
    pub before: usize,
    /// Runs that it took.
    pub runs: u32,
}

#[derive(Clone)]
struct Case {
    scenario: Scenario,
    ops: Vec<Op>,
    lost: Option<BTreeSet<PacketKey>>,
}

struct Shrinker<'a> {
    seed: u64,
    target: Fingerprint,
    options: &'a ShrinkOptions<'a>,
    start: Instant,
    runs: u32,
    best: Case,
    detail: String,
    /// When the best case failed.
    failed_at: Duration,
}

/// Shrinks the failure of a seed.
pub fn shrink(scenario: &Scenario, seed: u64, options: &ShrinkOptions<'_>) -> Result<Shrunk, String> {
    let ops = plan(scenario, seed)?.ops;
    shrink_case(scenario, ops, None, seed, None, options)
}

/// Shrinks a repro further.
pub fn shrink_repro(repro: &Repro, options: &ShrinkOptions<'_>) -> Result<Shrunk, String> {
    let target = Some(repro.fingerprint.clone());
    shrink_case(&repro.scenario, repro.plan()?.ops, repro.lost.clone(), repro.seed, target, options)
}

fn shrink_case(
    scenario: &Scenario,
    ops: Vec<Op>,
    lost: Option<BTreeSet<PacketKey>>,
    seed: u64,
    target: Option<Fingerprint>,
    options: &ShrinkOptions<'_>,
) -> Result<Shrunk, String> {
    let mut case = Case { scenario: scenario.clone(), ops, lost };
    // The plan has everything that happens.
    case.scenario.works.clear();
    case.scenario.faults.clear();
    case.scenario.swarm = None;
    let before = case.ops.len();
    let outcome = try_case(&case, seed, false, options.scripts)?.0;
    let target = match target {
        Some(target) if target.is_in(&outcome) => target,
        Some(target) => return Err(format!("it no longer fails with: {target}")),
        None => Fingerprint::first(&outcome).ok_or("the run passes: there is nothing to shrink")?,
    };
    // Claims are about the whole; when a rule is broken, nothing but the rule matters.
    if !target.invariant.starts_with(CLAIM) {
        case.scenario.expects.clear();
    }
    let mut shrinker = Shrinker {
        seed,
        target,
        options,
        start: Instant::now(),
        runs: 1,
        best: case,
        detail: String::new(),
        failed_at: Duration::ZERO,
    };
    shrinker.note(&outcome);
    shrinker.shrink();
    let Shrinker { target, runs, best, detail, .. } = shrinker;
    let plan = Plan { ops: best.ops };
    let repro = Repro::new(&best.scenario, &plan, seed, best.lost, target, detail);
    Ok(Shrunk { repro, before, runs })
}

fn try_case(
    case: &Case,
    seed: u64,
    list: bool,
    scripts: Option<Scripts<'_>>,
) -> Result<(Outcome, BTreeSet<PacketKey>), String> {
    let drops = match &case.lost {
        Some(lost) => Some(Drops::Exactly(lost.clone())),
        None => list.then(|| Drops::Recorded(BTreeSet::new())),
    };
    let options = RunOptions { drops, scripts, ..RunOptions::default() };
    let finished = run(&case.scenario, &Plan { ops: case.ops.clone() }, seed, options)?;
    Ok((finished.outcome, finished.lost))
}

impl Shrinker<'_> {
    fn shrink(&mut self) {
        if self.target.invariant.starts_with(CLAIM) {
            // A network that does nothing fails every claim that something be done: only what goes wrong may go.
            self.cut_faults();
            self.simplify_places();
            self.list_losses();
            self.cut_losses();
            return;
        }
        self.cut_after_failure();
        self.simplify();
        loop {
            let before = (self.best.ops.len(), self.best.lost.as_ref().map(BTreeSet::len));
            self.cut_ops();
            self.cut_nodes();
            self.cut_dials();
            self.simplify();
            self.list_losses();
            self.cut_losses();
            if before == (self.best.ops.len(), self.best.lost.as_ref().map(BTreeSet::len)) || self.spent() {
                break;
            }
        }
        self.shorten();
        self.cut_after_failure();
        self.drop_groups();
    }

    fn spent(&self) -> bool {
        self.runs >= self.options.runs || self.start.elapsed() > self.options.time
    }

    fn note(&mut self, outcome: &Outcome) {
        if let Some(found) = outcome.violations.iter().find(|violation| Fingerprint::of(violation) == self.target) {
            self.detail = format!("{}: {}", found.node, found.detail);
            self.failed_at = Duration::from_nanos(found.at_ns);
        } else if let Some(claim) =
            outcome.claims.iter().find(|claim| self.target.is_claim(&claim.text) && !claim.holds)
        {
            self.detail = format!("{}: {}", claim.text, claim.value);
            self.failed_at = self.best.scenario.duration;
        }
    }

    /// Takes a candidate if it fails in the same way.
    fn accept(&mut self, case: Case) -> bool {
        if self.spent() || case.scenario.validate().is_err() {
            return false;
        }
        self.runs += 1;
        // A run that breaks another rule first goes on: the one looked for may come later.
        let Ok((outcome, _)) = try_case(&case, self.seed, false, self.options.scripts) else {
            return false;
        };
        let same = self.target.is_in(&outcome);
        if same {
            self.best = case;
            self.note(&outcome);
        }
        (self.options.progress)(self.runs, self.best.ops.len());
        same
    }

    fn with(&self, change: impl FnOnce(&mut Case)) -> Case {
        let mut case = self.best.clone();
        change(&mut case);
        case
    }

    fn cut_after_failure(&mut self) {
        let at = self.failed_at;
        if at < self.best.scenario.duration {
            let case = self.with(|case| {
                case.ops.retain(|op| op.at <= at);
                case.scenario.duration = at + Duration::from_millis(1);
                case.scenario.settle = Duration::ZERO;
            });
            if !self.accept(case) {
                let case = self.with(|case| case.ops.retain(|op| op.at <= at));
                self.accept(case);
            }
        }
    }

    /// Delta debugging: takes out blocks of items, halving their size when none can go.
    fn reduce<T: Clone>(&mut self, items: impl Fn(&Case) -> Vec<T>, put: impl Fn(&mut Case, Vec<T>)) {
        let mut block = items(&self.best).len().div_ceil(2);
        while block > 0 && !self.spent() {
            let mut at = 0;
            let mut any = false;
            loop {
                let all = items(&self.best);
                if at >= all.len() || self.spent() {
                    break;
                }
                let end = (at + block).min(all.len());
                let rest: Vec<T> = all[..at].iter().chain(&all[end..]).cloned().collect();
                let case = self.with(|case| put(case, rest));
                if self.accept(case) {
                    any = true;
                } else {
                    at = end;
                }
            }
            if block == 1 && !any {
                break;
            }
            block = if any && block == 1 { 1 } else { block / 2 };
        }
    }

    fn cut_ops(&mut self) {
        // All faults at once is the best first guess.
        let case = self.with(|case| case.ops.retain(|op| !op.is_fault()));
        if case.ops.len() < self.best.ops.len() {
            self.accept(case);
        }
        self.reduce(|case| case.ops.clone(), |case, ops| case.ops = ops);
    }

    /// The same, for faults alone.
    fn cut_faults(&mut self) {
        self.reduce(
            |case| case.ops.iter().filter(|op| op.is_fault()).cloned().collect(),
            |case, faults: Vec<Op>| {
                case.ops.retain(|op| !op.is_fault());
                case.ops.extend(faults);
                case.ops.sort_by_key(|op| op.at);
            },
        );
    }

    fn cut_nodes(&mut self) {
        let nodes: BTreeSet<u32> = self.best.ops.iter().flat_map(Op::nodes).collect();
        for node in nodes {
            let case = self.with(|case| {
                case.ops = case.ops.drain(..).filter_map(|op| op.without(&|other| other == node)).collect();
            });
            if case.ops != self.best.ops {
                self.accept(case);
            }
        }
    }

    /// Nodes dial fewer others when they join.
    fn cut_dials(&mut self) {
        for n in 0..self.best.ops.len() {
            let Some(Act::Join { dials, .. }) = self.best.ops.get(n).map(|op| op.act.clone()) else { continue };
            for keep in (0..=1_usize).chain(dials.len().checked_sub(1)) {
                if keep >= dials.len() {
                    continue;
                }
                let case = self.with(|case| {
                    if let Act::Join { dials, .. } = &mut case.ops[n].act {
                        dials.truncate(keep);
                    }
                });
                if self.accept(case) {
                    break;
                }
            }
        }
    }

    /// Makes places and paths simple.
    fn simplify_places(&mut self) {
        self.try_changes(&[
            |case| case.scenario.regions = Spread::Nowhere,
            |case| case.scenario.groups.iter_mut().for_each(|group| group.region = None),
            |case| case.scenario.groups.iter_mut().for_each(|group| group.nat = NatMix::default()),
            |case| case.scenario.groups.iter_mut().for_each(|group| group.carrier = None),
            |case| case.scenario.groups.iter_mut().for_each(|group| group.access = AccessMix::default()),
        ]);
    }

    fn simplify(&mut self) {
        self.simplify_places();
        self.try_changes(&[
            |case| case.scenario.groups.iter_mut().for_each(|group| group.churn = None),
            |case| {
                case.scenario.groups.iter_mut().for_each(|group| group.settings = crate::scenario::Settings::default())
            },
            |case| case.scenario.random_drains = false,
            |case| case.scenario.spurious_wakes = false,
            |case| {
                for op in &mut case.ops {
                    if let Act::Do { size, .. } = &mut op.act {
                        *size = (*size).min(1);
                    }
                }
            },
        ]);
    }

    fn try_changes(&mut self, changes: &[fn(&mut Case)]) {
        for change in changes {
            let case = self.with(change);
            if case.scenario != self.best.scenario || case.ops != self.best.ops {
                self.accept(case);
            }
        }
    }

    /// Replaces chance by a list, if chance loses anything at all.
    fn list_losses(&mut self) {
        if self.best.lost.is_some() || self.spent() {
            return;
        }
        self.runs += 1;
        let Ok((_, lost)) = try_case(&self.best, self.seed, true, self.options.scripts) else { return };
        if lost.is_empty() {
            return;
        }
        let none = self.with(|case| case.lost = Some(BTreeSet::new()));
        if !self.accept(none) {
            let same = self.with(|case| case.lost = Some(lost));
            self.accept(same);
        }
    }

    fn cut_losses(&mut self) {
        if self.best.lost.as_ref().is_none_or(BTreeSet::is_empty) {
            return;
        }
        self.reduce(
            |case| case.lost.iter().flatten().copied().collect(),
            |case, lost: Vec<PacketKey>| case.lost = Some(lost.into_iter().collect()),
        );
    }

    /// Makes pauses between operations, and the end, shorter.
    fn shorten(&mut self) {
        for n in 0..self.best.ops.len() {
            let before = n.checked_sub(1).and_then(|n| self.best.ops.get(n)).map_or(Duration::ZERO, |op| op.at);
            let Some(gap) = self.best.ops.get(n).map(|op| op.at.saturating_sub(before)) else { break };
            for shorter in [Duration::ZERO, Duration::from_secs(1), gap / 2] {
                if shorter >= gap {
                    continue;
                }
                let case = self.with(|case| {
                    for op in &mut case.ops[n..] {
                        op.at -= gap - shorter;
                    }
                });
                if self.accept(case) {
                    break;
                }
            }
        }
        let last = self.best.ops.last().map_or(Duration::ZERO, |op| op.at);
        for end in [last + Duration::from_millis(1), last + Duration::from_secs(5), last + Duration::from_secs(60)] {
            if end < self.best.scenario.duration {
                let case = self.with(|case| case.scenario.duration = end);
                if self.accept(case) {
                    break;
                }
            }
        }
        let case = self.with(|case| case.scenario.settle = Duration::ZERO);
        if case.scenario != self.best.scenario {
            self.accept(case);
        }
    }

    /// Groups behind the last one that is needed are named nowhere any more.
    fn drop_groups(&mut self) {
        while self.best.scenario.groups.len() > 1 {
            let first: u32 = self.best.scenario.groups.iter().rev().skip(1).map(|group| group.count).sum();
            if self.best.ops.iter().flat_map(Op::nodes).any(|node| node >= first) {
                break;
            }
            let case = self.with(|case| {
                let gone = case.scenario.groups.pop().map(|group| group.name);
                for group in &mut case.scenario.groups {
                    group.bootstrap.retain(|name| Some(name) != gone.as_ref());
                }
            });
            if !self.accept(case) {
                break;
            }
        }
    }
}
