//! Several processes that talk to each other.

use std::fs;

use crate::harness::{Running, free_port, run};

fn talk(server: &str, client: &str) {
    let (mut peer, address) = Running::peer(&["--driver", server, "--echo", "--perf"]);
    let with = |args: &[&str]| run(&[args, &["--json", "--driver", client]].concat());

    let ping = with(&["ping", &address, "--count", "3", "--interval", "0.05"]);
    assert_eq!(ping.code, Some(0), "{ping:?}");
    let summary = ping.event("summary");
    assert_eq!((&summary["sent"], &summary["received"]), (&3.into(), &3.into()));
    assert!(summary["min_ms"].as_f64() <= summary["avg_ms"].as_f64(), "{summary}");
    assert_eq!(ping.json().iter().filter(|json| json["event"] == "ping").count(), 3);

    let connected = peer.event("connected");
    assert_eq!((&connected["direction"], &connected["ping_error"]), (&"inbound".into(), &serde_json::Value::Null));
    assert!(connected["agent"].as_str().unwrap().starts_with("peerwork/"), "{connected}");
    assert!(connected["protocols"].as_array().unwrap().contains(&"/ipfs/ping/1.0.0".into()), "{connected}");
    assert!(connected["rtt_ms"].as_f64() > Some(0.0), "{connected}");
    let disconnected = peer.event("disconnected");
    assert_eq!(disconnected["conn"], connected["conn"]);
    assert_eq!(disconnected["address"], connected["address"]);
    assert!(disconnected["reason"].as_str().unwrap().contains("shutting down"), "{disconnected}");

    let echo = with(&["echo", &address, "there and back"]);
    assert_eq!(echo.code, Some(0), "{echo:?}");
    assert_eq!(
        (&echo.event("echo")["received"], &echo.event("echo")["same"]),
        (&"there and back".into(), &true.into())
    );

    // The short form of the address, without the peer's id.
    let port = address.split('/').nth(4).unwrap();
    let perf = with(&["perf", &format!("127.0.0.1:{port}"), "--up", "1_000_000", "--down", "1MiB"]);
    assert_eq!(perf.code, Some(0), "{perf:?}");
    let perf = perf.event("perf");
    assert_eq!((&perf["up"]["bytes"], &perf["down"]["bytes"]), (&1_000_000.into(), &1_048_576.into()));
}

#[test]
fn tokio_serves_and_smol_asks() {
    talk("tokio", "smol");
}

#[test]
fn smol_serves_and_mio_asks() {
    talk("smol", "mio");
}

#[test]
fn mio_serves_and_tokio_asks() {
    talk("mio", "tokio");
}

#[test]
fn another_peer_than_expected_is_an_error_that_names_both() {
    let (_peer, address) = Running::peer(&[]);
    let (endpoint, actual) = address.split_once("/p2p/").unwrap();
    let expected = run(&["id", "--json"]).event("id")["peer"].as_str().unwrap().to_owned();
    let ended = run(&["ping", &format!("{endpoint}/p2p/{expected}"), "--json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let message = ended.event("error")["message"].as_str().unwrap().to_owned();
    assert!(message.contains(actual) && message.contains(&expected), "{message}");
    assert!(ended.stderr.contains(&message), "{ended:?}");
}

#[test]
fn what_a_peer_does_not_serve_is_said_so() {
    let (_peer, address) = Running::peer(&[]);
    for (args, flag) in [(vec!["echo", &address, "x"], "--echo"), (vec!["perf", &address], "--perf")] {
        let ended = run(&args);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(flag), "{ended:?}");
    }
}

#[test]
fn a_dial_that_fails_is_tried_again_until_it_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("peerwork.toml");
    let address = format!("127.0.0.1:{}", free_port());
    fs::write(&file, format!("listen = []\n[dial]\npeers = [\"{address}\"]\ntimeout = 1\n")).unwrap();
    let mut dialler = Running::start(&["run", "--json", "--config", file.to_str().unwrap()]);
    let failed = dialler.event("dial_failed");
    assert_eq!(failed["retry_s"], 1.0);
    assert!(failed["error"].as_str().unwrap().contains("cannot connect"), "{failed}");
    let _peer = Running::start(&["run", "--json", "--listen", &address]);
    assert_eq!(dialler.event("connected")["direction"], "outbound");
}

#[cfg(unix)]
#[test]
fn ctrl_c_says_goodbye() {
    use rustix::process::Signal;
    let (mut first, address) = Running::peer(&[]);
    let (mut second, _) = Running::peer(&["--dial", &address]);
    assert_eq!(second.event("connected")["direction"], "outbound");
    first.event("connected");

    first.signal(Signal::INT);
    assert_eq!(first.wait().code(), Some(0));
    first.event("stopping");
    first.event("stopped");
    let disconnected = second.event("disconnected");
    assert!(disconnected["reason"].as_str().unwrap().contains("shutting down"), "{disconnected}");

    second.signal(Signal::TERM);
    assert_eq!(second.wait().code(), Some(0));
}

#[test]
fn the_demo_sees_everything() {
    let ended = run(&["demo", "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let demo = ended.event("demo");
    assert_eq!((&demo["ok"], &demo["missing"]), (&true.into(), &serde_json::json!([])));
    let totals = &demo["totals"];
    assert_eq!(totals["connections"], 36);
    assert_eq!([&totals["identified"], &totals["pings"], &totals["requests"]], [72, 72, 72]);
    assert_eq!(totals["echoed_bytes"], 72 * 64 * 1024);
    assert_eq!((&totals["losses_noticed"], &totals["goodbyes_heard"]), (&8.into(), &7.into()));
    assert_eq!(demo["drivers"].as_array().unwrap().len(), 9);
}
