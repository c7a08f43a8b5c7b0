//! Search: many seeds, failures cut down to what matters, runs compared.

pub mod compare;
pub mod repro;
pub mod shrink;
pub mod sweep;

use serde::{Deserialize, Serialize};

use crate::outcome::{Outcome, Violation};

/// How the invariant of a claim that does not hold begins.
const CLAIM: &str = "claim: ";

/// What makes two failures the same failure.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// The rule that was broken; for a panic, its place in the source.
    pub invariant: String,
    /// The group of the node that broke it; empty for the world.
    pub role: String,
}

impl Fingerprint {
    /// That of a broken rule.
    pub fn of(violation: &Violation) -> Self {
        Self { invariant: violation.invariant.clone(), role: violation.role.clone() }
    }

    /// That of the first failure of a run, if it failed: a broken rule, or a claim that does not hold.
    pub fn first(outcome: &Outcome) -> Option<Self> {
        let broken = outcome.violations.first().map(Self::of);
        broken.or_else(|| {
            let claim = outcome.claims.iter().find(|claim| !claim.holds)?;
            Some(Self { invariant: format!("{CLAIM}{}", claim.text), role: String::new() })
        })
    }

    /// Whether it is that this claim does not hold.
    pub(crate) fn is_claim(&self, text: &str) -> bool {
        self.invariant.strip_prefix(CLAIM) == Some(text)
    }

    /// Whether a run failed like this, first or later.
    pub fn is_in(&self, outcome: &Outcome) -> bool {
        outcome.violations.iter().any(|violation| Self::of(violation) == *self)
            || outcome.claims.iter().any(|claim| self.is_claim(&claim.text) && !claim.holds)
    }
}

impl core::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.invariant)?;
        if self.role.is_empty() { Ok(()) } else { write!(f, " in group {}", self.role) }
    }
}
