//! Scenarios in Rust: the same data, written as a chain of calls.
//!
//! ```
//! use peerwork_sim::{Scenario, Tier, secs};
//!
//! let mut s = Scenario::new("halves", secs(20));
//! s.tier(Tier::Null).settling(secs(60));
//! s.group("boot", 2).core();
//! s.group("n", 6).bootstrap("boot").join_over(secs(2));
//! s.every(secs(1)).ask("n", "boot").size(2_000);
//! s.at(secs(5)).partition("n 50%", "all").lasting(secs(3));
//! s.expect_ratio("exam.passed", "exam.held").at_least(1.0);
//! let outcome = s.run(7).unwrap();
//! assert!(outcome.passed(), "{:?}", outcome.violations);
//! ```

use std::time::Duration;

use super::{
    Carrier, Deed, Expect, Fault, Group, Scenario, Settings, Spread, Timed, Work, churn::Churn, degree, settle, size,
    swarm::Swarm,
};
use crate::{
    net::{
        link::{Access, AccessMix},
        nat::{NatMix, NatModel},
        weather::Trouble,
    },
    outcome::Outcome,
    tier::Tier,
    world::Conduct,
};

impl Scenario {
    /// A scenario without nodes, on the wire tier.
    pub fn new(name: &str, duration: Duration) -> Self {
        Self {
            name: name.to_owned(),
            about: String::new(),
            tier: Tier::default(),
            duration,
            settle: settle(),
            seed: 1,
            regions: Spread::Nowhere,
            random_drains: false,
            spurious_wakes: false,
            bugs: std::collections::BTreeSet::new(),
            groups: Vec::new(),
            works: Vec::new(),
            faults: Vec::new(),
            swarm: None,
            expects: Vec::new(),
            probes: Vec::new(),
            probe_seeds: super::fifty(),
        }
    }

    /// What is real.
    pub fn tier(&mut self, tier: Tier) -> &mut Self {
        self.tier = tier;
        self
    }

    /// Virtual time in which work is done and faults may rule.
    pub fn lasting(&mut self, time: Duration) -> &mut Self {
        self.duration = time;
        self
    }

    /// Virtual time after the faults in which everything must come right.
    pub fn settling(&mut self, time: Duration) -> &mut Self {
        self.settle = time;
        self
    }

    /// Nodes are spread over the world, and latencies follow from where they are.
    pub fn world(&mut self) -> &mut Self {
        self.regions = Spread::World;
        self
    }

    /// Draws faults of all classes for each seed.
    pub fn swarm(&mut self) -> &mut Swarm {
        self.swarm.get_or_insert_with(Swarm::default)
    }

    /// Adds nodes. They are named `name/0`, `name/1`, ...
    pub fn group(&mut self, name: &str, count: u32) -> &mut Group {
        self.groups.push(Group::new(name, count));
        self.groups.last_mut().expect("it was just added")
    }

    /// Adds work that is done again and again.
    pub fn every(&mut self, every: Duration) -> Every<'_> {
        Every { scenario: self, every }
    }

    /// Adds a fault at a set time.
    pub fn at(&mut self, at: Duration) -> At<'_> {
        At { scenario: self, at }
    }

    /// Claims something of a counter.
    pub fn expect_count(&mut self, name: &str) -> &mut Expect {
        self.expect(Expect { count: Some(name.to_owned()), ..Expect::default() })
    }

    /// Claims something of one counter divided by another.
    pub fn expect_ratio(&mut self, name: &str, of: &str) -> &mut Expect {
        self.expect(Expect { ratio: Some(name.to_owned()), of: Some(of.to_owned()), ..Expect::default() })
    }

    /// Claims something of a percentile of a distribution; latencies in milliseconds.
    pub fn expect_quantile(&mut self, name: &str, at: f64) -> &mut Expect {
        self.expect(Expect { quantile: Some(name.to_owned()), at: Some(at), ..Expect::default() })
    }

    fn expect(&mut self, expect: Expect) -> &mut Expect {
        self.expects.push(expect);
        self.expects.last_mut().expect("it was just added")
    }

    /// Runs it with a seed.
    pub fn run(&self, seed: u64) -> Result<Outcome, String> {
        Ok(crate::run::run_seed(self, seed, crate::run::RunOptions::default())?.outcome)
    }
}

impl Group {
    /// Nodes with ideal access and public addresses that join at once.
    pub fn new(name: &str, count: u32) -> Self {
        Self {
            name: name.to_owned(),
            count,
            region: None,
            access: AccessMix::default(),
            nat: NatMix::default(),
            carrier: None,
            join_at: Duration::ZERO,
            join_over: Duration::ZERO,
            bootstrap: Vec::new(),
            degree: degree(),
            churn: None,
            conduct: Conduct::default(),
            core: false,
            settings: Settings::default(),
        }
    }

    /// They dial nodes of this group when they start.
    pub fn bootstrap(&mut self, group: &str) -> &mut Self {
        self.bootstrap.push(group.to_owned());
        self
    }

    /// How many they dial.
    pub fn degree(&mut self, degree: u32) -> &mut Self {
        self.degree = degree;
        self
    }

    /// Time from the first to the last that joins.
    pub fn join_over(&mut self, time: Duration) -> &mut Self {
        self.join_over = time;
        self
    }

    /// When the first joins.
    pub fn join_at(&mut self, time: Duration) -> &mut Self {
        self.join_at = time;
        self
    }

    /// They are all in this region.
    pub fn region(&mut self, name: &str) -> &mut Self {
        self.region = Some(name.to_owned());
        self
    }

    /// They all have this access.
    pub fn access(&mut self, access: Access) -> &mut Self {
        self.access = access.into();
        self
    }

    /// Their access is drawn from this mix.
    pub fn access_mix(&mut self, mix: AccessMix) -> &mut Self {
        self.access = mix;
        self
    }

    /// This stands before each of them.
    pub fn nat(&mut self, nat: NatModel) -> &mut Self {
        self.nat = NatMix::only(nat);
        self
    }

    /// What stands before them is drawn from this mix.
    pub fn nat_mix(&mut self, mix: NatMix) -> &mut Self {
        self.nat = mix;
        self
    }

    /// A carrier's box stands before every so many of them.
    pub fn carrier(&mut self, nat: NatModel, subscribers: u32) -> &mut Self {
        self.carrier = Some(Carrier { nat, subscribers, addresses: 1 });
        self
    }

    /// They come and go.
    pub fn churn(&mut self, churn: Churn) -> &mut Self {
        self.churn = Some(churn);
        self
    }

    /// They misbehave, always.
    pub fn conduct(&mut self, conduct: Conduct) -> &mut Self {
        self.conduct = conduct;
        self
    }

    /// No fault of the swarm hits them.
    pub fn core(&mut self) -> &mut Self {
        self.core = true;
        self
    }
}

/// Work being added. From [`Scenario::every`].
pub struct Every<'a> {
    scenario: &'a mut Scenario,
    every: Duration,
}

impl<'a> Every<'a> {
    fn work(self, deed: Deed, who: &str, to: &str) -> &'a mut Work {
        self.scenario.works.push(Work {
            deed,
            who: who.to_owned(),
            to: to.to_owned(),
            every: self.every,
            from: Duration::ZERO,
            until: None,
            size: size(),
            text: String::new(),
        });
        self.scenario.works.last_mut().expect("it was just added")
    }

    /// One of `who` dials one of `to`.
    pub fn dial(self, who: &str, to: &str) -> &'a mut Work {
        self.work(Deed::Dial, who, to)
    }

    /// One of `who` dials one of `to` at the address of another.
    pub fn mistake(self, who: &str, to: &str) -> &'a mut Work {
        self.work(Deed::Mistake, who, to)
    }

    /// One of `who` closes its connections to one of `to`.
    pub fn hang(self, who: &str, to: &str) -> &'a mut Work {
        self.work(Deed::Hang, who, to)
    }

    /// One of `who` asks one of `to`, after dialling it if need be.
    pub fn ask(self, who: &str, to: &str) -> &'a mut Work {
        self.work(Deed::Ask, who, to)
    }

    /// One of `who` sends to one of `to`, after dialling it if need be.
    pub fn send(self, who: &str, to: &str) -> &'a mut Work {
        self.work(Deed::Send, who, to)
    }

    /// One of `who` pings one of `to`.
    pub fn ping(self, who: &str, to: &str) -> &'a mut Work {
        self.work(Deed::Ping, who, to)
    }

    /// The [script](crate::run::Script) of one of `who` is called with `text`.
    pub fn call(self, who: &str, text: &str) -> &'a mut Work {
        let work = self.work(Deed::Call, who, "");
        work.text = text.to_owned();
        work
    }
}

impl Work {
    /// Bytes to send or ask for.
    pub fn size(&mut self, bytes: u64) -> &mut Self {
        self.size = bytes;
        self
    }

    /// When it begins.
    pub fn from(&mut self, at: Duration) -> &mut Self {
        self.from = at;
        self
    }

    /// When it ends.
    pub fn until(&mut self, at: Duration) -> &mut Self {
        self.until = Some(at);
        self
    }
}

/// A fault being added. From [`Scenario::at`].
pub struct At<'a> {
    scenario: &'a mut Scenario,
    at: Duration,
}

impl<'a> At<'a> {
    /// Any fault.
    pub fn fault(self, fault: Fault) -> &'a mut Timed {
        self.scenario.faults.push(Timed { at: self.at, lasting: Duration::ZERO, fault });
        self.scenario.faults.last_mut().expect("it was just added")
    }

    /// Nothing gets through between two sides, for as long as [`Timed::lasting`] says.
    pub fn partition(self, who: &str, to: &str) -> &'a mut Timed {
        self.fault(Fault::Partition { who: who.to_owned(), to: to.to_owned(), one_way: false })
    }

    /// Paths between two sides are worse.
    pub fn trouble(self, who: &str, to: &str, trouble: Trouble) -> &'a mut Timed {
        self.fault(Fault::Trouble { who: who.to_owned(), to: to.to_owned(), one_way: false, trouble })
    }

    /// Nodes die; with [`Timed::lasting`] they return.
    pub fn crash(self, who: &str) -> &'a mut Timed {
        self.fault(Fault::Crash { who: who.to_owned() })
    }

    /// Nodes shut down; with [`Timed::lasting`] they return.
    pub fn leave(self, who: &str) -> &'a mut Timed {
        self.fault(Fault::Leave { who: who.to_owned() })
    }

    /// NATs forget their mappings.
    pub fn rebind(self, who: &str) -> &'a mut Timed {
        self.fault(Fault::Rebind { who: who.to_owned() })
    }

    /// Nodes change networks.
    pub fn roam(self, who: &str) -> &'a mut Timed {
        self.fault(Fault::Roam { who: who.to_owned() })
    }

    /// Nodes sleep.
    pub fn suspend(self, who: &str) -> &'a mut Timed {
        self.fault(Fault::Suspend { who: who.to_owned() })
    }

    /// Nodes misbehave.
    pub fn turn(self, who: &str, conduct: Conduct) -> &'a mut Timed {
        self.fault(Fault::Turn { who: who.to_owned(), conduct })
    }
}

impl Timed {
    /// For how long.
    pub fn lasting(&mut self, time: Duration) -> &mut Self {
        self.lasting = time;
        self
    }
}

impl Expect {
    /// The lowest value that will do.
    pub fn at_least(&mut self, value: f64) -> &mut Self {
        self.at_least = Some(value);
        self
    }

    /// The highest value that will do.
    pub fn at_most(&mut self, value: f64) -> &mut Self {
        self.at_most = Some(value);
        self
    }
}
