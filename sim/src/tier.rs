//! How much of a node is real.

use core::fmt;

use peerwork::{Config, Platform};
use serde::{Deserialize, Serialize};

use crate::null;

/// What a world's nodes are made of. The same scenario runs on each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Tier {
    /// Every byte as on a real network: QUIC with TLS, reproducible to the last one. For up to some 2,000 nodes.
    #[default]
    Wire,
    /// Real QUIC, without cryptography; see [`null`]. For up to some 20,000 nodes.
    Null,
}

impl Tier {
    /// All tiers, the most real first.
    pub const ALL: [Self; 2] = [Self::Wire, Self::Null];

    /// What nodes of this tier compute with. Call it once for many nodes: they share it.
    pub fn platform(self) -> Platform {
        match self {
            Self::Wire => crate::platform(),
            Self::Null => null::platform(),
        }
    }

    /// The default configuration of a node of this tier.
    pub fn config(self) -> Config {
        Config::new(self.platform())
    }

    /// The name in scenario files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Null => "null",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_is_written_as_its_name() {
        for tier in Tier::ALL {
            let json = serde_json::to_string(&tier).unwrap();
            assert_eq!(json, format!("\"{tier}\""));
            assert_eq!(serde_json::from_str::<Tier>(&json).unwrap(), tier);
        }
    }
}
