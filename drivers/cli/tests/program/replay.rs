//! Peers that are recorded, and run again.

use std::{fs, path::Path, time::Duration};

use crate::harness::{Ended, Running, run};

fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A peer that was pinged and told to end, and its record.
fn recorded(folder: &Path, driver: &str) -> String {
    let log = folder.join(format!("{driver}.log"));
    let log = str(&log).to_owned();
    let (mut peer, address) = Running::peer(&["--driver", driver, "--echo", "--record", &log]);
    assert_eq!(run(&["echo", &address, "hello", "--json"]).code, Some(0));
    peer.event("disconnected");
    #[cfg(unix)]
    {
        peer.signal(rustix::process::Signal::INT);
        peer.event("stopped");
        assert!(peer.wait().success());
    }
    #[cfg(not(unix))]
    drop(peer);
    log
}

fn replay(args: &[&str]) -> Ended {
    run(&[&["replay", "--json"], args].concat())
}

#[test]
fn a_record_of_each_driver_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    for driver in ["tokio", "smol", "mio"] {
        let log = recorded(folder.path(), driver);
        let replayed = replay(&[&log]);
        assert_eq!(replayed.code, Some(0), "{replayed:?}");
        let names: Vec<String> =
            replayed.json().iter().filter_map(|json| json["name"].as_str().map(str::to_owned)).collect();
        for name in ["Listening", "Connected", "Identified", "StreamInbound", "Disconnected"] {
            assert!(names.contains(&name.to_owned()), "{name} is not among {names:?}");
        }
        let summary = replayed.event("summary");
        assert_eq!(summary["torn_bytes"], 0);
        assert!(summary["verified"].as_u64() >= Some(2), "{summary}");
        #[cfg(unix)]
        {
            assert_eq!(summary["ending"], "complete");
            assert_eq!(names.last().map(String::as_str), Some("ShutDown"));
            let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&log).unwrap().permissions());
            assert_eq!(mode & 0o7777, 0o600);
        }
        let again = replay(&[&log]);
        let without_speed = |ended: &Ended| {
            let mut lines = ended.json();
            for line in &mut lines {
                line["elapsed_ms"] = 0.into();
                line["times_real_time"] = 0.into();
            }
            lines
        };
        assert_eq!(without_speed(&replayed), without_speed(&again));
    }
}

#[test]
fn a_replay_stops_where_it_should_and_tells_how_things_stand() {
    let folder = tempfile::tempdir().unwrap();
    let log = recorded(folder.path(), "tokio");
    let stopped = replay(&[&log, "--until-event", "Identified"]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    let state = stopped.event("state");
    assert_eq!(state["connections"].as_array().unwrap().len(), 1, "{state}");
    assert!(state["stats"]["datagrams_in"].as_u64() > Some(2) && state["census"]["established"] == 1, "{state}");
    assert_eq!(stopped.event("summary")["ending"], "stopped");
    assert!(!stopped.stdout.contains("Disconnected"));
    let at = state["at_s"].as_f64().unwrap();

    let before = replay(&[&log, "--until", &format!("{:.9}", at - 0.000_001), "--quiet"]);
    assert!(!before.stdout.contains("Identified"), "{before:?}");
    assert!(before.event("state")["at_s"].as_f64().unwrap() < at);

    let later = replay(&[&log, "--from", &format!("{at:.9}"), "--calls"]);
    assert!(later.stdout.contains("Disconnected") && !later.stdout.contains("\"Listening"), "{later:?}");
    assert!(later.json().iter().any(|json| json["event"] == "sent"));
    assert!(later.json().iter().any(|json| json["event"] == "call"));

    let never = replay(&[&log, "--until-event", "Godot"]);
    assert_eq!(never.code, Some(1));
    assert!(never.stderr.contains("no event contains `Godot`"), "{never:?}");

    let human = run(&["replay", &log, "--until-event", "Connected"]);
    assert!(human.stdout.contains("holds: ") && human.stdout.contains("replayed"), "{human:?}");
}

#[cfg(unix)]
#[test]
fn a_peer_that_is_killed_leaves_a_record_up_to_then() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("killed.log");
    let log = str(&path);
    let (mut peer, address) = Running::peer(&["--record", log]);
    assert_eq!(run(&["ping", &address, "--count", "2", "--interval", "0.05"]).code, Some(0));
    peer.event("disconnected");
    // It is in the file a tenth of a second later.
    std::thread::sleep(Duration::from_millis(500));
    peer.signal(rustix::process::Signal::KILL);
    peer.wait();
    let replayed = replay(&[log]);
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    assert!(replayed.stdout.contains("Disconnected"));
    assert_ne!(replayed.event("summary")["ending"], "complete");

    // And torn, as it would be had it been killed in mid-write.
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    let torn = replay(&[log]);
    assert_eq!((torn.code, &torn.event("summary")["ending"]), (Some(0), &"torn".into()));
    assert!(run(&["replay", log, "--quiet"]).stdout.contains("the log is torn"));
}

#[test]
fn what_is_no_sound_record_is_an_error_that_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let log = recorded(folder.path(), "smol");
    let sound = fs::read(&log).unwrap();
    let path = folder.path().join("bad.log");
    let bad = str(&path);
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 4;
    let mut newer = sound.clone();
    newer[12] = 2;
    let cases: [(&[u8], &str); 5] = [
        (b"", "the log is empty"),
        (b"once upon a time there was a peer", "not a log of a peerwork node"),
        (&sound[..40], "before the node was described"),
        (&newer, "the log has version 2"),
        (&flipped, "damaged"),
    ];
    for (content, words) in cases {
        fs::write(&path, content).unwrap();
        let ended = replay(&[bad]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(words) && ended.stderr.contains(bad), "{ended:?}");
        assert!(ended.event("error")["message"].as_str().unwrap().contains(words));
    }
    let missing = replay(&[str(&folder.path().join("nothing.log"))]);
    assert!(missing.code == Some(1) && missing.stderr.contains("cannot read"), "{missing:?}");
    let folder = replay(&[str(folder.path())]);
    assert!(folder.code == Some(1) && folder.stderr.contains("cannot read"), "{folder:?}");
    let again = run(&["run", "--record", &log]);
    assert!(again.code == Some(1) && again.stderr.contains("the file exists"), "{again:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_client_can_be_recorded_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.log");
    let (_peer, address) = Running::peer(&[]);
    let ended = run(&["ping", &address, "--count", "1", "--record", str(&path)]);
    assert!(ended.stderr.contains("private key"), "{ended:?}");
    let replayed = replay(&[str(&path)]);
    assert_eq!((replayed.code, &replayed.event("summary")["ending"]), (Some(0), &"complete".into()));
    assert!(replayed.stdout.contains("\"Ping\""));
}
