//! Scenarios that come with the simulator, by name. Their files, in `sim/scenarios/`, are also examples of the format.

use std::path::Path;

use super::Scenario;

macro_rules! library {
    ($($name:literal)*) => {
        /// Names and files.
        pub const ALL: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml"))),)*];
    };
}

library! {
    "blackout"
    "carrier"
    "churn"
    "clocks"
    "crashes"
    "crowd"
    "demo"
    "firewall"
    "halves"
    "hostile"
    "idle"
    "limits"
    "long-haul"
    "mtu" "nat64"
    "rebinding"
    "roaming"
    "rough"
    "swarm"
    "wild"
    "world"
}

/// The scenario of this name.
pub fn named(name: &str) -> Result<Scenario, String> {
    match ALL.iter().find(|(other, _)| *other == name) {
        Some((_, text)) => Scenario::from_toml(text),
        None => {
            let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
            let near = names.iter().map(|other| (strsim::damerau_levenshtein(name, other), other)).min();
            let meant = near.filter(|(apart, _)| *apart <= 3).map(|(_, other)| format!(" (did you mean `{other}`?)"));
            Err(format!(
                "there is no scenario `{name}`{}; name one of {}, or a file that ends in .toml",
                meant.unwrap_or_default(),
                names.join(", ")
            ))
        }
    }
}

/// The scenario of this name, or in the file of this name if it has a folder or ends in `.toml`.
pub fn find(name_or_file: &str) -> Result<Scenario, String> {
    let is_file = name_or_file.ends_with(".toml") || name_or_file.contains(['/', '\\']);
    if is_file { Scenario::from_file(Path::new(name_or_file)) } else { named(name_or_file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_of_the_library_is_valid_and_has_its_file_s_name() {
        for (name, _) in ALL {
            let scenario = named(name).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(scenario.name, *name);
            assert!(!scenario.about.is_empty(), "{name} says what it is about");
            // What is written is read the same.
            let text = toml::to_string(&scenario).unwrap();
            assert_eq!(Scenario::from_toml(&text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}")), scenario);
        }
    }

    #[test]
    fn a_misspelt_name_is_told_what_it_may_have_meant() {
        let error = named("halfes").unwrap_err();
        assert!(error.contains("did you mean `halves`?"), "{error}");
    }
}
