//! Faults that lie on paths for a time: partitions, loss, delay, damage.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    link::{LaneModel, Loss},
    network::SiteId,
    region::Region,
};

/// What is wrong with a path, on top of what it is anyway.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Trouble {
    /// Nothing gets through.
    #[serde(skip_serializing_if = "is_default")]
    pub blocked: bool,
    /// Loss instead of the path's own, where it is worse.
    #[serde(skip_serializing_if = "is_default")]
    pub loss: Option<Loss>,
    /// Added one-way delay.
    #[serde(with = "crate::units::span", skip_serializing_if = "is_default")]
    pub delay: Duration,
    /// Added jitter.
    #[serde(with = "crate::units::span", skip_serializing_if = "is_default")]
    pub jitter: Duration,
    /// Added probability of a second copy, in millionths.
    #[serde(skip_serializing_if = "is_default")]
    pub duplicate_ppm: u32,
    /// Added probability of being held back, in millionths.
    #[serde(skip_serializing_if = "is_default")]
    pub reorder_ppm: u32,
    /// Added probability of a flipped bit, in millionths.
    #[serde(skip_serializing_if = "is_default")]
    pub corrupt_ppm: u32,
    /// Added probability of a copy much later, in millionths.
    #[serde(skip_serializing_if = "is_default")]
    pub replay_ppm: u32,
    /// IP packets larger than this vanish.
    #[serde(skip_serializing_if = "is_default")]
    pub mtu: Option<u16>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Trouble {
    fn worsen(&self, model: &mut LaneModel) {
        let path = &mut model.path;
        path.blocked |= self.blocked;
        if let Some(loss) = self.loss
            && path.loss.mean_ppm < loss.mean_ppm
        {
            path.loss = loss;
        }
        model.delay += self.delay;
        path.jitter += self.jitter;
        path.duplicate_ppm = path.duplicate_ppm.saturating_add(self.duplicate_ppm);
        path.reorder_ppm = path.reorder_ppm.saturating_add(self.reorder_ppm);
        path.corrupt_ppm = path.corrupt_ppm.saturating_add(self.corrupt_ppm);
        path.replay_ppm = path.replay_ppm.saturating_add(self.replay_ppm);
        path.mtu = match (path.mtu, self.mtu) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

/// Some sites.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Area {
    /// All of them.
    Everywhere,
    /// Those in these regions.
    Regions(BTreeSet<Region>),
    /// These.
    Sites(BTreeSet<SiteId>),
}

impl Area {
    fn holds(&self, site: SiteId, region: Option<Region>) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Regions(regions) => region.is_some_and(|region| regions.contains(&region)),
            Self::Sites(sites) => sites.contains(&site),
        }
    }
}

/// The troubles of the moment.
#[derive(Clone, Default, Debug)]
pub struct Weather {
    fronts: Vec<(u64, Area, Area, bool, Trouble)>,
    next: u64,
}

impl Weather {
    /// Troubles begin on paths from one area to another, and on the way back too if `both_ways`. Returns their name.
    pub fn begin(&mut self, from: Area, to: Area, both_ways: bool, trouble: Trouble) -> u64 {
        self.next += 1;
        self.fronts.push((self.next, from, to, both_ways, trouble));
        self.next
    }

    /// Troubles end. Those unknown have ended already.
    pub fn end(&mut self, name: u64) {
        self.fronts.retain(|(front, ..)| *front != name);
    }

    /// All troubles end.
    pub fn clear(&mut self) {
        self.fronts.clear();
    }

    pub(crate) fn apply(
        &self,
        from: SiteId,
        to: SiteId,
        from_region: Option<Region>,
        to_region: Option<Region>,
        model: &mut LaneModel,
    ) {
        for (_, one, other, both_ways, trouble) in &self.fronts {
            let there = one.holds(from, from_region) && other.holds(to, to_region);
            let back = *both_ways && one.holds(to, to_region) && other.holds(from, from_region);
            if there || back {
                trouble.worsen(model);
            }
        }
    }
}
