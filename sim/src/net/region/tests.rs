use peerwork::Time;

use super::*;

#[test]
fn names_are_those_of_the_tables_and_read_back() {
    // `Regions::new` compares the tables' heads with the names.
    let regions = Regions::new();
    assert_eq!(Regions::all().count(), 33);
    for region in Regions::all() {
        assert_eq!(region.to_string().parse(), Ok(region));
        let json = serde_json::to_string(&region).unwrap();
        assert_eq!(serde_json::from_str::<Region>(&json).unwrap(), region);
    }
    assert_eq!(Region::EU_WEST_1.name(), "eu-west-1");
    assert_eq!(Region::US_WEST_2.index(), 32);
    assert_eq!(regions.rtt_p50(Region::AF_SOUTH_1, Region::AP_EAST_1), 347_600);
    assert_eq!(regions.rtt_p90(Region::AF_SOUTH_1, Region::AF_SOUTH_1), 11_900);
}

#[test]
fn unknown_names_are_refused_with_near_ones() {
    let error = "eu-west-9".parse::<Region>().unwrap_err();
    assert!(error.near.contains(&"`eu-west-1`".to_owned()), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
    let error = Regions::named("ASAI").unwrap_err();
    assert!(error.to_string().contains("`ASIA`"), "{error}");
    assert!(serde_json::from_str::<Region>("\"us-esat-1\"").unwrap_err().to_string().contains("`us-east-1`"));
}

#[test]
fn groups_and_beginnings_stand_for_regions() {
    use std::collections::BTreeSet;
    assert_eq!(Regions::named("sa-east-1").unwrap(), [Region::SA_EAST_1]);
    assert_eq!(Regions::named("eu-west").unwrap(), [Region::EU_WEST_1, Region::EU_WEST_2, Region::EU_WEST_3]);
    assert_eq!(Regions::named("us").unwrap().len(), 4);
    assert!(Regions::named("eu-w").is_err() && Regions::named("").is_err());
    let continents = ["EU", "AMERICA", "ASIA", "OCEANIA", "MIDDLE_EAST", "AFRICA"];
    let members: Vec<_> = continents.iter().flat_map(|name| Regions::named(name).unwrap()).collect();
    assert_eq!(members.len(), Region::COUNT);
    assert_eq!(members.into_iter().collect::<BTreeSet<_>>(), Regions::all().collect());
}

#[test]
fn malformed_tables_are_refused_by_line() {
    let good = include_str!("../../../data/rtt_p50.csv");
    assert!(parse(good).is_ok());
    assert_eq!(parse(""), Err(1));
    assert_eq!(parse(&good.replace("4.5,", "4.5x,")), Err(2));
    assert_eq!(parse(good.rsplit_once(',').unwrap().0), Err(34));
    assert_eq!(
        (micros("4.5"), micros("12"), micros("0.125"), micros("1.0001")),
        (Some(4_500), Some(12_000), Some(125), None)
    );
}

/// How far median and 90th percentile of sampled round trips are from the tables (means of both directions), in
/// microseconds, for all pairs of regions, together with the tables' figures.
fn sampled(dice: &mut Dice, samples: u64) -> Vec<[(f64, f64); 2]> {
    let regions = Regions::new();
    let mut rtts = Vec::new();
    let mut found = Vec::new();
    for a in Regions::all() {
        for b in Regions::all().filter(|b| *b >= a) {
            let between = regions.between(a, b);
            let (x, y) = (1_000 + a.index() as u64, 2_000 + b.index() as u64);
            let (mut there, mut back) = (Spell::default(), Spell::default());
            rtts.clear();
            for n in 0..samples {
                let now = Time::ZERO + SPELL * n as u32;
                let ways = between.one_way(dice, &mut there, x, y, now) + between.one_way(dice, &mut back, y, x, now);
                assert!(ways >= between.least() * 2);
                let draw = u128::from(dice.draw(Domain::Jitter, x, y, n));
                let jitters = ((draw >> 32) + (draw & 0xffff_ffff)) * between.jitter().as_nanos();
                rtts.push((ways.as_nanos() + (jitters >> 32)) as u64);
            }
            rtts.sort_unstable();
            let off = |per_mille: u64, table: fn(&Regions, Region, Region) -> u32| {
                let table = f64::from(table(&regions, a, b) + table(&regions, b, a)) / 2.0;
                (rtts[(samples * per_mille / 1000) as usize] as f64 / 1_000.0 - table, table)
            };
            found.push([off(500, Regions::rtt_p50), off(900, Regions::rtt_p90)]);
        }
    }
    assert_eq!(found.len(), 33 * 34 / 2);
    found
}

/// With weather spread evenly over its quantiles: within 0.1 % and 5 % of the difference Δ between the tables.
#[test]
fn round_trips_have_the_quantiles_of_both_tables_for_all_pairs() {
    struct Even(u64);
    impl crate::dice::Decide for Even {
        fn draw(&mut self, domain: Domain, _: u64, _: u64, n: u64) -> u64 {
            // Both directions ask for the same draw.
            let golden = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            if domain == Domain::Weather {
                return golden;
            }
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0
        }
    }
    for [(off50, p50), (off90, p90)] in sampled(&mut Dice::from_source(Box::new(Even(1))), 2_000) {
        let swing = p90 - p50;
        assert!(off50.abs() <= 0.001 * p50 + 0.05 * swing, "median {p50} us: off by {off50}, swing {swing}");
        assert!(off90.abs() <= 0.001 * p90 + 0.05 * swing, "p90 {p90} us: off by {off90}, swing {swing}");
    }
}

/// Drawn 2000 times for each pair: each within four standard errors, which are 3 % of Δ for the median and 7.5 % for
/// the 90th percentile, and on average over all pairs within 2 % and 4 % of Δ: jitter blurs the kinks of the weather's
/// quantiles.
#[test]
fn sampled_round_trips_match_both_tables_for_all_pairs() {
    let (mut sum50, mut sum90) = (0.0, 0.0);
    let all = sampled(&mut Dice::from_seed(33), 2_000);
    for [(off50, p50), (off90, p90)] in &all {
        let swing = p90 - p50;
        assert!(off50.abs() <= 0.001 * p50 + 0.12 * swing, "median {p50} us: off by {off50}, swing {swing}");
        assert!(off90.abs() <= 0.001 * p90 + 0.3 * swing, "p90 {p90} us: off by {off90}, swing {swing}");
        sum50 += off50 / swing;
        sum90 += off90 / swing;
    }
    let (mean50, mean90) = (sum50 / all.len() as f64, sum90 / all.len() as f64);
    assert!(mean50.abs() < 0.02 && mean90.abs() < 0.04, "{mean50} {mean90}");
}

#[test]
fn the_least_delay_bounds_how_far_regions_may_run_apart() {
    let regions = Regions::new();
    let lookahead = regions.lookahead();
    assert!(lookahead > Duration::from_micros(500) && lookahead < Duration::from_millis(10), "{lookahead:?}");
    for a in Regions::all() {
        for b in Regions::all() {
            assert!(regions.between(a, b).least() > Duration::from_micros(100), "{a} {b}");
            assert_eq!(regions.between(a, b), regions.between(b, a));
        }
    }
}

#[test]
fn weather_follows_from_time_and_ends_alone() {
    let between = Regions::new().between(Region::EU_WEST_1, Region::US_EAST_1);
    let mut dice = Dice::from_seed(1);
    let mut kept = Spell::default();
    let mut changes = 0;
    let mut before = Duration::ZERO;
    for n in 0..1_000 {
        let now = Time::from_millis(n * 100);
        let fresh = between.one_way(&mut dice, &mut Spell::default(), 1, 2, now);
        assert_eq!(between.one_way(&mut dice, &mut kept, 1, 2, now), fresh);
        changes += u32::from(fresh != before);
        before = fresh;
    }
    assert!((10..=11).contains(&changes), "{changes} spells in 100 s");
}

#[test]
fn shares_come_true() {
    assert_eq!(WEIGHTS.iter().sum::<u32>(), 1_000);
    let mix = RegionMix::peers();
    let mut dice = Dice::from_seed(5);
    let picks: Vec<_> = (0..100_000).filter_map(|label| mix.pick(&mut dice, label)).collect();
    for (region, weight) in Regions::all().zip(WEIGHTS) {
        let found = picks.iter().filter(|pick| **pick == region).count();
        assert!(found.abs_diff(*weight as usize * 100) < 500, "{region}: {found}");
    }
    assert_eq!(RegionMix::of([]).pick(&mut dice, 1), None);
    assert_eq!(
        RegionMix::of([(Region::EU_WEST_1, 0), (Region::EU_WEST_2, 1)]).pick(&mut dice, 1),
        Some(Region::EU_WEST_2)
    );
    let text = serde_json::to_string(&mix).unwrap();
    assert_eq!(serde_json::from_str::<RegionMix>(&text).unwrap(), mix);
}
