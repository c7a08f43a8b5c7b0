//! Scenario files: reading them, and saying what is wrong with them.

use std::{collections::BTreeSet, path::Path, time::Duration};

use peerwork::Config;

use super::{Deed, Expect, Scenario, Spread, sense};
use crate::{
    bugs,
    net::region::Regions,
    outcome::{Claim, Outcome},
    plan::{Roster, Who},
};

/// Nodes of a scenario at most.
pub const NODES: u32 = 1_000_000;

/// Bytes of a scenario file at most.
const FILE: u64 = 4 << 20;

impl Scenario {
    /// Reads a scenario from TOML. The error says where it is and what to do.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| {
            let error = error.to_string().trim_end().to_owned();
            // What people who do not write TOML every day can make use of.
            error
                .replace("invalid type: map, expected a sequence", "this is a list of tables: write [[ ]], not [ ]")
                .replace("expected a sequence", "expected a list, in [ ]")
        })?;
        scenario.validate()?;
        sense::check(&scenario)?;
        Ok(scenario)
    }

    /// Reads a scenario file.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let size = std::fs::metadata(path).map_err(|error| format!("{shown} cannot be read: {error}"))?.len();
        if size > FILE {
            return Err(format!("{shown} has {size} bytes; a scenario has at most {FILE}"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        Self::from_toml(&text).map_err(|error| format!("{shown}: {error}"))
    }

    /// Checks everything that reading does not.
    pub fn validate(&self) -> Result<(), String> {
        let good = |name: &str| {
            !name.is_empty()
                && name.len() <= 64
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        if !good(&self.name) {
            return Err(format!("the name `{}` will not do; use letters, digits, - and _, at most 64", self.name));
        }
        if self.duration.is_zero() || self.duration > Duration::from_secs(365 * 86_400) {
            return Err(format!("`duration` is {:?}, but must be above 0 and at most a year", self.duration));
        }
        if self.settle > Duration::from_secs(86_400) {
            return Err(format!("`settle` is {:?}, but must be at most a day", self.settle));
        }
        if self.groups.is_empty() {
            return Err("there are no nodes; add a [[group]] with a `name` and a `count`".into());
        }
        let mut names = BTreeSet::new();
        let mut count: u64 = 0;
        for group in &self.groups {
            if !good(&group.name) || group.name == "all" {
                return Err(format!(
                    "the group name `{}` will not do; use letters, digits, - and _, not `all`",
                    group.name
                ));
            }
            if !names.insert(&group.name) {
                return Err(format!("there are two groups named `{}`", group.name));
            }
            count += u64::from(group.count);
            if let Some(region) = &group.region {
                Regions::named(region).map_err(|error| format!("group `{}`: {error}", group.name))?;
            }
            let in_group = |error: &dyn core::fmt::Display| format!("group `{}`: {error}", group.name);
            group.nat.validate().map_err(|error| in_group(&error))?;
            if let Some(carrier) = &group.carrier {
                carrier.nat.validate().map_err(|error| in_group(&error))?;
                if !(1..=64).contains(&carrier.addresses) {
                    return Err(in_group(&"`carrier.addresses` must be from 1 to 64"));
                }
                if carrier.subscribers == 0 || carrier.subscribers > 65_000 {
                    return Err(in_group(&"`carrier.subscribers` must be from 1 to 65000"));
                }
            }
            if let Some(churn) = &group.churn {
                churn.validate().map_err(|error| in_group(&error))?;
            }
            let mut config = Config::new(crate::platform());
            group.settings.apply(&mut config);
            config.validate().map_err(|error| in_group(&error))?;
            for other in &group.bootstrap {
                if !self.groups.iter().any(|group| group.name == *other) {
                    return Err(in_group(&format_args!("it bootstraps from `{other}`, which is no group")));
                }
            }
        }
        if count == 0 {
            return Err("there are no nodes: every group has `count = 0`".into());
        }
        if count > u64::from(NODES) {
            return Err(format!("{count} nodes are more than the {NODES} that a scenario may have"));
        }
        if let Spread::Regions(regions) = &self.regions {
            if regions.is_empty() {
                return Err("`regions` is empty; write \"none\", \"world\", or names such as [\"eu-west-1\"]".into());
            }
            for name in regions {
                Regions::named(name).map_err(|error| format!("`regions`: {error}"))?;
            }
        }
        let roster = Roster::new(self);
        for (n, work) in self.works.iter().enumerate() {
            let here = |error: String| format!("work {}: {error}", n + 1);
            Who::parse(&work.who, &roster).map_err(here)?;
            if work.deed != Deed::Call {
                if work.to.is_empty() {
                    return Err(here("`to` is missing: say to whom this is done, such as `to = \"all\"`".into()));
                }
                Who::parse(&work.to, &roster).map_err(here)?;
            }
            if work.deed == Deed::Ask && work.size > 1 << 20 {
                return Err(here(format!(
                    "`size` is {}; an answer has at most 1 MiB, use `do = \"send\"` for more",
                    work.size
                )));
            }
            if work.every < Duration::from_micros(1) {
                return Err(here(format!("`every` is {:?}, but must be at least 1us", work.every)));
            }
            let rounds = self.duration.as_nanos() / work.every.as_nanos().max(1);
            if rounds > 10_000_000 {
                return Err(here(format!("`every` = {:?} makes {rounds} rounds; 10 million are the most", work.every)));
            }
        }
        for expect in &self.expects {
            expect.validate()?;
        }
        for bug in &self.bugs {
            if !bugs::NAMES.contains(&bug.as_str()) {
                return Err(format!("there is no bug `{bug}` to plant; there are {}", bugs::NAMES.join(", ")));
            }
        }
        if let Some(swarm) = &self.swarm
            && !(0.0..=1000.0).contains(&swarm.intensity)
        {
            return Err(format!("`swarm.intensity` is {}, but must be from 0 to 1000", swarm.intensity));
        }
        for (n, timed) in self.faults.iter().enumerate() {
            for who in timed.fault.parties() {
                Who::parse(who, &roster).map_err(|error| format!("fault {}: {error}", n + 1))?;
            }
        }
        for probe in &self.probes {
            let fits = |name: &str| match probe.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == probe,
            };
            let names = peerwork::Probe::ALL.iter().map(|probe| probe.name());
            if !names.clone().any(fits) {
                let near = names.min_by_key(|name| strsim::damerau_levenshtein(name, probe)).unwrap_or_default();
                return Err(format!("`probes`: no probe is named `{probe}`; did you mean `{near}`?"));
            }
        }
        Ok(())
    }

    /// The probes that a sweep must reach, out of the whole catalogue.
    pub fn required_probes(&self) -> Vec<&'static str> {
        let wanted = |name: &str| {
            self.probes.iter().any(|probe| match probe.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == probe,
            })
        };
        peerwork::Probe::ALL.iter().map(|probe| probe.name()).filter(|name| wanted(name)).collect()
    }
}

impl Expect {
    fn validate(&self) -> Result<(), String> {
        let kinds = [&self.count, &self.ratio, &self.quantile].iter().filter(|kind| kind.is_some()).count();
        if kinds != 1 {
            return Err(
                "an [[expect]] has exactly one of `count`, `ratio` (with `of`) and `quantile` (with `at`)".into()
            );
        }
        if self.ratio.is_some() != self.of.is_some() {
            return Err("an [[expect]] with `ratio` also needs `of`, and only that".into());
        }
        if self.quantile.is_some() && !self.at.is_some_and(|at| (0.0..=100.0).contains(&at)) {
            return Err("an [[expect]] with `quantile` also needs `at`, from 0 to 100".into());
        }
        if self.quantile.is_none() && self.at.is_some() {
            return Err("an [[expect]] has `at`, the percentile, only with `quantile`".into());
        }
        if let (Some(least), Some(most)) = (self.at_least, self.at_most)
            && least > most
        {
            return Err(format!("an [[expect]] with `at-least` = {least} and `at-most` = {most} can never hold"));
        }
        if [self.at_least, self.at_most].into_iter().flatten().any(f64::is_nan) {
            return Err("`at-least` and `at-most` of an [[expect]] must be numbers".into());
        }
        if self.at_least.is_none() && self.at_most.is_none() {
            return Err("an [[expect]] needs `at-least` or `at-most`".into());
        }
        Ok(())
    }

    /// Looks whether it came true.
    pub(crate) fn judge(&self, outcome: &Outcome) -> Claim {
        let count = |name: &str| outcome.counters.get(name).copied().unwrap_or(0);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "for people"
        )]
        let (what, value, unit) = match (&self.count, &self.ratio, &self.of, &self.quantile) {
            (Some(name), ..) => {
                let unit = if outcome.counters.contains_key(name) { "" } else { " (never counted)" };
                (name.clone(), Some(count(name) as f64), unit)
            }
            (_, Some(name), Some(of), _) => {
                let whole = count(of);
                (format!("{name} / {of}"), (whole > 0).then(|| count(name) as f64 / whole as f64), "")
            }
            (.., Some(name)) => {
                let at = self.at.unwrap_or(50.0);
                let histogram = outcome.histograms.get(name).filter(|histogram| histogram.count > 0);
                let value = histogram.map(|histogram| histogram.quantile((at * 10.0) as u32) as f64 / 1000.0);
                (format!("p{at} of {name}"), value, " ms")
            }
            _ => (String::new(), None, ""),
        };
        let mut text = what;
        if let Some(least) = self.at_least {
            text += &format!(" >= {least}{unit}");
        }
        if let Some(most) = self.at_most {
            text += &format!(" <= {most}{unit}");
        }
        let holds = value.is_some_and(|value| {
            self.at_least.is_none_or(|least| value >= least) && self.at_most.is_none_or(|most| value <= most)
        });
        let value = value.map_or_else(|| "nothing measured".to_owned(), |value| format!("{value:.4}{unit}"));
        Claim { text, holds, value }
    }
}
