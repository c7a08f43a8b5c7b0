use std::{collections::BTreeMap, io::Write as _};

use serde_json::Value;

use super::{Older, SEPARATOR};
use crate::trace::{
    pcapng,
    tests::{DISCOVERY, LOST, trace},
};

/// A text sequence, strictly: separator, JSON, line feed.
fn records(mut text: &[u8]) -> Vec<Value> {
    let mut records = Vec::new();
    while !text.is_empty() {
        assert_eq!(text[0], SEPARATOR);
        let end = text.iter().position(|byte| *byte == b'\n').expect("a whole record");
        records.push(serde_json::from_slice(&text[1..end]).unwrap());
        text = &text[end + 1..];
    }
    records
}

#[test]
fn records_are_turned_in_whatever_pieces_they_come() {
    let new = concat!(
        "\u{1e}{\"file_schema\":\"urn:x\",\"serialization_format\":\"JSON-SEQ\",\"trace\":{\"common_fields\":",
        "{\"group_id\":\"ab\",\"reference_time\":{}},\"vantage_point\":{\"type\":\"client\"}}}\n",
        "\u{1e}{\"time\":1.5,\"name\":\"quic:packet_sent\",\"data\":{\"header\":{\"packet_type\":\"1RTT\",",
        "\"length\":40},\"frames\":[{\"frame_type\":\"stream\",\"raw\":{\"length\":7}},{\"frame_type\":\"ping\"}]}}\n",
        "\u{1e}{\"time\":2,\"name\":\"quic:parameters_set\",\"data\":{\"initiator\":\"local\"}}\n",
        "\u{1e}{\"time\":3,\"name\":\"quic:recovery_metrics_updated\",\"data\":{\"ssthresh\":18446744073709551615}}\n",
        "\u{1e}{\"time\":4,\"name\":\"quic:something_new\",\"data\":{\"text\":\"a\\nb\"}}\n",
    );
    let mut whole = None;
    for size in [1, 2, 7, 100, 10_000] {
        let mut older = Older::new(Vec::new());
        for piece in new.as_bytes().chunks(size) {
            older.write_all(piece).unwrap();
        }
        assert_eq!(whole.get_or_insert(older.out.clone()), &older.out);
    }
    let records = records(&whole.unwrap());
    assert_eq!((&records[0]["qlog_version"], &records[0]["qlog_format"]), (&"0.3".into(), &"JSON-SEQ".into()));
    assert_eq!(records[0]["trace"]["common_fields"]["time_format"], "relative");
    assert_eq!(records[0]["trace"]["vantage_point"]["type"], "client");
    let names: Vec<_> = records[1..].iter().map(|record| record["name"].as_str().unwrap()).collect();
    let old = ["transport:packet_sent", "transport:parameters_set", "recovery:metrics_updated", "quic:something_new"];
    assert_eq!(names, old);
    assert_eq!(records[1]["data"]["raw"]["length"], 40);
    assert_eq!(records[1]["data"]["frames"][0]["length"], 7);
    assert_eq!(records[2]["data"]["owner"], "local");
    assert!(records[3]["data"]["ssthresh"].is_null());
    assert_eq!(records[4]["data"]["text"], "a\nb");
}

#[test]
fn what_is_no_json_is_an_error() {
    assert!(Older::new(Vec::new()).write_all(b"\x1enothing\n").is_err());
}

#[test]
fn both_ends_log_one_connection_and_every_byte_that_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    trace(dir.path(), DISCOVERY, &LOST);
    let mut logs = BTreeMap::new();
    for file in std::fs::read_dir(dir.path().join("qlog")).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        logs.insert(name, records(&std::fs::read(file.path()).unwrap()));
    }
    let names: Vec<_> = logs.keys().map(|name| name.split('-').collect::<Vec<_>>()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!((names[0][0], names[0][2], names[1][0], names[1][2]), ("dialler", "out", "listener", "in"));
    assert_eq!(names[0][3], names[1][3], "the same id at both ends");
    let mut sent = 0;
    for (name, log) in &logs {
        let times: Vec<f64> = log[1..].iter().map(|record| record["time"].as_f64().unwrap()).collect();
        assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "{name}");
        assert!(times.iter().all(|time| (0.0..8_000.0).contains(time)), "virtual milliseconds in {name}");
        let count = |kind: &str| log.iter().filter(|record| record["name"] == kind).count();
        assert!(count("transport:packet_sent") > 20 && count("transport:packet_received") > 20, "{name}");
        assert!(count("recovery:metrics_updated") > 5, "{name}");
        assert_eq!(count("connectivity:connection_started"), 1, "{name}");
        for record in log.iter().filter(|record| record["name"] == "transport:packet_sent") {
            sent += record["data"]["raw"]["length"].as_u64().unwrap();
        }
    }
    let packets = pcapng::tests::read(&std::fs::read(dir.path().join("packets.pcapng")).unwrap()).packets;
    assert_eq!(sent, packets.iter().map(|packet| packet.data.len() as u64).sum::<u64>());
}
