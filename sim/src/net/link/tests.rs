use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::dice::Decide;

/// Benign answers, counted.
struct Counting(Arc<AtomicU64>);

impl Decide for Counting {
    fn draw(&mut self, _: Domain, _: u64, _: u64, _: u64) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed);
        0
    }
}

fn counting() -> (Dice, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    (Dice::from_source(Box::new(Counting(Arc::clone(&count)))), count)
}

fn packet(at_us: u64, ordinal: u32, len: usize) -> PacketMeta {
    PacketMeta { from: 1, to: 2, now: Time::from_nanos(at_us * 1_000), len, ipv6: false, ecn: Some(Ecn::Ect0), ordinal }
}

/// Sends packets, whose times must not fall, over one lane.
fn send_all(seed: u64, model: &LaneModel, drops: &mut Drops, rate: Rate, packets: &[PacketMeta]) -> Vec<Carried> {
    let (mut dice, mut lane, mut up) = (Dice::from_seed(seed), Lane::default(), Queue::new(rate));
    packets.iter().map(|packet| lane.carry(&mut dice, model, &mut up, drops, *packet)).collect()
}

/// Packets with these gaps, in microseconds; those without a gap get ordinals.
fn spaced(gaps: &[u64]) -> Vec<PacketMeta> {
    let (mut at, mut ordinal) = (0, 0);
    let mut packets = Vec::new();
    for gap in gaps {
        at += gap;
        ordinal = if *gap == 0 && !packets.is_empty() { ordinal + 1 } else { 0 };
        packets.push(packet(at, ordinal, 1_200));
    }
    packets
}

fn rough() -> LaneModel {
    let path = Path {
        jitter: Duration::from_millis(20),
        loss: Loss { mean_ppm: 50_000, burst: 4 },
        duplicate_ppm: 50_000,
        corrupt_ppm: 50_000,
        replay_ppm: 50_000,
        ..Path::default()
    };
    let regions = Regions::new();
    let [wifi, phone] = ["bad-wifi", "4g"].map(|name| Access::named(name).unwrap());
    LaneModel { path, ..LaneModel::default() }.joining(
        &wifi,
        &phone,
        Some((&regions, Region::EU_WEST_1, Region::US_EAST_1)),
    )
}

#[test]
fn an_ideal_lane_draws_nothing_and_takes_no_time() {
    let (mut dice, draws) = counting();
    let ideal = Access::ideal();
    let model = LaneModel::default().joining(&ideal, &ideal, None);
    assert_eq!(model, LaneModel::default());
    let (mut lane, (mut up, mut down)) = (Lane::default(), ideal.queues());
    for n in 0..100 {
        let packet = packet(n, 0, 1_200);
        let carried = lane.carry(&mut dice, &model, &mut up, &mut Drops::Random, packet);
        let arrival = Arrival { at: packet.now, ecn: packet.ecn, corrupt: None, copy: false };
        assert_eq!((carried.drop, carried.arrivals()), (None, &[arrival][..]));
        assert_eq!(down.enqueue(packet.now, 1_200, None), Ok(Passed { at: packet.now, ecn: None }));
    }
    assert_eq!(draws.load(Ordering::Relaxed), 0);
}

#[test]
fn benign_answers_make_even_a_rough_lane_gentle() {
    let (mut dice, draws) = counting();
    let (mut lane, mut up, model) = (Lane::default(), Queue::default(), rough());
    for n in 0..1_000 {
        let carried = lane.carry(&mut dice, &model, &mut up, &mut Drops::Random, packet(n * 10_000, 0, 1_200));
        let [arrival] = carried.arrivals() else { panic!("{carried:?}") };
        assert_eq!((carried.drop, arrival.corrupt, arrival.copy), (None, None, false));
    }
    assert!(draws.load(Ordering::Relaxed) > 1_000);
}

#[test]
fn delay_is_that_of_the_path_and_of_both_access_links() {
    let [fibre, geo] = ["fibre", "geo"].map(|name| Access::named(name).unwrap());
    let regions = Regions::new();
    let (a, b) = (Region::EU_CENTRAL_1, Region::AP_NORTHEAST_1);
    let model = LaneModel::default().joining(&fibre, &geo, Some((&regions, a, b)));
    let packets: Vec<_> = (0..2_000).map(|n| packet(n * 1_000_000, 0, 100)).collect();
    let mut ways: Vec<_> = send_all(1, &model, &mut Drops::Exactly([].into()), Rate::default(), &packets)
        .iter()
        .zip(&packets)
        .map(|(carried, packet)| carried.arrivals()[0].at.since(packet.now))
        .collect();
    ways.sort_unstable();
    let median = Duration::from_millis(320) + Duration::from_micros(u64::from(regions.rtt_p50(a, b))) / 2;
    assert!(ways[1_000].abs_diff(median) < Duration::from_millis(5), "{:?} {median:?}", ways[1_000]);
    assert!(ways[1_999] - ways[0] >= Duration::from_millis(38));
    assert!(ways[0] >= model.delay + regions.between(a, b).least());

    let path = Path { latency: Some(Duration::from_millis(10)), skew_ppm: 200_000, ..Path::default() };
    let overridden = LaneModel { path, ..LaneModel::default() }.joining(&fibre, &fibre, Some((&regions, a, b)));
    let (mut dice, draws) = counting();
    let carried = Lane::default().carry(
        &mut dice,
        &overridden,
        &mut Queue::default(),
        &mut Drops::Exactly([].into()),
        packets[0],
    );
    assert_eq!(carried.arrivals()[0].at, Time::from_millis(52));
    assert_eq!(draws.load(Ordering::Relaxed), 0, "nothing is random here");
}

#[test]
fn opposite_skews_keep_the_round_trip() {
    let way = |skew_ppm| {
        let path = Path { latency: Some(Duration::from_millis(50)), skew_ppm, ..Path::default() };
        let model = LaneModel { path, ..LaneModel::default() };
        send_all(1, &model, &mut Drops::Random, Rate::default(), &[packet(0, 0, 1)])[0].arrivals()[0].at
    };
    assert_eq!(way(300_000), Time::from_millis(65));
    assert_eq!(way(-300_000), Time::from_millis(35));
    assert_eq!(way(-2_000_000), Time::ZERO);
}

/// Loss over packets that come one a slot: the mean within 5 % of L plus 0.1 points, the mean run of lost packets
/// within 8 % of B. Lengths of single losses without bursts: 1/(1−L).
#[test]
fn bursts_have_the_mean_loss_and_the_mean_length_that_they_say() {
    for (mean_ppm, burst, slots) in [
        (5_000, 2, 400_000_u64),
        (10_000, 5, 500_000),
        (20_000, 20, 900_000),
        (100_000, 3, 200_000),
        (300_000, 10, 200_000),
        (500_000, 4, 200_000),
        (50_000, 1, 200_000),
        (700_000, 3, 100_000),
    ] {
        let loss = Loss { mean_ppm, burst };
        let path = Path { loss, ..Path::default() };
        let model = LaneModel { path, ..LaneModel::default() };
        let (mut dice, mut lane, mut up) = (Dice::from_seed(9), Lane::default(), Queue::default());
        let (mut lost, mut bursts, mut before) = (0_u64, 0_u64, false);
        for slot in 0..slots {
            let carried = lane.carry(&mut dice, &model, &mut up, &mut Drops::Random, packet(slot * 1_000, 0, 100));
            let is_lost = carried.drop.is_some();
            lost += u64::from(is_lost);
            bursts += u64::from(is_lost && !before);
            before = is_lost;
        }
        let (mean, length) = (lost as f64 / slots as f64, lost as f64 / bursts as f64);
        let expected = f64::from(mean_ppm) / 1e6;
        let by_chance = 1.0 / (1.0 - expected);
        let expected_length = f64::from(burst).max(by_chance);
        assert!((mean - expected).abs() < 0.05 * expected + 0.001, "{loss:?}: mean {mean}");
        assert!((length - expected_length).abs() < 0.08 * expected_length, "{loss:?}: length {length}");
    }
}

#[test]
fn bursts_do_not_depend_on_who_looks() {
    let loss = Loss { mean_ppm: 200_000, burst: 8 };
    let mut dice = Dice::from_seed(4);
    let mut ask = |chain: &mut Chain, slot: u64| chain.is_bad(&mut dice, 1, 2, loss, Time::from_millis(slot));
    let mut often = Chain::default();
    let states: Vec<_> = (0..5_000).map(|slot| ask(&mut often, slot)).collect();
    let mut rarely = Chain::default();
    for slot in (0..5_000).step_by(37) {
        assert_eq!(ask(&mut Chain::default(), slot), states[slot as usize]);
        assert_eq!(ask(&mut rarely, slot), states[slot as usize]);
    }
    assert_eq!(ask(&mut rarely, 100), states[100], "even backwards");
}

#[test]
fn total_loss_loses_everything_and_none_loses_nothing() {
    for burst in [0, 1, 5, u32::MAX] {
        for (mean_ppm, all) in [(0, false), (1_000_000, true), (u32::MAX, true)] {
            let path = Path { loss: Loss { mean_ppm, burst }, ..Path::default() };
            let model = LaneModel { path, ..LaneModel::default() };
            let packets: Vec<_> = (0..1_000).map(|n| packet(n * 300, 0, 10)).collect();
            let carried = send_all(3, &model, &mut Drops::Random, Rate::default(), &packets);
            assert!(carried.iter().all(|carried| (carried.drop == Some(Cause::Loss)) == all));
        }
    }
}

#[test]
fn lists_of_losses_replace_chance() {
    let packets: Vec<_> = (0..5_000).map(|n| packet(n / 4 * 1_500, (n % 4) as u32, 100)).collect();
    let mut recorded = Drops::Recorded([].into());
    let first = send_all(8, &rough(), &mut recorded, Rate::default(), &packets);
    let lost = first.iter().filter(|carried| carried.drop.is_some()).count();
    assert!(lost > 250);
    assert_eq!(recorded.lost().len(), lost);
    let mut exactly = Drops::Exactly(recorded.lost().clone());
    assert_eq!(send_all(8, &rough(), &mut exactly, Rate::default(), &packets), first);
    // On a lane without loss, and with one packet less on the list.
    let one = *recorded.lost().first().unwrap();
    let mut fewer = recorded.lost().clone();
    fewer.remove(&one);
    let carried = send_all(1, &LaneModel::default(), &mut Drops::Exactly(fewer.clone()), Rate::default(), &packets);
    for (packet, carried) in packets.iter().zip(carried) {
        assert_eq!(carried.drop.is_some(), fewer.contains(&packet.key()));
    }
    assert!(Drops::Random.lost().is_empty());
    let json = serde_json::to_string(&recorded.lost()).unwrap();
    assert_eq!(&serde_json::from_str::<std::collections::BTreeSet<PacketKey>>(&json).unwrap(), recorded.lost());
}

#[test]
fn a_queue_delays_by_its_rate_marks_above_half_and_drops_when_full() {
    // 8 Mbit/s: a microsecond per byte. Ten packets of 1000 bytes fit.
    let mut queue = Queue::new(Rate { kbit: 8_000, buffer: 10_000 });
    let now = Time::from_millis(5);
    for n in 1..=11_u64 {
        let passed = queue.enqueue(now, 1_000 - HEADERS_V4, Some(Ecn::Ect1)).unwrap();
        assert_eq!(passed.at, now + Duration::from_millis(n));
        assert_eq!(passed.ecn, Some(if n > 6 { Ecn::Ce } else { Ecn::Ect1 }), "{n}");
    }
    assert_eq!(queue.enqueue(now, 0, None), Err(queue::Full));
    let later = now + Duration::from_millis(1);
    assert_eq!(queue.enqueue(later, 0, None).unwrap().ecn, None, "who cannot be marked is not");
    assert!(queue.wait(later) > Duration::from_millis(10));
    let idle = Time::from_secs(1);
    assert_eq!(queue.wait(idle), Duration::ZERO);
    let passed = queue.enqueue(idle, 1_000 - HEADERS_V4, Some(Ecn::Ect0)).unwrap();
    assert_eq!(passed, Passed { at: idle + Duration::from_millis(1), ecn: Some(Ecn::Ect0) });
    assert_eq!(Cause::from(queue::Full).name(), "queue.down");
}

#[test]
fn a_full_uplink_drops_by_its_own_cause() {
    let packets: Vec<_> = (0..100).map(|n| packet(0, n, 972)).collect();
    let carried =
        send_all(1, &LaneModel::default(), &mut Drops::Random, Rate { kbit: 8_000, buffer: 10_000 }, &packets);
    assert_eq!(carried.iter().filter(|carried| carried.drop == Some(Cause::QueueUp)).count(), 89);
    assert!(carried[10].drop.is_none() && carried[11].drop.is_some());
}

#[test]
fn a_policer_lets_its_burst_and_then_its_rate_through() {
    let policer = Policer { kbit: 8_000, burst: 20_000 };
    let model = LaneModel { path: Path { policer: Some(policer), ..Path::default() }, ..LaneModel::default() };
    // Twice the rate for ten seconds.
    let packets: Vec<_> = (0..20_000).map(|n| packet(n * 500, 0, 972)).collect();
    let carried = send_all(1, &model, &mut Drops::Random, Rate::default(), &packets);
    assert!(carried[..20].iter().all(|carried| carried.drop.is_none()));
    let passed = carried.iter().filter(|carried| carried.drop.is_none()).count();
    assert!(passed.abs_diff(10_020) <= 1, "{passed}");
    for (carried, packet) in carried.iter().zip(&packets) {
        match carried.drop {
            Some(cause) => assert_eq!(cause.name(), "policer"),
            None => assert_eq!(carried.arrivals()[0].at, packet.now, "it delays nothing"),
        }
    }
}

#[test]
fn black_holes_count_headers_and_swallow_what_is_larger() {
    for (mtu, ipv6, most) in [(1_280, false, 1_252), (1_280, true, 1_232), (1_400, false, 1_372), (1_452, true, 1_404)]
    {
        let model = LaneModel { path: Path { mtu: Some(mtu), ..Path::default() }, ..LaneModel::default() };
        for (len, cause) in [(most, None), (most + 1, Some(Cause::Mtu))] {
            let packet = PacketMeta { ipv6, ..packet(0, 0, len) };
            assert_eq!(send_all(1, &model, &mut Drops::Random, Rate::default(), &[packet])[0].drop, cause);
        }
    }
}

#[test]
fn a_blocked_path_passes_nothing() {
    let model = LaneModel { path: Path { blocked: true, ..Path::default() }, ..rough() };
    let carried = send_all(1, &model, &mut Drops::Random, Rate::default(), &spaced(&[1_000; 100]));
    assert!(carried.iter().all(|carried| *carried == Carried::dropped(Cause::Partition)));
    assert_eq!(Carried::dropped("no-route").drop.map(Cause::name), Some("no-route"));
}

#[test]
fn copies_damage_and_reordering_come_as_often_as_they_say() {
    let path = Path {
        latency: Some(Duration::from_millis(10)),
        duplicate_ppm: 100_000,
        reorder_ppm: 50_000,
        reorder_by: Duration::from_millis(7),
        corrupt_ppm: 20_000,
        replay_ppm: 30_000,
        ..Path::default()
    };
    let model = LaneModel { path, ..LaneModel::default() };
    let packets: Vec<_> = (0..50_000).map(|n| packet(n * 1_000, 0, 100)).collect();
    let (mut twins, mut replays, mut damaged, mut late) = (0_usize, 0_usize, 0_usize, 0_usize);
    for (carried, packet) in send_all(2, &model, &mut Drops::Random, Rate::default(), &packets).iter().zip(&packets) {
        let (first, copies) = carried.arrivals().split_first().unwrap();
        assert!(!first.copy && copies.iter().all(|copy| copy.copy && copy.corrupt.is_none()));
        match first.at.since(packet.now).as_millis() {
            10 => {}
            17 => late += 1,
            other => panic!("{other} ms"),
        }
        twins += copies.iter().filter(|copy| copy.at == first.at).count();
        for replay in copies.iter().filter(|copy| copy.at != first.at) {
            assert!(replay.at > first.at && replay.at.since(first.at) <= REPLAY_WITHIN);
            replays += 1;
        }
        if let Some((byte, mask)) = first.corrupt {
            assert!(byte < packet.len && mask.count_ones() == 1);
            damaged += 1;
        }
    }
    for (found, expected) in [(twins, 5_000), (replays, 1_500), (damaged, 1_000), (late, 2_500)] {
        assert!(found.abs_diff(expected) < expected / 8, "{found} of {expected}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn order_is_kept_unless_reordering_is_asked_for(seed: u64, gaps in vec(0..5_000_u64, 2..300), kbit in 0..20_000_u32) {
        let packets = spaced(&gaps);
        let mut model = rough();
        let arrived = |model: &LaneModel| -> Vec<_> {
            let carried = send_all(seed, model, &mut Drops::Random, Rate::kbit(kbit), &packets);
            carried.iter().filter_map(|carried| carried.arrivals().first().map(|arrival| arrival.at)).collect()
        };
        prop_assert!(arrived(&model).is_sorted());
        model.path.reorder_ppm = 300_000;
        if kbit == 0 && packets.len() > 100 {
            prop_assert!(!arrived(&model).is_sorted());
        }
    }

    #[test]
    fn every_packet_is_dropped_once_or_arrives_and_only_copies_are_more(
        seed: u64,
        gaps in vec(0..3_000_u64, 1..300),
        kbit in 0..20_000_u32,
        mtu in 1_220..1_300_u16,
        policed: bool,
    ) {
        let packets = spaced(&gaps);
        let mut model = rough();
        model.path.reorder_ppm = 100_000;
        model.path.mtu = Some(mtu);
        model.path.policer = policed.then_some(Policer { kbit: 5_000, burst: 10_000 });
        let (mut dropped, mut arrived, mut copies) = (0, 0, 0);
        for (carried, packet) in send_all(seed, &model, &mut Drops::Random, Rate::kbit(kbit), &packets).iter().zip(&packets) {
            let originals = carried.arrivals().iter().filter(|arrival| !arrival.copy).count();
            prop_assert_eq!(originals, usize::from(carried.drop.is_none()));
            prop_assert!(carried.drop.is_none() || carried.arrivals().is_empty());
            prop_assert!(carried.arrivals().iter().all(|arrival| arrival.at >= packet.now + model.between.least() + model.delay));
            dropped += usize::from(carried.drop.is_some());
            arrived += carried.arrivals().len();
            copies += carried.arrivals().iter().filter(|arrival| arrival.copy).count();
        }
        prop_assert_eq!(packets.len() + copies, dropped + arrived);
    }

    #[test]
    fn leaving_packets_out_changes_nothing_for_the_others(
        seed: u64,
        // Further apart than jitter, so that none has to wait for another.
        gaps in vec(200_000..400_000_u64, 2..200),
        kept in vec(any::<bool>(), 200),
    ) {
        let packets = spaced(&gaps);
        let mut model = rough();
        model.path.loss = Loss { mean_ppm: 300_000, burst: 400 };
        model.path.reorder_ppm = 100_000;
        let all = send_all(seed, &model, &mut Drops::Random, Rate::default(), &packets);
        let (some, expected): (Vec<_>, Vec<_>) =
            packets.iter().zip(&all).zip(&kept).filter(|(_, kept)| **kept).map(|(pair, _)| pair).unzip();
        prop_assert_eq!(send_all(seed, &model, &mut Drops::Random, Rate::default(), &some), expected);
    }
}

#[test]
fn all_profiles_have_names_that_read_back() {
    for (name, access) in PROFILES {
        assert_eq!(access.name(), Some(*name));
        let json = serde_json::to_string(access).unwrap();
        assert_eq!(json, format!("\"{name}\""));
        assert_eq!(serde_json::from_str::<Access>(&json).unwrap(), *access);
        assert!(access.jitter <= access.delay);
    }
    assert_eq!(Access::named("ideal"), Ok(Access::default()));
    assert!(Access::named("fiber").unwrap_err().to_string().contains("`fibre`"));
}

#[derive(PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    access: Access,
    others: AccessMix,
    path: Path,
}

#[test]
fn links_are_written_as_people_write_them() {
    let text = r#"
        access = { delay = "12ms", jitter = "500us", loss = { mean-ppm = 3000, burst = 2 }, up = { kbit = 10_000 } }
        others = [{ access = "fibre", share = 3 }, { access = { delay = "1s" }, share = 1 }]
        [path]
        latency = "80ms"
        mtu = 1280
        reorder-by = 1
        policer = { kbit = 1000, burst = 30_000 }
    "#;
    let file: File = toml::from_str(text).unwrap();
    assert_eq!(file.access.jitter, Duration::from_micros(500));
    assert_eq!(file.access.up, Rate::kbit(10_000));
    assert_eq!(file.others.shares()[1].access.delay, Duration::from_secs(1));
    assert_eq!((file.path.latency, file.path.reorder_by), (Some(Duration::from_millis(80)), Duration::from_secs(1)));
    let json = serde_json::to_string(&file).unwrap();
    assert_eq!(serde_json::from_str::<File>(&json).unwrap(), file);
    for mix in ["\"mixed\"", "\"geo\"", "{\"delay\":\"3ms\"}"] {
        let read: AccessMix = serde_json::from_str(mix).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), mix);
    }
}

#[test]
fn bad_files_are_refused_in_words() {
    for (text, says) in [
        ("access = \"wfii\"", "`wifi`"),
        ("access = { delay = \"12 parsecs\" }", "for example, 250ms"),
        ("access = { delya = \"12ms\" }", "delya"),
        ("access = 7", "the name of an access link"),
        ("others = []", "share above 0"),
        ("others = \"mixd\"", "did you mean"),
        ("path = { loss = 3 }", "a table such as { mean-ppm"),
    ] {
        let error = toml::from_str::<File>(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn access_links_are_picked_by_share() {
    let mix = AccessMix::mixed();
    let mut dice = Dice::from_seed(6);
    let picks: Vec<_> = (0..50_000).map(|label| mix.pick(&mut dice, label)).collect();
    let total: u32 = mix.shares().iter().map(|share| share.share).sum();
    assert_eq!(total, 100);
    for share in mix.shares() {
        let found = picks.iter().filter(|pick| **pick == share.access).count();
        assert!(found.abs_diff(share.share as usize * 500) < 400, "{:?}: {found}", share.access.name());
    }
    let (mut benign, draws) = counting();
    assert_eq!(AccessMix::default().pick(&mut benign, 1), Access::ideal());
    assert_eq!(draws.load(Ordering::Relaxed), 0);
}

#[test]
fn a_lane_is_small() {
    assert!(size_of::<Lane>() <= 112, "{}", size_of::<Lane>());
    assert!(size_of::<LaneModel>() <= 300, "{}", size_of::<LaneModel>());
    assert!(size_of::<Carried>() <= 200, "{}", size_of::<Carried>());
}
