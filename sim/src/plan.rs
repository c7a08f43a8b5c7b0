//! Plans: a scenario and a seed made into an explicit list of operations.
//!
//! All that chance decides about *what happens* (who joins when, who talks to whom, which faults strike) is decided here, each by a
//! draw of its own, and written down. What is left to the run are the network's draws. So a plan can be cut: with operations taken
//! out, everything else stays as it was, which is how [shrinking](crate::search::shrink) works.

use std::time::Duration;

use peerwork::Time;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _},
};

use crate::{
    dice::{Dice, Domain},
    net::{region::Regions, weather::Trouble},
    scenario::{Deed, Fault, Fields, Group, Scenario, Timed},
    units,
    world::Conduct,
};

/// A node of a scenario: nodes are numbered through all groups in order.
pub type NodeId = u32;

/// One operation. `N` is how nodes are named: by number in memory, as `group/index` in files.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Op<N = NodeId> {
    /// When, in virtual time.
    #[serde(with = "units::span")]
    pub at: Duration,
    /// What.
    #[serde(flatten)]
    pub act: Act<N>,
}

impl<'de, N: DeserializeOwned> Deserialize<'de> for Op<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut fields = Fields::deserialize(from)?;
        let at = fields.take("at")?.ok_or_else(|| D::Error::missing_field("at"))?;
        Ok(Self { at, act: fields.rest()? })
    }
}

/// As in `5s: crash node=n/3`.
impl<N: Serialize> core::fmt::Display for Op<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:", units::show_duration(self.at))?;
        let fields = serde_json::to_value(&self.act).map_err(|_| core::fmt::Error)?;
        let Some(fields) = fields.as_object() else { return Ok(()) };
        if let Some(what) = fields.get("do").and_then(|what| what.as_str()) {
            write!(f, " {what}")?;
        }
        for (name, value) in fields.iter().filter(|(name, _)| *name != "do") {
            match value.as_str() {
                Some(text) => write!(f, " {name}={text}")?,
                None => write!(f, " {name}={value}")?,
            }
        }
        Ok(())
    }
}

/// What an operation does.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(
    tag = "do",
    rename_all = "kebab-case",
    deny_unknown_fields,
    bound(serialize = "N: Serialize", deserialize = "N: Deserialize<'de>")
)]
pub enum Act<N = NodeId> {
    /// A node starts, and dials some others.
    Join {
        /// Who.
        node: N,
        /// Whom it dials.
        #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
        dials: Vec<N>,
    },
    /// A node shuts down in order.
    Leave {
        /// Who.
        node: N,
    },
    /// A node dies.
    Crash {
        /// Who.
        node: N,
    },
    /// A deed of a node towards another.
    Do {
        /// What.
        deed: Deed,
        /// Who.
        node: N,
        /// To whom.
        to: N,
        /// Bytes.
        #[serde(default)]
        size: u64,
    },
    /// A node's script is called.
    Call {
        /// Who.
        node: N,
        /// What it is told.
        text: String,
    },
    /// Paths between two sides are worse, or blocked.
    Trouble {
        /// One side.
        from: Side<N>,
        /// The other.
        to: Side<N>,
        /// Only from one to the other.
        #[serde(default, rename = "one-way")]
        one_way: bool,
        /// How.
        trouble: Trouble,
        /// For how long.
        #[serde(with = "units::span")]
        lasting: Duration,
    },
    /// Boxes before a node forget their mappings.
    Rebind {
        /// Who.
        node: N,
    },
    /// Boxes before a node restart.
    Reboot {
        /// Who.
        node: N,
        /// With other addresses.
        #[serde(default, rename = "new-address")]
        new_address: bool,
    },
    /// A node changes networks.
    Roam {
        /// Who.
        node: N,
        /// Time without any network.
        #[serde(with = "units::span")]
        lasting: Duration,
    },
    /// A wall clock jumps.
    Clock {
        /// Who.
        node: N,
        /// Seconds forward.
        seconds: i64,
    },
    /// A node sleeps.
    Suspend {
        /// Who.
        node: N,
        /// For how long.
        #[serde(with = "units::span")]
        lasting: Duration,
    },
    /// A node's sockets take nothing.
    Block {
        /// Who.
        node: N,
        /// For how long.
        #[serde(with = "units::span")]
        lasting: Duration,
    },
    /// A node's sockets die, and it listens anew.
    LoseSocket {
        /// Who.
        node: N,
    },
    /// A node misbehaves.
    Turn {
        /// Who.
        node: N,
        /// How.
        conduct: Conduct,
        /// For how long.
        #[serde(with = "units::span")]
        lasting: Duration,
    },
}

/// One side of a path.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side<N = NodeId> {
    /// Everybody.
    All,
    /// All nodes in these regions.
    Regions(Vec<String>),
    /// These nodes.
    Nodes(Vec<N>),
}

impl<N> Side<N> {
    fn map<M>(self, name: &mut impl FnMut(N) -> Result<M, String>) -> Result<Side<M>, String> {
        Ok(match self {
            Self::All => Side::All,
            Self::Regions(regions) => Side::Regions(regions),
            Self::Nodes(nodes) => Side::Nodes(nodes.into_iter().map(name).collect::<Result<_, _>>()?),
        })
    }
}

impl<N> Op<N> {
    /// Whether it is a fault, and not something that a user of the network does.
    pub fn is_fault(&self) -> bool {
        !matches!(self.act, Act::Join { .. } | Act::Leave { .. } | Act::Do { .. } | Act::Call { .. })
    }

    /// The same operation with nodes named otherwise.
    pub fn map<M>(self, name: &mut impl FnMut(N) -> Result<M, String>) -> Result<Op<M>, String> {
        let act = match self.act {
            Act::Join { node, dials } => {
                Act::Join { node: name(node)?, dials: dials.into_iter().map(name).collect::<Result<_, _>>()? }
            }
            Act::Leave { node } => Act::Leave { node: name(node)? },
            Act::Crash { node } => Act::Crash { node: name(node)? },
            Act::Do { deed, node, to, size } => Act::Do { deed, node: name(node)?, to: name(to)?, size },
            Act::Call { node, text } => Act::Call { node: name(node)?, text },
            Act::Trouble { from, to, one_way, trouble, lasting } => {
                Act::Trouble { from: from.map(name)?, to: to.map(name)?, one_way, trouble, lasting }
            }
            Act::Rebind { node } => Act::Rebind { node: name(node)? },
            Act::Reboot { node, new_address } => Act::Reboot { node: name(node)?, new_address },
            Act::Roam { node, lasting } => Act::Roam { node: name(node)?, lasting },
            Act::Clock { node, seconds } => Act::Clock { node: name(node)?, seconds },
            Act::Suspend { node, lasting } => Act::Suspend { node: name(node)?, lasting },
            Act::Block { node, lasting } => Act::Block { node: name(node)?, lasting },
            Act::LoseSocket { node } => Act::LoseSocket { node: name(node)? },
            Act::Turn { node, conduct, lasting } => Act::Turn { node: name(node)?, conduct, lasting },
        };
        Ok(Op { at: self.at, act })
    }
}

impl Op {
    /// The nodes that the operation is about.
    pub fn nodes(&self) -> Vec<NodeId> {
        let mut nodes = Vec::new();
        let collected = self.clone().map(&mut |node: NodeId| {
            nodes.push(node);
            Ok(node)
        });
        debug_assert!(collected.is_ok());
        nodes
    }

    /// Takes these nodes out of it. `None` if nothing is left to do.
    pub fn without(mut self, gone: &dyn Fn(NodeId) -> bool) -> Option<Self> {
        fn cut(side: &mut Side, gone: &dyn Fn(NodeId) -> bool) -> bool {
            let Side::Nodes(nodes) = side else { return true };
            nodes.retain(|node| !gone(*node));
            !nodes.is_empty()
        }
        match &mut self.act {
            Act::Join { node, dials } => {
                dials.retain(|node| !gone(*node));
                (!gone(*node)).then_some(self)
            }
            Act::Trouble { from, to, .. } => (cut(from, gone) && cut(to, gone)).then_some(self),
            _ => (!self.nodes().into_iter().any(gone)).then_some(self),
        }
    }
}

/// Everything that happens in a run, in order of time.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Plan {
    /// The operations.
    pub ops: Vec<Op>,
}

/// Names and numbers of a scenario's nodes.
#[derive(Clone, Debug)]
pub struct Roster {
    groups: Vec<(String, NodeId, u32)>,
}

impl Roster {
    /// The roster of a scenario.
    pub fn new(scenario: &Scenario) -> Self {
        let mut first = 0;
        let groups = scenario.groups.iter().map(|group| {
            let entry = (group.name.clone(), first, group.count);
            first += group.count;
            entry
        });
        Self { groups: groups.collect() }
    }

    /// The number of nodes.
    pub fn len(&self) -> u32 {
        self.groups.last().map_or(0, |(_, first, count)| first + count)
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A node's group, by number, and its index in it.
    pub fn place(&self, node: NodeId) -> (usize, u32) {
        let at = self.groups.partition_point(|(_, first, _)| *first <= node).saturating_sub(1);
        (at, node - self.groups.get(at).map_or(0, |(_, first, _)| *first))
    }

    /// `group/index`.
    pub fn name(&self, node: NodeId) -> String {
        let (group, index) = self.place(node);
        let name = self.groups.get(group).map_or("?", |(name, ..)| name);
        format!("{name}/{index}")
    }

    /// The node of a name.
    pub fn node(&self, name: &str) -> Result<NodeId, String> {
        let unknown = || format!("there is no node `{name}`; nodes are named like `{}/0`", self.example());
        let (group, index) = name.split_once('/').ok_or_else(unknown)?;
        let (_, first, count) = self.groups.iter().find(|(other, ..)| other == group).ok_or_else(unknown)?;
        let index: u32 = index.parse().map_err(|_| unknown())?;
        if index < *count {
            Ok(first + index)
        } else {
            Err(format!("there is no node `{name}`: `{group}` has {count}, counted from 0"))
        }
    }

    fn example(&self) -> &str {
        self.groups.first().map_or("group", |(name, ..)| name)
    }

    /// All nodes of a group.
    pub fn group(&self, name: &str) -> Option<core::ops::Range<NodeId>> {
        self.groups.iter().find(|(other, ..)| other == name).map(|(_, first, count)| *first..first + count)
    }
}

/// Some nodes, as scenarios name them: `all`, a group, `group/3`, `region:eu-west-1` or `region:EU`; then, after a space, how many
/// of them are to be drawn: ` 10%` or ` x5`.
#[derive(Clone, PartialEq, Debug)]
pub struct Who {
    base: Base,
    some: Some_,
}

#[derive(Clone, PartialEq, Debug)]
enum Base {
    All,
    Range(core::ops::Range<NodeId>),
    Region(String),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Some_ {
    All,
    PerMille(u32),
    Count(u32),
}

impl Who {
    /// Reads it.
    pub fn parse(text: &str, roster: &Roster) -> Result<Self, String> {
        let (base, some) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let refused = || {
            format!(
                "`{text}` names no nodes; write `all`, a group such as `{0}`, a node such as `{0}/0`, or \
                 `region:eu-west-1`, and after it, if not all of them are meant, ` 10%` or ` x5`",
                roster.example()
            )
        };
        let base = match base {
            "all" => Base::All,
            _ if base.contains('/') => {
                let node = roster.node(base)?;
                Base::Range(node..node + 1)
            }
            _ => match base.strip_prefix("region:") {
                Some(region) => {
                    Regions::named(region).map_err(|error| error.to_string())?;
                    Base::Region(region.to_owned())
                }
                None => Base::Range(roster.group(base).ok_or_else(refused)?),
            },
        };
        let some = match some.trim() {
            "" => Some_::All,
            some => match (some.strip_suffix('%'), some.strip_prefix('x')) {
                (Some(share), _) => {
                    let share: f64 = share.parse().map_err(|_| refused())?;
                    if !(0.0..=100.0).contains(&share) {
                        return Err(refused());
                    }
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
                    Some_::PerMille((share * 10.0) as u32)
                }
                (_, Some(count)) => Some_::Count(count.parse().map_err(|_| refused())?),
                _ => return Err(refused()),
            },
        };
        Ok(Self { base, some })
    }
}

/// Where each node of a scenario is, as far as regions go; drawn once for a seed.
pub type RegionOf<'a> = &'a dyn Fn(NodeId) -> Option<crate::net::region::Region>;

/// What planning needs to know.
pub struct Planner<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// Its nodes.
    pub roster: Roster,
    /// Where they are.
    pub region_of: RegionOf<'a>,
    /// Draws.
    pub dice: Dice,
    ops: Vec<Op>,
}

impl<'a> Planner<'a> {
    /// A planner for one seed.
    pub fn new(scenario: &'a Scenario, region_of: RegionOf<'a>, dice: Dice) -> Self {
        Self { scenario, roster: Roster::new(scenario), region_of, dice, ops: Vec::new() }
    }

    /// Makes the plan.
    pub fn plan(mut self) -> Result<Plan, String> {
        let mut first = 0;
        for group in &self.scenario.groups {
            self.join(group, first)?;
            first += group.count;
        }
        for n in 0..self.scenario.works.len() {
            self.work(n)?;
        }
        for (n, fault) in self.scenario.faults.iter().enumerate() {
            self.fault(n as u64, fault).map_err(|error| format!("fault {}: {error}", n + 1))?;
        }
        if let Some(swarm) = &self.scenario.swarm {
            let faults = swarm.draw(self.scenario, &self.roster, &mut self.dice)?;
            for (n, fault) in faults.iter().enumerate() {
                self.fault((1 << 32) + n as u64, fault)?;
            }
        }
        // Stable: operations of one moment keep the order in which they were planned.
        self.ops.sort_by_key(|op| op.at);
        let end = self.scenario.duration;
        self.ops.retain(|op| op.at < end);
        Ok(Plan { ops: self.ops })
    }

    fn push(&mut self, at: Duration, act: Act) {
        self.ops.push(Op { at, act });
    }

    fn join(&mut self, group: &Group, first: NodeId) -> Result<(), String> {
        let mut pool = Vec::new();
        for name in &group.bootstrap {
            let range = self.roster.group(name).ok_or_else(|| {
                format!("group `{}` is to bootstrap from `{name}`, but there is no such group", group.name)
            })?;
            pool.extend(range);
        }
        for index in 0..group.count {
            let node = first + index;
            let step = group.join_over.as_nanos() * u128::from(index) / u128::from(group.count.max(1));
            let at = group.join_at + Duration::from_nanos(u64::try_from(step).unwrap_or(u64::MAX));
            let others: Vec<NodeId> = pool.iter().copied().filter(|other| *other != node).collect();
            let dials = self.pick(&others, group.degree, Domain::Plan, u64::from(node), 0);
            match group.churn.clone() {
                None => self.push(at, Act::Join { node, dials }),
                Some(churn) => {
                    let end = self.scenario.duration;
                    for (time, up) in churn.sessions(&mut self.dice, u64::from(node), at, end) {
                        match up {
                            crate::scenario::churn::Turn::Up => {
                                self.push(time, Act::Join { node, dials: dials.clone() })
                            }
                            crate::scenario::churn::Turn::Leaves => self.push(time, Act::Leave { node }),
                            crate::scenario::churn::Turn::Crashes => self.push(time, Act::Crash { node }),
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Draws up to `count` different ones. Whom one draws does not depend on how many others there are to draw for.
    fn pick(&mut self, from: &[NodeId], count: u32, domain: Domain, a: u64, b: u64) -> Vec<NodeId> {
        // Each candidate has a number of its own; the lowest win. Taking one candidate out leaves the others.
        let mut drawn: Vec<(u64, NodeId)> =
            from.iter().map(|node| (self.dice.draw(domain, a, b, u64::from(*node)), *node)).collect();
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if drawn.len() > count {
            drawn.select_nth_unstable(count);
            drawn.truncate(count);
        }
        drawn.sort_unstable();
        drawn.into_iter().map(|(_, node)| node).collect()
    }

    fn members(&self, base: &Base) -> Vec<NodeId> {
        match base {
            Base::All => (0..self.roster.len()).collect(),
            Base::Range(range) => range.clone().collect(),
            Base::Region(name) => {
                let wanted = Regions::named(name).unwrap_or_default();
                let inside = |node: &NodeId| (self.region_of)(*node).is_some_and(|region| wanted.contains(&region));
                (0..self.roster.len()).filter(inside).collect()
            }
        }
    }

    fn nodes(&mut self, who: &str, salt: u64) -> Result<Vec<NodeId>, String> {
        let who = Who::parse(who, &self.roster)?;
        let members = self.members(&who.base);
        let count = match who.some {
            Some_::All => return Ok(members),
            Some_::Count(count) => count,
            Some_::PerMille(share) => {
                u32::try_from((members.len() as u64 * u64::from(share)).div_ceil(1000)).unwrap_or(u32::MAX)
            }
        };
        Ok(self.pick(&members, count, Domain::Swarm, salt, 1))
    }

    fn work(&mut self, number: usize) -> Result<(), String> {
        let work = &self.scenario.works[number];
        if work.every < Duration::from_micros(1) {
            return Err(format!("work {} has `every` = {:?}; it must be at least 1 us", number + 1, work.every));
        }
        let salt = (2 << 32) + number as u64;
        let who = self.nodes(&work.who, salt)?;
        let to = if work.deed == Deed::Call { Vec::new() } else { self.nodes(&work.to, salt + (1 << 16))? };
        let mut at = work.from;
        let end = work.until.unwrap_or(self.scenario.duration).min(self.scenario.duration);
        let mut round = 0;
        while at < end {
            round += 1;
            let n = number as u64;
            let draw = |dice: &mut Dice, what: u64, bound: usize| {
                usize::try_from(dice.below(Domain::Plan, (1 << 40) + n, what, round, bound as u64)).unwrap_or(0)
            };
            let node = who.get(draw(&mut self.dice, 0, who.len())).copied();
            let mut target = to.get(draw(&mut self.dice, 1, to.len())).copied();
            if target == node {
                // Its neighbour instead.
                let at = to.iter().position(|other| Some(*other) == target).unwrap_or(0);
                target = to.get((at + 1) % to.len().max(1)).copied().filter(|other| Some(*other) != node);
            }
            match (work.deed, node, target) {
                (Deed::Call, Some(node), _) => self.push(at, Act::Call { node, text: work.text.clone() }),
                (deed, Some(node), Some(to)) => self.push(at, Act::Do { deed, node, to, size: work.size }),
                _ => {}
            }
            at += work.every;
        }
        Ok(())
    }

    fn side(&mut self, who: &str, salt: u64) -> Result<Side, String> {
        let parsed = Who::parse(who, &self.roster)?;
        Ok(match (&parsed.base, parsed.some) {
            (Base::All, Some_::All) => Side::All,
            (Base::Region(name), Some_::All) => {
                let regions = Regions::named(name).map_err(|error| error.to_string())?;
                Side::Regions(regions.iter().map(ToString::to_string).collect())
            }
            _ => Side::Nodes(self.nodes(who, salt)?),
        })
    }

    fn fault(&mut self, number: u64, timed: &Timed) -> Result<(), String> {
        let (at, lasting) = (timed.at, timed.lasting);
        let needs_time = || {
            if lasting.is_zero() {
                Err("this fault needs `lasting`, such as `lasting = \"10s\"`".to_owned())
            } else {
                Ok(())
            }
        };
        let salt = number * 4;
        match &timed.fault {
            Fault::Partition { who, to, one_way } => {
                needs_time()?;
                let (from, to) = (self.side(who, salt)?, self.side(to, salt + 1)?);
                let trouble = Trouble { blocked: true, ..Trouble::default() };
                self.push(at, Act::Trouble { from, to, one_way: *one_way, trouble, lasting });
            }
            Fault::Trouble { who, to, one_way, trouble } => {
                needs_time()?;
                let (from, to) = (self.side(who, salt)?, self.side(to, salt + 1)?);
                self.push(at, Act::Trouble { from, to, one_way: *one_way, trouble: trouble.clone(), lasting });
            }
            Fault::Crash { who } | Fault::Leave { who } => {
                for node in self.nodes(who, salt)? {
                    let crash = matches!(timed.fault, Fault::Crash { .. });
                    self.push(at, if crash { Act::Crash { node } } else { Act::Leave { node } });
                    if !lasting.is_zero() {
                        let dials = self.first_dials(node);
                        self.push(at + lasting, Act::Join { node, dials });
                    }
                }
            }
            Fault::Rebind { who } => self.each(who, salt, at, |node| Act::Rebind { node })?,
            Fault::Reboot { who, new_address } => {
                let new_address = *new_address;
                self.each(who, salt, at, |node| Act::Reboot { node, new_address })?;
            }
            Fault::Roam { who } => self.each(who, salt, at, |node| Act::Roam { node, lasting })?,
            Fault::Clock { who, seconds } => {
                let seconds = *seconds;
                self.each(who, salt, at, |node| Act::Clock { node, seconds })?;
            }
            Fault::Suspend { who } => {
                needs_time()?;
                self.each(who, salt, at, |node| Act::Suspend { node, lasting })?;
            }
            Fault::Block { who } => {
                needs_time()?;
                self.each(who, salt, at, |node| Act::Block { node, lasting })?;
            }
            Fault::LoseSocket { who } => self.each(who, salt, at, |node| Act::LoseSocket { node })?,
            Fault::Turn { who, conduct } => {
                needs_time()?;
                self.each(who, salt, at, |node| Act::Turn { node, conduct: conduct.clone(), lasting })?;
            }
        }
        Ok(())
    }

    fn each(&mut self, who: &str, salt: u64, at: Duration, act: impl Fn(NodeId) -> Act) -> Result<(), String> {
        for node in self.nodes(who, salt)? {
            self.push(at, act(node));
        }
        Ok(())
    }

    /// Whom a node dialled when it first joined.
    fn first_dials(&self, wanted: NodeId) -> Vec<NodeId> {
        let joined = self.ops.iter().find_map(|op| match &op.act {
            Act::Join { node, dials } if *node == wanted => Some(dials.clone()),
            _ => None,
        });
        joined.unwrap_or_default()
    }
}

/// A point in virtual time.
pub fn time(at: Duration) -> Time {
    Time::ZERO + at
}
