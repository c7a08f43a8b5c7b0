use peerwork::{Command, Dial, Event, Time, io::Ecn};
use serde_json::Value;

use super::{event, packet};
use crate::{
    World, secs,
    trace::{TracedPacket, What},
};

fn parsed(line: &str) -> Value {
    assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line:?}");
    serde_json::from_str(line).unwrap()
}

#[test]
fn lines_are_as_documented() {
    let at = Time::from_millis(3);
    let (from, to) = ("10.0.0.1:4001".parse().unwrap(), "[2001:db8::1]:2".parse().unwrap());
    let sent = TracedPacket { at, from, to, ecn: Some(Ecn::Ce), data: &[1, 2, 3], fate: "nat.filter" };
    assert_eq!(
        packet(&sent),
        concat!(
            r#"{"at_ns":3000000,"event":"packet","from":"10.0.0.1:4001","to":"[2001:db8::1]:2","ecn":"ce","len":3,"#,
            r#""fate":"nat.filter"}"#,
            "\n"
        )
    );
    let fault = What::Fault { name: "partition", detail: "eu | us" };
    assert_eq!(event(at, "", &fault), "{\"at_ns\":3000000,\"event\":\"fault.partition\",\"detail\":\"eu | us\"}\n");
    let call = What::Call { name: "dial", detail: "a \"quoted\"\nand \u{1}broken\u{2028} line \\" };
    let line = parsed(&event(at, "group/3", &call));
    assert_eq!(line["node"], "group/3");
    assert_eq!(line["detail"], "a \"quoted\"\nand \u{1}broken\u{2028} line \\");
    assert_eq!(parsed(&event(at, "a", &What::Event(&Event::ShutDown)))["event"], "shut-down");
}

#[test]
fn every_event_of_a_run_has_its_fields() {
    let mut world = World::new(3);
    let (a, b) = (world.add(), world.add());
    let address = world.listen(b);
    world.call(a, |node, now| node.dial(now, Dial::address(address))).unwrap();
    world.call(a, |node, now| node.dial(now, Dial::address("/ip4/10.9.9.9/udp/1/quic-v1".parse().unwrap()))).unwrap();
    world.run_for(secs(30));
    world.call(a, |node, now| node.shutdown(now));
    world.run_for(secs(30));
    let mut kinds = std::collections::BTreeSet::new();
    for (at, told) in world.events(a).iter().chain(world.events(b)) {
        let line = parsed(&event(*at, "x", &What::Event(told)));
        let kind = line["event"].as_str().unwrap().to_owned();
        assert_eq!(line["at_ns"], at.as_nanos());
        assert_ne!(kind, "other", "{told:?}");
        for number in ["conn", "dial", "listener", "rtt_ns", "remaining"] {
            assert!(line.get(number).is_none_or(Value::is_u64), "{line}");
        }
        match kind.as_str() {
            "connected" => {
                assert!(line["peer"].is_string() && ["in", "out"].contains(&line["direction"].as_str().unwrap()))
            }
            "identified" => assert!(line["protocols"].as_array().unwrap().iter().all(Value::is_string)),
            "disconnected" => assert!(line["reason"].is_string() && line["remaining"] == 0),
            "ping" => assert!(line["rtt_ns"].as_u64().unwrap() > 0),
            "dial-failed" => assert!(line["error"].as_str().unwrap().contains("10.9.9.9")),
            _ => {}
        }
        kinds.insert(kind);
    }
    for kind in ["listening", "dialed", "dial-failed", "connected", "disconnected", "identified", "ping", "shut-down"] {
        assert!(kinds.contains(kind), "{kind} is not in {kinds:?}");
    }
}

#[test]
fn commands_name_what_they_are_for() {
    let command = Command::UdpBind { socket: world_socket(), address: "0.0.0.0:7".parse().unwrap() };
    let line = parsed(&event(Time::ZERO, "n", &What::Command(&command)));
    assert_eq!((&line["event"], &line["address"]), (&"command.udp-bind".into(), &"0.0.0.0:7".into()));
    assert!(line["socket"].is_u64());
}

fn world_socket() -> peerwork::SocketId {
    let mut world = World::new(1);
    let host = world.add();
    world.listen(host);
    world.sockets(host)[0]
}
